//! `-v` and `-vv`: what the program does, told on stderr as it happens, for the night when a run does not work. Neither tells
//! what a command prints or is given, or what a daemon answers: that may be secret.

use std::io::{Write, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Zoned;

use crate::backend::Listener;
use crate::foreign::{Foreign, Sentence, sentence};
use crate::report::shown::{Naming, shown};

/// How much the trace tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
    Nothing,
    /// Each step, with how long it took.
    Steps,
    /// And each command and each request, when it begins and when it has ended.
    Exchanges,
}

/// Tells what the program does.
#[derive(Debug)]
pub(crate) struct Trace {
    detail: Detail,
    naming: Naming,
    /// When the last step ended: then the next begins.
    last: Mutex<Instant>,
}

impl Trace {
    pub(crate) fn new(detail: Detail, naming: Naming) -> Self {
        Self { detail, naming, last: Mutex::new(Instant::now()) }
    }

    /// Whether the trace tells anything.
    pub(crate) fn is_on(&self) -> bool {
        self.detail > Detail::Nothing
    }

    /// Tells of a step that has just ended.
    pub(crate) fn step(&self, what: impl Into<Sentence>) {
        if self.detail < Detail::Steps {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let took = last.elapsed();
        *last = Instant::now();
        drop(last);
        self.write(&what.into(), Some(took));
    }

    /// Tells of an attempt on a session, which began at this time and has just ended.
    pub(crate) fn attempted(&self, session: &str, begun: Instant) {
        if self.detail >= Detail::Steps {
            self.write(&sentence!("the attempt on {} ended", self.named(session)), Some(begun.elapsed()));
        }
    }

    fn named(&self, session: &str) -> Sentence {
        match self.naming {
            Naming::Plain => Foreign::from(session).into(),
            Naming::Hidden => "a session".into(),
        }
    }

    /// Writes a line with the time of day, as other logs of the night have it, and how long that took.
    fn write(&self, what: &Sentence, took: Option<Duration>) {
        let time = Zoned::now().strftime("%H:%M:%S%.3f");
        let took = took.map_or_else(String::new, |took| format!(" ({took:.1?})"));
        // Where stderr is closed, there is no other place to report that.
        let _ = writeln!(stderr(), "{time} {}{took}", shown(what, self.naming));
    }
}

impl Listener for Trace {
    fn hear(&self, what: &Sentence, session: Option<&str>) {
        if self.detail < Detail::Exchanges {
            return;
        }
        match session {
            Some(session) => self.write(&sentence!("{}: {}", self.named(session), what), None),
            None => self.write(what, None),
        }
    }
}
