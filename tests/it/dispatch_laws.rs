//! The laws of rollouts where a daemon owns the sessions: over worlds in which it cannot start some models, starts sessions
//! that die, vanish, hang or come up late, loses replies and refuses restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use reconcile::apply::{Backend, RunContext, apply, plan};
use reconcile::backend::file::RegistryFile;
use reconcile::backend::{Home, Place, Probe, open};
use reconcile::plan::json::Origin;
use reconcile::plan::select::Selector;
use reconcile::plan::{Plan, Verdict};
use reconcile::policy::{Policy, Source, read};
use serde_json::Value;

use crate::handle::Double;
use crate::support::{Sandbox, registry};
use crate::world::{Unwatched, at, input};

/// Each world is a process of its own, with a socket and files, so a usual test has fewer than a few thousand of them.
const WORLDS: u32 = 240;
/// So many worlds, if this variable says so.
const MORE: &str = "RECONCILE_DISPATCH_WORLDS";
/// Most of the time goes by while a session is waited for.
const THREADS: u32 = 8;

const MODELS: [&str; 3] = ["opus", "sonnet", "haiku"];
const CHATS: [&str; 4] = ["ada", "ben", "cal", "dan"];

/// What a start on a model comes to, as the double is told it.
const BEHAVIOURS: [&str; 6] = ["well", "fails", "vanishes", "dies", "unhealthy", "late"];

fn comes_up(behaviour: &str) -> bool {
    matches!(behaviour, "well" | "late")
}

/// What else happens in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Nothing,
    /// The reply to the first request for a model is lost, and it is done.
    LostReply,
    /// The first request for a model is lost.
    LostRequest,
    /// Once the first request is done, the breaker refuses this chat's restarts.
    Breaker(usize),
    /// As soon as the first request is done, the daemon dies. It is started again after the run.
    Crash,
}

#[derive(Clone, Debug)]
struct Step {
    /// What the policy wants of some chats; the others are to run on haiku.
    overrides: Vec<(usize, usize)>,
    hours: i64,
    event: Event,
}

#[derive(Clone, Debug)]
struct Story {
    registered: Vec<&'static str>,
    /// What sessions do on each model, and on some of them alone.
    models: Vec<&'static str>,
    exceptions: Vec<(usize, usize, &'static str)>,
    steps: Vec<Step>,
    max_failures: usize,
}

fn stories() -> impl Strategy<Value = Story> {
    // Those that are waited for take time.
    let behaviour = || {
        prop_oneof![6 => Just("well"), 6 => Just("fails"), 2 => Just("vanishes"), 2 => Just("dies"),
                                    1 => Just("unhealthy"), 2 => Just("late")]
    };
    let event = prop_oneof![8 => Just(Event::Nothing), 1 => Just(Event::LostReply), 1 => Just(Event::LostRequest),
                            1 => (0..CHATS.len()).prop_map(Event::Breaker), 1 => Just(Event::Crash)];
    let overrides = proptest::collection::vec((0..CHATS.len(), 0..MODELS.len()), 0..4);
    let step = (overrides, 0..8_i64, event).prop_map(|(overrides, hours, event)| Step { overrides, hours, event });
    (
        proptest::collection::vec(select(&MODELS[..]), CHATS.len()),
        proptest::collection::vec(behaviour(), MODELS.len()),
        proptest::collection::vec((0..CHATS.len(), 0..MODELS.len(), behaviour()), 0..3),
        proptest::collection::vec(step, 1..5),
        1..3_usize,
    )
        .prop_map(|(registered, models, exceptions, steps, max_failures)| Story {
            registered,
            models,
            exceptions,
            steps,
            max_failures,
        })
}

/// The model that each chat should run on.
type Wanted = BTreeMap<&'static str, &'static str>;

fn wanted(step: &Step) -> Wanted {
    let mut wanted: Wanted = CHATS.into_iter().map(|chat| (chat, "haiku")).collect();
    wanted.extend(step.overrides.iter().map(|(chat, model)| (CHATS[*chat], MODELS[*model])));
    wanted
}

/// A registry, the daemon that owns it, and what starts come to there.
struct World {
    sandbox: Sandbox,
    daemon: Double,
    behaviours: BTreeMap<(&'static str, &'static str), &'static str>,
    /// Requests that were looked at.
    seen: usize,
}

impl World {
    fn of(story: &Story) -> Self {
        let entries: Vec<_> =
            CHATS.iter().zip(&story.registered).map(|(chat, model)| (*chat, "family", *model)).collect();
        let sandbox = Sandbox::new("", &registry(&entries));
        let mut behaviours = BTreeMap::new();
        for chat in CHATS {
            behaviours.extend(MODELS.iter().zip(&story.models).map(|(model, how)| ((chat, *model), *how)));
        }
        behaviours.extend(story.exceptions.iter().map(|(chat, model, how)| ((CHATS[*chat], MODELS[*model]), *how)));
        // What they run at first works, or no run could take them down.
        behaviours.extend(CHATS.iter().zip(&story.registered).map(|(chat, model)| ((*chat, *model), "well")));
        let daemon = Self::start(&sandbox, &CHATS, &behaviours);
        Self { sandbox, daemon, behaviours, seen: 0 }
    }

    fn start(
        sandbox: &Sandbox,
        live: &[&str],
        behaviours: &BTreeMap<(&'static str, &'static str), &'static str>,
    ) -> Double {
        let daemon = Double::start(&sandbox.path(""), &["--pause-sessions"]);
        for ((chat, model), how) in behaviours {
            daemon.tell(&format!("starts {how} {model} {chat}"));
        }
        for chat in live {
            // One that does not start is down from then on.
            let _ = daemon.try_to_tell(&format!("live {chat}"));
        }
        daemon
    }

    /// Everything reaches the file, every session answers once, and the breaker forgets.
    fn settle(&self) {
        self.daemon.tell("forget");
        for chat in CHATS.into_iter().filter(|chat| self.is_up(chat)) {
            self.daemon.tell(&format!("turn-ends {chat}"));
        }
        self.daemon.tell("advance 1300");
        self.daemon.tell("check-health");
    }

    fn is_up(&self, chat: &str) -> bool {
        let row = self.daemon.status(chat);
        row["is_alive"] == true && row["is_healthy"] == true
    }

    fn up(&self) -> BTreeSet<&'static str> {
        CHATS.into_iter().filter(|chat| self.is_up(chat)).collect()
    }

    fn runs(&self, chat: &str) -> Option<String> {
        self.daemon.truth(chat)["model"].as_str().map(str::to_owned)
    }

    /// The models that were asked for since the last call, in their order.
    fn asked(&mut self) -> Vec<(String, String)> {
        let requests = self.daemon.requests();
        let new = requests.iter().skip(self.seen).filter(|request| request["cmd"] == "set_model");
        let asked = new.map(|request| (text(&request["chat_id"]), text(&request["model"]))).collect();
        self.seen = requests.len();
        asked
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn policy(story: &Story, wanted: &Wanted) -> Policy {
    let mut policy = format!(
        "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"haiku\"\n\
         [rollout]\nmin_healthy = \"0s\"\nmax_failures = {}\n\
         [sessions]\nbackend = \"dispatch\"\nsocket = \"daemon.sock\"\ntimeout = \"1s\"\ndrain = \"1ms\"\n[chats]\n",
        story.max_failures
    );
    policy.extend(wanted.iter().map(|(chat, model)| format!("{chat} = {model:?}\n")));
    read(&[Source::new("policy.toml", policy)]).unwrap().0
}

fn backend(world: &World, policy: &Policy) -> Box<dyn Backend> {
    let registry = RegistryFile::open(&world.sandbox.path("sessions.json")).unwrap();
    let (directory, socket) = (world.sandbox.path(""), Some(world.sandbox.path("daemon.sock")));
    open(policy, Place { home: Home::File(registry), directory, socket, probe: Probe::Nothing }).unwrap()
}

fn run(world: &World, policy: &Policy, hour: i64) -> Plan {
    let backend = backend(world, policy);
    let (now, selector) = (at(hour), Selector::default());
    let locked = backend.lock(Duration::from_secs(1), &|| false).unwrap();
    let input = input(backend.as_ref(), policy, &now, &selector, usize::MAX);
    let (backend, locked) = (backend.as_ref(), locked.as_ref());
    let context = RunContext { backend, locked, watch: &Unwatched, author: &Origin::default };
    apply(&input, context).unwrap().planned.plan
}

fn plan_of(world: &World, policy: &Policy, hour: i64) -> Plan {
    let backend = backend(world, policy);
    let (now, selector) = (at(hour), Selector::default());
    plan(&input(backend.as_ref(), policy, &now, &selector, usize::MAX), backend.as_ref()).unwrap().plan
}

fn verdict(plan: &Plan, chat: &str) -> Option<Verdict> {
    plan.rows.iter().find(|row| row.chat.id == chat).map(|row| row.outcome.verdict)
}

/// What was met.
static MET: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

fn met(what: impl Into<String>) {
    *MET.lock().unwrap().entry(what.into()).or_default() += 1;
}

/// What is remembered of models that failed: the chats on which each did, and whether it has come up nowhere since.
#[derive(Default)]
struct Failures {
    victims: BTreeMap<String, BTreeSet<String>>,
    models: BTreeSet<String>,
}

fn check(story: &Story) -> Result<(), TestCaseError> {
    let mut world = World::of(story);
    let mut failures = Failures::default();
    let mut dead = BTreeSet::new();
    let mut earlier = Wanted::new();
    // Sessions that are alive and not healthy, and were to run something else meanwhile: what failed is forgotten then.
    let mut forgotten = BTreeSet::new();
    let mut hour = 0;
    for step in &story.steps {
        let wanted = wanted(step);
        let policy = policy(story, &wanted);
        hour += step.hours;
        world.settle();
        let up = world.up();
        forgotten.retain(|chat| !up.contains(chat));
        let is_changed =
            |chat: &&str| !up.contains(chat) && earlier.get(chat).is_some_and(|model| wanted[chat] != *model);
        forgotten.extend(CHATS.into_iter().filter(is_changed));
        earlier.clone_from(&wanted);
        let ran: BTreeMap<&str, Option<String>> = CHATS.iter().map(|chat| (*chat, world.runs(chat))).collect();
        match step.event {
            Event::Nothing => {}
            Event::LostReply => drop(world.daemon.tell("close-without-reply set_model")),
            Event::LostRequest => drop(world.daemon.tell("ignore-next set_model")),
            Event::Breaker(chat) => drop(world.daemon.tell(&format!("after 1 set_model trip-breaker {}", CHATS[chat]))),
            Event::Crash => drop(world.daemon.tell("after 1 set_model die")),
        }
        let plan = run(&world, &policy, hour);
        if world.daemon.has_ended() {
            met("crash");
            // What was live is started again, on what the file says.
            world.daemon = World::start(&world.sandbox, &CHATS, &world.behaviours);
            world.seen = 0;
            // Which requests reached it before is not known any more.
            failures = Failures::default();
            for chat in CHATS {
                prop_assert!(!matches!(verdict(&plan, chat), Some(Verdict::Done)), "{chat} is not known: {plan:#?}");
            }
            continue;
        }
        let asked = world.asked();
        let tried: Vec<(&str, &str, &str)> = asked
            .iter()
            .enumerate()
            .filter(|(_, (chat, _))| !matches!(step.event, Event::Breaker(refused) if CHATS[refused] == chat))
            .map(|(number, (chat, model))| {
                let (chat, model) = (named(&CHATS, chat), named(&MODELS, model));
                // What becomes of it is not known: it may have failed.
                let is_lost = number == 0 && step.event == Event::LostRequest;
                (chat, model, if is_lost { "is lost" } else { world.behaviours[&(chat, model)] })
            })
            .collect();
        for (_, _, how) in &tried {
            met(format!("starts {how}"));
        }
        // The daemon forgets the conversation of a session that died before its first turn. One that the breaker refused may
        // have been started before.
        let dies = |chat, model| world.behaviours[&(named(&CHATS, chat), named(&MODELS, model))] == "dies";
        dead.extend(asked.iter().filter(|(chat, model)| dies(chat, model)).map(|(chat, _)| named(&CHATS, chat)));
        takes_few_down(story, &wanted, &tried, &up)?;
        if matches!(step.event, Event::Breaker(_)) {
            // Which of its requests the breaker refused is not told.
            failures = Failures::default();
        } else {
            tries_a_failed_model_on_one_chat(&wanted, &tried, &up, &ran, &mut failures)?;
        }
        for chat in &up {
            let told = matches!(verdict(&plan, chat), Some(Verdict::Failed | Verdict::Unknown));
            let is_up = world.is_up(chat);
            prop_assert!(is_up || told, "{chat} was up, is down, and its row says {plan:#?}");
            let was_refused = matches!(step.event, Event::Breaker(refused) if CHATS[refused] == *chat);
            // A session that is alive and not healthy would lose its conversation.
            let is_alive = world.daemon.status(chat)["is_alive"] == true;
            let before = ran[chat].as_deref().unwrap_or_default();
            let can_be_put_back = comes_up(world.behaviours[&(*chat, named(&MODELS, before))]);
            prop_assert!(
                is_up || was_refused || is_alive || !can_be_put_back,
                "{chat} ran {before} and is down: {plan:#?}"
            );
            let is_lost = world.daemon.truth(chat)["conversation_lost"] == true;
            prop_assert!(!is_lost || dead.contains(chat), "{chat} has lost its conversation: {tried:?}");
        }
        nothing_failed_is_in_sync(&world, &policy, hour, &wanted, &forgotten)?;
    }
    Ok(())
}

fn named(names: &[&'static str], name: &str) -> &'static str {
    names.iter().find(|known| **known == name).copied().unwrap()
}

/// No run takes down more than `max_failures` sessions: they are restarted one at a time.
fn takes_few_down(
    story: &Story,
    wanted: &Wanted,
    tried: &[(&str, &str, &str)],
    up: &BTreeSet<&str>,
) -> Result<(), TestCaseError> {
    let taken =
        tried.iter().filter(|(chat, model, how)| !comes_up(how) && up.contains(chat) && wanted[*chat] == *model);
    let taken = taken.filter(|(_, _, how)| *how != "is lost");
    prop_assert!(taken.count() <= story.max_failures, "{tried:?}");
    Ok(())
}

/// A model that failed is tried on no second chat before it has come up on the first, or on one that was down, or the first is to run
/// another model.
fn tries_a_failed_model_on_one_chat(
    wanted: &Wanted,
    tried: &[(&str, &str, &str)],
    up: &BTreeSet<&str>,
    ran: &BTreeMap<&str, Option<String>>,
    failures: &mut Failures,
) -> Result<(), TestCaseError> {
    let wants = |chat: &str, model: &str| wanted[chat] == model;
    for (model, victims) in &mut failures.victims {
        victims.retain(|chat| wants(chat, model));
    }
    failures.models.retain(|model| failures.victims.get(model).is_some_and(|victims| !victims.is_empty()));
    for model in MODELS {
        let on_it: Vec<(&str, &str)> = tried
            .iter()
            .filter(|(chat, on, _)| *on == model && wants(chat, on) && up.contains(chat))
            .map(|(chat, _, how)| (*chat, *how))
            .collect();
        let worked = tried.iter().any(|(chat, on, how)| *on == model && wants(chat, on) && comes_up(how))
            || tried.iter().find(|(_, on, _)| *on == model).is_some_and(|(_, _, how)| comes_up(how));
        let is_run = up.iter().any(|chat| ran[chat].as_deref() == Some(model));
        let victims = failures.victims.entry(model.to_owned()).or_default();
        if failures.models.contains(model) {
            let is_first = on_it.iter().take(1).all(|(chat, _)| victims.contains(*chat));
            prop_assert!(is_first || worked, "{model} has failed on {victims:?}: {tried:?}");
            prop_assert!(on_it.len() <= 1 || worked, "{model} was tried on several: {tried:?}");
        } else {
            prop_assert!(on_it.len() <= 1 || worked || is_run, "{model} was tried on several: {tried:?}");
        }
        victims.retain(|chat| !on_it.iter().any(|(on, how)| on == chat && comes_up(how)));
        victims.extend(on_it.iter().filter(|(_, how)| !comes_up(how)).map(|(chat, _)| (*chat).to_owned()));
        if worked {
            failures.models.remove(model);
        } else if !victims.is_empty() && !on_it.is_empty() {
            failures.models.insert(model.to_owned());
        }
    }
    Ok(())
}

/// A chat without a row in the next plan runs what it should, and works.
fn nothing_failed_is_in_sync(
    world: &World,
    policy: &Policy,
    hour: i64,
    wanted: &Wanted,
    forgotten: &BTreeSet<&str>,
) -> Result<(), TestCaseError> {
    world.daemon.tell("flush");
    let plan = plan_of(world, policy, hour);
    for chat in CHATS.into_iter().filter(|chat| verdict(&plan, chat).is_none()) {
        let is_alive = world.daemon.status(chat)["is_alive"] == true;
        let is_fine = world.is_up(chat) || (is_alive && forgotten.contains(chat));
        prop_assert!(is_fine, "{chat} is down and in sync");
        prop_assert_eq!(world.runs(chat).unwrap(), wanted[chat], "{} is in sync", chat);
    }
    Ok(())
}

/// Haiku fails on ada, comes up on ben, whose session is down since the daemon died, and fails on cal.
#[test]
fn a_model_that_came_up_on_a_session_that_was_down_has_not_failed() {
    let step = |overrides: &[(usize, usize)], hours, event| Step { overrides: overrides.to_vec(), hours, event };
    let steps = vec![step(&[(1, 1)], 0, Event::Crash), step(&[], 0, Event::Nothing), step(&[], 1, Event::Nothing)];
    let registered = vec!["opus", "haiku", "opus", "haiku"];
    let models = vec!["well", "fails", "fails"];
    check(&Story { registered, models, exceptions: Vec::new(), steps, max_failures: 2 }).unwrap();
}

#[test]
fn the_laws_of_rollouts_hold_where_a_daemon_owns_the_sessions() {
    let worlds = std::env::var(MORE).map_or(WORLDS, |worlds| worlds.parse().unwrap());
    let config =
        Config { cases: worlds / THREADS, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| TestRunner::new(config.clone()).run(&stories(), |story| check(&story)).unwrap());
        }
    });
    let met = MET.lock().unwrap();
    println!("{worlds} worlds: {met:?}");
    for how in BEHAVIOURS {
        assert!(met.contains_key(&format!("starts {how}")), "{how} was met: {met:?}");
    }
    assert!(met.contains_key("crash"), "{met:?}");
}
