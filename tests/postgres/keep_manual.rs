//! `existing = "keep-manual"` on a table: what runs remember of each chat is in the database, and means what it does with a file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use crate::database::{COLUMNS, Database};
use crate::lost::{Counted, Cut, proxy};
use crate::support::{Run, Sandbox};

const MODELS: [&str; 3] = ["opus", "sonnet", "haiku"];
const TIERS: [&str; 3] = ["admin", "family", "bots"];
const CHATS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What a policy says of tiers, what it does with existing models, and what it restarts sessions with.
#[derive(Clone, Copy)]
struct Says {
    tiers: [usize; 3],
    existing: &'static str,
}

const FIRST: Says = Says { tiers: [0, 1, 2], existing: "keep-manual" };

/// The same sessions in a table and in a file, each with a policy whose lines have the same numbers.
struct Twins {
    database: Database,
    file: Sandbox,
}

impl Twins {
    fn new(sessions: &[(&str, &str, &str)]) -> Self {
        let twins = Self { database: Database::with_sessions(&[]), file: Sandbox::new("", "{}") };
        twins.database.make_schema();
        for (chat, tier, model) in sessions {
            twins.insert(chat, tier, model);
        }
        for sandbox in [&twins.file, &twins.database.sandbox] {
            sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID $RECONCILE_MODEL\" >> calls; test ! -e broken");
        }
        twins.says(FIRST);
        twins
    }

    fn says(&self, says: Says) {
        let mut text = "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"haiku\"\n\
                        [sessions]\nrestart = [\"./restart\"]\nparallel = 1\n[limits]\nmax_changes = 100\n[tiers]\n"
            .to_owned();
        for (tier, model) in TIERS.iter().zip(says.tiers) {
            writeln!(text, "{tier} = {:?}", MODELS[model]).unwrap();
        }
        let of_table = self.database.registry(COLUMNS);
        let existing = format!("[registry]\nexisting = {:?}\n", says.existing);
        let of_table = of_table.replace("[registry]\n", &existing);
        let blank = "\n".repeat(of_table.lines().count() - 3);
        self.database.sandbox.write("policy.toml", format!("{text}{of_table}"));
        self.file.write("policy.toml", format!("{text}{existing}path = \"sessions.json\"\n{blank}"));
    }

    fn insert(&self, chat: &str, tier: &str, model: &str) {
        self.database.execute(&format!(
            "INSERT INTO sessions VALUES ('{chat}', '{model}', '{tier}', 'imessage', 'individual', 'imessage/{chat}')"
        ));
        self.edit_file(|chats| {
            let entry = json!({ "model": model, "tier": tier, "source": "imessage", "type": "individual",
                                "session_name": format!("imessage/{chat}") });
            chats.insert(chat.to_owned(), entry);
        });
    }

    fn remove(&self, chat: &str) {
        self.database.execute(&format!("DELETE FROM sessions WHERE id = '{chat}'"));
        self.edit_file(|chats| _ = chats.remove(chat));
    }

    /// A person, or another program, writes a field.
    fn set(&self, chat: &str, field: &str, value: &str) {
        self.database.execute(&format!("UPDATE sessions SET {field} = '{value}' WHERE id = '{chat}'"));
        self.edit_file(|chats| {
            if let Some(entry) = chats.get_mut(chat) {
                entry[field] = value.into();
            }
        });
    }

    fn edit_file(&self, edit: impl FnOnce(&mut Map<String, Value>)) {
        let mut chats: Map<String, Value> = serde_json::from_str(&self.file.read("sessions.json")).unwrap();
        edit(&mut chats);
        self.file.write("sessions.json", Value::Object(chats).to_string());
    }

    /// The models in the table, which are those in the file.
    fn models(&self) -> BTreeMap<String, String> {
        let rows = self.database.texts("SELECT id || ' ' || model FROM sessions ORDER BY id");
        let models = rows.iter().map(|row| row.split_once(' ').unwrap());
        let models: BTreeMap<String, String> = models.map(|(chat, model)| (chat.into(), model.into())).collect();
        let chats: Map<String, Value> = serde_json::from_str(&self.file.read("sessions.json")).unwrap();
        let of_file: BTreeMap<String, String> =
            chats.iter().map(|(chat, entry)| (chat.clone(), entry["model"].as_str().unwrap().to_owned())).collect();
        assert_eq!(models, of_file);
        models
    }

    /// A command on both, which must answer the same. Returns the answer on the table.
    fn run(&self, arguments: &[&str]) -> Run {
        let (of_table, of_file) = (self.database.run(arguments), self.file.run(arguments));
        assert_eq!(of_table.code, of_file.code, "{of_table:?} {of_file:?}");
        // A report for people names the registry.
        if arguments.contains(&"json") {
            assert_eq!(of_table.stdout, of_file.stdout, "{of_table:?} {of_file:?}");
        }
        of_table
    }

    /// The rows of a dry run, which must be the same on both.
    fn dry_run(&self) -> Vec<Value> {
        let run = self.run(&["--dry-run", "--format", "json"]);
        let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
        let rows = report["changes"].as_array().unwrap().iter();
        rows.map(|row| json!([row["chat_id"], row["before"], row["after"], row["outcome"], row["detail"]])).collect()
    }
}

fn kept(chat: &str, model: &str) -> Value {
    json!([chat, model, null, "unmanaged", "set by hand: kept"])
}

/// Ada and Ben of the family, Cal of the admins, as the policy wants them, and a run has looked at them.
fn known() -> Twins {
    let twins = Twins::new(&[("ada", "family", "sonnet"), ("ben", "family", "sonnet"), ("cal", "admin", "opus")]);
    twins.run(&[]).expect(0);
    twins
}

#[test]
fn what_was_set_by_hand_stays_and_what_follows_the_policy_goes_on_to() {
    let twins = known();
    twins.set("ada", "model", "haiku");
    assert_eq!(twins.dry_run(), [kept("ada", "haiku")]);
    twins.says(Says { tiers: [0, 0, 2], ..FIRST });
    assert_eq!(twins.dry_run(), [kept("ada", "haiku"), json!(["ben", "sonnet", "opus", "planned", null])]);
    twins.run(&[]).expect(0);
    assert_eq!(twins.models()["ada"], "haiku");
    assert_eq!(twins.models()["ben"], "opus");
    assert_eq!(twins.database.texts("SELECT count(*) FROM reconcile.memory WHERE kind = 'wrote'"), ["0"]);
    assert!(twins.run(&["list"]).expect(0).stdout.contains("1 set by hand"));
    assert!(twins.run(&["explain", "ada"]).expect(0).stdout.contains("set by hand: kept"));
}

#[test]
fn the_first_run_keeps_what_differs_and_counts_it_in_one_line() {
    let twins = Twins::new(&[("ada", "family", "haiku"), ("ben", "family", "opus"), ("cal", "admin", "opus")]);
    let first = twins.run(&["--format", "json"]).expect(0);
    assert!(first.stderr.contains("note: 2 chats keep their models as if set by hand"), "{first:?}");
    assert_eq!(twins.dry_run(), [kept("ada", "haiku"), kept("ben", "opus")]);
    let second = twins.run(&[]).expect(0);
    assert!(!second.stderr.contains("as if set by hand"), "{second:?}");
    twins.run(&["--take-over", "ada"]).expect(0);
    assert_eq!(twins.models()["ada"], "sonnet");
    twins.run(&["--take-over-all", "--allow-changes", "0"]).expect(3);
    twins.run(&["--take-over-all"]).expect(0);
    assert_eq!(twins.models()["ben"], "sonnet");
}

#[test]
fn a_chat_is_put_back_under_the_policy_by_set_model_and_unset_model_and_by_an_undo() {
    let twins = known();
    twins.set("ada", "model", "haiku");
    twins.run(&["set-model", "ada", "opus"]).expect(0);
    assert_eq!(twins.models()["ada"], "opus");
    twins.run(&["unset-model", "ada"]).expect(0);
    assert_eq!(twins.models()["ada"], "sonnet");
    twins.set("ada", "model", "haiku");
    twins.run(&["--take-over", "ada"]).expect(0);
    let newest = twins.database.texts("SELECT max(name) FROM reconcile.run").concat();
    twins.database.run(&["undo", &newest]).expect(0);
    assert_eq!(twins.database.texts("SELECT model FROM sessions WHERE id = 'ada'"), ["haiku"]);
    // An override says so: it is a choice of the policy now.
    let report = twins.database.plan();
    assert_eq!(report["summary"]["unmanaged"], 0, "{report}");
}

#[test]
fn a_redacted_snapshot_says_what_was_set_by_hand() {
    let twins = known();
    twins.set("ada", "model", "haiku");
    twins.says(Says { tiers: [0, 0, 2], ..FIRST });
    // Any registry's key will do.
    twins.file.run(&["snapshot", "--redact"]).expect(0);
    let key = twins.file.path("sessions.json.reconcile/redact.key");
    let key = key.to_str().unwrap();
    let run = |arguments: &[&str]| twins.database.run(&[arguments, &["--redact-key", key]].concat()).expect(0).stdout;
    twins.database.sandbox.write("snapshot.json", run(&["snapshot", "--redact"]));
    let plan = |arguments| serde_json::from_str::<Value>(&run(arguments)).unwrap();
    let elsewhere = plan(&["--dry-run", "--format", "json", "--registry", "snapshot.json"]);
    let here = plan(&["--dry-run", "--format", "json", "--redact"]);
    assert_eq!((&elsewhere["plan_id"], &elsewhere["summary"]), (&here["plan_id"], &here["summary"]));
    assert_eq!(here["summary"]["unmanaged"], 1);
}

#[test]
fn what_is_remembered_ends_where_models_are_replaced() {
    let twins = known();
    twins.says(Says { tiers: [0, 0, 2], existing: "replace" });
    twins.run(&[]).expect(0);
    assert_eq!(twins.database.texts("SELECT chat_id FROM reconcile.chat"), [] as [&str; 0]);
    twins.says(FIRST);
    // Nothing tells what the run before has replaced from what was set by hand.
    assert_eq!(twins.dry_run(), [kept("ada", "opus"), kept("ben", "opus")]);
}

#[test]
fn a_dry_run_remembers_nothing_and_a_role_that_may_only_read_the_table_keeps_what_differs() {
    let twins = Twins::new(&[("ada", "family", "opus")]);
    assert_eq!(twins.dry_run(), [kept("ada", "opus")]);
    assert_eq!(twins.database.texts("SELECT chat_id FROM reconcile.chat"), [] as [&str; 0]);
    twins.run(&["--take-over-all"]).expect(0);
    let role = format!("keeper_{}", twins.database.name);
    twins.database.execute(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON sessions TO {role}"));
    twins.says(Says { tiers: [2, 2, 2], ..FIRST });
    let address = twins.database.address().replace("user=postgres", &format!("user={role}"));
    let run = twins.database.run(&["--dry-run", "--connect", &address]).expect(0);
    assert!(run.stderr.contains("this role may not read the schema `reconcile`"), "{run:?}");
    assert!(run.stdout.contains("set by hand: kept"), "{run:?}");
}

#[test]
fn whichever_commit_is_lost_models_and_memory_agree_and_nothing_looks_set_by_hand() {
    for cut in [Cut::Before, Cut::After] {
        let mut lost = 0;
        loop {
            let twins = known();
            twins.says(Says { tiers: [2, 0, 1], ..FIRST });
            let (port, seen) = proxy(Counted::Commits, lost + 1, cut);
            let name = &twins.database.name;
            let address = format!("host=127.0.0.1 port={port} dbname={name} user=postgres sslmode=disable");
            let run = twins.database.run(&["--connect", &address]);
            if seen.load(Ordering::SeqCst) <= lost {
                break;
            }
            lost += 1;
            let differ = "SELECT id FROM sessions LEFT JOIN reconcile.chat ON chat_id = id
                          WHERE model IS DISTINCT FROM last_applied";
            assert_eq!(twins.database.texts(differ), [] as [&str; 0], "{cut:?} {lost}: {run:?}");
            twins.says(Says { tiers: [1, 2, 0], ..FIRST });
            twins.database.run(&["--lock-timeout", "5s"]).expect(0);
            let models = twins.database.texts("SELECT id || model FROM sessions ORDER BY id");
            assert_eq!(models, ["adahaiku", "benhaiku", "calsonnet"], "{cut:?} {lost}: {run:?}");
        }
        assert!(lost > 5, "only {lost} commits were lost");
    }
}

/// What happens between two looks at the twins.
#[derive(Clone, Debug)]
enum Event {
    Policy([usize; 3]),
    ByHand(usize, usize),
    New(usize, usize),
    Gone(usize),
    Moves(usize, usize),
    Restarts(Restarts),
    Run(Selected),
    Replace,
}

/// Whether sessions come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restarts {
    Work,
    Fail,
}

/// What a run is asked for.
#[derive(Clone, Copy, Debug)]
enum Selected {
    All,
    Chat(usize),
    Refused,
    TakeOver(usize),
    TakeOverAll,
}

impl Selected {
    fn arguments(self) -> Vec<&'static str> {
        match self {
            Self::All => vec![],
            Self::Chat(chat) => vec!["--chat", CHATS[chat]],
            Self::Refused => vec!["--allow-changes", "0"],
            Self::TakeOver(chat) => vec!["--take-over", CHATS[chat]],
            Self::TakeOverAll => vec!["--take-over-all"],
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let (chat, model) = (|| 0..CHATS.len(), || 0..MODELS.len());
    let selected = prop_oneof![
        4 => Just(Selected::All),
        1 => chat().prop_map(Selected::Chat),
        1 => Just(Selected::Refused),
        1 => chat().prop_map(Selected::TakeOver),
        1 => Just(Selected::TakeOverAll),
    ];
    let event = prop_oneof![
        3 => [model(), model(), model()].prop_map(Event::Policy),
        6 => (chat(), model()).prop_map(|(chat, model)| Event::ByHand(chat, model)),
        2 => (chat(), model()).prop_map(|(chat, tier)| Event::New(chat, tier)),
        1 => chat().prop_map(Event::Gone),
        1 => (chat(), model()).prop_map(|(chat, tier)| Event::Moves(chat, tier)),
        1 => select(&[Restarts::Work, Restarts::Fail][..]).prop_map(Event::Restarts),
        6 => selected.prop_map(Event::Run),
        1 => Just(Event::Replace),
    ];
    proptest::collection::vec(event, 8..20)
}

/// Twins to which things happen, and what is known of them without looking into the program's memory.
struct Trial {
    twins: Twins,
    says: Says,
    /// What a person has chosen, and no decision has agreed with since.
    chosen: BTreeMap<&'static str, &'static str>,
    /// The chats that runs of the whole have looked at, with the models that they left there.
    left: BTreeMap<String, String>,
}

impl Trial {
    /// The first three chats are under the policy.
    fn new() -> Self {
        let twins = Twins::new(&[("a", "admin", "opus"), ("b", "family", "haiku"), ("c", "bots", "haiku")]);
        twins.run(&["--take-over-all"]).expect(0);
        let left = twins.models();
        Self { twins, says: FIRST, chosen: BTreeMap::new(), left }
    }

    fn says(&mut self, says: Says) {
        self.says = says;
        self.twins.says(says);
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Policy(tiers) => self.says(Says { tiers, ..self.says }),
            Event::ByHand(chat, model) => self.chooses(CHATS[chat], MODELS[model]),
            Event::New(chat, tier) if !self.twins.models().contains_key(CHATS[chat]) => {
                self.twins.insert(CHATS[chat], TIERS[tier], "opus");
            }
            Event::New(..) => {}
            Event::Gone(chat) => {
                self.twins.remove(CHATS[chat]);
                self.chosen.remove(CHATS[chat]);
                self.left.remove(CHATS[chat]);
            }
            Event::Moves(chat, tier) => self.twins.set(CHATS[chat], "tier", TIERS[tier]),
            Event::Restarts(restarts) => {
                for sandbox in [&self.twins.file, &self.twins.database.sandbox] {
                    let broken = sandbox.path("broken");
                    match restarts {
                        Restarts::Work => _ = std::fs::remove_file(broken),
                        Restarts::Fail => std::fs::write(broken, "").unwrap(),
                    }
                }
            }
            Event::Run(selected) => self.runs(selected),
            Event::Replace => {
                self.says(Says { existing: "replace", ..self.says });
                self.twins.run(&["--format", "json"]);
                self.says(FIRST);
                self.chosen.clear();
                self.left.clear();
                self.runs(Selected::TakeOverAll);
            }
        }
    }

    fn chooses(&mut self, chat: &'static str, model: &'static str) {
        self.twins.set(chat, "model", model);
        match self.left.get(chat) {
            // No run has looked at it yet, or it is back to what a run left there.
            None => _ = self.chosen.remove(chat),
            Some(left) if left == model => _ = self.chosen.remove(chat),
            Some(_) => _ = self.chosen.insert(chat, model),
        }
    }

    fn runs(&mut self, selected: Selected) {
        if let Selected::Chat(chat) | Selected::TakeOver(chat) = selected
            && !self.twins.models().contains_key(CHATS[chat])
        {
            return;
        }
        match selected {
            Selected::TakeOver(chat) => _ = self.chosen.remove(CHATS[chat]),
            Selected::TakeOverAll => self.chosen.clear(),
            Selected::All | Selected::Chat(_) | Selected::Refused => {}
        }
        let run = self.twins.run(&[&selected.arguments()[..], &["--format", "json"]].concat());
        let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
        // What a decision agrees with is chosen no longer. A run that is refused may see that, too.
        let kept: Vec<&str> = report["changes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["outcome"] == "unmanaged")
            .map(|row| row["chat_id"].as_str().unwrap())
            .collect();
        if report["complete"] == true {
            self.chosen.retain(|chat, _| kept.contains(chat));
        } else if let Selected::Chat(chat) = selected {
            self.chosen.retain(|chosen, _| *chosen != CHATS[chat] || kept.contains(chosen));
        }
        if report["complete"] == true && run.code != 3 {
            let chosen = &self.chosen;
            self.left.extend(self.twins.models().into_iter().filter(|(chat, _)| !chosen.contains_key(chat.as_str())));
        }
    }
}

/// So many worlds.
const WORLDS: usize = 12;

fn trials(check: impl Fn(&mut Trial, &Event)) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for _ in 0..WORLDS {
        let mut trial = Trial::new();
        for event in events().new_tree(&mut runner).unwrap().current() {
            check(&mut trial, &event);
        }
    }
}

#[test]
fn what_was_set_by_hand_is_never_changed_without_consent_and_a_table_answers_as_a_file_does() {
    let mut kept = std::cell::Cell::new(0);
    trials(|trial, event| {
        trial.happens(event);
        let models = trial.twins.models();
        for (chat, model) in &trial.chosen {
            assert_eq!(models[*chat], *model, "{chat} after {event:?}");
        }
        kept.set(kept.get() + trial.chosen.len());
        trial.twins.dry_run();
    });
    assert!(*kept.get_mut() > 20, "only {kept:?} choices were kept");
}

#[test]
fn without_a_choice_by_hand_every_plan_is_the_one_of_replace() {
    trials(|trial, event| {
        if matches!(event, Event::ByHand(..)) {
            return;
        }
        trial.happens(event);
        let kept = trial.twins.run(&["--dry-run", "--format", "json"]).stdout;
        trial.twins.says(Says { existing: "replace", ..trial.says });
        let replaced = trial.twins.run(&["--dry-run", "--format", "json"]).stdout;
        trial.twins.says(trial.says);
        assert_eq!(kept, replaced, "{event:?}");
    });
}
