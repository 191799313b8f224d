//! What is looked at before a run: whether what is asked for can be asked of this policy and registry.

use crate::cli::problem::{OptionProblem, PlaceProblem};
use crate::cli::run::options::RunOptions;
use crate::cli::workspace::Opened;
use crate::error::Result;
use crate::policy::Policy;
use crate::sources::PolicyFiles;

/// Looks whether what is asked for can be asked of this policy and registry.
pub(super) fn check(opened: &Opened, options: &RunOptions) -> Result<()> {
    if opened.names.is_snapshot() && !options.dry_run {
        return Err(PlaceProblem::Snapshot { file: opened.home.name().into() }.into());
    }
    check_take_over(&opened.policy, options)?;
    check_commands(&opened.policy, &opened.files, options)
}

/// That there is something to take over.
fn check_take_over(policy: &Policy, options: &RunOptions) -> Result<()> {
    if policy.existing.keeps_manual() || !options.selector.take_over.is_asked() {
        return Ok(());
    }
    Err(OptionProblem::NothingToTakeOver.into())
}

/// Looks whether the commands of a policy may be run.
fn check_commands(policy: &Policy, files: &PolicyFiles, options: &RunOptions) -> Result<()> {
    let runs_none = options.dry_run && !options.probe;
    if runs_none || !policy.sessions.has_commands() { Ok(()) } else { refuse_exposed(files) }
}

/// A user who can write the policy can run commands as the user who runs it. As root, only root may do that.
pub(crate) fn refuse_exposed(files: &PolicyFiles) -> Result<()> {
    match &files.exposed {
        Some(path) if rustix::process::geteuid().is_root() => Err(OptionProblem::Exposed { path: path.clone() }.into()),
        _ => Ok(()),
    }
}
