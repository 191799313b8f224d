//! A plan whose chats have pseudonyms, for eyes that may see what changes and not whose chats they are.

use crate::chat::Chat;
use crate::plan::json::{JsonRun, Origin};
use crate::plan::listing::{Listed, Listing};
use crate::plan::{FailedModel, Outcome, Plan, Row, id};
use crate::policy::Because;
use crate::redact::Redaction;

impl Plan {
    /// This plan under pseudonyms, sorted and identified by them: what a plan made for a redacted registry shows.
    #[must_use]
    pub fn redacted(&self, redaction: &Redaction) -> Self {
        let plan = self.clone().without_details();
        let mut rows: Vec<Row> = plan.rows.into_iter().map(|row| row.redacted(redaction)).collect();
        rows.sort_by(|a, b| a.chat.id.cmp(&b.chat.id));
        let void = plan.void.iter().map(|(chat, why)| (redaction.chat(chat), *why));
        let failed = plan.failed_models.iter();
        let mut failed_models: Vec<FailedModel> =
            failed.map(|failed| FailedModel { chat: redaction.chat(&failed.chat), ..failed.clone() }).collect();
        failed_models.sort_by(|a, b| (&a.model, &a.chat).cmp(&(&b.model, &b.chat)));
        let mut unlisted: Vec<String> = plan.unlisted.iter().map(|chat| redaction.chat(chat)).collect();
        unlisted.sort();
        Self { id: id(&rows), rows, void: void.collect(), failed_models, unlisted, ..plan }
    }

    /// This plan without what others wrote, such as reasons and complaints of commands.
    #[must_use]
    pub(crate) fn without_details(mut self) -> Self {
        for row in &mut self.rows {
            row.outcome = Outcome::plain(row.outcome.verdict);
            // The first by its real name: that would tell how the names are sorted.
            row.canary = false;
        }
        self
    }
}

impl Row {
    /// This row under pseudonyms. What others wrote is left out.
    #[must_use]
    pub fn redacted(mut self, redaction: &Redaction) -> Self {
        self.because = redacted_because(self.because, &self.chat, redaction);
        self.chat = self.chat.redacted(redaction);
        self.outcome = Outcome::plain(self.outcome.verdict);
        self
    }
}

/// What decided on a chat. The name of an override holds the chat's id.
fn redacted_because(because: Because, chat: &Chat, redaction: &Redaction) -> Because {
    let is_override = because.rule.starts_with("chats.");
    let rule = if is_override { format!("chats.{:?}", redaction.chat(&chat.id)) } else { because.rule };
    Because { rule, ..because }
}

impl Listing {
    /// The list under pseudonyms, sorted by them.
    #[must_use]
    pub fn redacted(self, redaction: &Redaction) -> Self {
        let redacted = |listed: Listed| Listed {
            because: redacted_because(listed.because, &listed.chat, redaction),
            chat: listed.chat.redacted(redaction),
            ..listed
        };
        let mut chats: Vec<Listed> = self.chats.into_iter().map(redacted).collect();
        chats.sort_by(|a, b| a.chat.id.cmp(&b.chat.id));
        Self { chats, ..self }
    }
}

impl JsonRun<'_> {
    /// This run under pseudonyms, without who and where it ran.
    #[must_use]
    pub fn redacted(mut self, redaction: &Redaction) -> Self {
        self.plan_id = redaction.plan(&self.plan_id).into();
        self.by = Origin { user: None, uid: None, host: None, overrides: Vec::new(), ..self.by };
        self.conversations.clear();
        for chat in self.cancelled.iter_mut().chain(&mut self.completed) {
            *chat = redaction.chat(chat).into();
        }
        for row in &mut self.changes {
            let chat = Chat { id: row.chat_id.clone(), session_name: row.session_name.clone(), ..Chat::default() };
            let chat = chat.redacted(redaction);
            if row.because.rule.starts_with("chats.") {
                row.because.rule = format!("chats.{:?}", chat.id).into();
            }
            (row.chat_id, row.session_name) = (chat.id, chat.session_name);
        }
        // The order of the ids would tell something of what pseudonyms stand for.
        self.changes.sort_by(|row, other| row.chat_id.cmp(&other.chat_id));
        self.cancelled.sort();
        self.completed.sort();
        self
    }
}
