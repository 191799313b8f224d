//! The first request of a connection, which identifies this program and asks for a scope, and the gateway's reply.

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

/// The client id with which, together with [`MODE`], a gateway grants scopes to a program on its own host that has no
/// device identity.
const CLIENT: &str = "gateway-client";
/// See [`CLIENT`].
const MODE: &str = "backend";
const ROLE: &str = "operator";

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// List sessions. The gateway refuses every change.
    Read,
    /// List sessions, and change their models and thinking levels. An administrator's scope is never asked for, because
    /// a change by an administrator can become the default of all sessions.
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

/// The parameters of the first request.
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
        // The last field is the family of the device, which this program leaves empty.
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
    /// Checks that the release is supported and grants the scope. Returns the release.
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
