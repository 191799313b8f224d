//! A policy that describes a registry as it is.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use proptest::prelude::*;
use reconcile::adopt::adopt;
use reconcile::backend::capabilities;
use reconcile::chat::Model;
use reconcile::form::Form;
use reconcile::plan::ledger::Ledger;
use reconcile::plan::select::Selector;
use reconcile::plan::{Limits, PlanInput, Reading, Row, Verdict, drift};
use reconcile::policy::{Source, read};
use reconcile::registry::json::JsonText;
use reconcile::report::adopted::{self, Named};
use reconcile::report::escape::escape;
use serde_json::{Map, Value, json};

use crate::hostile::{HOSTILE, harm};
use crate::support::{Run, Sandbox, finish};
use crate::world::at;

/// Text that another person chose: often plain, sometimes anything.
fn text(plain: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(plain).prop_map(str::to_owned),
        1 => proptest::sample::select(&HOSTILE[..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn entries() -> impl Strategy<Value = Value> {
    let model = proptest::option::weighted(0.8, text(&["opus", "sonnet", "haiku", "haiku", "claude-opus-4-6"]));
    let tier = proptest::option::weighted(0.8, text(&["family", "bots", "a.b", "", "two words", "\"", "-"]));
    let name = proptest::option::of(text(&["Ada Quinn", "", " ", "# \"\"\"", "']'", "\\"]));
    (model, tier, name).prop_map(|(model, tier, name)| json!({"model": model, "tier": tier, "contact_name": name}))
}

fn registries() -> impl Strategy<Value = Vec<(String, Value)>> {
    let id = prop_oneof!["[a-z]{1,2}", text(&["+16175550101", "", "a.b", "\"", "'", "\\", "#"])];
    let chats = proptest::collection::btree_map(id, entries(), 0..20);
    chats.prop_map(|chats| chats.into_iter().collect()).prop_shuffle()
}

fn snapshot(chats: &[(String, Value)]) -> JsonText {
    let members: Vec<String> =
        chats.iter().map(|(id, entry)| format!("{}: {entry}", Value::from(id.as_str()))).collect();
    let text = format!("{{{}}}", members.join(", "));
    JsonText::new("sessions.json".to_owned(), text.into_bytes()).unwrap()
}

fn policy_for(snapshot: &JsonText) -> String {
    let named = Named::File("sessions.json", &Form::default());
    let policy = adopted::policy(&adopt(snapshot).unwrap(), named);
    String::from_utf8(policy.as_bytes().to_vec()).unwrap()
}

/// What a policy would do to a registry.
fn rows(policy: &str, snapshot: &JsonText) -> Vec<Row> {
    let (policy, warnings) = read(&[Source::new("policy.toml", policy.to_owned())]).unwrap();
    assert_eq!(warnings, []);
    let (now, selector, capabilities) = (at(0), Selector::default(), capabilities(&policy));
    let (capabilities, limits) = (capabilities.as_ref(), Limits::default());
    let input = PlanInput { policy: &policy, capabilities, now: &now, selector: &selector, limits };
    let (ledger, doubtful) = (Ledger::default(), BTreeSet::new());
    drift(&input, &Reading { snapshot: Box::new(snapshot.clone()), ledger, doubtful, imposed: None }).unwrap().rows
}

proptest! {
    #[test]
    fn reconciling_with_it_changes_no_session_that_has_a_model(chats in registries()) {
        let snapshot = snapshot(&chats);
        let policy = policy_for(&snapshot);
        let unset = chats.iter().filter(|(_, entry)| entry["model"].as_str().is_none_or(str::is_empty)).count();
        let nameless = |name: &str| !name.is_empty() && Model::declarable(name).is_none();
        let undeclarable = chats.iter().filter(|(_, entry)| entry["model"].as_str().is_some_and(nameless)).count();
        let rows = rows(&policy, &snapshot);
        for row in &rows {
            // A chat without a row is in sync.
            prop_assert!(!(row.edit && row.before.is_some()), "{row:?}\n{policy}");
        }
        let unmanaged = rows.iter().filter(|row| row.outcome.verdict == Verdict::Unmanaged).count();
        prop_assert_eq!((rows.len() - unmanaged, unmanaged), (unset, undeclarable), "{}", policy);
    }

    #[test]
    fn a_session_without_a_model_is_given_what_its_line_says_or_left_alone_without_the_mark(chats in registries()) {
        let snapshot = snapshot(&chats);
        let policy = policy_for(&snapshot);
        let is_about = |line: &&str, chat: &str| read_key(line.trim_start_matches("# ")).as_deref() == Some(chat);
        for row in rows(&policy, &snapshot).iter().filter(|row| row.edit) {
            let line = policy.lines().find(|line| line.starts_with("# \"") && is_about(line, &row.chat.id)).unwrap();
            let given = format!("{{ managed = false }} # {}", escape(row.after.as_ref().unwrap().as_str()));
            let named = line.split_once("{ managed").map(|(_, rest)| format!("{{ managed{rest}"));
            let squeezed = named.unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert!(squeezed.starts_with(&given), "{line:?} does not say {given:?}");
        }
        let uncommented = policy.replace("\n# \"", "\n\"");
        prop_assert_eq!(rows(&uncommented, &snapshot).iter().filter(|row| row.edit).count(), 0, "{}", uncommented);
    }

    #[test]
    fn it_is_the_same_whatever_the_order_of_the_registry_and_shows_nothing_raw(chats in registries()) {
        let policy = policy_for(&snapshot(&chats));
        prop_assert_eq!(harm(&policy), None);
        prop_assert!(!policy.contains("##[") && !policy.contains("##vso["));
        let backwards: Vec<_> = chats.into_iter().rev().collect();
        prop_assert_eq!(policy, policy_for(&snapshot(&backwards)));
    }
}

/// The key of a line of TOML, decoded.
fn read_key(line: &str) -> Option<String> {
    toml::from_str::<toml::Table>(line).ok()?.keys().next().cloned()
}

/// Id, tier, model and name of a chat.
type Chat<'a> = (&'a str, Option<&'a str>, Option<&'a str>, &'a str);

fn sandbox(chats: &[Chat]) -> Sandbox {
    let entry = |(id, tier, model, name): &Chat| {
        ((*id).to_owned(), json!({"tier": tier, "model": model, "contact_name": name, "session_name": id}))
    };
    let registry: Map<String, Value> = chats.iter().map(entry).collect();
    let sandbox = Sandbox::new("", &Value::Object(registry).to_string());
    std::fs::remove_file(sandbox.path("policy.toml")).unwrap();
    sandbox
}

const CHATS: [Chat; 8] = [
    ("+1", Some("family"), Some("sonnet"), "Ada"),
    ("+2", Some("family"), Some("sonnet"), "Bea"),
    ("+3", Some("family"), Some("opus"), "Cal Ortiz"),
    ("+4", Some("two words"), Some("sonnet"), "Dee"),
    ("+5", Some("two words"), Some("haiku"), "a tie\u{1b}[0m\nx"),
    ("+6", Some("family"), None, "Eli"),
    ("+7", Some("family"), Some("very large"), ""),
    ("group", None, Some("opus"), "Flat 3"),
];

const ADOPTED: &str = r#"# Which model each chat's session runs on: the registry as `reconcile adopt` found it.

[models]
allowed  = ["haiku", "opus", "sonnet"]
fallback = "opus"                             # no tier, or a tier that is not listed

[tiers]                                       # what most of each tier run on
family      = "sonnet"
"two words" = "sonnet"

[chats]                                       # overrides
"+3" = "opus"                                 # Cal Ortiz
"+5" = "haiku"                                # a tie\u{1b}[0m\nx
"+7" = { managed = false, reason = "its model has a name that no policy can hold" }
# These have no model. The next reconcile gives them the one that is named on their line.
# To leave one as it is, remove the # before it.
# "+6" = { managed = false }                  # sonnet: Eli

[registry]
path = "sessions.json"

[sessions]                                    # without a restart command, only the registry is changed
# restart  = ["supervisorctl", "restart", "{session_slug}"]
# running  = ["supervisorctl", "status", "{session_slug}"]
# identity = ["supervisorctl", "pid", "{session_slug}"]
# conversation = "~/.claude/projects/{cwd_slug}/{session_id}.jsonl" # where Claude Code keeps them
# backend = "dispatch"                        # instead, if the dispatch daemon owns the registry
"#;

#[test]
fn it_is_laid_out_as_one_would_write_it() {
    let run = sandbox(&CHATS).run(&["adopt", "--registry", "sessions.json"]).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), (ADOPTED, ""));
}

#[test]
fn saved_in_the_current_directory_it_is_the_policy_of_the_next_run() {
    let sandbox = sandbox(&CHATS);
    std::fs::create_dir(sandbox.path("deploy")).unwrap();
    let path = "[registry]\npath = \"../sessions.json\"\n";
    sandbox.write("deploy/policy.toml", format!("[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n{path}"));
    let absolute = sandbox.path("sessions.json").display().to_string();
    for (arguments, environment) in [
        (&["--registry", "sessions.json", "adopt"][..], ""),
        (&["adopt", "--registry", &absolute], "elsewhere.json"),
        (&["adopt"], "sessions.json"),
        (&["adopt", "--policy", "deploy/policy.toml"], ""),
        (&["adopt", "--policy", "deploy"], ""),
    ] {
        let run = finish(sandbox.command(arguments).env("RECONCILE_REGISTRY", environment)).expect(0);
        sandbox.write("policy.toml", run.stdout);
        let report = sandbox.json(&["--dry-run"]);
        let edited: Vec<&str> = report["changes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["edit"] == true)
            .filter_map(|row| row["chat_id"].as_str())
            .collect();
        assert_eq!(edited, ["+6"], "{arguments:?}: {report:#}");
        std::fs::remove_file(sandbox.path("policy.toml")).unwrap();
    }
}

#[test]
fn a_path_below_the_home_directory_stays_one_and_a_directory_named_like_it_does_not_become_it() {
    let sandbox = sandbox(&[("+1", None, Some("opus"), "Ada")]);
    let policy = "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n[registry]\npath = \"~/sessions.json\"\n";
    sandbox.write("policy.toml", policy);
    let run = finish(sandbox.command(&["adopt"]).env("HOME", sandbox.path(""))).expect(0);
    assert!(run.stdout.contains("path = \"~/sessions.json\"\n"), "{run:#?}");

    std::fs::create_dir(sandbox.path("~")).unwrap();
    sandbox.write("~/other.json", "{}");
    let run = sandbox.run(&["adopt", "--registry", "./~/other.json"]).expect(0);
    assert!(run.stdout.contains("path = \"./~/other.json\"\n"), "{run:#?}");
}

#[test]
fn a_registry_with_a_hostile_name_is_named_so_that_it_is_found_and_never_shown_raw() {
    for text in HOSTILE.iter().filter(|text| !text.contains(['\0', '/'])) {
        let sandbox = sandbox(&CHATS);
        let name = format!("{text}.json");
        sandbox.write(&name, sandbox.read("sessions.json"));
        let run = sandbox.run(&["adopt", "--registry", &name]).expect(0);
        assert_eq!(harm(&run.stdout), None);
        sandbox.write("policy.toml", &run.stdout);
        assert!(sandbox.run(&["--dry-run"]).expect(0).summary().starts_with("Plan: 1 to change"));
    }
}

#[test]
fn a_registry_without_models_gives_the_usual_ones_and_says_so() {
    for registry in ["{}", r#"{"+1": {"tier": "family", "model": null}, "+2": {"model": "no name"}}"#] {
        let sandbox = Sandbox::new("", registry);
        let run = sandbox.run(&["adopt", "--registry", "sessions.json"]).expect(0);
        let guessed = "allowed  = [\"opus\", \"sonnet\", \"haiku\"]        # the registry names no model, so this is a guess\n\
                       fallback = \"sonnet\"";
        assert!(run.stdout.contains(guessed), "{run:#?}");
        assert!(!run.stdout.contains("[tiers]"), "{run:#?}");
        sandbox.write("policy.toml", &run.stdout);
        sandbox.run(&["--dry-run"]).expect(0);
    }
}

#[track_caller]
fn assert_refused(run: Run, message: &str, hint: &str) {
    let run = run.expect(1);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains(message) && run.stderr.contains(hint), "{run:#?}");
}

#[test]
fn what_cannot_be_adopted_is_an_error_that_says_what_to_do() {
    let sandbox = sandbox(&CHATS);
    assert_refused(
        sandbox.run(&["adopt"]),
        "there is no policy policy.toml that could name one",
        "pass --registry PATH",
    );
    assert_refused(sandbox.run(&["adopt", "--registry", "gone.json"]), "there is no registry gone.json", "--registry");
    sandbox.write("policy.toml", "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n");
    assert_refused(sandbox.run(&["adopt"]), "policy.toml names no registry", "pass --registry PATH");
    sandbox.write("policy.toml", "[models]\n");
    assert_refused(sandbox.run(&["adopt"]), "`models.allowed` is missing", "--> policy.toml:1:1");
    // A user who names the registry needs no policy, and no valid one.
    sandbox.run(&["adopt", "--registry", "sessions.json"]).expect(0);

    for (registry, message) in [
        ("", "the registry is empty"),
        ("[]", "the registry is not a JSON object"),
        (r#"{"+1": {"model": "opus"}"#, "the registry is malformed"),
        (r#"{"+1": {"model": 7}}"#, "`model` of chat \"+1\" is not a string"),
        (r#"{"+1": {}, "\u002b1": {}}"#, "chat \"+1\" is defined twice"),
    ] {
        sandbox.write("sessions.json", registry);
        assert_refused(sandbox.run(&["adopt", "--registry", "sessions.json"]), message, "--> sessions.json:1:");
    }
    let odd = OsStr::from_bytes(b"odd\xff.json");
    std::fs::write(sandbox.path("").join(odd), "{}").unwrap();
    assert_refused(finish(sandbox.command(&["adopt", "--registry"]).arg(odd)), "it is not UTF-8", "make a link to it");
}

#[test]
fn options_of_a_run_are_no_options_of_it() {
    sandbox(&CHATS).run(&["--dry-run", "adopt", "--registry", "sessions.json"]).expect(64);
    sandbox(&CHATS).run(&["adopt", "--dry-run", "--registry", "sessions.json"]).expect(64);
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let sandbox = sandbox(&CHATS);
    let closed = Stdio::from(std::io::pipe().unwrap().1);
    let output = sandbox.command(&["adopt", "--registry", "sessions.json"]).stdout(closed).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
