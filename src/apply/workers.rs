//! Makes attempts, several at a time. Worker threads make them. The calling thread is the only one that writes the
//! ledger: it notes that an attempt begins before it does, and the result when it has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

use jiff::Timestamp;

use crate::apply::backend::{Attempt, Locked, Proof, Turn};
use crate::apply::notes::owes_a_start;
use crate::apply::problem::ApplyProblem;
use crate::apply::watch::Watch;
use crate::chat::Model;
use crate::crash::crash_point;
use crate::error::Error;
use crate::plan::json::{JsonRow, Record};
use crate::plan::ledger::{Begin, Debt, Note};
use crate::plan::trial::Blame;
use crate::plan::{Row, Verdict};

/// Makes the attempts of a run.
#[derive(Clone, Copy)]
pub(super) struct Workers<'a> {
    pub(super) rows: &'a [Row],
    pub(super) locked: &'a dyn Locked,
    pub(super) watch: &'a dyn Watch,
    /// When the run began.
    pub(super) start: Timestamp,
    /// How many attempts may be under way at once.
    pub(super) parallel: usize,
    /// The largest number of rows in one attempt.
    pub(super) batch: usize,
    /// After this many failures no further attempt begins.
    pub(super) failures_left: usize,
    /// The models on which a session has come up in this run.
    pub(super) worked: &'a BTreeSet<Model>,
    /// How the history identifies the run, if it gets a line.
    pub(super) record: Option<&'a Record>,
    pub(super) purpose: Purpose,
}

/// The purpose of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Moving sessions to their models. A failure may be blamed on the model.
    Rollout,
    /// Putting sessions back on their former models. A session is started even if it owes no restart, and a failure is
    /// not blamed on the model.
    Revert,
}

/// The results of attempts.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The attempts, by the index of the row. An attempt on any other row was not begun.
    pub(super) attempts: BTreeMap<usize, Attempt>,
    /// The debts of the rows whose attempts have ended, by the index of the row. `None` where the attempt succeeded, or
    /// a launch has started the session meanwhile.
    pub(super) left: BTreeMap<usize, Option<Debt>>,
    /// How many attempts have failed, or may have.
    pub(super) failures: usize,
    /// The models on which a session came up.
    pub(super) worked: BTreeSet<Model>,
    /// The rows whose attempt has ended with a result that could not be noted.
    unnoted: Vec<usize>,
    /// The rows whose attempt was noted to begin, and has not ended.
    begun: BTreeSet<usize>,
    /// Whether the user interrupted the run.
    pub(super) interrupted: bool,
    /// Why no further attempt begins: the ledger could not be saved, or no worker could be started.
    pub(super) error: Option<Error>,
}

impl Ended {
    /// Counts an attempt on a row.
    fn count(&mut self, row: &Row, attempt: &Attempt) {
        match attempt.proof() {
            Proof::Works => self.worked.extend(row.after.clone()),
            Proof::Fails => self.failures += 1,
            Proof::Nothing => {}
        }
        if let Attempt::Unavailable(why) = attempt {
            self.error.get_or_insert_with(|| ApplyProblem::Unavailable { why: why.as_str().into() }.into());
        }
    }
}

impl Workers<'_> {
    /// Makes an attempt on each row of `todo`, which has indices of rows.
    pub(super) fn converge(&self, todo: &[usize]) -> Ended {
        self.watch.expect(todo.len());
        let mut ended = Ended::default();
        if self.may_begin(&mut ended) {
            self.attempt(todo, &mut ended);
        }
        self.note_again(&mut ended);
        ended
    }

    /// Whether one more attempt may begin.
    fn may_begin(&self, ended: &mut Ended) -> bool {
        ended.interrupted |= self.watch.interrupted();
        !ended.interrupted && ended.error.is_none() && ended.failures < self.failures_left
    }

    /// Tries once more to note results that could not be noted, because a success that is not noted costs a second
    /// restart. A debt without a begun attempt was made by a launch since, and stays.
    fn note_again(&self, ended: &mut Ended) {
        let mut unnoted = std::mem::take(&mut ended.unnoted);
        if unnoted.is_empty() {
            return;
        }
        let chat = |row: usize| self.rows[row].chat.id.as_ref();
        // Errors are ignored, because the first one has ended the run.
        let note = |notes: &[Note]| self.locked.note(notes, self.watch.now(self.start));
        let looks: Vec<Note> = unnoted.iter().map(|row| Note::Unchanged { chat: chat(*row) }).collect();
        let Ok(debts) = note(&looks) else { return };
        ended.left.extend(unnoted.iter().map(|row| (*row, debts.get(chat(*row)).cloned())));
        unnoted.retain(|row| debts.get(chat(*row)).is_some_and(|debt| debt.began));
        let mut notes = Vec::new();
        let attempts: Vec<_> = unnoted.iter().filter_map(|row| Some((*row, ended.attempts.get(row)?))).collect();
        let told: Vec<JsonRow> = attempts.iter().map(|(row, attempt)| self.told(*row, verdict(attempt))).collect();
        for ((row, attempt), told) in attempts.iter().zip(&told) {
            notes.extend(self.notes_of(*row, attempt, ended));
            notes.extend(self.does(told));
        }
        if let Ok(debts) = note(&notes) {
            ended.left.extend(unnoted.into_iter().map(|row| (row, debts.get(chat(row)).cloned())));
        }
    }

    fn attempt(&self, todo: &[usize], ended: &mut Ended) {
        let shared = Shared { queue: Mutex::new(todo.chunks(self.batch.max(1))), stop: AtomicBool::new(false) };
        let count = self.parallel.min(todo.len().div_ceil(self.batch.max(1)));
        let (sender, receiver) = mpsc::channel::<Vec<Message>>();
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for _ in 0..count {
                let (shared, sender) = (&shared, sender.clone());
                match Builder::new().spawn_scoped(scope, move || self.work(shared, &sender)) {
                    Ok(worker) => workers.push(worker),
                    // If some workers were started, they make all attempts.
                    Err(error) if workers.is_empty() => ended.error = Some(no_worker(error)),
                    Err(_) => break,
                }
            }
            // The channel closes when the last worker has ended, also by a panic.
            drop(sender);
            while let Ok(first) = receiver.recv() {
                let batch = first.into_iter().chain(receiver.try_iter().flatten()).collect();
                if !self.hear(batch, ended) {
                    shared.stop.store(true, Ordering::Relaxed);
                }
            }
            let panicked = workers.into_iter().map(|worker| worker.join().is_err()).filter(|panicked| *panicked);
            if panicked.count() > 0 {
                let why = || Attempt::Unknown("its outcome is unknown because of a bug in reconcile".to_owned());
                ended.attempts.extend(std::mem::take(&mut ended.begun).into_iter().map(|row| (row, why())));
                ended.error.get_or_insert_with(|| ApplyProblem::Panicked.into());
            }
        });
    }

    /// The main function of a worker thread.
    fn work(&self, shared: &Shared, sender: &Sender<Vec<Message>>) {
        let _stop = StopOnPanic(&shared.stop);
        while let Some(chunk) = shared.next(self.watch) {
            let rows: Vec<&Row> = chunk.iter().map(|row| &self.rows[*row]).collect();
            for row in &rows {
                self.watch.begun(row);
            }
            let attempts = self.locked.converge(&rows, &Asking { workers: self, chunk, sender });
            for row in &rows {
                self.watch.ended(row);
            }
            let ended = chunk.iter().copied().zip(attempts).map(|(row, attempt)| Message::Ended { row, attempt });
            // This fails only if the thread that listens is gone. Then this one ends soon, too.
            let _ = sender.send(ended.collect());
        }
    }

    /// Notes what workers have sent, and answers them. Returns whether further attempts may begin.
    fn hear(&self, batch: Vec<Message>, ended: &mut Ended) -> bool {
        for message in &batch {
            if let Message::Ended { row, attempt } = message {
                ended.count(&self.rows[*row], attempt);
            }
        }
        let go = self.may_begin(ended);
        let chat = |row: usize| self.rows[row].chat.id.as_ref();
        let mut notes = Vec::new();
        let told: Vec<JsonRow> = batch.iter().map(|message| self.told(message.row(), message.verdict())).collect();
        for (message, told) in batch.iter().zip(&told) {
            match message {
                Message::Begins { row, begin, .. } if go => {
                    let Row { owed, runs, .. } = &self.rows[*row];
                    if matches!(begin, Asked::Owing(_)) && owed.is_none() {
                        notes.push(Note::Owes { chat: chat(*row), ran: runs.as_ref(), identity: None });
                    }
                    notes.push(Note::Begun { chat: chat(*row), begin: begin.borrowed() });
                    notes.extend(self.does(told));
                }
                Message::Begins { .. } => {}
                Message::Ended { row, attempt } => {
                    notes.extend(self.notes_of(*row, attempt, ended));
                    notes.extend(self.does(told));
                }
            }
        }
        let result =
            if notes.is_empty() { Ok(BTreeMap::new()) } else { self.locked.note(&notes, self.watch.now(self.start)) };
        crash_point!("attempt noted");
        let debts = result.as_ref().ok();
        for message in batch {
            match message {
                Message::Begins { row, begin, go: answer } => {
                    let settled = go
                        && begin == Asked::Owed
                        && self.purpose == Purpose::Rollout
                        && debts.is_some_and(|debts| !debts.contains_key(chat(row)));
                    if settled {
                        let why = "it was started again meanwhile".to_owned();
                        ended.attempts.insert(row, Attempt::NotNeeded(why));
                    }
                    let begins = go && debts.is_some() && !settled;
                    if begins {
                        ended.begun.insert(row);
                    }
                    // This fails only if the worker is gone.
                    let _ = answer.send(begins);
                }
                Message::Ended { row, attempt } => {
                    ended.begun.remove(&row);
                    match debts {
                        Some(debts) => _ = ended.left.insert(row, debts.get(chat(row)).cloned()),
                        None => ended.unnoted.push(row),
                    }
                    if attempt != Attempt::NotBegun {
                        ended.attempts.insert(row, attempt);
                    }
                }
            }
        }
        ended.error = ended.error.take().or(result.err());
        self.may_begin(ended)
    }

    /// The row as it goes into the history if the run dies before it writes its line.
    fn told(&self, row: usize, verdict: Verdict) -> JsonRow<'_> {
        let row = JsonRow::recorded(&self.rows[row]);
        let owed = verdict != Verdict::Done && (row.restart || row.owed);
        JsonRow { outcome: verdict.name().into(), owed, ..row }
    }

    /// The note for the history that this was done for a row. A revert has no row of its own in the history.
    fn does<'n>(&'n self, row: &'n JsonRow<'n>) -> Option<Note<'n>> {
        let record = self.record.filter(|_| self.purpose == Purpose::Rollout)?;
        Some(Note::Does { record, row })
    }

    /// The notes for the result of an attempt on a row.
    fn notes_of(&self, row: usize, attempt: &Attempt, ended: &Ended) -> Vec<Note<'_>> {
        let row = &self.rows[row];
        let chat = row.chat.id.as_ref();
        let mut notes = Vec::new();
        match attempt {
            Attempt::Changed | Attempt::NotNeeded(_) => notes.push(Note::Settled { chat }),
            Attempt::Failed(_) | Attempt::Refused(_) => notes.push(Note::Failed { chat }),
            // A launch during the restart may have settled the debt, although the session did not come up.
            Attempt::Unhealthy(_) | Attempt::StillDown(_) => {
                notes.extend(owes_a_start(chat));
                notes.push(Note::Failed { chat });
            }
            // The debt was noted when the attempt began, and the request was never sent. An older debt stays.
            Attempt::NotSent(_) if row.owed.is_none() => notes.push(Note::Settled { chat }),
            Attempt::NotSent(_)
            | Attempt::Unknown(_)
            | Attempt::Deferred(_)
            | Attempt::Unavailable(_)
            | Attempt::NotBegun => notes.push(Note::Unchanged { chat }),
        }
        // Only a restart can prove anything about the model.
        let starts = self.purpose == Purpose::Rollout && row.restart;
        let Some(model) = row.after.as_ref().filter(|_| starts) else { return notes };
        let has_worked = self.worked.contains(model) || ended.worked.contains(model);
        match attempt.proof() {
            Proof::Works => notes.push(Note::Worked { chat, model }),
            Proof::Fails => {
                let blame = if has_worked { Blame::Session } else { Blame::Model };
                notes.push(Note::DidNotComeUp { chat, model, blame });
            }
            Proof::Nothing => {}
        }
        notes
    }
}

fn verdict(attempt: &Attempt) -> Verdict {
    match attempt {
        Attempt::Changed | Attempt::NotNeeded(_) => Verdict::Done,
        Attempt::Failed(_) | Attempt::Refused(_) | Attempt::Unhealthy(_) | Attempt::StillDown(_) => Verdict::Failed,
        Attempt::Unknown(_) => Verdict::Unknown,
        Attempt::Deferred(_) | Attempt::Unavailable(_) | Attempt::NotSent(_) | Attempt::NotBegun => Verdict::Deferred,
    }
}

fn no_worker(error: io::Error) -> Error {
    ApplyProblem::NoThread { error }.into()
}

/// What the workers share: the queue of rows, and whether to stop.
struct Shared<'t> {
    queue: Mutex<std::slice::Chunks<'t, usize>>,
    stop: AtomicBool,
}

impl<'t> Shared<'t> {
    fn next(&self, watch: &dyn Watch) -> Option<&'t [usize]> {
        if self.stop.load(Ordering::Relaxed) || watch.interrupted() {
            return None;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// Stops the other workers if this one panics.
struct StopOnPanic<'s>(&'s AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// A message from a worker to the thread that writes the ledger.
enum Message {
    /// The worker is about to change something. It waits until that is noted, and for permission through `go`.
    Begins { row: usize, begin: Asked, go: Sender<bool> },
    /// The attempt on a row has ended.
    Ended { row: usize, attempt: Attempt },
}

impl Message {
    fn row(&self) -> usize {
        match self {
            Self::Begins { row, .. } | Self::Ended { row, .. } => *row,
        }
    }

    /// The verdict on the row, as far as it is known.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Begins { .. } => Verdict::Unknown,
            Self::Ended { attempt, .. } => verdict(attempt),
        }
    }
}

/// [`Begin`] without a borrow, to be sent between threads.
#[derive(PartialEq, Eq)]
enum Asked {
    Owed,
    Owing(String),
    Free,
}

impl Asked {
    fn borrowed(&self) -> Begin<'_> {
        match self {
            Self::Owed => Begin::Owed,
            Self::Owing(run) => Begin::Owing(run),
            Self::Free => Begin::Free,
        }
    }
}

impl From<Begin<'_>> for Asked {
    fn from(begin: Begin) -> Self {
        match begin {
            Begin::Owed => Self::Owed,
            Begin::Owing(run) => Self::Owing(run.to_owned()),
            Begin::Free => Self::Free,
        }
    }
}

/// The turn of a worker: asks the thread that writes the ledger.
struct Asking<'a> {
    workers: &'a Workers<'a>,
    chunk: &'a [usize],
    sender: &'a Sender<Vec<Message>>,
}

impl Turn for Asking<'_> {
    fn begin(&self, row: &Row, begin: Begin<'_>) -> bool {
        self.begin_each(&[row], begin) == [true]
    }

    /// Sends all rows in one message, so that they are noted together.
    fn begin_each(&self, rows: &[&Row], begin: Begin<'_>) -> Vec<bool> {
        let mut asked = Vec::new();
        let mut answers = Vec::new();
        for row in rows {
            let (go, answer) = mpsc::channel();
            let of_row = |index: &usize| self.workers.rows[*index].chat.id == row.chat.id;
            let index = self.chunk.iter().copied().find(of_row);
            asked.extend(index.map(|row| Message::Begins { row, begin: begin.into(), go }));
            answers.push(answer);
        }
        // If the other thread is gone, no answer comes, and no attempt begins.
        let _ = self.sender.send(asked);
        answers.into_iter().map(|answer| answer.recv().unwrap_or(false)).collect()
    }

    fn is_over(&self) -> bool {
        self.workers.watch.interrupted()
    }
}
