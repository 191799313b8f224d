//! The placeholders of commands, each with the environment variable that has its value.

use crate::chat::{Chat, Model};

/// The longest value that a command gets, in bytes. People in a chat can choose very long names, and Linux does not start a command
/// with an argument or a variable of 128 KiB.
pub(super) const LONGEST: usize = 4096;

/// The remark that commands get only the beginning of a field. `whose` are the sessions, such as `2 sessions`.
pub(crate) fn shortened(whose: &str) -> String {
    format!(
        "a contact name, tier, type or source of {whose} is longer than {LONGEST} bytes: commands get only its beginning"
    )
}

/// A word in braces that is replaced by a value of the session.
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
    /// The chat's type: `individual` or `group`.
    Type,
    /// The service that the chat is on, such as `discord`.
    Source,
    /// The model that the session is to run on.
    Model,
    /// The id of the conversation that a launch resumes.
    ResumeId,
    /// The id under which a launch begins a new conversation.
    NewSessionId,
    /// The id of the conversation of a launch, new or resumed.
    SessionId,
}

/// The conversation of a session that is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversation {
    /// A new one, whose id the session's program chooses.
    Unknown,
    /// A new one under this id.
    New(String),
    /// The earlier one with this id.
    Resumed(String),
}

impl Conversation {
    /// The id, if it is known.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::New(id) | Self::Resumed(id) => Some(id),
        }
    }
}

/// A session, as far as commands get its values.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Its chat.
    pub chat: &'a Chat<'a>,
    /// The model that it is to run on; `None` where that is not known.
    pub model: Option<&'a Model>,
    /// Its conversation.
    pub conversation: &'a Conversation,
}

impl<'a> Session<'a> {
    /// A session that runs, or is to run, on this model, and whose conversation is not known.
    pub fn on(chat: &'a Chat<'a>, model: &'a Model) -> Self {
        Self { chat, model: Some(model), conversation: &Conversation::Unknown }
    }

    /// Whether commands get only the beginning of one of its fields.
    pub(crate) fn is_shortened(&self) -> bool {
        let is_long = |placeholder: Placeholder| placeholder.value(self).is_some_and(|value| value.len() > LONGEST);
        Placeholder::COMMON.into_iter().filter(|placeholder| !placeholder.identifies()).any(is_long)
    }
}

impl Placeholder {
    /// The placeholders that all commands have. The others are for launches.
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

    /// The word in the braces.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatId => "chat_id",
            Self::SessionName => "session_name",
            Self::SessionSlug => "session_slug",
            Self::ContactName => "contact_name",
            Self::Tier => "tier",
            Self::Type => "type",
            Self::Source => "source",
            Self::Model => "model",
            Self::ResumeId => "resume_id",
            Self::NewSessionId => "new_session_id",
            Self::SessionId => "session_id",
        }
    }

    /// The environment variable that has its value.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::ChatId => "RECONCILE_CHAT_ID",
            Self::SessionName => "RECONCILE_SESSION_NAME",
            Self::SessionSlug => "RECONCILE_SESSION_SLUG",
            Self::ContactName => "RECONCILE_CONTACT_NAME",
            Self::Tier => "RECONCILE_TIER",
            Self::Type => "RECONCILE_TYPE",
            Self::Source => "RECONCILE_SOURCE",
            Self::Model => "RECONCILE_MODEL",
            Self::ResumeId => "RECONCILE_RESUME_ID",
            Self::NewSessionId => "RECONCILE_NEW_SESSION_ID",
            Self::SessionId => "RECONCILE_SESSION_ID",
        }
    }

    /// Whether its value identifies a session, a model or a conversation, so that a shortened value could be another's.
    fn identifies(self) -> bool {
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

    /// Whether an argument with it is left out for a session without a value, because no program could use an empty argument.
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

    /// The environment variable and its value for a session; an empty value where the session has none. A field such as a contact's
    /// name is cut where it is too long, and NUL bytes become U+FFFD, so that a name never keeps a command from starting.
    ///
    /// # Errors
    /// Where a value that identifies something is too long or has a NUL byte. Changed, it could identify something else.
    pub(super) fn in_environment(self, session: &Session) -> Result<(&'static str, String), String> {
        let mut value = self.value(session).unwrap_or_default();
        if self.identifies() {
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

/// The last character boundary in the first [`LONGEST`] bytes of a text.
fn end_of_beginning(text: &str) -> usize {
    let ends = 0..=LONGEST.min(text.len());
    ends.rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default()
}
