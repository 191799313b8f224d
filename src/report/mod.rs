//! A plan, as people and programs read it.

pub mod adopted;
pub(crate) mod check;
pub mod diagnostics;
mod diff;
pub(crate) mod doctor;
pub mod escape;
pub mod explain;
pub(crate) mod first_policy;
mod format;
pub(crate) mod history;
mod json;
pub(crate) mod listing;
mod markdown;
pub(crate) mod metrics;
pub mod page;
pub mod shown;
mod standing_faults;
mod text;

use jiff::Zoned;

use crate::plan::Plan;
use crate::redact::Shown;
use crate::registry::Snapshot;

pub(crate) use diff::policy_diff;
pub use format::Format;
pub(crate) use format::TextOrJson;
pub use page::{Page, Width};
pub(crate) use standing_faults::{has_failures, standing_faults};
pub(crate) use text::{counted, failed_model, refusal, time, voided};

/// Whether a plan was only made, or executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The plan was only made.
    DryRun,
    /// The plan was executed.
    Apply,
    /// The plan shows what a change of policy alone does.
    PolicyDiff,
}

/// A plan, and what a report of it needs besides.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The policy's name, as the user would write it.
    pub policy: &'a str,
    /// The registry that was planned on.
    pub snapshot: &'a dyn Snapshot,
    /// The registry's name, as the user would write it.
    pub registry: &'a str,
    /// The plan, with its outcomes.
    pub plan: &'a Shown<Plan>,
    /// Whether the plan was only made, or executed.
    pub mode: Mode,
    /// The time of the run.
    pub now: &'a Zoned,
    /// How much room a line of text has.
    pub width: Width,
}
