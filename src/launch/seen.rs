//! One pass over the registry: the entry of a session that is about to be started, and what its start must know of others.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::launch::choice::Decider;
use crate::plan::select::ambiguous;
use crate::registry::Entry;

/// What one pass over the registry finds for a start.
#[derive(Default)]
pub(super) struct Seen<'w> {
    word: &'w str,
    /// The slug of the session's name that the user gave.
    slug: Option<String>,
    /// The entry whose chat id the word is.
    by_id: Option<Entry<'static>>,
    /// The entries whose session name the word is.
    by_name: Vec<Entry<'static>>,
    /// The first chat whose contact's name the word is.
    contact_of: Option<String>,
    /// The first chat whose session has that slug.
    same_slug: Option<String>,
    /// The models of the other entries that owe no restart.
    pub(super) in_use: BTreeSet<String>,
}

/// What a word stands for.
pub(super) struct Found {
    /// The entry that is meant, if it is there.
    pub(super) entry: Option<Entry<'static>>,
    /// The chat of a contact that has the new chat's id for a name.
    pub(super) contact_of: Option<String>,
    /// Another chat, whose session has the slug that the user's name gives.
    pub(super) same_slug: Option<String>,
}

impl<'w> Seen<'w> {
    /// Before the pass. `word` is what the user calls the chat, and `slug` that of the session's name that the user gave.
    pub(super) fn nothing(word: &'w str, slug: Option<String>) -> Self {
        Self { word, slug, ..Self::default() }
    }

    pub(super) fn take(&mut self, entry: Entry<'_>, decider: Option<Decider>) {
        let id = || entry.chat.id.clone().into_owned();
        if let (Some(Decider { policy, ledger, .. }), Some(model)) = (decider, entry.model.as_deref()) {
            let model = policy.canonical(model);
            let is_settled = |chat| !ledger.owed.contains_key(chat) && !ledger.failed.contains_key(chat);
            if entry.chat.id != self.word && !self.in_use.contains(model) && is_settled(entry.chat.id.as_ref()) {
                self.in_use.insert(model.to_owned());
            }
        }
        if self.same_slug.is_none() && self.slug.is_some() && entry.chat.slug() == self.slug {
            self.same_slug = Some(id());
        }
        if self.contact_of.is_none() && entry.chat.contact_name.as_deref() == Some(self.word) {
            self.contact_of = Some(id());
        }
        if entry.chat.id == self.word {
            self.by_id = Some(entry.into_owned());
        } else if entry.chat.session_name.as_deref() == Some(self.word) {
            self.by_name.push(entry.into_owned());
        }
    }

    /// Contacts choose their names, and one may be another chat's number: it must not get that chat's session.
    pub(super) fn sort_out(mut self) -> Result<Found> {
        if self.by_id.is_none() && self.by_name.len() > 1 {
            let chats: Vec<String> = self.by_name.iter().map(|entry| entry.chat.id.clone().into_owned()).collect();
            return Err(ambiguous(self.word, &chats));
        }
        let entry = self.by_id.or_else(|| self.by_name.pop());
        let contact_of = self.contact_of.filter(|_| entry.is_none());
        Ok(Found { entry, contact_of, same_slug: self.same_slug })
    }
}
