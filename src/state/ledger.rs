//! The ledger's file: a journal of what has become of some chats' debts and corrections. Of each chat the last word counts.
//!
//! Every hold of `data.lock` reads what others have added since, and appends to the file that has the name then: a launch
//! must never append to a file that a run has just compacted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::foreign::Foreign;
use crate::os::lock::Lock;
use crate::plan::json::{JsonRun, name_after};
use crate::plan::last_applied::{Found, LastApplied, Reach};
use crate::plan::ledger::{Debt, Ledger, Note};
use crate::state::dir::StateDir;
use crate::state::journal::{Access, Journal, Reopened, damaged, replace};
use crate::state::kept::{Kept, Patch, VERSION};
use crate::state::problem::{StateProblem, Then};
use crate::state::version_1::{self, Left};
use crate::state::{history, last_applied};

const NAME: &str = version_1::MOVED_TO;
const DATA_LOCK: &str = "data.lock";
/// `data.lock` is never held for long, so a run that has begun waits for it, also one that would not wait for another run.
const BRIEFLY: Duration = Duration::from_secs(10);

/// Reads what is kept, without the lock: for runs that change nothing.
///
/// # Errors
/// Where it is damaged, or was written by a later version. That is never "no debts".
pub(crate) fn read(dir: &StateDir) -> Result<Kept> {
    let mut reader = Reader::default();
    reader.read_on(dir)?;
    Ok(reader.kept)
}

/// What was read of the ledger's file so far.
#[derive(Debug, Default)]
struct Reader {
    access: Access,
    file: Read,
    /// How many records led to what is kept, those of earlier journals included.
    records: u64,
    kept: Kept,
}

/// How far the file was read.
#[derive(Debug, Default)]
enum Read {
    /// Not at all, or not to its end.
    #[default]
    Unread,
    /// There is no file.
    Missing,
    /// To the end of this journal.
    Whole(Journal),
}

impl Reader {
    /// Reads what was added since.
    fn read_on(&mut self, dir: &StateDir) -> Result<()> {
        // Put back only when all of it was read: what was read halfway is read anew, and never appended to.
        let known = match std::mem::take(&mut self.file) {
            Read::Whole(journal) => Some(journal),
            Read::Unread | Read::Missing => None,
        };
        let mut reopened = Journal::reopen(dir, NAME, self.access, known)?;
        if matches!(reopened, Reopened::Missing) {
            if self.records > 0 {
                return Err(self.restore(dir));
            }
            let left;
            (reopened, left) = left_by_version_1(dir, self.access)?;
            self.kept = left;
        }
        let (journal, records) = match reopened {
            Reopened::Missing => {
                self.file = Read::Missing;
                return Ok(());
            }
            Reopened::Same(journal, records) => {
                self.records += records.len() as u64;
                (journal, records)
            }
            Reopened::Another(journal, records) => {
                let led_to_it = first_of(dir, records.first())?.earlier + records.len() as u64;
                if led_to_it < self.records {
                    return Err(older(dir));
                }
                self.records = led_to_it;
                self.kept = Kept::default();
                (journal, records)
            }
        };
        for record in records {
            let patch: Patch = serde_json::from_slice(&record)
                .map_err(|error| damaged(dir, NAME, Foreign::from(error.to_string())))?;
            self.kept.patch(patch);
        }
        self.file = Read::Whole(journal);
        Ok(())
    }

    /// The error of a file that was read before and is not there any more. What is known of it is written down again: the
    /// next run must not take its absence for "nothing is owed".
    fn restore(&self, dir: &StateDir) -> Error {
        let whole = || replace(dir, NAME, &Patch::whole(&self.kept, self.records).json()?);
        let restored = self.access == Access::Append && whole().is_ok();
        let then = if restored { Then::Restored } else { Then::Lost };
        StateProblem::LedgerRemoved { path: dir.path(NAME), then }.into()
    }
}

fn older(dir: &StateDir) -> Error {
    StateProblem::LedgerReplaced { path: dir.path(NAME) }.into()
}

/// What version 0.1 left where there is no journal.
fn left_by_version_1(dir: &StateDir, access: Access) -> Result<(Reopened, Kept)> {
    match version_1::ledger(dir)? {
        Left::Nothing => Ok((Reopened::Missing, Kept::default())),
        Left::Kept((ledger, exchange)) => Ok((Reopened::Missing, Kept { ledger, exchange })),
        // Another run may have moved it between the two looks.
        Left::Moved => match Journal::reopen(dir, NAME, access, None)? {
            Reopened::Missing => Err(version_1::missing(dir)),
            journal => Ok((journal, Kept::default())),
        },
    }
}

/// What only the first record of a journal says.
#[derive(Deserialize)]
struct First {
    version: u32,
    #[serde(default)]
    earlier: u64,
}

/// The first record, which must be there, and of a form that is known here.
fn first_of(dir: &StateDir, first: Option<&Vec<u8>>) -> Result<First> {
    let first = first.ok_or_else(|| damaged(dir, NAME, "it has no first record"))?;
    let first: First =
        serde_json::from_slice(first).map_err(|error| damaged(dir, NAME, Foreign::from(error.to_string())))?;
    if first.version == VERSION {
        return Ok(first);
    }
    Err(StateProblem::LaterVersion { path: dir.path(NAME), version: first.version, known: VERSION }.into())
}

/// The ledger of a state directory.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    dir: StateDir,
    read: Mutex<Reader>,
}

impl LedgerFile {
    /// The ledger of this state directory.
    pub(crate) fn new(dir: StateDir) -> Self {
        let read = Mutex::new(Reader { access: Access::Append, ..Reader::default() });
        Self { dir, read }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// Takes `data.lock` in the middle of a run, and reads what others have added since.
    ///
    /// # Errors
    /// Where the lock is held for too long, or the ledger cannot be used.
    pub(crate) fn open(&self) -> Result<OpenLedger<'_>> {
        self.open_within(BRIEFLY, &|| false)
    }

    /// Takes `data.lock`, waiting for it at most `patience` and until `give_up` says so, and reads what others have added
    /// since.
    ///
    /// # Errors
    /// Where the lock is held for longer, or the ledger cannot be used.
    pub(crate) fn open_within(&self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<OpenLedger<'_>> {
        // `data.lock` keeps out other processes. Among the threads of this one, the mutex does.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.dir.check_in_place()?;
        let lock = self.dir.lock(DATA_LOCK, patience, give_up)?;
        // Once in each process, also where there is a journal: an earlier process may have died during the move from version 0.1.
        let is_first = !matches!(read.file, Read::Whole(_));
        read.read_on(&self.dir)?;
        self.dir.discard_unfinished(NAME)?;
        let mut open = OpenLedger { dir: &self.dir, read, lock };
        if is_first {
            open.leave_version_1()?;
        }
        Ok(open)
    }
}

/// The ledger, as long as `data.lock` is held.
#[derive(Debug)]
pub(crate) struct OpenLedger<'l> {
    dir: &'l StateDir,
    read: MutexGuard<'l, Reader>,
    lock: Lock,
}

impl OpenLedger<'_> {
    /// What is kept.
    pub(crate) fn kept(&self) -> &Kept {
        &self.read.kept
    }

    /// The ledger.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.read.kept.ledger
    }

    /// The ledger, with what each chat was last given.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub(crate) fn ledger_with_applied(&self) -> Result<Ledger> {
        Ok(self.ledger_with(last_applied::read(self.dir)?))
    }

    fn ledger_with(&self, last_applied: LastApplied) -> Ledger {
        Ledger { last_applied: Arc::new(last_applied), ..self.ledger().clone() }
    }

    /// Checks that `data.lock` still keeps other runs away.
    ///
    /// # Errors
    /// Where the lock file or a directory on its path was moved or replaced.
    pub(crate) fn check_held(&self) -> Result<()> {
        self.dir.check_held(&self.lock)
    }

    /// Whether a chat owes a restart; `None` where something went wrong, and what stands in the file cannot be told.
    pub(crate) fn owes(&self, chat: &str) -> Option<bool> {
        (!matches!(self.read.file, Read::Unread)).then(|| self.ledger().owed.contains_key(chat))
    }

    /// Takes notes, and returns what their chats owe then.
    ///
    /// # Errors
    /// Where they cannot be saved.
    pub(crate) fn note(&mut self, notes: &[Note], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        let patch = self.kept().noting(notes, now);
        self.append(patch)?;
        let owed = &self.ledger().owed;
        let debts = notes.iter().filter_map(|note| owed.get_key_value(note.chat()));
        Ok(debts.map(|(chat, debt)| (chat.clone(), debt.clone())).collect())
    }

    /// A name in the history for a command that begins, after those of all others.
    ///
    /// # Errors
    /// Where the history cannot be read.
    pub(crate) fn name_run(&self, at: Timestamp) -> Result<String> {
        let recorded = history::newest_name(self.dir)?;
        let newest = self.ledger().unrecorded.keys().cloned().max().max(recorded);
        Ok(name_after(newest.as_deref(), at))
    }

    /// Appends to the history what is not told there yet: what this run did, and what commands did that died or started a
    /// session.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub(crate) fn record(&mut self, own: Option<&JsonRun>) -> Result<()> {
        let drafts = self.ledger().unrecorded.clone();
        let names: Vec<String> = drafts.keys().cloned().collect();
        let drafts = drafts.into_iter().filter(|(name, _)| own.is_none_or(|own| own.run != *name));
        let mut runs: Vec<JsonRun> = drafts.filter_map(|(name, draft)| draft.into_run(&name)).collect();
        if let Some(own) = own {
            // A name that was not reserved by an effect may be another run's by now.
            let is_reserved = names.iter().any(|name| *name == own.run);
            let name = if is_reserved { own.run.to_string() } else { self.name_run(own.at)? };
            runs.push(JsonRun { run: name.into(), ..own.clone() });
        }
        if runs.is_empty() && names.is_empty() {
            return Ok(());
        }
        runs.sort_by(|a, b| a.run.cmp(&b.run));
        history::append(self.dir, &runs)?;
        crash_point!("history: appended");
        self.append(Patch { unrecorded: names.into_iter().map(|name| (name, None)).collect(), ..Patch::default() })
    }

    /// Saves what each chat was last given, with what a run has found. Then what was written since need not be remembered.
    ///
    /// # Errors
    /// Where it cannot be saved.
    pub(crate) fn remember(&mut self, found: &Found, reach: Reach) -> Result<()> {
        let ledger = self.ledger_with(last_applied::read_to_add(self.dir)?);
        let Some(by_now) = ledger.applied_by_now(found, reach) else { return Ok(()) };
        self.check_held()?;
        last_applied::save(self.dir, &by_now)?;
        let wrote = ledger.settled_by(found).map(|chat| (chat.to_owned(), None)).collect();
        self.append(Patch { wrote, ..Patch::default() })
    }

    /// Forgets what chats were last given.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub(crate) fn forget_applied(&mut self) -> Result<()> {
        self.check_held()?;
        last_applied::forget(self.dir)?;
        let wrote = self.ledger().wrote.keys().map(|chat| (chat.clone(), None)).collect();
        self.append(Patch { wrote, ..Patch::default() })
    }

    /// Applies a patch, which is on disk when this returns.
    ///
    /// # Errors
    /// Where it cannot be saved, or `data.lock` no longer keeps others away. It may have been taken all the same, as when
    /// the file has its name and the name cannot be saved: what is kept is then what the next reader finds.
    pub(crate) fn append(&mut self, patch: Patch) -> Result<()> {
        if patch.is_empty() {
            return Ok(());
        }
        self.check_held()?;
        if matches!(self.read.file, Read::Unread) {
            self.read.read_on(self.dir)?;
        }
        let written = self.write(patch);
        if written.is_err() {
            // A second error is not reported: the first one is the cause, and the file is read again before the next write.
            let _ = self.read.read_on(self.dir);
        }
        written
    }

    fn write(&mut self, patch: Patch) -> Result<()> {
        let Reader { file, kept, records, .. } = &mut *self.read;
        match file {
            Read::Whole(journal) if !journal.is_long() => {
                journal.append(self.dir, NAME, &patch.json()?)?;
                kept.patch(patch);
                *records += 1;
                Ok(())
            }
            _ => {
                let mut after = kept.clone();
                after.patch(patch);
                self.rewrite(&after)
            }
        }
    }

    /// Replaces the file by one whose only record is all that is kept.
    fn rewrite(&mut self, kept: &Kept) -> Result<()> {
        let is_new = !matches!(self.read.file, Read::Whole(_));
        replace(self.dir, NAME, &Patch::whole(kept, self.read.records).json()?)?;
        self.read.read_on(self.dir)?;
        if is_new { version_1::close(self.dir) } else { Ok(()) }
    }

    /// Moves what version 0.1 kept in one file to where this version keeps it.
    fn leave_version_1(&mut self) -> Result<()> {
        if matches!(self.read.file, Read::Whole(_)) {
            // The program died in the middle of the move, and a run of version 0.1 may have gone on with its own file since.
            // What is damaged there was never in use beside a journal.
            if let Ok(Left::Kept((ledger, exchange))) = version_1::ledger(self.dir) {
                self.append(Patch::whole(&Kept { ledger, exchange }, 0).without_version())?;
            }
            return version_1::close(self.dir);
        }
        let Left::Kept(_) = version_1::ledger(self.dir)? else { return Ok(()) };
        version_1::move_backend_notes(self.dir)?;
        let kept = self.read.kept.clone();
        self.rewrite(&kept)
    }
}
