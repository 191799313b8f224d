//! State and surroundings that cannot be used: a damaged ledger, planted links, no permission, no room.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bad_input::{drifted, refused, refused_by, unless_it_hangs};
use crate::support::{Run, Sandbox, finish, framed, needs, needs_root, registry, write_state};

const STATE: &str = "sessions.json.reconcile";
const LEDGER: &str = "sessions.json.reconcile/ledger.journal";
/// Where version 0.1 kept it, and finds now that it was moved.
const OLD_LEDGER: &str = "sessions.json.reconcile/owed.json";
const NOBODY: u32 = 65534;

fn state_dir(sandbox: &Sandbox, mode: u32) {
    DirBuilder::new().mode(mode).create(sandbox.path(STATE)).unwrap();
    fs::set_permissions(sandbox.path(STATE), Permissions::from_mode(mode)).unwrap();
}

fn with_ledger(ledger: impl AsRef<[u8]>) -> Sandbox {
    let sandbox = drifted();
    write_state(&sandbox.path(STATE), "ledger.journal", ledger);
    sandbox
}

/// A ledger with a debt, as a run leaves it.
fn ledger() -> String {
    let sandbox = drifted();
    sandbox.script("restart", "exit 1");
    sandbox.run(&[]).expect(4);
    let ledger = sandbox.read(LEDGER);
    assert!(ledger.contains("\"+1\""), "{ledger}");
    ledger
}

/// The binary as a user without privileges, which only root can become.
pub fn as_nobody(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    finish(sandbox.command(arguments).uid(NOBODY).gid(NOBODY))
}

pub fn give_to_nobody(sandbox: &Sandbox) {
    give(sandbox, NOBODY);
}

fn give(sandbox: &Sandbox, user: u32) {
    for file in walkdir::WalkDir::new(sandbox.path("")) {
        chown(file.unwrap().path(), Some(user), Some(user)).unwrap();
    }
}

/// An apply by a user without privileges, which is refused.
#[track_caller]
pub fn refused_to_nobody(sandbox: &Sandbox, told: &[&str], arguments: &[&str]) {
    refused_by(sandbox, told, |arguments| as_nobody(sandbox, arguments), arguments);
}

/// A state directory that holds this must be refused by all that reads it, and the file left as it is.
#[track_caller]
fn is_damaged(name: &str, bytes: &[u8]) {
    let sandbox = drifted();
    write_state(&sandbox.path(STATE), name, bytes);
    let told = format!("{name} is damaged");
    refused(&sandbox, &[&told]);
    for arguments in [&["owed"][..], &["owed", "--forget", "+1"]] {
        refused_by(&sandbox, &[&told], |arguments| sandbox.run(arguments), arguments);
    }
    let left = fs::read(sandbox.path(STATE).join(name)).unwrap();
    assert_eq!(left, bytes, "the damaged ledger was touched: {}", String::from_utf8_lossy(bytes));
}

#[test]
fn a_damaged_ledger_is_never_taken_for_no_debts() {
    let whole = ledger();
    let first = whole.lines().next().unwrap();
    let record: Value = serde_json::from_str(first.splitn(3, ' ').nth(2).unwrap()).unwrap();
    let said = |pointer: &str, value: Value| {
        let mut record = record.clone();
        *record.pointer_mut(pointer).unwrap() = value;
        framed(&record).into_bytes()
    };
    let mut damaged = vec![
        Vec::new(),
        b"\n".to_vec(),
        b"junk\n".to_vec(),
        b"{}\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        // Right by their checksums, and by nothing else.
        framed(&json!({})).into_bytes(),
        framed(&json!([])).into_bytes(),
        framed(&json!(null)).into_bytes(),
        framed(&json!({ "owed": {} })).into_bytes(),
        said("/version", json!("2")),
        framed(&json!({ "version": 2, "surprise": true })).into_bytes(),
        said("/owed/+1", json!({ "surprise": 1 })),
        said("/owed/+1/began", json!("yes")),
        said("/owed/+1/ran", json!(7)),
        said("/exchange", json!("soon")),
        // A second record that is none.
        [whole.as_bytes(), b"x\n"].concat(),
        [whole.as_bytes(), framed(&json!({ "surprise": true })).as_bytes()].concat(),
        [whole.as_bytes(), first.strip_prefix(|_: char| true).unwrap().as_bytes(), b"\n"].concat(),
    ];
    // What is left where the first line never ended, and where the beginning is gone.
    damaged.extend((0..=first.len()).step_by(37).map(|length| whole.as_bytes()[..length].to_vec()));
    damaged.extend((1..whole.len()).step_by(37).map(|from| whole.as_bytes()[from..].to_vec()));
    for bytes in damaged {
        is_damaged("ledger.journal", &bytes);
    }
    // The ledger itself was none of these.
    assert!(!with_ledger(whole).run(&["--dry-run"]).stderr.contains("damaged"));
}

#[test]
fn a_damaged_ledger_of_version_0_1_is_never_taken_for_no_debts() {
    let whole = json!({
        "version": 1,
        "owed": { "+1": { "since": "2026-03-01T00:00:00Z", "ran": "haiku", "began": true, "attempts": 1, "next_try": null } },
        "corrected": {},
        "exchange": null,
    });
    let said = |pointer: &str, value: Value| {
        let mut ledger = whole.clone();
        *ledger.pointer_mut(pointer).unwrap() = value;
        ledger.to_string().into_bytes()
    };
    let text = whole.to_string();
    let mut damaged = vec![
        b"\n".to_vec(),
        b"junk".to_vec(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"\xff\xfe".to_vec(),
        format!("{text}x").into_bytes(),
        said("/version", json!(2)),
        said("/corrected", json!(null)),
        said("/owed/+1", json!({ "surprise": 1 })),
        said("/owed/+1/began", json!("yes")),
        said("/owed/+1/ran", json!(7)),
    ];
    damaged.extend((0..text.len()).step_by(37).map(|length| text.as_bytes()[..length].to_vec()));
    for bytes in damaged {
        is_damaged("owed.json", &bytes);
    }
    let sandbox = drifted();
    write_state(&sandbox.path(STATE), "owed.json", text);
    sandbox.run(&["--dry-run"]).expect(0);
}

#[test]
fn a_state_directory_that_is_something_else_is_refused() {
    let sandbox = drifted();
    let elsewhere = sandbox.path("elsewhere");
    DirBuilder::new().mode(0o700).create(&elsewhere).unwrap();
    symlink(&elsewhere, sandbox.path(STATE)).unwrap();
    refused(&sandbox, &[STATE, "it is not a directory"]);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "a planted link was followed");

    let sandbox = drifted();
    symlink("nowhere", sandbox.path(STATE)).unwrap();
    refused(&sandbox, &[STATE, "it is not a directory"]);
    assert!(!sandbox.path("nowhere").exists());

    let sandbox = drifted();
    sandbox.write(STATE, "a file");
    refused(&sandbox, &[STATE, "it is not a directory"]);
    assert_eq!(sandbox.read(STATE), "a file");
}

#[test]
fn a_state_directory_that_others_can_enter_is_refused() {
    for mode in [0o755, 0o777, 0o750, 0o500] {
        let sandbox = drifted();
        state_dir(&sandbox, mode);
        refused(&sandbox, &[STATE, &format!("its mode is {mode:04o}, not 0700")]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_state_directory_of_somebody_else_is_refused() {
    needs_root();
    let sandbox = drifted();
    state_dir(&sandbox, 0o700);
    chown(sandbox.path(STATE), Some(NOBODY), None).unwrap();
    refused(&sandbox, &[STATE, "user 65534 owns it, but user 0 owns the registry"]);
    assert_eq!(fs::read_dir(sandbox.path(STATE)).unwrap().count(), 0);

    let sandbox = with_ledger(ledger());
    chown(sandbox.path(LEDGER), Some(NOBODY), None).unwrap();
    refused(&sandbox, &["ledger.journal", "user 65534 owns it"]);
}

#[test]
fn a_ledger_that_is_something_else_is_refused_and_never_followed() {
    let whole = ledger();
    let sandbox = with_ledger(&whole);
    fs::rename(sandbox.path(LEDGER), sandbox.path("planted")).unwrap();
    symlink(sandbox.path("planted.json"), sandbox.path(LEDGER)).unwrap();
    refused(&sandbox, &["ledger.journal", "it is a link"]);
    assert_eq!(sandbox.read("planted"), whole);

    fs::remove_file(sandbox.path(LEDGER)).unwrap();
    fs::create_dir(sandbox.path(LEDGER)).unwrap();
    refused(&sandbox, &["ledger.journal", "it is not a regular file"]);

    fs::remove_dir(sandbox.path(LEDGER)).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(sandbox.path(LEDGER)).status().unwrap().success());
    refused(&sandbox, &["ledger.journal", "it is not a regular file"]);

    let sandbox = with_ledger(&whole);
    fs::set_permissions(sandbox.path(LEDGER), Permissions::from_mode(0o644)).unwrap();
    refused(&sandbox, &["ledger.journal", "its mode is 0644, not 0600"]);
}

#[test]
fn planted_locks_and_temporary_files_are_not_followed() {
    for (name, told) in [("run.lock", "it is a link"), ("data.lock", "it is a link")] {
        let sandbox = drifted();
        state_dir(&sandbox, 0o700);
        sandbox.write("victim", "precious");
        symlink(sandbox.path("victim"), sandbox.path(STATE).join(name)).unwrap();
        refused_by(&sandbox, &[name, told], |arguments| unless_it_hangs(&sandbox, arguments), &[]);
        assert_eq!(sandbox.read("victim"), "precious");
    }
    for name in ["registry.new", "ledger.journal.new", "owed.json.new", "history.jsonl"] {
        let sandbox = drifted();
        state_dir(&sandbox, 0o700);
        sandbox.write("victim", "precious");
        symlink(sandbox.path("victim"), sandbox.path(STATE).join(name)).unwrap();
        let run = sandbox.run(&[]);
        // What lies there unfinished is removed; the history is to be kept, so it must be ours.
        let refused = name == "history.jsonl";
        assert_eq!(run.code, i32::from(refused), "{name}: {run:#?}");
        assert_eq!(sandbox.read("victim"), "precious", "{name}");
        assert_eq!(sandbox.model("+1").as_deref() == Some("opus"), !refused);
    }
}

#[test]
#[ignore = "needs root"]
fn without_permission_to_read_nothing_is_done() {
    needs_root();
    for name in ["sessions.json", "policy.toml"] {
        let sandbox = drifted();
        give_to_nobody(&sandbox);
        fs::set_permissions(sandbox.path(name), Permissions::from_mode(0o000)).unwrap();
        for arguments in [&["--dry-run"][..], &[]] {
            refused_to_nobody(&sandbox, &[name, "permission denied"], arguments);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn in_a_read_only_directory_a_dry_run_works_and_an_apply_is_refused() {
    needs_root();
    let sandbox = drifted();
    give_to_nobody(&sandbox);
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o555)).unwrap();
    as_nobody(&sandbox, &["--dry-run"]).expect(0);
    refused_to_nobody(&sandbox, &["cannot create", STATE, "permission denied"], &[]);
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_registry_of_somebody_else_is_refused_and_nothing_is_left_behind() {
    needs_root();
    let sandbox = drifted();
    give_to_nobody(&sandbox);
    chown(sandbox.path("sessions.json"), Some(0), Some(0)).unwrap();
    refused_to_nobody(&sandbox, &["owner", "operation not permitted"], &[]);
    // Else a user of the registry would find a state directory of another user.
    assert!(!sandbox.path(STATE).exists(), "a state directory of the wrong owner was left");
}

#[test]
#[ignore = "needs root"]
fn root_works_for_the_owner_of_the_registry() {
    needs_root();
    let sandbox = drifted();
    chown(sandbox.path("sessions.json"), Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox.run(&[]).expect(0);
    let owner = |name: &str| fs::symlink_metadata(sandbox.path(name)).unwrap().uid();
    for name in ["sessions.json", STATE, LEDGER, OLD_LEDGER, "sessions.json.reconcile/history.jsonl"] {
        assert_eq!(owner(name), NOBODY, "{name}");
    }
    sandbox.run(&[]).expect(0);
}

#[test]
#[ignore = "needs root"]
fn root_gives_away_only_a_directory_that_a_run_may_have_left_in_the_middle_of_making_it() {
    needs_root();
    let owner = |sandbox: &Sandbox, name: &str| fs::symlink_metadata(sandbox.path(name)).unwrap().uid();
    let of_nobody = || {
        let sandbox = drifted();
        chown(sandbox.path("sessions.json"), Some(NOBODY), Some(NOBODY)).unwrap();
        sandbox
    };
    for mode in [0o700, 0o2700] {
        let sandbox = of_nobody();
        state_dir(&sandbox, mode);
        sandbox.run(&[]).expect(0);
        assert_eq!((owner(&sandbox, STATE), owner(&sandbox, LEDGER)), (NOBODY, NOBODY));
    }
    for mode in [0o755, 0o1700] {
        let sandbox = of_nobody();
        state_dir(&sandbox, mode);
        refused(&sandbox, &[STATE, "user 0 owns it, but user 65534 owns the registry"]);
        assert_eq!(owner(&sandbox, STATE), 0, "{mode:o}");
    }
    let sandbox = of_nobody();
    state_dir(&sandbox, 0o700);
    sandbox.write("sessions.json.reconcile/theirs", "precious");
    refused(&sandbox, &[STATE, "user 0 owns it, but user 65534 owns the registry"]);
    assert_eq!(owner(&sandbox, STATE), 0);

    // What the registry's owner has put in its place: another name of a file, a link.
    let sandbox = of_nobody();
    sandbox.write("victim", "precious");
    fs::hard_link(sandbox.path("victim"), sandbox.path(STATE)).unwrap();
    refused(&sandbox, &[STATE, "it is not a directory"]);
    assert_eq!(owner(&sandbox, "victim"), 0);
    let sandbox = of_nobody();
    DirBuilder::new().mode(0o700).create(sandbox.path("victim")).unwrap();
    symlink("victim", sandbox.path(STATE)).unwrap();
    refused(&sandbox, &[STATE, "it is not a directory"]);
    assert_eq!(owner(&sandbox, "victim"), 0);
}

/// The binary under a limit on the size of files, in blocks of 512 bytes.
fn with_room_for(sandbox: &Sandbox, blocks: u32, arguments: &[&str]) -> Run {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -f {blocks} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_reconcile")]);
    finish(command.args(arguments).current_dir(sandbox.path("")).stdin(Stdio::null()))
}

#[test]
fn without_room_nothing_is_changed_and_the_next_run_does_it() {
    let sandbox = drifted();
    let large = format!(
        r#"{{"+1": {{"tier": "admin", "session_name": "s", "model": "haiku", "x": "{}"}}}}"#,
        "x".repeat(1 << 16)
    );
    sandbox.write("sessions.json", &large);
    for blocks in [0, 16] {
        let told = ["registry.new", "file too large"];
        refused_by(&sandbox, &told, |arguments| with_room_for(&sandbox, blocks, arguments), &[]);
        assert!(sandbox.read("sessions.json") == large);
        let left: Vec<_> = fs::read_dir(sandbox.path(STATE)).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    }
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls(), ["s"]);
    assert!(sandbox.read("sessions.json") == large.replace("haiku", "opus"));
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

#[test]
fn without_room_for_the_ledger_nothing_is_changed_and_the_ledger_is_as_it_was() {
    // By one that runs on it, opus is known to work, so that all are edited at once.
    let chats = ["c1", "c2", "c3", "c4"];
    let registry = |model: &str| {
        let entries =
            chats.map(|chat| format!(r#""{chat}":{{"tier":"admin","session_name":"{chat}","model":"{model}"}}"#));
        format!(r#"{{"c0":{{"tier":"admin","session_name":"c0","model":"opus"}},{}}}"#, entries.join(","))
    };
    let sandbox = drifted();
    let policy = sandbox.read("policy.toml").replacen("restart =", "running = [\"true\"]\nrestart =", 1);
    sandbox.write("policy.toml", format!("{policy}\n[rollout]\nmin_healthy = \"0s\"\n"));
    sandbox.write("sessions.json", registry("haiku"));
    // There is room for the registry in one block, and none for its debts: not in a new ledger, and not at the end of one.
    for has_ledger in [false, true] {
        if has_ledger {
            sandbox.run(&["launch", "c1", "--", "true"]).expect(0);
            sandbox.write("sessions.json", registry("haiku"));
        }
        let before = sandbox.read(LEDGER);
        let told = ["ledger.journal", "file too large"];
        refused_by(&sandbox, &told, |arguments| with_room_for(&sandbox, 1, arguments), &[]);
        assert_eq!(sandbox.read(LEDGER), before);
        let left: Vec<_> = fs::read_dir(sandbox.path(STATE)).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    }
    sandbox.run(&[]).expect(0);
    let mut calls = sandbox.calls();
    calls.sort();
    assert_eq!(calls, chats);
    assert!(sandbox.read("sessions.json") == registry("opus"));
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

/// The binary as a user of its own, who may have so many processes and threads.
fn with_processes(sandbox: &Sandbox, most: u32, arguments: &[&str]) -> Run {
    /// Of no other test: the system counts the processes of a user.
    const ALONE: u32 = 64_917;
    give(sandbox, ALONE);
    let mut command = Command::new("prlimit");
    command.args([&format!("--nproc={most}"), env!("CARGO_BIN_EXE_reconcile")]).args(arguments);
    command.current_dir(sandbox.path("")).stdin(Stdio::null());
    finish(command.uid(ALONE).gid(ALONE))
}

#[test]
#[ignore = "needs root and prlimit"]
fn where_threads_and_processes_are_scarce_a_run_ends_in_order_and_the_next_one_finishes_it() {
    needs_root();
    needs(&["prlimit"]);
    let mut lacked_threads = false;
    for most in 1..14 {
        let sandbox = drifted();
        let chats = ["1", "2", "3", "4", "5", "6"].map(|chat| (chat, "admin", "haiku"));
        sandbox.write("sessions.json", registry(&chats));
        let policy = sandbox.read("policy.toml");
        sandbox
            .write("policy.toml", policy.replace("[sessions]", "[limits]\nmax_changes = 9\n[sessions]\nparallel = 3"));
        let run = with_processes(&sandbox, most, &[]);
        assert!([0, 4].contains(&run.code), "{most}: {run:#?}");
        assert!(!run.stderr.contains("panicked"), "{most}: {run:#?}");
        lacked_threads |= run.stderr.contains("error[no-thread]: ");
        let retry: Vec<_> = chats.iter().flat_map(|(chat, ..)| ["--retry", chat]).collect();
        with_processes(&sandbox, 1000, &retry).expect(0);
        assert_eq!(sandbox.ledger()["owed"], json!({}), "{most}");
        assert_eq!(sandbox.calls().len(), chats.len(), "{most}: each is restarted once");
    }
    assert!(lacked_threads, "some run has no room for a thread");
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_but_undoes_nothing() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = |sandbox: &Sandbox, arguments: &[&str]| {
        sandbox.command(arguments).stdout(full()).stderr(Stdio::null()).status().unwrap().code()
    };
    let sandbox = drifted();
    assert_eq!(run(&sandbox, &["--dry-run"]), Some(1));
    assert_eq!(sandbox.calls(), [""; 0]);
    assert_eq!(run(&sandbox, &[]), Some(4));
    assert_eq!(sandbox.calls(), ["imessage-_1"]);
    assert_eq!(sandbox.model("+1").as_deref(), Some("opus"));
}

#[test]
fn a_directory_that_hands_down_its_group_is_no_obstacle() {
    let sandbox = Sandbox::new(crate::support::POLICY, &registry(&[("+1", "family", "opus")]));
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o2755)).unwrap();
    sandbox.run(&[]).expect(0);
    sandbox.run(&["--dry-run"]).expect(0);
}
