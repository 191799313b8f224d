//! The commands of a policy, run for real: what they are given, how they end, and what follows from that.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{POLICY, Run, Sandbox, finish, registry, row};

const CHAT: &str = "+16175550142";
const RECORD: &str = r#"restart = ["./restart", "{session_slug}"]"#;

/// One chat that runs opus and should run sonnet, and a policy with these lines about sessions.
fn drifted(sessions: &str) -> Sandbox {
    with(sessions, &registry(&[(CHAT, "family", "opus")]))
}

fn with(sessions: &str, registry: &str) -> Sandbox {
    Sandbox::new(&format!("{POLICY}\n[sessions]\n{sessions}\n"), registry)
}

/// A registry of this one entry, with whatever it has beyond its id.
fn entry(chat: &str, fields: &Value) -> String {
    let mut entry = json!({ "chat_id": chat, "model": "opus" });
    entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ chat: entry }).to_string()
}

fn debt(sandbox: &Sandbox) -> Value {
    sandbox.ledger()["owed"][CHAT].clone()
}

/// Whether a process does anything. One that has ended and that nobody waited for does not.
fn is_alive(pid: &str) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().unwrap().stdout;
    !matches!(state.trim_ascii().first(), None | Some(b'Z'))
}

#[test]
fn a_session_left_in_the_background_holds_nothing_up() {
    let sandbox = drifted(RECORD);
    sandbox.script("restart", "sleep 600 &\necho $! > session");
    let run = sandbox.run(&[]).expect(0);
    let session = sandbox.read("session");
    let survived = is_alive(&session);
    Command::new("kill").arg(session.trim()).status().unwrap();
    assert!(survived, "the session must outlive the run");
    assert_eq!(run.summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_eq!(debt(&sandbox), Value::Null);
}

#[test]
fn a_restart_that_hangs_is_ended_with_all_that_it_started() {
    let sandbox = with(
        &format!("{RECORD}\ntimeout = \"1s\""),
        &registry(&[(CHAT, "family", "opus"), ("+16175550143", "family", "opus")]),
    );
    // One of the two ends when asked to, the other has to be made to.
    sandbox.script(
        "restart",
        "case $1 in *143) trap '' TERM;; esac\nsleep 600 & echo $! >> session; echo $$ >> session; while :; do wait; done",
    );
    let run = sandbox.run(&["--format", "json"]).expect(4);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    for chat in [CHAT, "+16175550143"] {
        assert_eq!(row(&report, chat)["outcome"], "failed");
        assert_eq!(row(&report, chat)["detail"], "the restart command (./restart) took longer than 1s and was ended");
        assert_eq!(sandbox.ledger()["owed"][chat]["attempts"], 1);
    }
    let processes = sandbox.read("session");
    assert_eq!(processes.lines().count(), 4);
    for process in processes.lines() {
        assert!(!is_alive(process), "{process} outlived the run");
    }
}

#[test]
fn a_failed_restart_stays_owed_and_waits_until_it_is_tried_again() {
    let sandbox = drifted(RECORD);
    sandbox.script("restart", "echo $1 >> calls\necho no such process >&2\ntest -e works");
    let run = sandbox.run(&[]).expect(4);
    assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 1 failed, 1 restart still owed.");
    assert!(
        run.stdout.contains("      | the restart command (./restart) exited with code 1: no such process\n"),
        "{run:#?}"
    );
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("sonnet"));
    let owed = debt(&sandbox);
    assert_eq!((&owed["attempts"], &owed["began"], &owed["ran"]), (&json!(1), &json!(true), &json!("opus")));

    let report = sandbox.json(&[]);
    assert_eq!(row(&report, CHAT)["outcome"], "deferred");
    assert_eq!(row(&report, CHAT)["detail"], "the restart failed before and waits for its next try");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls().len(), 1, "a debt that waits is left alone");

    sandbox.run(&["--retry", CHAT]).expect(4);
    assert_eq!((sandbox.calls().len(), debt(&sandbox)["attempts"].clone()), (2, json!(2)));

    sandbox.write("works", "");
    let run = sandbox.run(&["--retry", CHAT]).expect(0);
    assert_eq!(run.summary(), "Applied: 0 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_eq!(debt(&sandbox), Value::Null);
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 1 in sync.");
    assert_eq!(sandbox.calls(), ["imessage-_16175550142"; 3]);
}

#[test]
fn a_change_of_mind_does_not_cancel_a_restart_that_was_begun() {
    let sandbox = drifted(RECORD);
    sandbox.script("restart", "echo $RECONCILE_MODEL >> calls\ntest -e works");
    sandbox.run(&[]).expect(4);
    sandbox.write("works", "");
    let policy = sandbox.read("policy.toml");
    sandbox.write("policy.toml", policy.replace("family = \"sonnet\"", "family = \"opus\""));
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls(), ["sonnet", "opus"], "nobody knows what a failed restart left running");
    assert_eq!(debt(&sandbox), Value::Null);
}

#[test]
fn only_the_end_of_a_complaint_is_shown_and_escaped() {
    let sandbox = drifted(RECORD);
    sandbox.script(
        "restart",
        "i=0; while [ $i -lt 500 ]; do echo \"line $i of many\" >&2; i=$((i+1)); done\n\
         printf '::error::\\033[31mred\\007 \\342\\200\\256left\\n::warning::\\377\\n' >&2\nexit 7",
    );
    let run = sandbox.run(&[]).expect(4);
    assert!(
        run.stdout.contains("\n      | ::error::\\u{1b}[31mred\\u{7} \\u{202e}left\n      | ::warning::\u{fffd}\n")
    );
    assert!(run.stdout.contains("exited with code 7: "));
    assert!(!run.stdout.lines().any(|line| line.starts_with("::")), "{run:#?}");
    assert!(run.stdout.contains("line 499 of many") && !run.stdout.contains("line 100 of many"));

    let report = sandbox.run(&["--retry", CHAT, "--format", "json"]).expect(4).stdout;
    assert!(!report.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let detail = row(&report, CHAT)["detail"].as_str().unwrap().to_owned();
    let complaint = detail.strip_prefix("the restart command (./restart) exited with code 7: ").unwrap();
    assert!(complaint.ends_with("red\u{7} \u{202e}left\n::warning::\u{fffd}"));
    // One byte of the last 4 KiB was a line's end, and one stands for three since it was no UTF-8.
    assert_eq!(complaint.len(), 4096 - 1 + 2);
    assert!(!sandbox.read("sessions.json.reconcile/history.jsonl").contains("many"), "no output of commands is kept");
}

#[test]
fn only_codes_1_and_3_of_running_spare_a_session_its_restart() {
    let spared = "not running: it starts on its model";
    for (running, restarts) in [
        ("exit 0", true),
        ("exit 1", false),
        ("exit 3", false),
        ("exit 2", true),
        ("exit 4", true),
        ("kill -9 $$", true),
        ("sleep 600", true),
    ] {
        let sandbox = drifted(&format!(
            "{RECORD}\nrunning = [\"./running\", \"{{session_slug}}\"]\n{}",
            if running.starts_with("sleep") { "timeout = \"1s\"" } else { "" }
        ));
        sandbox.script("running", &format!("echo running $1 >> calls\n{running}"));
        sandbox.script("restart", "echo restart $1 >> calls");
        let report = sandbox.json(&[]);
        let mut calls = vec!["running imessage-_16175550142"];
        calls.extend(restarts.then_some("restart imessage-_16175550142"));
        assert_eq!(sandbox.calls(), calls, "{running}");
        let row = row(&report, CHAT);
        assert_eq!(row["outcome"], "done", "{running}");
        assert_eq!(row["detail"], if restarts { Value::Null } else { json!(spared) }, "{running}");
        assert_eq!(report["summary"]["changed"], 1, "{running}");
        assert_eq!(report["summary"]["restarted"], usize::from(restarts), "{running}");
        assert_eq!((&report["summary"]["owed"], debt(&sandbox)), (&json!(0), Value::Null), "{running}");
    }
}

#[test]
fn a_missing_running_command_spares_nobody_a_restart() {
    let sandbox = drifted(&format!("{RECORD}\nrunning = [\"./nowhere\"]"));
    sandbox.script("restart", "echo $1 >> calls");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls(), ["imessage-_16175550142"]);
}

#[test]
fn a_missing_restart_command_fails_the_row() {
    let sandbox = drifted(RECORD);
    let report = sandbox.json(&[]);
    assert_eq!(row(&report, CHAT)["outcome"], "failed");
    let detail = row(&report, CHAT)["detail"].as_str().unwrap();
    assert!(detail.starts_with("the restart command (./restart) could not be started: "), "{detail}");
    assert_eq!((sandbox.model(CHAT).as_deref(), &debt(&sandbox)["attempts"]), (Some("sonnet"), &json!(1)));
    sandbox.script("restart", "exit 0");
    sandbox.run(&["--retry", CHAT]).expect(0);
}

#[test]
fn one_failure_stops_no_other_restart() {
    let chats: Vec<String> = (0..6).map(|n| format!("+1617555020{n}")).collect();
    let entries: Vec<_> = chats.iter().map(|chat| (chat.as_str(), "family", "opus")).collect();
    let sandbox = with(&format!("{RECORD}\nparallel = 2"), &registry(&entries));
    sandbox.script("restart", "case $1 in *0) exit 1;; *1) kill -9 $$;; esac");
    let report = sandbox.json(&[]);
    assert_eq!((&report["summary"]["restarted"], &report["summary"]["failed"]), (&json!(4), &json!(2)));
    assert_eq!(row(&report, &chats[1])["detail"], "the restart command (./restart) was ended by signal 9");
    let ledger = sandbox.ledger();
    assert_eq!(ledger["owed"].as_object().unwrap().keys().collect::<Vec<_>>(), [&chats[0], &chats[1]]);
}

const HOSTILE: [&str; 16] = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "| touch pwned & touch pwned",
    "it's \"quoted\" \\ $HOME * ~",
    "{session_slug} {model} {}",
    "two  words ",
    " ",
    "right\u{202e}to left",
    "-rf",
    "--",
    "line\ntouch pwned",
    "tab\tand\r",
    "nul\0byte",
    "\u{1b}[31mred\u{1b}]0;title\u{7}",
    "\u{9b}31m",
];

/// A registry of one entry, with `value` where the placeholder takes it from.
fn hostile(placeholder: &str, value: &str) -> String {
    match placeholder {
        "chat_id" => entry(value, &json!({ "session_name": "a/b" })),
        "session_slug" => entry(CHAT, &json!({ "session_name": value })),
        "session_name" | "contact_name" => entry(CHAT, &json!({ "session_name": "a/b", placeholder: value })),
        _ => entry(CHAT, &json!({ "session_name": "a/b", "contact_name": "Ada", placeholder: value })),
    }
}

fn holds(placeholder: &str, value: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let slug = || value.bytes().map(|byte| if plain(byte) { char::from(byte) } else { '-' }).collect();
    let filled = if placeholder == "session_slug" { slug() } else { value.to_owned() };
    let refused = filled.starts_with('-') || filled.contains(char::is_control) || value.contains('\0');

    let command = format!("restart = [\"./record\", \"{{{placeholder}}}\", \"a{{{placeholder}}}b\"]");
    let sandbox = with(&command, &hostile(placeholder, value));
    sandbox.script("record", "printf '%s\\0' $# \"$@\" >> arguments");
    let Run { code, stdout, stderr } = sandbox.run(&[]);
    let what = format!("{placeholder} = {value:?}: {stdout}{stderr}");
    assert_eq!(code, if refused { 4 } else { 0 }, "{what}");
    let expected = if refused { String::new() } else { format!("2\0{filled}\0a{filled}b\0") };
    assert_eq!(sandbox.read("arguments"), expected, "{what}");
    if refused {
        assert!(sandbox.read("sessions.json").contains("\"opus\""), "a refused row is left as it was: {what}");
        assert!(sandbox.ledger()["owed"].as_object().is_none_or(serde_json::Map::is_empty), "{what}");
    }
    assert!(!sandbox.path("pwned").exists(), "{what}");
    let shown = format!("{stdout}{stderr}");
    assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{what}");
    assert!(!shown.lines().any(|line| line.starts_with("touch")), "{what}");
}

#[test]
fn a_hostile_field_is_one_argument_or_refused() {
    for placeholder in ["chat_id", "session_name", "session_slug", "contact_name", "tier", "type", "source"] {
        for value in HOSTILE {
            holds(placeholder, value);
        }
    }
}

#[test]
fn a_hostile_model_is_one_argument_or_refused() {
    for (model, code) in [("$(touch${IFS}pwned)", 0), ("'\"\\;id>pwned", 0), ("-rf", 4), ("a b", 1), ("a\u{1b}", 1)] {
        let quoted = json!(model);
        let policy = format!(
            "[models]\nallowed = [{quoted}]\nfallback = {quoted}\n[registry]\npath = \"sessions.json\"\n\
             [sessions]\nrestart = [\"./record\", \"{{model}}\"]\n"
        );
        let sandbox = Sandbox::new(&policy, &registry(&[(CHAT, "family", "opus")]));
        sandbox.script("record", "printf '%s\\0' $# \"$@\" >> arguments");
        sandbox.run(&[]).expect(code);
        assert_eq!(sandbox.read("arguments"), if code == 0 { format!("1\0{model}\0") } else { String::new() });
        assert!(!sandbox.path("pwned").exists());
    }
}

#[test]
fn a_dash_behind_text_is_harmless_and_a_nul_is_not_even_in_the_environment() {
    let sandbox = with(
        r#"restart = ["./record", "--who={contact_name}"]"#,
        &entry(CHAT, &json!({ "session_name": "a/b", "contact_name": "-rf" })),
    );
    sandbox.script("record", "printf '%s\\0' $# \"$@\" >> arguments");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("arguments"), "1\0--who=-rf\0");

    let sandbox =
        with(r#"restart = ["./record"]"#, &entry(CHAT, &json!({ "session_name": "a/b", "contact_name": "Ada\0" })));
    sandbox.run(&[]).expect(4);
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("opus"));
}

#[test]
fn no_spelling_of_a_shells_flag_lets_a_placeholder_into_its_script() {
    let before = [
        r#""sh", "-c""#,
        r#""/bin/bash", "-lc""#,
        r#""sudo", "-u", "me", "sh", "-c""#,
        r#""sh", "-ce""#,
        r#""bash", "-c", "-e""#,
        r#""sh", "-c", "--""#,
        r#""su", "me", "--command""#,
        r#""su", "me", "--comm""#,
        r#""runuser", "-u", "me", "--session-command""#,
        r#""fish", "--command""#,
        r#""fish", "-C""#,
        r#""env", "-S""#,
        r#""env", "-S", "sh -c""#,
        r#""env", "-Ssh -c""#,
        r#""env", "-iSsh", "-c""#,
        r#""env", "--split-string=sh -c""#,
        r#""env", "--split-string=sh", "-c""#,
        r#""flock", "lock", "-c""#,
        r#""script", "-qc""#,
        r#""sg", "group", "-c""#,
        r#""sg", "group""#,
        r#""ssh", "host""#,
        r#""ssh", "-p", "22", "-vi", "key", "host", "restart""#,
        r#""ssh", "-p22", "{session_slug}""#,
        r#""ssh", "-o""#,
    ];
    for shell in before {
        is_refused(&format!("{shell}, \"restart {{contact_name}}\""));
    }
    let attached = [
        r#""su", "root", "-ctrue {contact_name}""#,
        r#""su", "root", "--command=true {contact_name}""#,
        r#""su", "root", "--com=true {contact_name}""#,
        r#""sh", "-c{contact_name}""#,
        r#""bash", "-lc{contact_name}""#,
        r#""fish", "--init-command={contact_name}""#,
        r#""env", "-Ssh -c 'true {contact_name}'""#,
        r#""env", "--split-string=sh -c 'true {contact_name}'""#,
        r#""flock", "lock", "-ctrue {contact_name}""#,
        r#""script", "-qctrue {contact_name}", "log""#,
        r#""ssh", "-oProxyCommand=true {contact_name}", "host""#,
        r#""ssh", "-{contact_name}", "host""#,
    ];
    attached.into_iter().for_each(is_refused);
}

#[track_caller]
fn is_refused(command: &str) {
    let run = drifted(&format!("restart = [{command}]")).run(&[]);
    assert_eq!(run.code, 1, "{command}: {run:#?}");
    assert!(run.stderr.contains("placeholder in a shell's script"), "{command}: {run:#?}");
}

#[test]
fn a_placeholder_that_no_shell_reads_is_accepted_behind_one() {
    for command in [
        r#""sh", "-c", "echo \"$1\"", "sh", "{session_name}""#,
        r#""sh", "./restart", "--chat={chat_id}", "--session", "{session_name}""#,
        r#""su", "me", "--command=exec \"$0\"", "{session_name}""#,
        r#""su", "-s", "/bin/sh", "-c", "exec \"$0\" \"$@\"", "me", "--", "./restart", "{session_name}""#,
        r#""env", "NAME=x", "./restart", "{session_name}""#,
        r#""env", "NAME={session_slug}", "./restart", "--name={session_name}""#,
        r#""env", "-S", "sh -c true", "{session_name}""#,
        r#""flock", "-n", "lock", "./restart", "{session_name}""#,
        r#""flock", "--conflict-exit-code", "3", "lock", "./restart", "{session_name}""#,
        r#""ssh", "-p", "22", "-l", "{tier}", "{session_slug}.example""#,
        r#""systemctl", "restart", "ssh@{session_slug}""#,
    ] {
        let run = drifted(&format!("restart = [{command}]")).run(&["check"]);
        assert_eq!(run.code, 0, "{command}: {run:#?}");
    }
}

#[test]
fn every_field_is_in_the_environment_and_an_absent_one_is_empty() {
    let sandbox = with(
        r#"restart = ["./restart"]"#,
        &entry(CHAT, &json!({ "session_name": "imessage/é", "contact_name": "Ada\nQuinn", "source": "imessage" })),
    );
    sandbox.script(
        "restart",
        r#"printf '%s|' "$RECONCILE_CHAT_ID" "$RECONCILE_SESSION_NAME" "$RECONCILE_SESSION_SLUG" \
           "$RECONCILE_CONTACT_NAME" "${RECONCILE_TIER-unset}" "${RECONCILE_TYPE-unset}" "$RECONCILE_SOURCE" \
           "$RECONCILE_MODEL" "$KEPT" > environment"#,
    );
    let mut command = sandbox.command(&[]);
    // What somebody else left there must not be taken for the chat's.
    finish(command.env("RECONCILE_TIER", "admin").env("KEPT", "kept")).expect(0);
    assert_eq!(sandbox.read("environment"), "+16175550142|imessage/é|imessage---|Ada\nQuinn|||imessage|sonnet|kept|");
}

#[test]
fn two_sessions_with_one_slug_are_refused_and_the_others_are_not() {
    let entry = |name: &str, model: &str| json!({ "session_name": name, "tier": "family", "model": model });
    let sessions = json!({
        "+1": entry("imessage/a", "opus"), "+2": entry("imessage-a", "sonnet"), "+3": entry("all", "opus"),
        "+4": entry("imessage/b", "opus"), "+5": json!({ "tier": "family", "model": "opus" }),
        "+6": json!({ "session_name": "", "tier": "family", "model": "opus" }),
    });
    let sandbox = with(RECORD, &sessions.to_string());
    sandbox.script("restart", "echo $1 >> calls");
    sandbox.run(&["--dry-run"]).expect(4);
    let report = sandbox.json(&[]);
    assert_eq!(sandbox.calls(), ["imessage-b"]);
    for (chat, why) in [
        ("+1", "the session of +2 has the same slug"),
        ("+3", "its session's slug is `all`, which supervisors take for every session"),
        ("+5", "the command needs a session name, and the entry has none"),
        ("+6", "the command needs a session name, and the entry has none"),
    ] {
        assert_eq!((&row(&report, chat)["outcome"], &row(&report, chat)["detail"]), (&json!("refused"), &json!(why)));
        assert_eq!(sandbox.model(chat).as_deref(), Some("opus"), "{chat}");
    }
    assert_eq!((sandbox.model("+4").as_deref(), &report["summary"]["refused"]), (Some("sonnet"), &json!(4)));
}

#[test]
fn a_command_that_names_no_session_needs_no_session_name() {
    let sandbox = with(r#"restart = ["./restart", "{contact_name}"]"#, &entry(CHAT, &json!({ "tier": "family" })));
    sandbox.script("restart", "echo \"$# [$1]\" >> calls");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls(), ["1 []"]);
}

/// Looks around: directory, standard streams, and which of the descriptors that a caller may have left are open.
const LOOK_AROUND: &str = r#"
    pwd -P >> surroundings
    for n in 0 1; do if [ /dev/fd/$n -ef /dev/null ]; then echo "$n is null" >> surroundings; fi; done
    for n in 3 4 5 6 7 8 9; do if (eval ": >&$n") 2>/dev/null; then echo "$n is open" >> surroundings; fi; done"#;

fn surroundings(script: &str, sessions: &str, arguments: &[&str]) -> (Sandbox, String) {
    let sandbox = Sandbox::new("", &registry(&[(CHAT, "family", "opus")]));
    std::fs::create_dir(sandbox.path("conf")).unwrap();
    let policy = POLICY.replace("sessions.json", "../sessions.json");
    sandbox.write("conf/policy.toml", format!("{policy}\n[sessions]\n{sessions}\n"));
    sandbox.script(&format!("conf/{script}"), LOOK_AROUND);
    let reconcile = sandbox.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 7<policy.toml 9>lockfile; exec \"$@\"", "sh"]).arg(reconcile.get_program());
    shell.args(reconcile.get_args()).args(["--policy", "conf/policy.toml"]).current_dir(sandbox.path(""));
    finish(shell.stdin(Stdio::piped())).expect(0);
    let seen = sandbox.read("conf/surroundings");
    (sandbox, seen)
}

#[test]
fn a_restart_gets_no_terminal_no_descriptors_and_the_policys_directory() {
    let (sandbox, seen) = surroundings("restart", r#"restart = ["./restart"]"#, &[]);
    let directory = sandbox.path("conf").canonicalize().unwrap();
    assert_eq!(seen, format!("{}\n0 is null\n1 is null\n", directory.display()));
}

#[test]
fn a_probe_gets_no_more_than_a_restart() {
    let commands = "restart = [\"./nowhere\"]\nrunning = [\"./running\"]";
    let (sandbox, seen) = surroundings("running", commands, &["--dry-run", "--probe"]);
    let directory = sandbox.path("conf").canonicalize().unwrap();
    assert_eq!(seen, format!("{}\n0 is null\n1 is null\n", directory.display()));
}

#[test]
fn as_many_restarts_as_allowed_are_under_way_at_once_and_never_more() {
    let chats = ["+1", "+2", "+3", "+4"];
    let sandbox = with(
        &format!("{RECORD}\nparallel = 2\ntimeout = \"10s\""),
        &registry(&chats.map(|chat| (chat, "family", "opus"))),
    );
    for name in ["meet", "first", "counted"] {
        assert!(Command::new("mkfifo").arg(sandbox.path(name)).status().unwrap().success());
    }
    // The first two meet, which takes both; while they do, nobody else may have begun. So do the last two.
    sandbox.script(
        "restart",
        r#"case $1 in
            *1) read met < first; grep -c '"began": true' sessions.json.reconcile/owed.json > begun; echo > counted;;
            *2) echo met > first; read counted < counted; echo "1 and 2 met" >> calls;;
            *3) echo met > meet;;
            *4) read met < meet; echo "3 and 4 $met" >> calls;;
        esac"#,
    );
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("begun"), "2\n");
    assert_eq!(sandbox.calls(), ["1 and 2 met", "3 and 4 met"]);
}

#[test]
fn one_at_a_time_means_that_the_next_begins_when_the_last_has_ended() {
    let chats = ["+1", "+2", "+3"];
    let sandbox = with(&format!("{RECORD}\nparallel = 1"), &registry(&chats.map(|chat| (chat, "family", "opus"))));
    sandbox.script(
        "restart",
        "echo \"$1 $(grep -c '\"began\"' sessions.json.reconcile/owed.json) $(grep -c '\"began\": true' \
         sessions.json.reconcile/owed.json)\" >> calls",
    );
    sandbox.run(&[]).expect(0);
    // Owed, and of these begun: each debt is struck before the next attempt.
    assert_eq!(sandbox.calls(), ["imessage-_1 3 1", "imessage-_2 2 1", "imessage-_3 1 1"]);
}

#[test]
fn a_restart_finds_the_new_model_and_its_debt_on_disk() {
    let sandbox = drifted(&format!("{RECORD}\nrunning = [\"./running\"]"));
    sandbox.script("running", "cp sessions.json.reconcile/owed.json at-running");
    sandbox.script("restart", "cp sessions.json at-restart; cp sessions.json.reconcile/owed.json owed-at-restart");
    sandbox.run(&[]).expect(0);
    let seen = |name: &str| serde_json::from_str::<Value>(&sandbox.read(name)).unwrap();
    assert_eq!(seen("at-restart")[CHAT]["model"], "sonnet");
    // A session that turns out not to run was not tried.
    for (name, began) in [("at-running", false), ("owed-at-restart", true)] {
        let owed = seen(name)["owed"][CHAT].clone();
        let seen = (&owed["began"], &owed["ran"], &owed["attempts"], &owed["next_try"]);
        assert_eq!(seen, (&json!(began), &json!("opus"), &json!(0), &Value::Null), "{name}");
    }
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

#[test]
fn root_runs_no_commands_of_a_policy_that_others_can_write() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (exposed, mode) in [("policy.toml", 0o666), ("policy.toml", 0o620), ("", 0o777)] {
        let sandbox = drifted(RECORD);
        sandbox.script("restart", "echo $1 >> calls");
        std::fs::set_permissions(sandbox.path(exposed), Permissions::from_mode(mode)).unwrap();
        let run = sandbox.run(&[]).expect(1);
        assert!(run.stderr.contains("others can write "), "{run:#?}");
        assert!(run.stderr.contains("hint: "), "{run:#?}");
        assert_eq!((sandbox.model(CHAT).as_deref(), sandbox.calls().len()), (Some("opus"), 0));
        // A dry run runs nothing of it, so it may.
        sandbox.run(&["--dry-run"]).expect(0);
    }
}

#[test]
fn a_command_that_leaves_its_group_is_ended_all_the_same() {
    let leave = "import os, signal; os.setpgid(0, os.getpgid(os.getppid())); signal.pause()";
    let sandbox = drifted(&format!("restart = [\"python3\", \"-c\", {leave:?}]\ntimeout = \"500ms\""));
    let run = sandbox.run(&[]).expect(4);
    assert!(run.stdout.contains("took longer than 500ms and was ended"), "{run:#?}");
}

#[test]
fn root_runs_no_commands_of_a_policy_on_a_way_that_others_can_change() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let sandbox = drifted("restart = [\"true\"]");
    for directory in ["theirs", "theirs/ours", "ours"] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
    }
    std::fs::copy(sandbox.path("policy.toml"), sandbox.path("theirs/policy.toml")).unwrap();
    std::fs::copy(sandbox.path("policy.toml"), sandbox.path("theirs/ours/policy.toml")).unwrap();
    std::os::unix::fs::symlink("../theirs/policy.toml", sandbox.path("ours/policy.toml")).unwrap();
    std::os::unix::fs::chown(sandbox.path("theirs"), Some(65534), None).unwrap();
    for policy in ["theirs/ours/policy.toml", "ours/policy.toml"] {
        let run = sandbox.run(&["--policy", policy, "--registry", "sessions.json"]).expect(1);
        assert!(run.stderr.contains("others can write "), "{policy}: {run:#?}");
    }
}

#[test]
fn root_runs_no_commands_of_a_policy_behind_a_link_that_others_can_turn() {
    use std::os::unix::fs::{lchown, symlink};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let sandbox = drifted("restart = [\"true\"]");
    for (directory, mode) in [("real", 0o755), ("ours", 0o755), ("open", 0o777), ("sticky", 0o1777)] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
        std::fs::set_permissions(sandbox.path(directory), Permissions::from_mode(mode)).unwrap();
    }
    std::fs::copy(sandbox.path("policy.toml"), sandbox.path("real/policy.toml")).unwrap();
    for (target, link) in [
        ("../real", "open/link"),
        ("../real/policy.toml", "open/policy.toml"),
        ("../open/link", "ours/two-links"),
        ("../real", "ours/link"),
        ("../real", "sticky/ours"),
        ("../real", "sticky/theirs"),
    ] {
        symlink(target, sandbox.path(link)).unwrap();
    }
    symlink(sandbox.path("open/link"), sandbox.path("ours/absolute")).unwrap();
    lchown(sandbox.path("sticky/theirs"), Some(65534), None).unwrap();
    let run = |policy: &str| sandbox.run(&["--policy", policy, "--registry", "sessions.json"]);
    let absolute = sandbox.path("open/link/policy.toml");
    for policy in [
        "open/link/policy.toml",
        "open/link",
        "open",
        "open/policy.toml",
        "ours/two-links/policy.toml",
        "ours/absolute/policy.toml",
        "ours/../open/link/../real/policy.toml",
        "sticky/theirs/policy.toml",
        absolute.to_str().unwrap(),
    ] {
        let run = run(policy).expect(1);
        assert!(run.stderr.contains("others can write "), "{policy}: {run:#?}");
    }
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("opus"));
    for policy in ["ours/link/policy.toml", "ours/link", "sticky/ours/policy.toml", "./real/../real/policy.toml"] {
        run(policy).expect(0);
    }
}

#[test]
fn a_probe_asks_only_for_sessions_that_would_be_restarted() {
    let all = r#""all": {"session_name": "all", "tier": "family", "model": "opus"}"#;
    let unset = r#""unset": {"session_name": "unset", "tier": "family"}"#;
    let drifted = r#""drifted": {"session_name": "drifted", "tier": "family", "model": "opus"}"#;
    let sessions = format!("{RECORD}\nrunning = [\"./running\", \"{{chat_id}}\"]\nunset_runs = \"sonnet\"");
    let sandbox = with(&sessions, &format!("{{{all}, {unset}, {drifted}}}"));
    sandbox.script("running", "echo $1 >> calls");
    sandbox.run(&["--dry-run", "--probe"]).expect(4);
    assert_eq!(sandbox.calls(), ["drifted"]);
}

#[test]
fn where_nothing_can_be_written_a_session_is_restarted_all_the_same() {
    let sandbox = drifted("restart = [\"./restart\", \"{chat_id}\"]");
    for (exit, told) in [(1, "exited with code 1"), (0, "restarted")] {
        sandbox.script("restart", &format!("echo $1 >> calls\necho why >&2\nexit {exit}"));
        let run = finish(sandbox.command(&["--retry", CHAT]).env("TMPDIR", "/nowhere"));
        assert!(run.stdout.contains(told) && !run.stdout.contains("why"), "{run:#?}");
    }
    assert_eq!(sandbox.calls(), [CHAT, CHAT]);
}
