//! What watches a run, and is told of its steps.

use std::time::Duration;

use jiff::Timestamp;

use crate::foreign::{Sentence, sentence};
use crate::plan::{Plan, Row, Summary};

/// A step of a run that has just ended.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Registry, ledger and sessions were looked at, and this plan was made.
    Planned(&'a Plan),
    /// So many edits of the registry were committed.
    Committed(usize),
    /// So many sessions had their turn.
    Converged(usize),
    /// The registry was read back.
    ReadBack,
    /// What was done stands in the history.
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

/// What watches a run, and can end it.
pub trait Watch: Sync {
    /// A step has ended.
    fn step(&self, _step: Step<'_>) {}

    /// Whether the run shall end as soon as what is under way has finished.
    fn interrupted(&self) -> bool;
    /// So many more sessions will be restarted.
    fn expect(&self, _restarts: usize) {}
    /// An attempt on this row begins.
    fn begun(&self, _row: &Row) {}
    /// The attempt on this row has ended.
    fn ended(&self, _row: &Row) {}
    /// Waits so long between two parts of a rollout, or until the run shall end.
    fn pause(&self, _time: Duration) {}
    /// What time it is, in a run that began at `start`.
    fn now(&self, start: Timestamp) -> Timestamp {
        start
    }
}
