//! A plan, as people and programs read it.

pub mod adopted;
pub mod check;
pub mod diagnostics;
mod diff;
pub mod escape;
pub mod explain;
pub mod history;
mod json;
mod markdown;
pub mod metrics;
mod text;

use std::io::{self, Write};

use jiff::Zoned;

use crate::plan::Plan;
use crate::registry::Snapshot;

pub use diff::policy_diff;
pub use text::{counted, refusal, time, voided};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people at a terminal.
    #[default]
    Text,
    /// For programs; stable.
    Json,
    /// For comments on pull requests.
    Markdown,
    /// A unified diff of the registry.
    Diff,
}

impl Format {
    /// Whether a diff of the policy can stand before it.
    pub fn shows_policy(self) -> bool {
        matches!(self, Self::Text | Self::Diff)
    }
}

/// Whether a plan was only made, or executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only made.
    DryRun,
    /// Executed.
    Apply,
    /// Only made, and not from the registry: what a change of policy alone does.
    PolicyDiff,
}

/// What a report is about.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The policy's name, as the user would write it.
    pub policy: &'a str,
    /// The registry that was planned on.
    pub snapshot: &'a Snapshot,
    /// The plan, with its outcomes.
    pub plan: &'a Plan,
    /// What was done with it.
    pub mode: Mode,
    /// The time of the run.
    pub now: &'a Zoned,
}

impl Report<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Text => text::write(self, out),
            Format::Json => json::write(self, out),
            Format::Markdown => markdown::write(self, out),
            Format::Diff => diff::write(self, out),
        }
    }
}
