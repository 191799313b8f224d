//! The real binary, in which the system refuses one call after the other.

use std::process::{Command, Stdio};

use crate::support::{Run, Sandbox, finish, is_installed};

/// The calls that a disk can refuse, and how.
const CALLS: [(&str, &str); 12] = [
    ("write", "ENOSPC"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("ftruncate", "EIO"),
    ("renameat2", "EIO"),
    ("renameat", "EIO"),
    ("linkat", "EIO"),
    ("unlinkat", "EIO"),
    ("statx", "EIO"),
    ("fchmod", "EPERM"),
    ("flock", "ENOLCK"),
    ("execve", "ENOENT"),
];

/// How long the system refuses.
const LASTING: [&str; 2] = ["", "+"];

/// Runs the binary in a new scene for each call that it makes: once where that call alone is refused, and once where all
/// later ones of its kind are, too. `check` gets the scene, what the binary did, and what was refused.
pub fn each_refusal(scene: impl Fn() -> Sandbox, arguments: &[&str], check: impl Fn(&Sandbox, &Run, &str)) {
    if !is_installed("strace") {
        return;
    }
    let mut all = 0;
    for (call, error) in CALLS {
        for lasting in LASTING {
            let mut refused = 0;
            loop {
                let sandbox = scene();
                // The first of these is the start of the binary.
                let number = refused + if call == "execve" { 2 } else { 1 };
                let inject = format!("inject={call}:error={error}:when={number}{lasting}");
                let mut strace = Command::new("strace");
                strace.args(["-o", "trace", "-e", &inject, env!("CARGO_BIN_EXE_reconcile")]).args(arguments);
                let run = finish(strace.current_dir(sandbox.path("")).env("TZ", "UTC").stdin(Stdio::null()));
                let trace = sandbox.read("trace");
                let (before_main, of_binary) = trace.split_once("sched_getaffinity").unwrap_or(("", &trace));
                // What the binary becomes is a program of its own.
                let of_binary = of_binary.split("execve(").next().unwrap_or_default();
                let failed_exec = call == "execve" && trace.contains("(INJECTED)");
                if of_binary.contains("(INJECTED)") || failed_exec {
                    check(&sandbox, &run, &inject);
                } else if !before_main.contains("(INJECTED)") {
                    break;
                }
                refused += 1;
            }
            all += refused;
        }
    }
    assert!(all > 20, "only {all} calls were refused");
}
