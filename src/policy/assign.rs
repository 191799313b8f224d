//! `[[assign]]`: the tier of chats of which the registry tells none.

use std::borrow::Cow;

use crate::chat::Chat;
use crate::diagnostic::Diagnostic;
use crate::policy::fields::{Item, Section};
use crate::policy::read::Reader;
use crate::policy::{At, Because, Glob, Policy};

/// One `[[assign]]` entry: a tier, and whom it is for.
#[derive(Debug)]
pub struct Assignment {
    /// The tier.
    pub tier: String,
    /// Whom it is for, and where that stands. There is at least one.
    pub members: Vec<(Member, At)>,
    /// Where the entry begins.
    pub because: Because,
}

/// Whom an assignment is for.
#[derive(Debug)]
pub enum Member {
    /// The chats whose ids match.
    Chats(Glob),
    /// The chats of a contact of this name.
    Contact(String),
}

impl Member {
    /// Whether the chat is one of those that are meant.
    pub fn is(&self, chat: &Chat) -> bool {
        match self {
            Self::Chats(glob) => glob.matches(&chat.id),
            Self::Contact(name) => chat.contact_name.as_deref() == Some(name),
        }
    }
}

impl Policy {
    /// What gives a tier to the chat; `None` where it has one already.
    pub fn assignment(&self, chat: &Chat) -> Option<&Assignment> {
        if chat.tier.is_some() {
            return None;
        }
        self.assignments.iter().find(|assignment| assignment.members.iter().any(|(member, _)| member.is(chat)))
    }

    /// The chat with the tier that it has, or is given.
    #[must_use]
    pub(crate) fn with_tier<'x>(&'x self, mut chat: Chat<'x>) -> Chat<'x> {
        let assigned = self.assignment(&chat).map(|assignment| Cow::Borrowed(assignment.tier.as_str()));
        chat.tier = chat.tier.or(assigned);
        if let Some(declared) = chat.tier.as_deref().and_then(|tier| self.redacted_tiers.get(tier)) {
            chat.tier = Some(Cow::Borrowed(declared));
        }
        chat
    }
}

impl<'r> Reader<'r> {
    /// Reads the entries.
    pub(super) fn assignments(&self, whole: &mut Section<'r>) -> Vec<Assignment> {
        let tables = whole.tables(self.mistakes, "assign", "an array of tables: [[assign]]");
        tables.into_iter().filter_map(|table| self.assignment(table)).collect()
    }

    fn assignment(&self, mut table: Section<'r>) -> Option<Assignment> {
        const TIER: &str = r#"tier = "family""#;
        let tier = self.required(&mut table, "tier", TIER);
        let tier = tier.and_then(|item| self.text(&item, TIER));
        let mut members = Vec::new();
        for item in self.texts(&mut table, "chat", r#"chat = ["+1617*"]"#) {
            members.push((Member::Chats(Glob::new(&item.0)), item.1));
        }
        for item in self.texts(&mut table, "contact", r#"contact = ["Ann Lee"]"#) {
            members.push((Member::Contact(item.0), item.1));
        }
        let because = Because { rule: table.name.clone(), at: table.at()? };
        if members.is_empty() {
            self.mistakes.add(|| {
                let message = format!("`{}` names no chat and no contact", table.name);
                let place = table.place().unwrap_or_else(|| self.start());
                Diagnostic::error("missing-key", message, place, "")
                    .help(r#"add chat = ["+1617*"], or contact = ["Ann Lee"]"#)
            });
        }
        table.finish(self.mistakes);
        Some(Assignment { tier: tier?, members, because })
    }

    /// One string that is not empty or a list of them, and where each stands.
    fn texts(&self, table: &mut Section<'r>, key: &'static str, example: &str) -> Vec<(String, At)> {
        let items = table.get(self.mistakes, key).and_then(|item| item.strings(self.mistakes, example));
        let text = |item: &Item<'r>| Some((self.text(item, example)?, item.source.at(item.span.clone())));
        items.iter().flatten().filter_map(text).collect()
    }
}
