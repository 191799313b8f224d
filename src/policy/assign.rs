//! `[[assign]]`: the tier of chats that have none in the registry.

use std::borrow::Cow;

use crate::chat::Chat;
use crate::diagnostic::Diagnostic;
use crate::policy::fields::{Item, Section};
use crate::policy::read::Reader;
use crate::policy::{At, Because, Glob, Policy};

/// One `[[assign]]` entry: a tier, and the chats that get it.
#[derive(Debug)]
pub struct Assignment {
    /// The tier that its chats get.
    pub tier: String,
    /// The chats that get the tier. There is at least one member.
    pub members: Vec<Member>,
    /// Where the entry begins.
    pub because: Because,
}

/// One value of the keys `chat` and `contact` of an assignment.
#[derive(Debug)]
pub struct Member {
    /// The chats that it stands for.
    pub who: Who,
    /// Where it stands in the policy.
    pub at: At,
}

/// The chats that a member of an assignment stands for.
#[derive(Debug)]
pub enum Who {
    /// The chats whose ids match this glob.
    Chats(Glob),
    /// The chats of a contact of this name.
    Contact(String),
}

impl Who {
    /// Whether it stands for this chat.
    pub fn is(&self, chat: &Chat) -> bool {
        match self {
            Self::Chats(glob) => glob.matches(&chat.id),
            Self::Contact(name) => chat.contact_name.as_deref() == Some(name),
        }
    }
}

impl Policy {
    /// The assignment that gives a tier to the chat; `None` where none does, or the chat has a tier already.
    pub fn assignment(&self, chat: &Chat) -> Option<&Assignment> {
        if chat.tier.is_some() {
            return None;
        }
        self.assignments.iter().find(|assignment| assignment.members.iter().any(|member| member.who.is(chat)))
    }

    /// The chat with its tier from the registry, or else from an assignment. A tier that has a pseudonym in the registry gets
    /// its name in this policy.
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
        members.extend(self.members(&mut table, "chat", r#"chat = ["+1617*"]"#, |glob| Who::Chats(Glob::new(&glob))));
        members.extend(self.members(&mut table, "contact", r#"contact = ["Ann Lee"]"#, Who::Contact));
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

    /// The members that a key names: one string that is not empty, or a list of them.
    fn members(
        &self,
        table: &mut Section<'r>,
        key: &'static str,
        example: &str,
        who: impl Fn(String) -> Who,
    ) -> Vec<Member> {
        let items = table.get(self.mistakes, key).and_then(|item| item.strings(self.mistakes, example));
        let member = |item: &Item<'r>| {
            let at = item.source.at(item.span.clone());
            Some(Member { who: who(self.text(item, example)?), at })
        };
        items.iter().flatten().filter_map(member).collect()
    }
}
