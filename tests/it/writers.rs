//! Others who write the registry while runs come and go, and runs beside runs: nothing is lost, and nothing is done
//! twice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use jiff::{SignedDuration, Timestamp};
use reconcile::backend::file::{Method, RegistryFile};
use serde_json::{Value, json};

use crate::files::{commit, locked, reading};
use crate::slow::{HANGS, Over, Running, Slow, until};
use crate::support::{POLICY, Run, Sandbox, registry};

const UPDATES: usize = 10_000;
/// After so many updates a writer waits until a run had the registry to itself, so that runs get something done.
const BURST: usize = 500;

/// Replaces the file as the daemon does: written whole beside it, then renamed.
fn replace_by_rename(registry: &Path, text: &str) {
    let temporary = registry.with_extension("tmp");
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, registry).unwrap();
}

/// Waits for two runs to end: the second of them began when no program wrote.
fn let_a_run_have_its_way(ended: &Receiver<()>) {
    while ended.try_recv().is_ok() {}
    for _ in 0..2 {
        ended.recv_timeout(HANGS).expect("runs go on");
    }
}

/// Runs one `run` after the other beside a writer, until the writer is done. The runs are counted from 0.
fn beside(writer: impl FnOnce(&Receiver<()>) + Send, mut run: impl FnMut(usize)) {
    let over = AtomicBool::new(false);
    let (end, ended) = mpsc::channel();
    thread::scope(|scope| {
        let over = &over;
        scope.spawn(move || {
            let _over = Over(over);
            writer(&ended);
        });
        for number in 0.. {
            if over.load(Ordering::Acquire) {
                return;
            }
            run(number);
            // No thread listens any more when the writer is done.
            let _ = end.send(());
        }
    });
}

/// Whether a run beside a writer ended in one of the ways that it may.
fn check_beside_a_writer(run: &Run) {
    match run.code {
        0 => {}
        // The writer undid it before it was read back.
        4 => assert!(run.stdout.contains("the registry has"), "{run:#?}"),
        // Where the writer is faster than every plan.
        1 => assert!(run.stderr.contains("times while the run was planning"), "{run:#?}"),
        _ => panic!("{run:#?}"),
    }
}

fn changed(run: &Run) -> u64 {
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
    report["summary"]["changed"].as_u64().unwrap_or_default()
}

#[test]
fn a_writer_that_holds_its_state_in_memory_loses_no_update_to_any_run() {
    let state = |update: usize| {
        let entry = |chat: &str| format!(r#""{chat}": {{"tier": "bots", "model": "opus", "update": {update}}}"#);
        format!("{{{},\n {}}}\n", entry("a"), entry("b"))
    };
    let sandbox = Sandbox::new(POLICY, &state(0));
    let registry = sandbox.path("sessions.json");
    let mut edited = 0;
    let writer = |ended: &Receiver<()>| {
        for update in 1..=UPDATES {
            replace_by_rename(&registry, &state(update));
            if update % BURST == 0 {
                let_a_run_have_its_way(ended);
            }
            // A run that planned on an earlier state may show that for the instant until it has put this one back.
            let kept = || fs::read_to_string(&registry).unwrap().replace("haiku", "opus") == state(update);
            until(&format!("update {update} is in the registry"), kept);
        }
    };
    let retry = ["--retry", "a", "--retry", "b", "--format", "json"];
    beside(writer, |_| {
        let run = sandbox.run(&retry);
        check_beside_a_writer(&run);
        edited += changed(&run);
    });
    assert!(edited >= 20, "no run had its way: {edited}");
    sandbox.run(&retry).expect(0);
    assert_eq!(sandbox.read("sessions.json"), state(UPDATES).replace("opus", "haiku"));
    sandbox.run(&["--dry-run", "--detailed-exitcode"]).expect(0);
}

/// Chats without a counter, and one with; and policies by which every chat runs the one model or the other.
fn counted() -> (Sandbox, Vec<String>) {
    let chats: Vec<String> = (0..4).map(|chat| format!("c{chat}")).collect();
    let entries = chats.iter().map(|chat| format!("  \"{chat}\": {{\"tier\": \"all\", \"model\": \"opus\"}}"));
    let entries: Vec<String> = entries.collect();
    let text = format!("{{\n  \"counter\": {{\"update\": 0}},\n{}\n}}\n", entries.join(",\n"));
    let sandbox = Sandbox::new("", &text);
    for model in ["haiku", "sonnet"] {
        let unmanaged = "[chats]\ncounter = { managed = false }\n[registry]";
        let policy = POLICY.replace("fallback = \"sonnet\"", &format!("fallback = {model:?}"));
        let policy = policy.replace("[registry]", unmanaged) + "[limits]\nmax_changes = 100\n";
        sandbox.write(&format!("{model}.toml"), policy);
    }
    (sandbox, chats)
}

fn wanted(number: usize) -> (&'static str, &'static str) {
    if number.is_multiple_of(2) { ("haiku", "haiku.toml") } else { ("sonnet", "sonnet.toml") }
}

/// The registry with its counter one higher.
fn counted_up(text: &str) -> String {
    let (before, rest) = text.split_once("\"update\": ").unwrap();
    let (count, after) = rest.split_once('}').unwrap();
    format!("{before}\"update\": {}}}{after}", count.parse::<usize>().unwrap() + 1)
}

#[test]
fn between_a_writer_that_takes_the_data_lock_and_runs_nothing_of_either_is_lost() {
    let (sandbox, chats) = counted();
    sandbox.run(&["--policy", "haiku.toml"]).expect(0);
    let registry = sandbox.path("sessions.json");
    let lock = File::options().write(true).open(sandbox.path("sessions.json.reconcile/data.lock")).unwrap();
    let mut reported: BTreeMap<&str, &str> = chats.iter().map(|chat| (chat.as_str(), "haiku")).collect();
    let mut edited = 0;
    let writer = |ended: &Receiver<()>| {
        for update in 1..=UPDATES {
            lock.lock().unwrap();
            replace_by_rename(&registry, &counted_up(&fs::read_to_string(&registry).unwrap()));
            lock.unlock().unwrap();
            if update % BURST == 0 {
                let_a_run_have_its_way(ended);
            }
        }
    };
    beside(writer, |number| {
        // Each chat in its turn, and with every turn the other model.
        let chat = &chats[number % chats.len()];
        let (model, policy) = wanted(number / chats.len() + 1);
        let run = sandbox.run(&["--policy", policy, "--chat", chat, "--format", "json"]).expect(0);
        assert_eq!(changed(&run), 1, "{run:#?}");
        reported.insert(chat, model);
        edited += 1;
    });
    assert!(edited > chats.len(), "{edited}");
    let last: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    assert_eq!(last["counter"]["update"], UPDATES);
    for (chat, model) in reported {
        assert_eq!(last[chat]["model"], model, "{chat}");
    }
}

#[test]
fn beside_a_writer_without_the_lock_the_registry_is_whole_at_every_instant() {
    let (sandbox, chats) = counted();
    let registry = sandbox.path("sessions.json");
    let retry: Vec<&str> = chats.iter().flat_map(|chat| ["--retry", chat]).collect();
    let run = |number| {
        let run = sandbox.run(&[&["--policy", wanted(number).1, "--format", "json"], &retry[..]].concat());
        check_beside_a_writer(&run);
        changed(&run)
    };
    let over = AtomicBool::new(false);
    let (mut edited, mut last) = (0, 0);
    thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Acquire) {
                let text = fs::read_to_string(&registry).expect("it is never missing");
                let whole: Result<BTreeMap<String, Value>, _> = serde_json::from_str(&text);
                assert_eq!(whole.expect("it is never torn").len(), chats.len() + 1, "{text}");
                looks += 1;
            }
            looks
        });
        let _over = Over(&over);
        let writer = |ended: &Receiver<()>| {
            for update in 1..=UPDATES {
                replace_by_rename(&registry, &counted_up(&fs::read_to_string(&registry).unwrap()));
                if update % BURST == 0 {
                    let_a_run_have_its_way(ended);
                }
            }
        };
        beside(writer, |number| {
            edited += run(number);
            last = number;
        });
        over.store(true, Ordering::Release);
        assert!(looks.join().unwrap() > 100, "no look was taken");
    });
    assert!(edited >= 40, "no run had its way: {edited}");
    run(last + 1);
    let (model, policy) = wanted(last + 1);
    assert_eq!(sandbox.read("sessions.json").matches(&format!("\"model\": {model:?}")).count(), chats.len());
    sandbox.run(&["--policy", policy, "--dry-run", "--detailed-exitcode"]).expect(0);
}

/// As by a program that replaces the file twice while the file system's clock stands still.
#[test]
fn an_update_in_a_file_with_the_same_inode_size_and_time_is_not_lost() {
    const OLD: &str = r#"{"a": {"model": "opus", "update": 1}}"#;
    for method in [Method::Exchange, Method::Rename] {
        let sandbox = Sandbox::new(POLICY, OLD);
        let registry = sandbox.path("sessions.json");
        let files = locked(&registry).with_method(method);
        let stamp = || RegistryFile::open(&registry).unwrap().snapshot().unwrap().stamp();
        let (seen, planned_on) = (reading(&registry), stamp());

        let time = fs::metadata(&registry).unwrap().modified().unwrap();
        let update = OLD.replace('1', "2");
        // Many file systems give the inode that was freed last to the next file. On others there is nothing to see.
        let replace = || {
            replace_by_rename(&registry, &update);
            File::options().write(true).open(&registry).unwrap().set_modified(time).unwrap();
            stamp() == planned_on
        };
        if (0..100).any(|_| replace()) {
            assert!(!commit(&files, &seen, &[]), "{method:?}");
        }
        assert_eq!(sandbox.read("sessions.json"), update, "{method:?}");
    }
}

#[test]
fn a_run_that_may_not_wait_for_others_does_not_stumble_over_itself() {
    // A command that is being started has copies of the run's descriptors, and of the locks with them.
    let chats: Vec<String> = (0..100).map(|chat| format!("c{chat}")).collect();
    let chats: Vec<_> = chats.iter().map(|chat| (chat.as_str(), "family", "opus")).collect();
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"true\"]\nparallel = 16\n[limits]\nmax_changes = 100\n");
    for _ in 0..8 {
        let sandbox = Sandbox::new(&policy, &registry(&chats));
        let run = sandbox.run(&["--lock-timeout", "0s"]).expect(0);
        assert_eq!(run.summary(), "Applied: 100 changed, 100 restarted, 0 deferred, 0 failed.");
    }
}

#[test]
fn a_run_waits_for_another_and_then_works() {
    let slow = Slow::new(&["a", "b"], "");
    let mut first = slow.start(&["--chat", "a"]);
    assert_eq!(slow.begun(), "a");
    let mut second = slow.start(&["--lock-timeout", "1h"]);
    until("the second run waits", || second.has_open("run.lock"));
    assert!(!second.is_over());
    slow.end("a");
    first.finish().expect(0);
    assert_eq!(slow.begun(), "b");
    slow.end("b");
    let told = second.finish().expect(0);
    assert_eq!(told.summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_eq!((slow.sandbox.calls(), slow.owed().len()), (vec!["a".to_owned(), "b".to_owned()], 0));
}

#[test]
fn a_run_that_waited_goes_by_the_policy_as_it_is_then() {
    let slow = Slow::new(&["a", "b"], "");
    let over = "[chats]\nc = { model = \"opus\", until = 2020-01-01 }\n";
    slow.sandbox.write("policy.toml", format!("{}{over}", slow.sandbox.read("policy.toml")));
    let mut first = slow.start(&["--chat", "a"]);
    assert_eq!(slow.begun(), "a");
    let mut second = slow.start(&["--lock-timeout", "1h"]);
    until("the second run waits", || second.has_open("run.lock"));
    // As by an override by hand, which that run must not take back.
    slow.sandbox.write("policy.toml", format!("{}b = \"opus\"\n", slow.sandbox.read("policy.toml")));
    slow.end("a");
    first.finish().expect(0);
    let second = second.finish().expect(0);
    assert!(second.summary().starts_with("No changes."));
    assert_eq!(second.stderr.matches("ended after 2020-01-01").count(), 1, "{second:#?}");
    assert_eq!((slow.sandbox.model("b").as_deref(), slow.sandbox.calls()), (Some("opus"), vec!["a".to_owned()]));
}

#[test]
fn a_run_that_waited_does_not_go_by_an_override_that_has_ended_meanwhile() {
    let slow = Slow::new(&["a", "b"], "");
    let mut first = slow.start(&["--chat", "a"]);
    assert_eq!(slow.begun(), "a");
    let end = Timestamp::now() + SignedDuration::from_secs(2);
    let ends = format!("[chats]\nb = {{ model = \"opus\", until = {end} }}\n");
    slow.sandbox.write("policy.toml", format!("{}{ends}", slow.sandbox.read("policy.toml")));
    let mut second = slow.start(&["--chat", "b", "--lock-timeout", "1h"]);
    until("the second run waits", || second.has_open("run.lock"));
    until("the override has ended", || Timestamp::now() > end);
    slow.end("a");
    first.finish().expect(0);
    assert_eq!(slow.begun(), "b", "its restart after the override");
    slow.end("b");
    let second = second.finish().expect(0);
    assert!(second.stderr.contains(&format!("ended at {end}")), "{second:#?}");
    assert_eq!(slow.sandbox.model("b").as_deref(), Some("sonnet"));
}

#[test]
fn a_run_that_may_not_wait_is_75_and_names_the_one_that_works() {
    let slow = Slow::new(&["a", "b"], "parallel = 1");
    let mut first = slow.start(&[]);
    assert_eq!(slow.begun(), "a");
    let run = slow.sandbox.run(&["--lock-timeout", "0s"]).expect(75);
    assert!(run.stderr.contains(&format!("run.lock (pid {})", first.id())), "{run:#?}");
    assert_eq!((run.stdout.as_str(), slow.owed()), ("", vec!["a".to_owned(), "b".to_owned()]));
    slow.end("a");
    slow.end("b");
    first.finish().expect(0);
    assert_eq!(slow.sandbox.calls(), ["a", "b"]);
}

#[test]
fn the_lock_of_a_run_that_was_killed_keeps_nobody_out() {
    let slow = Slow::new(&["a", "b"], "parallel = 1");
    let killed = slow.start(&[]);
    assert_eq!(slow.begun(), "a");
    killed.kill();
    // Its restart is still under way: it must not hold the lock.
    let mut next = slow.start(&["--lock-timeout", "0s"]);
    assert_eq!(slow.begun(), "a");
    for chat in ["a", "a", "b"] {
        slow.end(chat);
    }
    let told = next.finish().expect(0);
    assert_eq!(told.summary(), "Applied: 0 changed, 2 restarted, 0 deferred, 0 failed.");
    assert_eq!((slow.sandbox.calls(), slow.owed().len()), (["a", "a", "b"].map(str::to_owned).to_vec(), 0));
}

#[test]
fn of_ten_runs_at_once_one_restarts_each_session_that_drifted() {
    let chats = [("a", "family", "opus"), ("b", "family", "sonnet"), ("c", "family", "haiku"), ("d", "family", "")];
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n");
    let sandbox = Sandbox::new(&policy, &registry(&chats));
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    let patience = |number: usize| if number.is_multiple_of(2) { "0s" } else { "1h" };
    let start =
        |number| Running::start(&mut sandbox.command(&["--lock-timeout", patience(number), "--format", "json"]));
    let mut runs: Vec<Running> = (0..10).map(start).collect();
    let told: Vec<Run> = runs.iter_mut().map(Running::finish).collect();
    assert!(told.iter().all(|run| [0, 75].contains(&run.code)), "{told:#?}");
    assert!(told.iter().skip(1).step_by(2).all(|run| run.code == 0), "{told:#?}");
    assert_eq!(told.iter().map(changed).sum::<u64>(), 3);
    let mut calls = sandbox.calls();
    calls.sort();
    assert_eq!((calls, &sandbox.ledger()["owed"]), (["a", "c", "d"].map(str::to_owned).to_vec(), &json!({})));
}
