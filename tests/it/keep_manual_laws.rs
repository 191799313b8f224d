//! Laws of `existing = "keep-manual"`: what was set by hand stays, and without that every plan is the one of `replace`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use proptest::prelude::*;
use reconcile::apply::Applied;
use reconcile::error::Result;
use reconcile::plan::select::{Selector, TakeOver};
use reconcile::policy::{Policy, Source, read};

use crate::world::{Behaviour, FAULTS, Fault, MANNERS, Manner, Unwatched, World, at, run};

const MODELS: [&str; 3] = ["opus", "sonnet", "haiku"];
const CHATS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What happens between two looks at the world.
#[derive(Clone, Debug)]
enum Event {
    /// The policy gives each chat another model.
    Policy([usize; CHATS.len()]),
    /// A person sets a model.
    ByHand(usize, usize),
    /// The assistant registers a chat, on its default.
    New(usize),
    Run,
    /// A session does not come up on a model any more.
    Breaks(usize, usize, Behaviour),
    /// A run at whose operation something happens.
    FaultyRun(usize, Fault),
}

fn breaks() -> impl Strategy<Value = Behaviour> {
    proptest::sample::select(&[Behaviour::Fails, Behaviour::Dies, Behaviour::Hangs][..])
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let model = || 0..MODELS.len();
    let event = prop_oneof![
        2 => [model(), model(), model(), model(), model()].prop_map(Event::Policy),
        3 => (0..CHATS.len(), model()).prop_map(|(chat, model)| Event::ByHand(chat, model)),
        1 => (0..CHATS.len()).prop_map(Event::New),
        3 => Just(Event::Run),
        1 => (0..CHATS.len(), model(), breaks()).prop_map(|(chat, model, how)| Event::Breaks(chat, model, how)),
        2 => (0..30_usize, proptest::sample::select(&FAULTS[..])).prop_map(|(at, fault)| Event::FaultyRun(at, fault)),
    ];
    proptest::collection::vec(event, 1..25)
}

fn policy(models: &[usize], existing: &str) -> Policy {
    let mut text = format!(
        "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"haiku\"\n\
         [registry]\nexisting = \"{existing}\"\n[sessions]\nrestart = [\"true\"]\nparallel = 1\n"
    );
    for (chat, model) in CHATS.iter().zip(models) {
        writeln!(text, "[[rules]]\nchat = \"{chat}\"\nmodel = \"{}\"", MODELS[*model]).unwrap();
    }
    text += "[[rules]]\nchat = \"foreign-*\"\nmodel = \"sonnet\"\n";
    read(&[Source::new("policy.toml", text)]).unwrap().0
}

/// A world, and what is known of it without looking into the program's memory.
struct Trial {
    world: World,
    models: [usize; CHATS.len()],
    hour: i64,
    /// What a person has chosen, and no decision has agreed with since.
    chosen: BTreeMap<&'static str, &'static str>,
    /// What each chat was given, or agreed with a decision on.
    given: BTreeMap<String, Option<String>>,
    /// Whether the last run came to its end: only then is it certain that it has read back what it wrote.
    is_settled: bool,
    /// Chats whose choice a decision has agreed with in a run that may not have come to see it.
    unsure: BTreeSet<&'static str>,
    /// Chats that no run has given a model yet: what they have may be the default of the assistant.
    fresh: BTreeSet<&'static str>,
}

impl Trial {
    /// All chats are under the policy.
    fn new(manner: Manner) -> Self {
        let entries: Vec<String> =
            CHATS[..3].iter().map(|chat| format!("\"{chat}\": {{\"model\": \"opus\"}}")).collect();
        let world = World::of(manner, &format!("{{{}}}", entries.join(", ")));
        let (chosen, given) = (BTreeMap::new(), world.state().entries.clone());
        let (unsure, fresh) = (BTreeSet::new(), BTreeSet::new());
        let trial = Self { world, models: [0; CHATS.len()], hour: 0, chosen, given, is_settled: true, unsure, fresh };
        let selector = Selector { take_over: TakeOver::All, ..Selector::default() };
        run(&trial.world, &trial.policy(), &at(0), &selector, usize::MAX, &Unwatched).unwrap();
        trial
    }

    fn policy(&self) -> Policy {
        policy(&self.models, "keep-manual")
    }

    fn run(&mut self, fault: Option<(usize, Fault)>) -> Result<Applied> {
        self.hour += 10;
        let policy = self.policy();
        self.world.run(&policy, self.hour, fault)
    }

    fn registry(&self) -> BTreeMap<String, Option<String>> {
        self.world.state().entries.clone()
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Policy(models) => self.models = models,
            Event::ByHand(chat, model) => {
                let (chat, model) = (CHATS[chat], MODELS[model]);
                let was = self.registry().get(chat).cloned();
                // What was written and not read back yet may look as before, or as written: neither is taken for a choice.
                let is_unread = self.world.state().ledger.wrote.get(chat).is_some_and(|wrote| !wrote.read_back);
                let is_uncertain = is_unread || self.unsure.contains(chat) || self.fresh.contains(chat);
                if !self.is_settled || is_uncertain || was.flatten().is_none() {
                    return;
                }
                self.world.state().set(chat, Some(model));
                // Back to what the chat was given is a choice no longer.
                if self.given.get(chat).is_some_and(|given| given.as_deref() == Some(model)) {
                    self.chosen.remove(chat);
                } else {
                    self.chosen.insert(chat, model);
                }
            }
            Event::New(chat) => {
                if !self.registry().contains_key(CHATS[chat]) {
                    self.world.state().set(CHATS[chat], Some("opus"));
                    self.fresh.insert(CHATS[chat]);
                }
            }
            Event::Breaks(chat, model, how) => {
                let key = (CHATS[chat].to_owned(), MODELS[model].to_owned());
                self.world.state().behaviours.insert(key, how);
            }
            Event::Run => {
                let applied = self.run(None).unwrap();
                self.is_settled = applied.error.is_none() && !applied.interrupted;
            }
            Event::FaultyRun(at, fault) => {
                let _ = self.run(Some((at, fault)));
                self.is_settled = false;
            }
        }
    }

    /// What was chosen is chosen no longer where the policy agrees: from then on it follows the policy.
    fn agree(&mut self) {
        let wanted: BTreeMap<&str, &str> = CHATS.into_iter().zip(self.models.map(|model| MODELS[model])).collect();
        let registry = self.registry();
        let follows = |chat: &str| registry[chat].as_deref() == Some(wanted[chat]);
        if self.is_settled {
            self.unsure.retain(|chat| !follows(chat));
            self.fresh.retain(|chat| !follows(chat));
        } else {
            self.unsure
                .extend(self.chosen.iter().filter(|(chat, model)| wanted[*chat] == **model).map(|(chat, _)| *chat));
        }
        self.chosen.retain(|chat, model| wanted[chat] != *model);
        let is_given = |(chat, _): &(String, _)| !self.chosen.contains_key(chat.as_str());
        self.given.extend(registry.into_iter().filter(is_given));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_was_set_by_hand_is_never_changed_without_consent(
        manner in proptest::sample::select(&MANNERS[..]),
        events in events(),
    ) {
        let mut trial = Trial::new(manner);
        for event in &events {
            trial.happens(event);
            let registry = trial.registry();
            for (chat, model) in &trial.chosen {
                prop_assert_eq!(registry[*chat].as_deref(), Some(*model), "{} after {:?}", chat, event);
            }
            if matches!(event, Event::Run | Event::FaultyRun(..)) {
                trial.agree();
            }
        }
    }

    #[test]
    fn without_a_choice_by_hand_every_plan_is_the_one_of_replace(
        manner in proptest::sample::select(&MANNERS[..]),
        events in events(),
    ) {
        let mut trial = Trial::new(manner);
        for event in events.iter().filter(|event| !matches!(event, Event::ByHand(..))) {
            trial.happens(event);
            let kept = trial.world.plan(&trial.policy(), trial.hour);
            let replaced = trial.world.plan(&policy(&trial.models, "replace"), trial.hour);
            prop_assert_eq!(kept.id, replaced.id);
            prop_assert_eq!(kept.rows.len(), replaced.rows.len());
        }
    }
}
