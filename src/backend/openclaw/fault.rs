//! Why a gateway did not do what it was asked for.

use std::time::Duration;

use crate::backend::openclaw::address::Address;
use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Sentence, sentence};

/// Why a request to a gateway, or the connection to it, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is refused. Only the gateway may touch its sessions, so there is no other way to them.
    Down(Address),
    /// The connection fails for another reason, or takes too long.
    Unreachable {
        /// Where it should be.
        address: Address,
        /// The system's answer.
        reason: String,
    },
    /// Something listens that does not speak the gateway's protocol.
    NotAGateway {
        /// Where it listens.
        address: Address,
        /// What it did instead.
        reason: String,
    },
    /// Its certificate does not count. Nothing was sent to it.
    Untrusted {
        /// Where it listens.
        address: Address,
        /// Why it does not count.
        reason: String,
    },
    /// It answers HTTP 503: it takes no more connections because it is shutting down.
    Stopping,
    /// It asked to come back later, until the timeout had passed. The request was not carried out.
    Unavailable {
        /// What keeps it.
        why: Unavailable,
        /// When it wants to be asked again.
        again: Duration,
    },
    /// It asked to come back later, and the user ended the wait. The request was not carried out.
    Interrupted(Unavailable),
    /// It does not let this program in.
    NotLetIn {
        /// The gateway's code, such as `AUTH_TOKEN_MISMATCH`.
        code: String,
        /// The gateway's words.
        message: String,
    },
    /// Its operator has not approved this device, or not for as much as is asked for.
    NotApproved {
        /// Whether the device is approved for less.
        is_known: bool,
        /// The id of the request that waits for the operator.
        request: Option<String>,
    },
    /// It speaks another version of the protocol.
    Protocol {
        /// The version that this program speaks.
        ours: u32,
        /// The version that the gateway speaks.
        theirs: u32,
    },
    /// The connection has not the scope that a request needs.
    MissingScope(String),
    /// The release of OpenClaw lacks what this program relies on.
    TooOld {
        /// The release, as it calls itself.
        version: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// A change of a session's model would change the default of all sessions.
    SelectionTarget(String),
    /// The request was sent, or may have been, and there is no reply. What it asked for is perhaps done.
    Lost {
        /// The request's method.
        method: &'static str,
        /// What happened instead.
        reason: String,
    },
    /// A reply is not what the protocol promises. What was asked for is perhaps done.
    Malformed {
        /// The request's method.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The session list does not hold all sessions.
    Truncated {
        /// How many sessions it listed.
        rows: usize,
        /// How many it says there are.
        total: usize,
    },
    /// The session list holds one session more than once.
    Doubled(String),
    /// The request as a whole was refused. It was not carried out.
    Refused {
        /// The request's method.
        method: &'static str,
        /// The gateway's words.
        message: String,
    },
    /// The request is larger than the gateway accepts. It was not sent.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// It has begun to listen and is not ready.
    Starting,
    /// It waits for running turns to end, and then restarts or stops.
    Restarting,
    /// It was suspended by an operator.
    Suspended,
    /// Anything else, in its own words. It says so when it is overloaded, and for agents that are not configured.
    Busy(String),
}

impl Unavailable {
    /// What the gateway does, after "the gateway" or "which".
    fn words(&self) -> Sentence {
        match self {
            Self::Starting => "is still starting".into(),
            Self::Restarting => "is restarting".into(),
            Self::Suspended => "is suspended".into(),
            Self::Busy(words) => sentence!("is busy: {}", quoted(words)),
        }
    }
}

/// What the other side said.
fn quoted(text: &str) -> Foreign {
    text.into()
}

impl Fault {
    /// Which kind it is, and what is wrong.
    fn words(&self) -> (&'static str, Sentence) {
        match self {
            Self::Down(address) => ("gateway-down", sentence!("no gateway listens at {}", address)),
            Self::Unreachable { address, reason } => {
                ("gateway-unreachable", sentence!("cannot connect to {}: {}", address, quoted(reason)))
            }
            Self::NotAGateway { address, reason } => {
                let message = sentence!("what listens at {} is not an OpenClaw gateway: {}", address, quoted(reason));
                ("not-a-gateway", message)
            }
            Self::Untrusted { address, reason } => {
                let message = sentence!("the certificate of {} is not trusted: {}", address, quoted(reason));
                ("gateway-certificate", message)
            }
            Self::NotApproved { is_known: true, .. } => {
                ("gateway-device", "the gateway's operator has approved this device for less than it asks for".into())
            }
            Self::NotApproved { is_known: false, .. } => {
                ("gateway-device", "the gateway's operator has not approved this device".into())
            }
            Self::Stopping => ("gateway-stopping", "the gateway is stopping".into()),
            Self::Unavailable { why, .. } => ("gateway-unavailable", sentence!("the gateway {}", why.words())),
            Self::Interrupted(why) => {
                ("interrupted", sentence!("interrupted while waiting for the gateway, which {}", why.words()))
            }
            Self::NotLetIn { code, message } => {
                let message = sentence!("the gateway refuses this program: {} ({})", quoted(message), quoted(code));
                ("gateway-refuses", message)
            }
            Self::Protocol { ours, theirs } => {
                let message =
                    sentence!("the gateway speaks protocol {}, but this program speaks protocol {}", *theirs, *ours);
                ("gateway-protocol", message)
            }
            Self::MissingScope(scope) => {
                ("gateway-scope", sentence!("the gateway does not grant the scope {}", quoted(scope)))
            }
            Self::TooOld { version, lacks } => {
                ("gateway-too-old", sentence!("OpenClaw {} is not supported: {}", quoted(version), *lacks))
            }
            Self::SelectionTarget(target) => {
                let message = sentence!(
                    "the gateway applies a change of model to \"{}\", not to the session alone",
                    quoted(target)
                );
                ("gateway-selection", message)
            }
            Self::Lost { method, reason } => {
                ("gateway-no-reply", sentence!("the gateway did not reply to {}: {}", *method, quoted(reason)))
            }
            Self::Malformed { method, reason } => {
                ("gateway-reply", sentence!("the gateway's reply to {} cannot be read: {}", *method, quoted(reason)))
            }
            Self::Truncated { rows, total } => {
                ("gateway-truncated", sentence!("the gateway listed {} of {} sessions", *rows, *total))
            }
            Self::Doubled(session) => {
                ("gateway-doubled", sentence!("the gateway listed {} more than once", quoted(session)))
            }
            Self::Refused { method, message } => {
                ("gateway-refused", sentence!("the gateway refused {}: {}", *method, quoted(message)))
            }
            Self::TooLarge { method, bytes, limit } => {
                let message = sentence!(
                    "the request {} of {} bytes is larger than the {} bytes that the gateway accepts",
                    *method,
                    *bytes,
                    *limit
                );
                ("gateway-request-too-large", message)
            }
        }
    }

    /// What is wrong as one text that is foreign from then on: for a row of a plan, which is shown escaped.
    pub fn text(&self) -> String {
        self.words().1.into_foreign().raw().to_owned()
    }

    /// What to do next.
    pub fn hint(&self) -> Sentence {
        let hint = match self {
            Self::NotApproved { request: Some(request), .. } => {
                let request = quoted(request);
                return sentence!("on the gateway's host: openclaw devices approve {}; then run again", request);
            }
            Self::NotApproved { request: None, .. } => {
                "on the gateway's host, find this device with: openclaw devices list; approve it, and run again"
            }
            Self::Untrusted { .. } => {
                "set RECONCILE_GATEWAY_FINGERPRINT to the fingerprint that the gateway's host prints with: \
                 openssl x509 -noout -fingerprint -sha256 -in ~/.openclaw/gateway/tls/gateway-cert.pem"
            }
            Self::Down(_) => "start the gateway with: openclaw gateway run",
            Self::Unreachable { .. } | Self::NotAGateway { .. } => {
                "check gateway.port and gateway.tls in OpenClaw's configuration; on another host, check the tunnel"
            }
            Self::Stopping | Self::Interrupted(_) => "run again when the gateway is back",
            Self::Unavailable { why: Unavailable::Starting, .. } => "run again in a moment, or raise sessions.timeout",
            Self::Unavailable { why: Unavailable::Restarting | Unavailable::Busy(_), .. } => {
                "run again later, or raise sessions.timeout"
            }
            Self::Unavailable { why: Unavailable::Suspended, .. } => "run again when the gateway has been resumed",
            Self::NotLetIn { code, .. } => not_let_in(code),
            Self::Protocol { .. } | Self::TooOld { .. } => "use OpenClaw 2026.8 or a later release of 2026",
            Self::MissingScope(_) => {
                "use the shared token of the gateway; from another host, also set sessions.device_key"
            }
            Self::SelectionTarget(_) => {
                "set agents.defaults.modelSelectionScope to \"session\" in OpenClaw's configuration"
            }
            Self::Lost { .. } => "run again: changes that were made are then in sync",
            Self::Malformed { .. } => "check which releases of OpenClaw reconcile supports",
            Self::Truncated { .. } | Self::Doubled(_) => "run again: an incomplete list is not used",
            Self::Refused { .. } => "check the gateway's log: openclaw logs",
            Self::TooLarge { .. } => "check the limits of the gateway's configuration",
        };
        hint.into()
    }

    /// Whether what was asked for is perhaps done, so that only reading the sessions again can tell.
    pub fn is_perhaps_done(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Malformed { .. })
    }
}

/// What to do about a code with which a gateway closes the door.
fn not_let_in(code: &str) -> &'static str {
    match code {
        "AUTH_TOKEN_MISMATCH" => "the token is not the one in gateway.auth.token of OpenClaw's configuration",
        "AUTH_SCOPE_MISMATCH" => "the token has fewer scopes: use the shared token of the gateway",
        "DEVICE_IDENTITY_REQUIRED" | "AUTH_TOKEN_MISSING" => {
            "no token was sent: set sessions.token in the policy to the gateway's shared token"
        }
        code if code.starts_with("DEVICE_") => {
            "the gateway requires the identity of a device: set sessions.device_key, or connect over loopback"
        }
        _ => "check gateway.auth in OpenClaw's configuration",
    }
}

impl Explain for Fault {
    fn explain(&self) -> Explanation {
        let (code, message) = self.words();
        Explanation::new(code, message).hint(self.hint())
    }

    fn is_interrupt(&self) -> bool {
        matches!(self, Self::Interrupted(_))
    }
}
