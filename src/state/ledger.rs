//! The ledger's file: a journal of what has become of some chats' debts and corrections. Of each chat the last word counts.
//!
//! Every hold of `data.lock` reads what others have added since, and appends to the file that has the name then: a launch
//! must never append to a file that a run has just compacted.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chat::Model;
use crate::error::{Error, Result};
use crate::os::exchange::ExchangeNote;
use crate::os::lock::Lock;
use crate::plan::draft::Draft;
use crate::plan::ledger::{Correction, Debt, Ledger, Note};
use crate::plan::trial::{FailedStart, Trial};
use crate::state::dir::StateDir;
use crate::state::journal::{Access, Journal, Reopened, damaged, replace};
use crate::state::version_1::{self, Left};

const NAME: &str = version_1::MOVED_TO;
const DATA_LOCK: &str = "data.lock";
/// The form of the journal's records.
const VERSION: u32 = 2;
/// `data.lock` is never held for long, so a run that has begun waits for it, also one that would not wait for another run.
const BRIEFLY: Duration = Duration::from_secs(10);

/// What the file keeps: the ledger, and the replacement of the registry that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What is the same for every backend.
    pub ledger: Ledger,
    /// A replacement that was noted before it was made. A run that dies in between is put right by the next one.
    pub exchange: Option<ExchangeNote>,
}

/// What has become of some chats' debts and corrections: `None` where there is none any more. A record of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Patch {
    /// Stands in the first record of a journal, which holds all that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
    /// How many records stood in the journals that this one has replaced. It stands in the first record, and tells a
    /// journal that was compacted from an older copy of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) earlier: Option<u64>,
    /// Debts, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub owed: BTreeMap<String, Option<Debt>>,
    /// Corrections, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub corrected: BTreeMap<String, Option<Correction>>,
    /// Sessions that did not come up on a model, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, Option<FailedStart>>,
    /// What is known of models.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub trials: BTreeMap<Model, Option<Trial>>,
    /// What commands have done and the history does not tell yet, added to what was known of each; `None` where it tells.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unrecorded: BTreeMap<String, Option<Draft>>,
    /// The replacement under way, where that has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeState>,
}

/// Whether a replacement of the registry is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExchangeState {
    /// This one is under way.
    UnderWay(ExchangeNote),
    /// It has ended: none is, and nothing was changed.
    Ended,
    /// It has ended, and its edits were made.
    Made,
}

impl Patch {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All that is kept, after so many records.
    fn whole(kept: &Kept, earlier: u64) -> Self {
        let Kept { ledger: Ledger { owed, corrected, failed, trials, unrecorded }, exchange } = kept;
        Self {
            version: Some(VERSION),
            earlier: Some(earlier).filter(|earlier| *earlier > 0),
            owed: all(owed),
            corrected: all(corrected),
            failed: all(failed),
            trials: all(trials),
            unrecorded: all(unrecorded),
            exchange: exchange.clone().map(ExchangeState::UnderWay),
        }
    }

    /// As a record that is not the first.
    fn without_version(self) -> Self {
        Self { version: None, ..self }
    }

    fn json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::other(error.to_string()))
    }
}

impl Kept {
    /// Takes what a patch says.
    pub(crate) fn patch(&mut self, patch: Patch) {
        let Patch { version: _, earlier: _, owed, corrected, failed, trials, unrecorded, exchange } = patch;
        put(&mut self.ledger.owed, owed);
        put(&mut self.ledger.corrected, corrected);
        put(&mut self.ledger.failed, failed);
        put(&mut self.ledger.trials, trials);
        for (name, draft) in unrecorded {
            match draft {
                Some(draft) => self.ledger.unrecorded.entry(name).or_default().merge(draft),
                None => _ = self.ledger.unrecorded.remove(&name),
            }
        }
        match exchange {
            Some(ExchangeState::UnderWay(exchange)) => self.exchange = Some(exchange),
            Some(ExchangeState::Ended) => self.end_exchange(Draft::unmade),
            Some(ExchangeState::Made) => self.end_exchange(Draft::made),
            None => {}
        }
    }

    fn end_exchange(&mut self, end: fn(&mut Draft)) {
        self.exchange = None;
        self.ledger.unrecorded.values_mut().for_each(end);
    }

    /// The patch that takes these notes, which changes nothing yet.
    pub(crate) fn noting(&self, notes: &[Note], now: Timestamp) -> Patch {
        let before = &self.ledger;
        let chats: BTreeSet<&str> = notes.iter().map(Note::chat).collect();
        // Only the chats that the notes are about can change, and models: nothing else need be compared. What becomes of a
        // model depends on all starts that failed, which are few.
        let mut after = Ledger {
            owed: some(&before.owed, &chats),
            corrected: some(&before.corrected, &chats),
            failed: before.failed.clone(),
            trials: before.trials.clone(),
            // Nothing but what is added: all of it may be long.
            unrecorded: before.unrecorded.keys().map(|name| (name.clone(), Draft::default())).collect(),
        };
        for note in notes {
            after.note(note, now);
        }
        let models = before.trials.keys().chain(after.trials.keys());
        let mut patch = Patch {
            owed: changed(&before.owed, &after.owed, chats.iter().copied()),
            corrected: changed(&before.corrected, &after.corrected, chats.iter().copied()),
            failed: changed(&before.failed, &after.failed, chats.iter().copied()),
            trials: changed(&before.trials, &after.trials, models),
            unrecorded: after
                .unrecorded
                .into_iter()
                .filter(|(_, draft)| *draft != Draft::default())
                .map(|(name, draft)| (name, Some(draft)))
                .collect(),
            ..Patch::default()
        };
        if notes.iter().any(|note| matches!(note, Note::Confirmed { .. })) {
            for chat in self.ledger.lasting(now) {
                patch.corrected.entry(chat.to_owned()).or_insert(None);
            }
        }
        patch
    }
}

fn all<K: Ord + Clone, T: Clone>(kept: &BTreeMap<K, T>) -> BTreeMap<K, Option<T>> {
    kept.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
}

fn put<K: Ord, T>(all: &mut BTreeMap<K, T>, changes: BTreeMap<K, Option<T>>) {
    for (key, change) in changes {
        match change {
            Some(value) => _ = all.insert(key, value),
            None => _ = all.remove(&key),
        }
    }
}

fn some<T: Clone>(all: &BTreeMap<String, T>, chats: &BTreeSet<&str>) -> BTreeMap<String, T> {
    let found = chats.iter().filter_map(|chat| all.get_key_value(*chat));
    found.map(|(chat, value)| (chat.clone(), value.clone())).collect()
}

fn changed<'k, K, Q, T>(
    before: &BTreeMap<K, T>,
    after: &BTreeMap<K, T>,
    keys: impl Iterator<Item = &'k Q>,
) -> BTreeMap<K, Option<T>>
where
    K: Ord + Borrow<Q>,
    Q: Ord + ToOwned<Owned = K> + ?Sized + 'k,
    T: Clone + PartialEq,
{
    let differs = keys.filter(|key| before.get(*key) != after.get(*key));
    differs.map(|key| (key.to_owned(), after.get(key).cloned())).collect()
}

/// Reads what is kept, without the lock: for runs that change nothing.
///
/// # Errors
/// Where it is damaged, or was written by a later version. That is never "no debts".
pub(crate) fn read(dir: &StateDir) -> Result<Kept> {
    let mut reader = Reader::default();
    reader.read_on(dir)?;
    Ok(reader.kept)
}

/// What was read of the file so far.
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
    /// There is none.
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
            let patch: Patch =
                serde_json::from_slice(&record).map_err(|error| damaged(dir, NAME, &error.to_string()))?;
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
        let hint = if restored { "what was known of it was written again: run again" } else { LOST };
        Error::other(format!("the ledger {} was removed while it was in use", dir.path(NAME).display())).with_hint(hint)
    }
}

/// What to do where the debts of a run are lost.
const LOST: &str = "restore it, or restart by hand the sessions that are reported as owed";

fn older(dir: &StateDir) -> Error {
    let path = dir.path(NAME);
    Error::other(format!("the ledger {} was replaced by an older copy while it was in use", path.display()))
        .with_hint(LOST)
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
    let first: First = serde_json::from_slice(first).map_err(|error| damaged(dir, NAME, &error.to_string()))?;
    if first.version == VERSION {
        return Ok(first);
    }
    let (path, version) = (dir.path(NAME), first.version);
    Err(Error::other(format!(
        "{} has the form {version}, and this version of reconcile knows {VERSION}",
        path.display()
    ))
    .with_hint("it was written by a later version: use that one, or a later one still"))
}

/// The ledger of a state directory.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    dir: StateDir,
    read: Mutex<Reader>,
}

impl LedgerFile {
    /// Of this directory.
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
        // Within the program, too, one holder at a time.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.dir.check_in_place()?;
        let lock = self.dir.lock(DATA_LOCK, patience, give_up)?;
        // Also where a journal is there already: this program may have died in the middle of the change to it.
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

    /// That `data.lock` still keeps others away.
    ///
    /// # Errors
    /// Where it does not.
    pub(crate) fn check_held(&self) -> Result<()> {
        self.dir.check_held(&self.lock)
    }

    /// Whether a chat owes a restart; `None` where something went wrong, and what stands in the file cannot be told.
    pub(crate) fn owes(&self, chat: &str) -> Option<bool> {
        (!matches!(self.read.file, Read::Unread)).then(|| self.ledger().owed.contains_key(chat))
    }

    /// Takes what a patch says. On disk when it returns.
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
            // The error that matters is the first. What cannot be read now is read before anything else is written.
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

    /// Replaces the file by one that holds nothing but this.
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
