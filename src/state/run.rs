//! A state directory for the run that holds `run.lock`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::crash::crash_point;
use crate::error::Result;
use crate::os::lock::Lock;
use crate::plan::json::JsonRun;
use crate::plan::last_applied::{Found, Reach};
use crate::plan::ledger::{Debt, Note};
use crate::plan::standing_faults::Told;
use crate::state::dir::StateDir;
use crate::state::ledger::{LedgerFile, OpenLedger};
use crate::state::{history, last_applied, standing_faults};

const RUN_LOCK: &str = "run.lock";

/// Takes `run.lock`, and removes an unfinished file of the history that a run has left when it died. Waits for at most
/// `patience`, and no longer when `give_up` returns true.
///
/// # Errors
/// Where another run holds the lock for longer, or the directory cannot be used.
pub(crate) fn lock_run(dir: &StateDir, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Lock> {
    let run = dir.lock(RUN_LOCK, patience, give_up)?;
    crash_point!("locked");
    history::discard_unfinished(dir)?;
    Ok(run)
}

/// The state of a registry that is not a file, for the run that holds `run.lock`.
#[derive(Debug)]
pub(crate) struct RunState {
    ledger: LedgerFile,
    run: Lock,
}

impl RunState {
    /// Takes `run.lock`, and finishes what a run that died has left.
    ///
    /// # Errors
    /// Where another run holds the lock for longer, or the directory cannot be used.
    pub(crate) fn lock(dir: StateDir, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Self> {
        let run = lock_run(&dir, patience, give_up)?;
        let ledger = LedgerFile::new(dir);
        let mut open = ledger.open_within(patience, give_up)?;
        last_applied::discard_unfinished(ledger.dir())?;
        open.record(None)?;
        drop(open);
        Ok(Self { ledger, run })
    }

    /// Takes `data.lock`, and checks that `run.lock` is still held.
    fn open(&self) -> Result<OpenLedger<'_>> {
        let open = self.ledger.open()?;
        self.ledger.dir().check_held(&self.run)?;
        Ok(open)
    }

    /// Adds notes to the ledger. Returns the debts of their chats after that, by chat id.
    pub(crate) fn note(&self, notes: &[Note], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        self.open()?.note(notes, now)
    }

    /// Saves what each chat was last given, with what a run has found.
    pub(crate) fn remember(&self, found: &Found, reach: Reach) -> Result<()> {
        self.open()?.remember(found, reach)
    }

    /// Forgets what chats were last given.
    pub(crate) fn forget_applied(&self) -> Result<()> {
        self.open()?.forget_applied()
    }

    /// A name for a run that begins, after those of all others.
    pub(crate) fn name_run(&self, at: Timestamp) -> Result<String> {
        self.open()?.name_run(at)
    }

    /// Appends a run to the history.
    pub(crate) fn record(&self, run: &JsonRun) -> Result<()> {
        self.open()?.record(Some(run))
    }

    /// The standing faults that quiet runs have reported.
    pub(crate) fn told(&self) -> Result<Told> {
        standing_faults::read(self.ledger.dir())
    }

    /// Saves the standing faults that quiet runs have reported.
    pub(crate) fn remember_told(&self, told: Told) -> Result<()> {
        standing_faults::save(self.ledger.dir(), told)
    }

    /// The directory, in which a backend may have a file of its own.
    pub(crate) fn dir(&self) -> &StateDir {
        self.ledger.dir()
    }
}
