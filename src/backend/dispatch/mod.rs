//! The backend `dispatch`: a daemon owns the registry, keeps it in memory and rewrites the file whole. While it is up it is
//! asked to change a model, which restarts the session; while it is down the file is edited.

#![allow(clippy::disallowed_methods, reason = "waiting for the daemon is counted on the clock")]

mod assess;
mod daemon;
mod pending;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::apply::{Ask, Attempt, Backend, Batch, Committed, Locked, Stands, Turn};
use crate::backend::dispatch::daemon::{Daemon, PAUSE};
use crate::backend::dispatch::pending::Pending;
use crate::backend::file::{LockedFiles, Proceed, RegistryFile};
use crate::chat::{Chat, Model};
use crate::error::Result;
use crate::os::exchange::ExchangeNote;
use crate::plan::capabilities::{Capabilities, TakesEffect};
use crate::plan::json::JsonRun;
use crate::plan::ledger::{Debt, Ledger, Note};
use crate::plan::observed::{Canary, Edits, Finding, Observed, Standing, Void};
use crate::plan::{Drift, Reading, Row};
use crate::policy::{DispatchSettings, Policy, Sessions};
use crate::registry::{Snapshot, find_entry};

pub use assess::{Known, assess};
pub use daemon::Live;
pub use pending::Unsaved;
pub use socket::{Meaning, System, meaning};

/// The daemon saves a second after a change; its file is waited for so long.
const SAVED: Duration = Duration::from_secs(2);

/// The models that the daemon's `set_model` takes.
const CARRIED: [&str; 3] = ["opus", "sonnet", "haiku"];

/// A registry that a dispatch daemon owns.
#[derive(Debug)]
pub struct DispatchBackend {
    registry: RegistryFile,
    daemon: Daemon,
    abilities: Abilities,
    /// The aliases of the policy, which the registry may hold.
    aliases: BTreeMap<String, Model>,
    /// The socket, as the policy names it.
    socket: String,
}

/// What the daemon can do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities;

impl Capabilities for Abilities {
    fn takes_effect(&self) -> TakesEffect {
        TakesEffect::OnRestart
    }

    fn unmanaged(&self, chat: &Chat) -> Option<&'static str> {
        (chat.kind.as_deref() == Some("group")).then_some("the daemon drops a group's model at every start")
    }

    fn refuses_model(&self, model: &Model) -> Option<String> {
        let is_carried = CARRIED.contains(&model.as_str());
        (!is_carried).then(|| format!("the daemon knows {}, and not {model}", CARRIED.join(", ")))
    }

    /// The daemon's own defaults.
    fn unset_runs(&self, chat: &Chat) -> Option<&str> {
        Some(if chat.source.as_deref() == Some("discord") { "sonnet" } else { "opus" })
    }

    fn needs_live_sessions(&self) -> bool {
        true
    }

    fn edits_by_restart(&self) -> bool {
        true
    }

    fn reverts(&self) -> bool {
        false
    }

    fn unset_is_in_sync(&self, model: &Model) -> Option<String> {
        Some(format!("the daemon runs {model} then: in sync while it is up"))
    }
}

impl DispatchBackend {
    /// The registry of the daemon that listens at `socket`.
    ///
    /// # Errors
    /// Where the registry cannot be looked at.
    pub fn new(registry: RegistryFile, policy: &Policy, settings: &DispatchSettings, socket: PathBuf) -> Result<Self> {
        let Sessions { timeout, .. } = policy.sessions;
        let daemon = Daemon::new(socket, registry.owner()?, timeout, settings.drain);
        let (aliases, socket) = (policy.aliases.clone(), settings.socket.clone());
        Ok(Self { registry, daemon, abilities: Abilities, aliases, socket })
    }

    fn pending(&self) -> Result<Pending> {
        self.registry.state_dir()?.map_or_else(|| Ok(Pending::default()), |dir| Pending::read(&dir))
    }

    fn canonical<'m>(&'m self, model: &'m str) -> &'m str {
        self.aliases.get(model).map_or(model, Model::as_str)
    }

    /// What is found while the daemon is down: an edit is enough, because sessions read the registry when it starts.
    fn all_down(&self, drift: &Drift) -> Observed {
        let void = Some(Void::Because("the daemon is down, and sessions read the registry when it starts"));
        let finding = Finding { standing: Standing::AllDown, void, ..Finding::default() };
        let findings = drift.rows.iter().map(|row| (row.chat.id.clone().into_owned(), finding.clone()));
        let remark = format!(
            "no daemon listens at {}: the registry itself is edited, and sessions read it when the daemon starts",
            self.socket
        );
        Observed { findings: findings.collect(), remark: Some(remark), ..Observed::default() }
    }

    /// The models of rows on which no healthy session is known to run.
    fn canaries(
        &self,
        reading: &Reading,
        drift: &Drift,
        findings: &BTreeMap<String, Finding>,
        sessions: &BTreeMap<String, Live>,
    ) -> Result<BTreeMap<Model, Canary>> {
        let mut healthy: BTreeSet<String> = BTreeSet::new();
        let mut unhealthy: BTreeMap<String, String> = BTreeMap::new();
        let is_void = |chat: &str| {
            drift.void.contains_key(chat) || findings.get(chat).is_some_and(|finding| finding.void.is_some())
        };
        reading.snapshot.each(&mut |entry| {
            let chat = entry.chat.id.as_ref();
            let Some(session) = sessions.get(chat) else { return };
            // What a session runs that owes a restart is not what the registry says.
            let owes = reading.ledger.owed.contains_key(chat) && !is_void(chat);
            if owes || self.abilities.unmanaged(&entry.chat).is_some() {
                return;
            }
            let model = entry.model.as_deref().map(|model| self.canonical(model));
            let Some(runs) = model.or(self.abilities.unset_runs(&entry.chat)) else { return };
            if session.is_healthy {
                healthy.insert(runs.to_owned());
            } else {
                unhealthy.insert(runs.to_owned(), chat.to_owned());
            }
        })?;
        let wanted: BTreeSet<&Model> = drift.rows.iter().filter_map(|row| row.after.as_ref()).collect();
        let canaries = wanted.into_iter().filter(|model| !healthy.contains(model.as_str()));
        Ok(canaries
            .map(|model| (model.clone(), Canary { unhealthy: unhealthy.get(model.as_str()).cloned() }))
            .collect())
    }
}

impl Backend for DispatchBackend {
    fn capabilities(&self) -> &dyn Capabilities {
        &self.abilities
    }

    fn read(&self, _: Ask<'_>) -> Result<Reading> {
        let ledger = self.registry.kept()?.ledger;
        let pending = self.pending()?;
        let snapshot = self.registry.snapshot()?;
        let doubtful = pending.unconfirmed(snapshot.stamp());
        Ok(Reading { snapshot: Box::new(snapshot), ledger, doubtful })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.registry.snapshot()?))
    }

    fn ledger(&self) -> Result<Ledger> {
        Ok(self.registry.kept()?.ledger)
    }

    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        let Some(sessions) = self.daemon.sessions()? else { return Ok(self.all_down(drift)) };
        let hold = self.daemon.hold()?;
        let pending = self.pending()?;
        let mut findings = BTreeMap::new();
        for row in &drift.rows {
            let chat = row.chat.id.as_ref();
            let known = Known {
                session: sessions.get(chat),
                unsaved: pending.unsaved.get(chat),
                is_unconfirmed: reading.doubtful.contains(chat),
                hold: hold.as_deref(),
            };
            findings.insert(chat.to_owned(), assess(row, known));
        }
        let canaries = self.canaries(reading, drift, &findings, &sessions)?;
        Ok(Observed { edits: Edits::PerRow { batch: 1 }, findings, canaries, ..Observed::default() })
    }

    fn lock<'b>(&'b self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        let files = LockedFiles::lock(&self.registry, patience, give_up)?;
        Pending::discard_unfinished(files.dir())?;
        Ok(Box::new(LockedDispatch { backend: self, files, started: Mutex::default(), saved: Mutex::default() }))
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(self.registry.history()?))
    }
}

#[derive(Debug)]
struct LockedDispatch<'b> {
    backend: &'b DispatchBackend,
    files: LockedFiles,
    /// The runs of sessions that this run has started, by chat id.
    started: Mutex<BTreeMap<String, String>>,
    /// What this run has saved last.
    saved: Mutex<Option<Pending>>,
}

impl LockedDispatch<'_> {
    /// What is remembered. Nothing but a run writes it, and this is the only one.
    fn pending(&self) -> Result<Pending> {
        let found = Pending::read(self.files.dir())?;
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.as_ref().is_some_and(|saved| *saved != found) {
            return Err(pending::changed(self.files.dir()));
        }
        Ok(found)
    }

    fn save(&self, pending: &Pending) -> Result<()> {
        pending.save(self.files.dir())?;
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(pending.clone());
        Ok(())
    }

    /// Remembers the edits of a batch, and sees whether the daemon is still down.
    fn ready(&self, note: &ExchangeNote, batch: &Batch) -> Result<Proceed> {
        let mut pending = self.pending()?;
        pending.edit(note, batch.changes.iter().map(|change| change.chat.to_owned()).collect());
        self.save(&pending)?;
        // Last, because it may come up at any time.
        Ok(if self.backend.daemon.is_down()? { Proceed::Yes } else { Proceed::Stale })
    }

    /// Drops what is remembered of changes that the daemon has saved since, or whose session runs no longer.
    fn drop_saved(&self, reading: &Reading) -> Result<()> {
        let mut pending = self.pending()?;
        if pending.unsaved.is_empty() {
            return Ok(());
        }
        let sessions = self.backend.daemon.sessions()?.unwrap_or_default();
        let mut unsaved = BTreeMap::new();
        for (chat, made) in &pending.unsaved {
            let entry = find_entry(reading.snapshot.as_ref(), chat)?;
            let saved = entry.and_then(|entry| entry.model).is_some_and(|model| model == made.model.as_str());
            let runs = sessions.get(chat).is_some_and(|session| session.created_at == made.session);
            if runs && !saved {
                unsaved.insert(chat.clone(), made.clone());
            }
        }
        if unsaved == pending.unsaved {
            return Ok(());
        }
        pending.unsaved = unsaved;
        self.save(&pending)
    }

    /// Waits until the registry says what was asked for, or it has been waited for long enough.
    fn wait_until_saved(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        let until = Instant::now() + SAVED;
        loop {
            let found = self.files.read_back(rows)?;
            let is_saved = |row: &&Row| self.says(&found, row);
            if rows.iter().all(is_saved) || Instant::now() >= until {
                return Ok(found);
            }
            sleep(PAUSE);
        }
    }

    /// Whether the registry says what the row wants.
    fn says(&self, found: &BTreeMap<String, Stands>, row: &Row) -> bool {
        let Some(Stands::Model(Some(model))) = found.get(row.chat.id.as_ref()) else { return false };
        row.after.as_ref().is_some_and(|after| self.backend.canonical(model.as_str()) == after.as_str())
    }
}

impl Locked for LockedDispatch<'_> {
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        self.drop_saved(reading)?;
        self.files.commit(reading, batch, &|note| self.ready(note, batch))
    }

    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        self.files.note(notes, now)
    }

    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for row in rows {
            let arrival = self.backend.daemon.set_model(row, turn);
            if let Some(run) = arrival.run {
                let chat = row.chat.id.clone().into_owned();
                self.started.lock().unwrap_or_else(PoisonError::into_inner).insert(chat, run);
            }
            attempts.push(arrival.attempt);
        }
        attempts
    }

    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        let mut found = self.wait_until_saved(rows)?;
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.pending()?;
        let mut pending = before.clone();
        for row in rows {
            let chat = row.chat.id.as_ref();
            let lags = matches!(found.get(chat), Some(Stands::Model(_))) && !self.says(&found, row);
            match (started.get(chat), &row.after) {
                (Some(run), Some(model)) if lags => {
                    let made = Unsaved { model: model.clone(), session: run.clone() };
                    pending.unsaved.insert(chat.to_owned(), made);
                    found.insert(chat.to_owned(), Stands::NotSavedYet);
                }
                _ if lags => {}
                _ => _ = pending.unsaved.remove(chat),
            }
        }
        if pending != before {
            self.save(&pending)?;
        }
        Ok(found)
    }

    fn name_run(&self, at: Timestamp) -> Result<String> {
        self.files.name_run(at)
    }

    fn record(&self, run: &JsonRun<'_>) -> Result<()> {
        self.files.record(run)
    }
}
