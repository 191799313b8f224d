//! From what happened to an exit code. The help of the program (`commands/mod.rs`) says what the numbers mean.

use std::process::ExitCode;

use crate::error::Error;
use crate::plan::{Plan, Verdict};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// In sync, or all that could be done was done.
    Done = 0,
    /// Nothing was changed.
    Error = 1,
    /// There is something to do, and the user asked to be told so.
    Planned = 2,
    /// Refused as a whole.
    Refused = 3,
    /// Partly done.
    Partly = 4,
    /// Wrong usage; `EX_USAGE` of sysexits.
    Usage = 64,
    /// Another run holds the lock, or the user ended a wait; `EX_TEMPFAIL`.
    Locked = 75,
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It did all that it could do.
    ToTheEnd,
    /// It was interrupted, or failed after the first effect.
    CutShort,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// After an error before the first effect.
    pub(crate) fn of_error(error: &anyhow::Error) -> Self {
        match error.downcast_ref() {
            Some(Error::Locked { .. }) => Self::Locked,
            Some(error) if error.is_interrupt() => Self::Locked,
            _ => Self::Error,
        }
    }

    /// After a dry run: [`Exit::Planned`] where there is something to do.
    pub(crate) fn of_dry_run(plan: &Plan) -> Self {
        if plan.refused.is_some() {
            Self::Refused
        } else if has(plan, &[Verdict::Refused, Verdict::Held]) || !plan.failed_models.is_empty() {
            Self::Partly
        } else if has(plan, &[Verdict::Planned]) {
            Self::Planned
        } else {
            Self::Done
        }
    }

    /// After an apply.
    pub(crate) fn of_apply(plan: &Plan, course: Course) -> Self {
        if plan.refused.is_some() {
            Self::Refused
        } else if course == Course::CutShort
            || !plan.failed_models.is_empty()
            || has(plan, &[Verdict::Refused, Verdict::Failed, Verdict::Unknown, Verdict::Held])
        {
            Self::Partly
        } else {
            Self::Done
        }
    }
}

fn has(plan: &Plan, verdicts: &[Verdict]) -> bool {
    plan.rows.iter().any(|row| verdicts.contains(&row.outcome.verdict))
}
