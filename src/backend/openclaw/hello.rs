//! How a connection begins: who we are, what we may do, and what the gateway says to that.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::backend::openclaw::connection::Challenge;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::remote::Device;
use crate::backend::openclaw::token::Token;

/// The version of the protocol that this program speaks.
const PROTOCOL: u32 = 4;
/// The method that changes sessions. Only releases that have it guard a change by the session's id.
pub(super) const PATCH: &str = "sessions.patchMany";

/// The pair of id and mode by which the gateway lets a program on its own host have scopes without a device.
const CLIENT: &str = "gateway-client";
const MODE: &str = "backend";
const ROLE: &str = "operator";

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// List. The gateway refuses every change.
    Read,
    /// List, and change the sessions' models and thinking levels. It is never more than that: a change that an
    /// administrator makes can become the default of all sessions.
    Write,
}

impl Scope {
    /// The gateway's names for it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["operator.read"],
            Self::Write => &["operator.read", "operator.write"],
        }
    }
}

/// The first request: who we are, and what for.
pub(super) fn params(scope: Scope, token: Option<&Token>, device: Option<&Device>, challenge: &Challenge) -> Value {
    let platform = std::env::consts::OS;
    let mut params = json!({
        "minProtocol": PROTOCOL,
        "maxProtocol": PROTOCOL,
        "client": { "id": CLIENT, "version": env!("CARGO_PKG_VERSION"), "platform": platform, "mode": MODE },
        "role": ROLE,
        "scopes": scope.names(),
    });
    if let Some(token) = token {
        params["auth"] = json!({ "token": token.reveal() });
    }
    if let Some(device) = device {
        let Challenge { nonce, ts } = challenge;
        let (scopes, time) = (scope.names().join(","), ts.to_string());
        let token = token.map_or("", Token::reveal);
        // The last is the family of a device, of which this program says nothing.
        let signed = ["v3", device.id(), CLIENT, MODE, ROLE, &scopes, &time, token, nonce, platform, ""].join("|");
        params["device"] = json!({
            "id": device.id(),
            "publicKey": device.public_key(),
            "signature": device.sign(&signed),
            "signedAt": ts,
            "nonce": nonce,
        });
    }
    params
}

/// The reply to the first request.
#[derive(Debug, Deserialize)]
pub(super) struct Hello {
    server: Server,
    features: Features,
    auth: Auth,
    pub(super) policy: Limits,
}

#[derive(Debug, Deserialize)]
struct Server {
    version: String,
}

#[derive(Debug, Deserialize)]
struct Features {
    methods: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Auth {
    scopes: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    pub(super) max_payload: usize,
}

impl Hello {
    /// The release, if it is supported and grants the scope.
    pub(super) fn checked(self, scope: Scope) -> Result<String, Fault> {
        let Self { server: Server { version }, features, auth, .. } = self;
        if !features.methods.iter().any(|method| method == PATCH) {
            return Err(Fault::TooOld { version, lacks: "it lacks sessions.patchMany" });
        }
        match scope.names().iter().find(|name| !auth.scopes.iter().any(|scope| scope == *name)) {
            Some(missing) => Err(Fault::MissingScope((*missing).to_owned())),
            None => Ok(version),
        }
    }
}
