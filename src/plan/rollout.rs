//! Which session a model is tried on first, and what waits for that: a model that cannot start must not take the sessions
//! down one by one.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::chat::Model;
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Canary, Standing};
use crate::plan::row::{Outcome, Row};
use crate::plan::select::Selection;
use crate::plan::trial::{FailedStart, Trial};
use crate::plan::verdict::Verdict;

/// A model that did not come up on the session that it was tried on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedModel {
    /// The model.
    pub model: Model,
    /// The chat of that session.
    pub chat: String,
    /// When it first did not come up there.
    pub since: Timestamp,
    /// How often it was tried there.
    pub attempts: u32,
    /// When it is tried there next.
    pub next_try: Option<Timestamp>,
}

/// The models that failed and are not yet cleared. What is about a chat of `reset` is.
pub fn failed_models(ledger: &Ledger, reset: &[String]) -> Vec<FailedModel> {
    let mut models = Vec::new();
    let is_reset = |chat: &str| reset.iter().any(|reset| reset == chat);
    for model in ledger.trials.keys() {
        let Some((chat, failed)) = ledger.failed_on(model, &is_reset) else { continue };
        let FailedStart { model, since, attempts, next_try } = failed.clone();
        models.push(FailedModel { model, chat: chat.to_owned(), since, attempts, next_try });
    }
    models
}

/// What decides on the order of a rollout.
pub(super) struct Rollout<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) selection: &'a Selection,
    /// Chats whose failed starts no longer count.
    pub(super) reset: &'a [String],
    /// What the backend says of models on which no session is known to work.
    pub(super) canaries: &'a BTreeMap<Model, Canary>,
    pub(super) now: Timestamp,
}

/// What is known of the model of a row.
enum Known<'a> {
    /// Sessions work on it.
    Works,
    /// It did not come up on the session of this chat, and is tried on no other.
    FailedOn(&'a str),
    /// The session of this chat runs on it and is not healthy, and no other session is known to work on it.
    UnhealthyOn(&'a str),
    /// No session is known to work on it. It was being tried on this chat's when a run died, if any.
    Unproven(Option<&'a str>),
}

impl Rollout<'_> {
    /// Chooses the rows on which models are tried first, and puts off those that must wait for another run.
    pub(super) fn choose(&self, rows: &mut [Row]) {
        for row in rows.iter_mut().filter(|row| is_change(row)) {
            if let Some(outcome) = self.waits_for_next_try(row) {
                put_off(row, outcome, self.now);
            }
        }
        let canaries = self.canaries(rows);
        for (model, index) in &canaries {
            let is_other = |other: &(usize, &Row)| {
                other.0 != *index && is_change(other.1) && other.1.after.as_ref() == Some(model)
            };
            let others = rows.iter().enumerate().filter(is_other).count();
            let row = &mut rows[*index];
            row.canary = true;
            if others > 0 && row.outcome.detail.is_none() {
                row.outcome.detail = Some(format!("tried first: the others on {model} wait until it has come up"));
            }
        }
        for row in rows.iter_mut().filter(|row| is_change(row)) {
            let is_tried = row.after.as_ref().is_none_or(|model| canaries.contains_key(model));
            if !is_tried && let Some(outcome) = self.waits_for_another(row) {
                put_off(row, outcome, self.now);
            }
        }
    }

    /// The best row for each model that must be tried first.
    fn canaries(&self, rows: &[Row]) -> BTreeMap<Model, usize> {
        let mut canaries: BTreeMap<Model, usize> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| is_change(row) && row.restart) {
            let Some(model) = &row.after else { continue };
            let known = self.known(model);
            if !self.can_be_tried(row, &known) {
                continue;
            }
            let is_better = |earlier: &usize| self.rank(row, &known) < self.rank(&rows[*earlier], &known);
            if canaries.get(model).is_none_or(is_better) {
                canaries.insert(model.clone(), index);
            }
        }
        canaries
    }

    fn known(&self, model: &Model) -> Known<'_> {
        let is_reset = |chat: &str| self.reset.iter().any(|reset| reset == chat) && !self.selection.retries(chat);
        if let Some((chat, _)) = self.ledger.failed_on(model, &is_reset) {
            return Known::FailedOn(chat);
        }
        match (self.ledger.trials.get(model), self.canaries.get(model)) {
            (_, Some(Canary { unhealthy: Some(chat) })) => Known::UnhealthyOn(chat),
            (Some(Trial::Trying(chat)), _) => Known::Unproven(Some(chat)),
            (Some(Trial::Failed), _) | (_, Some(_)) => Known::Unproven(None),
            (Some(Trial::Worked(_)) | None, None) => Known::Works,
        }
    }

    /// Whether the model of a row may be tried first on its session.
    fn can_be_tried(&self, row: &Row, known: &Known) -> bool {
        let chat = row.chat.id.as_ref();
        match known {
            Known::Works => false,
            Known::FailedOn(tried) | Known::UnhealthyOn(tried) => *tried == chat || self.selection.retries(chat),
            Known::Unproven(_) => true,
        }
    }

    /// That the session of a row did not come up on its model and waits for its next try, if so.
    fn waits_for_next_try(&self, row: &Row) -> Option<Outcome> {
        let (chat, model) = (row.chat.id.as_ref(), row.after.as_ref()?);
        let failed = self.ledger.failed.get(chat).filter(|failed| failed.model == *model && failed.waits(self.now))?;
        if self.selection.retries(chat) {
            return None;
        }
        let why = format!("it did not come up on {model} and waits for its next try");
        Some(Outcome { next_try: failed.next_try, ..Outcome::because(Verdict::Deferred, why) })
    }

    /// That a model must come up on another session first, if so.
    fn waits_for_another(&self, row: &Row) -> Option<Outcome> {
        let model = row.after.as_ref()?;
        let why = match self.known(model) {
            Known::Works | Known::Unproven(_) => return None,
            Known::FailedOn(chat) => format!("{model} did not come up on {chat}, and is tried there first"),
            Known::UnhealthyOn(chat) => {
                format!("the session of {chat} is not healthy on {model}, and no other runs on it")
            }
        };
        Some(Outcome::because(Verdict::Deferred, why))
    }

    /// The lower, the better a row is for a model to be tried on: what the user asks to be tried, then where it was tried
    /// before, then what need not be waited for.
    fn rank(&self, row: &Row, known: &Known) -> (bool, bool, bool) {
        let chat = row.chat.id.as_ref();
        let was_tried = matches!(known, Known::Unproven(Some(tried)) | Known::FailedOn(tried) if *tried == chat);
        (!self.selection.retries(chat), !was_tried, row.standing == Standing::Busy)
    }
}

fn is_change(row: &Row) -> bool {
    row.is_planned() && (row.edit || row.restart)
}

/// Puts a row off. A restart that it owes is still made, on what the registry says now: the session may be down.
fn put_off(row: &mut Row, outcome: Outcome, now: Timestamp) {
    let owes_another = row.edit && row.before.is_some() && row.was_tried();
    if owes_another && row.owed.as_ref().is_some_and(|debt| !debt.waits(now)) {
        row.edit = false;
        row.restart = true;
        row.after.clone_from(&row.before);
    } else {
        row.outcome = outcome;
    }
}
