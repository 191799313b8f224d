//! Changes the registry and the ledger under `data.lock`. Edits are committed together with the restarts that they will
//! owe, or not at all. Before the registry is replaced, the ledger names both files, so that the next holder of the
//! lock can finish or undo a replacement in which a run died.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::{Batch, Change, Committed, Stands};
use crate::backend::file::problem::MOVED;
use crate::backend::file::registry::RegistryFile;
use crate::backend::file::snapshot::FileSnapshot;
use crate::chat::Model;
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::os::exchange::{Exchange, ExchangeNote, Method, Pinned};
use crate::os::lock::Lock;
use crate::os::mount::check_writable;
use crate::os::rights::{keep, mark_with_state};
use crate::os::{FileMeta, Stamp, fill};
use crate::plan::json::JsonRun;
use crate::plan::last_applied::{Found, Reach};
use crate::plan::ledger::{Debt, Note};
use crate::plan::{Reading, Row};
use crate::registry::json::edit::{put_member, set_model};
use crate::registry::{Key, Position, Snapshot};
use crate::splice::Splice;
use crate::state::dir::StateDir;
use crate::state::kept::{ExchangeState, Patch};
use crate::state::key::KEY;
use crate::state::ledger::{LedgerFile, OpenLedger};
use crate::state::run::lock_run;
use crate::state::{history, last_applied};

/// The name of the new registry in the state directory. After an exchange, it is the name of the displaced one.
pub(super) const NEW: &str = "registry.new";

/// A registry and its ledger, which are changed under `data.lock`.
#[derive(Debug)]
pub struct Files {
    pub(super) registry: RegistryFile,
    ledger: LedgerFile,
    method: Method,
}

/// Whether a replacement goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proceed {
    /// It goes on.
    Yes,
    /// It does not, because a condition of the plan no longer holds.
    Stale,
}

/// The result of a replacement.
#[derive(Debug)]
pub(super) enum Replaced {
    /// Nothing has happened, because the registry has been changed since it was read.
    Stale,
    /// The registry was replaced by the file with this stamp. The error is what went wrong after that.
    Made(Stamp, Option<Error>),
}

/// The notes that belong to a replacement.
pub(super) struct NotesAround<'a> {
    /// The notes to be saved before it.
    pub(super) before: &'a [Note<'a>],
    /// The notes to be saved after it.
    pub(super) after: &'a [Note<'a>],
    pub(super) now: Timestamp,
    /// Called right before the replacement, with its files.
    pub(super) ready: &'a dyn Fn(&ExchangeNote) -> Result<Proceed>,
}

impl Files {
    /// The files of a registry. Creates the state directory if there is none.
    ///
    /// # Errors
    /// Where the state directory cannot be made or used.
    pub fn new(registry: RegistryFile, meta: FileMeta) -> Result<Self> {
        // If the directory is read-only, a registry that is mounted as a single file is the better error.
        check_writable(registry.directory()).or_else(|_| registry.check_replaceable())?;
        let dir = registry.new_state_dir(meta)?;
        Ok(Self { registry, ledger: LedgerFile::new(dir), method: Method::Exchange })
    }

    pub(crate) fn dir(&self) -> &StateDir {
        self.ledger.dir()
    }

    /// Takes `data.lock` in the middle of a run, and finishes or undoes a replacement in which its last holder died.
    ///
    /// # Errors
    /// Where the lock is held for too long, or the files cannot be used.
    pub(crate) fn open(&self) -> Result<OpenLedger<'_>> {
        self.recovered(self.ledger.open()?)
    }

    /// Opens the files at the beginning of a command. Waits for their lock for at most `patience`, and no longer when `give_up` returns
    /// true.
    ///
    /// # Errors
    /// Where the lock is held for longer, or the files cannot be used.
    pub(crate) fn open_within(&self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<OpenLedger<'_>> {
        self.recovered(self.ledger.open_within(patience, give_up)?)
    }

    fn recovered<'l>(&'l self, mut ledger: OpenLedger<'l>) -> Result<OpenLedger<'l>> {
        if let Some(note) = ledger.kept().exchange.clone() {
            let is_made = self.exchange().recover(&note, &mut |note| ledger.append(under_way(note)))?;
            self.dir().remove(NEW)?;
            // The note must go with the files, because it would be read as a note about the next ones.
            let ended = if is_made { ExchangeState::Made } else { ExchangeState::Ended };
            ledger.append(Patch { exchange: Some(ended), ..Patch::default() })?;
        }
        self.dir().remove(NEW)?;
        self.dir().discard_unfinished(KEY)?;
        last_applied::discard_unfinished(self.dir())?;
        Ok(ledger)
    }

    pub(super) fn exchange(&self) -> Exchange<'_> {
        Exchange { target: self.registry.place(), waiting: self.dir().place(NEW), method: self.method }
    }

    /// Appends the line of a launch to the history. Other drafts stay, because their runs may not have ended.
    pub(super) fn record_launch(&self, ledger: &mut OpenLedger, name: &str) -> Result<()> {
        let Some(draft) = ledger.ledger().unrecorded.get(name).cloned() else { return Ok(()) };
        history::append(self.dir(), draft.into_run(name).map(JsonRun::finished).as_slice())?;
        crash_point!("launch: history appended");
        let unrecorded = [(name.to_owned(), None)].into();
        ledger.append(Patch { unrecorded, ..Patch::default() })
    }

    /// Writes the new registry into the state directory, with the rights of the old one.
    pub(super) fn write_new(&self, seen: &FileSnapshot, splices: &[Splice], replaced: FileMeta) -> Result<Pinned> {
        let place = self.dir().place(NEW);
        let file = self.dir().create_new(NEW)?;
        crash_point!("registry: new file begun");
        let written = seen
            .attributes()
            .and_then(|attributes| keep(&file, replaced, &attributes, self.registry.file()))
            .and_then(|()| {
                mark_with_state(&file);
                fill(&file, &place.path(), |out| seen.write_edited(splices, out))
            })
            .and_then(|()| Pinned::of(file, place));
        if written.is_err() {
            // The error of the write is returned, and not one of the removal.
            let _ = place.remove();
        }
        written
    }

    /// Replaces the registry by `seen` with these edits made, and saves the notes that belong to that.
    ///
    /// # Errors
    /// Where nothing has happened.
    pub(super) fn replace(
        &self,
        ledger: &mut OpenLedger,
        seen: &FileSnapshot,
        splices: &[Splice],
        around: &NotesAround,
    ) -> Result<Replaced> {
        let exchange = self.exchange();
        let Some(meta) = exchange.unchanged(seen.stamp())? else { return Ok(Replaced::Stale) };
        let new = self.write_new(seen, splices, meta)?;
        let stamp = new.stamp;
        let ours = [seen.stamp(), stamp];
        let note = ExchangeNote { seen: seen.stamp(), new: stamp, back: None };
        let earlier = match prepare(ledger, note, around) {
            Ok(Some(earlier)) => earlier,
            Ok(None) => {
                exchange.clear(ours)?;
                return Ok(Replaced::Stale);
            }
            Err(error) => {
                // The first error is returned, and not one of the removal.
                let _ = exchange.clear(ours);
                return Err(error);
            }
        };
        let result = exchange.run(seen.stamp(), new, &mut |note| ledger.append(under_way(note)));
        crash_point!("registry: replaced");
        match result {
            Ok(Some(_)) => Ok(Replaced::Made(stamp, self.close(ledger, ours, around).err())),
            Ok(None) => {
                exchange.clear(ours)?;
                ledger.append(Patch { owed: earlier, exchange: Some(ExchangeState::Ended), ..Patch::default() })?;
                Ok(Replaced::Stale)
            }
            // The note stays, so that the next holder of the lock finishes or undoes the exchange. If the state of the
            // registry cannot be found out, it may have been replaced.
            Err(error) if self.registry.meta().map_or(true, |now| now.stamp != seen.stamp()) => {
                Ok(Replaced::Made(stamp, Some(error)))
            }
            Err(error) => {
                // If the debts cannot be taken back, the next run finds them void, because the registry is unchanged.
                let _ = ledger.append(Patch { owed: earlier, ..Patch::default() });
                Err(error)
            }
        }
    }

    /// Removes the displaced registry, and notes that the exchange was made.
    fn close(&self, ledger: &mut OpenLedger, ours: [Stamp; 2], around: &NotesAround) -> Result<()> {
        self.exchange().clear(ours)?;
        crash_point!("registry: displaced file removed");
        let patch = ledger.kept().noting(around.after, around.now);
        ledger.append(Patch { exchange: Some(ExchangeState::Made), ..patch })
    }
}

/// Saves what must be known if the run dies during the exchange. Returns the debts of before, by chat id; `None` where the
/// replacement must not go on.
fn prepare(
    ledger: &mut OpenLedger,
    note: ExchangeNote,
    around: &NotesAround,
) -> Result<Option<BTreeMap<String, Option<Debt>>>> {
    crash_point!("registry: new file written");
    if (around.ready)(&note)? == Proceed::Stale {
        return Ok(None);
    }
    let mut patch = ledger.kept().noting(around.before, around.now);
    let owed = &ledger.ledger().owed;
    let earlier = patch.owed.keys().map(|chat| (chat.clone(), owed.get(chat).cloned())).collect();
    patch.exchange = Some(ExchangeState::UnderWay(note));
    if let Err(error) = ledger.append(patch) {
        // The record may be in the journal nevertheless.
        if ledger.kept().exchange.is_some() {
            let _ = ledger.append(Patch { owed: earlier, exchange: Some(ExchangeState::Ended), ..Patch::default() });
        }
        return Err(error);
    }
    crash_point!("debts saved");
    Ok(Some(earlier))
}

fn under_way(note: &ExchangeNote) -> Patch {
    Patch { exchange: Some(ExchangeState::UnderWay(note.clone())), ..Patch::default() }
}

/// The files, for the run that holds `run.lock`.
#[derive(Debug)]
pub struct LockedFiles {
    files: Files,
    /// The last registry that this run has written.
    made: Mutex<Option<Stamp>>,
    run: Lock,
}

impl LockedFiles {
    /// Takes `run.lock`, and finishes or undoes what a run that died has left. Waits for at most `patience`, and no longer when
    /// `give_up` returns true.
    ///
    /// # Errors
    /// Where another run holds the lock for longer, or the state cannot be used.
    pub fn lock(registry: &RegistryFile, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Self> {
        let files = Files::new(registry.clone(), registry.meta()?)?;
        let run = lock_run(files.dir(), patience, give_up)?;
        files.open_within(patience, give_up)?.record(None)?;
        Ok(Self { files, made: Mutex::default(), run })
    }

    /// Sets the method of replacing the registry, for tests of file systems that cannot exchange two files.
    #[must_use]
    pub fn with_method(mut self, method: Method) -> Self {
        self.files.method = method;
        self
    }

    pub(crate) fn dir(&self) -> &StateDir {
        self.files.dir()
    }

    /// Takes `data.lock`, and checks that `run.lock` is still held.
    fn open(&self) -> Result<OpenLedger<'_>> {
        let ledger = self.files.open()?;
        self.dir().check_held(&self.run)?;
        Ok(ledger)
    }

    /// Commits a batch. `ready` is called right before the registry is replaced.
    ///
    /// # Errors
    /// Where nothing has happened.
    pub fn commit(
        &self,
        reading: &Reading,
        batch: &Batch,
        ready: &dyn Fn(&ExchangeNote) -> Result<Proceed>,
    ) -> Result<Committed> {
        if batch.is_empty() {
            return Ok(Committed::Done { error: None });
        }
        let snapshot = FileSnapshot::of(reading)?;
        let mut ledger = self.open()?;
        if batch.is_stale(ledger.ledger()) {
            return Ok(Committed::Stale);
        }
        let after = batch.notes_after();
        if batch.changes.is_empty() {
            let notes: Vec<Note> = batch.notes.iter().copied().chain(after).collect();
            let patch = ledger.kept().noting(&notes, batch.now);
            ledger.append(patch)?;
            return Ok(Committed::Done { error: None });
        }
        let before = batch.notes_before();
        let ready = |note: &ExchangeNote| {
            let proceed = ready(note)?;
            self.dir().check_held(&self.run)?;
            Ok(proceed)
        };
        let around = NotesAround { before: &before, after: &after, now: batch.now, ready: &ready };
        let splices = splices(snapshot, batch)?;
        match self.files.replace(&mut ledger, snapshot, &splices, &around)? {
            Replaced::Stale => Ok(Committed::Stale),
            Replaced::Made(stamp, error) => {
                *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
                Ok(Committed::Done { error })
            }
        }
    }

    /// Sets members of entries. `ready` is called right before the registry is replaced.
    ///
    /// # Errors
    /// Where nothing has happened. What goes wrong after the effect is returned in [`Committed::Done`].
    pub fn complete(
        &self,
        reading: &Reading,
        additions: &[Addition<'_>],
        now: Timestamp,
        ready: &dyn Fn(&ExchangeNote) -> Result<Proceed>,
    ) -> Result<Committed> {
        let snapshot = FileSnapshot::of(reading)?;
        let mut splices = Vec::new();
        for Addition { at, name, value } in additions {
            let set = |text: &str, at| put_member(text, snapshot.form(), at, name, value);
            splices.push(snapshot.edit(*at, &set)?.ok_or(MOVED)?);
        }
        splices.sort_by_key(|splice| splice.range.start);
        let mut ledger = self.open()?;
        let around = NotesAround { before: &[], after: &[], now, ready };
        Ok(match self.files.replace(&mut ledger, snapshot, &splices, &around)? {
            Replaced::Stale => Committed::Stale,
            Replaced::Made(_, error) => Committed::Done { error },
        })
    }

    /// Adds notes to the ledger. Returns the debts of their chats after that, by chat id.
    ///
    /// # Errors
    /// Where they cannot be saved.
    pub fn note(&self, notes: &[Note], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        self.open()?.note(notes, now)
    }

    /// What the registry has for these rows now, by chat id.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        let made = *self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let chat = |row: &Row| row.chat.id.clone().into_owned();
        // The registry still is the file that this run has written, so it need not be read.
        if made.is_some() && self.files.registry.meta().ok().map(|meta| meta.stamp) == made {
            return Ok(rows.iter().map(|row| (chat(row), Stands::Model(row.after.clone()))).collect());
        }
        let mut found: BTreeMap<String, Stands> = rows.iter().map(|row| (chat(row), Stands::Gone)).collect();
        let sought = rows.iter().map(|row| row.chat.id.as_ref()).collect();
        self.files.registry.snapshot()?.find(&[Key::Id], &sought, &mut |entry| {
            let model = entry.model.as_deref().and_then(Model::new);
            found.insert(entry.chat.id.into_owned(), Stands::Model(model));
        })?;
        Ok(found)
    }

    /// Saves what each chat was last given, with what a run has found.
    ///
    /// # Errors
    /// Where it cannot be saved.
    pub fn remember(&self, found: &Found, reach: Reach) -> Result<()> {
        self.open()?.remember(found, reach)
    }

    /// Forgets what chats were last given.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn forget_applied(&self) -> Result<()> {
        self.open()?.forget_applied()
    }

    /// Appends what a run did to the history.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn record(&self, run: &JsonRun) -> Result<()> {
        self.open()?.record(Some(run))
    }

    /// A name for a run that begins, after those of all others.
    ///
    /// # Errors
    /// Where the history or the ledger cannot be read.
    pub(crate) fn name_run(&self, at: Timestamp) -> Result<String> {
        self.open()?.name_run(at)
    }
}

/// A member of an entry to be set.
#[derive(Clone, Copy, Debug)]
pub struct Addition<'a> {
    /// The position of the entry in the snapshot.
    pub at: Position,
    /// The name of the member.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
}

/// The edits of a batch, in the order of the file.
fn splices(snapshot: &FileSnapshot, batch: &Batch) -> Result<Vec<Splice>> {
    let splice = |change: &&Change| {
        let edit = |text: &str, at| set_model(text, snapshot.form(), at, change.after);
        snapshot.edit(change.at, &edit)?.ok_or(MOVED.into())
    };
    let mut changes: Vec<&Change> = batch.changes.iter().collect();
    changes.sort_by_key(|change| change.at.0);
    changes.iter().map(splice).collect()
}
