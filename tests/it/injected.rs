//! The real binary, in which the system refuses one call after the other.

use std::process::{Command, Stdio};

use crate::support::{Run, Sandbox, finish};

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

/// For one call, and from then on.
const ONCE: &str = "";
const LASTING: &str = "+";

/// Runs the binary in a new scene for each call that it makes: once where that call alone is refused, and once where all
/// later ones of its kind are, too. `check` gets the scene, what the binary did, and what was refused.
pub fn each_refusal(scene: impl Fn() -> Sandbox, arguments: &[&str], check: impl Fn(&Sandbox, &Run, &str)) {
    let mut refused = 0;
    for (call, error) in CALLS {
        // Of looks there are many, and what one of them tells is asked for again.
        let lasting: &[&str] = if call == "statx" { &[LASTING] } else { &[ONCE, LASTING] };
        for lasting in lasting {
            for number in 1.. {
                let sandbox = scene();
                let inject = format!("{call}:error={error}:when={number}{lasting}");
                let (run, reached) = run(&sandbox, arguments, call, &inject);
                match reached {
                    Reached::Binary => check(&sandbox, &run, &inject),
                    // What the system does to start it.
                    Reached::Loader => continue,
                    Reached::Nothing => break,
                }
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "only {refused} calls were refused");
}

/// What made the call that was refused.
enum Reached {
    Loader,
    Binary,
    Nothing,
}

fn run(sandbox: &Sandbox, arguments: &[&str], call: &str, inject: &str) -> (Run, Reached) {
    let mut strace = Command::new("strace");
    // A filter in the kernel, so that other calls cost nothing. The runtime asks for the processors before `main`.
    let traced = format!("trace={call},execve,sched_getaffinity");
    strace.args(["-f", "--seccomp-bpf", "-o", "trace", "-e", &traced, "-e", &format!("inject={inject}")]);
    strace.arg(env!("CARGO_BIN_EXE_reconcile")).args(arguments);
    let run = finish(strace.current_dir(sandbox.path("")).env("TZ", "UTC").stdin(Stdio::null()));
    let trace = sandbox.read("trace");
    let (main, _) = trace.split_once(' ').expect("a line begins with the process");
    let mut reached = Reached::Loader;
    for line in trace.lines().filter(|line| line.starts_with(main)) {
        let is_refused = line.contains("(INJECTED)");
        match reached {
            _ if is_refused => return (run, reached),
            Reached::Loader if line.contains("sched_getaffinity(") => reached = Reached::Binary,
            // What it becomes is a program of its own.
            Reached::Binary if line.contains("execve(") && line.ends_with("= 0") => break,
            _ => {}
        }
    }
    (run, Reached::Nothing)
}
