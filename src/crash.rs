//! Named points in the order of effects. A test build (the cargo feature `crash-points`) can be told to kill or stop itself at one
//! of them. In any other build they compile to nothing.
//!
//! `RECONCILE_CRASH_AT=7` sends SIGKILL at the seventh point that is reached, and `RECONCILE_STOP_AT=7` sends SIGSTOP there.
//! `RECONCILE_CRASH_TRACE=FILE` appends the name of each point to a file.

#![cfg_attr(feature = "crash-points", allow(clippy::disallowed_methods, reason = "only in a test build"))]

/// Marks a point.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "crash-points")]
        $crate::crash::reached($name);
    };
}

pub(crate) use crash_point;

/// Kills or stops this process, if the environment names this point.
#[cfg(feature = "crash-points")]
pub(crate) fn reached(name: &str) {
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::process::Signal;

    static REACHED: AtomicUsize = AtomicUsize::new(0);

    let number = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(trace) = std::env::var_os("RECONCILE_CRASH_TRACE") {
        let file = std::fs::File::options().append(true).create(true).open(trace);
        let _ = file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
    }
    for (variable, signal) in [("RECONCILE_CRASH_AT", Signal::KILL), ("RECONCILE_STOP_AT", Signal::STOP)] {
        if std::env::var(variable).is_ok_and(|at| at.parse() == Ok(number)) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
    }
}
