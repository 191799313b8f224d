//! Which session a model is tried on first, and what waits for that: a model that cannot start must not take the sessions
//! down one by one.

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
    /// Whether a model that no session is known to work on is tried on one session first.
    pub(super) canary: bool,
    pub(super) ledger: &'a Ledger,
    pub(super) selection: &'a Selection,
    /// Chats whose failed starts no longer count.
    pub(super) reset: &'a [String],
    /// What the backend says of models on which no session is known to work.
    pub(super) canaries: &'a BTreeMap<Model, Canary>,
    /// Models on which a session was found to work that should run on it.
    pub(super) working: &'a BTreeMap<Model, String>,
    /// Whether a row's edit and its restart are one request.
    pub(super) is_per_row: bool,
    /// How often a session may be restarted, if there is a limit.
    pub(super) limit: Option<RestartLimit>,
    /// When sessions were lately restarted, by chat id.
    pub(super) made: &'a BTreeMap<String, Vec<Timestamp>>,
    pub(super) now: Timestamp,
}

/// How well a row suits a model to be tried on: the lower, the better. The first difference decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Whether the user does not ask for it to be tried.
    is_not_asked_for: bool,
    /// Whether the model was not tried there before.
    is_new: bool,
    /// Whether its session must be waited for.
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
    /// No session is known to work on it. It was being tried on this chat's when a run died, if any.
    Unproven(Option<&'a str>),
}

impl Rollout<'_> {
    /// Chooses the rows on which models are tried first, and puts off those that must wait for another run.
    pub(super) fn choose(&self, rows: &mut [Row]) {
        for row in rows.iter_mut().filter(|row| is_change(row)) {
            if let Some(outcome) = self.waits_for_next_try(row) {
                self.put_off(row, outcome);
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
                self.put_off(row, outcome);
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

    /// Whether the model of a row may be tried first on its session.
    fn can_be_tried(&self, row: &Row, known: &Known) -> bool {
        let chat = row.chat.id.as_ref();
        match known {
            _ if self.selection.retries(chat) => !matches!(known, Known::Works),
            Known::Works => false,
            Known::FailedOn(tried) | Known::UnhealthyOn(tried) if *tried != chat => false,
            Known::FailedOn(_) | Known::UnhealthyOn(_) | Known::Unproven(_) => self.has_no_way_back(row).is_none(),
        }
    }

    /// That the session of a row did not come up on its model and waits for its next try, if so. Where requests carry models,
    /// one that is not live, because it has not been put back, is put back before.
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

    /// That a model must come up on a session first, where it is tried on none now.
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
        Rank { is_not_asked_for: !self.selection.retries(chat), is_new: !was_tried, is_busy }
    }

    /// Puts a row off. A session that is to be put back is restarted on what it ran: it may be down.
    fn put_off(&self, row: &mut Row, outcome: Outcome) {
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

    /// What the session of a row ran before a restart on another model that did not succeed, where it is not known to run
    /// that again: what the registry still says, or says again; where a request carries the model, what the debt remembers,
    /// because the registry may lag.
    fn way_back(&self, row: &Row) -> Option<Model> {
        let debt = row.owed.as_ref().filter(|debt| debt.began)?;
        let remembered = debt.ran.clone().filter(|_| self.is_per_row);
        let ran = remembered.or_else(|| row.before.clone().filter(|_| row.edit));
        ran.filter(|ran| row.after.as_ref() != Some(ran))
    }

    /// That a model cannot be tried on the session of a row now, because there would be no restart left to put it back.
    fn has_no_way_back(&self, row: &Row) -> Option<Outcome> {
        let RestartLimit { restarts, within } = self.limit?;
        let is_recent = |time: &&Timestamp| self.now.duration_since(**time).abs() < within;
        let mut made: Vec<Timestamp> = self.made.get(row.chat.id.as_ref())?.iter().filter(is_recent).copied().collect();
        made.sort();
        // A try is one restart, and the way back another.
        let spare = restarts.saturating_sub(2);
        let until_one_less = *made.iter().rev().nth(spare)?;
        let (count, minutes) = (made.len(), within.as_mins());
        let why = format!(
            "restarted {count} times in the last {minutes} minutes, with no restart left to put the session back if its model fails"
        );
        Some(Outcome { next_try: until_one_less.checked_add(within).ok(), ..Outcome::because(Verdict::Deferred, why) })
    }
}

/// Whether the session of a row may come to run on another model by it: not one that runs its model after all.
fn is_change(row: &Row) -> bool {
    let runs_it = !row.stale && row.runs.is_some() && row.runs == row.after;
    row.is_planned() && (row.edit || row.restart) && !runs_it
}
