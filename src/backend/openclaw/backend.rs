//! The sessions of a gateway as a registry: what is read of it, and what stands in the way of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::apply::{Ask, Backend, Locked};
use crate::backend::listener::{Deaf, Listener};
use crate::backend::openclaw::abilities::{Abilities, CARRIED, pin};
use crate::backend::openclaw::advice::{Told, advice};
use crate::backend::openclaw::catalog::ModelRow;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::gateway::Gateway;
use crate::backend::openclaw::hello::Scope;
use crate::backend::openclaw::home::{GatewayHome, heard};
use crate::backend::openclaw::listing::{Listed, SessionRow};
use crate::backend::openclaw::locked::LockedGateway;
use crate::backend::openclaw::snapshot::{GatewaySnapshot, Sessions};
use crate::backend::openclaw::thinking::{Levels, Thoughts};
use crate::chat::Model;
use crate::checkup::Check;
use crate::diagnostic::Diagnostic;
use crate::error::Result;
use crate::plan::capabilities::Capabilities;
use crate::plan::json::JsonRun;
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Edits, Finding, Observed, Standing};
use crate::plan::{Drift, Reading, Row};
use crate::policy::{Policy, Source};
use crate::redact::Redaction;
use crate::registry::Snapshot;
use crate::report::counted;
use crate::state::whole;

/// The sessions of a gateway.
pub struct OpenclawBackend {
    home: GatewayHome,
    /// A connection that can only read; `None` until something is read.
    reader: Mutex<Option<Gateway>>,
    /// What the changes of the last plan mean for the thinking of sessions.
    thoughts: Thoughts,
    /// Hears of each request.
    listener: Arc<dyn Listener>,
}

impl OpenclawBackend {
    /// The sessions of this gateway. Nothing is connected to until something is read.
    pub fn new(home: GatewayHome) -> Self {
        Self { home, reader: Mutex::default(), thoughts: Mutex::default(), listener: Arc::new(Deaf) }
    }

    /// With this to hear of each request.
    pub(in crate::backend) fn heard_by(self, listener: Arc<dyn Listener>) -> Self {
        Self { listener, ..self }
    }

    /// Asks over the connection that can only read.
    fn ask<T>(&self, method: &str, ask: impl FnOnce(&mut Gateway) -> Result<T, Fault>) -> Result<T> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let gateway = match &mut *reader {
            Some(gateway) => gateway,
            none => none.insert(self.home.connect(Scope::Read)?),
        };
        Ok(heard(self.listener.as_ref(), method, || ask(gateway))?)
    }

    fn list(&self) -> Result<GatewaySnapshot> {
        let listed = self.ask("sessions.list", Gateway::sessions)?;
        Ok(GatewaySnapshot::new(self.home.address.to_string(), managed(listed, &self.home)))
    }

    /// What these agents are configured with; `None` for one that is not configured. The gateway would take a name that is
    /// mistyped.
    fn catalog<'a>(&self, agents: BTreeSet<&'a str>) -> Result<BTreeMap<&'a str, Option<Agent>>> {
        if agents.is_empty() {
            return Ok(BTreeMap::new());
        }
        // A gateway never answers about the models of an agent that is not configured.
        let configured = self.ask("agents.list", Gateway::agents)?;
        let look_up = |agent: &str| -> Result<Option<Agent>> {
            let Some(known) = configured.iter().find(|known| known.id == agent) else { return Ok(None) };
            let models = self.ask("models.list", |gateway| gateway.models(agent))?;
            Ok(Some(Agent { default: known.model.primary.clone(), models }))
        };
        agents.into_iter().map(|agent| Ok((agent, look_up(agent)?))).collect()
    }
}

/// What an agent is configured with.
struct Agent {
    /// What its sessions run on that are not pinned.
    default: Option<String>,
    /// What they can be pinned to.
    models: Vec<ModelRow>,
}

impl Agent {
    /// The model that its sessions run on with this one, if it is known.
    fn model(&self, model: &Model) -> Option<&ModelRow> {
        let name = pin(model).or(self.default.as_deref())?;
        self.models.iter().find(|known| known.is_named(name))
    }
}

/// The sessions of a list that a policy is about.
pub(super) fn managed(listed: Listed, home: &GatewayHome) -> Sessions {
    let rows = listed.rows.into_iter().filter(|row| home.background || !row.is_background);
    rows.map(|row| (row.key.clone(), row)).collect()
}

/// A session whose model is to be changed.
struct Change<'a> {
    row: &'a Row,
    session: &'a SessionRow,
    model: &'a Model,
}

impl<'a> Change<'a> {
    fn of(row: &'a Row, sessions: &'a Sessions) -> Option<Self> {
        let session = sessions.get(row.chat.id.as_ref())?;
        let model = row.after.as_ref().filter(|_| row.edit && row.is_planned())?;
        Some(Self { row, session, model })
    }

    /// Why it cannot be made, if so. `None` stands for an agent that is not configured.
    fn refused(&self, agent: Option<&Agent>) -> Option<String> {
        let name = &self.session.agent;
        let Some(agent) = agent else { return Some(format!("the agent {name} is not configured in OpenClaw")) };
        let is_known = pin(self.model).is_none() || agent.model(self.model).is_some();
        (!is_known).then(|| format!("OpenClaw lists no model {} for the agent {name}", self.model))
    }
}

impl Backend for OpenclawBackend {
    fn capabilities(&self) -> &dyn Capabilities {
        &Abilities
    }

    fn read(&self, _: Ask<'_>) -> Result<Reading> {
        let ledger = self.ledger()?;
        Ok(Reading { snapshot: self.snapshot()?, ledger, doubtful: BTreeSet::new(), imposed: None })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.list()?))
    }

    fn ledger(&self) -> Result<Ledger> {
        Ok(whole::kept(self.home.state.open()?.as_ref())?.ledger)
    }

    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        let sessions = GatewaySnapshot::of(reading)?.sessions();
        let levels = Levels::read(self.home.state.open()?.as_ref())?;
        let changes: Vec<Change> = drift.rows.iter().filter_map(|row| Change::of(row, sessions)).collect();
        let asks = |change: &&Change| pin(change.model).is_some() || levels.concern(change.session);
        let agents = changes.iter().filter(asks).map(|change| change.session.agent.as_str());
        let catalog = self.catalog(agents.collect())?;
        let (mut findings, mut thoughts) = (BTreeMap::new(), BTreeMap::new());
        for change in &changes {
            let Some(agent) = catalog.get(change.session.agent.as_str()) else { continue };
            let chat = || change.row.chat.id.clone().into_owned();
            if let Some(why) = change.refused(agent.as_ref()) {
                findings.insert(chat(), Finding { standing: Standing::Refused(why), ..Finding::default() });
                continue;
            }
            let model = agent.as_ref().and_then(|agent| agent.model(change.model));
            let Some(thought) = model.and_then(|model| levels.thought(change.session, model)) else { continue };
            let remark = Some(thought.words(change.model.as_str()));
            findings.insert(chat(), Finding { remark, ..Finding::default() });
            thoughts.insert(chat(), thought);
        }
        *self.thoughts.lock().unwrap_or_else(PoisonError::into_inner) = thoughts;
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
        let sessions =
            self.list().map(|list| format!("{} has {}", self.home.address, counted(list.sessions().len(), "session")));
        let state =
            self.ledger().map(|_| format!("runs remember what they did in {}", self.home.state.path().display()));
        let device = self.home.device().transpose();
        let device =
            device.map(|device| device.map(|device| format!("the gateway knows this program as {}", device.id())));
        let device = device.map(|device| Check::of("device", device, "see sessions.device_key in the policy"));
        let gateway = Check::of("gateway", sessions, "see sessions.url and sessions.token in the policy");
        let state = Check::of("state", state, "see sessions.state in the policy");
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
        Ok(Box::new(LockedGateway::lock(&self.home, &self.thoughts, self.listener.as_ref(), patience, give_up)?))
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(whole::history(self.home.state.open()?)?))
    }
}
