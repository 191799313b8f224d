//! Backends in memory: a registry, a ledger, and sessions that run models. Any operation on them can be made to fail, and
//! the run that works on them to die before or after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned};
use reconcile::apply::{
    Applied, Ask, Attempt, Backend, Batch, Committed, Locked, PlannedOn, RunContext, Stands, Turn, Watch, apply, plan,
};
use reconcile::chat::{Chat, Model};
use reconcile::error::Result;
use reconcile::plan::capabilities::{Capabilities, TakesEffect};
use reconcile::plan::json::{JsonRun, Origin};
use reconcile::plan::last_applied::{Found, Reach};
use reconcile::plan::ledger::{Begin, Debt, Ledger, Note};
use reconcile::plan::observed::{Canary, Edits, Finding, Observed, Standing, Void};
use reconcile::plan::select::Selector;
use reconcile::plan::trial::Trial;
use reconcile::plan::{Drift, Limits, Plan, PlanInput, Reading, Row};
use reconcile::policy::{Policy, Source, read};
use reconcile::registry::{Blank, Counts, Entry, Position, Snapshot};
use serde_json::Value;

/// What happens at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing.
    Error,
    /// The run dies before it.
    Death,
    /// The run dies right after it.
    DeathAfter,
    /// Another program replaces the registry just before it.
    Foreign,
    /// Every session is started anew just before it, on what the registry says; where launches start them, they pay what
    /// was owed.
    Starts,
}

pub const FAULTS: [Fault; 5] = [Fault::Error, Fault::Death, Fault::DeathAfter, Fault::Foreign, Fault::Starts];

/// How a backend edits, and how a session comes to run on its model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// All edits first, then the restarts that they owe.
    #[default]
    Batch,
    /// A request for each row, which edits and restarts. What is owed names the run of the session.
    PerRow,
    /// Requests for several rows, after which sessions run on their models. Nothing is ever owed.
    AtOnce,
}

pub const MANNERS: [Manner; 3] = [Manner::Batch, Manner::PerRow, Manner::AtOnce];

/// What a session does that is started on a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// It comes up.
    Works,
    /// It comes up after a while.
    Late,
    /// It does not start.
    Fails,
    /// It starts and dies.
    Dies,
    /// Whether it came up cannot be told; it did not.
    Hangs,
}

impl Behaviour {
    pub fn comes_up(self) -> bool {
        matches!(self, Self::Works | Self::Late)
    }
}

/// So many rows one request carries where edits take effect at once.
const CARRIED: usize = 2;

/// What a session without a model runs.
const UNSET: &str = "opus";

#[derive(Debug, Default)]
pub struct State {
    /// The model of each chat, as the registry says it.
    pub entries: BTreeMap<String, Option<String>>,
    /// Another number, another registry.
    pub version: u64,
    pub ledger: Ledger,
    /// What each session runs.
    pub runs: BTreeMap<String, String>,
    /// How often each session was started.
    pub starts: BTreeMap<String, usize>,
    /// Sessions that are not running.
    pub down: BTreeSet<String>,
    /// What sessions do on models on which they do not work.
    pub behaviours: BTreeMap<(String, String), Behaviour>,
    /// Sessions that the program has started, and on what, in their order.
    pub tried: Vec<(String, String)>,
    /// Sessions that the program has changed, in their order.
    pub changed: Vec<String>,
    pub history: usize,
    /// Whether sessions are started by launches, which strike what is owed.
    pub has_launches: bool,
    /// Updates by other programs, which must not be lost.
    pub foreign: usize,
    manner: Manner,
    /// Whether a commit is under way, which holds a lock.
    is_committing: bool,
    operations: usize,
    faults: Vec<(usize, Fault)>,
    dead: bool,
}

impl State {
    /// Another program sets a model in the registry.
    pub fn set(&mut self, chat: &str, model: Option<&str>) {
        self.entries.insert(chat.to_owned(), model.map(str::to_owned));
        self.version += 1;
    }

    /// Every session is started anew, on what the registry says.
    pub fn start_all(&mut self) {
        for chat in self.entries.clone().keys() {
            self.start(chat);
        }
        // Launches start them, and pay what was owed. Where the owner of the registry starts sessions, none pays.
        if self.manner == Manner::Batch {
            self.ledger.owed.clear();
        }
    }

    /// The session of a chat is started anew, on what the registry says.
    pub fn start(&mut self, chat: &str) {
        let model = self.entries.get(chat).cloned().flatten().unwrap_or_else(|| UNSET.to_owned());
        *self.starts.entry(chat.to_owned()).or_default() += 1;
        match self.behaviour(chat, &model) {
            Behaviour::Works | Behaviour::Late => _ = self.down.remove(chat),
            Behaviour::Fails | Behaviour::Dies | Behaviour::Hangs => _ = self.down.insert(chat.to_owned()),
        }
        self.runs.insert(chat.to_owned(), model);
    }

    /// What the session of a chat does on a model.
    pub fn behaviour(&self, chat: &str, model: &str) -> Behaviour {
        let behaviour = self.behaviours.get(&(chat.to_owned(), model.to_owned()));
        behaviour.copied().unwrap_or(Behaviour::Works)
    }

    /// Names the run of a session that is going on.
    pub fn run_of(&self, chat: &str) -> String {
        format!("run {}", self.starts.get(chat).copied().unwrap_or_default())
    }

    /// Says whether a session is known to work on a model of which the ledger knows nothing.
    fn prove(&self, model: &Model, reading: &Reading, observed: &mut Observed) {
        if !matches!(reading.ledger.trials.get(model), None | Some(Trial::Trying(_))) {
            return;
        }
        let is_proof = |chat: &&String| {
            let says = self.entries[*chat].as_deref();
            let is_settled = !reading.ledger.owed.contains_key(*chat) && !reading.ledger.failed.contains_key(*chat);
            says == Some(model.as_str()) && is_settled && !self.down.contains(*chat)
        };
        match self.entries.keys().find(is_proof) {
            Some(chat) => _ = observed.working.insert(model.clone(), chat.clone()),
            None => _ = observed.canaries.insert(model.clone(), Canary::default()),
        }
    }

    fn note(&mut self, notes: &[Note], now: Timestamp) {
        for note in notes {
            self.ledger.note(note, now);
        }
        if notes.iter().any(|note| matches!(note, Note::Confirmed { .. })) {
            let old: Vec<String> = self.ledger.lasting(now).map(str::to_owned).collect();
            for chat in old {
                self.ledger.corrected.remove(&chat);
            }
        }
    }
}

/// The registry of a world at one instant. It is no text, and so has no preview.
#[derive(Debug)]
struct MemorySnapshot {
    version: u64,
    entries: Vec<(String, Option<String>)>,
}

impl Snapshot for MemorySnapshot {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts> {
        for (index, (chat, model)) in self.entries.iter().enumerate() {
            let chat = Chat { id: chat.into(), ..Chat::default() };
            let model = model.as_deref().map(Into::into);
            take(Entry {
                chat,
                model,
                resume: None,
                by_hand: None,
                mark: None,
                is_session: true,
                blank: Blank::default(),
                at: Position(index),
                differs: None,
            });
        }
        Ok(Counts { sessions: self.entries.len(), selected: None })
    }
}

#[derive(Debug, Default)]
pub struct World {
    state: Mutex<State>,
    manner: Manner,
}

impl World {
    /// Sessions that run what the registry says, or opus. `registry` is JSON, of which the models count.
    pub fn new(registry: &str) -> Self {
        Self::of(Manner::Batch, registry)
    }

    /// The same, of a backend of this manner.
    pub fn of(manner: Manner, registry: &str) -> Self {
        let registry: Value = serde_json::from_str(registry).unwrap();
        let model = |entry: &Value| entry["model"].as_str().map(str::to_owned);
        let entries = registry.as_object().unwrap().iter().map(|(chat, entry)| (chat.clone(), model(entry)));
        let mut state = State { entries: entries.collect(), version: 1, manner, ..State::default() };
        for chat in state.entries.clone().keys() {
            state.start(chat);
        }
        Self { state: Mutex::new(state), manner }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// One run from start to end, at an hour of a fixed day, with faults at some of its operations.
    pub fn run(&self, policy: &Policy, hour: i64, faults: impl IntoIterator<Item = (usize, Fault)>) -> Result<Applied> {
        self.watched(policy, hour, faults, &Unwatched)
    }

    /// One run that something watches, which can interrupt it.
    pub fn watched(
        &self,
        policy: &Policy,
        hour: i64,
        faults: impl IntoIterator<Item = (usize, Fault)>,
        watch: &dyn Watch,
    ) -> Result<Applied> {
        {
            let mut state = self.state();
            (state.operations, state.faults, state.dead) = (0, faults.into_iter().collect(), false);
        }
        let result = run(self, policy, &at(hour), &Selector::default(), usize::MAX, watch);
        let mut state = self.state();
        (state.faults, state.dead) = (Vec::new(), false);
        result
    }

    pub fn plan(&self, policy: &Policy, hour: i64) -> Plan {
        let (now, selector) = (at(hour), Selector::default());
        plan(&input(self, policy, &now, &selector, usize::MAX), self).unwrap().plan
    }

    /// How many operations the last run made.
    pub fn operations(&self) -> usize {
        self.state().operations
    }

    fn operation<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut state = self.state();
        let failed = || crate::support::error("a fault that the test made");
        let number = state.operations;
        state.operations += 1;
        if state.dead {
            return Err(failed());
        }
        match state.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault) {
            None => {}
            Some(Fault::Error) => return Err(failed()),
            Some(Fault::Death) => {
                state.dead = true;
                return Err(failed());
            }
            Some(Fault::DeathAfter) => {
                effect(&mut state);
                state.dead = true;
                return Err(failed());
            }
            Some(Fault::Foreign) => {
                state.foreign += 1;
                let name = format!("foreign-{}", state.foreign);
                state.set(&name, Some("sonnet"));
                state.start(&name);
            }
            // A program that starts sessions needs the lock as well.
            Some(Fault::Starts) if state.is_committing => {}
            Some(Fault::Starts) => {
                state.start_all();
            }
        }
        Ok(effect(&mut state))
    }

    fn converge_one(&self, row: &Row, turn: &dyn Turn) -> Attempt {
        let chat = row.chat.id.as_ref();
        let run = self.state().run_of(chat);
        let another = |debt: &Debt| debt.run.as_ref().is_some_and(|owed| *owed != run);
        let is_up = !self.state().down.contains(chat);
        if self.manner == Manner::PerRow && !row.edit && is_up && row.owed.as_ref().is_some_and(another) {
            return Attempt::NotNeeded("it was started again meanwhile".to_owned());
        }
        let was_up = !self.state().down.contains(chat);
        if self.manner == Manner::Batch && !was_up && !row.was_tried() {
            return Attempt::NotNeeded("not running: it will start on its model".to_owned());
        }
        let begin = if self.manner == Manner::Batch { Begin::Owed } else { Begin::Owing(&run) };
        if !turn.begin(row, begin) {
            return Attempt::NotBegun;
        }
        let changed = self.operation(|state| {
            if self.manner == Manner::PerRow {
                edit(state, row);
            }
            if state.has_launches {
                state.ledger.note(&Note::Settled { chat }, at(0).timestamp());
            }
            state.start(chat);
            state.changed.push(chat.to_owned());
            state.tried.push((chat.to_owned(), state.runs[chat].clone()));
            state.behaviour(chat, &state.runs[chat])
        });
        match changed {
            Ok(Behaviour::Works | Behaviour::Late) => Attempt::Changed,
            Ok(Behaviour::Fails | Behaviour::Dies) if was_up => Attempt::Unhealthy("it is down".to_owned()),
            Ok(Behaviour::Fails | Behaviour::Dies) => Attempt::StillDown("it is down".to_owned()),
            Ok(Behaviour::Hangs) => Attempt::Unknown("it hangs".to_owned()),
            Err(error) => Attempt::Failed(error.text()),
        }
    }

    fn converge_at_once(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        let begun: Vec<bool> = rows.iter().map(|row| turn.begin(row, Begin::Free)).collect();
        let changed = self.operation(|state| {
            for (row, _) in rows.iter().zip(&begun).filter(|(_, begun)| **begun) {
                edit(state, row);
                state.start(&row.chat.id);
                state.changed.push(row.chat.id.clone().into_owned());
            }
        });
        let attempt = |begun: &bool| match (begun, &changed) {
            (false, _) => Attempt::NotBegun,
            (true, Ok(())) => Attempt::Changed,
            (true, Err(error)) => Attempt::Failed(error.text()),
        };
        begun.iter().map(attempt).collect()
    }
}

impl World {
    /// As a file commits: what will be owed, the edits, and what is void after them, each of which can fail.
    fn commit_in_steps(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        if batch.is_empty() {
            return Ok(Committed::Done { error: None });
        }
        let snapshot: &dyn std::any::Any = reading.snapshot.as_ref();
        let seen = snapshot.downcast_ref::<MemorySnapshot>().unwrap().version;
        let settled: Vec<Note> = batch.void.iter().map(|chat| Note::Settled { chat }).collect();
        let before = self.operation(|state| {
            let planned_on = batch
                .changes
                .iter()
                .filter(|change| change.owes.is_some_and(|owes| owes.planned_on == PlannedOn::Debt));
            let mut counted_on = planned_on.map(|change| change.chat).chain(batch.void.iter().copied());
            let is_stale = counted_on.any(|chat| !state.ledger.owed.contains_key(chat));
            if is_stale || (!batch.changes.is_empty() && state.version != seen) {
                return None;
            }
            let before = state.ledger.clone();
            let mut notes = batch.notes.clone();
            for change in &batch.changes {
                let chat = change.chat;
                let identity = state.run_of(chat);
                let identity = Some(identity.as_str());
                state.note(&notes, batch.now);
                notes.clear();
                let owes = change.owes.map(|owes| Note::Owes { chat, ran: owes.ran, identity });
                state.note(owes.as_slice(), batch.now);
            }
            if batch.changes.is_empty() {
                notes.extend(&settled);
            }
            state.note(&notes, batch.now);
            state.is_committing = true;
            Some(before)
        })?;
        let Some(before) = before else { return Ok(Committed::Stale) };
        if batch.changes.is_empty() {
            return Ok(Committed::Done { error: None });
        }
        let edited = self.operation(|state| {
            if state.version != seen {
                return false;
            }
            for change in &batch.changes {
                let model = change.after.map(|model| model.as_str().to_owned());
                state.entries.insert(change.chat.to_owned(), model);
            }
            state.version += 1;
            true
        });
        if !matches!(edited, Ok(true)) && !self.state().dead {
            self.state().ledger.owed = before.owed;
        }
        if !edited? {
            return Ok(Committed::Stale);
        }
        Ok(Committed::Done { error: self.operation(|state| state.note(&settled, batch.now)).err() })
    }
}

fn edit(state: &mut State, row: &Row) {
    let model = row.after.as_ref().map(|model| model.as_str().to_owned());
    if let Some(entry) = state.entries.get_mut(row.chat.id.as_ref()) {
        *entry = model;
        state.version += 1;
    }
}

impl Capabilities for World {
    fn takes_effect(&self) -> TakesEffect {
        if self.manner == Manner::AtOnce { TakesEffect::AtOnce } else { TakesEffect::OnRestart }
    }

    fn edits_by_restart(&self) -> bool {
        self.manner == Manner::PerRow
    }
}

impl Backend for World {
    fn capabilities(&self) -> &dyn Capabilities {
        self
    }

    fn read(&self, _: Ask<'_>) -> Result<Reading> {
        Ok(Reading { ledger: self.ledger()?, snapshot: self.snapshot()?, doubtful: BTreeSet::new(), imposed: None })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.operation(|state| {
            let entries = state.entries.clone().into_iter().collect();
            Box::new(MemorySnapshot { version: state.version, entries }) as Box<dyn Snapshot>
        })
    }

    fn ledger(&self) -> Result<Ledger> {
        self.operation(|state| state.ledger.clone())
    }

    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        self.operation(|state| {
            let mut observed = Observed::default();
            for row in &drift.rows {
                let run = state.run_of(&row.chat.id);
                let is_over = row.owed.as_ref().and_then(|debt| debt.run.as_ref()).is_some_and(|owed| *owed != run);
                let is_up = !state.down.contains(row.chat.id.as_ref());
                let void = (is_over && is_up).then_some(Void::Because("its session was started again since"));
                let standing = match self.manner {
                    Manner::Batch if state.down.contains(row.chat.id.as_ref()) => Standing::NotRunning,
                    Manner::Batch | Manner::AtOnce => Standing::Ready,
                    Manner::PerRow => Standing::Live,
                };
                let finding = Finding { standing, void, identity: Some(run), ..Finding::default() };
                observed.findings.insert(row.chat.id.clone().into_owned(), finding);
                if let Some(model) = &row.after {
                    state.prove(model, reading, &mut observed);
                }
            }
            observed.edits = match self.manner {
                Manner::Batch => Edits::Batch,
                Manner::PerRow => Edits::PerRow { batch: 1 },
                Manner::AtOnce => Edits::PerRow { batch: CARRIED },
            };
            observed
        })
    }

    fn lock<'b>(&'b self, _: Duration, _: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        Ok(Box::new(self))
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(std::iter::empty()))
    }
}

impl Locked for &World {
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        let committed = self.commit_in_steps(reading, batch);
        self.state().is_committing = false;
        committed
    }

    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        self.operation(|state| {
            state.note(notes, now);
            let owed = notes.iter().filter_map(|note| state.ledger.owed.get_key_value(note.chat()));
            owed.map(|(chat, debt)| (chat.clone(), debt.clone())).collect()
        })
    }

    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        match self.manner {
            Manner::AtOnce => self.converge_at_once(rows, turn),
            Manner::Batch | Manner::PerRow => rows.iter().map(|row| self.converge_one(row, turn)).collect(),
        }
    }

    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        self.operation(|state| {
            let stands = |row: &Row| match state.entries.get(row.chat.id.as_ref()) {
                Some(model) => Stands::Model(model.as_deref().and_then(Model::new)),
                None => Stands::Gone,
            };
            rows.iter().map(|row| (row.chat.id.clone().into_owned(), stands(row))).collect()
        })
    }

    fn remember(&self, found: &Found, reach: Reach) -> Result<()> {
        self.operation(|state| {
            let Some(by_now) = state.ledger.applied_by_now(found, reach) else { return };
            state.ledger.last_applied = Arc::new(by_now);
            let found: BTreeSet<&str> = found.chats().collect();
            state.ledger.wrote.retain(|chat, wrote| !wrote.read_back && !found.contains(chat.as_str()));
        })
    }

    fn forget_applied(&self) -> Result<()> {
        self.operation(|state| {
            state.ledger.last_applied = Arc::default();
            state.ledger.wrote.clear();
        })
    }

    fn record(&self, _: &JsonRun<'_>) -> Result<()> {
        self.operation(|state| state.history += 1)
    }
}

/// Nothing looks, and nothing interrupts.
pub struct Unwatched;

impl Watch for Unwatched {
    fn interrupted(&self) -> bool {
        false
    }
}

/// One run of a backend that is locked already.
pub fn run<B>(
    backend: &B,
    policy: &Policy,
    now: &Zoned,
    selector: &Selector,
    limit: usize,
    watch: &dyn Watch,
) -> Result<Applied>
where
    B: Backend,
    for<'b> &'b B: Locked,
{
    let locked: &dyn Locked = &backend;
    let context = RunContext { backend, locked, watch, author: &Origin::default };
    apply(&input(backend, policy, now, selector, limit), context)
}

pub fn input<'a>(
    backend: &'a dyn Backend,
    policy: &'a Policy,
    now: &'a Zoned,
    selector: &'a Selector,
    limit: usize,
) -> PlanInput<'a> {
    let limits = Limits { allow_changes: Some(limit), expected: None };
    PlanInput { policy, capabilities: backend.capabilities(), now, selector, limits }
}

/// An hour of a fixed day.
pub fn at(hour: i64) -> Zoned {
    let start: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    (start + SignedDuration::from_hours(hour)).to_zoned(jiff::tz::TimeZone::UTC)
}

/// A policy with these overrides, and haiku for every other chat.
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
