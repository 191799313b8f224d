//! What the command line asks of a run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::args::{Moment, PlaceArgs, ReportArgs, RunArgs};
use crate::cli::run::policy_edit::PolicyEdits;
use crate::error::{Error, Result, reason};
use crate::plan::Expected;
use crate::plan::select::Selector;

/// What the command line asks of a run: for which chats, with which limits, and where its results go.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct RunOptions<'a> {
    pub(crate) selector: Selector,
    pub(crate) dry_run: bool,
    pub(crate) probe: bool,
    pub(crate) detailed_exitcode: bool,
    pub(crate) at: Option<Moment>,
    /// A plan id, or the file of a JSON report.
    pub(crate) plan: Option<&'a str>,
    pub(crate) allow_changes: Option<usize>,
    pub(crate) report: ReportArgs,
    pub(crate) quiet: bool,
    pub(crate) metrics: Option<&'a Path>,
    /// The edits of the policy's files that the run begins with.
    pub(crate) edits: PolicyEdits,
    /// Whether a policy that changes while the run waits for another run is read again.
    pub(crate) follows_policy: bool,
}

impl<'a> RunOptions<'a> {
    /// A run for whatever the policy says.
    pub(crate) fn of(args: &'a RunArgs) -> Self {
        Self {
            selector: Selector {
                chats: args.chat.clone(),
                tiers: args.tier.clone(),
                exclude: args.exclude.clone(),
                retry: args.retry.clone(),
                ids: Vec::new(),
            },
            dry_run: args.dry_run,
            probe: args.probe,
            detailed_exitcode: args.detailed_exitcode,
            at: args.at,
            plan: args.plan.as_deref(),
            allow_changes: args.allow_changes,
            report: args.report.clone(),
            quiet: args.quiet,
            metrics: args.metrics.as_deref(),
            edits: PolicyEdits::default(),
            follows_policy: true,
        }
    }

    /// The plan that `--plan` names, if any.
    pub(crate) fn expected(&self) -> Result<Option<Expected>> {
        self.plan.map(expected).transpose()
    }

    /// The files that this run needs: the `others`, and those that its options name.
    pub(crate) fn needed(&self, others: Vec<PathBuf>, place: &PlaceArgs) -> Vec<PathBuf> {
        others.into_iter().chain(place.redact_key.clone()).chain(self.plan.map(PathBuf::from)).collect()
    }
}

fn expected(text: &str) -> Result<Expected> {
    if let Some(expected) = Expected::from_id(text) {
        return Ok(expected);
    }
    let json = fs::read_to_string(text).map_err(|error| {
        Error::other(format!(
            "--plan {text}: neither a plan id (16 hex digits) nor a file that can be read: {}",
            reason(&error)
        ))
        .with_hint("a plan id stands in the first line of a report")
    })?;
    Expected::from_report(&Path::new(text).display().to_string(), &json)
}
