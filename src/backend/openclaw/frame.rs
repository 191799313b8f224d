//! The frames of the gateway's protocol, which are JSON texts. Requests have no fields that the gateway does not know,
//! because it refuses them. Of replies only the needed fields are read, because new releases add fields.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::backend::openclaw::fault::{Fault, Unavailable};

/// The wait before the next try, if the gateway does not say how long it is unavailable.
const AGAIN: Duration = Duration::from_millis(500);
/// The shortest wait before the next try, also if the gateway asks for none.
const SHORTEST: Duration = Duration::from_millis(10);
/// The longest wait before the next try. A gateway closes connections on which its pings are not answered for 25 s.
const LONGEST: Duration = Duration::from_secs(5);

/// A frame from a gateway.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    ok: Option<bool>,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Refusal>,
}

impl<'a> Frame<'a> {
    /// The payload of the event of this name, as JSON; `None` for another frame.
    pub(super) fn event(&self, name: &str) -> Option<&'a str> {
        let is_it = self.kind == "event" && self.event.as_deref() == Some(name);
        is_it.then(|| self.payload.map_or("null", RawValue::get))
    }

    /// Whether it answers the request of this id.
    pub(super) fn answers(&self, id: &str) -> bool {
        self.kind == "res" && self.id.as_deref() == Some(id)
    }

    /// The payload of the reply to a request of this method, as JSON.
    ///
    /// # Errors
    /// Where the gateway has not carried out the request, or does not say.
    pub(super) fn outcome(self, method: &'static str) -> Result<&'a str, Fault> {
        match self.ok {
            Some(true) => Ok(self.payload.map_or("null", RawValue::get)),
            Some(false) => Err(self.error.unwrap_or_default().fault(method)),
            None => Err(Fault::Malformed { method, reason: "it does not say whether it was carried out".to_owned() }),
        }
    }
}

/// The error in a reply. A part in an unknown form is ignored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Refusal {
    #[serde(deserialize_with = "if_known")]
    code: String,
    #[serde(deserialize_with = "if_known")]
    message: String,
    #[serde(deserialize_with = "if_known")]
    retry_after_ms: Option<u64>,
    #[serde(deserialize_with = "if_known")]
    details: Details,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    #[serde(deserialize_with = "if_known")]
    code: Option<String>,
    #[serde(deserialize_with = "if_known")]
    reason: Option<String>,
    #[serde(deserialize_with = "if_known")]
    missing_scope: Option<String>,
    #[serde(deserialize_with = "if_known")]
    expected_protocol: Option<u32>,
    #[serde(deserialize_with = "if_known")]
    client_max_protocol: Option<u32>,
    request_id: Option<String>,
}

/// The gateway's code for a device that its operator has not approved, or not for this much.
const PAIRING_REQUIRED: &str = "PAIRING_REQUIRED";

/// The id of a request for approval, if it can safely be part of a command that a user copies.
fn request_id(text: &str) -> Option<String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ['.', '_', ':', '-'].contains(&letter);
    let is_id = text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.len() <= 128;
    (is_id && text.chars().all(is_plain)).then(|| text.to_owned())
}

/// Parses a value, or returns the default where it has another form.
fn if_known<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(written: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(written)?).unwrap_or_default())
}

impl Refusal {
    /// The fault of the request as a whole.
    pub(super) fn fault(self, method: &'static str) -> Fault {
        let Self { code, message, retry_after_ms, details } = self;
        if code == "UNAVAILABLE" {
            let why = match details.reason.as_deref() {
                Some("startup-sidecars") => Unavailable::Starting,
                Some("gateway-restarting") => Unavailable::Restarting,
                Some("gateway-suspending") => Unavailable::Suspended,
                _ => Unavailable::Busy(message),
            };
            let again = retry_after_ms.map_or(AGAIN, Duration::from_millis).clamp(SHORTEST, LONGEST);
            return Fault::Unavailable { why, again };
        }
        if let (Some(theirs), Some(ours)) = (details.expected_protocol, details.client_max_protocol) {
            return Fault::Protocol { ours, theirs };
        }
        if let Some(scope) = details.missing_scope {
            return Fault::MissingScope(scope);
        }
        if details.code.as_deref() == Some(PAIRING_REQUIRED) {
            return Fault::NotApproved {
                is_known: details.reason.is_some_and(|reason| reason != "not-paired"),
                request: details.request_id.as_deref().and_then(request_id),
            };
        }
        if method == CONNECT {
            return Fault::NotLetIn { code: details.code.unwrap_or(code), message };
        }
        Fault::Refused { method, message }
    }

    /// Whether the session was deleted or recreated since it was listed.
    pub(super) fn is_session_changed(&self) -> bool {
        self.details.reason.as_deref() == Some("session-changed")
    }

    /// Whether the gateway asks to come back later.
    pub(super) fn is_unavailable(&self) -> bool {
        self.code == "UNAVAILABLE"
    }

    /// The gateway's message.
    pub(super) fn into_message(self) -> String {
        self.message
    }
}

/// The method of a connection's first request.
pub(super) const CONNECT: &str = "connect";

/// A request.
pub(super) fn request(id: &str, method: &str, params: &Value) -> String {
    json!({ "type": "req", "id": id, "method": method, "params": params }).to_string()
}
