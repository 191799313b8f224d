//! Root works for another user, and is killed at every point: that user's next run finishes the work. Nothing that only
//! root could use is in the way.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const NOBODY: u32 = 65534;

const POLICY: &str = r#"
[models]
allowed  = ["opus", "haiku"]
fallback = "haiku"

[registry]
path = "sessions.json"
"#;

/// A registry of another user in a directory of that user's.
fn scene() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("policy.toml"), POLICY).unwrap();
    fs::write(directory.path().join("sessions.json"), r#"{ "ada": { "type": "x", "model": "opus" } }"#).unwrap();
    for name in ["", "sessions.json"] {
        chown(directory.path().join(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    directory
}

/// A run of root, which dies at the point of this number, counted from 1.
fn as_root(directory: &Path, crash_at: usize) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.env("RECONCILE_CRASH_TRACE", "trace").env("RECONCILE_CRASH_AT", crash_at.to_string());
    command.current_dir(directory).stdin(Stdio::null()).output().unwrap()
}

/// A run of the registry's owner.
fn as_owner(directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.uid(NOBODY).gid(NOBODY).current_dir(directory).stdin(Stdio::null()).output().unwrap()
}

#[test]
#[ignore = "needs root"]
fn the_owners_next_run_finishes_after_a_death_of_root_at_any_point() {
    assert!(rustix::process::geteuid().is_root(), "only root can do this");
    for point in 1.. {
        let directory = scene();
        let died = as_root(directory.path(), point);
        let trace = fs::read_to_string(directory.path().join("trace")).unwrap_or_default();
        let story = format!("killed at {point}, {}", trace.lines().last().unwrap_or_default());
        if died.status.signal() != Some(9) {
            assert!(point > 10 && died.status.success(), "{story}: {died:?}");
            return;
        }
        let next = as_owner(directory.path());
        assert_eq!(next.status.code(), Some(0), "{story}: {next:?}");
        let registry = fs::read_to_string(directory.path().join("sessions.json")).unwrap();
        assert_eq!(registry, r#"{ "ada": { "type": "x", "model": "haiku" } }"#, "{story}");
        let state = fs::read_dir(directory.path().join("sessions.json.reconcile")).unwrap();
        let files: Vec<_> = state.map(|entry| entry.unwrap()).collect();
        assert!(files.iter().all(|file| file.metadata().unwrap().uid() == NOBODY), "{story}: {files:?}");
        let names: BTreeSet<String> = files.iter().map(|file| file.file_name().into_string().unwrap()).collect();
        let allowed = ["data.lock", "history.jsonl", "ledger.journal", "owed.json", "run.lock"];
        assert!(names.is_subset(&allowed.map(str::to_owned).into()), "{story}: debris stays behind: {names:?}");
    }
}
