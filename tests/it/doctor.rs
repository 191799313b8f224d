//! `reconcile doctor` finds what would keep a run from working on this host, says what to do about it, and changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use reconcile::os::exchange::Method;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::bad_input::drifted;
use crate::bad_state::{as_nobody, give_to_nobody};
use crate::mounts::{in_mounts, needs_mounts};
use crate::support::{POLICY, Run, Sandbox, finish, needs_attributes, needs_root, registry, write_state};
use crate::terminal::at;

const STATE: &str = "sessions.json.reconcile";

/// What a doctor found, by the name of each check.
fn checks(run: &Run) -> BTreeMap<String, Value> {
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:#?}"));
    let checks = report["checks"].as_array().unwrap().iter();
    checks.map(|check| (check["check"].as_str().unwrap().to_owned(), check.clone())).collect()
}

fn doctor(sandbox: &Sandbox) -> Run {
    sandbox.run(&["doctor", "--format", "json"])
}

/// Sees that these checks are problems and no others, and that each says what to do. Returns what is wrong and the fixes.
#[track_caller]
fn problems(run: Run, names: &[&str]) -> BTreeMap<String, (String, String)> {
    let run = run.expect(i32::from(!names.is_empty()));
    let wrong = checks(&run).into_iter().filter(|(_, check)| check["status"] == "problem");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let wrong: BTreeMap<_, _> =
        wrong.map(|(name, check)| (name, (text(&check["message"]), text(&check["fix"])))).collect();
    assert_eq!(wrong.keys().map(String::as_str).collect::<Vec<_>>(), names, "{run:#?}");
    assert!(wrong.values().all(|(message, fix)| !message.is_empty() && !fix.is_empty()), "{wrong:#?}");
    wrong
}

/// The code of what is wrong with that.
fn code(run: &Run, name: &str) -> Value {
    checks(run)[name]["code"].clone()
}

/// Sees that one check alone is a problem, with this in its words and in its fix.
#[track_caller]
fn problem(run: Run, name: &str, message: &str, fix: &str) {
    let wrong = &problems(run, &[name])[name];
    assert!(wrong.0.contains(message) && wrong.1.contains(fix), "{wrong:#?}");
}

#[test]
fn where_all_is_well_each_line_says_so() {
    let sandbox = drifted();
    let run = sandbox.run(&["doctor"]).expect(0);
    for line in [
        "  ok            policy          policy.toml has no mistakes",
        "  ok            registry        sessions.json has 2 sessions",
        "  ok            restart         ./restart can be executed",
        "  ok            state           there is none yet: the first run creates it",
        "  ok            time-zone       UTC, as this host says",
    ] {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(run.stdout.lines().any(|found| words(found) == words(line)), "{line}: {run:#?}");
    }
    assert!(run.stdout.contains(&format!("reconcile {} on ", env!("CARGO_PKG_VERSION"))), "{run:#?}");
    assert!(run.summary().starts_with("Doctor: no problems, "), "{run:#?}");
    problems(doctor(&sandbox), &[]);
    sandbox.run(&[]).expect(0);
    let state = &checks(&doctor(&sandbox))["state"];
    assert_eq!(state["message"], "0 restarts owed, 1 run in the history");
    sandbox.run(&["doctor", "--format", "xml"]).expect(64);
}

#[test]
fn its_json_has_a_stable_form() {
    let sandbox = drifted();
    fs::remove_file(sandbox.path("restart")).unwrap();
    let run = doctor(&sandbox).expect(1);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let keys: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["checks", "format_version", "not_checked", "problems", "warnings"]);
    assert_eq!((&report["format_version"], &report["problems"]), (&json!("1.2"), &json!(1)));
    let expected = json!({
        "check": "restart",
        "status": "problem",
        "code": "program",
        "message": "the restart command (./restart) cannot be executed: no such file or directory",
        "fix": "name the program by its full path, or set PATH for this run: cron's is short",
    });
    assert_eq!(checks(&run)["restart"], expected);
    assert_eq!(checks(&run)["registry"]["fix"], Value::Null);
    let names: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
    let expected = [
        "version",
        "time-zone",
        "policy",
        "policy-access",
        "registry",
        "permissions",
        "mounts",
        "exchange",
        "state",
        "restart",
    ];
    assert_eq!(names, expected);
}

/// Everything below a directory: kind and mode, owner, inode, both times and what it holds.
fn tree(sandbox: &Sandbox) -> BTreeMap<PathBuf, (String, Vec<u8>)> {
    let files = walkdir::WalkDir::new(sandbox.path("")).into_iter().map(|file| file.unwrap().into_path());
    let look = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).unwrap();
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        (path, (format!("{:o} {} {} {times:?}", meta.mode(), meta.uid(), meta.ino()), bytes))
    };
    files.map(look).collect()
}

#[test]
fn nothing_is_changed_or_created() {
    let owing = drifted();
    owing.script("restart", "exit 1");
    owing.run(&[]).expect(4);
    let broken = drifted();
    broken.write("policy.toml", "[models");
    // What a run left that died is for the next run.
    let left = drifted();
    left.run(&[]).expect(0);
    write_state(&left.path(STATE), "registry.new", "{}");
    write_state(&left.path(STATE), "redact.key.new", "");
    let daemon = Sandbox::new(&dispatch("daemon.sock"), &registry(&[("+1", "family", "opus")]));
    for (sandbox, code) in [(drifted(), 0), (owing, 0), (broken, 1), (left, 0), (daemon, 0)] {
        let (before, calls) = (tree(&sandbox), sandbox.calls());
        for arguments in [&["doctor"][..], &["doctor", "--format", "json"], &["doctor", "--redact"]] {
            sandbox.run(arguments).expect(code);
            assert!(tree(&sandbox) == before, "{arguments:?}: something was changed");
        }
        assert_eq!(sandbox.calls(), calls, "a command of the policy was run");
    }
}

#[test]
fn a_policy_with_mistakes_keeps_nothing_else_from_being_looked_at() {
    let sandbox = drifted();
    let policy = sandbox.read("policy.toml");
    sandbox.write("policy.toml", policy.replace("fallback = \"sonnet\"", "fallback = \"gpt\"\nfallbak = 1"));
    let run = doctor(&sandbox);
    let found = checks(&run);
    assert_eq!(found["commands"]["status"], "not-checked");
    for name in ["registry", "permissions", "mounts", "state", "time-zone"] {
        assert_eq!(found[name]["status"], "ok", "{name}: {found:#?}");
    }
    problem(run, "policy", "policy.toml:4:12: ", "");
    assert_eq!(found["policy"]["code"], "invalid");
    assert!(found["policy"]["message"].as_str().unwrap().ends_with("; 2 mistakes in all"), "{found:#?}");

    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    problem(
        sandbox.run(&["doctor", "--format", "json", "--registry", "sessions.json"]),
        "policy",
        "there is no policy policy.toml",
        "--policy PATH",
    );
    let run = doctor(&sandbox);
    assert_eq!(checks(&run)["registry"]["status"], "not-checked");
    problems(run, &["policy"]);
}

#[test]
fn each_command_is_looked_up_as_a_run_would() {
    let sandbox = drifted();
    let policy = sandbox.read("policy.toml");
    let commands = "restart = [\"./bin/restart\"]\nrunning = [\"nosuch\"]\nidentity = [\"noneither\"]\n";
    sandbox.write("policy.toml", policy.replace("restart = [\"./restart\", \"{session_slug}\"]", commands));
    fs::create_dir(sandbox.path("bin")).unwrap();
    sandbox.script("bin/restart", "");
    let run = finish(sandbox.command(&["doctor", "--format", "json"]).env("PATH", "/bin:bin"));
    let found = problems(run, &["identity", "running"]);
    assert_eq!(
        found["running"].0,
        "the running command (nosuch) cannot be executed: there is no such program in PATH (/bin:bin)"
    );
    sandbox.script("bin/nosuch", "");
    sandbox.script("bin/noneither", "");
    problems(finish(sandbox.command(&["doctor", "--format", "json"]).env("PATH", "/bin:bin")), &[]);
}

#[test]
fn a_registry_that_cannot_be_used_is_told_with_its_place() {
    let sandbox = drifted();
    sandbox.write("sessions.json", "{\"a\": {\"model\": \"haiku\"},}");
    problem(doctor(&sandbox), "registry", "sessions.json:1:26: ", "");
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    problem(doctor(&sandbox), "registry", "there is no registry ", "--registry PATH");
    // Of a mistake that names a chat, only kind and place are told.
    sandbox.write("sessions.json", r#"{"+16175550142": {"model": "opus"}, "+16175550142": {"model": "opus"}}"#);
    assert!(doctor(&sandbox).expect(1).stdout.contains("+16175550142"));
    let redacted = sandbox.run(&["doctor", "--redact"]).expect(1);
    assert!(!redacted.stdout.contains("+16175550142"), "{redacted:#?}");
    assert!(redacted.stdout.contains("registry:1:"), "{redacted:#?}");
}

#[test]
fn state_that_cannot_be_used_is_a_problem() {
    let sandbox = drifted();
    write_state(&sandbox.path(STATE), "ledger.journal", "junk\n");
    problem(doctor(&sandbox), "state", "ledger.journal is damaged", "");
    write_state(&sandbox.path(STATE), "ledger.journal", "");
    fs::set_permissions(sandbox.path(STATE), Permissions::from_mode(0o755)).unwrap();
    problem(doctor(&sandbox), "state", "its mode is 0755, not 0700", "find out who made it");

    let sandbox = drifted();
    sandbox.run(&[]).expect(0);
    fs::write(sandbox.path(STATE).join("history.jsonl"), "junk\n").unwrap();
    problem(doctor(&sandbox), "state", "history.jsonl", "");
}

#[test]
#[ignore = "needs extended attributes"]
fn state_that_is_gone_is_a_problem() {
    needs_attributes();
    let sandbox = drifted();
    sandbox.run(&[]).expect(0);
    fs::remove_dir_all(sandbox.path(STATE)).unwrap();
    let run = doctor(&sandbox);
    assert_eq!(code(&run, "state"), "state-lost");
    problem(run, "state", "the state of earlier runs, with the restarts that are owed, is missing", "restore it");
}

#[test]
#[ignore = "needs root"]
fn another_user_than_the_registrys_owner_is_told_so() {
    needs_root();
    let sandbox = drifted();
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o755)).unwrap();
    let run = as_nobody(&sandbox, &["doctor", "--format", "json"]);
    assert_eq!(code(&run, "permissions"), "registry-owner");
    problem(run, "permissions", "the registry belongs to user 0, and this is user 65534", "run as user 0");
    give_to_nobody(&sandbox);
    problems(as_nobody(&sandbox, &["doctor", "--format", "json"]), &[]);
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o555)).unwrap();
    let run = as_nobody(&sandbox, &["doctor", "--format", "json"]);
    problem(run, "permissions", "permission denied", "run as the owner of the registry");
}

#[test]
#[ignore = "needs root"]
fn a_policy_whose_commands_root_refuses_is_a_problem() {
    needs_root();
    let sandbox = drifted();
    fs::set_permissions(sandbox.path("policy.toml"), Permissions::from_mode(0o666)).unwrap();
    problem(doctor(&sandbox), "policy-access", "policy.toml, and its commands would run as root", "chown it to root");
    sandbox.write("policy.toml", POLICY);
    problems(doctor(&sandbox), &[]);
    assert_eq!(
        checks(&doctor(&sandbox))["restart"]["message"],
        "the policy has no restart command: nothing is restarted"
    );
}

#[test]
#[ignore = "needs root and unshare"]
fn mounts_on_which_a_run_would_fail_are_problems() {
    needs_mounts();
    let sandbox = drifted();
    sandbox.write("host.json", sandbox.read("sessions.json"));
    let arguments = &["doctor", "--format", "json"];
    let single = "mount --bind host.json sessions.json";
    let run = in_mounts(&sandbox, single, arguments);
    problem(run, "mounts", "it is mounted as a single file", "mount its directory, not the file alone");
    let read_only = "mount --bind . .; mount -o remount,ro,bind .; cd \"$PWD\"";
    let run = in_mounts(&sandbox, read_only, arguments);
    problem(run, "mounts", "it is on a read-only file system", "ReadWritePaths=");
    let elsewhere = "mkdir -m 700 sessions.json.reconcile; mount -t tmpfs -o mode=700 tmpfs sessions.json.reconcile";
    let run = in_mounts(&sandbox, elsewhere, arguments);
    problem(run, "mounts", "sessions.json.reconcile is on another file system", "mount the directory that holds both");
}

#[test]
fn whether_files_can_be_exchanged_is_told_by_the_kind_of_file_system() {
    for (kind, method) in [
        ("ext4", Some(Method::Exchange)),
        ("xfs", Some(Method::Exchange)),
        ("tmpfs", Some(Method::Exchange)),
        ("nfs4", Some(Method::Rename)),
        ("cifs", Some(Method::Rename)),
        ("fuse.sshfs", None),
    ] {
        assert_eq!(Method::on(kind), method, "{kind}");
    }
}

#[test]
#[ignore = "needs root and unshare"]
fn the_exchange_is_tried_on_no_file_system() {
    needs_mounts();
    let sandbox = drifted();
    let there = |kind: &str| format!("mkdir -p there; mount -t {kind} none there; cp sessions.json there");
    let arguments = &["doctor", "--format", "json", "--registry", "there/sessions.json"];
    let found = |kind: &str| {
        let run = in_mounts(&sandbox, &there(kind), arguments).expect(0);
        checks(&run)["exchange"].clone()
    };
    let expected = json!({
        "check": "exchange", "status": "ok", "code": null, "message": "tmpfs can exchange two files", "fix": null
    });
    assert_eq!(found("tmpfs"), expected);
    let unknown = found("ramfs");
    assert_eq!(unknown["status"], "not-checked");
    assert_eq!(unknown["message"], "not tried whether ramfs can exchange two files, because that would write");
}

#[test]
fn a_time_zone_that_is_none_is_a_problem_where_it_counts() {
    let sandbox = drifted();
    let run = finish(sandbox.command(&["doctor", "--format", "json"]).env("TZ", "Europe/Belin"));
    assert_eq!(code(&run, "time-zone"), "time-zone");
    problem(run, "time-zone", "TZ is `Europe/Belin`, which is not a known time zone", "did you mean `Europe/Berlin`?");
    let policy = sandbox.read("policy.toml");
    sandbox.write("policy.toml", policy.replace("[models]", "[models]\ntime_zone = \"Europe/Berlin\""));
    let run = finish(sandbox.command(&["doctor", "--format", "json"]).env("TZ", "Europe/Belin"));
    assert_eq!(checks(&run)["time-zone"]["message"], "Europe/Berlin, as models.time_zone says");
    problems(run, &[]);
}

fn dispatch(socket: &str) -> String {
    format!("{POLICY}\n[sessions]\nbackend = \"dispatch\"\nsocket = \"{socket}\"\n")
}

#[test]
fn the_socket_of_a_daemon_is_looked_at() {
    let sandbox = Sandbox::new(&dispatch("daemon.sock"), &registry(&[("+1", "family", "opus")]));
    let socket = |sandbox: &Sandbox| checks(&doctor(sandbox).expect(0))["socket"]["message"].clone();
    assert_eq!(socket(&sandbox), "no daemon listens at daemon.sock: runs edit the registry directly");
    let listener = UnixListener::bind(sandbox.path("daemon.sock")).unwrap();
    assert_eq!(socket(&sandbox), "a daemon listens at daemon.sock");
    drop(listener);
    fs::remove_file(sandbox.path("daemon.sock")).unwrap();
    symlink("policy.toml", sandbox.path("daemon.sock")).unwrap();
    problem(doctor(&sandbox), "socket", "daemon.sock is not a socket", "check sessions.socket in the policy");
    fs::remove_file(sandbox.path("daemon.sock")).unwrap();
    // What keeps the rest from being looked at is told as well.
    sandbox.write("policy.toml", dispatch("~/daemon.sock"));
    let homeless = finish(sandbox.command(&["doctor", "--format", "json"]).env_remove("HOME"));
    problem(homeless, "backend", "HOME is not set", "");
    sandbox.write("policy.toml", dispatch("daemon.sock"));
    write_state(&sandbox.path(STATE), "pending.json", "junk");
    problem(doctor(&sandbox), "pending", "pending.json", "");
}

#[test]
fn it_fits_the_terminal() {
    let sandbox = drifted();
    fs::remove_file(sandbox.path("restart")).unwrap();
    let shown = at(&sandbox, 80, &["doctor"]);
    assert!(shown.lines().all(|line| line.width() <= 80), "{shown}");
    let words: Vec<&str> = shown.split_whitespace().collect();
    let whole = sandbox.run(&["doctor"]).stdout;
    assert_eq!(words, whole.split_whitespace().collect::<Vec<_>>(), "{shown}");
    assert!(shown.lines().count() > whole.lines().count(), "{shown}");
}
