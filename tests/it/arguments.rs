//! What people in a chat choose, such as a name, is in no argument of a command. It is in the environment alone.

use serde_json::{Value, json};

use crate::commands::{CHAT, drifted, with};
use crate::support::{POLICY, Sandbox};

/// Commands that run an argument as code, each with a name in it.
const SCRIPTS: [&str; 109] = [
    // Shells, and programs that start one.
    r#""sh", "-c", "restart {contact_name}""#,
    r#""/bin/bash", "-lc", "restart {contact_name}""#,
    r#""sudo", "-u", "me", "sh", "-c", "restart {contact_name}""#,
    r#""sh", "-ce", "restart {contact_name}""#,
    r#""bash", "-c", "-e", "restart {contact_name}""#,
    r#""sh", "-c", "--", "restart {contact_name}""#,
    r#""sh", "-c{contact_name}""#,
    r#""bash", "-lc{contact_name}""#,
    r#""bash-5.2", "-c", "restart {contact_name}""#,
    r#""rbash", "-c", "restart {contact_name}""#,
    r#""oksh", "-c", "restart {contact_name}""#,
    r#""xonsh", "-c", "restart {contact_name}""#,
    r#""elvish", "-c", "restart {contact_name}""#,
    r#""nu", "--commands", "restart {contact_name}""#,
    r#""busybox", "sh", "-c", "restart {contact_name}""#,
    r#""fish", "--command", "restart {contact_name}""#,
    r#""fish", "-C", "restart {contact_name}""#,
    r#""fish", "--init-command={contact_name}""#,
    r#""cmd", "/c", "restart {contact_name}""#,
    r#""pwsh", "-Command", "{contact_name}""#,
    r#""pwsh", "-EncodedCommand", "{contact_name}""#,
    r#""su", "me", "--command", "restart {contact_name}""#,
    r#""su", "me", "--comm", "restart {contact_name}""#,
    r#""su", "root", "-ctrue {contact_name}""#,
    r#""su", "root", "--command=true {contact_name}""#,
    r#""su", "root", "--com=true {contact_name}""#,
    r#""runuser", "-u", "me", "--session-command", "restart {contact_name}""#,
    r#""doas", "sh", "-c", "restart {contact_name}""#,
    r#""env", "-S", "restart {contact_name}""#,
    r#""env", "-S", "sh -c", "restart {contact_name}""#,
    r#""env", "-Ssh -c", "restart {contact_name}""#,
    r#""env", "-Ssh -c 'true {contact_name}'""#,
    r#""env", "-iSsh", "-c", "restart {contact_name}""#,
    r#""env", "--split-string=sh -c", "restart {contact_name}""#,
    r#""env", "--split-string=sh", "-c", "restart {contact_name}""#,
    r#""env", "--split-string=sh -c 'true {contact_name}'""#,
    r#""env", "PROMPT_COMMAND={contact_name}", "bash", "-i""#,
    r#""flock", "lock", "-c", "restart {contact_name}""#,
    r#""flock", "lock", "-ctrue {contact_name}""#,
    r#""script", "-qc", "restart {contact_name}""#,
    r#""script", "-qctrue {contact_name}", "log""#,
    r#""sg", "group", "-c", "restart {contact_name}""#,
    r#""sg", "group", "restart {contact_name}""#,
    r#""ssh", "host", "restart {contact_name}""#,
    r#""ssh", "-p", "22", "-vi", "key", "host", "restart", "{contact_name}""#,
    r#""ssh", "-p22", "{session_slug}", "restart {contact_name}""#,
    r#""ssh", "-o", "ProxyCommand={contact_name}", "host""#,
    r#""ssh", "-oProxyCommand=true {contact_name}", "host""#,
    r#""ssh", "-{contact_name}", "host""#,
    r#""autossh", "-M", "0", "host", "{contact_name}""#,
    r#""mosh", "host", "--", "{contact_name}""#,
    r#""rsh", "host", "{contact_name}""#,
    r#""kubectl", "exec", "pod", "--", "sh", "-c", "restart {contact_name}""#,
    r#""docker", "exec", "box", "sh", "-c", "restart {contact_name}""#,
    r#""nsenter", "-t", "1", "sh", "-c", "restart {contact_name}""#,
    r#""unshare", "sh", "-c", "restart {contact_name}""#,
    r#""systemd-run", "sh", "-c", "restart {contact_name}""#,
    r#""watch", "-n", "1", "{contact_name}""#,
    r#""parallel", "echo", "{contact_name}""#,
    r#""hyperfine", "{contact_name}""#,
    r#""entr", "-s", "{contact_name}""#,
    r#""socat", "-", "EXEC:{contact_name}""#,
    r#""xterm", "-e", "{contact_name}""#,
    // Terminal multiplexers, which also run what stands in `#(…)`.
    r#""tmux", "respawn-window", "-k", "-t", "=c:={session_slug}", "echo {contact_name}""#,
    r#""tmux", "respawn-window", "-k", "-t", "=c:={session_slug}", "{contact_name}""#,
    r#""tmux", "display-message", "{contact_name}""#,
    r#""env", "A=b", "tmux", "send-keys", "{session_slug} {chat_id}", "Enter""#,
    r#""screen", "-X", "stuff", "{session_name}""#,
    r#""zellij", "action", "write-chars", "{session_name}""#,
    // Languages.
    r#""python3", "-c", "{contact_name}""#,
    r#""/usr/bin/python3.12", "-Ic", "{contact_name}""#,
    r#""pypy3", "-c", "{contact_name}""#,
    r#""ipython", "-c", "{contact_name}""#,
    r#""perl", "-e", "{contact_name}""#,
    r#""perl5.36", "-E", "{contact_name}""#,
    r#""ruby3.2", "-e", "{contact_name}""#,
    r#""jruby", "-e", "{contact_name}""#,
    r#""node", "--eval", "{contact_name}""#,
    r#""nodejs", "-e", "{contact_name}""#,
    r#""bun", "-e", "{contact_name}""#,
    r#""deno", "eval", "{contact_name}""#,
    r#""php8.2", "-r", "{contact_name}""#,
    r#""lua5.4", "-e", "{contact_name}""#,
    r#""luajit", "-e", "{contact_name}""#,
    r#""Rscript", "-e", "{contact_name}""#,
    r#""julia", "-E", "{contact_name}""#,
    r#""tclsh", "{contact_name}""#,
    r#""osascript", "-e", "{contact_name}""#,
    r#""erl", "-eval", "{contact_name}""#,
    r#""elixir", "-e", "{contact_name}""#,
    r#""ghc", "-e", "{contact_name}""#,
    r#""scala", "-e", "{contact_name}""#,
    r#""clojure", "-e", "{contact_name}""#,
    r#""jshell", "-R{contact_name}""#,
    r#""guile", "-c", "{contact_name}""#,
    r#""sbcl", "--eval", "{contact_name}""#,
    // Programs with a language of their own.
    r#""awk", "{contact_name}", "file""#,
    r#""gawk", "BEGIN {{ system(\"restart {session_name}\") }}""#,
    r#""sed", "1e restart {contact_name}", "file""#,
    r#""vim", "-c", "!restart {contact_name}""#,
    r#""emacs", "--batch", "--eval", "{contact_name}""#,
    r#""gdb", "-ex", "shell restart {contact_name}""#,
    r#""sqlite3", "sessions.db", ".shell restart {contact_name}""#,
    r#""psql", "-c", "\\! restart {contact_name}""#,
    r#""git", "-c", "alias.restart=!restart {contact_name}", "restart""#,
    r#""find", ".", "-name", "{tier}", "-exec", "sh", "-c", "{type}", ";""#,
    r#""make", "SHELL={source}", "restart""#,
    r#""tar", "--to-command={contact_name}", "-xf", "sessions.tar""#,
    r#""rsync", "-e", "{contact_name}", "a", "b""#,
];

#[test]
fn no_command_has_a_name_in_its_script() {
    let mut accepted = Vec::new();
    for (key, command) in
        ["restart", "running", "identity"].into_iter().flat_map(|key| SCRIPTS.map(|command| (key, command)))
    {
        let run = drifted(&format!("{key} = [{command}]")).run(&["check"]);
        if run.code != 1 || !run.stdout.contains("RECONCILE_") {
            accepted.push(format!("{key} = [{command}]"));
        }
    }
    assert!(accepted.is_empty(), "{} of {}:\n{}", accepted.len(), 3 * SCRIPTS.len(), accepted.join("\n"));
}

#[test]
fn the_mistake_names_the_variable_to_read_instead() {
    for (name, variable) in [
        ("chat_id", "RECONCILE_CHAT_ID"),
        ("session_name", "RECONCILE_SESSION_NAME"),
        ("contact_name", "RECONCILE_CONTACT_NAME"),
        ("tier", "RECONCILE_TIER"),
        ("type", "RECONCILE_TYPE"),
        ("source", "RECONCILE_SOURCE"),
    ] {
        for argument in [format!("{{{name}}}"), format!("--to={{{name}}}"), format!("a {{{name}}} b")] {
            let run = drifted(&format!("restart = [\"./restart\", {}]", json!(argument))).run(&["check"]).expect(1);
            assert!(run.stdout.contains("error[name-in-argument]"), "{argument}: {run:#?}");
            assert!(run.stdout.contains(&format!("read {variable} from its environment")), "{argument}: {run:#?}");
        }
    }
}

#[test]
fn the_slug_and_the_model_stand_alone_or_beside_plain_text() {
    for (argument, code) in [
        ("{session_slug}", 0),
        ("{model}", 0),
        ("session@{session_slug}.service", 0),
        ("=chats:={session_slug}", 0),
        ("https://example.org/a_b/{session_slug}", 0),
        ("{session_slug}-{model}", 0),
        ("A-Za-z0-9@._/:=-{model}@._/:=-", 0),
        ("restart {session_slug}", 1),
        ("{model};", 1),
        ("$({session_slug})", 1),
        ("{session_slug}\n", 1),
        ("'{model}'", 1),
        ("{{session_slug}}", 1),
        ("é{model}", 1),
    ] {
        for key in ["restart", "running", "identity"] {
            let sandbox = drifted(&format!("{key} = [\"./restart\", {}]", json!(argument)));
            let run = sandbox.run(&["check"]).expect(code);
            assert_eq!(run.stdout.contains("error[placeholder-beside-text]"), code == 1, "{argument}: {run:#?}");
        }
    }
}

#[test]
fn names_in_arguments_lifts_the_rule_and_warns() {
    let command = r#"restart = ["./record", "{contact_name} ({tier})"]"#;
    let sandbox = drifted(&format!("names_in_arguments = true\n{command}"));
    let run = sandbox.run(&["check"]).expect(0);
    assert!(run.stdout.contains("warning[names-in-arguments]"), "{run:#?}");
    assert!(run.stdout.contains("a command may run text that people in a chat wrote"), "{run:#?}");
    sandbox.run(&["check", "--deny", "warnings"]).expect(1);
    sandbox.script("record", "printf '%s\\n' \"$@\" > arguments");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("arguments"), " (family)\n");

    let run = drifted(&format!("names_in_arguments = false\n{command}")).run(&["check"]).expect(1);
    assert!(run.stdout.contains("error[name-in-argument]") && !run.stdout.contains("warning"), "{run:#?}");
}

/// A name that is longer than what a system gives to a command.
fn long_name() -> String {
    format!("a{}", "é".repeat(100_000))
}

/// As much of it as a command is given: up to 4096 bytes, and no half of a character.
fn beginning() -> String {
    format!("a{}", "é".repeat(2047))
}

const CUT: &str = "longer than 4096 bytes";

#[test]
fn a_long_name_is_cut_in_the_environment_and_a_run_says_so_once() {
    let entry = json!({ "tier": "family", "model": "opus", "contact_name": long_name() });
    let whole = json!({ "tier": "family", "model": "opus", "contact_name": beginning() });
    let sandbox = with(
        "restart = [\"./record\"]\nrunning = [\"true\"]\nparallel = 1",
        &json!({ "+1": entry, "+2": entry, "+3": whole }).to_string(),
    );
    sandbox.script("record", "printf '%s\\n' \"$RECONCILE_CONTACT_NAME\" >> names");
    for arguments in [&["--dry-run"][..], &[]] {
        let run = sandbox.run(arguments).expect(0);
        assert_eq!(run.stderr.matches(CUT).count(), 1, "{run:#?}");
        assert!(run.stderr.contains("2 sessions"), "{run:#?}");
    }
    assert_eq!(sandbox.read("names"), format!("{}\n", beginning()).repeat(3));
    assert!(!sandbox.run(&[]).expect(0).stderr.contains(CUT), "nothing was restarted");
}

#[test]
fn a_launch_with_a_long_name_starts_and_says_that_it_is_cut() {
    let sandbox = Sandbox::new(POLICY, &json!({ "+1": { "tier": "bots", "contact_name": long_name() } }).to_string());
    sandbox.script("show", "printf '%s' \"$RECONCILE_CONTACT_NAME\"");
    let run = sandbox.run(&["launch", "+1", "--", "./show"]).expect(0);
    assert_eq!(run.stdout, beginning());
    assert_eq!(run.stderr.matches(CUT).count(), 1, "{run:#?}");
}

#[test]
fn what_tells_sessions_apart_is_passed_whole_or_not_at_all() {
    let fits = "c".repeat(4096);
    let long = "c".repeat(4097);
    let sandbox = with(
        "restart = [\"./record\"]",
        &json!({ &fits: { "model": "opus" }, &long: { "model": "opus" }, "+1": { "model": "opus", "session_name": &long } })
            .to_string(),
    );
    sandbox.script("record", "printf '%s\\n' \"$RECONCILE_CHAT_ID\" >> calls");
    let report: Value = serde_json::from_str(&sandbox.run(&["--format", "json"]).expect(4).stdout).unwrap();
    let details: Vec<&Value> = report["changes"].as_array().unwrap().iter().map(|row| &row["detail"]).collect();
    let refused = |what: &str| json!(format!("its {what} is longer than the 4096 bytes that a command may be given"));
    assert_eq!(details, [&refused("session name"), &Value::Null, &refused("chat id")]);
    assert_eq!(sandbox.calls(), [fits]);
}

#[test]
fn a_launch_holds_ids_as_whole_arguments_and_no_names() {
    let registry = json!({ CHAT: { "tier": "bots", "session_name": "a/b", "session_id": "r" } }).to_string();
    let sandbox = Sandbox::new(POLICY, &registry);
    sandbox.script("show", r#"printf '%s|' "$@""#);
    let run = sandbox.run(&[
        "launch",
        CHAT,
        "--",
        "./show",
        "{chat_id}",
        "{session_name}",
        "{resume_id}",
        "{model}",
        "a@{session_slug}",
    ]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "+16175550142|a/b|r|haiku|a@a-b|"), "{}", run.stderr);

    for (argument, told) in [
        ("{contact_name}", "RECONCILE_CONTACT_NAME"),
        ("{tier}", "RECONCILE_TIER"),
        ("{type}", "RECONCILE_TYPE"),
        ("{source}", "RECONCILE_SOURCE"),
        ("--chat={chat_id}", "RECONCILE_CHAT_ID"),
        ("claude {session_name}", "RECONCILE_SESSION_NAME"),
        ("--resume={resume_id}", "RECONCILE_RESUME_ID"),
        ("claude {model}", "RECONCILE_MODEL"),
        ("{session_slug};", "RECONCILE_SESSION_SLUG"),
    ] {
        let run = sandbox.run(&["launch", CHAT, "--", "./show", argument]).expect(64);
        assert!(run.stderr.contains(told), "{argument}: {run:#?}");
        let in_program = sandbox.run(&["launch", CHAT, "--", argument]).expect(64);
        assert!(in_program.stderr.contains("placeholder in the program's name"), "{argument}: {in_program:#?}");
    }
}
