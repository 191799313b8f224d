//! Names that lead to other files than they did: directories that were moved, locks that were removed or copied, hard
//! links that were planted. What was opened is worked on, and nothing else.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use reconcile::backend::file::{LockedFiles, Method, RegistryFile};
use reconcile::error::Error;
use reconcile::plan::ledger::Note;
use reconcile::sources::PolicyFile;
use serde_json::json;
use tempfile::TempDir;

use crate::files::{commit_when, locked, reading};
use crate::support::{POLICY, Sandbox, needs_root, registry as registry_of, write_state};

const OLD: &str = r#"{"a": {"model": "opus"}}"#;
const NEW: &str = r#"{"a": {"model": "haiku"}}"#;
const THEIRS: &str = r#"{"a": {"model": "sonnet"}}"#;
const NOBODY: u32 = 65534;

/// Two directories, each with a registry and its state.
struct Two {
    scene: TempDir,
}

impl Two {
    fn new() -> Self {
        let two = Self { scene: TempDir::new().unwrap() };
        for (name, text) in [("ours", OLD), ("theirs", THEIRS)] {
            fs::create_dir(two.path(name)).unwrap();
            fs::write(two.registry(name), text).unwrap();
            drop(locked(&two.registry(name)));
        }
        two
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.path().join(name)
    }

    fn registry(&self, directory: &str) -> PathBuf {
        self.path(directory).join("sessions.json")
    }

    /// What a directory and its state hold, with the inodes.
    fn all(&self, directory: &str) -> Vec<(PathBuf, u64, Vec<u8>)> {
        let files = walkdir::WalkDir::new(self.path(directory)).sort_by_file_name();
        let files = files.into_iter().map(|entry| entry.unwrap().into_path());
        files
            .map(|path| (path.clone(), fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap_or_default()))
            .collect()
    }
}

/// The ways in which the path of a directory comes to lead to another one.
const SWAPS: [fn(&Two); 2] = [
    |two| symlink("theirs", two.path("ours")).unwrap(),
    // Another directory, in which a registry waits that looks the same.
    |two| {
        fs::create_dir(two.path("ours")).unwrap();
        fs::copy(two.registry("moved"), two.registry("ours")).unwrap();
    },
];

#[test]
fn a_directory_that_is_swapped_before_the_exchange_costs_no_other_registry() {
    for method in [Method::Exchange, Method::Rename] {
        for swap in SWAPS {
            let two = Two::new();
            let files = locked(&two.registry("ours")).with_method(method);
            let reading = reading(&two.registry("ours"));
            let theirs = two.all("theirs");
            let result = commit_when(&files, &reading, &[], &|| {
                fs::rename(two.path("ours"), two.path("moved")).unwrap();
                swap(&two);
            });
            let error = result.unwrap_err().text();
            assert!(error.contains("was moved, removed or replaced"), "{error}");
            assert_eq!(two.all("theirs"), theirs);
            for directory in ["ours", "moved"].iter().filter(|name| !two.path(name).is_symlink()) {
                assert_eq!(fs::read_to_string(two.registry(directory)).unwrap(), OLD, "{method:?}");
            }
            assert!(!two.path("moved/sessions.json.reconcile/registry.new").exists());
        }
    }
}

#[test]
fn a_directory_that_is_swapped_while_a_run_waits_is_not_worked_in() {
    let two = Two::new();
    let holder = locked(&two.registry("ours"));
    let theirs = two.all("theirs");
    let holder = Cell::new(Some(holder));
    let swap = || {
        if let Some(holder) = holder.take() {
            fs::rename(two.path("ours"), two.path("moved")).unwrap();
            symlink("theirs", two.path("ours")).unwrap();
            drop(holder);
        }
        false
    };
    let registry = RegistryFile::open(&two.registry("ours")).unwrap();
    let error = LockedFiles::lock(&registry, Duration::from_secs(60), &swap).unwrap_err().text();
    assert!(error.contains("was moved, removed or replaced"), "{error}");
    assert_eq!(two.all("theirs"), theirs);
}

#[test]
fn a_policy_whose_directory_is_swapped_is_not_edited() {
    for swap in SWAPS {
        let two = Two::new();
        for directory in ["ours", "theirs"] {
            fs::write(two.path(directory).join("policy.toml"), POLICY).unwrap();
        }
        let policy = PolicyFile::lock(&two.path("ours/policy.toml"), Duration::ZERO, &|| false).unwrap();
        let theirs = two.all("theirs");
        fs::rename(two.path("ours"), two.path("moved")).unwrap();
        swap(&two);
        // A link to the very file: only the directory tells.
        if !two.path("ours").is_symlink() {
            fs::hard_link(two.path("moved/policy.toml"), two.path("ours/policy.toml")).unwrap();
        }
        policy.replace(POLICY, "another").unwrap_err();
        assert_eq!(two.all("theirs"), theirs);
        for directory in ["ours", "moved"] {
            assert_eq!(fs::read_to_string(two.path(directory).join("policy.toml")).unwrap(), POLICY);
        }
    }
}

/// The ways in which a second run can take a lock that a first one holds, with the name of the lock's file. A directory
/// may be replaced by a copy of itself, too.
const DISTURBANCES: [fn(&Path, &str); 4] = [
    |state, name| fs::remove_file(state.join(name)).unwrap(),
    |state, name| {
        write_state(state, "other", "");
        fs::rename(state.join("other"), state.join(name)).unwrap();
    },
    |state, name| {
        fs::copy(state.join(name), state.join("copy")).unwrap();
        fs::rename(state.join("copy"), state.join(name)).unwrap();
    },
    |state, _| {
        let copy = state.with_extension("copy");
        assert!(Command::new("cp").arg("-pR").args([state, &copy]).status().unwrap().success());
        fs::rename(state, state.with_extension("old")).unwrap();
        fs::rename(copy, state).unwrap();
    },
];

fn directory() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let registry = directory.path().join("sessions.json");
    fs::write(&registry, OLD).unwrap();
    (directory, registry)
}

#[test]
fn a_run_whose_lock_is_no_longer_what_it_took_has_no_effect() {
    for disturb in DISTURBANCES {
        let (directory, registry) = directory();
        let state = directory.path().join("sessions.json.reconcile");
        let files = locked(&registry);
        let reading = reading(&registry);
        disturb(&state, "run.lock");
        // A second run may now work.
        let second = locked(&registry);
        let error = commit_when(&files, &reading, &[], &|| {}).unwrap_err();
        assert!(["lock-lost", "directory-moved"].contains(&error.code()), "{error:?}");
        files.note(&[Note::Owes { chat: "a", ran: None, identity: None }], Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(fs::read_to_string(&registry).unwrap(), OLD);
        assert!(commit_when(&second, &crate::files::reading(&registry), &[], &|| {}).is_ok());
        assert_eq!(fs::read_to_string(&registry).unwrap(), NEW);
    }
}

#[test]
fn a_lock_that_is_lost_right_before_the_exchange_is_noticed() {
    for lock in ["run.lock", "data.lock"] {
        for disturb in DISTURBANCES {
            let (directory, registry) = directory();
            let state = directory.path().join("sessions.json.reconcile");
            let files = locked(&registry);
            let reading = reading(&registry);
            let result = commit_when(&files, &reading, &[], &|| disturb(&state, lock));
            result.unwrap_err();
            assert_eq!(fs::read_to_string(&registry).unwrap(), OLD, "{lock}");
            drop(files);
            let next = locked(&registry);
            assert_eq!(RegistryFile::open(&registry).unwrap().kept().unwrap().exchange, None, "{lock}");
            drop(next);
        }
    }
}

#[test]
fn a_lock_that_is_replaced_while_a_run_waits_is_taken_anew() {
    for disturb in DISTURBANCES {
        let (directory, registry) = directory();
        let state = directory.path().join("sessions.json.reconcile");
        let first = Cell::new(Some(locked(&registry)));
        let second = Cell::new(None);
        let asked = Cell::new(0);
        // Asked whenever the lock is not to be had.
        let give_up = || {
            asked.set(asked.get() + 1);
            if let Some(first) = first.take() {
                disturb(&state, "run.lock");
                second.set(Some(locked(&registry)));
                drop(first);
            }
            asked.get() > 1
        };
        let waiting = RegistryFile::open(&registry).unwrap();
        match LockedFiles::lock(&waiting, Duration::from_secs(60), &give_up) {
            Err(Error::Interrupted { .. }) => assert_eq!(asked.get(), 2),
            // The state directory itself is another one.
            Err(error) if error.text().contains("was moved, removed or replaced") => {}
            other => panic!("two runs work at once: {other:?}"),
        }
        assert!(second.take().is_some());
    }
}

/// Its restart command takes the lock's file away at the first session.
#[test]
fn a_run_that_loses_its_lock_begins_no_further_restart() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\", \"{{session_slug}}\"]\nparallel = 1\n");
    let chats = [("+1", "admin", "haiku"), ("+2", "admin", "haiku")];
    let sandbox = Sandbox::new(&policy, &registry_of(&chats));
    sandbox.script("restart", "echo \"$1\" >> calls\nrm -f sessions.json.reconcile/run.lock");
    let run = sandbox.run(&[]).expect(4);
    assert!(run.stderr.contains("run.lock was removed or replaced"), "{run:#?}");
    assert!(run.stderr.contains("hint: "), "{run:#?}");
    assert_eq!(sandbox.calls(), ["imessage-_1"]);
    sandbox.script("restart", "echo \"$1\" >> calls");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls().last().map(String::as_str), Some("imessage-_2"));
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

/// An empty file that only its owner can use.
fn empty(path: &Path) {
    File::options().write(true).create_new(true).mode(0o600).open(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// A run has worked for the registry's owner, who is neither root nor the owner of the policy.
fn of_nobody() -> Sandbox {
    let sandbox = crate::bad_input::drifted();
    sandbox.run(&["--chat", "+2"]).expect(0);
    for file in walkdir::WalkDir::new(sandbox.path("sessions.json.reconcile")) {
        chown(file.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(sandbox.path("sessions.json"), Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox
}

#[test]
#[ignore = "needs root"]
fn a_hard_link_that_is_planted_is_not_given_away() {
    needs_root();
    for name in ["run.lock", "data.lock", "history.jsonl"] {
        let sandbox = of_nobody();
        let planted = sandbox.path("sessions.json.reconcile").join(name);
        empty(&sandbox.path("victim"));
        let _ = fs::remove_file(&planted);
        fs::hard_link(sandbox.path("victim"), planted).unwrap();
        sandbox.run(&[]);
        let victim = fs::metadata(sandbox.path("victim")).unwrap();
        assert_eq!((victim.uid(), victim.len()), (0, 0), "{name} was given away");
    }
}

#[test]
#[ignore = "needs root"]
fn a_lock_that_root_did_not_give_to_the_registrys_owner_is_replaced() {
    needs_root();
    for name in ["run.lock", "data.lock"] {
        let sandbox = of_nobody();
        let lock = sandbox.path("sessions.json.reconcile").join(name);
        fs::remove_file(&lock).unwrap();
        empty(&lock);
        sandbox.run(&[]).expect(0);
        assert_eq!(fs::metadata(lock).unwrap().uid(), NOBODY, "{name}");
    }
}

#[test]
fn a_link_that_takes_the_place_of_the_registry_is_not_followed() {
    let two = Two::new();
    let registry = RegistryFile::open(&two.registry("ours")).unwrap();
    fs::remove_file(two.registry("ours")).unwrap();
    symlink(two.registry("theirs"), two.registry("ours")).unwrap();
    registry.snapshot().unwrap_err();
}

#[test]
fn what_takes_the_place_of_the_waiting_file_is_not_removed() {
    let (directory, registry) = directory();
    let waiting = directory.path().join("sessions.json.reconcile/registry.new");
    let files = locked(&registry);
    let reading = reading(&registry);
    let replace = |path: &Path| {
        let later = directory.path().join("later");
        fs::write(&later, THEIRS).unwrap();
        fs::rename(later, path).unwrap();
    };
    let result = commit_when(&files, &reading, &[], &|| {
        // The registry is another one by then, so this run gives up its own.
        replace(&registry);
        replace(&waiting);
    });
    assert_eq!(result.unwrap_err().code(), "displaced-file");
    assert_eq!([&registry, &waiting].map(|path| fs::read_to_string(path).unwrap()), [THEIRS; 2]);
}
