//! What a command is told of a session: each placeholder, and the variable of the environment that holds the same.

use crate::chat::{Chat, Model};

/// No value that a command is given is longer, in bytes. Linux does not start a command with one of 128 KiB, and people in
/// a chat can make a name as long as they like.
pub(super) const LONGEST: usize = 4096;

/// What to say where commands are given only the beginning of a field of these sessions.
pub(crate) fn shortened(whose: &str) -> String {
    format!(
        "a contact name, tier, type or source of {whose} is longer than {LONGEST} bytes: commands get only its beginning"
    )
}

/// What can stand in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The chat's id.
    ChatId,
    /// The session's name.
    SessionName,
    /// The session's name as supervisors accept it: `[A-Za-z0-9_-]` alone.
    SessionSlug,
    /// The name of the contact or group.
    ContactName,
    /// The chat's tier.
    Tier,
    /// Whether the chat is a group.
    Type,
    /// The service that the chat is on.
    Source,
    /// The session's model.
    Model,
    /// The conversation that a launch resumes.
    ResumeId,
    /// The id under which a launch begins a conversation.
    NewSessionId,
    /// The id of a launch's conversation, whether it begins or is resumed.
    SessionId,
}

/// The conversation of a session that is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversation {
    /// Its program begins one, whose id is not known here.
    Unknown,
    /// It begins one under this id.
    New(String),
    /// It goes on with the one of this id.
    Resumed(String),
}

impl Conversation {
    /// Its id, where that is known.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::New(id) | Self::Resumed(id) => Some(id),
        }
    }
}

/// A session, as its commands are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Its chat.
    pub chat: &'a Chat<'a>,
    /// What it is to run on; `None` where that is not known.
    pub model: Option<&'a Model>,
    /// Its conversation.
    pub conversation: &'a Conversation,
}

impl<'a> Session<'a> {
    /// A session that runs, or is to run, on this model. Of its conversation nothing is known.
    pub fn on(chat: &'a Chat<'a>, model: &'a Model) -> Self {
        Self { chat, model: Some(model), conversation: &Conversation::Unknown }
    }
    /// Whether commands are given only the beginning of one of its fields.
    pub(crate) fn is_shortened(&self) -> bool {
        let is_long = |placeholder: Placeholder| placeholder.value(self).is_some_and(|value| value.len() > LONGEST);
        Placeholder::COMMON.into_iter().filter(|placeholder| !placeholder.tells_apart()).any(is_long)
    }
}

impl Placeholder {
    /// Those that every command has.
    pub(super) const COMMON: [Self; 8] = [
        Self::ChatId,
        Self::SessionName,
        Self::SessionSlug,
        Self::ContactName,
        Self::Tier,
        Self::Type,
        Self::Source,
        Self::Model,
    ];

    /// What stands between the braces.
    pub fn name(self) -> &'static str {
        self.spellings().0
    }

    /// The variable in a command's environment that has the same value.
    pub fn variable(self) -> &'static str {
        self.spellings().1
    }

    fn spellings(self) -> (&'static str, &'static str) {
        match self {
            Self::ChatId => ("chat_id", "RECONCILE_CHAT_ID"),
            Self::SessionName => ("session_name", "RECONCILE_SESSION_NAME"),
            Self::SessionSlug => ("session_slug", "RECONCILE_SESSION_SLUG"),
            Self::ContactName => ("contact_name", "RECONCILE_CONTACT_NAME"),
            Self::Tier => ("tier", "RECONCILE_TIER"),
            Self::Type => ("type", "RECONCILE_TYPE"),
            Self::Source => ("source", "RECONCILE_SOURCE"),
            Self::Model => ("model", "RECONCILE_MODEL"),
            Self::ResumeId => ("resume_id", "RECONCILE_RESUME_ID"),
            Self::NewSessionId => ("new_session_id", "RECONCILE_NEW_SESSION_ID"),
            Self::SessionId => ("session_id", "RECONCILE_SESSION_ID"),
        }
    }

    /// Whether commands tell sessions, models or conversations apart by it.
    fn tells_apart(self) -> bool {
        match self {
            Self::ChatId
            | Self::SessionName
            | Self::SessionSlug
            | Self::Model
            | Self::ResumeId
            | Self::NewSessionId
            | Self::SessionId => true,
            Self::ContactName | Self::Tier | Self::Type | Self::Source => false,
        }
    }

    /// Whether an argument is left out for a session that has no value of it. No program could use an empty one.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::Model | Self::ResumeId | Self::NewSessionId | Self::SessionId)
    }

    /// Its value for a session; `None` where the session has none.
    pub(super) fn value(self, session: &Session) -> Option<String> {
        let Session { chat, model, conversation } = *session;
        let text = |field: &Option<_>| field.as_deref().map(str::to_owned);
        match self {
            Self::ChatId => Some(chat.id.clone().into_owned()),
            Self::SessionName => text(&chat.session_name),
            Self::SessionSlug => chat.slug(),
            Self::ContactName => text(&chat.contact_name),
            Self::Tier => text(&chat.tier),
            Self::Type => text(&chat.kind),
            Self::Source => text(&chat.source),
            Self::Model => model.map(|model| model.as_str().to_owned()),
            Self::SessionId => conversation.id().map(str::to_owned),
            Self::NewSessionId => match conversation {
                Conversation::New(id) => Some(id.clone()),
                Conversation::Unknown | Conversation::Resumed(_) => None,
            },
            Self::ResumeId => match conversation {
                Conversation::Resumed(id) => Some(id.clone()),
                Conversation::Unknown | Conversation::New(_) => None,
            },
        }
    }

    /// The variable for a session. It is empty where the session has no value. What is too long is cut, and a NUL byte
    /// becomes U+FFFD, so that a name never keeps a command from starting.
    ///
    /// # Errors
    /// That an id, a name of a session or a model cannot be passed whole. Changed, it might be another one.
    pub(super) fn in_environment(self, session: &Session) -> Result<(&'static str, String), String> {
        let mut value = self.value(session).unwrap_or_default();
        if self.tells_apart() {
            let name = self.name().replace('_', " ");
            if value.contains('\0') {
                return Err(format!("its {name} contains a NUL byte, which cannot be passed to a command"));
            }
            if value.len() > LONGEST {
                return Err(format!("its {name} is longer than the {LONGEST} bytes that a command may be given"));
            }
            return Ok((self.variable(), value));
        }
        value.truncate(end_of_beginning(&value));
        Ok((self.variable(), value.replace('\0', "\u{fffd}")))
    }
}

/// The last boundary between characters that leaves no more than [`LONGEST`] bytes before it.
fn end_of_beginning(text: &str) -> usize {
    let ends = 0..=LONGEST.min(text.len());
    ends.rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default()
}
