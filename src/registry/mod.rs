//! The registry, which maps chat ids to session entries: the entries, and the trait of a snapshot.

pub mod json;
mod problem;
pub mod redacted;
mod snapshot;

use std::borrow::Cow;

use crate::chat::Chat;

pub use snapshot::{Collector, Counts, Key, Make, Snapshot, collect, find_entry};

/// One entry of a registry, which describes a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The chat of the session.
    pub chat: Chat<'a>,
    /// The value of `model`; `None` where that is `null`, `""` or absent.
    pub model: Option<Cow<'a, str>>,
    /// The id of the conversation: the first of `session_id` and `resume_id` that
    /// [`is_session_id`](crate::chat::is_session_id) accepts, or else the first that there is. A new session has none yet.
    pub resume: Option<Cow<'a, str>>,
    /// Whether the model was set by hand. Only a redacted snapshot says so.
    pub by_hand: Option<bool>,
    /// The mark of the chat in the memory of what chats were last given. Only where the marks are kept beside the entries.
    pub mark: Option<Mark<'a>>,
    /// Whether the entry has a field of a session besides `model`.
    pub is_session: bool,
    /// The fields that the entry has without a value.
    pub blank: Blank,
    /// Where the snapshot finds the entry again.
    pub at: Position,
    /// Whether the entry has another model than the policy decides, according to the registry. Only where the registry
    /// was asked.
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

/// What is remembered of a chat's model, where the policy keeps models that were set by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// This program gave the chat this model, or found it in sync on it.
    Applied(Cow<'a, str>),
    /// The chat had its model before any run looked at it.
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

/// Where a snapshot finds an entry again, such as a byte offset or a hash. Only the backend of the snapshot knows what
/// it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position(pub usize);

/// A field of an entry that a launch sets if the entry does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The session's name.
    SessionName,
    /// The chat's type: `individual` or `group`.
    Type,
    /// The name of the contact or group.
    ContactName,
    /// The chat's tier.
    Tier,
    /// The service that the chat is on, such as `discord`.
    Source,
}

impl Field {
    /// All fields, in the order in which a launch writes them.
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

    /// The value of the field in a chat.
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

/// The set of fields that an entry has without a value, such as `"tier": null`. A launch does not set them, because the
/// owner of the registry may want them to be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blank(u8);

impl Blank {
    /// Adds a field, which the entry has without a value.
    pub fn mark(&mut self, field: Field) {
        self.0 |= 1 << field as u8;
    }

    /// Removes a field, which has a value.
    pub fn clear(&mut self, field: Field) {
        self.0 &= !(1 << field as u8);
    }

    /// Whether the entry has the field without a value.
    pub fn has(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }
}
