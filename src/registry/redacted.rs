//! A registry under pseudonyms, which can be shown to those who plan on it and must not know whose chats they are.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::chat::Chat;
use crate::error::Result;
use crate::redact::{Redact, Redaction};
use crate::registry::Snapshot;
use crate::registry::json::raw::{decoded, members};

/// The member that an entry of a redacted registry has: the fingerprint of the key.
const MARKER: &str = "redacted";

/// The member that says what set its model: [`BY_HAND`], or else this program. It is there where the policy keeps what was
/// set by hand.
pub(super) const SET_BY: &str = "reconcile_set_by";
pub(super) const BY_HAND: &str = "hand";

#[derive(Serialize)]
struct Entry {
    session_name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    tier: Option<String>,
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    model: Option<String>,
    #[serde(rename = "reconcile_set_by", skip_serializing_if = "Option::is_none")]
    set_by: Option<&'static str>,
    redacted: String,
}

impl Redact for Chat<'_> {
    /// This chat with pseudonyms, without its contact's name.
    fn redacted(self, redaction: &Redaction) -> Self {
        // Each field by itself: a new one does not compile until it is decided whether it tells who the chat is with.
        let slug = self.slug();
        let Chat { id, session_name: _, contact_name: _, tier, kind, source, agent, account } = self;
        Chat {
            id: redaction.chat(&id).into(),
            session_name: slug.map(|slug| redaction.session(&slug).into()),
            contact_name: None,
            tier: tier.map(|tier| redaction.tier(&tier).into()),
            kind,
            source,
            agent,
            // It may be a number of ours.
            account: account.map(|account| redaction.chat(&account).into()),
        }
    }
}

/// Tells whether a chat's model was set by hand; `None` where that makes no difference.
pub type ByHand<'a> = &'a dyn Fn(&super::Entry) -> Option<bool>;

/// The registry under pseudonyms, as JSON, sorted by them: the order of the original says nothing any more.
///
/// # Errors
/// What is wrong with the registry.
pub fn redacted(snapshot: &dyn Snapshot, redaction: &Redaction, by_hand: ByHand) -> Result<String> {
    let mut entries = BTreeMap::new();
    snapshot.each(&mut |entry| {
        let chat = entry.chat.clone().into_owned().redacted(redaction);
        let set_by = by_hand(&entry).map(|by_hand| if by_hand { BY_HAND } else { "reconcile" });
        let own = |field: Option<std::borrow::Cow<str>>| field.map(std::borrow::Cow::into_owned);
        // A field that is not in the snapshot is one by which a plan on it decides otherwise.
        let Chat { id, session_name, contact_name: _, tier, kind, source, agent, account } = chat;
        let redacted = Entry {
            session_name: own(session_name),
            kind: own(kind),
            tier: own(tier),
            source: own(source),
            agent: own(agent),
            account: own(account),
            model: own(entry.model),
            set_by,
            redacted: redaction.fingerprint(),
        };
        entries.insert(id, redacted);
    })?;
    // Strings and maps of strings always have a JSON form.
    Ok(serde_json::to_string_pretty(&entries).unwrap_or_default())
}

/// The fingerprint in the first entry of a registry, which need not be there to its end; `None` where it has none.
pub fn marker(text: &str) -> Option<String> {
    let mut found = None;
    // The walk is stopped after the first entry, or the text ends there.
    let _ = members(text, |_, entry| {
        let _ = members(entry, |key, value| {
            let is_marker = decoded(key) == MARKER && value.starts_with('"');
            if is_marker {
                found = Some(decoded(value).into_owned());
            }
            !is_marker
        });
        false
    });
    found
}
