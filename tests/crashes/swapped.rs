//! The directory of the registry and the policy is moved away at every point of a run, and a link to the directory of
//! another user stands in its place: nothing in that one is touched.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use tempfile::TempDir;

const POLICY: &str = r#"
[models]
allowed  = ["opus", "haiku"]
fallback = "haiku"

[registry]
path = "sessions.json"
"#;

/// Two directories that differ in what they hold.
fn scene() -> TempDir {
    let scene = TempDir::new().unwrap();
    for name in ["ours", "theirs"] {
        let directory = scene.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("policy.toml"), format!("# {name}{POLICY}")).unwrap();
        fs::write(directory.join("sessions.json"), format!(r#"{{ "{name}": {{ "type": "x", "model": "opus" }} }}"#))
            .unwrap();
    }
    scene
}

/// What a directory holds, with the inodes.
fn all(directory: &Path) -> Vec<(PathBuf, u64, Vec<u8>)> {
    let files = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter();
    let files = files.map(|entry| entry.unwrap().into_path());
    files.map(|path| (path.clone(), fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap_or_default())).collect()
}

/// A run that waits at the point of this number, counted from 1.
struct Waiting(Pid);

impl Waiting {
    #[expect(clippy::zombie_processes, reason = "it is waited for by its id, which also tells where it only stops")]
    fn start(scene: &Path, arguments: &[&str], point: usize) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
        command.arg("--policy").arg(scene.join("ours/policy.toml")).args(arguments).current_dir(scene);
        command.env("RECONCILE_CRASH_TRACE", scene.join("trace")).env("RECONCILE_STOP_AT", point.to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self(Pid::from_child(&child))
    }

    /// Waits until it stops or ends.
    fn status(&self) -> WaitStatus {
        waitpid(Some(self.0), WaitOptions::UNTRACED).unwrap().unwrap().1
    }

    /// Lets it go on, to its end.
    fn finish(&self) -> WaitStatus {
        kill_process(self.0, Signal::CONT).unwrap();
        self.status()
    }
}

#[test]
fn a_directory_that_is_swapped_at_any_point_costs_no_other_one() {
    for arguments in [&[][..], &["set-model", "ours", "haiku"]] {
        for point in 1.. {
            let scene = scene();
            let path = |name: &str| scene.path().join(name);
            let theirs = all(&path("theirs"));
            let run = Waiting::start(scene.path(), arguments, point);
            if !run.status().stopped() {
                assert!(point > 15, "{arguments:?} passes {point} points");
                break;
            }
            let trace = fs::read_to_string(path("trace")).unwrap();
            let story = format!("{arguments:?}, swapped at {point}, {}", trace.lines().last().unwrap());
            fs::rename(path("ours"), path("moved")).unwrap();
            symlink("theirs", path("ours")).unwrap();
            assert!(run.finish().exited(), "{story}");
            assert_eq!(all(&path("theirs")), theirs, "{story}");
            // Back in its place, the next run finishes the work.
            fs::remove_file(path("ours")).unwrap();
            fs::rename(path("moved"), path("ours")).unwrap();
            let next = Waiting::start(scene.path(), arguments, 0);
            assert_eq!(next.status().exit_status(), Some(0), "{story}");
            let registry = fs::read_to_string(path("ours/sessions.json")).unwrap();
            assert_eq!(registry, r#"{ "ours": { "type": "x", "model": "haiku" } }"#, "{story}");
            let left =
                fs::read_dir(path("ours")).unwrap().chain(fs::read_dir(path("ours/sessions.json.reconcile")).unwrap());
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert!(!left.iter().any(|name| name.starts_with('.') || name == "registry.new"), "{story}: {left:?}");
        }
    }
}

/// A file that another program puts where the displaced one was, right before that is removed, is not removed in its place.
#[test]
fn only_the_file_that_was_displaced_is_removed() {
    let first = scene();
    Waiting::start(first.path(), &[], 0).status();
    let trace = fs::read_to_string(first.path().join("trace")).unwrap();
    let replaced = trace.lines().position(|point| point == "registry: replaced").unwrap() + 1;

    let scene = scene();
    let path = |name: &str| scene.path().join(name);
    let run = Waiting::start(scene.path(), &[], replaced);
    assert!(run.status().stopped());
    let later = r#"{ "ours": { "type": "x", "model": "opus" }, "later": { "type": "x", "model": "opus" } }"#;
    fs::write(path("later"), later).unwrap();
    fs::rename(path("later"), path("ours/sessions.json.reconcile/registry.new")).unwrap();
    assert_eq!(run.finish().exit_status(), Some(4));
    // The next holder of the lock takes it for an update that was displaced, and goes by that.
    assert_eq!(Waiting::start(scene.path(), &[], 0).status().exit_status(), Some(0));
    assert_eq!(fs::read_to_string(path("ours/sessions.json")).unwrap(), later.replace("opus", "haiku"));
    assert!(!path("ours/sessions.json.reconcile/registry.new").exists());
}
