//! The registry: chat id → session entry. What its entries say, and what any registry can be asked.

pub mod json;
mod problem;
pub mod redacted;
mod snapshot;

use std::borrow::Cow;

use crate::chat::Chat;

pub use snapshot::{Collector, Counts, Key, Make, Snapshot, collect, find_entry};

/// One session, as the registry describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Who it is for.
    pub chat: Chat<'a>,
    /// Its `model`; `None` for `null`, `""` and absent alike.
    pub model: Option<Cow<'a, str>>,
    /// The id of its conversation: `session_id`, else `resume_id`, the first that [`is_session_id`](crate::chat::is_session_id)
    /// accepts if there is such a one. A new session has none yet.
    pub resume: Option<Cow<'a, str>>,
    /// Whether its model was set by hand, where a redacted snapshot says so.
    pub by_hand: Option<bool>,
    /// What the chat was last given, where that is kept beside its entry.
    pub mark: Option<Mark<'a>>,
    /// Whether it has a field of a session besides its model.
    pub is_session: bool,
    /// The fields that it has without a value.
    pub blank: Blank,
    /// Where its snapshot finds it again.
    pub at: Position,
    /// Whether its registry says that it has another model than the policy decides, where that was asked of the registry.
    pub differs: Option<bool>,
}

impl Entry<'_> {
    /// This entry, independent of the text it was read from.
    pub fn into_owned(self) -> Entry<'static> {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Entry {
            chat: self.chat.into_owned(),
            model: own(self.model),
            resume: own(self.resume),
            by_hand: self.by_hand,
            mark: self.mark.map(Mark::into_owned),
            is_session: self.is_session,
            blank: self.blank,
            at: self.at,
            differs: self.differs,
        }
    }
}

/// What stands for a chat in the memory of what each was last given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// This program gave it the model, or found it in sync on it.
    Applied(Cow<'a, str>),
    /// Its model was there before.
    ByHand,
}

impl Mark<'_> {
    fn into_owned(self) -> Mark<'static> {
        match self {
            Self::Applied(model) => Mark::Applied(Cow::Owned(model.into_owned())),
            Self::ByHand => Mark::ByHand,
        }
    }
}

/// Where a snapshot finds an entry again: a byte offset, a row's number, nothing. Only the backend that read the
/// snapshot can tell what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position(pub usize);

/// A field of an entry that a launch fills where the entry does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The session's name.
    SessionName,
    /// `individual` or `group`.
    Type,
    /// The contact's name.
    ContactName,
    /// Who the chat is with.
    Tier,
    /// Where the chat comes from.
    Source,
}

impl Field {
    /// All of them, in the order in which a launch writes them.
    pub const ALL: [Self; 5] = [Self::SessionName, Self::Type, Self::ContactName, Self::Tier, Self::Source];

    /// Its name in an entry.
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionName => "session_name",
            Self::Type => "type",
            Self::ContactName => "contact_name",
            Self::Tier => "tier",
            Self::Source => "source",
        }
    }

    /// What a chat says of it.
    pub fn of<'c>(self, chat: &'c Chat) -> Option<&'c str> {
        match self {
            Self::SessionName => chat.session_name.as_deref(),
            Self::Type => chat.kind.as_deref(),
            Self::ContactName => chat.contact_name.as_deref(),
            Self::Tier => chat.tier.as_deref(),
            Self::Source => chat.source.as_deref(),
        }
    }
}

/// The fields that an entry has without a value, such as `"tier": null`. A launch leaves them so: that the field is empty
/// may be what the registry's owner means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blank(u8);

impl Blank {
    /// Notes that the field stands there without a value.
    pub fn mark(&mut self, field: Field) {
        self.0 |= 1 << field as u8;
    }

    /// Notes that the field has a value.
    pub fn clear(&mut self, field: Field) {
        self.0 &= !(1 << field as u8);
    }

    /// Whether the field stands there without a value.
    pub fn has(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }
}
