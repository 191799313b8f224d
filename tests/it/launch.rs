//! `reconcile launch`: what a session is started on, and what is registered before.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::support::{POLICY, Run, Sandbox, finish};

/// What a session is started with, unless a test says otherwise.
const COMMAND: [&str; 6] = ["--", "./show", "--model", "{model}", "--resume", "{resume_id}"];

/// With a command that prints its arguments, a line each.
pub fn sandbox(policy: &str, registry: &str) -> Sandbox {
    let sandbox = Sandbox::new(policy, registry);
    sandbox.script("show", r#"printf '%s\n' "$@""#);
    sandbox
}

fn launch(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    sandbox.run(&[&["launch"], arguments, &COMMAND].concat())
}

/// The arguments that a session was started with.
fn started(run: &Run) -> Vec<&str> {
    run.stdout.lines().collect()
}

/// Nothing was written, not even beside the registry.
#[track_caller]
fn assert_untouched(sandbox: &Sandbox, registry: &str) {
    assert_eq!(sandbox.read("sessions.json"), registry);
    for name in ["ledger.journal", "owed.json"] {
        assert_eq!(sandbox.read(&format!("sessions.json.reconcile/{name}")), "", "{name} was written");
    }
    assert!(!sandbox.path("sessions.json.reconcile/registry.new").exists());
}

#[test]
fn a_new_chat_is_registered_before_its_session_starts_on_its_tiers_model() {
    let sandbox = sandbox(POLICY, "{}\n");
    sandbox.script("show", "cat sessions.json\necho $1");
    let fields = ["--session-name", "imessage/_1", "--contact-name", "Ann \"Z\"", "--tier", "bots"];
    let more = ["--type", "individual", "--source", "imessage"];
    let arguments = [&["launch", "+1"], &fields[..], &more, &["--", "./show", "{model}"]].concat();
    let run = sandbox.run(&arguments).expect(0);
    let registered = r#"{
  "+1": {
    "chat_id": "+1",
    "session_name": "imessage/_1",
    "type": "individual",
    "contact_name": "Ann \"Z\"",
    "tier": "bots",
    "source": "imessage",
    "model": "haiku"
  }
}
"#;
    assert_eq!(run.stdout, format!("{registered}haiku\n"));
    assert_eq!(run.stderr, "note: +1 is new in sessions.json\n");
    assert_eq!(sandbox.read("sessions.json"), registered);
    let in_sync = sandbox.run(&[]).expect(0);
    assert_eq!(in_sync.summary(), "No changes. 1 in sync.");
}

#[test]
fn a_contact_that_is_named_like_another_chat_does_not_get_its_session() {
    let registry =
        r#"{"+666": {"contact_name": "+1", "session_name": "im/666", "tier": "bots", "resume_id": "theirs"}}"#;
    let sandbox = sandbox(POLICY, registry);
    let run = launch(&sandbox, &["+1", "--tier", "admin"]).expect(0);
    assert_eq!(started(&run), ["--model", "opus"]);
    assert!(run.stderr.contains("warning: the contact of +666 also has that name"), "{run:?}");
    assert_eq!((sandbox.model("+1").as_deref(), sandbox.model("+666")), (Some("opus"), None));
    // The session's name is the supervisor's, and stands for its chat.
    assert_eq!(started(&launch(&sandbox, &["im/666"]).expect(0)), ["--model", "haiku", "--resume", "theirs"]);
}

#[test]
fn no_number_of_contacts_keeps_a_session_from_starting() {
    let sandbox = sandbox(POLICY, r#"{"+666": {"contact_name": "+1"}, "+667": {"contact_name": "+1"}}"#);
    let run = launch(&sandbox, &["+1", "--tier", "admin"]).expect(0);
    assert_eq!(started(&run), ["--model", "opus"]);
    assert!(run.stderr.contains("warning: the contact of +666 also has that name"), "{run:?}");
    // Once it is registered, it is known by its id.
    assert_eq!(launch(&sandbox, &["+1"]).expect(0).stderr, "");
}

#[test]
fn a_new_chat_whose_session_cannot_be_told_from_another_is_warned_of() {
    let sandbox = sandbox(POLICY, r#"{"+1": {"session_name": "imessage/_1", "tier": "family"}}"#);
    let run = launch(&sandbox, &["+2", "--session-name", "imessage-_1"]).expect(0);
    assert!(run.stderr.contains("warning: the session of +1 has the same slug"), "{run:?}");
    let run = launch(&sandbox, &["+3", "--session-name", "imessage/_3"]).expect(0);
    assert!(!run.stderr.contains("warning"), "{run:?}");
    // Nor can one that gets its name now.
    launch(&sandbox, &["+4"]).expect(0);
    let run = launch(&sandbox, &["+4", "--session-name", "imessage-_3"]).expect(0);
    assert!(run.stderr.contains("warning: the session of +3 has the same slug"), "{run:?}");
    assert_eq!(launch(&sandbox, &["+4"]).expect(0).stderr, "");
}

#[test]
fn a_new_chat_of_which_nothing_is_said_gets_the_fallback() {
    let sandbox = sandbox(POLICY, "{}");
    let run = launch(&sandbox, &["+1"]).expect(0);
    assert_eq!(started(&run), ["--model", "sonnet"]);
    assert_eq!(sandbox.read("sessions.json").replace(['\n', ' '], ""), r#"{"+1":{"chat_id":"+1","model":"sonnet"}}"#);
    // An option without a value says nothing either, as supervisors write what they do not know.
    launch(&sandbox, &["+2", "--tier", "", "--session-name="]).expect(0);
    let registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    assert_eq!(registry["+2"], json!({ "chat_id": "+2", "model": "sonnet" }));
}

#[test]
fn a_session_is_resumed_by_its_session_id_else_its_resume_id_else_not_at_all() {
    for (fields, resumed) in [
        (json!({ "session_id": "s", "resume_id": "r" }), Some("s")),
        (json!({ "resume_id": "r", "session_id": null }), Some("r")),
        (json!({ "resume_id": "r", "session_id": "" }), Some("r")),
        (json!({ "resume_id": "r" }), Some("r")),
        (json!({ "session_id": "s", "resume_id": "" }), Some("s")),
        (json!({ "session_id": "", "resume_id": null }), None),
        (json!({ "session_id": 7, "resume_id": ["r"] }), None),
        (json!({}), None),
    ] {
        let mut entry = json!({ "tier": "family", "model": "sonnet" });
        entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let registry = json!({ "+1": entry }).to_string();
        let sandbox = sandbox(POLICY, &registry);
        let run = launch(&sandbox, &["+1"]).expect(0);
        let expected = resumed.map_or(vec!["--model", "sonnet"], |id| vec!["--model", "sonnet", "--resume", id]);
        assert_eq!((started(&run), run.stderr.as_str()), (expected, ""), "{registry}");
        assert_untouched(&sandbox, &registry);
    }
}

#[test]
fn where_there_is_nothing_to_resume_the_argument_goes_and_the_option_right_before_it() {
    for (command, resumed, new) in [
        (vec!["--resume", "{resume_id}", "x"], vec!["--resume", "r", "x"], vec!["x"]),
        (vec!["-r", "{resume_id}", "-v"], vec!["-r", "r", "-v"], vec!["-v"]),
        (vec!["-v", "--resume", "{resume_id}"], vec!["-v", "--resume", "r"], vec!["-v"]),
        (vec!["resume", "{resume_id}"], vec!["resume", "r"], vec!["resume"]),
        (vec!["--model={model}", "{resume_id}"], vec!["--model=sonnet", "r"], vec!["--model=sonnet"]),
        (vec!["{\"id\": 1}", "{resume_id}"], vec!["{\"id\": 1}", "r"], vec!["{\"id\": 1}"]),
    ] {
        let registry = r#"{"old": {"tier": "family", "model": "sonnet", "resume_id": "r"},
            "new": {"tier": "family", "model": "sonnet"}}"#;
        let sandbox = sandbox(POLICY, registry);
        for (chat, expected) in [("old", resumed), ("new", new)] {
            let run = sandbox.run(&[&["launch", chat, "--", "./show"], &command[..]].concat()).expect(0);
            assert_eq!(started(&run), expected, "{command:?}");
        }
    }
}

#[test]
fn the_fields_of_the_registry_win_and_options_fill_what_it_lacks() {
    let registry = r#"{"+1": {"chat_id": "+1", "tier": "bots", "contact_name": "Ann", "x": [1,  2]}}"#;
    let sandbox = sandbox(POLICY, registry);
    let given = ["--tier", "admin", "--contact-name", "Zoe", "--session-name", "s/1", "--source", "signal"];
    let variables = ["TIER", "CONTACT_NAME", "SOURCE", "TYPE"].map(|name| format!("\"$RECONCILE_{name}.\"")).join(" ");
    sandbox.script("show", &format!("printf '%s\\n' \"$@\" {variables}"));
    let command = ["--", "./show", "{model}", "{session_slug}", "{session_name}"];
    let run = sandbox.run(&[&["launch", "+1"], &given[..], &command].concat()).expect(0);
    assert_eq!(started(&run), ["haiku", "s-1", "s/1", "bots.", "Ann.", "signal.", "."]);
    let added = r#""session_name": "s/1", "source": "signal", "model": "haiku""#;
    let expected = registry.replace("2]}", &format!("2], {added}}}"));
    assert_eq!(sandbox.read("sessions.json"), expected);
    // From now on it is known by its session, too, and there is nothing to add.
    for name in ["+1", "s/1"] {
        assert_eq!(launch(&sandbox, &[name, "--tier", "admin"]).expect(0).stderr, "");
        assert_eq!(sandbox.read("sessions.json"), expected);
    }
}

#[test]
fn a_field_without_a_value_is_left_so_and_the_option_does_not_count() {
    let registry = r#"{"+1": {"tier": null, "source": 5, "session_name": "", "model": "sonnet"}}"#;
    let sandbox = sandbox(POLICY, registry);
    let run = launch(&sandbox, &["+1", "--tier", "bots", "--source", "x", "--session-name", "s/1"]).expect(0);
    // Else the next run, which knows the registry alone, would change the model back.
    assert_eq!(started(&run), ["--model", "sonnet"]);
    for field in ["tier", "source", "session_name"] {
        assert!(run.stderr.contains(&format!("warning: the entry of +1 has `{field}` without a value")), "{run:#?}");
    }
    assert_untouched(&sandbox, registry);
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 1 in sync.");
    assert_eq!(launch(&sandbox, &["+1"]).expect(0).stderr, "");
}

#[test]
fn what_the_policy_says_decides_as_it_does_in_a_run() {
    let keep = POLICY.replace("[registry]", "[registry]\nexisting = \"keep\"");
    let alias = POLICY.replace("[models]", "[models]\naliases = { \"claude-opus-4\" = \"opus\" }");
    let chats = |rest: &str| format!("{POLICY}\n[chats]\n\"+1\" = {rest}\n");
    let unset = |policy: &str| format!("{policy}\n[sessions]\nunset_runs = \"opus\"\n");
    let rule = format!("{POLICY}\n[[rules]]\nsource = \"discord\"\nmodel = \"haiku\"\n");
    for (policy, entry, runs, registered) in [
        (POLICY, json!({ "tier": "family", "model": "opus" }), "sonnet", Some("sonnet")),
        (POLICY, json!({ "tier": "family", "model": null }), "sonnet", Some("sonnet")),
        (POLICY, json!({ "tier": "family", "model": "" }), "sonnet", Some("sonnet")),
        (&keep, json!({ "tier": "family", "model": "opus" }), "opus", Some("opus")),
        (&keep, json!({ "tier": "family", "model": "gpt" }), "sonnet", Some("sonnet")),
        (&alias, json!({ "tier": "admin", "model": "claude-opus-4" }), "opus", Some("claude-opus-4")),
        (&chats("\"haiku\""), json!({ "tier": "admin", "model": "opus" }), "haiku", Some("haiku")),
        (&chats("{ model = \"haiku\", until = 2020-01-01 }"), json!({ "tier": "admin" }), "opus", Some("opus")),
        (&rule, json!({ "tier": "admin", "source": "discord" }), "haiku", Some("haiku")),
        // Another program sets the model of a chat that is not managed, and it must run on something until it does.
        (&chats("{ managed = false }"), json!({ "tier": "admin", "model": "gpt" }), "gpt", Some("gpt")),
        (&chats("{ managed = false }"), json!({ "tier": "bots" }), "haiku", None),
        (&unset(&chats("{ managed = false }")), json!({ "tier": "bots" }), "opus", None),
    ] {
        let sandbox = sandbox(policy, &json!({ "+1": entry }).to_string());
        let run = launch(&sandbox, &["+1"]);
        assert_eq!((run.code, started(&run)), (0, vec!["--model", runs]), "{entry} {run:#?}");
        assert_eq!(sandbox.model("+1").as_deref(), registered, "{entry}");
        assert!(sandbox.run(&[]).expect(0).summary().starts_with("No changes."), "{entry}");
    }
}

#[test]
fn what_must_not_stand_in_a_command_is_refused_before_anything_is_written() {
    for (entry, argument, complaint) in [
        (json!({ "session_name": "--yolo" }), "{session_name}", "would be taken for an option"),
        (json!({ "resume_id": "--yolo" }), "{resume_id}", "would be taken for an option"),
        (json!({ "session_name": "a\nb" }), "{session_name}", "control character"),
        (json!({ "session_name": "a\u{0}b" }), "x", "its session name contains a NUL byte"),
        (json!({ "type": null }), "{session_name}", "needs a session name"),
        (json!({ "type": null }), "{session_slug}", "needs a session name"),
    ] {
        let registry = json!({ "+1": entry }).to_string();
        let sandbox = sandbox(POLICY, &registry);
        let run = sandbox.run(&["launch", "+1", "--tier", "bots", "--", "./show", argument]).expect(1);
        assert!(
            run.stderr.contains("the session of +1 cannot be started") && run.stderr.contains(complaint),
            "{run:#?}"
        );
        assert!(!run.stderr.contains(['\u{1b}', '\u{0}']), "{run:#?}");
        assert_eq!(run.stdout, "");
        assert_untouched(&sandbox, &registry);
    }
    // Nor does an option put there what a registry must not: the same is asked of a new chat.
    let sandbox = sandbox(POLICY, "{}");
    sandbox.run(&["launch", "+1", "--session-name=-x", "--", "./show", "{session_name}"]).expect(1);
    assert_untouched(&sandbox, "{}");
}

#[test]
fn a_model_of_the_registry_is_an_argument_only_if_it_is_plain() {
    let policy = format!("{POLICY}\n[chats]\n\"+1\" = {{ managed = false }}\n");
    for model in ["gpt 5", "-5", "$(id)", "é"] {
        let registry = json!({ "+1": { "type": null, "model": model } }).to_string();
        let sandbox = sandbox(&policy, &registry);
        for argument in ["{model}", "--model={model}"] {
            let run = sandbox.run(&["launch", "+1", "--", "./show", argument]).expect(1);
            assert!(run.stderr.contains(&format!("its model {model:?} cannot be an argument")), "{run:#?}");
        }
        assert_untouched(&sandbox, &registry);
        sandbox.script("show", "printf %s \"$RECONCILE_MODEL\"");
        assert_eq!(sandbox.run(&["launch", "+1", "--", "./show"]).expect(0).stdout, model);
    }
}

#[test]
fn a_hostile_name_that_no_argument_holds_is_shown_escaped_and_stays_as_it_is() {
    let sandbox = sandbox(POLICY, "{}");
    let chat = "a\u{1b}[2J\"\\\n";
    let run = launch(&sandbox, &[chat]).expect(0);
    assert!(!run.stderr.contains('\u{1b}') && run.stderr.lines().count() == 1, "{run:#?}");
    let registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    assert_eq!(registry[chat]["chat_id"], chat);
}

#[test]
fn a_policy_that_cannot_be_used_keeps_no_session_from_starting_on_the_registrys_model() {
    let broken = format!("{POLICY}\n[tiers]\n");
    let unknown = POLICY.replace("haiku\"\n", "haikou\"\n");
    for (policy, place) in [(Some(&broken), true), (Some(&unknown), false), (None, true)] {
        let registry = r#"{"+1": {"tier": "family", "model": "opus", "resume_id": "r"}, "+2": {"tier": "family"}}"#;
        let sandbox = sandbox("", registry);
        match policy {
            Some(policy) => sandbox.write("policy.toml", policy),
            None => fs::remove_file(sandbox.path("policy.toml")).unwrap(),
        }
        let place: &[&str] = if place { &["--registry", "sessions.json"] } else { &[] };
        let run = launch(&sandbox, &[&["+1"], place].concat()).expect(0);
        assert_eq!(started(&run), ["--model", "opus", "--resume", "r"]);
        let warning = "warning: the policy cannot be used: the session starts on the registry's model";
        assert!(run.stderr.contains("error") && run.stderr.contains(warning), "{run:#?}");
        assert_untouched(&sandbox, registry);

        for chat in ["+2", "+3"] {
            let none = launch(&sandbox, &[&[chat], place].concat()).expect(0);
            assert_eq!(started(&none), [""], "no arguments");
            assert!(none.stderr.contains(&format!("warning: no model is known for {chat}")), "{none:#?}");
        }
    }
}

#[test]
fn a_policy_that_cannot_be_used_still_says_where_the_registry_is_if_that_can_be_read() {
    let registry = r#"{"+1": {"tier": "bots", "model": "opus"}}"#;
    let syntax = sandbox(&format!("{POLICY}\n[tiers\n"), registry);
    assert_eq!(started(&launch(&syntax, &["+1"]).expect(0)), ["--model", "opus"]);
    let silent = sandbox("[models]\nallowed = 5\n", registry);
    let run = launch(&silent, &["+1"]).expect(1);
    assert!(
        run.stderr.contains("no registry given\nhint: set registry.path in the policy, or pass --registry"),
        "{run:#?}"
    );
    assert_untouched(&silent, registry);
}

#[test]
fn where_a_daemon_starts_its_own_sessions_a_launch_is_refused() {
    let dispatch = format!("{POLICY}\n[sessions]\nbackend = \"dispatch\"\nsocket = \"daemon.sock\"\n");
    for policy in [dispatch.clone(), format!("{dispatch}nonsense = 1\n")] {
        let registry = r#"{"+1": {"model": "opus"}}"#;
        let sandbox = sandbox(&policy, registry);
        let run = launch(&sandbox, &["+1"]).expect(1);
        assert!(run.stderr.contains("started by their daemon, not by reconcile launch"), "{run:#?}");
        assert_eq!(run.stdout, "");
        assert_untouched(&sandbox, registry);
    }
}

#[test]
fn no_session_is_started_from_a_redacted_snapshot() {
    let sandbox = sandbox(POLICY, r#"{"+1": {"tier": "family"}}"#);
    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    sandbox.write("snapshot.json", &snapshot);
    let run = launch(&sandbox, &["+1", "--registry", "snapshot.json"]).expect(1);
    assert!(run.stderr.contains("snapshot.json is a redacted snapshot, not a registry"), "{run:?}");
    assert_eq!((run.stdout.as_str(), sandbox.read("snapshot.json")), ("", snapshot));
}

#[test]
fn a_missing_registry_is_created_for_its_owner_alone() {
    let sandbox = sandbox(POLICY, "");
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    launch(&sandbox, &["+1", "--tier", "bots"]).expect(0);
    assert_eq!(sandbox.model("+1").as_deref(), Some("haiku"));
    let mode = |name: &str| fs::metadata(sandbox.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("sessions.json"), mode("sessions.json.reconcile")), (0o600, 0o700));
    assert!(!sandbox.path("sessions.json.reconcile/registry.new").exists());
    // From then on it is a registry like any other.
    fs::set_permissions(sandbox.path("sessions.json"), fs::Permissions::from_mode(0o640)).unwrap();
    launch(&sandbox, &["+2"]).expect(0);
    assert_eq!((mode("sessions.json"), sandbox.model("+2").as_deref()), (0o640, Some("sonnet")));
}

#[test]
fn what_a_run_left_that_died_is_removed_though_there_is_nothing_to_write() {
    let sandbox = sandbox(POLICY, r#"{"+1": {"tier": "family"}}"#);
    launch(&sandbox, &["+1"]).expect(0);
    for name in ["ledger.journal.new", "registry.new"] {
        let left = format!("sessions.json.reconcile/{name}");
        sandbox.write(&left, "half");
        fs::set_permissions(sandbox.path(&left), fs::Permissions::from_mode(0o600)).unwrap();
        launch(&sandbox, &["+1"]).expect(0);
        assert!(!sandbox.path(&left).exists(), "{name}");
    }
}

#[test]
fn only_a_missing_registry_is_created() {
    let fresh = || {
        let sandbox = sandbox(POLICY, "");
        fs::remove_file(sandbox.path("sessions.json")).unwrap();
        sandbox
    };
    let link = fresh();
    symlink("nowhere.json", link.path("sessions.json")).unwrap();
    let run = launch(&link, &["+1"]).expect(1);
    assert!(run.stderr.contains("there is no registry sessions.json"), "{run:#?}");
    assert!(!link.path("nowhere.json").exists() && !link.path("sessions.json.reconcile").exists());

    let directory = fresh();
    let run = launch(&directory, &["+1", "--registry", "no/sessions.json"]).expect(1);
    assert!(run.stderr.contains("cannot find the directory no: no such file or directory"), "{run:#?}");
    assert!(!directory.path("no").exists());

    for (text, complaint) in [
        ("", "the registry is empty"),
        (" \n", "the registry is empty"),
        ("{", "malformed"),
        ("[]", "not a JSON object"),
        (r#"{"a": {"model": "opus"}, "b": 5}"#, "not an object"),
        (r#"{"a": {"model": "opus"}, "a": {}}"#, "is defined twice"),
    ] {
        let damaged = sandbox(POLICY, text);
        let run = launch(&damaged, &["+1"]).expect(1);
        assert!(run.stderr.contains(complaint) && run.stdout.is_empty(), "{run:#?}");
        assert_untouched(&damaged, text);
    }
}

#[test]
fn of_two_launches_that_both_find_no_registry_neither_is_lost() {
    for _ in 0..20 {
        let sandbox = sandbox(POLICY, "");
        fs::remove_file(sandbox.path("sessions.json")).unwrap();
        let start = |chat| {
            let arguments = [&["launch", chat, "--tier", "bots"], &COMMAND[..]].concat();
            let mut command = sandbox.command(&arguments);
            std::thread::spawn(move || finish(&mut command))
        };
        for launch in [start("a"), start("b")] {
            assert_eq!(started(&launch.join().unwrap().expect(0)), ["--model", "haiku"]);
        }
        assert_eq!((sandbox.model("a"), sandbox.model("b")), (Some("haiku".into()), Some("haiku".into())));
    }
}

#[test]
fn a_command_line_that_cannot_be_meant_is_wrong_usage() {
    let registry = "{}";
    let sandbox = sandbox(POLICY, registry);
    for (arguments, complaint) in [
        (vec!["launch"], "<CHAT>"),
        (vec!["launch", "+1"], "<COMMAND>"),
        (vec!["launch", "+1", "--"], "<COMMAND>"),
        (vec!["launch", "+1", "./show"], "unexpected argument"),
        (vec!["launch", "+1", "--mode", "x", "--", "./show"], "unexpected argument"),
        (vec!["launch", "", "--", "./show"], "the chat's id is empty"),
        (vec!["launch", "+1", "--", "./show", "{modle}"], "did you mean `model`?"),
        (vec!["launch", "+1", "--", "./show", "{resume}"], "unknown placeholder `{resume}`"),
        (vec!["launch", "+1", "--", "sh", "-c", "claude {contact_name}"], "is not allowed in an argument"),
        (vec!["launch", "+1", "--", "su", "me", "-cclaude {resume_id}"], "only as an argument of its own"),
        (vec!["launch", "+1", "--", "env", "bash", "-lc", "claude {resume_id}"], "only as an argument of its own"),
        (vec!["--dry-run", "launch", "+1", "--", "./show"], "an option before a subcommand belongs to a run"),
    ] {
        let run = sandbox.run(&arguments).expect(64);
        assert!(run.stderr.contains(complaint), "{arguments:?} {run:#?}");
        assert_eq!(run.stdout, "");
        assert!(!sandbox.path("sessions.json.reconcile").exists(), "{arguments:?}");
    }
    assert_untouched(&sandbox, registry);
}

#[test]
fn the_help_shows_the_form_for_what_there_is_to_resume() {
    let help = sandbox(POLICY, "{}").run(&["launch", "--help"]).expect(0).stdout;
    assert!(help.contains("claude --model {model} --session-id {new_session_id} --resume {resume_id}"), "{help}");
}
