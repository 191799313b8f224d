//! The names that begin with what is typed, as many as a terminal is good for.

use std::collections::BTreeMap;

use clap_complete::CompletionCandidate;

use crate::chat::Chat;
use crate::report::escape::escape;

/// So many names are offered at most, of a large registry the first.
pub(super) const MOST: usize = 200;

/// What a command takes for a chat, besides its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CalledBy {
    /// The name of its session.
    Session,
    /// The name of its session, or of its contact.
    Contact,
}

/// The names of chats.
pub(super) struct Names<'t> {
    typed: &'t str,
    called_by: CalledBy,
    found: BTreeMap<String, Found>,
}

/// What has a name.
struct Found {
    /// 0 for an id, 1 for a session's name, 2 for a contact's: the first counts.
    rank: usize,
    chat: String,
    about: Option<String>,
    is_of_several: bool,
}

impl<'t> Names<'t> {
    pub(super) fn new(typed: &'t str, called_by: CalledBy) -> Self {
        Self { typed, called_by, found: BTreeMap::new() }
    }

    /// Adds what this chat is called. Where nothing is typed yet, its id is enough.
    pub(super) fn add(&mut self, chat: &Chat) {
        let contact = chat.contact_name.as_deref().filter(|name| is_harmless(name));
        self.add_name(0, &chat.id, &chat.id, contact);
        if self.typed.is_empty() {
            return;
        }
        if let Some(name) = &chat.session_name {
            self.add_name(1, name, &chat.id, contact);
        }
        if let (Some(name), CalledBy::Contact) = (contact, self.called_by) {
            self.add_name(2, name, &chat.id, Some(chat.id.as_ref()).filter(|id| is_harmless(id)));
        }
    }

    fn add_name(&mut self, rank: usize, name: &str, chat: &str, about: Option<&str>) {
        if !is_offered(name, self.typed) {
            return;
        }
        match self.found.get_mut(name) {
            Some(known) if known.rank < rank => {}
            Some(known) if known.rank == rank => known.is_of_several |= known.chat != chat,
            _ => {
                let about = about.map(str::to_owned);
                let found = Found { rank, chat: chat.to_owned(), about, is_of_several: false };
                self.found.insert(name.to_owned(), found);
            }
        }
        if self.found.len() > MOST {
            self.found.pop_last();
        }
    }

    /// The names in order, without those that several chats have.
    pub(super) fn into_candidates(self) -> Vec<CompletionCandidate> {
        let of_one = self.found.into_iter().filter(|(_, found)| !found.is_of_several);
        of_one.map(|(name, found)| CompletionCandidate::new(name).help(found.about.map(Into::into))).collect()
    }
}

/// Whether a name begins with what is typed, and can be shown and given.
pub(super) fn is_offered(name: &str, typed: &str) -> bool {
    // One that begins with a hyphen is taken for an option.
    !name.is_empty() && name.starts_with(typed) && !name.starts_with('-') && is_harmless(name)
}

/// Whether nothing in the text moves the cursor, or ends the line.
fn is_harmless(text: &str) -> bool {
    escape(text) == text
}
