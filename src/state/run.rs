//! A state directory, for the one run that holds `run.lock`.

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

/// Takes `run.lock`, waiting for it at most `patience` and until `give_up` says so, and removes what a run that died left of
/// the history.
///
/// # Errors
/// Where another run holds the lock for longer, or the directory cannot be used.
pub(crate) fn lock_run(dir: &StateDir, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Lock> {
    let run = dir.lock(RUN_LOCK, patience, give_up)?;
    crash_point!("locked");
    history::discard_unfinished(dir)?;
    Ok(run)
}

/// What runs remember of a registry that is in no file, for the one run that holds `run.lock`.
#[derive(Debug)]
pub(crate) struct RunState {
    ledger: LedgerFile,
    run: Lock,
}

impl RunState {
    /// Takes the lock, and finishes what a run that died left.
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

    /// Takes `data.lock`, for an effect of a run that still is the only one.
    fn open(&self) -> Result<OpenLedger<'_>> {
        let open = self.ledger.open()?;
        self.ledger.dir().check_held(&self.run)?;
        Ok(open)
    }

    /// Takes notes, and returns what their chats owe then.
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

    /// Appends what a run did to the history.
    pub(crate) fn record(&self, run: &JsonRun) -> Result<()> {
        self.open()?.record(Some(run))
    }

    /// What quiet runs have told of.
    pub(crate) fn told(&self) -> Result<Told> {
        standing_faults::read(self.ledger.dir())
    }

    /// Remembers what quiet runs have told of.
    pub(crate) fn remember_told(&self, told: Told) -> Result<()> {
        standing_faults::save(self.ledger.dir(), told)
    }

    /// The directory, for what only one backend remembers.
    pub(crate) fn dir(&self) -> &StateDir {
        self.ledger.dir()
    }
}
