//! One chat, as the registry describes it, and the model it runs on.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a model, such as `opus`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Model(String);

impl Model {
    /// The longest name that a policy can declare, in bytes. There is a limit because every row of a report repeats the name.
    pub const LONGEST: usize = 4096;

    /// A model of this name; `None` for the empty name, which means "no model" in a registry.
    pub fn new(name: &str) -> Option<Self> {
        (!name.is_empty()).then(|| Self(name.to_owned()))
    }

    /// A model of this name; `None` where no policy can declare it: an empty name, one with blanks or control characters, or
    /// one of more than [`Model::LONGEST`] bytes.
    pub fn declarable(name: &str) -> Option<Self> {
        let is_usable = name.len() <= Self::LONGEST && !name.chars().any(|c| c.is_control() || c.is_whitespace());
        Self::new(name).filter(|_| is_usable)
    }

    /// Whether the name can be an argument of a command: no program takes it for an option, or for code.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte);
        self.0.bytes().all(plain) && !self.0.starts_with('-')
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The longest id of a conversation, in characters. Claude Code's are UUIDs, with 36.
const LONGEST_SESSION_ID: usize = 128;

/// Whether this can be the id of a session's conversation. The id is put into a path and into an argument, so it may have only
/// characters of `[A-Za-z0-9_-]`: 1 to 128 of them.
pub fn is_session_id(text: &str) -> bool {
    (1..=LONGEST_SESSION_ID).contains(&text.len()) && text.bytes().all(is_slug_byte)
}

/// Whether supervisors accept this byte in the name of a session.
pub(crate) fn is_slug_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The fields of one chat that conditions, commands and reports use. An empty field of the registry is `None`.
///
/// Borrowed from the registry's text while it is scanned, owned in the rows of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chat<'a> {
    /// The key of its entry: a phone number, `discord:…`, a group's hash.
    pub id: Cow<'a, str>,
    /// `session_name`, such as `imessage/_16175550142`.
    pub session_name: Option<Cow<'a, str>>,
    /// `contact_name` of a person, `display_name` of a group.
    pub contact_name: Option<Cow<'a, str>>,
    /// `tier`; groups have none.
    pub tier: Option<Cow<'a, str>>,
    /// `type`: `individual` or `group`.
    pub kind: Option<Cow<'a, str>>,
    /// `source`: `imessage`, `signal`, `discord`, …
    pub source: Option<Cow<'a, str>>,
    /// `agent`: which agent answers it.
    pub agent: Option<Cow<'a, str>>,
    /// `account`: through which account of ours it comes.
    pub account: Option<Cow<'a, str>>,
}

impl Chat<'_> {
    /// This chat, independent of the text it was read from.
    pub fn into_owned(self) -> Chat<'static> {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Chat {
            id: Cow::Owned(self.id.into_owned()),
            session_name: own(self.session_name),
            contact_name: own(self.contact_name),
            tier: own(self.tier),
            kind: own(self.kind),
            source: own(self.source),
            agent: own(self.agent),
            account: own(self.account),
        }
    }

    /// The session's name as supervisors accept it: every byte outside `[A-Za-z0-9_-]` is a `-`. `None` without a name.
    pub fn slug(&self) -> Option<String> {
        let name = self.session_name.as_deref()?;
        Some(name.bytes().map(|byte| if is_slug_byte(byte) { char::from(byte) } else { '-' }).collect())
    }

    /// The name that a person knows it by: the session's, else the chat id.
    pub fn label(&self) -> &str {
        self.session_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.id)
    }
}
