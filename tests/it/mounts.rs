//! How the registry and the policy are mounted: what would keep a run from replacing them is found when planning.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bad_input::drifted;
use crate::handle::Double;
use crate::support::{POLICY, Run, Sandbox, finish, needs, registry};

const STATE: &str = "sessions.json.reconcile";
/// What Docker does where a single file is given to a container.
const SINGLE_FILE: &str = "mount --bind host.json sessions.json";
const READ_ONLY: &str = "mount --bind . .; mount -o remount,ro,bind .; cd \"$PWD\"";
/// What systemd does with `ProtectSystem=strict` and `ReadWritePaths=` of a single file.
const READ_WRITE_FILE: &str =
    "mount --bind . .; cd \"$PWD\"; mount --bind sessions.json sessions.json; mount -o remount,ro,bind .";
const OTHER_FILE_SYSTEM: &str =
    "mkdir -p -m 700 sessions.json.reconcile; mount -t tmpfs -o mode=700 tmpfs sessions.json.reconcile";

/// A shell command in mounts of its own, which only root can have.
fn unshared(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-e", "-c", script]);
    command
}

/// Fails where a test cannot have mounts of its own.
#[track_caller]
pub fn needs_mounts() {
    needs(&["unshare"]);
    let probe = finish(&mut unshared("true"));
    assert_eq!(probe.code, 0, "this user cannot have mounts of its own: {}", probe.stderr);
}

/// The binary in mounts of its own, which this script makes in the sandbox.
pub fn in_mounts(sandbox: &Sandbox, script: &str, arguments: &[&str]) -> Run {
    let mut command = unshared(&format!("{script}\nexec \"$0\" \"$@\""));
    command.arg(env!("CARGO_BIN_EXE_reconcile")).args(arguments);
    finish(command.current_dir(sandbox.path("")).env("TZ", "UTC").stdin(Stdio::null()))
}

/// A sandbox with a session to be changed, and with another file of the same content.
fn scene() -> Sandbox {
    let sandbox = drifted();
    sandbox.write("host.json", sandbox.read("sessions.json"));
    sandbox
}

/// What a run that was refused says, with its hint.
#[track_caller]
fn is_told(run: &Run, level: &str, message: &str, hint: &str) {
    let lines: Vec<&str> = run.stderr.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(level) && line.contains(message));
    let at = at.unwrap_or_else(|| panic!("no {level} {message}: {run:#?}"));
    assert!(lines.get(at + 1).is_some_and(|line| line.starts_with("hint: ") && line.contains(hint)), "{run:#?}");
}

/// Sees that with these mounts a dry run warns, that a run changes nothing, fails with this code and is told what to do.
#[track_caller]
fn refused(script: &str, code: &str, message: &str, hint: &str) {
    let sandbox = scene();
    let before = sandbox.read("sessions.json");
    let dry_run = in_mounts(&sandbox, script, &["--dry-run"]);
    is_told(&dry_run.expect(0), "warning: ", message, hint);
    let run = in_mounts(&sandbox, script, &[]).expect(1);
    is_told(&run, &format!("error[{code}]: "), message, hint);
    assert_eq!((run.stdout.as_str(), sandbox.calls()), ("", Vec::new()));
    assert_eq!((sandbox.read("sessions.json"), sandbox.read("host.json")), (before.clone(), before));
}

#[test]
#[ignore = "needs root and unshare"]
fn a_registry_that_is_mounted_as_a_single_file_is_found_when_planning() {
    needs_mounts();
    refused(
        SINGLE_FILE,
        "mounted-file",
        "sessions.json: it is mounted as a single file",
        "mount its directory, not the file alone",
    );
}

#[test]
#[ignore = "needs root and unshare"]
fn a_registry_on_a_read_only_file_system_is_found_when_planning() {
    needs_mounts();
    refused(READ_ONLY, "read-only", "it is on a read-only file system", "mount it read-write");
}

#[test]
#[ignore = "needs root and unshare"]
fn a_service_that_may_write_the_file_alone_is_told_to_name_the_directory() {
    needs_mounts();
    refused(
        READ_WRITE_FILE,
        "mounted-file",
        "sessions.json: it is mounted as a single file",
        "name the directory in ReadWritePaths=",
    );
}

#[test]
#[ignore = "needs root and unshare"]
fn state_on_another_file_system_is_found_when_planning() {
    needs_mounts();
    refused(
        OTHER_FILE_SYSTEM,
        "other-file-system",
        "sessions.json.reconcile is on another file system",
        "mount the directory that holds both",
    );
}

#[test]
#[ignore = "needs root and unshare"]
fn a_launch_and_an_override_are_told_the_same() {
    needs_mounts();
    let sandbox = scene();
    let policy = sandbox.read("policy.toml");
    let message = "sessions.json: it is mounted as a single file";
    let launch = &["launch", "new", "--", "true"];
    let run = in_mounts(&sandbox, SINGLE_FILE, launch);
    is_told(&run, "error[", message, "mount its directory");
    for arguments in [&["set-model", "+1", "sonnet"][..], &["set-model", "+1", "sonnet", "--no-policy"]] {
        is_told(&in_mounts(&sandbox, SINGLE_FILE, arguments).expect(1), "error[", message, "mount its directory");
    }
    assert_eq!(sandbox.read("policy.toml"), policy);
}

#[test]
#[ignore = "needs root and unshare"]
fn what_needs_no_edit_works_however_the_registry_is_mounted() {
    needs_mounts();
    let sandbox = scene();
    let arguments = &["--chat", "+2"];
    let run = in_mounts(&sandbox, SINGLE_FILE, arguments);
    assert_eq!(run.expect(0).stderr, "");
    for arguments in [&["--dry-run", "--chat", "+2"][..], &["check"], &["explain", "+1"], &["owed"]] {
        for script in [SINGLE_FILE, READ_ONLY, READ_WRITE_FILE, OTHER_FILE_SYSTEM] {
            assert_eq!(in_mounts(&sandbox, script, arguments).expect(0).stderr, "", "{arguments:?}: {script}");
        }
    }
}

#[test]
#[ignore = "needs root and unshare"]
fn a_registry_that_a_daemon_writes_itself_may_be_mounted_in_any_way() {
    needs_mounts();
    let policy = format!("{POLICY}\n[sessions]\nbackend = \"dispatch\"\nsocket = \"daemon.sock\"\n");
    let sandbox = Sandbox::new(&policy, &registry(&[("+1", "family", "opus")]));
    sandbox.write("host.json", sandbox.read("sessions.json"));
    let message = "sessions.json: it is mounted as a single file";
    let daemon = Double::start(&sandbox.path(""), &["--live", "+1"]);
    let up = in_mounts(&sandbox, SINGLE_FILE, &["--dry-run"]);
    let up = up.expect(0);
    assert!(up.stdout.contains("opus → sonnet") && !up.stderr.contains(message), "{up:#?}");
    drop(daemon);
    let down = in_mounts(&sandbox, SINGLE_FILE, &["--dry-run"]);
    is_told(&down.expect(0), "warning: ", message, "mount its directory");
}

#[test]
#[ignore = "needs root and unshare"]
fn with_its_directory_mounted_both_sides_see_the_new_registry() {
    needs_mounts();
    let sandbox = scene();
    fs::create_dir_all(sandbox.path("container/data")).unwrap();
    fs::create_dir(sandbox.path("host")).unwrap();
    sandbox.write("host/sessions.json", sandbox.read("sessions.json"));
    let script = "mount --bind host container/data";
    let run = in_mounts(&sandbox, script, &["--registry", "container/data/sessions.json"]);
    run.expect(0);
    assert!(sandbox.read("host/sessions.json").contains("\"opus\""));
}

/// Where a container has the file alone and a run on the host replaces it, the container keeps the old one.
#[test]
#[ignore = "needs root and unshare"]
fn a_container_that_has_the_file_alone_keeps_the_old_one() {
    needs_mounts();
    let sandbox = scene();
    sandbox.write("container.json", "");
    let script = "mount --bind sessions.json container.json; \"$0\" > run.txt; cp container.json seen.json";
    let before = sandbox.read("sessions.json");
    let run = in_mounts(&sandbox, script, &["--dry-run", "--registry", "container.json"]);
    assert!(sandbox.read("sessions.json") != before && sandbox.read("seen.json") == before);
    is_told(&run.expect(0), "warning: ", "container.json: it is mounted as a single file", "mount its directory");
}

#[test]
#[ignore = "needs root and unshare"]
fn a_policy_that_cannot_be_replaced_is_found_when_planning() {
    needs_mounts();
    let sandbox = scene();
    sandbox.write("host.toml", sandbox.read("policy.toml"));
    fs::create_dir(sandbox.path("data")).unwrap();
    fs::rename(sandbox.path("sessions.json"), sandbox.path("data/sessions.json")).unwrap();
    let policy = sandbox.read("policy.toml").replace("\"sessions.json\"", "\"data/sessions.json\"");
    for name in ["policy.toml", "host.toml"] {
        sandbox.write(name, &policy);
    }
    let read_only = "mount --bind . .; cd \"$PWD\"; mount --bind data data; mount -o remount,ro,bind .";
    for (script, message) in [
        (read_only, "it is on a read-only file system"),
        ("mount --bind host.toml policy.toml", "policy.toml: it is mounted as a single file"),
    ] {
        let hint = "set-model --no-policy";
        let set = &["set-model", "+1", "sonnet"];
        let dry_run = in_mounts(&sandbox, script, &[set, &["--dry-run"][..]].concat());
        is_told(&dry_run.expect(0), "warning: ", message, hint);
        is_told(&in_mounts(&sandbox, script, set).expect(1), "error[policy-not-editable]", message, hint);
        assert_eq!((sandbox.read("policy.toml"), sandbox.calls()), (policy.clone(), Vec::new()));
        // What is in the policy already needs no edit of it.
        in_mounts(&sandbox, script, &["unset-model", "+2"]).expect(0);
    }
    let no_policy = &["set-model", "+1", "sonnet", "--no-policy"];
    // Root runs no command of the sandbox where it cannot write: the session is down, so its script is not needed.
    let run = in_mounts(&sandbox, &format!("{read_only}; cd \"$PWD\""), no_policy);
    assert!(sandbox.read("data/sessions.json").contains("\"sonnet\"") && run.code != 1, "{run:#?}");
}

#[test]
#[ignore = "needs root and unshare"]
fn a_report_that_is_mounted_as_a_single_file_is_found_before_the_run() {
    needs_mounts();
    for (option, name) in [("--output", "json=report.json"), ("--metrics", "report.json")] {
        let sandbox = scene();
        for name in ["report.json", "host.json"] {
            sandbox.write(name, "");
        }
        let script = "mount --bind host.json report.json";
        let run = in_mounts(&sandbox, script, &[option, name]);
        is_told(&run.expect(1), "error[", "report.json: it is mounted as a single file", "mount its directory");
        assert_eq!((sandbox.model("+1").as_deref(), sandbox.calls()), (Some("haiku"), Vec::new()));
    }
}

#[test]
#[ignore = "needs root and unshare"]
fn on_a_full_disk_a_run_changes_nothing_and_the_next_one_does_it() {
    needs_mounts();
    let sandbox = scene();
    fs::create_dir(sandbox.path("data")).unwrap();
    let full = "mount -t tmpfs -o size=64k tmpfs data; cp sessions.json data; \
                dd if=/dev/zero of=data/filler bs=1k count=100 2> dd.txt || true; cp data/sessions.json before.json; \
                \"$0\" --registry data/sessions.json 2> run.txt > run.out && exit 9; echo $? > run.code; \
                cmp before.json data/sessions.json; rm data/filler";
    let arguments = &["--registry", "data/sessions.json"];
    let run = in_mounts(&sandbox, full, arguments);
    assert_eq!(run.expect(0).summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_eq!(sandbox.read("run.code"), "1\n");
    assert!(sandbox.read("run.txt").contains("no space left on device"), "{}", sandbox.read("run.txt"));
    assert_eq!((sandbox.read("run.out").as_str(), sandbox.calls().len()), ("", 1));
}

#[test]
#[ignore = "needs root and unshare"]
fn a_redacted_snapshot_may_be_mounted_in_any_way() {
    needs_mounts();
    let sandbox = scene();
    sandbox.run(&[]).expect(0);
    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    sandbox.write("host.json", &snapshot);
    sandbox.write("snapshot.json", &snapshot);
    fs::copy(sandbox.path(STATE).join("redact.key"), sandbox.path("redact.key")).unwrap();
    fs::set_permissions(sandbox.path("redact.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let policy = sandbox.read("policy.toml").replace("admin  = \"opus\"", "admin  = \"haiku\"");
    sandbox.write("policy.toml", policy);
    let arguments = &["--dry-run", "--quiet", "--registry", "snapshot.json", "--redact-key", "redact.key"];
    let run = in_mounts(&sandbox, "mount --bind host.json snapshot.json", arguments);
    assert_eq!(run.expect(0).stderr, "");
}

/// What the system says of the mount of a network file system, which a test cannot make.
const NETWORK: &str =
    r#"sed -E 's/ - [^ ]+ / - nfs4 /' "/proc/$$/mountinfo" > mountinfo; mount --bind mountinfo "/proc/$$/mountinfo""#;

#[test]
#[ignore = "needs root and unshare"]
fn a_file_system_that_cannot_exchange_two_files_is_a_problem_of_doctor() {
    needs_mounts();
    let run = in_mounts(&scene(), NETWORK, &["doctor", "--format", "json"]).expect(1);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let exchange = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "exchange").unwrap();
    assert_eq!((&exchange["status"], &exchange["code"]), (&json!("problem"), &json!("no-exchange")), "{run:#?}");
    assert!(exchange["fix"].as_str().unwrap().contains("local file system"), "{run:#?}");
}
