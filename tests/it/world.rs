//! A world in memory: a registry, a ledger, and sessions that run models. Any operation on it can be made to fail, and
//! the run that works on it to die before or after it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp, Zoned};
use reconcile::apply::{Applied, Attempt, Backend, Files, Locked, Planned, Turn, Watch, apply, plan};
use reconcile::error::{Error, Result};
use reconcile::plan::ledger::Ledger;
use reconcile::plan::select::Request;
use reconcile::plan::{Goal, Observed, Plan, Row};
use reconcile::policy::{Policy, Source, read};
use reconcile::registry::Exchange;
use reconcile::registry::json::edit::{Splice, spliced};
use reconcile::registry::{Snapshot, Stamp, scan};

/// What happens at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing.
    Error,
    /// The run dies before it.
    Death,
    /// The run dies right after it.
    DeathAfter,
    /// Somebody else replaces the registry just before it.
    Foreign,
    /// Every session is started anew just before it, by launches that cannot read the policy: on what the registry says.
    Launches,
}

pub const FAULTS: [Fault; 5] = [Fault::Error, Fault::Death, Fault::DeathAfter, Fault::Foreign, Fault::Launches];

#[derive(Debug, Default)]
pub struct State {
    pub registry: String,
    pub inode: u64,
    pub ledger: Ledger,
    /// What each session runs.
    pub runs: BTreeMap<String, String>,
    /// Restarts in their order.
    pub restarts: Vec<String>,
    pub history: usize,
    /// Updates by others, which must not be lost.
    pub foreign: usize,
    operations: usize,
    faults: Vec<(usize, Fault)>,
    dead: bool,
}

#[derive(Debug, Default)]
pub struct World(Mutex<State>);

impl World {
    /// Sessions that run what the registry says, or opus.
    pub fn new(registry: String) -> Self {
        let mut state = State { registry, inode: 1, ..State::default() };
        state.runs = started(&state);
        Self(Mutex::new(state))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// One run from start to end, at an hour of a fixed day, with faults at some of its operations.
    pub fn run(&self, policy: &Policy, hour: i64, faults: impl IntoIterator<Item = (usize, Fault)>) -> Result<Applied> {
        self.watched(policy, hour, faults, &Unwatched)
    }

    /// The same, under the eyes of somebody who can interrupt it.
    pub fn watched(
        &self,
        policy: &Policy,
        hour: i64,
        faults: impl IntoIterator<Item = (usize, Fault)>,
        watch: &dyn Watch,
    ) -> Result<Applied> {
        self.with(policy, hour, faults, self, watch)
    }

    /// The same, with somebody else who restarts.
    pub fn with(
        &self,
        policy: &Policy,
        hour: i64,
        faults: impl IntoIterator<Item = (usize, Fault)>,
        backend: &dyn Backend,
        watch: &dyn Watch,
    ) -> Result<Applied> {
        {
            let mut state = self.state();
            (state.operations, state.faults, state.dead) = (0, faults.into_iter().collect(), false);
        }
        let now = at(hour);
        let request = Request::default();
        let goal = Goal { policy, now: &now, request: &request, allow_changes: Some(usize::MAX), expected: None };
        let result = apply(&goal, self, backend, watch);
        let mut state = self.state();
        (state.faults, state.dead) = (Vec::new(), false);
        result
    }

    pub fn plan(&self, policy: &Policy, hour: i64) -> Plan {
        let now = at(hour);
        let request = Request::default();
        let goal = Goal { policy, now: &now, request: &request, allow_changes: Some(usize::MAX), expected: None };
        let Planned { plan, .. } = plan(&goal, self, self).unwrap();
        plan
    }

    /// How many operations the last run made.
    pub fn operations(&self) -> usize {
        self.state().operations
    }

    fn operation<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut state = self.state();
        let failed = || Error::other("a fault that the test made");
        let number = state.operations;
        state.operations += 1;
        if state.dead {
            return Err(failed());
        }
        match state.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault) {
            None => Ok(effect(&mut state)),
            Some(Fault::Error) => Err(failed()),
            Some(Fault::Death) => {
                state.dead = true;
                Err(failed())
            }
            Some(Fault::DeathAfter) => {
                effect(&mut state);
                state.dead = true;
                Err(failed())
            }
            Some(Fault::Foreign) => {
                state.foreign += 1;
                let others = format!(r#""foreign-{}": {{"model": "sonnet"}}"#, state.foreign);
                state.registry = state.registry.replacen('{', &format!("{{{others}, "), 1);
                state.inode += 1;
                let name = format!("foreign-{}", state.foreign);
                state.runs.insert(name, "sonnet".to_owned());
                Ok(effect(&mut state))
            }
            Some(Fault::Launches) => {
                state.runs = started(&state);
                state.ledger.owed.clear();
                Ok(effect(&mut state))
            }
        }
    }
}

impl Files for World {
    fn registry(&self) -> Result<Snapshot> {
        self.operation(|state| snapshot(state))
    }

    fn ledger(&self) -> Result<Ledger> {
        self.operation(|state| state.ledger.clone())
    }
}

impl Locked for World {
    fn amend(&self, change: &mut dyn FnMut(&mut Ledger)) -> Result<Ledger> {
        self.operation(|state| {
            change(&mut state.ledger);
            state.ledger.clone()
        })
    }

    fn replace(&self, seen: &Snapshot, splices: &[Splice], owing: &[&str]) -> Result<Option<Stamp>> {
        self.operation(|state| {
            let struck = owing.iter().any(|chat| !state.ledger.owed.contains_key(*chat));
            if struck || snapshot(state).stamp != seen.stamp {
                return None;
            }
            state.registry = spliced(seen.text(), splices).collect();
            state.inode += 1;
            let new = snapshot(state).stamp;
            state.ledger.replaced(&Exchange { seen: seen.stamp, new });
            Some(new)
        })
    }

    fn record(&self, _: &Plan) -> Result<()> {
        self.operation(|state| state.history += 1)
    }
}

impl Backend for World {
    fn observe(&self, _: &[&Row]) -> Result<Observed> {
        self.operation(|_| Observed::default())
    }

    fn restart(&self, row: &Row, turn: &dyn Turn) -> Attempt {
        if !turn.begin(None) {
            return Attempt::NotBegun;
        }
        let chat = row.chat.id.clone().into_owned();
        let restarted = self.operation(|state| {
            let model = models(state)[&chat].clone().unwrap_or("opus".to_owned());
            state.runs.insert(chat.clone(), model);
            state.restarts.push(chat.clone());
        });
        match restarted {
            Ok(()) => Attempt::Restarted(None),
            Err(error) => Attempt::Failed(error.to_string()),
        }
    }
}

/// Nobody looks, and nobody interrupts.
pub struct Unwatched;

impl Watch for Unwatched {
    fn interrupted(&self) -> bool {
        false
    }
}

fn snapshot(state: &State) -> Snapshot {
    let stamp = Stamp { inode: state.inode, ..Stamp::default() };
    Snapshot::new("registry".to_owned(), PathBuf::new(), stamp, state.registry.clone().into_bytes()).unwrap()
}

/// What the registry says of each chat.
pub fn models(state: &State) -> BTreeMap<String, Option<String>> {
    let mut models = BTreeMap::new();
    scan(&snapshot(state), |entry| {
        models.insert(entry.chat.id.into_owned(), entry.model.map(Into::into));
    })
    .unwrap();
    models
}

/// What each session runs that is started now.
fn started(state: &State) -> BTreeMap<String, String> {
    models(state).into_iter().map(|(chat, model)| (chat, model.unwrap_or("opus".to_owned()))).collect()
}

/// An hour of a fixed day.
pub fn at(hour: i64) -> Zoned {
    let start: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    (start + SignedDuration::from_hours(hour)).to_zoned(jiff::tz::TimeZone::UTC)
}

/// A policy with these overrides, for everybody else haiku.
pub fn policy(chats: &[(&str, &str)]) -> Policy {
    let mut text = "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"haiku\"\n\
                    [sessions]\nrestart = [\"true\"]\nparallel = 1\n\
                    [[rules]]\nchat = \"foreign-*\"\nmodel = \"sonnet\"\n[chats]\n"
        .to_owned();
    for (chat, model) in chats {
        writeln!(text, "{chat:?} = {model:?}").unwrap();
    }
    read(&[Source::new("policy.toml", text)]).unwrap().0
}
