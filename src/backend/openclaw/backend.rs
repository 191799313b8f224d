//! The sessions of a gateway as a registry: what is read of it, and what stands in the way of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::apply::{Ask, Backend, Locked};
use crate::backend::openclaw::abilities::{Abilities, CARRIED, pin};
use crate::backend::openclaw::catalog::ModelRow;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::gateway::{Gateway, Scope};
use crate::backend::openclaw::home::GatewayHome;
use crate::backend::openclaw::listing::Listed;
use crate::backend::openclaw::locked::LockedGateway;
use crate::backend::openclaw::snapshot::{GatewaySnapshot, Sessions};
use crate::chat::Model;
use crate::checkup::Check;
use crate::error::Result;
use crate::plan::capabilities::Capabilities;
use crate::plan::json::JsonRun;
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Edits, Finding, Observed, Standing};
use crate::plan::{Drift, Reading, Row};
use crate::redact::Redaction;
use crate::registry::Snapshot;
use crate::report::counted;
use crate::state::whole;

/// The sessions of a gateway.
pub struct OpenclawBackend {
    home: GatewayHome,
    /// A connection that can only read; `None` until something is read.
    reader: Mutex<Option<Gateway>>,
}

impl OpenclawBackend {
    /// The sessions of this gateway. Nothing is connected to until something is read.
    pub fn new(home: GatewayHome) -> Self {
        Self { home, reader: Mutex::default() }
    }

    /// Asks over the connection that can only read.
    fn ask<T>(&self, ask: impl FnOnce(&mut Gateway) -> Result<T, Fault>) -> Result<T> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let gateway = match &mut *reader {
            Some(gateway) => gateway,
            none => none.insert(self.home.connect(Scope::Read)?),
        };
        Ok(ask(gateway)?)
    }

    fn list(&self) -> Result<GatewaySnapshot> {
        let listed = self.ask(Gateway::sessions)?;
        Ok(GatewaySnapshot::new(self.home.address.to_string(), managed(listed, &self.home)))
    }

    /// What each agent can be pinned to, of the agents whose sessions are to be pinned; `None` for one that is not
    /// configured. The gateway would take a name that is mistyped.
    fn catalog<'a>(&self, agents: impl Iterator<Item = &'a str>) -> Result<BTreeMap<&'a str, Option<Vec<ModelRow>>>> {
        let agents: BTreeSet<&str> = agents.collect();
        if agents.is_empty() {
            return Ok(BTreeMap::new());
        }
        // A gateway never answers about the models of an agent that is not configured.
        let configured = self.ask(Gateway::agents)?;
        let models = |agent: &str| {
            let is_configured = configured.iter().any(|known| known.id == agent);
            is_configured.then(|| self.ask(|gateway| gateway.models(agent))).transpose()
        };
        agents.into_iter().map(|agent| Ok((agent, models(agent)?))).collect()
    }
}

/// The sessions of a list that a policy is about.
pub(super) fn managed(listed: Listed, home: &GatewayHome) -> Sessions {
    let rows = listed.rows.into_iter().filter(|row| home.background || !row.is_background);
    rows.map(|row| (row.key.clone(), row)).collect()
}

/// The model that a row's session is to be pinned to, if it is to be.
fn new_pin(row: &Row) -> Option<&Model> {
    row.after.as_ref().filter(|model| row.edit && row.is_planned() && pin(model).is_some())
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
        let agent = |row: &Row| sessions.get(row.chat.id.as_ref()).map_or("", |session| session.agent.as_str());
        let pinned = || drift.rows.iter().filter_map(|row| Some((row, new_pin(row)?)));
        let catalog = self.catalog(pinned().map(|(row, _)| agent(row)))?;
        let refused = pinned().filter_map(|(row, model)| {
            let why = refuses(agent(row), model, catalog.get(agent(row))?.as_deref())?;
            let finding = Finding { standing: Standing::Refused(why), ..Finding::default() };
            Some((row.chat.id.clone().into_owned(), finding))
        });
        Ok(Observed { edits: Edits::PerRow { batch: CARRIED }, findings: refused.collect(), ..Observed::default() })
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
        vec![
            Check::of("gateway", sessions, "see sessions.url and sessions.token in the policy"),
            Check::of("state", state, "see sessions.state in the policy"),
        ]
    }

    fn lock<'b>(&'b self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        Ok(Box::new(LockedGateway::lock(&self.home, patience, give_up)?))
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(whole::history(self.home.state.open()?)?))
    }
}

/// Why no session of an agent can be pinned to a model, if so. `models` are those that it can be pinned to.
fn refuses(agent: &str, model: &Model, models: Option<&[ModelRow]>) -> Option<String> {
    let Some(models) = models else { return Some(format!("the agent {agent} is not configured in OpenClaw")) };
    let is_it = |known: &ModelRow| known.name() == model.as_str() || known.alias.as_deref() == Some(model.as_str());
    (!models.iter().any(is_it)).then(|| format!("OpenClaw lists no model {model} for the agent {agent}"))
}
