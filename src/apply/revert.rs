//! Reverts after a wave: a session that was running and did not come up on its new model is put back on its former
//! model. When a rollout stops, edits whose sessions were not restarted are taken back.

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::backend::{Ask, Attempt};
use crate::apply::batch::{Batch, Change, Committed, Owes, PlannedOn};
use crate::apply::planned::{PLANS, Planned};
use crate::apply::problem::{ApplyProblem, During};
use crate::apply::watch::Watch;
use crate::apply::wave::Run;
use crate::apply::workers::{Purpose, Workers};
use crate::chat::Model;
use crate::error::Result;
use crate::plan::json::JsonRow;
use crate::plan::ledger::{Debt, Note};
use crate::plan::{Outcome, Row, Verdict};
use crate::policy::Policy;
use crate::registry::{Key, Position};

/// A row whose entry is put back.
struct Back {
    /// The index of the row in the plan.
    index: usize,
    /// The former model, which the entry gets again; `None` where it had none.
    to: Option<Model>,
    then: Then,
}

/// The present entry of a row that is to be put back.
struct Present {
    at: Position,
    /// Its model, by the name that the policy has for it.
    model: Option<String>,
}

/// What happens to the session of a row that is put back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is restarted.
    Restart,
    /// Nothing: it was not touched.
    Leave,
}

impl Run<'_> {
    /// Reverts the rows of a wave that are in a bad state after these attempts.
    pub(super) fn revert(&mut self, wave: &[usize], attempts: &BTreeMap<usize, Attempt>) {
        let mut left: Vec<Back> = wave.iter().filter_map(|index| self.back(*index, attempts.get(index)?)).collect();
        let mut backs = Vec::new();
        while !left.is_empty() {
            let others = left.split_off(left.len().min(self.at_once()));
            let mut batch = std::mem::replace(&mut left, others);
            match self.commit_backs(&mut batch) {
                Ok(()) => backs.extend(batch),
                Err(error) => {
                    self.error.get_or_insert(error);
                    break;
                }
            }
        }
        if !backs.is_empty() {
            self.restart_backs(&backs);
        }
    }

    /// How a row is put back after this attempt; `None` where it stays.
    fn back(&self, index: usize, attempt: &Attempt) -> Option<Back> {
        let row = &self.planned.plan.rows[index];
        let is_stopped = self.has_stopped() && !self.interrupted && self.error.is_none();
        match attempt {
            Attempt::Unhealthy(_) if self.input.policy.rollout.auto_revert => {
                let to = match ran(row) {
                    Ran::Model(model) => Some(model),
                    // A request carries a model: the one that the session ran without having one.
                    Ran::NoModel => row.runs.clone().filter(|_| self.is_per_row()),
                    Ran::Unknown => return None,
                };
                Some(Back { index, to, then: Then::Restart })
            }
            Attempt::NotBegun if is_stopped && row.effects.edited && row.edit => {
                Some(Back { index, to: row.before.clone(), then: Then::Leave })
            }
            _ => None,
        }
    }

    /// Puts the entries of a batch back, in a commit of their own. An entry that something else has changed since is left alone,
    /// and dropped from `backs`.
    fn commit_backs(&mut self, backs: &mut Vec<Back>) -> Result<()> {
        for _ in 0..PLANS {
            let reading = self.context.backend.read(Ask::Everything)?;
            let rows = &self.planned.plan.rows;
            let sought: BTreeSet<&str> = backs.iter().map(|back| rows[back.index].chat.id.as_ref()).collect();
            let mut found: BTreeMap<String, Present> = BTreeMap::new();
            reading.snapshot.find(&[Key::Id], &sought, &mut |entry| {
                let model = entry.model.map(|model| self.input.policy.canonical(&model).to_owned());
                found.insert(entry.chat.id.into_owned(), Present { at: entry.at, model });
            })?;
            backs.retain(|back| {
                let row = &rows[back.index];
                let model = found.get(row.chat.id.as_ref()).map(|present| present.model.as_deref());
                model == Some(row.after.as_ref().map(Model::as_str))
            });
            let mut batch = Batch {
                changes: Vec::new(),
                notes: Vec::new(),
                void: Vec::new(),
                now: self.context.watch.now(self.input.now.timestamp()),
            };
            let told: BTreeMap<usize, JsonRow> =
                backs.iter().map(|back| (back.index, as_put_back(&rows[back.index]))).collect();
            for Back { index, to, .. } in &*backs {
                let row = &rows[*index];
                let chat = row.chat.id.as_ref();
                let Some(Present { at, .. }) = found.get(chat) else { continue };
                // A session that was not restarted owes a restart, too: a launch or a supervisor may have started it on
                // the model that the entry had meanwhile.
                let owes = Some(Owes { ran: None, identity: None, planned_on: PlannedOn::NoDebt });
                if !self.is_per_row() {
                    batch.changes.push(Change { chat, at: *at, after: to.as_ref(), owes });
                    let edit = self.record.as_ref().zip(told.get(index));
                    batch.notes.extend(edit.map(|(record, row)| Note::Edits { record, row }));
                }
                batch.notes.push(Note::Reverted { chat });
                if let Some(model) = to.as_ref().filter(|_| self.input.policy.existing.keeps_manual()) {
                    batch.notes.push(Note::Wrote { chat, model, before: row.after.as_ref() });
                }
            }
            match self.context.locked.commit(&reading, &batch)? {
                Committed::Stale => {}
                Committed::NotTaken(outcomes) => self.leave_as_they_are(backs, |chat| outcomes.get(chat)),
                Committed::Blocked(outcome) => self.leave_as_they_are(backs, |_| Some(&outcome)),
                Committed::Done { error } => {
                    self.error = self.error.take().or(error);
                    let Planned { plan, .. } = &mut self.planned;
                    for back in &*backs {
                        plan.found.forget(plan.rows[back.index].chat.id.as_ref());
                    }
                    return Ok(());
                }
            }
        }
        Err(ApplyProblem::Replaced { times: PLANS, during: During::Revert }.into())
    }

    /// Drops the rows that get an outcome, because they cannot be put back, and adds that to their details. They still owe the
    /// restarts that failed.
    fn leave_as_they_are<'o>(&mut self, backs: &mut Vec<Back>, outcome: impl Fn(&str) -> Option<&'o Outcome>) {
        let rows = &mut self.planned.plan.rows;
        backs.retain(|Back { index, to, .. }| {
            let row = &mut rows[*index];
            let Some(outcome) = outcome(&row.chat.id) else { return true };
            let detail = |outcome: &Outcome| outcome.detail.clone().unwrap_or_default();
            let to = to.as_ref().map_or("no model", Model::as_str);
            let both = format!("{}; not reverted to {to}: {}", detail(&row.outcome), detail(outcome));
            row.outcome.detail = Some(both);
            false
        });
    }

    /// Restarts the sessions that were put back and are to be restarted, and sets the outcomes of all rows.
    fn restart_backs(&mut self, backs: &[Back]) {
        let rows: Vec<Row> = backs.iter().map(|back| self.put_back(back)).collect();
        let todo: Vec<usize> = (0..backs.len()).filter(|at| backs[*at].then == Then::Restart).collect();
        let workers = Workers {
            rows: &rows,
            watch: &ToTheEnd(self.context.watch),
            failures_left: usize::MAX,
            purpose: Purpose::Revert,
            ..self.workers()
        };
        let mut ended = workers.converge(&todo);
        self.error = self.error.take().or(ended.error.take());
        let is_per_row = self.is_per_row();
        for (at, back) in backs.iter().enumerate() {
            let row = &mut self.planned.plan.rows[back.index];
            let attempt = ended.attempts.get(&at);
            // With edits per row, the entry is put back by the request that restarts the session.
            row.effects.edited &= is_per_row && !matches!(attempt, Some(Attempt::Changed));
            if back.then == Then::Leave {
                row.effects.owes = true;
                continue;
            }
            let to = back.to.as_ref().map_or("no model", Model::as_str);
            let why = row.outcome.detail.take().unwrap_or_default();
            let detail = match attempt {
                Some(Attempt::Changed | Attempt::NotNeeded(_)) => format!("reverted to {to}: {why}"),
                Some(Attempt::Deferred(again) | Attempt::Unavailable(again) | Attempt::NotSent(again))
                    if is_per_row =>
                {
                    format!("{why}; not reverted to {to}: {again}")
                }
                Some(Attempt::Refused(again)) => format!("{why}; not reverted to {to} yet: {again}"),
                Some(
                    Attempt::Failed(again)
                    | Attempt::Unhealthy(again)
                    | Attempt::StillDown(again)
                    | Attempt::Unknown(again)
                    | Attempt::Deferred(again)
                    | Attempt::Unavailable(again)
                    | Attempt::NotSent(again),
                ) => format!("reverted to {to}, on which it did not come up either: {again}; before that, {why}"),
                Some(Attempt::NotBegun) | None => format!("reverted to {to}, and not restarted yet: {why}"),
            };
            row.outcome = Outcome::because(Verdict::Failed, detail);
            row.effects.owes = !matches!(ended.left.get(&at), Some(None));
        }
    }

    /// The row of a session that is put back. An attempt on it has begun, so it is restarted even if it is found stopped.
    fn put_back(&self, back: &Back) -> Row {
        let row = &self.planned.plan.rows[back.index];
        let began = |debt: &Debt| Debt { began: true, ..debt.clone() };
        let since = self.input.now.timestamp();
        let owed = row.owed.as_ref().map_or_else(|| Debt::begun(since), began);
        // The restart command may need a model. Where the entry had none, it gets one that is known to work, as with a launch.
        let Policy { allowed, fallback, .. } = self.input.policy;
        let known = || self.planned.reading.ledger.last_that_worked(allowed).cloned();
        let runs = back.to.clone().or_else(|| row.runs.clone()).or_else(known);
        let after = runs.unwrap_or_else(|| fallback.model.clone());
        Row {
            after: Some(after),
            edit: self.is_per_row(),
            restart: true,
            canary: false,
            owed: Some(owed),
            ..row.clone()
        }
    }
}

/// The row as it goes into the history when its edit is put back.
fn as_put_back(row: &Row) -> JsonRow<'_> {
    JsonRow { outcome: Verdict::Failed.name().into(), owed: true, ..JsonRow::recorded(row) }
}

/// The model that the session of a row ran before this run.
enum Ran {
    Model(Model),
    /// None: its entry had no model.
    NoModel,
    /// Not known: this run has not edited the entry, and no debt remembers the model.
    Unknown,
}

fn ran(row: &Row) -> Ran {
    let remembered = row.owed.as_ref().and_then(|debt| debt.ran.as_ref());
    let model = match row.runs.as_ref().or(remembered) {
        Some(runs) if row.owed.is_some() || !row.edit => Some(runs),
        None if !row.edit => return Ran::Unknown,
        _ => row.before.as_ref(),
    };
    model.map_or(Ran::NoModel, |model| Ran::Model(model.clone()))
}

/// A watch that does not interrupt: sessions that are down must be put back, even if the user interrupts the run.
struct ToTheEnd<'a>(&'a dyn Watch);

impl Watch for ToTheEnd<'_> {
    fn interrupted(&self) -> bool {
        false
    }

    fn expect(&self, restarts: usize) {
        self.0.expect(restarts);
    }

    fn begun(&self, row: &Row) {
        self.0.begun(row);
    }

    fn ended(&self, row: &Row) {
        self.0.ended(row);
    }

    fn now(&self, start: jiff::Timestamp) -> jiff::Timestamp {
        self.0.now(start)
    }
}
