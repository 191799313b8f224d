//! The frames that a gateway and its clients exchange: JSON texts. Requests say exactly what the gateway knows, because it
//! refuses unknown fields; replies are read for what is needed, because they gain fields all the time.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::backend::openclaw::fault::{Fault, Unavailable};

/// When a gateway is asked again that says it is unavailable and not for how long.
const AGAIN: Duration = Duration::from_millis(500);
/// The shortest wait between two tries: a gateway that wants to be asked at once would be asked without a pause.
const SHORTEST: Duration = Duration::from_millis(10);
/// The longest wait between two tries: a gateway cuts off clients that leave its pings unanswered for 25 s.
const LONGEST: Duration = Duration::from_secs(5);

/// A frame that came in.
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
    /// The payload of the event of this name as JSON, if it is that.
    pub(super) fn event(&self, name: &str) -> Option<&'a str> {
        let is_it = self.kind == "event" && self.event.as_deref() == Some(name);
        is_it.then(|| self.payload.map_or("null", RawValue::get))
    }

    /// Whether it answers the request of this id.
    pub(super) fn answers(&self, id: &str) -> bool {
        self.kind == "res" && self.id.as_deref() == Some(id)
    }

    /// What the reply to a request of this method says: its payload as JSON, or why there is none.
    pub(super) fn outcome(self, method: &'static str) -> Result<&'a str, Fault> {
        match self.ok {
            Some(true) => Ok(self.payload.map_or("null", RawValue::get)),
            Some(false) => Err(self.error.unwrap_or_default().fault(method)),
            None => Err(Fault::Malformed { method, reason: "it does not say whether it was carried out".to_owned() }),
        }
    }
}

/// The error in a reply. It is a refusal also where a part of it has another form than is known.
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

/// The id of a request for approval, if it can be part of a command line that a user copies.
fn request_id(text: &str) -> Option<String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ['.', '_', ':', '-'].contains(&letter);
    let is_id = text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.len() <= 128;
    (is_id && text.chars().all(is_plain)).then(|| text.to_owned())
}

/// What is written, or the default where that has another form.
fn if_known<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(written: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(written)?).unwrap_or_default())
}

impl Refusal {
    /// What it means for the request as a whole.
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

    /// Whether the session was deleted or made anew since it was listed.
    pub(super) fn is_session_changed(&self) -> bool {
        self.details.reason.as_deref() == Some("session-changed")
    }

    /// Whether the gateway asks to come back later.
    pub(super) fn is_unavailable(&self) -> bool {
        self.code == "UNAVAILABLE"
    }

    /// The gateway's words.
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
