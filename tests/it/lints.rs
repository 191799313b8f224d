//! `reconcile check`: what is legal in a policy and probably not meant, and how it is told.
//!
//! A folder of `tests/lints` holds a `policy.toml` (or a directory `policy.d`), where it needs them a `sessions.json`
//! and `arguments`, and what the program says of it, `check.txt`. `SNAPSHOTS=overwrite cargo test` writes that anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use reconcile::chat::Chat;
use reconcile::lint::Lint;
use reconcile::policy::{Policy, Source, read};
use reconcile::resolve::{resolve, resolve_default};
use serde_json::{Value, json};
use snapbox::data::DataFormat;
use snapbox::{Assert, Data, IntoData};

use crate::support::{Run, Sandbox, below};
use crate::world::at;

fn check(case: &Path) -> Run {
    let sandbox = Sandbox::new("", "");
    for name in ["policy.d", "."] {
        let files = fs::read_dir(case.join(name)).into_iter().flatten().map(|entry| entry.unwrap().path());
        fs::create_dir_all(sandbox.path(name)).unwrap();
        for file in files.filter(|file| file.is_file()) {
            fs::copy(&file, sandbox.path(name).join(file.file_name().unwrap())).unwrap();
        }
    }
    let more = fs::read_to_string(case.join("arguments")).unwrap_or_default();
    let policy = if case.join("policy.d").exists() { "policy.d" } else { "policy.toml" };
    let registry = case.join("sessions.json").exists();
    let mut arguments = vec!["check", "--policy", policy];
    arguments.extend(registry.then_some(["--registry", "sessions.json"]).into_iter().flatten());
    arguments.extend(more.lines());
    sandbox.run(&arguments)
}

fn cases() -> Vec<PathBuf> {
    let cases = below("lints");
    assert!(cases.len() > 8, "where are the policies?");
    cases
}

#[test]
fn every_warning_is_shown_as_it_was_reviewed() {
    for case in cases() {
        let run = check(&case).expect(0);
        assert_eq!(run.stderr, "", "{}: what was found is the data of this command", case.display());
        let expected = Data::read_from(&case.join("check.txt"), Some(DataFormat::Text)).raw();
        Assert::new().action_env("SNAPSHOTS").eq(run.stdout.into_data().raw(), expected);
    }
}

#[test]
fn every_lint_has_a_case() {
    let source = include_str!("../../src/lint.rs");
    let calls = ["Diagnostic::warning(", "Diagnostic::note("].into_iter().flat_map(|call| source.split(call).skip(1));
    let codes: BTreeSet<&str> = calls.map(|call| call.trim_start().split('"').nth(1).unwrap()).collect();
    assert!(codes.len() > 5, "found only {codes:?}");
    let shown: String = cases().iter().map(|case| fs::read_to_string(case.join("check.txt")).unwrap()).collect();
    for code in codes {
        assert!(
            ["warning", "note"].iter().any(|level| shown.contains(&format!("{level}[{code}]"))),
            "no case below tests/lints has {code}"
        );
    }
}

/// One mistake of each level, in two places, with names that a workflow's runner would read as something else.
const HOSTILE: &str = "[models]\nallowed = [\"opus\", \"sonnet\"]\nfallback = \"sonnet\"\n[chats]\n\
                       \"100%,a:b\\n::error::x\" = { model = \"opus\", until = 2020-06-30 }\n";

const WARNS: &str = "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n[chats]\na = \"opus\"\n";
const VALID: &str = "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n";

fn json_of(policy: &str, arguments: &[&str]) -> Value {
    let run = Sandbox::new(policy, "{}").run(&[&["check", "--format", "json"], arguments].concat());
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

fn codes(report: &Value) -> Vec<&str> {
    report["diagnostics"].as_array().unwrap().iter().map(|found| found["code"].as_str().unwrap()).collect()
}

#[test]
fn errors_end_with_1_and_so_do_warnings_where_they_are_denied() {
    for (policy, code, denied) in [(VALID, 0, 0), (WARNS, 0, 1), ("[models]", 1, 1), ("[models", 1, 1)] {
        let sandbox = Sandbox::new(policy, "");
        for format in ["text", "json", "github"] {
            let run = sandbox.run(&["check", "--format", format]).expect(code);
            assert_eq!(run.stderr, "");
            sandbox.run(&["check", "--format", format, "--deny", "warnings"]).expect(denied);
        }
    }
    Sandbox::new(VALID, "").run(&["check", "--deny", "errors"]).expect(64);
}

#[test]
fn a_policy_that_is_not_there_is_an_error_in_every_format() {
    for format in ["text", "json", "github"] {
        let run = Sandbox::new(VALID, "").run(&["check", "--policy", "missing.toml", "--format", format]).expect(1);
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains("there is no policy missing.toml"), "{run:?}");
    }
}

#[test]
fn the_last_line_counts() {
    let last = |policy: &str| Sandbox::new(policy, "").run(&["check"]).summary().to_owned();
    assert_eq!(last(VALID), "policy.toml: no mistakes");
    assert_eq!(last(WARNS), "policy.toml: no mistakes, 1 warning");
    assert_eq!(last("[models]"), "policy.toml: 2 mistakes");
}

#[test]
fn the_registry_is_asked_only_where_it_is_named() {
    // The registry that the policy names is another host's.
    let policy = format!("{VALID}[tiers]\nfamily = \"opus\"\n[registry]\npath = \"sessions.json\"\n");
    let sandbox = Sandbox::new(&policy, "{}");
    assert_eq!(sandbox.run(&["check"]).expect(0).stdout, "policy.toml: no mistakes\n");
    let asked = sandbox.run(&["check", "--registry", "sessions.json"]).expect(0);
    assert!(asked.stdout.contains("unused-tier"), "{asked:?}");
    let mut by_environment = sandbox.command(&["check"]);
    let asked = crate::support::finish(by_environment.env("RECONCILE_REGISTRY", "sessions.json"));
    assert!(asked.stdout.contains("unused-tier"), "{asked:?}");

    for registry in ["", "{\"a\": 1}"] {
        sandbox.write("sessions.json", registry);
        sandbox.run(&["check"]).expect(0);
        let run = sandbox.run(&["check", "--registry", "sessions.json"]).expect(1);
        assert!(run.stdout.is_empty() && run.stderr.contains("sessions.json"), "{run:?}");
    }
    sandbox.run(&["check", "--registry", "missing.json"]).expect(1);
}

#[test]
fn a_redacted_registry_is_asked_for_pseudonyms() {
    let policy = "[models]\nallowed = [\"opus\", \"haiku\"]\nfallback = \"opus\"\n\
                  [tiers]\nfamily = \"haiku\"\n[chats]\na = \"opus\"\nb = \"opus\"\n";
    let sandbox = Sandbox::new(policy, r#"{"a": {"tier": "family"}}"#);
    let snapshot = sandbox.run(&["snapshot", "--redact", "--registry", "sessions.json"]).expect(0);
    sandbox.write("redacted.json", snapshot.stdout);
    let check = ["check", "--registry", "redacted.json", "--format", "json"];
    let run = sandbox.run(&check).expect(1);
    assert!(run.stderr.contains("--redact-key"), "{run:?}");
    let key = ["--redact-key", "sessions.json.reconcile/redact.key"];
    let run = sandbox.run(&[&check[..], &key].concat()).expect(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((codes(&report), &report["diagnostics"][0]["line"]), (vec!["unused-override"], &json!(8)));
}

#[test]
fn an_override_ends_soon_if_it_ends_within_the_time() {
    let policy = |until: &str| {
        let models = "[models]\nallowed = [\"opus\", \"haiku\"]\nfallback = \"opus\"\n";
        format!("{models}[chats]\na = {{ model = \"haiku\", until = {until} }}\n")
    };
    let warned = |until: &str, within: &[&str]| codes(&json_of(&policy(until), within)).contains(&"expiring-override");
    for until in ["9000-01-01", "9000-01-01T12:00:00", "9000-01-01T12:00:00Z"] {
        assert!(!warned(until, &[]));
        assert!(!warned(until, &["--within", "5000y"]));
        assert!(!warned(until, &["--within", "0"]));
        assert!(warned(until, &["--within", "7300y"]));
        assert!(warned(until, &["--within", "2600000"]), "a number is one of days");
        assert!(warned(until, &["--within", "2600000d"]));
        assert!(warned(until, &["--within", "62400000h"]));
    }
    let sandbox = Sandbox::new(VALID, "");
    for wrong in ["soon", "-3d", "3 fortnights", "", "99999999999999999999"] {
        sandbox.run(&["check", &format!("--within={wrong}")]).expect(64);
    }
    let beyond = sandbox.run(&["check", "--within", "19000y"]).expect(1);
    assert!(beyond.stderr.contains("--within"), "{beyond:?}");
}

#[test]
fn json_has_the_form_that_is_documented() {
    let policy = format!("{WARNS}b = {{ model = \"gpt\" }}\n");
    let report = json_of(&policy, &[]);
    let expected = json!({
        "format_version": "1.0",
        "policy": "policy.toml",
        "diagnostics": [{
            "level": "error",
            "code": "model-not-allowed",
            "message": "`gpt` is not an allowed model",
            "file": "policy.toml",
            "line": 6,
            "column": 15,
            "end_column": 20,
            "label": "not in `models.allowed`",
            "help": "known: `opus`",
            "related": [],
        }],
        "errors": 1,
        "warnings": 0,
        "notes": 0,
    });
    assert_eq!(report, expected);

    let twice = json_of(&format!("{VALID}[chats]\na = \"opus\"\n\"a\" = \"opus\"\n"), &[]);
    let related = json!([{ "file": "policy.toml", "line": 5, "column": 1, "message": "first here" }]);
    assert_eq!(twice["diagnostics"][0]["related"], related);
}

#[test]
fn an_annotation_is_one_line_whatever_the_names_are() {
    let sandbox = Sandbox::new(HOSTILE, "");
    let run = sandbox.run(&["check", "--format", "github"]).expect(0);
    let expected = "::warning file=policy.toml,line=5,col=1,endColumn=23,title=expired-override::the override \
                    `chats.\"100%25,a:b\\n::error::x\"` has expired%0Ait ended after 2020-06-30%0Ahelp: remove it, or set a later `until`\n";
    assert_eq!(run.stdout, expected);

    sandbox.write("50%,a:b\n::stop.toml", "[models]\nallowed = [\"opus\"]\nfallback = \"gpt\"\n");
    let run = sandbox.run(&["check", "--format", "github", "--policy", "50%,a:b\n::stop.toml"]).expect(1);
    let start = "::error file=50%25%2Ca%3Ab\\n%3A%3Astop.toml,line=3,col=12,endColumn=17,title=model-not-allowed::";
    assert!(run.stdout.starts_with(start) && run.stdout.lines().count() == 1, "{run:?}");

    let twice = Sandbox::new(&format!("{VALID}[chats]\na = \"opus\"\n\"a\" = \"opus\"\n"), "");
    let run = twice.run(&["check", "--format", "github"]).expect(1);
    assert!(run.stdout.contains("%0Aagain here%0Apolicy.toml:5: first here%0Ahelp: remove one of them\n"), "{run:?}");
}

#[test]
fn of_very_many_warnings_the_rest_is_counted() {
    let chats: String = (0..130).map(|n| format!("c{n} = \"opus\"\n")).collect();
    let run = Sandbox::new(&format!("{VALID}[chats]\n{chats}"), "").run(&["check"]).expect(0);
    assert_eq!(run.stdout.matches("warning[redundant-override]").count(), 100);
    assert!(run.stdout.contains("30 more warnings are not shown"), "{run:?}");
}

/// Rules over few values, so that many cover others.
fn rules() -> impl Strategy<Value = Vec<String>> {
    let values = |values: &'static [&str]| {
        proptest::option::of(proptest::sample::subsequence(values, 1..=2)).prop_map(|list| list.map(|v| json!(v)))
    };
    let globs = proptest::option::of(proptest::collection::vec("[ab*?]{0,3}", 1..3));
    let rule = (values(&["s", "t"]), values(&["x", "y"]), values(&["i", "g"]), globs, 0..2_usize);
    let text = |(source, tier, kind, globs, model): (Option<Value>, Option<Value>, Option<Value>, _, usize)| {
        let globs: Option<Vec<String>> = globs;
        let lists = [("source", source), ("tier", tier), ("type", kind), ("chat", globs.map(|globs| json!(globs)))];
        let keys: Vec<String> = lists.iter().filter_map(|(k, v)| Some(format!("{k} = {}", v.as_ref()?))).collect();
        (!keys.is_empty()).then(|| format!("[[rules]]\n{}\nmodel = {:?}\n", keys.join("\n"), ["m", "n"][model]))
    };
    proptest::collection::vec(rule.prop_map(text), 1..7).prop_map(|rules| rules.into_iter().flatten().collect())
}

/// Every chat that those rules can tell from another, with ids of up to three characters.
fn every_chat() -> Vec<Chat<'static>> {
    let mut ids = vec![String::new()];
    for length in 0..3 {
        let longer: Vec<String> = ids.iter().filter(|id| id.len() == length).cloned().collect();
        ids.extend(longer.iter().flat_map(|id| ["a", "b", "c", "*", "?"].map(|next| format!("{id}{next}"))));
    }
    let some = |value: &&'static str| (!value.is_empty()).then(|| (*value).into());
    let mut chats = Vec::new();
    for id in ids {
        for source in ["", "s", "t"] {
            for (tier, kind) in [("", ""), ("x", "i"), ("y", "g"), ("x", ""), ("", "g")] {
                let chat = Chat { id: id.clone().into(), source: some(&source), ..Chat::default() };
                chats.push(Chat { tier: some(&tier), kind: some(&kind), ..chat });
            }
        }
    }
    chats
}

fn warned(policy: &Policy, sources: &[Source], code: &str) -> Vec<String> {
    let lint = Lint { policy, sources, registry: None, now: &at(0), horizon: &at(0) };
    let warnings = lint.warnings().unwrap().into_iter().filter(|found| found.code == code);
    warnings.map(|found| found.message.split('`').nth(1).unwrap().to_owned()).collect()
}

const TWO: &str = "[models]\nallowed = [\"m\", \"n\"]\nfallback = \"m\"\n";

proptest! {
    #[test]
    fn a_rule_that_is_said_to_decide_nothing_never_does(rules in rules()) {
        let sources = [Source::new("policy.toml", format!("{TWO}{}", rules.concat()))];
        let (policy, _) = read(&sources).unwrap();
        let unreachable = warned(&policy, &sources, "unreachable-rule");
        for chat in every_chat() {
            let first = &resolve(&policy, &chat, None.into(), &at(0)).because.rule;
            prop_assert!(!unreachable.contains(first), "{first} decides {chat:?}");
        }
    }

    #[test]
    fn an_override_that_is_said_to_change_nothing_never_does(
        rules in rules(), tier in 0..3_usize, ids in proptest::collection::btree_set("[ab]{1,2}", 1..4)
    ) {
        let tiers = ["", "[tiers]\nx = \"m\"\n", "[tiers]\nx = \"n\"\n"][tier];
        let chats: String = ids.iter().map(|id| format!("{id} = \"m\"\n")).collect();
        let sources = [Source::new("policy.toml", format!("{TWO}{tiers}{}[chats]\n{chats}", rules.concat()))];
        let (policy, _) = read(&sources).unwrap();
        let redundant = warned(&policy, &sources, "redundant-override");
        for chat in every_chat() {
            if redundant.contains(&format!("chats.{:?}", chat.id)) {
                let default = resolve_default(&policy, &chat, None.into());
                prop_assert_eq!(default.model, resolve(&policy, &chat, None.into(), &at(0)).model, "{:?}", chat);
            }
        }
    }
}
