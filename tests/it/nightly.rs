//! Runs that no person watches: silence where there is nothing to say, and numbers for those who watch many.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::slow::until;
use crate::support::{POLICY, Run, Sandbox, finish, registry};

const RESTARTS: &str = "\n[sessions]\nrestart = [\"./restart\"]\n";
const SUCCESS: &str = "reconcile_last_success_timestamp_seconds";

fn sandbox(chats: &[(&str, &str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new(&format!("{POLICY}{RESTARTS}"), &registry(chats));
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    sandbox
}

/// What stands in the metrics, each by its name. It is checked to be what Prometheus reads.
fn metrics(text: &str) -> BTreeMap<String, i64> {
    assert!(text.ends_with('\n'), "{text:?}");
    let mut lines = text.lines();
    let mut found = BTreeMap::new();
    while let Some(help) = lines.next() {
        let (name, _) = help.strip_prefix("# HELP ").and_then(|help| help.split_once(' ')).unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(lines.next(), Some(format!("# TYPE {name} gauge").as_str()));
        let (label, value) = lines.next().unwrap().strip_prefix(name).unwrap().rsplit_once(' ').unwrap();
        assert!(label.starts_with("{registry=\"") && label.ends_with("\"}"), "{label}");
        assert_eq!(found.insert(name.to_owned(), value.parse().unwrap()), None, "{name} is defined twice");
    }
    found
}

fn of(sandbox: &Sandbox) -> BTreeMap<String, i64> {
    metrics(&sandbox.read("out.prom"))
}

/// Some of them, without what begins all their names.
fn counts<const N: usize>(sandbox: &Sandbox, names: [&str; N]) -> [i64; N] {
    let found = of(sandbox);
    names.map(|name| found[&format!("reconcile_{name}")])
}

fn says_nothing(sandbox: &Sandbox, arguments: &[&str]) {
    let run = sandbox.run(&[&["--quiet"], arguments].concat()).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

#[test]
fn a_quiet_run_with_nothing_to_do_says_nothing() {
    let sandbox = sandbox(&[("a", "family", "sonnet"), ("b", "bots", "haiku")]);
    says_nothing(&sandbox, &[]);
    says_nothing(&sandbox, &["--dry-run", "--detailed-exitcode"]);
    says_nothing(&sandbox, &["--chat", "a"]);
    // A file that the user asked for is written all the same.
    says_nothing(&sandbox, &["--output", "json=out.json", "--metrics", "out.prom"]);
    assert!(sandbox.read("out.json").contains("\"plan_id\""));
    assert_eq!(counts(&sandbox, ["drift", "exit_code"]), [0, 0]);
}

#[test]
fn a_quiet_run_that_waits_for_a_next_try_says_nothing() {
    let sandbox = sandbox(&[("a", "family", "opus")]);
    sandbox.script("restart", "exit 1");
    // A model that is known to work: only the one session waits.
    sandbox.has_seen(&["sonnet"]);
    sandbox.script("restart", "test $RECONCILE_CHAT_ID != a");
    sandbox.write("sessions.json", registry(&[("a", "family", "opus"), ("b", "family", "opus")]));
    sandbox.run(&["--quiet", "--exclude", "a"]).expect(0);
    sandbox.run(&["--quiet"]).expect(4);
    sandbox.script("restart", "true");
    sandbox.write("sessions.json", registry(&[("a", "family", "sonnet"), ("b", "family", "opus")]));
    sandbox.run(&["--quiet", "--retry", "b"]).expect(0);
    says_nothing(&sandbox, &["--metrics", "out.prom"]);
    assert_eq!(counts(&sandbox, ["deferred", "owed", "drift", "failed"]), [1, 1, 0, 0]);
}

#[test]
fn a_quiet_run_says_everything_where_something_changed_or_failed() {
    let over = "[chats]\nb = { model = \"opus\", until = 2020-01-01 }\n";
    let chats = [("a", "family", "opus"), ("b", "bots", "haiku")];
    let quiet_as_loud = |code: i32, prepare: &dyn Fn(&Sandbox), arguments: &[&str]| {
        let [loud, quiet] = [&[][..], &["--quiet"]].map(|quiet| {
            let sandbox = sandbox(&chats);
            sandbox.write("policy.toml", format!("{POLICY}{RESTARTS}{over}"));
            prepare(&sandbox);
            let root = sandbox.path("").display().to_string();
            let run = sandbox.run(&[arguments, quiet].concat()).expect(code);
            // What was typed is quoted in some hints.
            let stderr = run.stderr.replace(&root, "/").replace(" --quiet", "");
            assert!(!run.stdout.is_empty() || !stderr.is_empty());
            // What could be done next is for people who wait for the plan.
            let hint = stderr.find("hint: to apply this plan").unwrap_or(stderr.len());
            (run.stdout, stderr[..hint].to_owned())
        });
        assert_eq!(loud, quiet, "{arguments:?}");
        loud
    };
    let nothing = |_: &Sandbox| {};
    quiet_as_loud(0, &nothing, &[]);
    quiet_as_loud(0, &nothing, &["--dry-run"]);
    quiet_as_loud(2, &nothing, &["--dry-run", "--detailed-exitcode"]);
    let (_, stderr) = quiet_as_loud(3, &nothing, &["--allow-changes", "0"]);
    assert!(stderr.contains("ended after 2020-01-01") && stderr.contains("the limit is 0"), "{stderr}");
    quiet_as_loud(4, &|sandbox| sandbox.script("restart", "echo no such session >&2; exit 1"), &[]);
    quiet_as_loud(1, &|sandbox| sandbox.write("policy.toml", "nonsense = 1"), &[]);
    quiet_as_loud(1, &|sandbox| sandbox.write("sessions.json", ""), &[]);
    quiet_as_loud(1, &|sandbox| fs::remove_file(sandbox.path("policy.toml")).unwrap(), &[]);
    quiet_as_loud(1, &nothing, &["--chat", "nobody"]);
    quiet_as_loud(64, &nothing, &["--detailed-exitcode"]);
    // In sync, and yet the report could not be written.
    let in_sync = |sandbox: &Sandbox| {
        sandbox.write("sessions.json", registry(&[("a", "family", "sonnet")]));
    };
    for option in [["--output", "json=out"], ["--metrics", "out"]] {
        let sandbox = sandbox(&chats);
        in_sync(&sandbox);
        let run = on_a_full_disk(&sandbox, &[&["--quiet"], &option[..]].concat()).expect(1);
        assert!(run.stderr.contains("error[system]: cannot write out") && run.stdout.is_empty(), "{run:#?}");
    }
}

/// A run that can write no file, as where the disk is full.
fn on_a_full_disk(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 0 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_reconcile")]).args(arguments);
    finish(shell.current_dir(sandbox.path("")).env("TZ", "UTC"))
}

#[test]
fn another_run_that_holds_the_lock_is_told_of() {
    let slow = crate::slow::Slow::new(&["a"], "");
    let mut first = slow.start(&[]);
    slow.begun();
    let run = slow.sandbox.run(&["--quiet", "--lock-timeout", "0s", "--metrics", "out.prom"]).expect(75);
    assert!(run.stderr.contains(&format!("(pid {})", first.id())), "{run:#?}");
    assert_eq!(of(&slow.sandbox)["reconcile_exit_code"], 75);
    // One that waits for it is as quiet as any other.
    let mut waiting = slow.start(&["--quiet", "--lock-timeout", "4m"]);
    slow.end("a");
    first.finish().expect(0);
    let run = waiting.finish().expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

#[test]
fn metrics_tell_what_became_of_each_session() {
    let chats =
        [("a", "family", "opus"), ("b", "bots", "opus"), ("c", "admin", "opus"), ("-d", "bots", ""), ("e", "bots", "")];
    let sandbox = sandbox(&chats);
    let restarts = RESTARTS.replace("\"]", "\", \"{session_slug}\"]");
    sandbox.write("policy.toml", format!("{POLICY}{restarts}[chats]\ne = {{ managed = false }}\n"));
    // The slug of this one would be taken for an option: its row is refused.
    sandbox.write("sessions.json", sandbox.read("sessions.json").replace("imessage/-d", "-d"));
    sandbox.script("restart", "test $RECONCILE_CHAT_ID != b");
    sandbox.run(&["--dry-run", "--metrics", "out.prom"]).expect(4);
    let names =
        ["sessions", "drift", "changes", "restarts", "owed", "deferred", "refused", "held", "failed", "exit_code"];
    assert_eq!(counts(&sandbox, names), [5, 3, 2, 2, 0, 0, 1, 0, 0, 4]);
    sandbox.run(&["--metrics", "out.prom"]).expect(4);
    assert_eq!(counts(&sandbox, names), [5, 3, 2, 1, 1, 0, 1, 0, 1, 4]);
    sandbox.run(&["--metrics", "out.prom"]).expect(4);
    assert_eq!(counts(&sandbox, names), [5, 1, 0, 0, 1, 1, 1, 0, 0, 4]);
}

#[test]
fn the_last_success_outlives_what_is_none() {
    let sandbox = sandbox(&[("a", "family", "opus")]);
    let run = |arguments: &[&str], code: i32| {
        sandbox.run(&[arguments, &["--metrics", "out.prom"]].concat()).expect(code);
        of(&sandbox)
    };
    assert_eq!(run(&["--dry-run"], 0).get(SUCCESS), None, "a dry run is none");
    let first = run(&[], 0)[SUCCESS];
    assert!(first > 1_700_000_000);
    let earlier = first - 1000;
    sandbox.write("out.prom", sandbox.read("out.prom").replace(&first.to_string(), &earlier.to_string()));

    assert_eq!(run(&["--dry-run"], 0)[SUCCESS], earlier);
    sandbox.write("sessions.json", registry(&[("a", "family", "opus")]));
    sandbox.script("restart", "exit 1");
    assert_eq!(run(&[], 4)[SUCCESS], earlier);
    sandbox.write("sessions.json", registry(&[("a", "family", "opus")]));
    assert_eq!(run(&["--allow-changes", "0", "--retry", "a"], 3)[SUCCESS], earlier);
    let label = |text: String| text.lines().find(|line| line.starts_with(SUCCESS)).unwrap().to_owned();
    let before = label(sandbox.read("out.prom"));
    sandbox.write("policy.toml", "nonsense = 1");
    let found = run(&[], 1);
    assert_eq!((found[SUCCESS], found["reconcile_exit_code"]), (earlier, 1));
    assert_eq!(found.get("reconcile_drift"), None, "it is not known");
    assert_eq!(label(sandbox.read("out.prom")), before, "the label stays");

    sandbox.write("policy.toml", POLICY);
    assert!(run(&[], 0)[SUCCESS] >= first);
}

#[test]
fn no_report_takes_the_place_of_a_policy_whose_path_is_not_utf8() {
    let sandbox = sandbox(&[("a", "family", "opus")]);
    let odd = sandbox.path("").join(OsStr::from_bytes(b"bad\xff"));
    fs::create_dir(&odd).unwrap();
    let policy = odd.join("policy.toml");
    fs::write(&policy, POLICY).unwrap();
    symlink(&odd, sandbox.path("link")).unwrap();
    for named in [&policy, &odd] {
        let mut run =
            sandbox.command(&["--dry-run", "--registry", "sessions.json", "--output", "json=link/policy.toml"]);
        let run = finish(run.arg("--policy").arg(named)).expect(1);
        assert!(run.stderr.contains("the run itself needs that file"), "{run:?}");
        assert_eq!(fs::read_to_string(&policy).unwrap(), POLICY);
    }
}

#[test]
fn metrics_and_reports_take_the_place_of_nothing_that_is_needed() {
    let sandbox = sandbox(&[("a", "family", "opus")]);
    for (name, policy) in [("sessions.json", POLICY), ("policy.toml", POLICY), ("policy.toml", "nonsense = 1")] {
        sandbox.write("policy.toml", policy);
        let before = sandbox.read(name);
        for more in [&["--dry-run"][..], &[]] {
            let run = sandbox.run(&[&["--metrics", name], more].concat()).expect(1);
            assert!(run.stderr.contains("the run itself needs that file"), "{run:?}");
            assert_eq!(sandbox.read(name), before);
        }
    }
    sandbox.write("notes", "mine");
    for (name, told) in [
        ("notes", "--metrics notes: that file contains something other than metrics"),
        ("no/out.prom", "--metrics no/out.prom: no file can be created there"),
        (".", "cannot write .: it is a directory"),
    ] {
        let run = sandbox.run(&["--metrics", name]).expect(1);
        assert!(run.stderr.contains(told), "{run:?}");
        assert_eq!((sandbox.read("notes").as_str(), sandbox.calls().len()), ("mine", 0));
    }
    sandbox.write("policy.toml", POLICY);
    let state = sandbox.path("sessions.json.reconcile");
    let files = ["sessions.json.reconcile/ledger.journal", "sessions.json.reconcile/owed.json"];
    for file in files {
        let run = sandbox.run(&["--metrics", file]).expect(1);
        assert!(run.stderr.contains("the run itself needs that file") && !state.exists(), "{run:?}");
    }
    fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    for name in ["sessions.json", "policy.toml"].into_iter().chain(files) {
        let before = sandbox.read(name);
        for (option, file) in [("--output", &format!("json={name}")), ("--metrics", &name.to_owned())] {
            let run = sandbox.run(&["--dry-run", option, file]).expect(1);
            let told = ["the run itself needs that file", "that file contains something other than metrics"];
            assert!(told.iter().any(|told| run.stderr.contains(told)), "{run:?}");
            assert_eq!(sandbox.read(name), before);
        }
    }
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    // Nor of what is needed and not there.
    let named: [&[&str]; 2] = [&[], &["--registry", "sessions.json"]];
    for name in ["sessions.json", "policy.toml"] {
        fs::rename(sandbox.path(name), sandbox.path("away")).unwrap();
        for place in named {
            let run = sandbox.run(&[&["--metrics", name], place].concat()).expect(1);
            assert!(run.stderr.contains("the run itself needs that file"), "{run:?}");
            assert!(!sandbox.path(name).exists());
        }
        fs::rename(sandbox.path("away"), sandbox.path(name)).unwrap();
    }
}

#[test]
fn metrics_that_cannot_be_written_do_not_hide_what_was_done() {
    let sandbox = sandbox(&[("a", "family", "opus")]);
    fs::create_dir(sandbox.path("out")).unwrap();
    sandbox.script("restart", "rm -r out");
    let run = sandbox.run(&["--metrics", "out/last.prom"]).expect(4);
    assert_eq!(run.summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.");
    assert!(run.stderr.contains("cannot write out/last.prom"), "{run:#?}");
    sandbox.write("policy.toml", "nonsense = 1");
    let run = on_a_full_disk(&sandbox, &["--metrics", "last.prom"]).expect(1);
    assert!(run.stderr.contains("nonsense") && run.stderr.contains("cannot write last.prom"), "{run:#?}");
}

#[test]
fn whoever_reads_metrics_never_sees_half_a_file() {
    let sandbox = sandbox(&[("a", "family", "sonnet")]);
    sandbox.run(&["--metrics", "out.prom"]).expect(0);
    let (over, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let found = of(&sandbox);
                assert!(found.contains_key(SUCCESS) && found.contains_key("reconcile_sessions"), "{found:?}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..20 {
            sandbox.run(&["--metrics", "out.prom"]).expect(0);
        }
        until("it was looked at", || looks.load(Ordering::Relaxed) > 0 || reader.is_finished());
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    let left = fs::read_dir(sandbox.path("")).unwrap().map(|file| file.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".tmp")));
}
