//! The backend `dispatch`: a daemon owns the registry, keeps it in memory and rewrites the file whole. While it is up it is
//! asked to change a model, which restarts the session; while it is down the file is edited.

#![allow(clippy::disallowed_methods, reason = "waiting for the daemon is counted on the clock")]

mod arrival;
mod assess;
mod capabilities;
mod daemon;
mod locked;
mod overridden;
mod pending;
mod problem;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::apply::{Ask, Backend, Locked, LostState};
use crate::backend::dispatch::daemon::{Daemon, Times};
use crate::backend::dispatch::locked::{LockedDispatch, Parts};
use crate::backend::dispatch::overridden::Noticed;
use crate::backend::dispatch::pending::Pending;
use crate::backend::file::{FileSnapshot, RegistryFile};
use crate::backend::listener::Listener;
use crate::chat::Model;
use crate::checkup::Check;
use crate::error::Result;
use crate::foreign::{Foreign, sentence};
use crate::plan::capabilities::Capabilities;
use crate::plan::json::JsonRun;
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Canary, Edits, Finding, Observed, Standing, Void};
use crate::plan::{Drift, Reading, Row};
use crate::policy::{DispatchSettings, Policy};
use crate::redact::Redaction;
use crate::registry::Snapshot;

pub use assess::{Known, assess};
pub use capabilities::DaemonCapabilities;
pub use daemon::Live;
pub use pending::Unsaved;
pub use socket::{Meaning, System, meaning};

/// A registry that a dispatch daemon owns.
#[derive(Debug)]
pub struct DispatchBackend {
    registry: RegistryFile,
    daemon: Daemon,
    capabilities: DaemonCapabilities,
    /// The aliases of the policy, which the registry may hold.
    aliases: BTreeMap<String, Model>,
    /// The socket, as the policy names it.
    socket: String,
    /// The daemon's answers when the registry was last read. The run saves them.
    noticed: Mutex<Option<Noticed>>,
}

impl DispatchBackend {
    /// The registry of the daemon that listens at `socket`.
    ///
    /// # Errors
    /// Where the registry cannot be looked at.
    pub fn new(registry: RegistryFile, policy: &Policy, settings: &DispatchSettings, socket: PathBuf) -> Result<Self> {
        let times =
            Times { timeout: policy.sessions.timeout, drain: settings.drain, min_healthy: policy.rollout.min_healthy };
        let daemon = Daemon::new(socket, registry.owner()?, times);
        let (aliases, socket) = (policy.aliases.clone(), settings.socket.clone());
        Ok(Self { registry, daemon, capabilities: DaemonCapabilities, aliases, socket, noticed: Mutex::default() })
    }

    /// Sets the listener, which is told of each request.
    #[must_use]
    pub(crate) fn heard_by(self, listener: Arc<dyn Listener>) -> Self {
        Self { daemon: self.daemon.heard_by(listener), ..self }
    }

    fn parts(&self) -> Parts<'_> {
        Parts { daemon: &self.daemon, aliases: &self.aliases, noticed: &self.noticed }
    }

    fn pending(&self) -> Result<Pending> {
        self.registry.state_dir()?.map_or_else(|| Ok(Pending::default()), |dir| Pending::read(&dir))
    }

    fn canonical<'m>(&'m self, model: &'m str) -> &'m str {
        self.aliases.get(model).map_or(model, Model::as_str)
    }

    /// The findings while the daemon is down: an edit is enough, because sessions read the registry when the daemon starts.
    fn all_down(&self, reading: &Reading, drift: &Drift) -> Observed {
        let void = Some(Void::Because("the daemon is down, and sessions read the registry when it starts"));
        let starts = "the daemon is down, and starts the session when it comes up";
        let finding = |row: &Row| {
            let failed = reading.ledger.failed.get(row.chat.id.as_ref());
            let did_not_come_up = failed.is_some_and(|failed| row.after.as_ref() == Some(&failed.model));
            let standing =
                if did_not_come_up && !row.edit { Standing::Deferred(starts.to_owned()) } else { Standing::AllDown };
            Finding { standing, void, ..Finding::default() }
        };
        let findings = drift.rows.iter().map(|row| (row.chat.id.clone().into_owned(), finding(row)));
        let remark = sentence!(
            "no daemon listens at {}: the run edits the registry directly, and sessions read it when the daemon starts",
            Foreign::from(self.socket.as_str())
        );
        Observed { findings: findings.collect(), remark: Some(remark), ..Observed::default() }
    }

    /// Compares the live sessions with the registry.
    fn survey(
        &self,
        reading: &Reading,
        drift: &Drift,
        findings: &BTreeMap<String, Finding>,
        sessions: &BTreeMap<String, Live>,
        pending: &Pending,
    ) -> Result<Survey> {
        let mut unlisted: BTreeSet<&str> = sessions.keys().map(String::as_str).collect();
        let mut healthy: BTreeSet<String> = BTreeSet::new();
        let mut unhealthy: BTreeMap<String, String> = BTreeMap::new();
        let is_void = |chat: &str| {
            drift.void.contains_key(chat) || findings.get(chat).is_some_and(|finding| finding.void.is_some())
        };
        reading.snapshot.each(&mut |entry| {
            let chat = entry.chat.id.as_ref();
            let Some(session) = sessions.get(chat) else { return };
            unlisted.remove(chat);
            // A session that owes a restart may run another model than the registry says.
            let owes = reading.ledger.owed.contains_key(chat) && !is_void(chat);
            if owes || self.capabilities.unmanaged(&entry.chat).is_some() {
                return;
            }
            let unsaved = pending.runs(chat, &session.created_at).map(Model::as_str);
            let model = unsaved.or(entry.model.as_deref().map(|model| self.canonical(model)));
            let Some(runs) = model.or(self.capabilities.unset_runs(&entry.chat)) else { return };
            if session.works() {
                healthy.insert(runs.to_owned());
            } else if !session.is_healthy {
                unhealthy.insert(runs.to_owned(), chat.to_owned());
            }
        })?;
        let wanted: BTreeSet<&Model> = drift.rows.iter().filter_map(|row| row.after.as_ref()).collect();
        let canaries = wanted.into_iter().filter(|model| !healthy.contains(model.as_str()));
        let canaries =
            canaries.map(|model| (model.clone(), Canary { unhealthy: unhealthy.get(model.as_str()).cloned() }));
        let unlisted = unlisted.into_iter().map(str::to_owned).collect();
        Ok(Survey { canaries: canaries.collect(), unlisted })
    }
}

/// What a comparison of the live sessions with the registry finds.
struct Survey {
    /// The models of rows on which no session is known to work.
    canaries: BTreeMap<Model, Canary>,
    /// The chats with a live session that the registry does not have, in order.
    unlisted: Vec<String>,
}

impl Backend for DispatchBackend {
    fn capabilities(&self) -> &dyn Capabilities {
        &self.capabilities
    }

    fn read(&self, _: Ask<'_>) -> Result<Reading> {
        let ledger = self.registry.kept()?.ledger;
        let mut pending = self.pending()?;
        let snapshot = self.registry.snapshot()?;
        let mut doubtful = pending.unconfirmed(snapshot.stamp());
        let Some(sessions) = self.daemon.sessions()? else {
            let imposed = pending.global.as_ref().map(|global| global.model.clone());
            return Ok(Reading { snapshot: Box::new(snapshot), ledger, doubtful, imposed });
        };
        let noticed = Noticed { global: self.daemon.global()?, sessions };
        pending.notice(&noticed);
        doubtful.extend(pending.overridden.keys().cloned());
        // The daemon saves a changed tier up to a minute late.
        let tiers = noticed.sessions.clone().into_iter().filter_map(|(chat, live)| Some((chat, live.into_tier()?)));
        let snapshot = snapshot.with_tiers(tiers.collect());
        *self.noticed.lock().unwrap_or_else(PoisonError::into_inner) = Some(noticed);
        let imposed = pending.global.as_ref().map(|global| global.model.clone());
        Ok(Reading { snapshot: Box::new(snapshot), ledger, doubtful, imposed })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.registry.snapshot()?))
    }

    fn ledger(&self) -> Result<Ledger> {
        Ok(self.registry.kept()?.ledger)
    }

    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        let Some(sessions) = self.daemon.sessions()? else { return Ok(self.all_down(reading, drift)) };
        let hold = self.daemon.hold()?;
        let mut pending = self.pending()?;
        if let Some(noticed) = &*self.noticed.lock().unwrap_or_else(PoisonError::into_inner) {
            pending.notice(noticed);
        }
        let unconfirmed = pending.unconfirmed(FileSnapshot::of(reading)?.stamp());
        let mut findings = BTreeMap::new();
        let mut working = BTreeMap::new();
        for row in &drift.rows {
            let chat = row.chat.id.as_ref();
            let session = sessions.get(chat);
            let runs = session.and_then(|session| pending.runs(chat, &session.created_at)).cloned();
            let failed = reading.ledger.failed.get(chat).filter(|failed| row.after.as_ref() == Some(&failed.model));
            let known = Known {
                session,
                unsaved: pending.unsaved.get(chat),
                runs: runs.as_ref(),
                is_unconfirmed: unconfirmed.contains(chat),
                did_not_come_up: failed.is_some(),
                hold: hold.as_deref(),
            };
            let wrote = pending.global.as_ref().map(|global| &global.model);
            let is_overridden = wrote.is_some() && row.before.as_ref() == wrote;
            let finding = assess(row, known);
            let finding = Finding { runs, is_overridden, ..finding };
            if finding.standing == Standing::InSync && failed.is_some() {
                working.extend(row.after.clone().map(|model| (model, chat.to_owned())));
            }
            findings.insert(chat.to_owned(), finding);
        }
        let Survey { canaries, unlisted } = self.survey(reading, drift, &findings, &sessions, &pending)?;
        let edits = Edits::PerRow { batch: 1 };
        Ok(Observed { edits, findings, canaries, working, restarts: pending.restarts, unlisted, remark: None })
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
        let listening = self.daemon.is_down().map(|is_down| match &self.socket {
            socket if is_down => {
                sentence!("no daemon listens at {}: runs edit the registry directly", Foreign::from(socket.as_str()))
            }
            socket => sentence!("a daemon listens at {}", Foreign::from(socket.as_str())),
        });
        let pending = self.pending().map(|_| "the record of requests to the daemon can be read".into());
        let mut checks = self.registry.checkup();
        checks.push(Check::of("pending", pending, "let this user read the state directory"));
        checks.push(Check::of("socket", listening, "check sessions.socket in the policy"));
        checks
    }

    fn lock<'b>(&'b self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        Ok(Box::new(LockedDispatch::lock(&self.registry, self.parts(), patience, give_up)?))
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(self.registry.history()?))
    }
}
