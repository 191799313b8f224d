//! Progress on a terminal, once restarts take longer than a second. Elsewhere: nothing.

use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::apply::{Step, Watch};
use crate::cli::run::signals::Interrupt;
use crate::cli::trace::Trace;
use crate::plan::Row;
use crate::report::escape::escape;
use crate::report::shown::Naming;

/// While a rollout pauses, a signal is looked for so often.
const LOOK: Duration = Duration::from_millis(50);
/// Before this time there is nothing to show.
const QUIET: Duration = Duration::from_secs(1);
/// The line is cleared and written again.
const LINE_START: &str = "\r\x1b[K";

/// Watches a run, and shows how far its restarts are.
#[derive(Debug)]
pub(crate) struct Progress {
    interrupt: Interrupt,
    /// Whether chats are named.
    naming: Naming,
    /// What tells of each step.
    trace: Arc<Trace>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    expected: usize,
    ended: usize,
    /// The sessions whose attempts are under way, and when those began.
    under_way: Vec<(String, Instant)>,
    shown: bool,
    over: bool,
}

impl Progress {
    pub(crate) fn new(interrupt: Interrupt, naming: Naming, trace: Arc<Trace>) -> Self {
        Self { interrupt, naming, trace, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Runs `work`, showing progress beside it.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        // Lines that tell of each step would be mixed up with it.
        if !stderr().is_terminal() || self.trace.is_on() {
            return work();
        }
        thread::scope(|scope| {
            // Without a thread for it there is no progress to see, and the run goes on.
            let _ = thread::Builder::new().spawn_scoped(scope, || self.show());
            let result = work();
            self.lock().over = true;
            self.changed.notify_all();
            result
        })
    }

    fn show(&self) {
        let idle = |state: &mut State| state.under_way.is_empty() && !state.over;
        let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let running = |state: &mut State| !state.over;
        (state, _) = self.changed.wait_timeout_while(state, QUIET, running).unwrap_or_else(PoisonError::into_inner);
        while !state.over {
            let interrupted = if self.interrupt.is_asked() { " (ending after these)" } else { "" };
            let told = state.under_way.iter().filter(|_| self.naming == Naming::Plain);
            let names: Vec<&str> = told.map(|(name, _)| name.as_str()).collect();
            let (ended, expected) = (state.ended, state.expected);
            let text = format!("restarting {ended}/{expected}: {}{interrupted}", names.join(", "));
            let cut: String = escape(&text).chars().take(78).collect();
            // Where stderr is closed, there is no other place to report that.
            let _ = write!(stderr(), "{LINE_START}{cut}");
            state.shown = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.shown {
            let _ = write!(stderr(), "{LINE_START}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Watch for Progress {
    fn interrupted(&self) -> bool {
        self.interrupt.is_asked()
    }

    fn step(&self, step: Step<'_>) {
        self.trace.step(step);
    }

    fn now(&self, _: Timestamp) -> Timestamp {
        Timestamp::now()
    }

    fn expect(&self, restarts: usize) {
        self.change(|state| state.expected += restarts);
    }

    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.interrupted() && Instant::now() < until {
            sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn begun(&self, row: &Row) {
        self.change(|state| state.under_way.push((row.chat.label().to_owned(), Instant::now())));
    }

    fn ended(&self, row: &Row) {
        self.change(|state| {
            state.ended += 1;
            if let Some(at) = state.under_way.iter().position(|(name, _)| name == row.chat.label()) {
                let (name, begun) = state.under_way.remove(at);
                self.trace.attempted(&name, begun);
            }
        });
    }
}
