//! The order of effects. Each step is safe to die after: what a later run needs to finish is on disk before the effect
//! that it is about.
//!
//! Plan; save what will be owed; replace the registry; restart; read back; save what was confirmed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use crate::chat::Model;
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::plan::ledger::{Debt, Ledger};
use crate::plan::{Goal, Outcome, Plan, Presence, Row, Verdict, drift, predict};
use crate::registry::edit::splice;
use crate::registry::{Entry, Snapshot, Stamp, edit::Splice, scan};

/// How often a run plans again because the registry was replaced meanwhile, before it gives up.
const PLANS: usize = 100;

/// What a plan is made from.
pub trait Files {
    /// The registry as it is now.
    ///
    /// # Errors
    /// Where it cannot be read. A missing registry is an error, never "no sessions".
    fn registry(&self) -> Result<Snapshot>;

    /// The ledger as it is now; empty before the first run.
    ///
    /// # Errors
    /// Where it is damaged or cannot be read. That is never "no debts".
    fn ledger(&self) -> Result<Ledger>;
}

/// What only the one run that holds the lock may do.
pub trait Locked: Files {
    /// Changes the ledger as the file holds it now, and returns it. On disk when it returns.
    ///
    /// # Errors
    /// Where that cannot be done; the file is then as it was.
    fn amend(&self, change: &mut dyn FnMut(&mut Ledger)) -> Result<Ledger>;

    /// Replaces the registry by `seen` with the edits made; `None` where it no longer is what was seen. On disk when
    /// it returns.
    ///
    /// # Errors
    /// Where that cannot be done. Whether it was done can be seen from the registry alone.
    fn replace(&self, seen: &Snapshot, splices: &[Splice]) -> Result<Option<Stamp>>;

    /// Appends what became of a plan to the history.
    ///
    /// # Errors
    /// Where that cannot be done.
    fn record(&self, plan: &Plan) -> Result<()>;
}

/// Who restarts sessions.
pub trait Backend: Sync {
    /// What the sessions of rows to be restarted are doing, by chat id. Changes nothing.
    ///
    /// # Errors
    /// Where that cannot be told, and a plan without it would be wrong.
    fn observe(&self, rows: &[&Row]) -> Result<BTreeMap<String, Presence>>;

    /// Restarts the session of a row, and makes sure that it came up.
    fn restart(&self, row: &Row) -> Attempt;

    /// Returns when what was restarted has reached the registry.
    fn settle(&self) {}
}

/// What became of one restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The session was restarted.
    Restarted,
    /// It runs the right model, or will when it next starts.
    NotNeeded(String),
    /// It did not work.
    Failed(String),
    /// Nobody can tell.
    Unknown(String),
}

/// Who watches a run.
pub trait Watch: Sync {
    /// Whether the run shall end as soon as what is under way has finished.
    fn interrupted(&self) -> bool;
    /// So many sessions will be restarted.
    fn expect(&self, restarts: usize);
    /// One of them begins.
    fn begun(&self, row: &Row);
    /// One of them has ended.
    fn ended(&self, row: &Row);
}

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
    let drift = drift(goal, &snapshot, &ledger)?;
    let restarts: Vec<&Row> = drift.rows.iter().filter(|row| row.restart && row.is_planned()).collect();
    let presence = if restarts.is_empty() { BTreeMap::new() } else { backend.observe(&restarts)? };
    let plan = predict(goal, drift, &presence);
    Ok(Planned { plan, snapshot })
}

/// Makes a plan and executes it.
///
/// # Errors
/// Where something failed before the first effect: the registry and the sessions are as they were.
pub fn apply(goal: &Goal, files: &dyn Locked, backend: &dyn Backend, watch: &dyn Watch) -> Result<Applied> {
    for _ in 0..PLANS {
        let planned = plan(goal, files, backend)?;
        crash_point!("planned");
        let mut run = Run { goal, files, backend, watch, planned, stuck: Vec::new(), interrupted: false, error: None };
        if run.planned.plan.refused.is_some() {
            run.leave(Verdict::Refused, "the plan as a whole is refused");
            return Ok(run.finish());
        }
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
                Some(error) if !run.has_acted() => Err(error),
                error => Ok(Applied { error, ..run.finish() }),
            };
        }
    }
    Err(Error::other(format!("the registry was replaced {PLANS} times while the run was planning"))
        .with_hint("nothing was changed; find out what writes it so often, and run again"))
}

struct Run<'a> {
    goal: &'a Goal<'a>,
    files: &'a dyn Locked,
    backend: &'a dyn Backend,
    watch: &'a dyn Watch,
    planned: Planned,
    /// Rows whose edit was read back.
    stuck: Vec<usize>,
    interrupted: bool,
    error: Option<Error>,
}

impl Run<'_> {
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.planned.plan.rows.iter()
    }

    /// Steps 3 and 4: what will be owed, then the registry. `false` where it was replaced by somebody else: nothing
    /// has happened then.
    fn edit(&mut self) -> Result<bool> {
        let before = self.owe()?;
        crash_point!("debts saved");
        let Planned { plan, snapshot } = &mut self.planned;
        let edited = |row: &&Row| row.is_planned() && row.edit;
        let edits = plan.rows.iter().filter(edited);
        let mut splices: Vec<Splice> =
            edits.filter_map(|row| Some(splice(snapshot, &row.site, row.after.as_ref()?))).collect();
        if splices.is_empty() {
            return Ok(true);
        }
        // Rows are in the order of ids, edits in that of the file.
        splices.sort_by_key(|splice| splice.range.start);
        let result = self.files.replace(snapshot, &splices);
        let done = match &result {
            Ok(replaced) => replaced.is_some(),
            // Where even that cannot be read, it may have been done.
            Err(_) => self.files.registry().map_or(true, |now| now.stamp != snapshot.stamp),
        };
        if !done {
            // Where this fails, too, the debts are void: the registry is at the models that the sessions run.
            let restored = self.files.amend(&mut |ledger| restore(ledger, &before));
            result?;
            restored?;
            return Ok(false);
        }
        self.error = result.err();
        for row in plan.rows.iter_mut().filter(|row| row.is_planned() && row.edit) {
            row.effects.edited = true;
            row.effects.owes |= row.restart;
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
        let owing: Vec<&Row> = self.rows().filter(|row| row.is_planned() && row.edit && row.restart).collect();
        let undone: Vec<&Row> = self.rows().filter(|row| !row.undone.is_empty()).collect();
        let mut before = BTreeMap::new();
        if owing.is_empty() && undone.is_empty() && plan.forgiven.is_empty() {
            return Ok(before);
        }
        self.files.amend(&mut |ledger| {
            for row in &undone {
                ledger.found_undone(&row.chat.id, now, row.outcome.verdict == Verdict::Held);
            }
            for chat in &plan.forgiven {
                ledger.corrected.remove(chat);
            }
            before.clear();
            for row in &owing {
                let chat = row.chat.id.as_ref();
                before.insert(chat.to_owned(), ledger.owed.get(chat).cloned());
                ledger.owe(chat, row.runs.clone(), now);
            }
        })?;
        Ok(before)
    }

    /// Step 5: restarts what needs it, a few at a time. This thread alone owns the ledger.
    fn restart(&mut self) {
        let todo: Vec<usize> = self
            .rows()
            .enumerate()
            .filter(|(_, row)| row.is_planned() && row.restart)
            .map(|(index, _)| index)
            .collect();
        let ended = if self.error.is_none() { self.attempt_all(&todo) } else { BTreeMap::new() };
        let why = if self.interrupted { "interrupted" } else { "the run ended before its turn" };
        for index in todo {
            let row = &mut self.planned.plan.rows[index];
            row.outcome = match ended.get(&index) {
                Some(Attempt::Restarted) => Outcome::plain(Verdict::Done),
                Some(Attempt::NotNeeded(detail)) => Outcome::because(Verdict::Done, detail),
                Some(Attempt::Failed(detail)) => Outcome::because(Verdict::Failed, detail),
                Some(Attempt::Unknown(detail)) => Outcome::because(Verdict::Unknown, detail),
                None => Outcome::because(Verdict::Deferred, why),
            };
            row.effects.restarted = ended.get(&index) == Some(&Attempt::Restarted);
            row.effects.owes = row.outcome.verdict != Verdict::Done;
        }
    }

    fn attempt_all(&mut self, todo: &[usize]) -> BTreeMap<usize, Attempt> {
        let (rows, backend, watch) = (&self.planned.plan.rows, self.backend, self.watch);
        let now = self.goal.now.timestamp();
        let parallel = self.goal.policy.sessions.parallel().min(todo.len());
        let mut cancelled: Vec<&str> = self.planned.plan.cancelled.keys().map(String::as_str).collect();
        let mut waiting = todo.iter().copied();
        let mut under_way = 0;
        let mut all = BTreeMap::new();
        let mut recent: Vec<(usize, Attempt)> = Vec::new();
        let (jobs, job) = mpsc::channel::<usize>();
        let (outcomes, outcome) = mpsc::channel();
        let job = Mutex::new(job);
        watch.expect(todo.len());
        let result = thread::scope(|scope| {
            for _ in 0..parallel {
                let (job, outcomes) = (&job, outcomes.clone());
                scope.spawn(move || {
                    let next = || job.lock().ok()?.recv().ok();
                    while let Some(index) = next() {
                        watch.begun(&rows[index]);
                        let attempt = backend.restart(&rows[index]);
                        watch.ended(&rows[index]);
                        if outcomes.send((index, attempt)).is_err() {
                            return;
                        }
                    }
                });
            }
            // The workers end when no more jobs can come, and this loop when no more outcomes can.
            let jobs = jobs;
            drop(outcomes);
            let mut failed = None;
            loop {
                self.interrupted |= watch.interrupted();
                let room = if self.interrupted || failed.is_some() { 0 } else { parallel - under_way };
                let next: Vec<usize> = waiting.by_ref().take(room).collect();
                let said =
                    self.files.amend_if(!(recent.is_empty() && next.is_empty() && cancelled.is_empty()), |ledger| {
                        for chat in &cancelled {
                            ledger.strike(chat);
                        }
                        for (index, attempt) in &recent {
                            settle_debt(ledger, &rows[*index].chat.id, attempt, now);
                        }
                        for index in &next {
                            ledger.begin(&rows[*index].chat.id);
                        }
                    });
                all.extend(recent.drain(..));
                cancelled.clear();
                match said {
                    Ok(()) => {
                        under_way += next.len();
                        crash_point!("attempts noted");
                        for index in next {
                            // It fails only where every worker has ended; then nothing is under way either.
                            let _ = jobs.send(index);
                        }
                    }
                    Err(error) => failed = failed.or(Some(error)),
                }
                if under_way == 0 {
                    return failed;
                }
                let Ok(first) = outcome.recv() else { return failed };
                recent.push(first);
                recent.extend(outcome.try_iter());
                under_way -= recent.len();
            }
        });
        self.error = result;
        all
    }

    /// Step 6: what did not stick has failed.
    fn verify(&mut self) {
        let mut unread: BTreeMap<&str, usize> = BTreeMap::new();
        unread.extend(
            self.rows().enumerate().filter(|(_, row)| row.effects.edited).map(|(at, row)| (row.chat.id.as_ref(), at)),
        );
        if unread.is_empty() {
            return;
        }
        self.backend.settle();
        let (policy, rows) = (self.goal.policy, &self.planned.plan.rows);
        let mut undone: Vec<(usize, Outcome)> = Vec::new();
        let mut stuck = Vec::new();
        let read = self.files.registry().and_then(|now| {
            let look = |entry: Entry| {
                let Some(at) = unread.remove(entry.chat.id.as_ref()) else { return };
                let model = entry.model.as_deref().map(|model| policy.canonical(model));
                if model == rows[at].after.as_ref().map(Model::as_str) {
                    stuck.push(at);
                } else {
                    let why = format!("the registry says {} again", model.unwrap_or("nothing"));
                    undone.push((at, Outcome::because(Verdict::Failed, why)));
                }
            };
            scan(&now, look).map_err(Error::Invalid)
        });
        let (verdict, why) = match &read {
            Ok(_) => (Verdict::Failed, "its entry was removed meanwhile"),
            Err(_) => (Verdict::Unknown, "the registry could not be read back"),
        };
        undone.extend(unread.into_values().map(|at| (at, Outcome::because(verdict, why))));
        for (at, outcome) in undone {
            self.planned.plan.rows[at].outcome = outcome;
        }
        self.stuck = stuck;
        if let Err(error) = read {
            self.error.get_or_insert(error);
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
        let result = self.files.amend_if(!confirmed.is_empty(), |ledger| {
            for (chat, model) in &confirmed {
                ledger.confirm(chat, model, now);
            }
            ledger.forget_old(now);
        });
        let plan = &self.planned.plan;
        let recorded = if plan.is_eventful() { self.files.record(plan) } else { Ok(()) };
        if let Err(error) = result.and(recorded) {
            self.error.get_or_insert(error);
        }
    }

    /// Whether anything but the ledger has changed, as far as can be told.
    fn has_acted(&self) -> bool {
        let tried = |row: &Row| matches!(row.outcome.verdict, Verdict::Done | Verdict::Failed | Verdict::Unknown);
        self.rows().any(|row| row.effects.edited || tried(row))
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.leave(Verdict::Deferred, "interrupted");
    }

    fn leave(&mut self, verdict: Verdict, detail: &str) {
        for row in self.planned.plan.rows.iter_mut().filter(|row| row.is_planned()) {
            row.outcome = Outcome::because(verdict, detail);
        }
    }

    fn finish(self) -> Applied {
        Applied { planned: self.planned, interrupted: self.interrupted, error: self.error }
    }
}

impl dyn Locked + '_ {
    fn amend_if(&self, needed: bool, mut change: impl FnMut(&mut Ledger)) -> Result<()> {
        if needed { self.amend(&mut change).map(drop) } else { Ok(()) }
    }
}

fn settle_debt(ledger: &mut Ledger, chat: &str, attempt: &Attempt, now: jiff::Timestamp) {
    match attempt {
        Attempt::Restarted | Attempt::NotNeeded(_) => ledger.strike(chat),
        Attempt::Failed(_) => ledger.fail(chat, now),
        Attempt::Unknown(_) => {}
    }
}

fn restore(ledger: &mut Ledger, before: &BTreeMap<String, Option<Debt>>) {
    for (chat, debt) in before {
        match debt {
            Some(debt) => ledger.owed.insert(chat.clone(), debt.clone()),
            None => ledger.owed.remove(chat),
        };
    }
}
