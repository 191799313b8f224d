//! Pseudonyms: what a redacted snapshot holds, what plans on it are worth, and that nothing else says whose chats they are.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use reconcile::redact::{KEY_LENGTH, Redaction};
use reconcile::report::Format;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::slow::Running;
use crate::support::{POLICY, Run, Sandbox, framed, registry, write_state};

const KEY: &str = "sessions.json.reconcile/redact.key";
const CHATS: [(&str, &str, &str); 3] =
    [("+16175550101", "admin", "haiku"), ("+16175550102", "family", "sonnet"), ("+16175550103", "bots", "")];

fn sandbox() -> Sandbox {
    Sandbox::new(POLICY, &registry(&CHATS))
}

/// The redacted registry, which is saved as `snapshot.json`.
fn snapshot(sandbox: &Sandbox) -> Value {
    let run = sandbox.run(&["snapshot", "--redact"]).expect(0);
    assert_eq!(run.stderr, "");
    sandbox.write("snapshot.json", &run.stdout);
    serde_json::from_str(&run.stdout).unwrap()
}

const ON_SNAPSHOT: [&str; 5] = ["--dry-run", "--registry", "snapshot.json", "--redact-key", KEY];

fn names(snapshot: &Value) -> BTreeSet<&String> {
    snapshot.as_object().unwrap().keys().collect()
}

/// A key that is not the registry's, in a file of this mode.
fn write_key(sandbox: &Sandbox, name: &str, mode: u32) {
    sandbox.write(name, "01".repeat(32));
    fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_that_other_users_can_read_is_not_used() {
    let sandbox = Sandbox::new(POLICY, &registry(&[("a", "family", "opus")]));
    for mode in [0o644, 0o640, 0o604, 0o620] {
        write_key(&sandbox, "open.key", mode);
        let run = sandbox.run(&["snapshot", "--redact", "--redact-key", "open.key"]).expect(1);
        // Redacted output names no file.
        assert!(run.stderr.contains("the redaction key file … is not used: its mode is"), "{run:#?}");
        assert!(run.stderr.contains("hint: chmod 600"), "{run:#?}");
        assert_eq!(run.stdout, "");
    }
    write_key(&sandbox, "open.key", 0o600);
    sandbox.run(&["snapshot", "--redact", "--redact-key", "open.key"]).expect(0);
}

#[test]
fn a_snapshot_holds_only_what_a_policy_asks_for_under_pseudonyms() {
    let sandbox = sandbox();
    let entry = json!({
        "session_name": "imessage/_16175550101", "contact_name": "Ann", "tier": "admin", "type": "individual",
        "source": "imessage", "model": "opus", "session_id": "0c7e", "cwd": "/home/ann", "last": { "text": "Hi Bo" },
    });
    sandbox.write("sessions.json", json!({ "+16175550101": entry, "bare": {} }).to_string());
    let snapshot = snapshot(&sandbox);
    let (id, entry) = snapshot.as_object().unwrap().iter().find(|(_, entry)| entry["tier"] == "admin").unwrap();
    let is_pseudonym = |name: &str, kind: &str| {
        let digits = name.strip_prefix(kind).unwrap_or_else(|| panic!("{name}"));
        assert!(digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{name}");
    };
    is_pseudonym(id, "chat-");
    is_pseudonym(entry["session_name"].as_str().unwrap(), "session-");
    let marker = entry["redacted"].as_str().unwrap();
    let expected = json!({
        "session_name": entry["session_name"], "type": "individual", "tier": "admin", "source": "imessage",
        "model": "opus", "redacted": marker,
    });
    assert_eq!(*entry, expected);
    let bare = snapshot.as_object().unwrap().values().find(|entry| entry["tier"].is_null()).unwrap();
    let expected = json!({
        "session_name": null, "type": null, "tier": null, "source": null, "model": null, "redacted": marker,
    });
    assert_eq!(*bare, expected);
}

#[test]
fn the_key_is_made_by_a_snapshot_alone_and_for_its_owner_alone() {
    let sandbox = sandbox();
    for arguments in [&["--dry-run", "--redact"][..], &["--redact"], &["owed", "--redact"]] {
        let run = sandbox.run(arguments).expect(1);
        assert!(run.stderr.contains("redact.key") && run.stderr.contains("reconcile snapshot --redact"), "{run:#?}");
        assert!(!sandbox.path(KEY).exists(), "{arguments:?}");
    }
    assert_eq!(sandbox.model("+16175550101").as_deref(), Some("haiku"), "without a key nothing is done");
    sandbox.run(&["snapshot"]).expect(64);
    assert!(!sandbox.path(KEY).exists());

    let first = snapshot(&sandbox);
    assert_eq!(fs::metadata(sandbox.path(KEY)).unwrap().permissions().mode() & 0o7777, 0o600);
    let key = sandbox.read(KEY);
    assert_eq!(snapshot(&sandbox), first);
    assert_eq!(sandbox.read(KEY), key);

    write_key(&sandbox, "other.key", 0o600);
    let run = sandbox.run(&["snapshot", "--redact", "--redact-key", "other.key"]).expect(0);
    let other: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(names(&first).is_disjoint(&names(&other)), "another key, other pseudonyms");
}

#[test]
fn snapshots_at_the_same_time_make_one_key() {
    let sandbox = sandbox();
    let start = |_| Running::start(&mut sandbox.command(&["snapshot", "--redact"]));
    let mut runs: Vec<Running> = (0..4).map(start).collect();
    let shown: BTreeSet<String> = runs.iter_mut().map(|run| run.finish().expect(0).stdout).collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(*shown.first().unwrap(), sandbox.run(&["snapshot", "--redact"]).expect(0).stdout);
}

#[test]
fn a_key_that_is_damaged_or_open_to_others_is_not_used() {
    let sandbox = sandbox();
    snapshot(&sandbox);
    let key = sandbox.read(KEY);
    let own = [&["--dry-run", "--redact"][..], &["snapshot", "--redact"]];
    for mode in [0o640, 0o604] {
        fs::set_permissions(sandbox.path(KEY), fs::Permissions::from_mode(mode)).unwrap();
        for arguments in own {
            let run = sandbox.run(arguments).expect(1);
            assert!(run.stderr.contains(&format!("its mode is {mode:04o}, not 0600")), "{run:#?}");
        }
    }
    fs::set_permissions(sandbox.path(KEY), fs::Permissions::from_mode(0o600)).unwrap();
    for damaged in ["", "00", &key[1..], &key.replace(|c: char| c.is_ascii_digit(), "x"), &format!("{key}00")] {
        sandbox.write(KEY, damaged);
        for arguments in own.iter().chain([&&ON_SNAPSHOT[..]]) {
            let run = sandbox.run(arguments).expect(1);
            assert!(run.stderr.contains("redact.key"), "{run:#?}");
            assert_eq!((run.stdout.as_str(), sandbox.read(KEY)), ("", damaged.to_owned()), "a key is never replaced");
        }
    }
}

#[test]
fn a_snapshot_needs_the_key_that_it_was_made_with() {
    let sandbox = sandbox();
    snapshot(&sandbox);
    let run = sandbox.run(&ON_SNAPSHOT[..3]).expect(1);
    assert!(run.stderr.contains("is a redacted snapshot") && run.stderr.contains("--redact-key"), "{run:#?}");
    write_key(&sandbox, "other.key", 0o600);
    let run = sandbox.run(&[&ON_SNAPSHOT[..4], &["other.key"]].concat()).expect(1);
    assert!(run.stderr.contains("was redacted with another key"), "{run:#?}");
    let run = sandbox.run(&[&ON_SNAPSHOT[..4], &["none.key"]].concat()).expect(1);
    assert!(run.stderr.contains("none.key"), "{run:#?}");
}

#[test]
fn a_key_alone_does_not_show_a_registry_as_it_is() {
    let sandbox = sandbox();
    snapshot(&sandbox);
    let run = sandbox.run(&["--dry-run", "--redact-key", KEY]).expect(1);
    assert!(!run.stderr.contains("5550101") && run.stdout.is_empty(), "{run:#?}");
}

#[test]
fn on_a_snapshot_a_run_can_only_plan() {
    let sandbox = sandbox();
    let snapshot = snapshot(&sandbox);
    let before = sandbox.read("snapshot.json");
    let place = &ON_SNAPSHOT[1..];
    let chat = names(&snapshot).first().unwrap().as_str();
    for arguments in [&[][..], &["--redact"], &["set-model", chat, "opus"], &["unset-model", chat]] {
        sandbox.run(&[arguments, place].concat()).expect(1);
    }
    for arguments in [&["set-model", chat, "opus", "--no-policy"][..], &["snapshot", "--redact"]] {
        sandbox.run(&[arguments, place].concat()).expect(1);
    }
    assert_eq!((sandbox.read("snapshot.json"), sandbox.read("policy.toml")), (before, POLICY.to_owned()));
    assert!(!sandbox.path("snapshot.json.reconcile").exists());
}

#[test]
fn overrides_are_mapped_and_rules_that_ask_for_ids_are_errors() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", format!("{POLICY}\n[chats]\n\"+16175550102\" = \"haiku\"\n\"+1999\" = \"opus\"\n"));
    let snapshot = snapshot(&sandbox);
    let family = snapshot.as_object().unwrap().iter().find(|(_, entry)| entry["tier"] == "family").unwrap().0;
    let plan = sandbox.json(&ON_SNAPSHOT);
    let row = crate::support::row(&plan, family);
    assert_eq!((&row["after"], &row["because"]["rule"]), (&json!("haiku"), &json!(format!("chats.{family:?}"))));

    sandbox.write("policy.toml", format!("{POLICY}\n[[rules]]\nchat = \"+1617*\"\nmodel = \"opus\"\n"));
    let run = sandbox.run(&ON_SNAPSHOT).expect(1);
    assert!(run.stderr.contains("selects chats by pattern") && !run.stderr.contains("1617"), "{run:#?}");
    sandbox.run(&["--dry-run", "--redact"]).expect(0);
}

#[test]
fn a_tier_that_the_policy_comes_to_declare_is_found_on_the_snapshot() {
    let friends = ("+16175550104", "cal-ortiz", "sonnet");
    let sandbox = Sandbox::new(POLICY, &registry(&[CHATS[0], friends]));
    let snapshot = snapshot(&sandbox);
    let tiers = snapshot.as_object().unwrap().values().map(|entry| entry["tier"].as_str().unwrap());
    let tiers: BTreeSet<&str> = tiers.collect();
    assert!(tiers.contains("admin") && tiers.iter().any(|tier| tier.starts_with("tier-")), "{tiers:?}");
    assert!(sandbox.run(&ON_SNAPSHOT).expect(0).stdout.contains("1 to change"));

    sandbox.write("policy.toml", POLICY.replace("[tiers]\n", "[tiers]\ncal-ortiz = \"haiku\"\n"));
    let of_snapshot = sandbox.json(&ON_SNAPSHOT);
    assert_eq!(of_snapshot["plan_id"], sandbox.json(&["--dry-run", "--redact"])["plan_id"]);
    let rows = of_snapshot["changes"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["because"]["rule"] == "tiers.cal-ortiz"), "{of_snapshot:#}");
}

#[test]
fn what_cannot_be_redacted_says_so() {
    let sandbox = sandbox();
    snapshot(&sandbox);
    let id = CHATS[0].0;
    let output = ["--dry-run", "--output", "diff=changes.diff"];
    let diff = ["--dry-run", "--format", "diff"];
    let launch = ["launch", id, "--", "true"];
    let edit = ["set-model", id, "opus", "--format", "diff"];
    let of_registry = ["set-model", id, "opus", "--no-policy", "--output", "diff=changes.diff"];
    for arguments in [
        &diff[..],
        &output,
        &edit,
        &of_registry,
        &["undo", "2", "--format", "diff"],
        &launch,
        &["adopt"],
        &["completions", "bash"],
        &["man"],
    ] {
        // A launch's own command ends its line.
        let run = sandbox.run(&[&["--redact"], arguments].concat()).expect(64);
        assert!(run.stdout.is_empty() && !run.stderr.contains("5550101"), "{run:#?}");
    }
    assert!(!sandbox.path("changes.diff").exists());
    assert_eq!(sandbox.read("sessions.json"), registry(&CHATS));
}

#[test]
fn the_plan_that_was_made_on_a_snapshot_is_applied_to_the_registry() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n");
    let sandbox = sandbox();
    sandbox.write("policy.toml", policy);
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    snapshot(&sandbox);
    sandbox.run(&[&ON_SNAPSHOT[..], &["--output", "json=plan.json"]].concat()).expect(0);
    let drifted = sandbox.read("sessions.json");

    sandbox.write("sessions.json", drifted.replace("sonnet", "opus"));
    let run = sandbox.run(&["--plan", "plan.json", "--redact"]).expect(3);
    assert!(run.stderr.contains("+ chat-") && !run.stderr.contains("5550102"), "{run:#?}");
    sandbox.write("sessions.json", drifted);
    let run = sandbox.run(&["--plan", "plan.json", "--redact"]).expect(0);
    assert_eq!(run.summary(), "Applied: 2 changed, 2 restarted, 0 deferred, 0 failed.");
    assert_eq!(BTreeSet::from_iter(sandbox.calls()), [CHATS[0].0, CHATS[2].0].map(str::to_owned).into());
}

#[test]
fn the_pseudonym_of_a_plan_id_is_as_long_as_the_id() {
    let redaction = Redaction::new([7; KEY_LENGTH]);
    let old = "e0a3150c293e7ca2";
    assert_eq!(redaction.plan(old), "31b32313a3ae807e", "that of version 0.1 stays what it was");
    assert_eq!(redaction.plan(&old.repeat(2)), "0dfa42846e2dcde0ed55dc2aa0bdbc08");
}

#[test]
fn a_plan_that_names_chats_is_compared_without_naming_them() {
    let sandbox = sandbox();
    snapshot(&sandbox);
    sandbox.run(&["--dry-run", "--output", "json=plan.json"]).expect(0);
    let drifted = sandbox.read("sessions.json");
    sandbox.write("sessions.json", drifted.replace("sonnet", "opus").replace("\"haiku\"", "\"sonnet\""));
    let run = sandbox.run(&["--plan", "plan.json", "--redact"]).expect(3);
    let told: Vec<&str> = run.stderr.lines().filter_map(|line| line.strip_prefix("note: ")).collect();
    let is_told = |mark: &str, what: &str| told.iter().any(|line| line.starts_with(mark) && line.contains(what));
    assert!(told.len() == 2 && is_told("+ chat-", "opus → sonnet, not in that plan"), "{run:#?}");
    assert!(is_told("~ chat-", "sonnet → opus, was haiku → opus"), "{run:#?}");
    assert!(!run.stderr.contains("555010"), "{run:#?}");
    sandbox.write("sessions.json", drifted);
    sandbox.run(&["--plan", "plan.json", "--redact"]).expect(0);
}

#[test]
fn no_snapshot_is_made_of_a_registry_that_is_malformed() {
    let sandbox = sandbox();
    for damaged in ["", "{", "[]", r#"{"+16175550101": 1}"#, r#"{"+16175550101": {}, "+16175550101": {}}"#] {
        sandbox.write("sessions.json", damaged);
        let run = sandbox.run(&["snapshot", "--redact"]).expect(1);
        assert!(run.stdout.is_empty() && !run.stderr.contains("5550101"), "{run:#?}");
        assert!(run.stderr.contains("registry:1:"), "it says where: {run:#?}");
    }
}

/// A registry of which every name holds a secret: letters that stand nowhere else.
#[derive(Clone, Debug)]
struct Case {
    /// Of each chat, the secrets in id, session name, contact's name and a field that must not be shown.
    chats: Vec<[String; 4]>,
    tiers: Vec<&'static str>,
    models: Vec<&'static str>,
    /// What stands in the policy's reasons, and what a user types by mistake.
    reason: String,
    typed: String,
}

fn cases() -> impl Strategy<Value = Case> {
    let secret = "[QXZ][0-9]{9}";
    let secrets = btree_set(secret, 22).prop_map(|secrets| secrets.into_iter().collect::<Vec<_>>()).prop_shuffle();
    let tiers = vec(select(vec!["admin", "family", "bots", "else", ""]), 5);
    let models = vec(select(vec!["opus", "sonnet", "haiku", "other", ""]), 5);
    (secrets, tiers, models).prop_map(|(secrets, tiers, models)| {
        let chats = secrets.chunks_exact(4).map(|four| std::array::from_fn(|part| four[part].clone())).collect();
        Case { chats, tiers, models, reason: secrets[20].clone(), typed: secrets[21].clone() }
    })
}

impl Case {
    fn secrets(&self) -> impl Iterator<Item = &String> {
        self.chats.iter().flatten().chain([&self.reason, &self.typed])
    }

    fn id(&self, index: usize) -> String {
        format!("+{}", self.chats[index][0])
    }

    fn registry(&self) -> Value {
        let entries = self.chats.iter().enumerate().map(|(index, [_, session, contact, field])| {
            let mut entry = json!({
                "chat_id": self.id(index), "session_name": format!("imessage/_{session}"), "contact_name": contact,
                "type": "individual", "source": "imessage", "cwd": format!("/home/{field}"), "last": { field: field },
            });
            for (name, value) in [("tier", self.tiers[index]), ("model", self.models[index])] {
                if !value.is_empty() {
                    entry[name] = value.into();
                }
            }
            (self.id(index), entry)
        });
        Value::Object(entries.collect())
    }

    /// Two chats have overrides, one of them is over, and one is not managed.
    fn policy(&self, restart: &str) -> String {
        let Self { reason, .. } = self;
        let ids: Vec<String> = (0..3).map(|index| format!("{:?}", self.id(index))).collect();
        format!(
            "{POLICY}\n[chats]\n{} = {{ model = \"opus\", reason = \"{reason}\" }}\n\
             {} = {{ model = \"opus\", until = 2020-01-01, reason = \"{reason}\" }}\n\
             {} = {{ managed = false, reason = \"{reason}\" }}\n[sessions]\nrestart = {restart}\n",
            ids[0], ids[1], ids[2]
        )
    }

    /// Runs it, and looks for secrets in all that it says and writes. Its report has every form that there is.
    fn run(&self, sandbox: &Sandbox, arguments: &[&str]) -> Run {
        let run = sandbox.run(&[&["--redact"], arguments].concat());
        let files = ["out.txt", "out.json", "out.md", "out.prom"].map(|name| sandbox.read(name));
        for said in files.iter().chain([&run.stdout, &run.stderr]) {
            for secret in self.secrets() {
                assert!(!said.contains(secret.as_str()), "{arguments:?} tells {secret}: {run:#?}\n{said}");
            }
        }
        run
    }
}

const EVERYWHERE: [&str; 6] = ["--output", "text=out.txt", "--output", "json=out.json", "--output", "markdown=out.md"];

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

fn nobody_is_named(case: &Case) {
    let policy = case.policy("[\"./restart\"]");
    let sandbox = Sandbox::new(&policy, &case.registry().to_string());
    // It says all it knows, and works for every other chat.
    let fails = format!("env >&2; case $RECONCILE_CHAT_ID in {}) ;; *) exit 1 ;; esac", case.id(0));
    sandbox.script("restart", &fails);
    case.run(&sandbox, &["snapshot"]).expect(0);
    sandbox.write("old.toml", POLICY);
    let ids: Vec<String> = (0..5).map(|index| case.id(index)).collect();
    let session = format!("imessage/_{}", case.chats[0][1]);

    for (format, _) in Format::ALL.into_iter().filter(|(_, format)| !format.quotes_registry()) {
        case.run(&sandbox, &with(&["--dry-run", "--format", format], &EVERYWHERE)).expect(0);
        case.run(&sandbox, &with(&["diff", "--from", "old.toml", "--format", format], &EVERYWHERE)).expect(0);
    }
    for chat in [&ids[0], &session, &case.chats[0][2]] {
        case.run(&sandbox, &["--dry-run", "--chat", chat]).expect(0);
        case.run(&sandbox, &["set-model", chat, "haiku", "--dry-run"]).expect(64);
        let edit = case
            .run(&sandbox, &with(&["set-model", chat, "sonnet", "--dry-run", "--format", "json"], &EVERYWHERE[4..]));
        assert!([0, 4].contains(&edit.code), "{edit:#?}");
        for format in ["text", "json"] {
            case.run(&sandbox, &["explain", chat, "--format", format]).expect(0);
        }
        case.run(&sandbox, &["explain", chat, "--session-name", &case.typed]).expect(1);
    }
    let typed = case.typed.as_str();
    for option in ["--chat", "--tier", "--exclude", "--retry", "--at", "--plan", "--lock-timeout"] {
        let code = if ["--at", "--lock-timeout"].contains(&option) { 64 } else { 1 };
        // A path is not a name of a person.
        if option != "--plan" {
            case.run(&sandbox, &["--dry-run", option, typed]).expect(code);
        }
    }
    case.run(&sandbox, &["set-model", typed, "opus"]).expect(1);
    case.run(&sandbox, &["unset-model", typed]).expect(1);
    case.run(&sandbox, &["unset-model", &ids[4], "--dry-run", "--format", "json"]);
    case.run(&sandbox, &["owed", "--forget", typed]).expect(1);
    case.run(&sandbox, &["owed", "--forget", &ids[0]]).expect(1);
    case.run(&sandbox, &[typed]).expect(64);
    sandbox.write("plan.json", json!({ "plan_id": typed, "changes": typed }).to_string());
    case.run(&sandbox, &["--plan", "plan.json"]).expect(1);
    let change = json!({ "chat_id": ids[4], "before": null, "after": "opus", "edit": true });
    sandbox.write("plan.json", json!({ "plan_id": "0", "changes": [&change] }).to_string());
    case.run(&sandbox, &with(&["--plan", "plan.json"], &EVERYWHERE)).expect(1);
    let digest = Sha256::digest(json!([[ids[4], null, "opus"]]).to_string());
    let id: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    sandbox.write("plan.json", json!({ "plan_id": id, "changes": [change] }).to_string());
    case.run(&sandbox, &with(&["--plan", "plan.json"], &EVERYWHERE)).expect(3);
    case.run(&sandbox, &["set-model", &ids[3], "opus", "--no-policy", "--dry-run", "--format", "json"]).expect(0);
    case.run(&sandbox, &["set-model", &ids[0], "haiku", "--no-policy", "--dry-run", "--format", "json"]).expect(0);

    case.run(&sandbox, &with(&["--allow-changes", "0", "--exclude", &ids[0]], &EVERYWHERE));
    let applied = case.run(&sandbox, &with(&["--allow-changes", "9", "--metrics", "out.prom"], &EVERYWHERE));
    assert!([0, 4].contains(&applied.code), "{applied:#?}");
    case.run(&sandbox, &["owed"]).expect(0);
    case.run(&sandbox, &with(&["--retry", &ids[3], "--allow-changes", "9"], &EVERYWHERE));
    case.run(&sandbox, &["set-model", &ids[3], "haiku", "--reason", typed]);
    case.run(&sandbox, &["unset-model", &ids[3]]);

    for chat in [None, Some(ids[3].as_str()), Some(typed)] {
        for format in ["text", "json"] {
            let words: Vec<&str> = ["history", "--format", format].into_iter().chain(chat).collect();
            case.run(&sandbox, &words).expect(0);
        }
    }
    case.run(&sandbox, &["undo", "2"]);
    let history = sandbox.read("sessions.json.reconcile/history.jsonl");
    let last = history.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    if let Some(run) = last {
        case.run(&sandbox, &["undo", run["run"].as_str().unwrap()]);
    }

    // Who is owed a restart and is gone, and who has another's name.
    let mut changed: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    changed.as_object_mut().unwrap().remove(&ids[4]);
    changed[&ids[3]]["contact_name"] = case.chats[0][2].as_str().into();
    sandbox.write("sessions.json", changed.to_string());
    case.run(&sandbox, &["--dry-run", "--chat", &case.chats[0][2]]).expect(1);
    case.run(&sandbox, &["owed", "--forget", &case.chats[0][2]]).expect(1);
    case.run(&sandbox, &with(&["--allow-changes", "9"], &EVERYWHERE));

    nobody_is_named_by_damage(case, &sandbox, &policy, &changed.to_string());
}

/// Damages the registry, the policy and the state one after the other.
fn nobody_is_named_by_damage(case: &Case, sandbox: &Sandbox, policy: &str, whole: &str) {
    let (ids, typed) = ([case.id(0)], case.typed.as_str());
    let entry = format!("{:?}: {{\"tier\": 1, \"model\": [\"{}\"]}}", ids[0], case.chats[0][3]);
    let twice = format!("{{{entry}, {entry}}}");
    for damaged in [&whole[..whole.len() / 2], &twice] {
        sandbox.write("sessions.json", damaged);
        for arguments in [&["--dry-run"][..], &[], &["snapshot"], &["set-model", &ids[0], "opus"]] {
            case.run(sandbox, arguments).expect(1);
        }
    }
    sandbox.write("sessions.json", whole);
    for mistake in ["\n[chats]", "\nnonsense = 1", "\n\"", "\n[tiers]\nx = \"gpt\""] {
        sandbox.write("policy.toml", format!("{policy}{mistake} # {typed}"));
        case.run(sandbox, &["--dry-run"]).expect(1);
    }
    for format in ["text", "json", "github"] {
        case.run(sandbox, &["check", "--format", format]);
    }
    sandbox.write("policy.toml", policy);
    sandbox.write("sessions.json.reconcile/history.jsonl", format!("{{\"run\": [\"{typed}\"]}}\n"));
    case.run(sandbox, &["history"]);
    let state = sandbox.path("sessions.json.reconcile");
    for name in ["ledger.journal", "ledger.journal.new"] {
        let _ = fs::remove_file(state.join(name));
    }
    for wrong in [json!({ "owed": ids[0] }), json!({ "version": 2, "owed": { &ids[0]: typed } }), json!([ids[0]])] {
        write_state(&state, "owed.json", wrong.to_string());
        case.run(sandbox, &["--dry-run"]).expect(1);
        write_state(&state, "ledger.journal", framed(&wrong));
        case.run(sandbox, &["--dry-run"]).expect(1);
        write_state(&state, "ledger.journal", format!("{wrong}\n"));
        case.run(sandbox, &["--dry-run"]).expect(1);
        fs::remove_file(state.join("ledger.journal")).unwrap();
    }
}

fn plans_are_the_same(case: &Case) {
    let sandbox = Sandbox::new(&case.policy("[\"./restart\"]"), &case.registry().to_string());
    snapshot(&sandbox);
    let of_registry = sandbox.json(&["--dry-run", "--redact"]);
    assert_eq!(sandbox.json(&ON_SNAPSHOT), of_registry);
    assert_eq!(sandbox.json(&[&ON_SNAPSHOT[..], &["--redact"]].concat()), of_registry);
    let plain = sandbox.json(&["--dry-run"]);
    assert_eq!(plain["summary"], of_registry["summary"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_redacted_run_says_names_anybody(case in cases()) {
        nobody_is_named(&case);
    }

    #[test]
    fn the_plan_of_a_snapshot_is_the_redacted_plan_of_the_registry(case in cases()) {
        plans_are_the_same(&case);
    }
}

#[test]
fn no_order_of_owed_restarts_or_of_a_run_tells_that_of_the_ids() {
    let chats: Vec<String> = (0..12).map(|number| format!("+161755501{number:02}")).collect();
    let chats: Vec<_> = chats.iter().map(|chat| (chat.as_str(), "admin", "haiku")).collect();
    let rollout = "[sessions]\nrestart = [\"false\"]\n[rollout]\ncanary = false\nmax_failures = 20\n";
    let sandbox = Sandbox::new(&format!("{POLICY}\n{rollout}"), &registry(&chats));
    snapshot(&sandbox);
    sandbox.run(&["--allow-changes", "20"]).expect(4);
    let owed: Value = serde_json::from_str(&sandbox.run(&["owed", "--redact", "--format", "json"]).stdout).unwrap();
    let run: Value = serde_json::from_str(&sandbox.run(&["history", "--redact", "--format", "json"]).stdout).unwrap();
    for rows in [&owed["owed"], &run["changes"]] {
        let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["chat_id"].as_str().unwrap()).collect();
        assert_eq!(names.len(), 12);
        assert!(names.is_sorted() && names.iter().all(|name| name.starts_with("chat-")), "{names:?}");
    }
    let text = sandbox.run(&["owed", "--redact"]).expect(0).stdout;
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("  chat-")).collect();
    assert!(lines.len() == 12 && lines.is_sorted(), "{text}");
}
