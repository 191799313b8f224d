//! A plan whose chats have pseudonyms, for eyes that may see what changes and not whose chats they are.

use crate::chat::Chat;
use crate::plan::json::{JsonRun, Origin};
use crate::plan::listing::{Listed, Listing};
use crate::plan::{FailedModel, Outcome, Plan, Refusal, Row, id};
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
        let refused = plan.refused.map(Refusal::redacted);
        Self { id: id(&rows), rows, void: void.collect(), failed_models, unlisted, refused, ..plan }
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

impl Refusal {
    /// This refusal without the plan that was named: from the id of one with names, those can be found by trying all.
    fn redacted(self) -> Self {
        match self {
            Self::OtherPlan { differences, is_of_some, .. } => {
                Self::OtherPlan { expected: "the one that was named".to_owned(), differences, is_of_some }
            }
            Self::Limit { .. } | Self::OlderPolicy { .. } => self,
        }
    }
}

impl Row {
    /// This row under pseudonyms. What others wrote is left out.
    #[must_use]
    pub fn redacted(mut self, redaction: &Redaction) -> Self {
        self.because.rule = redaction.rule(&self.because.rule, &self.chat.id);
        self.chat = self.chat.redacted(redaction);
        self.outcome = Outcome::plain(self.outcome.verdict);
        self
    }
}

impl Listing {
    /// The list under pseudonyms, sorted by them.
    #[must_use]
    pub fn redacted(self, redaction: &Redaction) -> Self {
        let redacted = |listed: Listed| Listed {
            because: Because { rule: redaction.rule(&listed.because.rule, &listed.chat.id), ..listed.because },
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
            row.because.rule = redaction.rule(&row.because.rule, &row.chat_id).into();
            // It is the path of then, and which of the files of now that is cannot be told.
            row.because.file = "policy".into();
            let (id, session_name, tier) = (row.chat_id.clone(), row.session_name.clone(), row.tier.clone());
            let chat = Chat { id, session_name, tier, ..Chat::default() }.redacted(redaction);
            (row.chat_id, row.session_name, row.tier) = (chat.id, chat.session_name, chat.tier);
        }
        // The order of the ids would tell something of what pseudonyms stand for.
        self.changes.sort_by(|row, other| row.chat_id.cmp(&other.chat_id));
        self.cancelled.sort();
        self.completed.sort();
        self
    }
}
