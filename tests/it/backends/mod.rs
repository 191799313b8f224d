//! What every backend keeps: one suite, and the list of the backends that pass it.

mod apply;
mod commit;
mod subjects;

use std::io::Write;

use subjects::Subject;

/// Makes a backend with a registry of its own.
type Make = fn() -> Box<dyn Subject>;

/// The backends.
const SUBJECTS: &[(&str, Make)] = &[
    ("in memory, as a batch", subjects::memory_batch),
    ("in memory, per row", subjects::memory_per_row),
    ("in memory, at once", subjects::memory_at_once),
    ("file", subjects::file),
    ("dispatch, down", subjects::dispatch_down),
    ("dispatch, up", subjects::dispatch_up),
    ("openclaw", subjects::openclaw),
    #[cfg(feature = "remote")]
    ("openclaw, encrypted", subjects::openclaw_encrypted),
    #[cfg(feature = "postgres")]
    ("postgres", subjects::postgres),
];

/// Says on which backend a test has failed.
struct Named<'n>(&'n str);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Not by a macro, whose output belongs to the test that has failed already.
            let _ = writeln!(std::io::stderr(), "on the backend {}", self.0);
        }
    }
}

/// Tests each backend.
fn each(test: impl Fn(&dyn Subject)) {
    for (name, make) in SUBJECTS {
        let _name = Named(name);
        test(make().as_ref());
    }
}

/// Tests the backends that make the edits of a batch themselves.
fn each_that_commits(test: impl Fn(&dyn Subject)) {
    each(|subject| {
        if subject.commits() {
            test(subject);
        }
    });
}
