//! The fields of an entry that mean something here, put together to an [`Entry`] for either reader.

use std::borrow::Cow;
use std::ops::Range;

use crate::chat::Chat;
use crate::registry::{Entry, Site};

/// A field of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Model,
    Tier,
    SessionName,
    ContactName,
    DisplayName,
    Kind,
    Source,
    SessionId,
    ResumeId,
    /// One that nobody asks for.
    Other,
}

impl Field {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "model" => Self::Model,
            "tier" => Self::Tier,
            "session_name" => Self::SessionName,
            "contact_name" => Self::ContactName,
            "display_name" => Self::DisplayName,
            "type" => Self::Kind,
            "source" => Self::Source,
            "session_id" => Self::SessionId,
            "resume_id" => Self::ResumeId,
            _ => Self::Other,
        }
    }

    /// The place among those that may stand once only, and hold a string or `null` only.
    pub(super) fn strict(self) -> Option<usize> {
        [Self::Model, Self::Tier].iter().position(|strict| *strict == self)
    }
}

/// An entry of which some fields have been read.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) chat: Chat<'a>,
    site: Site,
    model: Option<Cow<'a, str>>,
    display_name: Option<Cow<'a, str>>,
    session_id: Option<Cow<'a, str>>,
    resume_id: Option<Cow<'a, str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(id: Cow<'a, str>, site: Site) -> Self {
        let chat = Chat { id, ..Chat::default() };
        Self { chat, site, model: None, display_name: None, session_id: None, resume_id: None }
    }

    /// Takes what a field holds: where, and what it says if that is a string with anything in it. Of several the last
    /// counts.
    pub(super) fn set(&mut self, field: Field, range: Range<usize>, text: Option<Cow<'a, str>>) {
        let text = text.filter(|text| !text.is_empty());
        match field {
            Field::Model => {
                self.site.model = Some(range);
                self.model = text;
            }
            Field::Tier => self.chat.tier = text,
            Field::SessionName => self.chat.session_name = text,
            Field::ContactName => self.chat.contact_name = text,
            Field::DisplayName => self.display_name = text,
            Field::Kind => self.chat.kind = text,
            Field::Source => self.chat.source = text,
            Field::SessionId => self.session_id = text,
            Field::ResumeId => self.resume_id = text,
            Field::Other => {}
        }
    }

    /// The entry, which ends at `end`.
    pub(super) fn entry(self, end: usize) -> Entry<'a> {
        let Self { chat, site, model, display_name, session_id, resume_id } = self;
        let chat = Chat { contact_name: chat.contact_name.or(display_name), ..chat };
        Entry { chat, model, resume: session_id.or(resume_id), site: Site { entry: site.entry.start..end, ..site } }
    }
}
