//! The order of effects. Each step is safe to die after: what a later run needs to finish is on disk before the effect
//! that it is about.
//!
//! Plan; save what will be owed; replace the registry; restart; read back; save what was confirmed.

mod restarts;
mod traits;
mod verify;

use std::collections::BTreeMap;
use std::path::Path;

use crate::apply::restarts::restart_all;
use crate::chat::Model;
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::plan::ledger::{Debt, Ledger, Unsaved};
use crate::plan::{Goal, Outcome, Plan, Presence, Row, Verdict, Writer, drift, predict};
use crate::registry::json::edit::{Splice, splice};
use crate::registry::{Snapshot, Stamp};

pub use traits::{Attempt, Backend, Files, Locked, Turn, Watch};

/// How often a run plans again because the registry was replaced meanwhile, before it gives up.
const PLANS: usize = 100;

/// A plan, and the registry that it was made for.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// What it was made for.
    pub snapshot: Snapshot,
}

/// What became of a plan.
#[derive(Debug)]
pub struct Applied {
    /// The plan, with its outcomes, and the registry before it.
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
pub fn plan(goal: &Goal, files: &dyn Files, backend: &dyn Backend) -> Result<Planned> {
    let ledger = files.ledger()?;
    let snapshot = files.registry()?;
    let drift = drift(goal, &snapshot, &ledger);
    if !snapshot.is_intact() {
        return Err(changes_while_read(&snapshot.file));
    }
    let drift = drift?;
    let restarts: Vec<&Row> = drift.rows.iter().filter(|row| row.restart && row.is_planned()).collect();
    let observed = backend.observe(&restarts)?;
    let plan = predict(goal, &snapshot, &ledger, drift, &observed);
    Ok(Planned { plan, snapshot })
}

/// What a registry is that something writes into at the same time.
pub fn changes_while_read(file: &Path) -> Error {
    Error::other(format!("{} changes while it is read", file.display()))
        .with_hint("something writes into it in place; run again when that has finished")
}

/// Makes a plan and executes it.
///
/// # Errors
/// Where something failed before the first effect: the registry and the sessions are as they were.
pub fn apply(goal: &Goal, files: &dyn Locked, backend: &dyn Backend, watch: &dyn Watch) -> Result<Applied> {
    for _ in 0..PLANS {
        let planned = plan(goal, files, backend)?;
        crash_point!("planned");
        if planned.plan.refused.is_some() {
            return Ok(refuse(planned));
        }
        let mut run = Run::new(goal, files, backend, watch, planned);
        if watch.interrupted() {
            run.interrupt();
            return Ok(run.finish());
        }
        let replaced = run.edit()?;
        if replaced {
            crash_point!("registry edited");
            run.restart();
            crash_point!("restarts over");
            run.verify();
            crash_point!("read back");
            run.close();
            crash_point!("closed");
            return match run.error.take() {
                Some(error) if !run.planned.plan.is_eventful() => Err(error),
                error => Ok(Applied { error, ..run.finish() }),
            };
        }
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

struct Run<'a> {
    goal: &'a Goal<'a>,
    files: &'a dyn Locked,
    backend: &'a dyn Backend,
    watch: &'a dyn Watch,
    planned: Planned,
    /// The registry that this run made.
    made: Option<Stamp>,
    /// Rows whose sessions were started, and which run of them that is.
    started: BTreeMap<usize, String>,
    /// Rows whose edit was read back.
    stuck: Vec<usize>,
    /// Rows whose edit a daemon has not saved yet, and the run of the session that it is in.
    unsaved: Vec<(usize, String)>,
    interrupted: bool,
    error: Option<Error>,
}

impl<'a> Run<'a> {
    fn new(
        goal: &'a Goal<'a>,
        files: &'a dyn Locked,
        backend: &'a dyn Backend,
        watch: &'a dyn Watch,
        planned: Planned,
    ) -> Self {
        let (started, stuck, unsaved) = (BTreeMap::new(), Vec::new(), Vec::new());
        let made = None;
        Self { goal, files, backend, watch, planned, made, started, stuck, unsaved, interrupted: false, error: None }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.planned.plan.rows.iter()
    }

    /// Steps 3 and 4: what will be owed, then the registry. `false` where it was replaced by somebody else: nothing
    /// has happened then.
    fn edit(&mut self) -> Result<bool> {
        let before = self.owe()?;
        crash_point!("debts saved");
        let Planned { plan, snapshot } = &mut self.planned;
        let ours = plan.writer != Writer::Daemon;
        let edits = plan.rows.iter().filter(|row| ours && row.is_planned() && row.edit);
        let mut splices: Vec<Splice> =
            edits.filter_map(|row| Some(splice(snapshot, &row.site, row.after.as_ref()?))).collect();
        if splices.is_empty() {
            return Ok(true);
        }
        // Rows are in the order of ids, edits in that of the file.
        splices.sort_by_key(|splice| splice.range.start);
        // What these sessions run is known from their debts: those saved now, and those that are void after this edit.
        let owing: Vec<&str> = before.keys().chain(plan.cancelled.keys()).map(String::as_str).collect();
        let result = match self.backend.may_write() {
            Ok(true) => self.files.replace(snapshot, &splices, &owing),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        let done = match &result {
            Ok(replaced) => replaced.is_some(),
            // Where even that cannot be read, it may have been done.
            Err(_) => self.files.stamp().map_or(true, |now| now != snapshot.stamp),
        };
        if !done {
            // Where this fails, too, the debts are void: the registry is at the models that the sessions run.
            let restored = self.files.amend(&mut |ledger| restore(ledger, &before));
            result?;
            restored?;
            return Ok(false);
        }
        (self.made, self.error) = match result {
            Ok(made) => (made, None),
            Err(error) => (None, Some(error)),
        };
        for row in plan.rows.iter_mut().filter(|row| row.is_planned() && row.edit) {
            row.effects.edited = true;
            if !row.restart {
                row.outcome.verdict = Verdict::Done;
            }
        }
        Ok(true)
    }

    /// Saves what will be owed, and which corrections are found undone. Returns the debts as they were.
    fn owe(&self) -> Result<BTreeMap<String, Option<Debt>>> {
        let now = self.goal.now.timestamp();
        let plan = &self.planned.plan;
        // The daemon's own changes are owed when they are asked for, one by one.
        let edited: Vec<&Row> = self.rows().filter(|row| row.is_planned() && row.edit).collect();
        let edited = if plan.writer == Writer::Daemon { Vec::new() } else { edited };
        let owing: Vec<&Row> = edited.iter().copied().filter(|row| row.restart).collect();
        let meanwhile: &[&Row] = if plan.writer == Writer::UsMeanwhile { &edited } else { &[] };
        let undone: Vec<&Row> = self.rows().filter(|row| !row.undone.is_empty()).collect();
        let mut before = BTreeMap::new();
        let nothing = owing.is_empty() && undone.is_empty() && meanwhile.is_empty();
        if nothing && plan.forgiven.is_empty() && plan.outdated.is_empty() {
            return Ok(before);
        }
        self.files.amend(&mut |ledger| {
            for row in &undone {
                ledger.found_undone(&row.chat.id, now, row.outcome.verdict == Verdict::Held);
            }
            for chat in &plan.forgiven {
                ledger.corrected.remove(chat);
            }
            for chat in &plan.outdated {
                ledger.unsaved.remove(chat);
            }
            ledger.unconfirmed.pending.extend(meanwhile.iter().map(|row| row.chat.id.clone().into_owned()));
            before.clear();
            for row in &owing {
                let chat = row.chat.id.as_ref();
                before.insert(chat.to_owned(), ledger.owed.get(chat).cloned());
                // A launch that has paid the debt of which that was known has started the session on something else.
                let runs = row.runs.clone().filter(|_| row.owed.is_none() || ledger.owed.contains_key(chat));
                ledger.owe(chat, runs, now);
            }
        })?;
        Ok(before)
    }

    /// Step 5: voids debts that are void, and restarts what needs it.
    fn restart(&mut self) {
        let waited_for = |row: &Row| row.presence == Presence::Busy;
        let mut todo: Vec<usize> = (0..self.planned.plan.rows.len()).collect();
        todo.retain(|at| self.planned.plan.rows[*at].is_planned() && self.planned.plan.rows[*at].restart);
        todo.sort_by_key(|at| waited_for(&self.planned.plan.rows[*at]));
        let cancelled = &self.planned.plan.cancelled;
        if self.error.is_none() {
            let strike = |ledger: &mut Ledger| cancelled.keys().for_each(|chat| ledger.strike(chat));
            self.error = self.files.amend_if(!cancelled.is_empty(), strike).err();
        }
        if self.error.is_some() {
            // They stand.
            self.planned.plan.cancelled.clear();
        }
        let mut ended = restarts::Ended::default();
        if self.error.is_none() {
            let (rows, start) = (&self.planned.plan.rows, self.goal.now.timestamp());
            let parallel = self.goal.policy.sessions.parallel();
            ended = restart_all(rows, todo.clone(), parallel, start, self.files, self.backend, self.watch);
            self.error = ended.error.take();
            self.interrupted = ended.interrupted;
        }
        let why = if self.interrupted { "interrupted" } else { "the run ended before its turn" };
        let daemons = self.planned.plan.writer == Writer::Daemon;
        for index in todo {
            let row = &mut self.planned.plan.rows[index];
            let attempt = ended.attempts.remove(&index).unwrap_or(Attempt::NotBegun);
            let restarted = matches!(attempt, Attempt::Restarted(_) | Attempt::Broken(_));
            row.outcome = match attempt {
                Attempt::Restarted(run) => {
                    self.started.extend(run.map(|run| (index, run)));
                    Outcome::plain(Verdict::Done)
                }
                Attempt::NotNeeded(detail) => Outcome::because(Verdict::Done, detail),
                Attempt::Failed(detail) | Attempt::Broken(detail) => Outcome::because(Verdict::Failed, detail),
                Attempt::Unknown(detail) => Outcome::because(Verdict::Unknown, detail),
                Attempt::Deferred(detail) | Attempt::Withdrawn(detail) => Outcome::because(Verdict::Deferred, detail),
                Attempt::NotBegun => Outcome::because(Verdict::Deferred, why),
            };
            row.effects.restarted = restarted;
            row.effects.edited |= daemons && restarted && row.edit;
            row.effects.owes = match ended.left.remove(&index) {
                Some(None) => false,
                Some(Some(left)) => {
                    row.owed.iter_mut().for_each(|owed| owed.clone_from(&left));
                    true
                }
                // Where the daemon writes, what was not asked for is not owed.
                None => !daemons || row.owed.is_some() || row.outcome.verdict != Verdict::Deferred,
            };
        }
    }

    /// Step 7: saves what was confirmed, and appends to the history.
    fn close(&mut self) {
        let now = self.goal.now.timestamp();
        let confirmed: Vec<(&str, &Model)> = self
            .stuck
            .iter()
            .map(|at| &self.planned.plan.rows[*at])
            .filter_map(|row| Some((row.chat.id.as_ref(), row.after.as_ref()?)))
            .collect();
        let rows = &self.planned.plan.rows;
        let unsaved = self.unsaved.iter().filter_map(|(at, run)| {
            let unsaved = Unsaved { model: rows[*at].after.clone()?, session: run.clone() };
            Some((rows[*at].chat.id.clone().into_owned(), unsaved))
        });
        let unsaved: Vec<(String, Unsaved)> = unsaved.collect();
        let result = self.files.amend_if(!(confirmed.is_empty() && unsaved.is_empty()), |ledger| {
            for (chat, model) in &confirmed {
                ledger.confirm(chat, model, now);
                ledger.unsaved.remove(*chat);
            }
            ledger.unsaved.extend(unsaved.iter().cloned());
            ledger.forget_old(now);
        });
        let plan = &self.planned.plan;
        let recorded = if plan.is_eventful() { self.files.record(plan) } else { Ok(()) };
        if let Err(error) = result.and(recorded) {
            self.error.get_or_insert(error);
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        leave(&mut self.planned.plan, Verdict::Deferred, "interrupted");
    }

    fn finish(self) -> Applied {
        Applied { planned: self.planned, interrupted: self.interrupted, error: self.error }
    }
}

fn restore(ledger: &mut Ledger, before: &BTreeMap<String, Option<Debt>>) {
    ledger.unconfirmed.pending.clear();
    for (chat, debt) in before {
        // One that a launch has paid meanwhile stays paid.
        if !ledger.owed.contains_key(chat) {
            continue;
        }
        match debt {
            Some(debt) => ledger.owed.insert(chat.clone(), debt.clone()),
            None => ledger.owed.remove(chat),
        };
    }
}
