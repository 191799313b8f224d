//! The members of an entry that this program reads. Both readers make an [`Entry`] of them here.

use std::borrow::Cow;

use crate::chat::{Chat, is_session_id};
use crate::registry::redacted::{BY_HAND, SET_BY};
use crate::registry::{Blank, Entry, Field, Position};

/// A member of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Model,
    Tier,
    SessionName,
    ContactName,
    DisplayName,
    Type,
    Source,
    Agent,
    Account,
    SessionId,
    ResumeId,
    SetBy,
    ChatId,
    /// A member that this program does not read.
    Other,
}

impl Member {
    /// The members that an entry may have once only, and whose values must be strings or `null`.
    pub(super) const STRICT: [Self; 2] = [Self::Model, Self::Tier];

    /// The member of this name.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "model" => Self::Model,
            "tier" => Self::Tier,
            "session_name" => Self::SessionName,
            "contact_name" => Self::ContactName,
            "display_name" => Self::DisplayName,
            "type" => Self::Type,
            "source" => Self::Source,
            "agent" => Self::Agent,
            "account" => Self::Account,
            "session_id" => Self::SessionId,
            "resume_id" => Self::ResumeId,
            SET_BY => Self::SetBy,
            "chat_id" => Self::ChatId,
            _ => Self::Other,
        }
    }

    /// Its index in [`Member::STRICT`], if it is one of these members.
    pub(super) fn strict(self) -> Option<usize> {
        Self::STRICT.iter().position(|strict| *strict == self)
    }

    /// Whether only sessions have it, and not other objects that have a model, such as the settings of an agent.
    pub(super) fn is_of_sessions(self) -> bool {
        !matches!(self, Self::Model | Self::Agent | Self::Account | Self::Other)
    }

    /// The field of a chat that it is, if a launch can fill that field.
    fn field(self) -> Option<Field> {
        match self {
            Self::Tier => Some(Field::Tier),
            Self::SessionName => Some(Field::SessionName),
            Self::ContactName => Some(Field::ContactName),
            Self::Type => Some(Field::Type),
            Self::Source => Some(Field::Source),
            Self::Model
            | Self::Agent
            | Self::Account
            | Self::DisplayName
            | Self::SessionId
            | Self::ResumeId
            | Self::ChatId
            | Self::SetBy
            | Self::Other => None,
        }
    }
}

/// An entry of which some members have been read.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) chat: Chat<'a>,
    at: Position,
    is_session: bool,
    blank: Blank,
    model: Option<Cow<'a, str>>,
    display_name: Option<Cow<'a, str>>,
    session_id: Option<Cow<'a, str>>,
    resume_id: Option<Cow<'a, str>>,
    by_hand: Option<bool>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(id: Cow<'a, str>, at: Position) -> Self {
        let chat = Chat { id, ..Chat::default() };
        let (model, display_name, session_id, resume_id) = (None, None, None, None);
        Self {
            chat,
            at,
            is_session: false,
            blank: Blank::default(),
            model,
            display_name,
            session_id,
            resume_id,
            by_hand: None,
        }
    }

    /// Sets the value of a member: its text, or `None` for a value that is not a string. An empty text counts as no value. If an
    /// entry has a member several times, the last counts.
    pub(super) fn set(&mut self, member: Member, text: Option<Cow<'a, str>>) {
        let text = text.filter(|text| !text.is_empty());
        self.is_session |= member.is_of_sessions();
        if let Some(field) = member.field() {
            match text {
                Some(_) => self.blank.clear(field),
                None => self.blank.mark(field),
            }
        }
        match member {
            Member::Model => self.model = text,
            Member::Tier => self.chat.tier = text,
            Member::SessionName => self.chat.session_name = text,
            Member::ContactName => self.chat.contact_name = text,
            Member::DisplayName => self.display_name = text,
            Member::Type => self.chat.kind = text,
            Member::Source => self.chat.source = text,
            Member::Agent => self.chat.agent = text,
            Member::Account => self.chat.account = text,
            Member::SessionId => self.session_id = text,
            Member::ResumeId => self.resume_id = text,
            Member::SetBy => self.by_hand = text.map(|by| by == BY_HAND),
            Member::ChatId | Member::Other => {}
        }
    }

    pub(super) fn entry(self) -> Entry<'a> {
        let Self { chat, at, is_session, blank, model, display_name, session_id, resume_id, by_hand } = self;
        let chat = Chat { contact_name: chat.contact_name.or(display_name), ..chat };
        // An id that cannot be used is kept only if there is no other: then no conversation is resumed, and the user is told why.
        let usable = [&session_id, &resume_id].into_iter().flatten().find(|id| is_session_id(id)).cloned();
        let resume = usable.or(session_id).or(resume_id);
        Entry { chat, model, resume, by_hand, mark: None, is_session, blank, at, differs: None }
    }
}
