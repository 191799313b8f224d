//! `reconcile launch`, where the policy cannot be read or nothing can be written: its session starts all the same.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::launch::sandbox;
use crate::mounts::needs_mounts;
use crate::support::{POLICY, Run, Sandbox, finish, needs_root};

const COMMAND: [&str; 6] = ["--", "./show", "--model", "{model}", "--resume", "{resume_id}"];
/// A chat that is registered, on a model that the policy would change.
const REGISTRY: &str = r#"{"+1": {"tier": "family", "session_name": "im/1", "model": "opus", "session_id": "s"}}"#;
/// What beside the policy remembers what it said.
const LAST: &str = "policy.toml.reconcile-last";

fn launch(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    sandbox.run(&[&["launch"], arguments, &COMMAND].concat())
}

fn started(run: &Run) -> Vec<&str> {
    assert_eq!(run.code, 0, "{run:#?}");
    run.stdout.lines().collect()
}

/// Policies that are no TOML, each with the line that says so, and whether one line alone names the registry.
fn broken() -> [(String, usize, bool); 6] {
    let chats = |rest: &str| POLICY.replace("[registry]", &format!("[chats]\n{rest}\n\n[registry]"));
    let conflict = "<<<<<<< ours\npath = \"sessions.json\"\n=======\npath = \"other.json\"\n>>>>>>> theirs";
    [
        (chats("\"+1\" = { model = \"opus\""), 14, true),
        (POLICY.replace("fallback = \"sonnet\"", "fallback = \"sonnet"), 4, true),
        (
            POLICY.replace(
                "bots   = \"haiku\"",
                "<<<<<<< ours\nbots = \"opus\"\n=======\nbots = \"haiku\"\n>>>>>>> theirs",
            ),
            9,
            true,
        ),
        (POLICY.replace("path = \"sessions.json\"", conflict), 12, false),
        (POLICY.replace("path = \"sessions.json\"", "path = \"sessions.json"), 12, false),
        (String::new(), 1, false),
    ]
}

#[test]
fn a_policy_that_cannot_be_read_says_where_and_its_sessions_start_where_they_did() {
    for (policy, line, _) in broken() {
        let sandbox = sandbox(POLICY, REGISTRY);
        launch(&sandbox, &["+2", "--tier", "bots"]).expect(0);
        let registry = sandbox.read("sessions.json");
        sandbox.write("policy.toml", &policy);
        for chat in ["+1", "im/1"] {
            let run = launch(&sandbox, &[chat]);
            assert_eq!(started(&run), ["--model", "opus", "--resume", "s"], "{policy}");
            assert!(run.stderr.contains(&format!("--> policy.toml:{line}:")), "{policy}: {run:#?}");
            let note = "sessions.json, which the policy named when it could last be read";
            assert!(run.stderr.contains("note: using the registry /") && run.stderr.contains(note), "{run:#?}");
        }
        assert_eq!(started(&launch(&sandbox, &["+2"])), ["--model", "haiku"]);
        assert_eq!(sandbox.read("sessions.json"), registry, "nothing is written");
        // One that has no model yet is registered, and its program chooses.
        let run = launch(&sandbox, &["+3", "--tier", "bots"]);
        assert_eq!(started(&run), [""]);
        assert!(run.stderr.contains("warning: no model is known for +3: it starts without {model}"), "{run:#?}");
        let registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
        assert_eq!(registry["+3"], json!({ "chat_id": "+3", "tier": "bots" }));

        // What is about past runs works, too.
        for (arguments, shown) in [(&["owed"][..], "No restarts"), (&["history"], " · launch · ")] {
            let run = sandbox.run(arguments).expect(0);
            assert!(run.stdout.contains(shown), "{run:#?}");
            let warning = format!("warning: policy.toml could not be read: line {line}; using the registry /");
            assert!(run.stderr.starts_with(&warning), "{run:#?}");
        }
    }
}

#[test]
fn before_any_launch_one_line_alone_that_names_a_registry_with_the_chat_is_gone_by() {
    for (policy, line, is_told) in broken() {
        let sandbox = sandbox(&policy, REGISTRY);
        sandbox.write("other.json", REGISTRY);
        let run = launch(&sandbox, &["+1"]);
        assert!(run.stderr.contains(&format!("--> policy.toml:{line}:")), "{policy}: {run:#?}");
        if is_told {
            assert_eq!(started(&run), ["--model", "opus", "--resume", "s"], "{policy}");
            assert!(
                run.stderr.contains("note: using the registry sessions.json, which a line of the policy names"),
                "{run:#?}"
            );
            let other = launch(&sandbox, &["+2"]).expect(1);
            assert!(other.stderr.contains("which a line of the policy names, does not have +2"), "{other:#?}");
        } else {
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{policy}: {run:#?}");
        }
        assert_eq!(sandbox.read("sessions.json"), REGISTRY);
        assert!(!sandbox.path(LAST).exists(), "only what could be read is remembered");

        for arguments in [&["owed"][..], &["history"]] {
            let run = sandbox.run(arguments);
            assert_eq!(run.code, i32::from(!is_told), "{run:#?}");
            let told = format!("policy.toml could not be read: line {line}");
            assert!(run.stderr.contains(&told) && !run.stderr.contains("names no registry"), "{run:#?}");
        }
    }
}

#[test]
fn a_line_counts_only_below_its_header_and_where_it_says_something() {
    for (lines, is_told) in [
        ("[registry]\n# path = \"other.json\"\npath = \"sessions.json\"", true),
        ("[registry]\npath = 'sessions.json' # here\n", true),
        ("[registry]\npath = \"sessions.json\"\n[registry]\npath = \"sessions.json\"", true),
        ("registry = { path = \"sessions.json\" }", true),
        ("registry.path = \"sessions.json\"", true),
        ("[other]\npath = \"sessions.json\"", false),
        ("path = \"sessions.json\"", false),
        ("[registry]\npath = sessions.json", false),
        ("[registry]\npath = 5", false),
        ("[registry]\npath = \"nowhere.json\"", false),
        ("[registry]\npath = \"sessions.json\"\npath = \"other.json\"", false),
    ] {
        let sandbox = sandbox(&format!("x = \n{lines}\n"), REGISTRY);
        sandbox.write("other.json", REGISTRY);
        let run = launch(&sandbox, &["+1"]);
        assert_eq!(run.code, i32::from(!is_told), "{lines}: {run:#?}");
    }
    // Nor is a session started that its daemon starts.
    let daemon = format!("x = \n[sessions]\nbackend = \"dispatch\"\n{POLICY}");
    let run = launch(&sandbox(&daemon, REGISTRY), &["+1"]).expect(1);
    assert!(run.stderr.contains("started by their daemon, not by reconcile launch"), "{run:#?}");
}

#[test]
fn a_policy_that_is_gone_is_remembered_and_one_that_can_be_read_again_counts() {
    let sandbox = sandbox(POLICY, REGISTRY);
    launch(&sandbox, &["+2", "--tier", "bots"]).expect(0);
    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    assert_eq!(started(&launch(&sandbox, &["+1"])), ["--model", "opus", "--resume", "s"]);
    // It was not this registry's.
    sandbox.write("other.json", r#"{"+1": {"tier": "family", "model": "haiku"}}"#);
    sandbox.write(
        "policy.toml",
        POLICY.replace("sessions.json", "other.json").replace("family = \"sonnet\"", "family = \"haiku\""),
    );
    assert_eq!(started(&launch(&sandbox, &["+1"])), ["--model", "haiku"]);
    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    assert_eq!(started(&launch(&sandbox, &["+1"])), ["--model", "haiku"], "the last one counts");
}

#[test]
fn a_registry_that_the_command_line_names_is_remembered_where_the_policy_names_none() {
    let sandbox = sandbox(&POLICY.replace("[registry]\npath = \"sessions.json\"\n", ""), REGISTRY);
    launch(&sandbox, &["+2", "--tier", "bots", "--registry", "sessions.json"]).expect(0);
    sandbox.write("policy.toml", "");
    assert_eq!(started(&launch(&sandbox, &["+2"])), ["--model", "haiku"]);
}

/// What is remembered, in a form of this version.
fn last(version: u32) -> String {
    json!({ "version": version, "registry": "sessions.json", "conversation": null }).to_string()
}

#[test]
fn what_is_remembered_counts_only_where_this_program_wrote_it() {
    for (text, counts) in [(last(1), true), (last(2), false), (String::new(), false), ("{".to_owned(), false)] {
        let sandbox = sandbox("", REGISTRY);
        sandbox.write(LAST, &text);
        assert_eq!(launch(&sandbox, &["+1"]).code, i32::from(!counts), "{text}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_another_user_wrote_is_not_remembered() {
    needs_root();
    let sandbox = sandbox("", REGISTRY);
    sandbox.write(LAST, last(1));
    std::os::unix::fs::chown(sandbox.path(LAST), Some(12345), None).unwrap();
    launch(&sandbox, &["+1"]).expect(1);
}

#[test]
fn with_a_policy_that_cannot_be_read_no_registry_is_created() {
    let sandbox = sandbox("x = \n", REGISTRY);
    for path in ["new.json", "no/new.json"] {
        let run = launch(&sandbox, &["+1", "--registry", path]).expect(1);
        assert!(run.stderr.contains(&format!("there is no registry {path}")), "{run:#?}");
    }
    assert!(!sandbox.path("new.json").exists());
}

#[test]
fn conversations_are_found_as_the_policy_last_said() {
    let policy = format!("{POLICY}\n[sessions]\nconversation = \"kept/{{session_id}}\"\n");
    let sandbox = sandbox(&policy, REGISTRY);
    sandbox.has_seen(&["sonnet"]);
    fs::create_dir(sandbox.path("kept")).unwrap();
    sandbox.write("kept/s", "a turn");
    let command = ["--", "./show", "--session-id", "{new_session_id}", "--resume", "{resume_id}"];
    let launch = || sandbox.run(&[&["launch", "+1"], &command[..]].concat());
    assert_eq!(started(&launch()), ["--resume", "s"]);
    sandbox.write("policy.toml", "");
    assert_eq!(started(&launch()), ["--resume", "s"]);
    fs::remove_file(sandbox.path("kept/s")).unwrap();
    assert_eq!(started(&launch()), ["--session-id", "s"]);
}

/// Runs a launch of this chat in a copy of the sandbox, on a file system that `prepare` has made to take nothing.
fn launch_on(sandbox: &Sandbox, prepare: &str, chat: &str) -> Run {
    let script = format!(
        "set -e; mkdir disk; mount -t tmpfs -o size=256k disk disk; cp policy.toml sessions.json show disk/; cd disk; \
         {prepare}; exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_reconcile"), "launch", chat]);
    command.args(["--tier", "family"]).args(COMMAND).current_dir(sandbox.path("")).stdin(Stdio::null());
    let run = finish(&mut command);
    fs::remove_dir(sandbox.path("disk")).unwrap();
    run
}

#[test]
#[ignore = "needs root and unshare"]
fn where_nothing_can_be_written_a_session_starts_on_the_registrys_model() {
    needs_mounts();
    for (prepare, told) in [
        ("mount -o remount,ro disk .", "read-only file system"),
        ("head -c 1000000 /dev/zero > filler || true", "no space left on device"),
    ] {
        let sandbox = sandbox(POLICY, REGISTRY);
        // The policy wants sonnet: that stays to be done.
        let run = launch_on(&sandbox, prepare, "+1");
        assert_eq!(started(&run), ["--model", "opus", "--resume", "s"], "{run:#?}");
        assert!(run.stderr.contains(told) && run.stderr.contains("warning: nothing can be written"), "{run:#?}");
        // One that the registry does not know runs on what the policy says.
        let run = launch_on(&sandbox, prepare, "+2");
        assert_eq!(started(&run), ["--model", "sonnet"], "{run:#?}");
    }
}
