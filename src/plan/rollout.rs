//! Chooses the session on which a model is tried first, and the rows that wait for the result, so that a model that cannot start does
//! not take down one session after the other.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::chat::Model;
use crate::plan::capabilities::RestartLimit;
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

/// The models that failed and have not come up since. Failed starts on chats in `reset` no longer count.
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

/// What the order of a rollout depends on.
pub(super) struct Rollout<'a> {
    /// Whether a model that no session is known to work on is tried on one session first.
    pub(super) canary: bool,
    pub(super) ledger: &'a Ledger,
    pub(super) selection: &'a Selection,
    /// Chats whose failed starts no longer count.
    pub(super) reset: &'a [String],
    /// Models on which no session is known to work, according to the backend.
    pub(super) canaries: &'a BTreeMap<Model, Canary>,
    /// Models on which a session was found to work, each with the chat of that session.
    pub(super) working: &'a BTreeMap<Model, String>,
    /// Whether a row's edit and its restart are one request.
    pub(super) is_per_row: bool,
    /// How often a session may be restarted, if there is a limit.
    pub(super) limit: Option<RestartLimit>,
    /// The times at which sessions were recently restarted, by chat id.
    pub(super) recent_restarts: &'a BTreeMap<String, Vec<Timestamp>>,
    pub(super) now: Timestamp,
}

/// How suitable a row is as a canary. The lowest rank is the best. The first field that differs decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Whether the user has not asked for a retry of the chat.
    is_not_retried: bool,
    /// Whether the model was not tried on the chat before.
    is_new: bool,
    /// Whether the run has to wait for the session.
    is_busy: bool,
}

/// What is known of the model of a row.
enum Known<'a> {
    /// Sessions work on it.
    Works,
    /// It did not come up on the session of this chat, and is tried on no other.
    FailedOn(&'a str),
    /// The session of this chat runs on it and is not healthy, and no other session is known to work on it.
    UnhealthyOn(&'a str),
    /// No session is known to work on it. If a run died while trying it, it was on this chat.
    Unproven(Option<&'a str>),
}

impl Rollout<'_> {
    /// Marks the rows on which models are tried first, and defers the rows that must wait for another run.
    pub(super) fn choose(&self, rows: &mut [Row]) {
        for row in rows.iter_mut().filter(|row| is_change(row)) {
            if let Some(outcome) = self.waits_for_next_try(row) {
                self.defer(row, outcome);
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
            if !is_tried && let Some(outcome) = self.waits_for_a_trial(row) {
                self.defer(row, outcome);
            }
        }
    }

    /// The index of the best row for each model that must be tried first.
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

    /// What is known of a model: what the backend sees now counts before what the ledger remembers.
    fn known(&self, model: &Model) -> Known<'_> {
        if self.working.contains_key(model) {
            return Known::Works;
        }
        let is_reset = |chat: &str| self.reset.iter().any(|reset| reset == chat) && !self.selection.retries(chat);
        if let Some((chat, _)) = self.ledger.failed_on(model, &is_reset) {
            return Known::FailedOn(chat);
        }
        match (self.ledger.trials.get(model), self.canaries.get(model)) {
            (_, Some(Canary { unhealthy: Some(chat) })) => Known::UnhealthyOn(chat),
            _ if !self.canary => Known::Works,
            (Some(Trial::Trying(chat)), _) => Known::Unproven(Some(chat)),
            (Some(Trial::Failed), _) | (_, Some(_)) => Known::Unproven(None),
            (Some(Trial::Worked(_)) | None, None) => Known::Works,
        }
    }

    /// Whether a row can be the canary of its model.
    fn can_be_tried(&self, row: &Row, known: &Known) -> bool {
        let chat = row.chat.id.as_ref();
        match known {
            _ if self.selection.retries(chat) => !matches!(known, Known::Works),
            Known::Works => false,
            Known::FailedOn(tried) | Known::UnhealthyOn(tried) if *tried != chat => false,
            Known::FailedOn(_) | Known::UnhealthyOn(_) | Known::Unproven(_) => self.has_no_way_back(row).is_none(),
        }
    }

    /// The outcome of a row whose session did not come up on its model, and must wait before that model is tried again; `None` where
    /// it need not wait. With edits per row, a session that is not live is first put back on its former model.
    fn waits_for_next_try(&self, row: &Row) -> Option<Outcome> {
        let (chat, model) = (row.chat.id.as_ref(), row.after.as_ref()?);
        let failed = self.ledger.failed.get(chat).filter(|failed| failed.model == *model)?;
        if row.standing == Standing::NotRunning && !row.was_tried() {
            let why = format!("it did not come up on {model}, and is tried again once it is running");
            return Some(Outcome::because(Verdict::Deferred, why));
        }
        let is_live = matches!(row.standing, Standing::Live | Standing::Busy);
        let goes_back = self.is_per_row && !is_live && self.way_back(row).is_some();
        let waits = failed.waits(self.now) || goes_back;
        if !waits || self.selection.retries(chat) {
            return None;
        }
        let why = format!("it did not come up on {model} and waits for its next try");
        Some(Outcome { next_try: failed.next_try, ..Outcome::because(Verdict::Deferred, why) })
    }

    /// The outcome of a row whose model must first come up on a session, and is tried on none in this run; `None` where it need not.
    fn waits_for_a_trial(&self, row: &Row) -> Option<Outcome> {
        let model = row.after.as_ref()?;
        let why = match self.known(model) {
            Known::Works => return None,
            Known::Unproven(_) => return self.has_no_way_back(row).filter(|_| row.restart),
            Known::FailedOn(chat) | Known::UnhealthyOn(chat) if chat == row.chat.id && row.restart => {
                return self.has_no_way_back(row);
            }
            Known::FailedOn(chat) => format!("{model} did not come up on {chat}, and is tried there first"),
            Known::UnhealthyOn(chat) => {
                format!("the session of {chat} is not healthy on {model}, and no other runs on it")
            }
        };
        Some(Outcome::because(Verdict::Deferred, why))
    }

    fn rank(&self, row: &Row, known: &Known) -> Rank {
        let chat = row.chat.id.as_ref();
        let was_tried = matches!(known, Known::Unproven(Some(tried)) | Known::FailedOn(tried) if *tried == chat);
        let is_busy = row.standing == Standing::Busy;
        Rank { is_not_retried: !self.selection.retries(chat), is_new: !was_tried, is_busy }
    }

    /// Defers a row. If its session may be down on a model that failed, the row is changed to restart it on its former model.
    fn defer(&self, row: &mut Row, outcome: Outcome) {
        let is_due = row.owed.as_ref().is_some_and(|debt| !debt.waits(self.now));
        match self.way_back(row).filter(|_| is_due) {
            Some(ran) => {
                row.edit = false;
                row.restart = true;
                row.after = Some(ran);
            }
            None => row.outcome = outcome,
        }
    }

    /// The model that the session of a row ran before a restart on another model that did not succeed; `None` where there was no such
    /// restart. It is the model of the registry. With edits per row it is the one in the debt, because the registry may be saved late.
    fn way_back(&self, row: &Row) -> Option<Model> {
        let debt = row.owed.as_ref().filter(|debt| debt.began)?;
        let remembered = debt.ran.clone().filter(|_| self.is_per_row);
        let ran = remembered.or_else(|| row.before.clone().filter(|_| row.edit));
        ran.filter(|ran| row.after.as_ref() != Some(ran))
    }

    /// The outcome of a row on whose session no model can be tried now, because no restart would be left to put it back; `None` where
    /// one is left.
    fn has_no_way_back(&self, row: &Row) -> Option<Outcome> {
        let RestartLimit { restarts, within } = self.limit?;
        let is_recent = |time: &&Timestamp| self.now.duration_since(**time).abs() < within;
        let restarted = self.recent_restarts.get(row.chat.id.as_ref())?;
        let mut recent: Vec<Timestamp> = restarted.iter().filter(is_recent).copied().collect();
        recent.sort();
        // A try takes one restart, and the way back another.
        let allowed_before = restarts.saturating_sub(2);
        // When this restart is no longer recent, one restart more is left.
        let oldest_to_wait_for = *recent.iter().rev().nth(allowed_before)?;
        let (count, minutes) = (recent.len(), within.as_mins());
        let why = format!(
            "restarted {count} times in the last {minutes} minutes, with no restart left to put the session back if its model fails"
        );
        let next_try = oldest_to_wait_for.checked_add(within).ok();
        Some(Outcome { next_try, ..Outcome::because(Verdict::Deferred, why) })
    }
}

/// Whether doing a row may make its session run on another model than now.
fn is_change(row: &Row) -> bool {
    let runs_it = !row.stale && row.runs.is_some() && row.runs == row.after;
    row.is_planned() && (row.edit || row.restart) && !runs_it
}
