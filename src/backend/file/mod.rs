//! The backend `file`: a registry that only this program writes, and commands that restart sessions.

#![allow(clippy::disallowed_methods, reason = "this room is where registries are opened")]

mod checkup;
mod commit;
mod key;
mod problem;
mod register;
mod registry;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::{Ask, Attempt, Backend, Batch, Committed, Decide, Locked, LostState, Registered, Stands, Turn};
use crate::backend::commands::{Commands, remark};
use crate::backend::observe::Observer;
use crate::chat::Model;
use crate::checkup::Check;
use crate::error::Result;
use crate::plan::capabilities::Capabilities;
use crate::plan::json::{JsonRun, Origin};
use crate::plan::last_applied::{Found, Reach};
use crate::plan::ledger::{Debt, Ledger, Note};
use crate::plan::observed::Observed;
use crate::plan::standing_faults::Told;
use crate::plan::{Drift, Reading, Row};
use crate::redact::Redaction;
use crate::registry::Snapshot;
use crate::state::standing_faults;

pub use crate::os::exchange::Method;
pub use commit::{Addition, Files, LockedFiles, Proceed};
pub use register::registration_edits;
pub use registry::RegistryFile;
pub use snapshot::FileSnapshot;

/// A registry that only this program writes.
#[derive(Debug)]
pub struct FileBackend {
    registry: RegistryFile,
    commands: Commands,
    /// Other names of models that the registry may hold.
    aliases: BTreeMap<String, Model>,
}

impl FileBackend {
    /// The registry in this file, whose sessions these commands restart.
    pub fn new(registry: RegistryFile, aliases: BTreeMap<String, Model>, commands: Commands) -> Self {
        Self { registry, commands, aliases }
    }
}

impl Backend for FileBackend {
    fn capabilities(&self) -> &dyn Capabilities {
        &self.commands
    }

    fn read(&self, _: Ask<'_>) -> Result<Reading> {
        let ledger = self.registry.kept()?.ledger;
        Ok(Reading { snapshot: Box::new(self.registry.snapshot()?), ledger, doubtful: BTreeSet::new(), imposed: None })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.registry.snapshot()?))
    }

    fn ledger(&self) -> Result<Ledger> {
        Ok(self.registry.kept()?.ledger)
    }

    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        Observer { commands: &self.commands, aliases: &self.aliases, reading, rows: &drift.rows }
            .observe(remark(&drift.rows))
    }

    fn preflight(&self) -> Result<()> {
        self.commands.preflight()
    }

    fn check_edits(&self) -> Result<()> {
        self.registry.check_replaceable()
    }

    fn has_state(&self) -> Result<bool> {
        Ok(self.registry.state_dir()?.is_some())
    }

    fn lost_state(&self) -> Result<Option<LostState>> {
        self.registry.lost_state()
    }

    fn hidden_state_of(&self) -> Result<Option<u32>> {
        self.registry.hidden_state_of()
    }

    fn redaction_key(&self) -> Result<Redaction> {
        self.registry.redaction_key()
    }

    fn redaction_key_or_new(&self, patience: Duration) -> Result<(Redaction, Option<PathBuf>)> {
        self.registry.redaction_key_or_new(patience)
    }

    fn checkup(&self) -> Vec<Check> {
        let mut checks = self.registry.checkup();
        checks.extend(self.commands.checkup());
        checks
    }

    fn lock<'b>(&'b self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        let files = LockedFiles::lock(&self.registry, patience, give_up)?;
        Ok(Box::new(LockedFileBackend { files, commands: &self.commands }))
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(self.registry.history()?))
    }

    fn register(&self, patience: Duration, now: Timestamp, by: &Origin, decide: &mut Decide<'_>) -> Result<Registered> {
        self.registry.register(patience, now, by, decide)
    }

    fn record_session(&self, patience: Duration, now: Timestamp, decide: &mut Decide<'_>) -> Result<Registered> {
        self.registry.record_session(patience, now, decide)
    }

    fn not_started(&self, chat: &str, now: Timestamp) -> Result<()> {
        self.registry.owe(chat, now)
    }
}

#[derive(Debug)]
struct LockedFileBackend<'b> {
    files: LockedFiles,
    commands: &'b Commands,
}

impl Locked for LockedFileBackend<'_> {
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        let identities = self.commands.identities_before(reading, batch)?;
        self.files.commit(reading, &batch.clone().identified(&identities), &|_| Ok(Proceed::Yes))
    }

    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        self.files.note(notes, now)
    }

    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        rows.iter().map(|row| self.commands.restart(row, turn)).collect()
    }

    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        self.files.read_back(rows)
    }

    fn remember(&self, found: &Found, reach: Reach) -> Result<()> {
        self.files.remember(found, reach)
    }

    fn forget_applied(&self) -> Result<()> {
        self.files.forget_applied()
    }

    fn told(&self) -> Result<Told> {
        standing_faults::read(self.files.dir())
    }

    fn remember_told(&self, told: Told) -> Result<()> {
        standing_faults::save(self.files.dir(), told)
    }

    fn name_run(&self, at: Timestamp) -> Result<String> {
        self.files.name_run(at)
    }

    fn record(&self, run: &JsonRun<'_>) -> Result<()> {
        self.files.record(run)
    }
}
