//! Restarts, a few at a time. Workers restart; this thread alone owns the ledger, notes that an attempt begins before it
//! does, and strikes the debt when it has ended well.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread;

use jiff::Timestamp;

use crate::apply::{Attempt, Backend, Locked, Turn, Watch};
use crate::chat::Model;
use crate::crash::crash_point;
use crate::error::Error;
use crate::plan::Row;
use crate::plan::ledger::{Debt, Ledger};

/// What became of the restarts of one run.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// By the row's index. Rows that are missing were not begun.
    pub(super) attempts: BTreeMap<usize, Attempt>,
    /// What the rows that have ended still owe: nothing where the restart went well, or a launch has started the session
    /// meanwhile.
    pub(super) left: BTreeMap<usize, Option<Debt>>,
    /// Whether the run was asked to end.
    pub(super) interrupted: bool,
    /// Why the ledger could not be saved. Nothing is begun after that.
    pub(super) error: Option<Error>,
}

impl Ended {
    /// Whether one more may begin.
    fn may_begin(&mut self, watch: &dyn Watch) -> bool {
        self.interrupted |= watch.interrupted();
        !self.interrupted && self.error.is_none()
    }
}

/// What a worker says.
enum Said {
    /// It is about to change something: the attempt must be noted first. It waits for the answer.
    Begins { row: usize, session: Option<String>, go: Sender<bool> },
    /// It is done with a row.
    Ended { row: usize, attempt: Attempt },
}

impl Said {
    fn row(&self) -> usize {
        match self {
            Self::Begins { row, .. } | Self::Ended { row, .. } => *row,
        }
    }
}

/// Restarts the sessions of the rows `todo`.
pub(super) fn restart_all(
    rows: &[Row],
    todo: Vec<usize>,
    parallel: usize,
    start: Timestamp,
    files: &dyn Locked,
    backend: &dyn Backend,
    watch: &dyn Watch,
) -> Ended {
    watch.expect(todo.len());
    let parallel = parallel.min(todo.len());
    let mut queue = Queue::new(rows, todo);
    let mut ended = Ended::default();
    let (jobs, job) = mpsc::channel::<usize>();
    let (says, said) = mpsc::channel::<Said>();
    let job = Mutex::new(job);
    thread::scope(|scope| {
        for _ in 0..parallel {
            let (job, says) = (&job, says.clone());
            scope.spawn(move || {
                let next = || job.lock().ok()?.recv().ok();
                while let Some(row) = next() {
                    let attempt = work(row, &rows[row], backend, watch, &says);
                    if says.send(Said::Ended { row, attempt }).is_err() {
                        return;
                    }
                }
            });
        }
        // The workers end when no more jobs can come, and this loop when nobody can say anything more.
        let jobs = jobs;
        drop(says);
        let mut under_way = 0;
        loop {
            while under_way < parallel && ended.may_begin(watch) {
                let Some(next) = queue.next() else { break };
                // It fails only where every worker has ended; then `recv` does, too.
                let _ = jobs.send(next);
                under_way += 1;
            }
            if under_way == 0 {
                break;
            }
            let Ok(first) = said.recv() else { break };
            let batch: Vec<Said> = [first].into_iter().chain(said.try_iter()).collect();
            let go = ended.may_begin(watch);
            let mut paid = BTreeSet::new();
            let now = watch.now(start);
            let saved = files.amend(&mut |ledger| {
                paid = paid_meanwhile(&batch, rows, ledger);
                for said in &batch {
                    note(said, go && !paid.contains(&said.row()), rows, ledger, now);
                }
            });
            let go = go && saved.is_ok();
            if let Ok(ledger) = &saved {
                let over = batch.iter().filter(|said| matches!(said, Said::Ended { .. })).map(Said::row);
                ended.left.extend(over.map(|row| (row, ledger.owed.get(rows[row].chat.id.as_ref()).cloned())));
            }
            ended.error = ended.error.take().or(saved.err());
            crash_point!("attempt noted");
            for said in batch {
                match said {
                    // A worker that has gone does not wait.
                    Said::Begins { row, go: answer, .. } => {
                        if paid.contains(&row) {
                            let why = "it was started anew meanwhile".to_owned();
                            ended.attempts.insert(row, Attempt::NotNeeded(why));
                        }
                        let _ = answer.send(go && !paid.contains(&row));
                    }
                    Said::Ended { row, attempt } => {
                        under_way -= 1;
                        queue.ended(row, &attempt, &mut ended.attempts);
                        if attempt != Attempt::NotBegun {
                            ended.attempts.insert(row, attempt);
                        }
                    }
                }
            }
        }
    });
    ended
}

/// Rows about to be restarted whose debt is gone: a launch has started the session on what the registry says.
fn paid_meanwhile(batch: &[Said], rows: &[Row], ledger: &Ledger) -> BTreeSet<usize> {
    let begins = batch.iter().filter_map(|said| match said {
        // A daemon's debt is not there before its attempt begins.
        Said::Begins { row, session: None, .. } => Some(*row),
        _ => None,
    });
    begins.filter(|row| !ledger.owed.contains_key(rows[*row].chat.id.as_ref())).collect()
}

fn work(index: usize, row: &Row, backend: &dyn Backend, watch: &dyn Watch, says: &Sender<Said>) -> Attempt {
    watch.begun(row);
    let attempt = backend.restart(row, &Asking { index, watch, says });
    watch.ended(row);
    attempt
}

/// A worker's turn: it asks the thread that owns the ledger.
struct Asking<'a> {
    index: usize,
    watch: &'a dyn Watch,
    says: &'a Sender<Said>,
}

impl Turn for Asking<'_> {
    fn begin(&self, run: Option<&str>) -> bool {
        let (go, answer) = mpsc::channel();
        let session = run.map(str::to_owned);
        self.says.send(Said::Begins { row: self.index, session, go }).is_ok() && answer.recv().unwrap_or(false)
    }

    fn is_over(&self) -> bool {
        self.watch.interrupted()
    }
}

fn note(said: &Said, go: bool, rows: &[Row], ledger: &mut Ledger, now: Timestamp) {
    match said {
        Said::Begins { row, session, .. } if go => ledger.begin(&rows[*row].chat.id, session.clone(), now),
        Said::Begins { .. } => {}
        Said::Ended { row, attempt } => {
            let chat = rows[*row].chat.id.as_ref();
            match attempt {
                Attempt::Restarted(_) | Attempt::NotNeeded(_) => ledger.strike(chat),
                Attempt::Failed(_) | Attempt::Broken(_) => ledger.fail(chat, now),
                // What was owed before still is.
                Attempt::Withdrawn(_) if rows[*row].owed.is_none() => ledger.strike(chat),
                Attempt::Withdrawn(_) | Attempt::Unknown(_) | Attempt::Deferred(_) | Attempt::NotBegun => {}
            }
        }
    }
}

/// The rows that wait. A model that no session runs on yet is tried on one session before the others get it.
struct Queue<'r> {
    rows: &'r [Row],
    waiting: VecDeque<usize>,
    unproven: BTreeSet<&'r Model>,
    on_trial: BTreeSet<&'r Model>,
}

impl<'r> Queue<'r> {
    fn new(rows: &'r [Row], todo: Vec<usize>) -> Self {
        let unproven = rows.iter().filter(|row| row.unproven).filter_map(|row| row.after.as_ref());
        Self { rows, waiting: todo.into(), unproven: unproven.collect(), on_trial: BTreeSet::new() }
    }

    fn next(&mut self) -> Option<usize> {
        let waits = |row: &Row| row.after.as_ref().is_some_and(|model| self.on_trial.contains(model));
        let at = self.waiting.iter().position(|row| !waits(&self.rows[*row]))?;
        let row = self.waiting.remove(at)?;
        self.on_trial.extend(self.rows[row].after.iter().filter(|model| self.unproven.contains(model)));
        Some(row)
    }

    /// Ends a trial. Where it went wrong, nobody else gets that model in this run.
    fn ended(&mut self, row: usize, attempt: &Attempt, attempts: &mut BTreeMap<usize, Attempt>) {
        let Some(model) = self.rows[row].after.as_ref().filter(|model| self.on_trial.remove(model)) else { return };
        match attempt {
            Attempt::Restarted(_) | Attempt::NotNeeded(_) => {
                self.unproven.remove(model);
            }
            Attempt::Failed(_) | Attempt::Broken(_) | Attempt::Unknown(_) => {
                let rows = self.rows;
                let same = |row: &usize| rows[*row].after.as_ref() == Some(model);
                let why = Attempt::Deferred(format!("the first session on {model} did not come up"));
                attempts.extend(self.waiting.iter().copied().filter(same).map(|row| (row, why.clone())));
                self.waiting.retain(|row| !same(row));
            }
            // The next one is tried instead.
            Attempt::Deferred(_) | Attempt::Withdrawn(_) | Attempt::NotBegun => {}
        }
    }
}
