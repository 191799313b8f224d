//! What a quiet run has told before, and so need not tell again.

use jiff::Timestamp;

use crate::apply::Locked;
use crate::error::Result;
use crate::plan::Plan;
use crate::plan::standing_faults::{News, Scope, StandingFaults, Told};

/// The memory of quiet runs. Only the run that holds the lock has it: a dry run remembers nothing.
pub(crate) struct Quiet<'l> {
    /// What was told before this run.
    pub(crate) told: Told,
    pub(crate) locked: &'l dyn Locked,
}

impl Quiet<'_> {
    /// What is new about the faults of a run.
    pub(crate) fn news(&self, plan: &Plan, faults: &StandingFaults, now: Timestamp) -> News {
        self.told.news(faults, scope(plan), now)
    }

    /// Remembers that these were told, and which are over.
    pub(crate) fn remember(self, plan: &Plan, faults: &StandingFaults, now: Timestamp) -> Result<()> {
        let told = self.told.after(faults, scope(plan), now);
        if told == self.told { Ok(()) } else { self.locked.remember_told(told) }
    }
}

fn scope(plan: &Plan) -> Scope {
    if plan.complete { Scope::Everything } else { Scope::SomeChats }
}
