//! What a quiet run has told before, and so need not tell again.

use jiff::Timestamp;

use crate::backend::file::RegistryFile;
use crate::error::Result;
use crate::plan::Plan;
use crate::plan::conditions::{Conditions, News, Scope, Told};
use crate::state::conditions::{read, save};
use crate::state::dir::StateDir;

/// The memory of quiet runs. Only the run that holds the lock has it: a dry run remembers nothing.
pub(crate) struct Quiet {
    dir: StateDir,
    told: Told,
}

impl Quiet {
    /// Reads what was told; `None` where there is no state directory.
    pub(crate) fn open(registry: &RegistryFile) -> Result<Option<Self>> {
        let Some(dir) = registry.state_dir()? else { return Ok(None) };
        Ok(Some(Self { told: read(&dir)?, dir }))
    }

    /// What is new about the conditions of a run.
    pub(crate) fn news(&self, plan: &Plan, conditions: &Conditions, now: Timestamp) -> News {
        self.told.news(conditions, scope(plan), now)
    }

    /// Remembers that these were told, and which are over.
    pub(crate) fn remember(self, plan: &Plan, conditions: &Conditions, now: Timestamp) -> Result<()> {
        let told = self.told.after(conditions, scope(plan), now);
        if told == self.told { Ok(()) } else { save(&self.dir, told) }
    }
}

fn scope(plan: &Plan) -> Scope {
    if plan.complete { Scope::Everything } else { Scope::SomeChats }
}
