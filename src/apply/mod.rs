//! The order of effects. Each step is safe to die after: what a later run needs to finish is on disk before the effect
//! that it is about.
//!
//! Plan; commit the edits, and with them what they will owe; make the sessions run on their models; read back; save what
//! was confirmed.

mod backend;
mod workers;

use std::collections::BTreeMap;

use crate::chat::Model;
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::plan::json::{JsonRun, Origin};
use crate::plan::ledger::{Note, Then};
use crate::plan::observed::{Edits, Standing};
use crate::plan::{Outcome, Plan, PlanInput, Reading, Row, Verdict, drift, predict};

use crate::apply::workers::{Ended, Workers};

pub use backend::{
    Ask, Attempt, Backend, Batch, Change, Committed, Decide, Locked, Owes, PlannedOn, Registered, Stands, Turn, Watch,
};

/// How often a run plans again because the registry was replaced meanwhile, before it gives up.
const PLANS: usize = 100;

/// A plan, and what it was made from.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The registry and the ledger that it was made from.
    pub reading: Reading,
}

/// What became of a plan.
#[derive(Debug)]
pub struct Applied {
    /// The plan, with its outcomes, and what it was made from.
    pub planned: Planned,
    /// Whether it was cut short.
    pub interrupted: bool,
    /// What went wrong after the first effect.
    pub error: Option<Error>,
}

/// Makes the plan of a run. Changes nothing.
///
/// # Errors
/// Where registry, ledger or sessions cannot be read.
pub fn plan(input: &PlanInput, backend: &dyn Backend) -> Result<Planned> {
    let reading = backend.read(Ask::Plan(input))?;
    let drift = drift(input, &reading)?;
    let observed = backend.observe(&reading, &drift)?;
    let plan = predict(input, &reading, drift, observed);
    Ok(Planned { plan, reading })
}

/// What a run works with.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// The backend.
    pub backend: &'a dyn Backend,
    /// The backend, locked for this run.
    pub locked: &'a dyn Locked,
    /// What watches the run.
    pub watch: &'a dyn Watch,
    /// Who does the run. Asked only where there is something to tell in the history.
    pub author: &'a dyn Fn() -> Origin,
}

/// Makes a plan and executes it.
///
/// # Errors
/// Where something failed before the first effect: the registry and the sessions are as they were.
pub fn apply(input: &PlanInput, context: RunContext) -> Result<Applied> {
    for _ in 0..PLANS {
        let planned = plan(input, context.backend)?;
        crash_point!("planned");
        if planned.plan.refused.is_some() {
            return Ok(refuse(planned));
        }
        let mut run = Run { input, context, planned, interrupted: false, error: None };
        if context.watch.interrupted() {
            run.interrupt();
            return Ok(run.finish());
        }
        if run.commit()? == Progress::PlanAgain {
            continue;
        }
        crash_point!("registry edited");
        run.converge();
        crash_point!("restarts over");
        let confirmed = run.read_back();
        crash_point!("read back");
        run.close(&confirmed);
        crash_point!("closed");
        return match run.error.take() {
            Some(error) if !run.planned.plan.is_eventful() => Err(error),
            error => Ok(Applied { error, ..run.finish() }),
        };
    }
    Err(Error::other(format!("the registry was replaced {PLANS} times while the run was planning"))
        .with_hint("nothing was changed; find out what writes it so often, and run again"))
}

/// What becomes of a plan that is refused as a whole: nothing is done.
pub fn refuse(mut planned: Planned) -> Applied {
    leave(&mut planned.plan, Verdict::Refused, "the plan as a whole is refused");
    Applied { planned, interrupted: false, error: None }
}

fn leave(plan: &mut Plan, verdict: Verdict, detail: &str) {
    for row in plan.rows.iter_mut().filter(|row| row.is_planned()) {
        row.outcome = Outcome::because(verdict, detail);
    }
}

/// How a run goes on after its commit.
#[derive(PartialEq, Eq)]
enum Progress {
    /// With the sessions.
    Converge,
    /// The registry, or a debt, was another by then.
    PlanAgain,
}

struct Run<'a> {
    input: &'a PlanInput<'a>,
    context: RunContext<'a>,
    planned: Planned,
    interrupted: bool,
    error: Option<Error>,
}

impl Run<'_> {
    fn is_per_row(&self) -> bool {
        matches!(self.planned.plan.edits, Edits::PerRow { .. })
    }

    /// Commits the edits of a batch with what will be owed for them, what is to be remembered about corrections, and
    /// that debts are void.
    fn commit(&mut self) -> Result<Progress> {
        let is_batch = !self.is_per_row();
        let Planned { plan, reading } = &mut self.planned;
        let edited = |row: &&Row| is_batch && row.is_planned() && row.edit;
        let batch = Batch {
            changes: plan.rows.iter().filter(edited).map(change).collect(),
            notes: notes_on_corrections(plan),
            void: plan.void.keys().map(String::as_str).collect(),
            now: self.input.now.timestamp(),
        };
        let Committed::Done { error } = self.context.locked.commit(reading, &batch)? else {
            return Ok(Progress::PlanAgain);
        };
        self.error = error;
        if self.error.is_some() {
            // They stand.
            plan.void.clear();
        }
        for row in plan.rows.iter_mut().filter(|row| is_batch && row.is_planned() && row.edit) {
            row.effects.edited = true;
            if !row.restart {
                row.outcome.verdict = Verdict::Done;
            }
        }
        Ok(Progress::Converge)
    }

    /// Makes the sessions run on their models, and takes down what became of that.
    fn converge(&mut self) {
        let todo = self.rows_to_converge();
        let mut ended = if self.error.is_some() { Ended::default() } else { self.workers().converge(todo.clone()) };
        self.error = self.error.take().or(ended.error.take());
        self.interrupted = ended.interrupted;
        let why = if self.interrupted { "interrupted" } else { "the run ended before its turn" };
        let is_per_row = self.is_per_row();
        for index in todo {
            let row = &mut self.planned.plan.rows[index];
            let attempt = ended.attempts.remove(&index).unwrap_or(Attempt::NotBegun);
            let has_changed = matches!(attempt, Attempt::Changed | Attempt::Unhealthy(_));
            row.outcome = match attempt {
                Attempt::Changed => Outcome::plain(Verdict::Done),
                Attempt::NotNeeded(detail) => Outcome::because(Verdict::Done, detail),
                Attempt::Failed(detail) | Attempt::Unhealthy(detail) => Outcome::because(Verdict::Failed, detail),
                Attempt::Unknown(detail) => Outcome::because(Verdict::Unknown, detail),
                Attempt::Deferred(detail) | Attempt::NotSent(detail) => Outcome::because(Verdict::Deferred, detail),
                Attempt::NotBegun => Outcome::because(Verdict::Deferred, why),
            };
            row.effects.restarted = has_changed && row.restart;
            row.effects.edited |= has_changed && row.edit && is_per_row;
            row.effects.owes = match ended.left.remove(&index) {
                Some(None) => false,
                Some(Some(left)) => {
                    row.owed.iter_mut().for_each(|owed| owed.clone_from(&left));
                    true
                }
                // Of edits that go per row, those that were not asked for owe nothing new.
                None if is_per_row => row.owed.is_some() || (row.restart && row.outcome.verdict != Verdict::Deferred),
                None => true,
            };
        }
    }

    /// The rows whose sessions are to be changed; those that are waited for come last.
    fn rows_to_converge(&self) -> Vec<usize> {
        let rows = &self.planned.plan.rows;
        let is_per_row = self.is_per_row();
        let is_due = |row: &Row| row.is_planned() && (row.restart || (is_per_row && row.edit));
        let mut todo: Vec<usize> = (0..rows.len()).filter(|index| is_due(&rows[*index])).collect();
        todo.sort_by_key(|index| rows[*index].standing == Standing::Busy);
        todo
    }

    fn workers(&self) -> Workers<'_> {
        Workers {
            rows: &self.planned.plan.rows,
            locked: self.context.locked,
            watch: self.context.watch,
            start: self.input.now.timestamp(),
            parallel: self.input.policy.sessions.parallel,
            batch: match self.planned.plan.edits {
                Edits::Batch => 1,
                Edits::PerRow { batch } => batch,
            },
        }
    }

    /// Reads back what was edited: what did not stick has failed. Returns the rows that did.
    fn read_back(&mut self) -> Vec<usize> {
        let rows = &self.planned.plan.rows;
        let edited: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].effects.edited).collect();
        if edited.is_empty() {
            return edited;
        }
        let asked: Vec<&Row> = edited.iter().map(|index| &rows[*index]).collect();
        let found = match self.context.locked.read_back(&asked) {
            Ok(found) => found,
            Err(error) => {
                self.error.get_or_insert(error);
                for index in edited {
                    let outcome = Outcome::because(Verdict::Unknown, "the registry could not be read back");
                    self.planned.plan.rows[index].outcome = outcome;
                }
                return Vec::new();
            }
        };
        let mut confirmed = Vec::new();
        for index in edited {
            match self.stuck(index, &found) {
                Stuck::Yes => confirmed.push(index),
                Stuck::KnownFailure => {}
                Stuck::No(outcome) => self.planned.plan.rows[index].outcome = outcome,
            }
        }
        confirmed
    }

    fn stuck(&self, index: usize, found: &BTreeMap<String, Stands>) -> Stuck {
        let row = &self.planned.plan.rows[index];
        let says = match found.get(row.chat.id.as_ref()) {
            Some(Stands::Model(model)) => model.as_ref().map(|model| self.input.policy.canonical(model.as_str())),
            Some(Stands::NotSavedYet) => return row.unless_failed(Outcome::because(Verdict::Done, "not yet saved")),
            Some(Stands::Gone) | None => {
                return row.unless_failed(Outcome::because(Verdict::Failed, "its entry was removed meanwhile"));
            }
        };
        if says == row.after.as_ref().map(Model::as_str) {
            return Stuck::Yes;
        }
        let says = says.unwrap_or("nothing");
        row.unless_failed(Outcome::because(Verdict::Failed, format!("the registry says {says} again")))
    }

    /// Saves what was confirmed, and appends to the history.
    fn close(&mut self, confirmed: &[usize]) {
        let now = self.input.now.timestamp();
        let Planned { plan, .. } = &self.planned;
        let notes: Vec<Note> = confirmed
            .iter()
            .map(|index| &plan.rows[*index])
            .filter_map(|row| Some(Note::Confirmed { chat: row.chat.id.as_ref(), model: row.after.as_ref()? }))
            .collect();
        let saved = if notes.is_empty() { Ok(()) } else { self.context.locked.note(&notes, now).map(drop) };
        let recorded = if plan.is_eventful() {
            self.context.locked.record(&JsonRun::of(plan, now, (self.context.author)()))
        } else {
            Ok(())
        };
        if let Err(error) = saved.and(recorded) {
            self.error.get_or_insert(error);
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        // They stand.
        self.planned.plan.void.clear();
        leave(&mut self.planned.plan, Verdict::Deferred, "interrupted");
    }

    fn finish(self) -> Applied {
        Applied { planned: self.planned, interrupted: self.interrupted, error: self.error }
    }
}

/// Whether an edit has stuck.
enum Stuck {
    Yes,
    /// It has not, and the row says already why.
    KnownFailure,
    No(Outcome),
}

impl Row {
    fn unless_failed(&self, outcome: Outcome) -> Stuck {
        if self.outcome.verdict == Verdict::Failed { Stuck::KnownFailure } else { Stuck::No(outcome) }
    }
}

fn change(row: &Row) -> Change<'_> {
    let planned_on = if row.owed.is_some() { PlannedOn::Debt } else { PlannedOn::NoDebt };
    let owes = Owes { ran: row.runs.as_ref(), planned_on };
    let chat = row.chat.id.as_ref();
    Change { chat, at: row.at, after: row.after.as_ref(), owes: row.restart.then_some(owes) }
}

/// What is remembered about corrections, also where the edits fail.
fn notes_on_corrections(plan: &Plan) -> Vec<Note<'_>> {
    let mut notes = Vec::new();
    for row in plan.rows.iter().filter(|row| !row.changed_back.is_empty()) {
        let then = if row.outcome.verdict == Verdict::Held { Then::Held } else { Then::Corrected };
        notes.push(Note::ChangedBack { chat: row.chat.id.as_ref(), then });
    }
    notes.extend(plan.reset.iter().map(|chat| Note::Reset { chat }));
    notes
}
