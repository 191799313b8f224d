//! The sessions of a gateway as a registry: reads them, and plans the requests that change them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::apply::{Ask, Backend, Locked};
use crate::backend::give_up::GiveUp;
use crate::backend::listener::{Deaf, Listener};
use crate::backend::openclaw::advice::{Told, advice};
use crate::backend::openclaw::capabilities::{CARRIED, GatewayCapabilities};
use crate::backend::openclaw::catalog::ModelRow;
use crate::backend::openclaw::change::{Agent, Change, Intent, Intents};
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::gateway::Gateway;
use crate::backend::openclaw::hello::Scope;
use crate::backend::openclaw::home::{GatewayHome, heard};
use crate::backend::openclaw::listing::Listed;
use crate::backend::openclaw::locked::LockedGateway;
use crate::backend::openclaw::snapshot::{GatewaySnapshot, Sessions};
use crate::backend::openclaw::thinking::Levels;
use crate::chat::Model;
use crate::checkup::Check;
use crate::diagnostic::Diagnostic;
use crate::error::Result;
use crate::foreign::{Foreign, counted, sentence};
use crate::plan::capabilities::Capabilities;
use crate::plan::json::JsonRun;
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Edits, Finding, Observed, Standing};
use crate::plan::{Drift, Reading};
use crate::policy::{Policy, Source};
use crate::redact::Redaction;
use crate::registry::Snapshot;
use crate::state::run::RunState;
use crate::state::whole;

/// The sessions of a gateway.
pub struct OpenclawBackend {
    home: GatewayHome,
    /// A connection that can only read; `None` before the first request.
    reader: Mutex<Option<Gateway>>,
    /// The aliases of the policy: its names for models that the gateway lists under other names.
    aliases: BTreeMap<String, Model>,
    /// The requests for the changes of the last plan.
    intents: Intents,
    /// Told of each request.
    listener: Arc<dyn Listener>,
    /// Ends the waits for the gateway.
    give_up: GiveUp,
}

impl OpenclawBackend {
    /// The sessions of this gateway, for a policy with these aliases. It connects when something is read.
    pub fn new(home: GatewayHome, aliases: BTreeMap<String, Model>) -> Self {
        let (reader, intents) = (Mutex::default(), Mutex::default());
        Self { home, reader, aliases, intents, listener: Arc::new(Deaf), give_up: GiveUp::default() }
    }

    /// Sets the listener, which is told of each request.
    pub(in crate::backend) fn heard_by(self, listener: Arc<dyn Listener>) -> Self {
        Self { listener, ..self }
    }

    /// Sets what ends the waits for the gateway.
    pub(in crate::backend) fn ended_by(self, give_up: GiveUp) -> Self {
        Self { give_up, ..self }
    }

    /// Makes a request through the connection that can only read.
    fn ask<T>(&self, method: &'static str, ask: impl FnOnce(&mut Gateway) -> Result<T, Fault>) -> Result<T> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let gateway = match &mut *reader {
            Some(gateway) => gateway,
            none => none.insert(self.home.connect(Scope::Read, self.give_up.clone())?),
        };
        Ok(heard(self.listener.as_ref(), method, || ask(gateway))?)
    }

    fn list(&self) -> Result<GatewaySnapshot> {
        let listed = self.ask("sessions.list", Gateway::sessions)?;
        Ok(GatewaySnapshot::new(self.home.address.to_string(), managed(listed, &self.home)))
    }

    /// The configurations of these agents; `None` for an agent that is not configured. This is checked here, because
    /// the gateway accepts names of agents that do not exist.
    fn catalog<'a>(&self, agents: BTreeSet<&'a str>) -> Result<BTreeMap<&'a str, Option<Agent>>> {
        if agents.is_empty() {
            return Ok(BTreeMap::new());
        }
        // For an agent that is not configured, a gateway does not answer `models.list`.
        let configured = self.ask("agents.list", Gateway::agents)?;
        let look_up = |agent: &str| -> Result<Option<Agent>> {
            let Some(known) = configured.iter().find(|known| known.id == agent) else { return Ok(None) };
            let models = self.ask("models.list", |gateway| gateway.models(agent))?;
            Ok(Some(Agent { default: known.model.primary.clone(), models }))
        };
        agents.into_iter().map(|agent| Ok((agent, look_up(agent)?))).collect()
    }
}

/// The sessions of a list that are managed.
pub(super) fn managed(listed: Listed, home: &GatewayHome) -> Sessions {
    let rows = listed.rows.into_iter().filter(|row| home.background || !row.is_background);
    rows.map(|row| (row.key.clone(), row)).collect()
}

impl Backend for OpenclawBackend {
    fn capabilities(&self) -> &dyn Capabilities {
        &GatewayCapabilities
    }

    fn read(&self, _: Ask<'_>) -> Result<Reading> {
        let ledger = self.ledger()?;
        Ok(Reading { snapshot: self.snapshot()?, ledger, doubtful: BTreeSet::new(), imposed: None })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.list()?))
    }

    fn snapshot_at_hand(&self) -> Result<Option<Box<dyn Snapshot>>> {
        Ok(None)
    }

    fn ledger(&self) -> Result<Ledger> {
        Ok(whole::kept(self.home.state.open()?.as_ref())?.ledger)
    }

    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        let sessions = GatewaySnapshot::of(reading)?.sessions();
        let levels = Levels::read(self.home.state.open()?.as_ref())?;
        let changes: Vec<Change> = drift.rows.iter().filter_map(|row| Change::of(row, sessions)).collect();
        let asking = changes.iter().filter(|change| change.concerns_agent(&levels));
        let catalog = self.catalog(asking.map(|change| change.session.agent.as_str()).collect())?;
        let (mut findings, mut intents) = (BTreeMap::new(), BTreeMap::new());
        for change in &changes {
            let chat = change.row.chat.id.as_ref();
            let intent = || match catalog.get(change.session.agent.as_str()) {
                Some(agent) => change.intent(agent.as_ref(), &levels, &self.aliases),
                None => Ok(Intent::default()),
            };
            match change.is_guarded().and_then(|()| intent()) {
                Ok(intent) => {
                    let remark = intent.thought.as_ref().map(|thought| thought.words(change.model.as_str()));
                    findings.insert(chat.to_owned(), Finding { remark, ..Finding::default() });
                    intents.insert(chat.to_owned(), intent);
                }
                Err(why) => {
                    let standing = Standing::Refused(why);
                    findings.insert(chat.to_owned(), Finding { standing, ..Finding::default() });
                }
            }
        }
        *self.intents.lock().unwrap_or_else(PoisonError::into_inner) = intents;
        Ok(Observed { edits: Edits::PerRow { batch: CARRIED }, findings, ..Observed::default() })
    }

    fn has_state(&self) -> Result<bool> {
        Ok(self.home.state.open()?.is_some())
    }

    fn hidden_state_of(&self) -> Result<Option<u32>> {
        self.home.state.hidden_from()
    }

    fn redaction_key(&self) -> Result<Redaction> {
        whole::redaction_key(self.home.state.open()?.as_ref(), self.home.state.path())
    }

    fn redaction_key_or_new(&self, patience: Duration) -> Result<(Redaction, Option<PathBuf>)> {
        self.home.state.redaction_key_or_new(patience)
    }

    fn checkup(&self) -> Vec<Check> {
        let address = Foreign::from(self.home.address.to_string());
        let sessions =
            self.list().map(|list| sentence!("{} has {}", address, counted(list.sessions().len(), "session")));
        let state = self.ledger().and_then(|_| self.home.state.check_writable());
        let state = state.map(|()| sentence!("runs remember what they did in {}", self.home.state.path()));
        let device = self.home.device().transpose();
        let device = device.map(|device| {
            device.map(|device| sentence!("the gateway knows this program as {}", Foreign::from(device.id())))
        });
        let device = device.map(|device| Check::of("device", device, "check sessions.device_key in the policy"));
        let gateway = Check::of("gateway", sessions, "check sessions.url and sessions.token in the policy");
        let state =
            Check::of("state", state, "set sessions.state in the policy to a directory that this user can write");
        [gateway].into_iter().chain(device).chain([state]).collect()
    }

    fn advise(&self, policy: &Policy, sources: &[Source]) -> Result<Vec<Diagnostic>> {
        let listed = self.ask("sessions.list", Gateway::sessions)?;
        let configuration = self.ask("config.get", Gateway::configuration)?;
        let agents = self.ask("agents.list", Gateway::agents)?.into_iter().map(|agent| agent.id);
        let models = |agent: String| {
            let models = self.ask("models.list", |gateway| gateway.models(&agent))?;
            Ok((agent, models))
        };
        let models: BTreeMap<String, Vec<ModelRow>> = agents.map(models).collect::<Result<_>>()?;
        let default_model = listed.default_model.as_deref();
        Ok(advice(policy, sources, &Told { models: &models, default_model, configuration: &configuration }))
    }

    fn lock<'b>(&'b self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        let state = RunState::lock(self.home.state.create()?, patience, give_up)?;
        // Connected after the lock is taken, because the gateway would close a connection that waits for another run.
        let gateway = self.home.connect(Scope::Write, self.give_up.clone())?;
        Ok(Box::new(LockedGateway::new(state, gateway, &self.intents, self.listener.as_ref())))
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(whole::history(self.home.state.open()?)?))
    }
}
