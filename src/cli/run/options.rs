//! What the command line asks of a run.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cli::args::{Moment, NamedPlan, PlaceArgs, ReportArgs, RunArgs};
use crate::cli::run::policy_edit::PolicyEdits;
use crate::error::{Error, Result, reason};
use crate::os::open_regular;
use crate::plan::line::JsonEdit;
use crate::plan::select::Selector;
use crate::plan::{Expected, ID_LENGTH};
use crate::report::Format;

/// What the command line asks of a run: for which chats, with which limits, and where its results go.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct RunOptions<'a> {
    /// The command, as the history calls it.
    pub(crate) command: &'a str,
    pub(crate) selector: Selector,
    pub(crate) dry_run: bool,
    pub(crate) probe: bool,
    pub(crate) detailed_exitcode: bool,
    pub(crate) at: Option<Moment>,
    pub(crate) plan: Option<&'a NamedPlan>,
    pub(crate) allow_changes: Option<usize>,
    pub(crate) report: ReportArgs,
    pub(crate) quiet: bool,
    pub(crate) metrics: Option<&'a Path>,
    /// What these do to overrides, for the history.
    pub(crate) overrides: Vec<JsonEdit>,
    /// The edits of the policy's files that the run begins with.
    pub(crate) edits: PolicyEdits,
    /// Whether a policy that changes while the run waits for another run is read again.
    pub(crate) follows_policy: bool,
}

impl<'a> RunOptions<'a> {
    /// A run for what the policy says.
    pub(crate) fn of(args: &'a RunArgs) -> Self {
        Self {
            command: "apply",
            selector: Selector { retry: args.retry.clone(), take_over: args.take_over(), ..args.selection.selector() },
            dry_run: args.dry_run,
            probe: args.probe,
            detailed_exitcode: args.detailed_exitcode,
            at: args.at,
            plan: args.plan.as_ref(),
            allow_changes: args.allow_changes,
            report: args.report.clone(),
            quiet: args.quiet,
            metrics: args.metrics.as_deref(),
            overrides: Vec::new(),
            edits: PolicyEdits::default(),
            follows_policy: true,
        }
    }

    /// Whether the report leaves out the whole id of a plan, and a user who reads it could pass that to the same command.
    pub(crate) fn can_name_the_plan(&self) -> bool {
        // A command that edits the policy, too, has no such option.
        self.follows_policy && self.plan.is_none() && !self.quiet && self.report.format == Format::Text
    }

    /// The plan that `--plan` names, if any.
    pub(crate) fn expected(&self) -> Result<Option<Expected>> {
        self.plan.map(expected).transpose()
    }

    /// The files that this run needs: the `others`, and those that its options name.
    pub(crate) fn needed(&self, others: Vec<PathBuf>, place: &PlaceArgs) -> Vec<PathBuf> {
        let plan = self.plan.and_then(|plan| match plan {
            NamedPlan::Id(_) => None,
            NamedPlan::File(path) => Some(path.clone()),
        });
        others.into_iter().chain(place.redact_key.clone()).chain(plan).collect()
    }
}

fn expected(plan: &NamedPlan) -> Result<Expected> {
    let path = match plan {
        NamedPlan::Id(id) => return Ok(Expected::from_id(id)),
        NamedPlan::File(path) => path,
    };
    let name = path.display().to_string();
    let mut json = String::new();
    let unreadable = |why: String| {
        Error::other(format!("--plan {name}: neither a plan id nor a file that can be read: {why}"))
            .with_hint(format!("a plan id has {ID_LENGTH} hex digits, and a dry run prints it on stderr"))
    };
    let mut file = open_regular(path).map_err(|error| unreadable(error.to_string()))?;
    file.read_to_string(&mut json).map_err(|error| unreadable(reason(&error)))?;
    Expected::from_report(&name, &json)
}
