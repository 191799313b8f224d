//! What is looked at before a run: whether what is asked for can be asked of this policy and registry.

use crate::cli::run::options::RunOptions;
use crate::cli::workspace::Opened;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::sources::PolicyFiles;

/// Looks whether what is asked for can be asked of this policy and registry.
pub(super) fn check(opened: &Opened, options: &RunOptions) -> Result<()> {
    if opened.names.is_snapshot() && !options.dry_run {
        let file = opened.home.name();
        return Err(Error::other(format!("{file} is a redacted snapshot, not a registry"))
            .with_hint("plan on it with --dry-run; apply the plan where the registry is, with --plan and --redact"));
    }
    check_take_over(&opened.policy, options)?;
    check_commands(&opened.policy, &opened.files, options)
}

/// That there is something to take over.
fn check_take_over(policy: &Policy, options: &RunOptions) -> Result<()> {
    if policy.existing.keeps_manual() || !options.selector.take_over.is_asked() {
        return Ok(());
    }
    Err(Error::other("there is nothing to take over: the policy does not say existing = \"keep-manual\"")
        .with_hint("leave out --take-over and --take-over-all"))
}

/// Looks whether the commands of a policy may be run.
fn check_commands(policy: &Policy, files: &PolicyFiles, options: &RunOptions) -> Result<()> {
    let runs_none = options.dry_run && !options.probe;
    if runs_none || !policy.sessions.has_commands() { Ok(()) } else { refuse_exposed(files) }
}

/// A user who can write the policy can run commands as the user who runs it. As root, only root may do that.
pub(crate) fn refuse_exposed(files: &PolicyFiles) -> Result<()> {
    match &files.exposed {
        Some(path) if rustix::process::geteuid().is_root() => {
            let message = format!("others can write {}, and its commands would run as root", path.display());
            Err(Error::other(message).with_hint("chown it to root and chmod go-w it, or run as the sessions' own user"))
        }
        _ => Ok(()),
    }
}
