//! Why a gateway did not do what it was asked for.

use std::borrow::Cow;
use std::time::Duration;

use crate::backend::openclaw::address::Address;
use crate::error::Error;

/// Why a request to a gateway, or the connection to it, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The connection is refused. Only the gateway may touch its sessions, so there is no other way to them.
    #[error("no gateway listens at {0}")]
    Down(Address),
    /// The connection fails for another reason, or takes too long.
    #[error("cannot connect to {address}: {reason}")]
    Unreachable {
        /// Where it should be.
        address: Address,
        /// The system's answer.
        reason: String,
    },
    /// Something listens that does not speak the gateway's protocol.
    #[error("what listens at {address} is not an OpenClaw gateway: {reason}")]
    NotAGateway {
        /// Where it listens.
        address: Address,
        /// What it did instead.
        reason: String,
    },
    /// Its certificate does not count. Nothing was sent to it.
    #[error("the certificate of {address} is not trusted: {reason}")]
    Untrusted {
        /// Where it listens.
        address: Address,
        /// Why it does not count.
        reason: String,
    },
    /// It answers HTTP 503: it takes no more connections because it is shutting down.
    #[error("the gateway is stopping")]
    Stopping,
    /// It asked to come back later, until the timeout had passed. The request was not carried out.
    #[error("{why}")]
    Unavailable {
        /// What keeps it.
        why: Unavailable,
        /// When it wants to be asked again.
        again: Duration,
    },
    /// It does not let this program in.
    #[error("the gateway does not let this program in: {message} ({code})")]
    NotLetIn {
        /// The gateway's code, such as `AUTH_TOKEN_MISMATCH`.
        code: String,
        /// The gateway's words.
        message: String,
    },
    /// Its operator has not approved this device, or not for as much as is asked for.
    #[error("the gateway's operator has {}", not_approved(*is_known))]
    NotApproved {
        /// Whether the device is approved for less.
        is_known: bool,
        /// The id of the request that waits for the operator.
        request: Option<String>,
    },
    /// It speaks another version of the protocol.
    #[error("the gateway speaks protocol {theirs}, and this program speaks protocol {ours}")]
    Protocol {
        /// The version that this program speaks.
        ours: u32,
        /// The version that the gateway speaks.
        theirs: u32,
    },
    /// The connection has not the scope that a request needs.
    #[error("the gateway does not grant the scope {0}")]
    MissingScope(String),
    /// The release of OpenClaw lacks what this program relies on.
    #[error("OpenClaw {version} is not supported: {lacks}")]
    TooOld {
        /// The release, as it calls itself.
        version: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// A change of a session's model would change the default of all sessions.
    #[error("the gateway applies a change of model to \"{0}\", not to the session alone")]
    SelectionTarget(String),
    /// The request was sent, or may have been, and there is no reply. What it asked for is perhaps done.
    #[error("the gateway did not reply to {method}: {reason}")]
    Lost {
        /// The request's method.
        method: &'static str,
        /// What happened instead.
        reason: String,
    },
    /// A reply is not what the protocol promises. What was asked for is perhaps done.
    #[error("the gateway's reply to {method} cannot be read: {reason}")]
    Malformed {
        /// The request's method.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The session list does not hold all sessions.
    #[error("the gateway listed {rows} of {total} sessions")]
    Truncated {
        /// How many sessions it listed.
        rows: usize,
        /// How many it says there are.
        total: usize,
    },
    /// The session list holds one session more than once.
    #[error("the gateway listed {0} more than once")]
    Doubled(String),
    /// The request as a whole was refused. It was not carried out.
    #[error("the gateway refused {method}: {message}")]
    Refused {
        /// The request's method.
        method: &'static str,
        /// The gateway's words.
        message: String,
    },
    /// The request is larger than the gateway accepts. It was not sent.
    #[error("the request {method} of {bytes} bytes is larger than the {limit} bytes that the gateway accepts")]
    TooLarge {
        /// The request's method.
        method: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size that is accepted.
        limit: usize,
    },
}

/// What keeps a gateway from answering for now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It has begun to listen and is not ready.
    #[error("the gateway is still starting")]
    Starting,
    /// It waits for running turns to end, and then restarts or stops.
    #[error("the gateway is restarting")]
    Restarting,
    /// It was suspended by an operator.
    #[error("the gateway is suspended")]
    Suspended,
    /// Anything else, in its own words. It says so when it is overloaded, and for agents that are not configured.
    #[error("the gateway is busy: {0}")]
    Busy(String),
}

impl Fault {
    /// What to do next.
    pub fn hint(&self) -> Cow<'static, str> {
        let hint = match self {
            Self::NotApproved { request: Some(request), .. } => {
                return format!("on the gateway's host: openclaw devices approve {request}; then run again").into();
            }
            Self::NotApproved { request: None, .. } => {
                "on the gateway's host, see: openclaw devices list; approve it, and run again"
            }
            Self::Untrusted { .. } => {
                "pin the one that the gateway's host tells, with RECONCILE_GATEWAY_FINGERPRINT: openssl x509 -noout \
                 -fingerprint -sha256 -in ~/.openclaw/gateway/tls/gateway-cert.pem"
            }
            Self::Down(_) => "start the gateway with: openclaw gateway run",
            Self::Unreachable { .. } | Self::NotAGateway { .. } => {
                "see gateway.port and gateway.tls in OpenClaw's configuration; on another host, check the tunnel"
            }
            Self::Stopping => "run again when the gateway is back",
            Self::Unavailable { why: Unavailable::Starting, .. } => "run again in a moment, or raise sessions.timeout",
            Self::Unavailable { why: Unavailable::Restarting | Unavailable::Busy(_), .. } => {
                "run again later, or raise sessions.timeout"
            }
            Self::Unavailable { why: Unavailable::Suspended, .. } => "run again when the gateway has been resumed",
            Self::NotLetIn { code, .. } => not_let_in(code),
            Self::Protocol { .. } | Self::TooOld { .. } => "use OpenClaw 2026.8 or a later release of 2026",
            Self::MissingScope(_) => {
                "use the shared token of the gateway; from another host, set sessions.device_key, too"
            }
            Self::SelectionTarget(_) => {
                "set agents.defaults.modelSelectionScope to \"session\" in OpenClaw's configuration"
            }
            Self::Lost { .. } => "run again: what was changed is found in sync",
            Self::Malformed { .. } => "check which releases of OpenClaw this program supports",
            Self::Truncated { .. } | Self::Doubled(_) => "run again: nothing was decided on an incomplete list",
            Self::Refused { .. } => "see the gateway's log: openclaw logs",
            Self::TooLarge { .. } => "see the limits in the gateway's hello",
        };
        hint.into()
    }

    /// Whether what was asked for is perhaps done, so that only reading the sessions again can tell.
    pub fn is_perhaps_done(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Malformed { .. })
    }

    /// How long to wait before the same is asked again, where that may help.
    pub(super) fn again(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { again, .. } => Some(*again),
            _ => None,
        }
    }

    /// What is said where no chat may be named, if the message quotes the gateway.
    fn nameless(&self) -> Option<&'static str> {
        match self {
            Self::NotAGateway { .. } => Some("what listens there is not an OpenClaw gateway"),
            Self::Unavailable { why: Unavailable::Busy(_), .. } => Some("the gateway is busy"),
            Self::NotLetIn { .. } => Some("the gateway does not let this program in"),
            Self::Malformed { .. } => Some("a reply of the gateway cannot be read"),
            Self::Doubled(_) => Some("the gateway listed a session more than once"),
            Self::Refused { .. } => Some("the gateway refused a request"),
            _ => None,
        }
    }
}

fn not_approved(is_known: bool) -> &'static str {
    if is_known { "approved this device for less than it asks for" } else { "not approved this device" }
}

/// What to do about a code with which a gateway closes the door.
fn not_let_in(code: &str) -> &'static str {
    match code {
        "AUTH_TOKEN_MISMATCH" => "the token is not the one in gateway.auth.token of OpenClaw's configuration",
        "AUTH_SCOPE_MISMATCH" => "the token is for fewer scopes: use the shared token of the gateway",
        "DEVICE_IDENTITY_REQUIRED" | "AUTH_TOKEN_MISSING" => {
            "no token was sent: set sessions.token in the policy to the gateway's shared token"
        }
        code if code.starts_with("DEVICE_") => {
            "the gateway asks for the identity of a device: set sessions.device_key, or connect over loopback"
        }
        _ => "see gateway.auth in OpenClaw's configuration",
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = Self::other(fault.to_string()).with_hint(fault.hint());
        match fault.nameless() {
            Some(nameless) => error.or_nameless(nameless),
            None => error,
        }
    }
}
