//! Redacted snapshots: registries with pseudonyms, for users who plan on them and must not know whose chats they are.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::chat::Chat;
use crate::error::Result;
use crate::redact::{Redact, Redaction};
use crate::registry::Snapshot;
use crate::registry::json::raw::{decoded, members};

/// The member of each entry with the fingerprint of the key.
const MARKER: &str = "redacted";

/// The member that says what set the model: [`BY_HAND`], or `reconcile`. Only where the policy keeps models that were
/// set by hand.
pub(super) const SET_BY: &str = "reconcile_set_by";
/// The value of [`SET_BY`] for a model that was set by hand.
pub(super) const BY_HAND: &str = "hand";

/// An entry of a redacted snapshot.
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
        // Every field is named, so that a new field does not compile before it is decided whether it reveals who the
        // chat is with.
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
            // It may be a phone number.
            account: account.map(|account| redaction.chat(&account).into()),
        }
    }
}

/// Returns whether the model of an entry was set by hand; `None` where the policy does not keep such models.
pub type ByHand<'a> = &'a dyn Fn(&super::Entry) -> Option<bool>;

/// The redacted snapshot of a registry, as JSON. It is sorted by pseudonyms, because the original order would reveal something.
///
/// # Errors
/// What is wrong with the registry.
pub fn redacted(snapshot: &dyn Snapshot, redaction: &Redaction, by_hand: ByHand) -> Result<String> {
    let mut entries = BTreeMap::new();
    snapshot.each(&mut |entry| {
        let chat = entry.chat.clone().into_owned().redacted(redaction);
        let set_by = by_hand(&entry).map(|by_hand| if by_hand { BY_HAND } else { "reconcile" });
        let own = |field: Option<std::borrow::Cow<str>>| field.map(std::borrow::Cow::into_owned);
        // A plan on the snapshot cannot decide by a field that is left out here.
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

/// The fingerprint of the key in the first entry of a registry; `None` where it is not a redacted snapshot. The text
/// may be cut off after the first entry.
pub fn marker(text: &str) -> Option<String> {
    let mut found = None;
    // An error is expected: the walk is stopped after the first entry, or the text ends there.
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
