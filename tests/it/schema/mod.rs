//! `policy.schema.json` says what the reader of policies says, as far as a schema can.

mod types;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use reconcile::diagnostic::Level;
use reconcile::policy::{Condition, Source, read};
use serde_json::Value as Json;
use snapbox::data::DataFormat;
use snapbox::{Assert, Data, IntoData};
use toml::{Table, Value};

use crate::pages;
use crate::support::below;

/// The mistakes that can be seen without comparing one part of a policy with another, or reading commands.
const STRUCTURAL: [&str; 19] = [
    "duplicate",
    "empty",
    "missing-key",
    "missing-session-id",
    "not-a-date",
    "not-a-duration",
    "not-a-fingerprint",
    "not-a-model",
    "not-an-address",
    "out-of-range",
    "rule-without-condition",
    "unknown-key",
    "unknown-value",
    "then-without-until",
    "token-in-policy",
    "unmanaged-with-model",
    "wrong-backend",
    "wrong-registry",
    "wrong-type",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn committed() -> PathBuf {
    root().join("policy.schema.json")
}

fn validator() -> Validator {
    let schema: Json = serde_json::from_str(&fs::read_to_string(committed()).unwrap()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema), "the schema is no schema");
    jsonschema::validator_for(&schema).unwrap()
}

/// As editors hand TOML to a schema: dates are strings.
fn json(value: &Value) -> Json {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(truth) => (*truth).into(),
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}

/// The codes of what the reader calls an error.
fn errors(text: &str) -> BTreeSet<&'static str> {
    let found = read(&[Source::new("policy.toml", text.to_owned())]).err().unwrap_or_default();
    found.iter().filter(|found| found.level == Level::Error).map(|found| found.code).collect()
}

fn is_structural(errors: &BTreeSet<&str>) -> bool {
    errors.iter().any(|code| STRUCTURAL.contains(code))
}

/// Every valid policy of the repository that is in one file, with its name.
fn valid_policies() -> Vec<(String, String)> {
    let folders = below("cases").into_iter().chain([root().join("examples")]);
    let files =
        folders.flat_map(|folder| walkdir::WalkDir::new(folder).max_depth(1)).map(|file| file.unwrap().into_path());
    let is_policy = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let files: Vec<PathBuf> = files.filter(is_policy).chain([root().join("policy.toml")]).collect();
    let files = files.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap()));
    files.chain(pages::policies()).collect()
}

#[test]
fn it_is_the_one_of_the_types() {
    let current = serde_json::to_string_pretty(&types::schema()).unwrap() + "\n";
    let expected = Data::read_from(&committed(), Some(DataFormat::Text)).raw();
    Assert::new().action_env("SNAPSHOTS").eq(current.into_data().raw(), expected);
}

#[test]
fn what_is_left_out_is_what_it_names_as_the_default() {
    let schema: Json = serde_json::from_str(&fs::read_to_string(committed()).unwrap()).unwrap();
    let sessions = |text: &str| {
        let policy = format!("[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n[sessions]\n{text}");
        format!("{:?}", read(&[Source::new("policy.toml", policy)]).unwrap().0.sessions)
    };
    let definitions = [
        ("FileSessions", "", 4),
        ("DispatchSessions", "backend = \"dispatch\"\n", 4),
        ("OpenclawSessions", "backend = \"openclaw\"\n", 3),
    ];
    for (definition, least, count) in definitions {
        let properties = schema["definitions"][definition]["properties"].as_object().unwrap();
        let named: Vec<(&String, &Json)> =
            properties.iter().filter_map(|(key, property)| Some((key, property.get("default")?))).collect();
        assert_eq!(named.len(), count, "{definition}");
        let written: String = named.iter().map(|(key, default)| format!("{key} = {default}\n")).collect();
        let whole = if written.contains("backend") { written } else { format!("{least}{written}") };
        assert_eq!(sessions(&whole), sessions(least), "{definition}");
        // A default that is not the reader's would be seen.
        assert_ne!(sessions(&whole.replace("30s", "31s")), sessions(least), "{definition}");
    }
    let rollout = |text: &str| {
        let policy = format!("[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n[rollout]\n{text}");
        read(&[Source::new("policy.toml", policy)]).unwrap().0.rollout
    };
    let properties = schema["definitions"]["Rollout"]["properties"].as_object().unwrap();
    let written: String =
        properties.iter().map(|(key, property)| format!("{key} = {}\n", property["default"])).collect();
    assert_eq!((properties.len(), rollout(&written)), (5, rollout("")));
    assert_ne!(rollout(&written.replace("2s", "3s")), rollout(""), "a default that is not the reader's would be seen");
    let of_registry = &schema["definitions"]["FileRegistry"]["properties"]["existing"]["default"];
    let existing = |text: &str| {
        let policy = format!("[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n[registry]\npath = \"x\"\n{text}");
        read(&[Source::new("policy.toml", policy)]).unwrap().0.existing.because().is_some()
    };
    assert_eq!(existing(&format!("existing = {of_registry}")), existing(""));
    let of_registry = &schema["definitions"]["FileRegistry"]["properties"]["shape"]["default"];
    let form = |text: &str| {
        let policy = format!("[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n[registry]\n{text}");
        read(&[Source::new("policy.toml", policy)]).unwrap().0.form
    };
    assert_eq!(form(&format!("shape = {of_registry}")), form(""));
}

#[test]
fn every_valid_policy_meets_it() {
    let (validator, policies) = (validator(), valid_policies());
    assert!(policies.len() > 30, "only {} policies were found", policies.len());
    for (name, text) in policies {
        assert_eq!(errors(&text), BTreeSet::new(), "{name}");
        let policy = json(&Value::Table(text.parse().unwrap()));
        let mistakes: Vec<String> = validator.iter_errors(&policy).map(|error| error.to_string()).collect();
        assert!(mistakes.is_empty(), "{name}: {mistakes:?}");
    }
}

#[test]
fn of_the_policies_with_mistakes_it_refuses_those_that_a_schema_can() {
    let validator = validator();
    let mut seen = BTreeSet::new();
    for path in below("invalid").iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let text = fs::read_to_string(path).unwrap();
        let errors = errors(&text);
        // What is no TOML never meets a schema.
        let Ok(policy) = text.parse::<Table>() else { continue };
        assert_eq!(
            validator.is_valid(&json(&Value::Table(policy))),
            !is_structural(&errors),
            "{}: {errors:?}",
            path.display()
        );
        seen.extend(errors);
    }
    let unseen: Vec<_> = STRUCTURAL.iter().filter(|code| !seen.contains(*code)).collect();
    assert!(unseen.is_empty(), "no policy has {unseen:?}");
}

/// The ways to every value in a table or list.
fn paths(value: &Value) -> Vec<Vec<String>> {
    let members: Vec<(String, &Value)> = match value {
        Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = |(key, value): (String, &Value)| {
        let deeper = paths(value).into_iter().map(|path| [vec![key.clone()], path].concat()).collect::<Vec<_>>();
        [vec![vec![key.clone()]], deeper].concat()
    };
    members.into_iter().flat_map(below).collect()
}

/// The value with one part changed by `change`, which is given what the part stands in, and its key.
fn changed(policy: &Value, path: &[String], change: impl FnOnce(&mut Value, &str)) -> Value {
    let (key, way) = path.split_last().unwrap();
    let mut whole = policy.clone();
    let mut at = &mut whole;
    for step in way {
        at = match at {
            Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
            table => &mut table[step.as_str()],
        };
    }
    change(at, key);
    whole
}

/// The policy with every single key misspelt, left out, or given another value.
fn mutants(policy: &Value) -> Vec<Value> {
    const OTHERS: &str = r#"values = [7, -1, 1001, 1000000001, 4.5, true, false, "seven", "two words", "", [], ["seven"], [""], [7], {}, { seven = 7 }]"#;
    let others: Table = OTHERS.parse().unwrap();
    let mut mutants = Vec::new();
    for path in paths(policy) {
        for other in others["values"].as_array().unwrap() {
            mutants.push(changed(policy, &path, |within, key| match within {
                Value::Array(items) => items[key.parse::<usize>().unwrap()] = other.clone(),
                table => table[key] = other.clone(),
            }));
        }
        mutants.push(changed(policy, &path, |within, key| match within {
            Value::Array(items) => drop(items.remove(key.parse().unwrap())),
            table => drop(table.as_table_mut().unwrap().remove(key)),
        }));
        mutants.push(changed(policy, &path, |within, key| {
            if let Some(table) = within.as_table_mut() {
                let value = table.remove(key).unwrap();
                table.insert(format!("{key}s"), value);
            }
        }));
    }
    mutants
}

/// Policies that together have every key.
const WHOLE: [&str; 5] = [
    r#"
[models]
allowed  = ["opus", "sonnet"]
fallback = "sonnet"
time_zone = "Europe/Berlin"
aliases  = { "claude-opus-4-6" = "opus" }
retired  = { "opus-4" = { on = 2026-12-01, use = "opus" } }
[tiers]
family = "sonnet"
[[assign]]
tier    = "family"
chat    = ["+1617*"]
contact = "Ann Lee"
[[rules]]
source = "discord"
tier   = ["family", "favorite"]
type   = "group"
agent  = "main"
account = ["+1", "+2"]
chat   = ["discord:*"]
model  = "opus"
[[rules]]
tier   = "family"
model  = "opus"
[chats]
"+1" = "opus"
"+2" = { model = "opus", managed = true, until = 2026-12-31, then = "sonnet", reason = "thesis season" }
"+3" = { managed = false, until = 2026-12-31T18:00:00, reason = "the group votes itself" }
"+4" = { model = "opus", was = ["+40"] }
"+5" = { managed = false, was = ["+50", "+51"] }
[registry]
path     = "sessions.json"
existing = "keep"
key      = "sessions"
shape    = "any"
[sessions]
backend    = "file"
names_in_arguments = false
restart    = ["supervisorctl", "restart", "{session_slug}"]
running    = ["true"]
identity   = ["supervisorctl", "pid", "{session_slug}"]
timeout    = "1m 30s"
parallel   = 4
unset_runs = "opus"
conversation = "~/.claude/projects/{cwd_slug}/{session_id}.jsonl"
[rollout]
canary       = true
min_healthy  = "0s"
auto_revert  = false
max_failures = 3
pause        = "1m"
[limits]
max_changes = 10
batch       = 500
"#,
    r#"
[models]
allowed  = ["opus"]
fallback = "opus"
[registry]
existing = "replace"
[sessions]
backend  = "dispatch"
socket   = "/tmp/claude-assistant.sock"
drain    = "60s"
timeout  = "500ms"
parallel = 1
"#,
    r#"
[models]
allowed  = ["anthropic/claude-opus-5", "default"]
fallback = "default"
[sessions]
backend    = "openclaw"
url        = "ws://127.0.0.1:18789"
token      = { env = "OPENCLAW_GATEWAY_TOKEN" }
timeout    = "30s"
state       = "/var/lib/reconcile/openclaw"
fingerprint = "sha256:0011223344556677889900112233445566778899001122334455667788990011"
device_key  = "device.pem"
background  = true
"#,
    r#"
[models]
allowed  = ["default"]
fallback = "default"
[sessions]
backend = "openclaw"
token   = { file = "token" }
"#,
    r#"
[models]
allowed   = ["opus"]
fallback  = "opus"
[registry]
postgres = "service=assistant"
table    = "public.sessions"
existing = "keep"
[registry.columns]
chat_id      = "id"
model        = { column = "settings", path = ["llm", "model"] }
tier         = "tier"
source       = "source"
type         = "kind"
session_name = "name"
contact_name = "contact"
session_id   = "resume"
"#,
];

#[test]
fn each_condition_is_enough_for_a_rule() {
    let validator = validator();
    for condition in Condition::ON_VALUES.into_iter().chain([Condition::Chat]).map(Condition::name) {
        let rule = format!("[[rules]]\n{condition} = \"x\"\nmodel = \"opus\"\n");
        let text = format!("[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n{rule}");
        assert_eq!(errors(&text), BTreeSet::new(), "{condition}");
        assert!(validator.is_valid(&json(&Value::Table(text.parse().unwrap()))), "{condition}");
    }
}

/// Whether one of the values at the end of this way is there. `*` is any key, and a list is entered by itself.
fn has(value: &Value, way: &[&str]) -> bool {
    match (value, way) {
        (Value::Array(items), [_, ..]) => items.iter().any(|item| has(item, way)),
        (_, []) => true,
        (Value::Table(table), ["*", rest @ ..]) => table.values().any(|value| has(value, rest)),
        (Value::Table(table), [key, rest @ ..]) => table.get(*key).is_some_and(|value| has(value, rest)),
        _ => false,
    }
}

#[test]
fn the_policies_that_are_changed_have_every_key() {
    let policies = WHOLE.map(|text| Value::Table(text.parse().unwrap()));
    let is_missing = |key: &String| {
        let mut way: Vec<&str> = key.split('.').collect();
        // Every column takes the same.
        if let ["registry", "columns", column, _] = way.as_mut_slice() {
            *column = "*";
        }
        !policies.iter().any(|policy| has(policy, &way))
    };
    let missing: Vec<String> = pages::policy_keys().into_iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "no policy of WHOLE has {missing:?}");
}

#[test]
fn every_key_that_the_reader_asks_for_is_one_of_the_schema() {
    let source: String = walkdir::WalkDir::new(root().join("src/policy"))
        .into_iter()
        .filter_map(|file| fs::read_to_string(file.unwrap().path()).ok())
        .collect();
    let asks = ["self.mistakes, \"", "&mut table, \"", "&mut section, \"", "(section, \"", "optional(\""];
    let asked = asks.iter().flat_map(|ask| source.split(ask).skip(1)).filter_map(|rest| rest.split('"').next());
    let is_key = |text: &&str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let asked: BTreeSet<&str> = asked.filter(is_key).chain(Condition::ON_VALUES.map(Condition::name)).collect();
    assert!(asked.len() > 50, "{asked:?}");
    let keys = pages::policy_keys();
    let known: BTreeSet<&str> = keys.iter().flat_map(|key| key.split('.')).collect();
    let unknown: Vec<&&str> = asked.difference(&known).collect();
    assert!(unknown.is_empty(), "the schema has no {unknown:?}");
}

#[test]
fn with_any_one_key_changed_it_says_what_the_reader_says() {
    let validator = validator();
    let policies = WHOLE.map(str::to_owned).into_iter().chain(pages::policies().into_iter().map(|(_, policy)| policy));
    let (mut refused, mut accepted) = (0, 0);
    for policy in policies.map(|text| Value::Table(text.parse().unwrap())) {
        for mutant in mutants(&policy) {
            let text = toml::to_string(&mutant).unwrap();
            let errors = errors(&text);
            let valid = validator.is_valid(&json(&mutant));
            assert_eq!(valid, !is_structural(&errors), "the reader finds {errors:?} in\n{text}");
            *if valid { &mut accepted } else { &mut refused } += 1;
        }
    }
    assert!(refused > 500 && accepted > 100, "{refused} refused and {accepted} accepted: what was changed?");
}

#[test]
fn lengths_of_time_that_it_takes_are_ones_that_the_reader_takes() {
    let validator = validator();
    let models = "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n";
    let text = |timeout: &str| format!("{models}[sessions]\ntimeout = {timeout:?}\n");
    let times = [
        "30s", "1m", "1m30s", "1h 30m", "500ms", "1.5s", "24h", "0s", "0h0m", "-1s", "1", "s", "", "soon", "1d 1s",
        "1s!", " 1s", "1d", "1 d",
    ];
    for time in times {
        let valid = validator.is_valid(&json(&Value::Table(text(time).parse().unwrap())));
        assert_eq!(valid, errors(&text(time)).is_empty(), "{time:?}");
        let pause = format!("{models}[rollout]\npause = {time:?}\n");
        let valid = validator.is_valid(&json(&Value::Table(pause.parse().unwrap())));
        assert_eq!(valid, errors(&pause).is_empty(), "a pause of {time:?}");
    }
}

#[test]
fn the_policy_of_the_repository_names_it() {
    let first = fs::read_to_string(root().join("policy.toml")).unwrap().lines().next().unwrap().to_owned();
    let schema = first.strip_prefix("#:schema ").unwrap();
    assert_eq!(root().join(schema).canonicalize().unwrap(), committed().canonicalize().unwrap());
}
