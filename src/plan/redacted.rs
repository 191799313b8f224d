//! Plans, listings and runs with pseudonyms, for readers who may see what changes, but not whose chats these are.

use crate::chat::Chat;
use crate::plan::json::{JsonRun, Origin};
use crate::plan::listing::{Listed, Listing};
use crate::plan::{FailedModel, Outcome, Plan, Refusal, Row, id};
use crate::policy::Because;
use crate::redact::{Redact, Redaction};

impl Redact for Plan {
    /// This plan with pseudonyms. Its rows are sorted by them and its id is made of them, so that it equals the plan on a redacted
    /// snapshot of the registry.
    fn redacted(self, redaction: &Redaction) -> Self {
        let plan = self.without_details();
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
}

impl Plan {
    /// This plan without the details of outcomes, which may quote names and the output of commands.
    #[must_use]
    pub(crate) fn without_details(mut self) -> Self {
        for row in &mut self.rows {
            row.outcome = Outcome::plain(row.outcome.verdict);
            // The canary is the first row by real names, so it would reveal something of their order.
            row.canary = false;
        }
        self
    }
}

impl Refusal {
    /// This refusal without the id of the named plan. If that plan has real names, they could be found from its id by
    /// trying all.
    fn redacted(self) -> Self {
        match self {
            Self::OtherPlan { differences, is_of_some, .. } => {
                Self::OtherPlan { expected: "the one that was named".to_owned(), differences, is_of_some }
            }
            Self::Limit { .. } | Self::OlderPolicy { .. } => self,
        }
    }
}

impl Redact for Row {
    /// This row with pseudonyms, and without the detail of its outcome.
    fn redacted(mut self, redaction: &Redaction) -> Self {
        self.because.rule = redaction.rule(&self.because.rule, &self.chat.id);
        self.chat = self.chat.redacted(redaction);
        self.outcome = Outcome::plain(self.outcome.verdict);
        self
    }
}

impl Redact for Listing {
    /// The listing with pseudonyms, sorted by them.
    fn redacted(self, redaction: &Redaction) -> Self {
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

impl Redact for JsonRun<'_> {
    /// This run with pseudonyms, and without the user and the host.
    fn redacted(mut self, redaction: &Redaction) -> Self {
        self.plan_id = redaction.plan(&self.plan_id).into();
        self.by = Origin { user: None, uid: None, host: None, overrides: Vec::new(), ..self.by };
        self.conversations.clear();
        for chat in self.cancelled.iter_mut().chain(&mut self.completed) {
            *chat = redaction.chat(chat).into();
        }
        for row in &mut self.changes {
            row.because.rule = redaction.rule(&row.because.rule, &row.chat_id).into();
            // The history has the path of that time, which may name a person. Its position in today's policy is not known.
            row.because.file = "policy".into();
            let (id, session_name, tier) = (row.chat_id.clone(), row.session_name.clone(), row.tier.clone());
            let chat = Chat { id, session_name, tier, ..Chat::default() }.redacted(redaction);
            (row.chat_id, row.session_name, row.tier) = (chat.id, chat.session_name, chat.tier);
        }
        // The order of the real ids would reveal something about them.
        self.changes.sort_by(|row, other| row.chat_id.cmp(&other.chat_id));
        self.cancelled.sort();
        self.completed.sort();
        self
    }
}
