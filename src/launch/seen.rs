//! The entry of a session that is about to be started, and what its start must know of entries that are like it.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::plan::select::ambiguous;
use crate::registry::{Entry, Key, Snapshot};

/// The entries that the search for a word has found, by what they have in common with it.
#[derive(Default)]
struct Seen<'w> {
    word: &'w str,
    /// The slug of the session's name that the user gave.
    slug: Option<&'w str>,
    /// The entry whose chat id the word is.
    by_id: Option<Entry<'static>>,
    /// The entries whose session name the word is.
    by_name: Vec<Entry<'static>>,
    /// The first chat whose contact's name the word is.
    contact_of: Option<String>,
    /// The first chat whose session has the slug `slug`.
    same_slug: Option<String>,
}

/// What a word stands for.
pub(super) struct Found {
    /// The entry that the word stands for; `None` where the registry has no such entry.
    pub(super) entry: Option<Entry<'static>>,
    /// The chat of a contact whose name is the word.
    pub(super) contact_of: Option<String>,
    /// Another chat whose session has the slug that was looked for.
    pub(super) same_slug: Option<String>,
}

/// Looks in a registry for what `word` stands for, as the user calls the chat, and for the slug of the session's name that the
/// user gave.
///
/// # Errors
/// What is wrong with the registry; a word that several sessions have.
pub(super) fn look_for(snapshot: &dyn Snapshot, word: &str, slug: Option<&str>) -> Result<Found> {
    let mut seen = Seen { word, slug, ..Seen::default() };
    let keys = [Key::Id, Key::SessionName, Key::ContactName, Key::Slug];
    let sought: BTreeSet<&str> = [word].into_iter().chain(slug).collect();
    snapshot.find(&keys, &sought, &mut |entry| seen.take(entry))?;
    seen.sort_out()
}

impl Seen<'_> {
    fn take(&mut self, entry: Entry<'_>) {
        let id = || entry.chat.id.clone().into_owned();
        if self.same_slug.is_none() && self.slug.is_some() && entry.chat.slug().as_deref() == self.slug {
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

    /// Picks the entry that the word stands for. A contact's name never decides: contacts choose their names themselves, and one who
    /// takes another chat's number for a name must not get that chat's session.
    fn sort_out(mut self) -> Result<Found> {
        if self.by_id.is_none() && self.by_name.len() > 1 {
            let chats: Vec<String> = self.by_name.iter().map(|entry| entry.chat.id.clone().into_owned()).collect();
            return Err(ambiguous(self.word, &chats));
        }
        let entry = self.by_id.or_else(|| self.by_name.pop());
        let contact_of = self.contact_of.filter(|_| entry.is_none());
        Ok(Found { entry, contact_of, same_slug: self.same_slug })
    }
}
