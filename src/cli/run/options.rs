//! What the command line asks of a run.

use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Zoned;

use crate::apply::Backend;
use crate::cli::args::{Moment, NamedPlan, PlaceArgs, ReportArgs, RunArgs};
use crate::cli::problem::OptionProblem;
use crate::cli::run::policy_edit::PolicyEdits;
use crate::cli::workspace::{Names, Opened};
use crate::error::Result;
use crate::foreign::Sentence;
use crate::os::open_regular;
use crate::plan::history_lines::JsonEdit;
use crate::plan::select::Selector;
use crate::plan::{Expected, ID_LENGTH, Limits, PlanInput};
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
    /// The plan that the user has seen and confirmed. It counts instead of `plan`, which it was compared with.
    pub(crate) confirmed: Option<Expected>,
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
        let RunArgs { dry_run, preview, common, confirm: _ } = args;
        Self {
            command: "apply",
            selector: common.selector(),
            dry_run: *dry_run,
            probe: preview.probe,
            detailed_exitcode: preview.detailed_exitcode,
            at: preview.at,
            plan: common.plan.as_ref(),
            allow_changes: common.allow_changes,
            report: common.report.clone(),
            quiet: common.quiet,
            metrics: common.metrics.as_deref(),
            follows_policy: true,
            ..Self::default()
        }
    }

    /// Whether the report leaves out the whole id of a plan, and a user who reads it could pass that to the same command.
    pub(crate) fn can_name_the_plan(&self) -> bool {
        // A command that edits the policy, too, has no such option.
        self.follows_policy && self.plan.is_none() && !self.quiet && self.report.format == Format::Text
    }

    /// The plan that the user wants applied and no other, if any.
    pub(crate) fn expected(&self, names: &Names) -> Result<Option<Expected>> {
        let expected = match &self.confirmed {
            Some(confirmed) => Some(confirmed.clone()),
            None => self.plan.map(expected).transpose()?,
        };
        Ok(expected.map(|expected| expected.redacted(names.redaction().cloned())))
    }

    /// The input of the run's plan.
    pub(crate) fn input<'p>(
        &'p self,
        opened: &'p Opened,
        backend: &'p dyn Backend,
        now: &'p Zoned,
        limits: Limits<'p>,
    ) -> PlanInput<'p> {
        let (policy, capabilities) = (&opened.policy, backend.capabilities());
        PlanInput { policy, capabilities, now, selector: &self.selector, limits }
    }

    /// The files that this run needs: the `others`, and those that its options name.
    pub(crate) fn needed(&self, others: Vec<PathBuf>, place: &PlaceArgs) -> Vec<PathBuf> {
        let plan = self.plan.and_then(|plan| match plan {
            NamedPlan::Id(_) => None,
            NamedPlan::File(path) => Some(path.clone()),
        });
        others.into_iter().chain(place.redact_key()).chain(plan).collect()
    }
}

fn expected(plan: &NamedPlan) -> Result<Expected> {
    let path = match plan {
        NamedPlan::Id(id) => return Ok(Expected::from_id(id)),
        NamedPlan::File(path) => path,
    };
    let name = path.display().to_string();
    let mut json = String::new();
    let unreadable = |why| OptionProblem::Plan { path: path.clone(), why, id_length: ID_LENGTH };
    let mut file = open_regular(path).map_err(|error| unreadable(error.sentence()))?;
    file.read_to_string(&mut json).map_err(|error| unreadable(Sentence::from(&error)))?;
    Expected::from_report(&name, &json)
}
