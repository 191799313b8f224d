//! Laws of rollouts, over worlds in which sessions do not start on some models, start and die, hang, or come up late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use reconcile::apply::{Backend, Watch};
use reconcile::chat::{Chat, Model};
use reconcile::launch::{Decider, Wanted as Launch, start};
use reconcile::plan::trial::Trial;
use reconcile::plan::{Plan, Row, Verdict};
use reconcile::policy::Policy;
use reconcile::policy::scope::Scope;
use reconcile::policy::template::CommandLine;

use crate::world::{Behaviour, Manner, World, at, policy};

const MODELS: [&str; 3] = ["opus", "sonnet", "haiku"];
const CHATS: [&str; 6] = ["ada", "ben", "cal", "dan", "eve", "fay"];
const BEHAVIOURS: [Behaviour; 5] =
    [Behaviour::Works, Behaviour::Late, Behaviour::Fails, Behaviour::Dies, Behaviour::Hangs];

/// A run, and what happens around it.
#[derive(Clone, Debug)]
struct Step {
    /// The sessions that their user stops before it.
    stops: Vec<usize>,
    overrides: Vec<(usize, usize)>,
    /// The hours before it.
    hours: i64,
    /// Whether every session is started anew after it.
    starts_anew: bool,
    /// Whether it pauses between portions, and in which pause it is asked to end.
    pauses: Option<usize>,
}

fn steps() -> impl Strategy<Value = Step> {
    let overrides = proptest::collection::vec((0..CHATS.len(), 0..MODELS.len()), 0..4);
    let stops = prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(0..CHATS.len(), 1..3)];
    let pauses = prop_oneof![2 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    (stops, overrides, 0..8_i64, proptest::bool::weighted(0.3), pauses).prop_map(
        |(stops, overrides, hours, starts_anew, pauses)| Step { stops, overrides, hours, starts_anew, pauses },
    )
}

/// A world and what happens in it.
#[derive(Clone, Debug)]
struct Story {
    manner: Manner,
    /// What each chat is registered with, and runs.
    registered: Vec<&'static str>,
    /// What sessions do on each model, and on some of them alone.
    models: Vec<Behaviour>,
    exceptions: Vec<(usize, usize, Behaviour)>,
    /// Whether sessions are started by launches.
    has_launches: bool,
    /// Sessions that do not even come up again on what they are registered with.
    rotten: Vec<usize>,
    runs: Vec<Step>,
    max_failures: usize,
    parallel: usize,
}

fn stories() -> impl Strategy<Value = Story> {
    let behaviour = || prop_oneof![3 => Just(Behaviour::Works), 2 => select(&BEHAVIOURS[1..])];
    let rotten = prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(0..CHATS.len(), 1..3)];
    (
        select(&[Manner::Batch, Manner::PerRow][..]),
        proptest::collection::vec(select(&MODELS[..]), 1..=CHATS.len()),
        proptest::collection::vec(behaviour(), MODELS.len()),
        proptest::collection::vec((0..CHATS.len(), 0..MODELS.len(), behaviour()), 0..3),
        (proptest::bool::ANY, rotten),
        proptest::collection::vec(steps(), 1..6),
        1..3_usize,
        1..4_usize,
    )
        .prop_map(|(manner, registered, models, exceptions, sessions, runs, max_failures, parallel)| Story {
            manner,
            registered,
            models,
            exceptions,
            has_launches: sessions.0 && manner == Manner::Batch,
            rotten: sessions.1,
            runs,
            max_failures,
            parallel,
        })
}

impl Story {
    fn world(&self) -> World {
        let entries = CHATS.iter().zip(&self.registered);
        let entries: Vec<String> =
            entries.map(|(chat, model)| format!(r#""{chat}": {{"model": "{model}"}}"#)).collect();
        let world = World::of(self.manner, &format!("{{{}}}", entries.join(", ")));
        let mut state = world.state();
        for chat in CHATS {
            for (model, behaviour) in MODELS.iter().zip(&self.models) {
                state.behaviours.insert((chat.to_owned(), (*model).to_owned()), *behaviour);
            }
        }
        for (chat, model, behaviour) in &self.exceptions {
            state.behaviours.insert((CHATS[*chat].to_owned(), MODELS[*model].to_owned()), *behaviour);
        }
        // What they run at first works, or no run could take them down.
        for (index, (chat, model)) in CHATS.iter().zip(&self.registered).enumerate() {
            let behaviour = if self.rotten.contains(&index) { Behaviour::Fails } else { Behaviour::Works };
            state.behaviours.insert(((*chat).to_owned(), (*model).to_owned()), behaviour);
        }
        state.has_launches = self.has_launches;
        drop(state);
        world
    }

    fn policy(&self, wanted: &Wanted, step: &Step) -> Policy {
        let mut policy = policy(&wanted.iter().map(|(chat, model)| (*chat, *model)).collect::<Vec<_>>());
        policy.rollout.pause = Duration::from_secs(u64::from(step.pauses.is_some()));
        policy.rollout.max_failures = self.max_failures;
        policy.sessions.parallel = self.parallel;
        policy
    }
}

/// The model that each chat should run on.
type Wanted = BTreeMap<&'static str, &'static str>;

fn wanted(overrides: &[(usize, usize)]) -> Wanted {
    let mut wanted: Wanted = CHATS.into_iter().map(|chat| (chat, "haiku")).collect();
    wanted.extend(overrides.iter().map(|(chat, model)| (CHATS[*chat], MODELS[*model])));
    wanted
}

fn verdict(plan: &Plan, chat: &str) -> Option<Verdict> {
    plan.rows.iter().find(|row| row.chat.id == chat).map(|row| row.outcome.verdict)
}

/// How often sessions were started that did what, by this program.
static STARTS: Mutex<BTreeMap<Behaviour, usize>> = Mutex::new(BTreeMap::new());

/// The chats on which each model did not come up since it last did on them.
type Victims = BTreeMap<String, BTreeSet<String>>;

/// What is remembered of failures.
#[derive(Default)]
struct Failures {
    victims: Victims,
    /// Models that have come up nowhere since.
    models: BTreeSet<String>,
}

fn check(story: &Story) -> Result<(), TestCaseError> {
    let world = story.world();
    let mut failures = Failures::default();
    let mut excused = Excused::default();
    let mut hour = 0;
    for step in &story.runs {
        let Step { stops, overrides, hours, starts_anew, pauses } = step;
        let stopped = stops.iter().map(|chat| CHATS[*chat].to_owned());
        let stopped = stopped.filter(|chat| world.state().entries.contains_key(chat));
        for chat in stopped.collect::<Vec<_>>() {
            excused.stopped.insert(chat.clone());
            world.state().down.insert(chat);
        }
        let wanted = wanted(overrides);
        let policy = story.policy(&wanted, step);
        hour += hours;
        world.state().tried.clear();
        let up = up(&world);
        let proven = proven(&world, &up);
        let ran = world.state().runs.clone();
        excused.decide(&wanted, &world.state().entries);
        let pace = Pace { world: &world, end_in: *pauses, seen: Mutex::default() };
        let plan = world.watched(&policy, hour, None, &pace).unwrap().planned.plan;
        pace.is_kept(story.parallel)?;
        let state = world.state();
        let tried: Vec<(&str, &str, Behaviour)> = state
            .tried
            .iter()
            .map(|(chat, model)| (chat.as_str(), model.as_str(), state.behaviour(chat, model)))
            .collect();
        for (_, _, behaviour) in &tried {
            *STARTS.lock().unwrap().entry(*behaviour).or_default() += 1;
        }
        takes_few_down(story, &wanted, &tried, &up)?;
        tries_a_failed_model_on_one_chat(&wanted, &tried, &up, &proven, &mut failures)?;
        for chat in &up {
            let told = matches!(verdict(&plan, chat), Some(Verdict::Failed | Verdict::Unknown));
            prop_assert!(!state.down.contains(*chat) || told, "{chat} was up, is down, and its row says {plan:#?}");
            // It is put back, unless it hangs and so cannot be told to be down, or does not come up on what it ran either.
            let hangs = verdict(&plan, chat) == Some(Verdict::Unknown);
            let can_be_put_back = !hangs && state.behaviour(chat, &ran[*chat]).comes_up();
            prop_assert!(
                !state.down.contains(*chat) || !can_be_put_back,
                "{chat} ran {} and is down: {plan:#?}",
                ran[*chat]
            );
        }
        excused.follow(&wanted, &tried);
        drop(state);
        launches_start_on_nothing_that_failed(&world, &policy, &wanted, hour, &failures)?;
        if *starts_anew {
            world.state().start_all();
        }
        // What a launch has started is no longer this program's to bring up, unless it did not come up on that model before.
        let down = world.state().down.clone();
        excused.stopped.retain(|chat| down.contains(chat));
        excused.launched.retain(|chat| down.contains(chat));
        excused.launched.extend(down.into_iter().filter(|_| *starts_anew || story.has_launches));
        nothing_failed_is_in_sync(&world, &policy, hour, &excused)?;
    }
    Ok(())
}

/// The model of each chat in the registry.
type Entries = BTreeMap<String, Option<String>>;

/// Watches a run that pauses between portions, and asks it to end in one of its pauses.
struct Pace<'w> {
    world: &'w World,
    end_in: Option<usize>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    pauses: usize,
    /// The chats whose restart has begun since the last pause, canaries excepted.
    portion: BTreeSet<String>,
    canaries: BTreeSet<String>,
    largest: usize,
    begun_after_end: usize,
    /// What the registry said when the run was asked to end.
    at_end: Option<Entries>,
}

impl Watch for Pace<'_> {
    fn interrupted(&self) -> bool {
        self.end_in.is_some_and(|end| self.seen.lock().unwrap().pauses > end)
    }

    fn pause(&self, time: Duration) {
        let mut seen = self.seen.lock().unwrap();
        seen.pauses += usize::from(!time.is_zero());
        seen.portion.clear();
        if self.end_in.is_some_and(|end| seen.pauses == end + 1) {
            seen.at_end = Some(self.world.state().entries.clone());
        }
    }

    fn begun(&self, row: &Row) {
        let has_ended = self.interrupted();
        let mut seen = self.seen.lock().unwrap();
        seen.begun_after_end += usize::from(has_ended);
        let chat = row.chat.id.clone().into_owned();
        // A canary that does not come up is put back before the next pause.
        if row.canary {
            seen.canaries.insert(chat);
        } else if !seen.canaries.contains(&chat) {
            seen.portion.insert(chat);
        }
        seen.largest = seen.largest.max(seen.portion.len());
    }
}

impl Pace<'_> {
    /// Between two pauses at most `parallel` sessions are restarted, and none after a pause in which the run was asked to end.
    fn is_kept(&self, parallel: usize) -> Result<(), TestCaseError> {
        let seen = self.seen.lock().unwrap();
        let (largest, at_end) = (seen.largest, seen.at_end.as_ref());
        prop_assert!(self.end_in.is_none() || largest <= parallel, "{largest} restarts between two pauses");
        prop_assert_eq!(seen.begun_after_end, 0, "restarts after the run was asked to end");
        let is_as_left = at_end.is_none_or(|at_end| *at_end == self.world.state().entries);
        prop_assert!(is_as_left, "edits after the run was asked to end: {at_end:?}");
        Ok(())
    }
}

/// No launch starts a session on a model that failed on it or is not known to work, unless its entry says so already; and
/// each starts on what is decided where that is known to work.
fn launches_start_on_nothing_that_failed(
    world: &World,
    policy: &Policy,
    wanted: &Wanted,
    hour: i64,
    failures: &Failures,
) -> Result<(), TestCaseError> {
    let command = CommandLine::parse(&["assistant"], Scope::Launch).unwrap();
    let (ledger, snapshot, now) = (world.ledger().unwrap(), world.snapshot().unwrap(), at(hour));
    let decider = Decider { policy, capabilities: world, ledger: &ledger };
    let worked =
        |(known, trial): (&Model, &Trial), model: &str| known.as_str() == model && matches!(trial, Trial::Worked(_));
    let has_worked = |model: &str| ledger.trials.iter().any(|known| worked(known, model));
    let entries = world.state().entries.clone();
    for chat in CHATS.into_iter().filter(|chat| entries.contains_key(*chat)) {
        let (fields, new_session_id) = (&Chat::default(), None);
        let launch = Launch { chat, fields, command: &command, conversations: None, new_session_id };
        let started = start(Some(decider), snapshot.as_ref(), &launch, &now).unwrap();
        let (runs, registered) = (started.model.unwrap().to_string(), entries[chat].clone().unwrap());
        let has_failed = failures.victims.get(&runs).is_some_and(|victims| victims.contains(chat));
        let runs_elsewhere = entries.iter().any(|(other, model)| other != chat && model.as_ref() == Some(&runs));
        if runs != registered {
            prop_assert_eq!(wanted[chat], &runs, "what is decided, or what is registered");
            prop_assert!(!has_failed, "{} has failed on {}", &runs, chat);
            prop_assert!(!failures.models.contains(&runs), "{} has failed: {:?}", &runs, failures.victims);
            prop_assert!(
                has_worked(&runs) || runs_elsewhere,
                "{} is not known to work, and {} would be started on it",
                &runs,
                chat
            );
        } else if wanted[chat] != runs {
            let better = wanted[chat];
            let has_failed = failures.victims.get(better).is_some_and(|victims| victims.contains(chat));
            prop_assert!(!has_worked(better) || has_failed, "{better} works, and {chat} would be started on {runs}");
        }
    }
    Ok(())
}

/// The chats whose sessions are running.
fn up(world: &World) -> BTreeSet<&'static str> {
    let state = world.state();
    let is_up = |chat: &&str| state.entries.contains_key(*chat) && !state.down.contains(*chat);
    CHATS.into_iter().filter(is_up).collect()
}

/// The models on which a session is running, or has come up before without a failure since.
fn proven(world: &World, up: &BTreeSet<&str>) -> BTreeSet<String> {
    let state = world.state();
    let worked = state.ledger.trials.iter().filter(|(_, trial)| matches!(trial, Trial::Worked(_)));
    worked.map(|(model, _)| model.to_string()).chain(up.iter().map(|chat| state.runs[*chat].clone())).collect()
}

/// No run takes down more than `max_failures` sessions plus what was under way.
fn takes_few_down(
    story: &Story,
    wanted: &Wanted,
    tried: &[(&str, &str, Behaviour)],
    up: &BTreeSet<&str>,
) -> Result<(), TestCaseError> {
    let taken = tried
        .iter()
        .filter(|(chat, model, behaviour)| !behaviour.comes_up() && up.contains(chat) && wanted[*chat] == *model);
    prop_assert!(taken.count() < story.max_failures + story.parallel, "{tried:?}");
    Ok(())
}

/// A model that failed is tried on no chat on which it has not failed, before it worked on one on which it has, or those want
/// another one.
fn tries_a_failed_model_on_one_chat(
    wanted: &Wanted,
    tried: &[(&str, &str, Behaviour)],
    up: &BTreeSet<&str>,
    proven: &BTreeSet<String>,
    failures: &mut Failures,
) -> Result<(), TestCaseError> {
    let wants = |chat: &str, model: &str| wanted[chat] == model;
    for (model, victims) in &mut failures.victims {
        victims.retain(|chat| wants(chat, model));
    }
    failures.models.retain(|model| failures.victims.get(model).is_some_and(|victims| !victims.is_empty()));
    for model in MODELS {
        let starts_on_it: Vec<(&str, Behaviour)> = tried
            .iter()
            .filter(|(chat, on, _)| *on == model && wants(chat, on))
            .map(|(chat, _, how)| (*chat, *how))
            .collect();
        let failed = starts_on_it.iter().filter(|(_, how)| !how.comes_up());
        let failed: BTreeSet<String> = failed.map(|(chat, _)| (*chat).to_owned()).collect();
        let worked = starts_on_it.iter().filter(|(_, how)| how.comes_up());
        let worked: BTreeSet<&str> = worked.map(|(chat, _)| *chat).collect();
        // A session that is down already is not risked.
        let risked: Vec<_> = starts_on_it.iter().filter(|(chat, _)| up.contains(chat)).collect();
        let victims = failures.victims.entry(model.to_owned()).or_default();
        if failures.models.contains(model) {
            let is_first = risked.iter().take(1).all(|(chat, _)| victims.contains(*chat));
            prop_assert!(is_first, "{model} has failed on {victims:?}: {tried:?}");
            prop_assert!(risked.len() <= 1 || !worked.is_empty(), "{model} was tried on several: {tried:?}");
        } else {
            let is_proven = proven.contains(model) || !worked.is_empty();
            prop_assert!(risked.len() <= 1 || is_proven, "{model} was tried on several: {tried:?}");
        }
        victims.retain(|chat| !worked.contains(chat.as_str()));
        victims.extend(failed);
        // A session that was put back on it may have come up on it before.
        let of_model = || tried.iter().filter(|(_, on, _)| *on == model);
        let is_proven_by_way_back = of_model().next().is_some_and(|(_, _, how)| how.comes_up());
        if !worked.is_empty() || is_proven_by_way_back {
            failures.models.remove(model);
        } else if !victims.is_empty() && !starts_on_it.is_empty() {
            failures.models.insert(model.to_owned());
        }
    }
    Ok(())
}

/// Sessions that are down, and not because of this program.
#[derive(Default)]
struct Excused {
    /// Their users have stopped them.
    stopped: BTreeSet<String>,
    /// Launches have started them, and struck what they owed.
    launched: BTreeSet<String>,
    /// But these did not come up on these models when this program last started them.
    failed: BTreeMap<String, String>,
}

impl Excused {
    /// Another decision: that a session did not come up on what its entry says is from then on a restart that is owed.
    fn decide(&mut self, wanted: &Wanted, entries: &BTreeMap<String, Option<String>>) {
        let failed = std::mem::take(&mut self.failed).into_iter();
        let (same, changed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            failed.partition(|(chat, model)| wanted[chat.as_str()] == *model);
        self.failed = same;
        for (chat, _) in changed.iter().filter(|(chat, model)| entries[*chat].as_ref() == Some(model)) {
            self.stopped.remove(chat);
            self.launched.remove(chat);
        }
    }

    /// What a run has tried. Of one that it puts back only what is owed is remembered, which a launch strikes.
    fn follow(&mut self, wanted: &Wanted, tried: &[(&str, &str, Behaviour)]) {
        for (chat, model, behaviour) in tried {
            self.stopped.remove(*chat);
            self.failed.remove(*chat);
            if !behaviour.comes_up() && wanted[*chat] == *model {
                self.failed.insert((*chat).to_owned(), (*model).to_owned());
            }
        }
    }
}

/// A session that is down has a row in the next plan.
fn nothing_failed_is_in_sync(
    world: &World,
    policy: &Policy,
    hour: i64,
    excused: &Excused,
) -> Result<(), TestCaseError> {
    let plan = world.plan(policy, hour);
    let state = world.state();
    let failed = |chat: &String| excused.failed.get(chat).map(String::as_str) == state.entries[chat].as_deref();
    let is_ours =
        |chat: &&String| failed(chat) || !(excused.launched.contains(*chat) || excused.stopped.contains(*chat));
    for chat in state.down.iter().filter(is_ours) {
        prop_assert!(verdict(&plan, chat).is_some(), "{chat} is down and in sync: {:?}", at(hour));
    }
    Ok(())
}

#[test]
fn rollouts_stop_and_revert_and_forget_nothing() {
    const WORLDS: u32 = 12_000;
    let config = Config { cases: WORLDS, max_shrink_iters: 2_000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&stories(), |story| check(&story)).unwrap();
    let starts = STARTS.lock().unwrap();
    println!("{WORLDS} worlds, starts: {starts:?}");
    assert_eq!(starts.len(), BEHAVIOURS.len(), "each behaviour was met: {starts:?}");
}
