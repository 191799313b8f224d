//! Watches are told of the steps of a run, and can interrupt it.

use std::time::Duration;

use jiff::Timestamp;

use crate::foreign::{Sentence, sentence};
use crate::plan::{Plan, Row, Summary};

/// A step of a run that has just ended.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// This plan was made.
    Planned(&'a Plan),
    /// This number of edits of the registry was committed.
    Committed(usize),
    /// This number of sessions was converged.
    Converged(usize),
    /// The registry was read back.
    ReadBack,
    /// The run was appended to the history.
    Recorded,
}

impl From<Step<'_>> for Sentence {
    fn from(step: Step<'_>) -> Self {
        match step {
            Step::Planned(plan) => {
                let Summary { changed, restarted, .. } = plan.summary();
                sentence!("made the plan: {} to change, {} to restart", changed, restarted)
            }
            Step::Committed(edits) => sentence!("committed the edits of the registry: {}", edits),
            Step::Converged(sessions) => sentence!("tried sessions: {}", sessions),
            Step::ReadBack => "read the registry back".into(),
            Step::Recorded => "wrote the history".into(),
        }
    }
}

/// Is told of the steps of a run, and can interrupt it.
pub trait Watch: Sync {
    /// A step has ended.
    fn step(&self, _step: Step<'_>) {}

    /// Whether the run is to end as soon as the attempts under way have ended.
    fn interrupted(&self) -> bool;

    /// This number of sessions will be restarted, in addition to those of earlier calls.
    fn expect(&self, _restarts: usize) {}

    /// An attempt on this row begins.
    fn begun(&self, _row: &Row) {}

    /// The attempt on this row has ended.
    fn ended(&self, _row: &Row) {}

    /// Waits for this time between two parts of a rollout, or until the run is to end.
    fn pause(&self, _time: Duration) {}

    /// The time now, in a run that began at `start`. By default, `start`.
    fn now(&self, start: Timestamp) -> Timestamp {
        start
    }
}
