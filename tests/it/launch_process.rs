//! A launch becomes its session; and it lives with runs, with other launches and with overrides beside it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::launch::sandbox;
use crate::slow::{Running, Slow, until};
use crate::support::{POLICY, Sandbox, finish, registry, row};

const REGISTRY: &str = r#"{"+1": {"session_name": "s/1", "tier": "family", "model": "sonnet", "resume_id": "r"}}"#;

/// A session of +1 that runs this script.
fn session(script: &str) -> (Sandbox, Command) {
    let sandbox = sandbox(POLICY, REGISTRY);
    sandbox.script("session", script);
    let command = sandbox.command(&["launch", "+1", "--", "./session"]);
    (sandbox, command)
}

#[test]
fn the_session_is_the_process_that_was_launched_with_its_streams_and_its_exit_code() {
    let (_sandbox, mut command) = session("echo $$\nread -r line\necho \"$line\" >&2\nexit 7");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"said to the session\n").unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{pid}\n"));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "said to the session\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_session_that_did_not_start_still_owes_the_restart_of_the_one_before() {
    // The debt of a change that a run made, and a change that the launch itself makes.
    for (before, code) in [(Some("opus"), 1), (None, 4)] {
        let policy = format!("{POLICY}\n[sessions]\nrestart = [\"false\"]\n");
        let sandbox = sandbox(&policy, &registry(&[("+1", "family", "opus")]));
        sandbox.has_seen(&["sonnet"]);
        if before.is_some() {
            sandbox.run(&[]).expect(4);
        }
        let run = sandbox.run(&["launch", "+1", "--", "./no-such-program"]).expect(code);
        assert!(run.stderr.contains("cannot start") && run.stderr.contains("a restart of +1 is owed"), "{run:?}");
        assert_eq!(sandbox.model("+1").as_deref(), Some("sonnet"));
        assert!(sandbox.ledger()["owed"]["+1"]["ran"].is_null(), "{}", sandbox.ledger());
        sandbox.run(&["--retry", "+1"]).expect(4);
    }
    // A new chat has none before.
    let sandbox = sandbox(POLICY, "{}");
    let run = sandbox.run(&["launch", "+2", "--", "./no-such-program"]).expect(4);
    assert!(!run.stderr.contains("owed"), "{run:?}");
}

#[test]
fn a_launch_pays_also_where_the_command_fails_that_made_it() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n");
    let sandbox = sandbox(&policy, &registry(&[("+1", "family", "opus")]));
    let program = env!("CARGO_BIN_EXE_reconcile");
    let launch = format!("{program} launch \"$RECONCILE_CHAT_ID\" -- true\nexit 1");
    sandbox.script("restart", &launch);
    let run = sandbox.json(&[]);
    assert_eq!((&row(&run, "+1")["outcome"], &run["summary"]["owed"]), (&json!("failed"), &json!(0)));
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    // One from before is told as owed before the run, and not as owed now.
    sandbox.write("sessions.json", registry(&[("+1", "family", "opus")]));
    sandbox.script("restart", "exit 1");
    sandbox.run(&["--retry", "+1"]).expect(4);
    sandbox.script("restart", &launch);
    let run = sandbox.run(&["--retry", "+1", "--output", "json=run.json"]).expect(4);
    assert!(run.stdout.contains("   failed\n") && !run.stdout.contains("owed"), "{run:?}");
    let run: Value = serde_json::from_str(&sandbox.read("run.json")).unwrap();
    assert_eq!((&row(&run, "+1")["owed"], &run["summary"]["owed"]), (&json!(true), &json!(0)));
}

#[test]
fn a_signal_ends_the_session_and_is_what_its_supervisor_sees() {
    let (_sandbox, mut command) = session("echo up\nexec sleep 600");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut up = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut up).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!((up.as_str(), child.wait().unwrap().signal()), ("up\n", Some(15)));
}

#[test]
fn the_session_begins_as_if_nobody_had_been_there_before() {
    let (_sandbox, mut command) = session("grep SigIgn /proc/$$/status\nls -l /proc/$$/fd");
    let run = finish(&mut command).expect(0);
    let ignored = run.stdout.lines().next().and_then(|line| line.split_whitespace().last()).unwrap();
    // Those of a closed pipe and of the limit on a file's size, which this program does not die of.
    let ours = 1 << (13 - 1) | 1 << (25 - 1);
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & ours, 0, "{run:#?}");
    assert!(!run.stdout.contains("sessions.json"), "a file of ours is still open: {run:#?}");
}

#[test]
fn the_terminal_is_the_sessions() {
    const TERMINAL: &str = r#"
import os, pty, signal, sys
pid, ours = pty.fork()
if pid == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
shown, asked = b"", False
while True:
    try:
        part = os.read(ours, 4096)
    except OSError:
        break
    shown += part
    if b"ready" in shown and not asked:
        asked = True
        os.write(ours, b"\x03")
sys.stdout.write(shown.decode())
sys.exit(100 - os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let (sandbox, _) = session("test -t 0 && test -t 1 && test -t 2 && echo ready\nexec sleep 600");
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL, env!("CARGO_BIN_EXE_reconcile"), "launch", "+1", "--", "./session"]);
    // Ended by signal 2: the terminal's own, which nothing stood in the way of.
    let run = finish(python.current_dir(sandbox.path("")).stdin(Stdio::null())).expect(100 + 2);
    assert!(run.stdout.contains("ready"), "{run:#?}");
}

#[test]
fn the_environment_says_what_the_placeholders_do() {
    let (_sandbox, mut command) = session("env | grep ^RECONCILE_ | sort");
    let run = finish(command.env("RECONCILE_MODEL", "of somebody else").env("RECONCILE_TIER", "x")).expect(0);
    let expected = "RECONCILE_CHAT_ID=+1\nRECONCILE_CONTACT_NAME=\nRECONCILE_MODEL=sonnet\n\
                    RECONCILE_NEW_SESSION_ID=\nRECONCILE_RESUME_ID=r\nRECONCILE_SESSION_ID=r\nRECONCILE_SESSION_NAME=s/1\nRECONCILE_SESSION_SLUG=s-1\nRECONCILE_SOURCE=\nRECONCILE_TIER=family\n\
                    RECONCILE_TYPE=\n";
    assert_eq!(run.stdout, expected);
}

#[test]
fn a_program_that_cannot_be_started_is_an_error_that_says_so() {
    let sandbox = sandbox(POLICY, REGISTRY);
    let launch = |chat, program| sandbox.run(&["launch", chat, "--", program]);
    let run = launch("+1", "no-such-program").expect(1);
    assert!(
        run.stderr.contains("error[not-started]: cannot start no-such-program: no such file or directory"),
        "{run:#?}"
    );
    assert!(launch("+1", "./policy.toml").expect(1).stderr.contains("permission denied"));
    // Its entry is there by then, and stays: the next start finds it.
    launch("+2", "no-such-program").expect(4);
    assert_eq!(sandbox.model("+2").as_deref(), Some("sonnet"));
}

/// Two chats that owe a restart, because none succeeds.
fn owing(entry: &Value) -> Sandbox {
    let mut chats: Value =
        serde_json::from_str(&registry(&[("a", "family", "opus"), ("b", "family", "opus")])).unwrap();
    chats["a"].as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"false\"]\n[rollout]\nmax_failures = 3\n");
    let sandbox = sandbox(&policy, &chats.to_string());
    sandbox.has_seen(&["sonnet"]);
    sandbox.run(&[]).expect(4);
    assert_eq!(owed(&sandbox), ["a", "b"]);
    sandbox
}

fn owed(sandbox: &Sandbox) -> Vec<String> {
    sandbox.ledger()["owed"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_start_pays_what_the_session_owes_and_nothing_else() {
    let sandbox = owing(&json!({}));
    let before = sandbox.read("sessions.json");
    let run = sandbox.run(&["launch", "imessage/a", "--", "./show", "{model}"]).expect(0);
    assert_eq!((run.stdout.as_str(), owed(&sandbox)), ("sonnet\n", vec!["b".to_owned()]));
    assert_eq!(sandbox.read("sessions.json"), before);
    // What runs now is what the registry says, also where the policy cannot be read.
    sandbox.write("policy.toml", "no policy");
    sandbox.run(&["launch", "b", "--registry", "sessions.json", "--", "true"]).expect(0);
    assert_eq!(owed(&sandbox), Vec::<String>::new());
}

#[test]
fn a_start_that_fails_before_it_pays_nothing() {
    let sandbox = owing(&json!({ "session_id": "-x" }));
    sandbox.run(&["launch", "a", "--", "./show", "{resume_id}"]).expect(1);
    sandbox.run(&["launch", "a", "--", "./show", "{modle}"]).expect(64);
    sandbox.run(&["launch", "nobody", "--", "./show", "{session_name}"]).expect(1);
    assert_eq!(owed(&sandbox), ["a", "b"]);
    let whole = sandbox.read("sessions.json");
    sandbox.write("sessions.json", &whole[..whole.len() - 1]);
    sandbox.run(&["launch", "a", "--", "true"]).expect(1);
    sandbox.write("sessions.json", whole);
    assert_eq!(owed(&sandbox), ["a", "b"]);
    let journal = sandbox.read("sessions.json.reconcile/ledger.journal");
    sandbox.write("sessions.json.reconcile/ledger.journal", journal.replacen("\"a\"", "\"x\"", 1));
    let run = sandbox.run(&["launch", "a", "--", "true"]).expect(1);
    assert!(run.stderr.contains("ledger.journal is damaged"), "{run:#?}");
}

#[test]
fn a_launch_never_waits_for_a_run_and_waits_for_whoever_writes() {
    let sandbox = sandbox(POLICY, REGISTRY);
    sandbox.run(&[]).expect(0);
    let lock = |name: &str| {
        let path = sandbox.path("sessions.json.reconcile").join(name);
        let file = File::options().write(true).open(path).unwrap();
        file.lock().unwrap();
        file
    };
    let run_lock = lock("run.lock");
    sandbox.run(&["--lock-timeout", "0s"]).expect(75);
    sandbox.run(&["launch", "+1", "--lock-timeout", "0s", "--", "true"]).expect(0);

    let data_lock = lock("data.lock");
    let mut waits = Running::start(&mut sandbox.command(&["launch", "+2", "--lock-timeout", "1h", "--", "true"]));
    until("the launch waits", || waits.has_open("data.lock"));
    assert!(!waits.is_over() && sandbox.read("sessions.json") == REGISTRY);
    // What is set meanwhile counts.
    sandbox.write("policy.toml", POLICY.replace("fallback = \"sonnet\"", "fallback = \"haiku\""));
    data_lock.unlock().unwrap();
    waits.finish().expect(0);
    assert_eq!(sandbox.model("+2").as_deref(), Some("haiku"));
    drop(run_lock);
}

#[test]
fn a_policy_that_breaks_while_a_launch_waits_counts_as_it_was() {
    let sandbox = sandbox(POLICY, REGISTRY);
    sandbox.run(&[]).expect(0);
    let path = sandbox.path("sessions.json.reconcile/data.lock");
    let daemons = format!("{POLICY}\n[sessions]\nbackend = \"dispatch\"\nsocket = \"daemon.sock\"\n");
    for (chat, meanwhile, code) in [("+2", "nonsense", 0), ("+3", &daemons, 1)] {
        sandbox.write("policy.toml", POLICY);
        let data_lock = File::options().write(true).open(&path).unwrap();
        data_lock.lock().unwrap();
        let mut waits = Running::start(&mut sandbox.command(&["launch", chat, "--lock-timeout", "1h", "--", "true"]));
        until("the launch waits", || waits.has_open("data.lock"));
        sandbox.write("policy.toml", meanwhile);
        data_lock.unlock().unwrap();
        let run = waits.finish().expect(code);
        assert_eq!(run.stderr.contains("are started by their daemon"), code == 1, "{run:?}");
    }
    assert_eq!((sandbox.model("+2").as_deref(), sandbox.model("+3")), (Some("sonnet"), None));
}

#[test]
fn a_session_that_was_started_after_the_edit_is_not_restarted_for_it() {
    let slow = Slow::new(&["a", "b", "c"], "parallel = 1");
    let mut run = slow.start(&["--format", "json"]);
    assert_eq!(slow.begun(), "a");
    assert_eq!(slow.owed(), ["a", "b", "c"]);
    // In the middle of its own restart, as a supervisor does; and another program's before its turn has come.
    for chat in ["a", "b"] {
        let launched = slow.sandbox.run(&["launch", chat, "--", "echo", "{model}"]).expect(0);
        assert_eq!(launched.stdout, "sonnet\n");
    }
    assert_eq!(slow.owed(), ["c"]);
    slow.end("a");
    assert_eq!(slow.begun(), "c");
    slow.end("c");
    let told = run.finish().expect(0);
    assert_eq!(slow.sandbox.calls(), ["a", "c"]);
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(row(&report, "b")["detail"], "it was started again meanwhile");
    assert_eq!((&report["summary"]["changed"], &report["summary"]["restarted"]), (&json!(3), &json!(2)));
    assert_eq!(slow.owed(), Vec::<String>::new());
}

/// Does something again and again until it is over.
fn until_over(over: &AtomicBool, mut act: impl FnMut(usize)) {
    for number in 0.. {
        act(number);
        if over.load(Ordering::Acquire) {
            return;
        }
    }
}

#[test]
fn fifty_launches_at_once_beside_runs_and_overrides_lose_nothing() {
    const HALF: usize = 25;
    let known = |number: usize| (format!("known{number}"), json!({ "tier": "bots", "model": "opus", "n": number }));
    let mut chats: serde_json::Map<String, Value> = (0..HALF).map(known).collect();
    chats.insert("other".to_owned(), json!({ "tier": "bots", "model": "haiku", "session_name": "other" }));
    let commands = "\n[sessions]\nrestart = [\"./restart\"]\n[limits]\nmax_changes = 1000\n";
    let sandbox = sandbox(&format!("{POLICY}{commands}"), &serde_json::to_string_pretty(&chats).unwrap());
    sandbox.has_seen(&["opus", "sonnet", "haiku"]);
    sandbox.script("restart", "true");

    let launch = |chat: &str, more: &[&str]| {
        let session = ["--", "./show", "{chat_id}", "{model}"];
        let run = sandbox.run(&[&["launch", chat, "--lock-timeout", "1h"], more, &session].concat()).expect(0);
        assert_eq!(run.stdout, format!("{chat}\nhaiku\n"));
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (over, launch, sandbox) = (&over, &launch, &sandbox);
        let beside = [
            scope.spawn(move || {
                until_over(over, |_| {
                    let run = sandbox.run(&["--lock-timeout", "1h"]);
                    assert!([0, 4].contains(&run.code), "{run:#?}");
                });
            }),
            scope.spawn(move || {
                until_over(over, |number| {
                    let model = ["opus", "sonnet"][number % 2];
                    sandbox.run(&["set-model", "other", model, "--lock-timeout", "1h"]).expect(0);
                    assert_eq!(sandbox.model("other").as_deref(), Some(model));
                });
            }),
        ];
        let chats = (0..HALF).flat_map(|number| [format!("known{number}"), format!("new{number}")]);
        let launches = chats.map(|chat| {
            scope.spawn(move || {
                launch(&chat, &["--tier", "bots"]);
                launch(&chat, &["--tier", "admin", "--session-name", &format!("s/{chat}")]);
            })
        });
        let launches: Vec<_> = launches.collect();
        let failed = launches.into_iter().filter_map(|launch| launch.join().err()).count();
        over.store(true, Ordering::Release);
        assert_eq!((failed, beside.map(|thread| thread.join().is_ok())), (0, [true; 2]));
    });

    let registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    assert_eq!(registry.as_object().unwrap().len(), 2 * HALF + 1);
    for number in 0..HALF {
        let (known, new) = (format!("known{number}"), format!("new{number}"));
        let expected = json!({ "tier": "bots", "model": "haiku", "n": number, "session_name": format!("s/{known}") });
        assert_eq!(registry[&known], expected);
        let name = format!("s/{new}");
        let expected = json!({ "chat_id": new, "tier": "bots", "model": "haiku", "session_name": name });
        assert_eq!(registry[&new], expected);
    }
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    assert!(sandbox.run(&[]).expect(0).summary().starts_with("No changes."));
}
