//! `reconcile diff`: what a change of policy alone does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::backend::{Probe, capabilities};
use crate::cli::args::{PlaceArgs, file_of, one_of};
use crate::cli::commands::problem::CommandProblem;
use crate::cli::exit::Exit;
use crate::cli::outputs::Outputs;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Names, open, under_pseudonyms};
use crate::cli::zone::zone_of;
use crate::error::{Error, Result};
use crate::file_name::FileName;
use crate::plan::ledger::Ledger;
use crate::plan::{Side, policy_diff};
use crate::policy;
use crate::report::{Format, Mode, Report};
use crate::sources;
use crate::sources::git::{OldPolicy, policy_at};

/// As long as git may take. It answers within milliseconds, and from a cold disk within seconds.
const GIT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Args)]
pub(crate) struct DiffArgs {
    /// The old policy: a file, a directory, git:REV for the policy in that revision, or git:REV:PATH if it had another
    /// path there
    #[arg(long, value_name = "POLICY")]
    from: OsString,

    /// Exit with 2 if the policies decide differently on any chat
    #[arg(long)]
    detailed_exitcode: bool,

    /// Output format: text, json or markdown
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = one_of(&Format::OF_POLICIES), hide_possible_values = true, help_heading = "Output")]
    format: Format,

    /// Also write the report to a file, in any format (repeatable)
    #[arg(long, value_name = "FORMAT=FILE", value_parser = file_of(&Format::OF_POLICIES), help_heading = "Output")]
    output: Vec<(Format, PathBuf)>,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &DiffArgs) -> anyhow::Result<Exit> {
    let opened = open(terminal, place)?;
    let OldPolicy { name, sources: old } = old_policy(place, &args.from)?;
    let olds = old.iter().map(|source| source.name.path().to_owned());
    let outputs = Outputs::open(&args.output, &opened.needed().into_iter().chain(olds).collect::<Vec<_>>())?;
    let (old, _) = policy::read(&old).map_err(Error::Invalid)?;
    let old = match &opened.names {
        Names::Snapshot(key, _) => under_pseudonyms(key, old)?,
        Names::Own | Names::Redacted(_) => old,
    };
    let backend = opened.backend(Probe::Nothing)?;
    let snapshot = backend.snapshot()?;
    // A snapshot says itself what was set by hand, and an unused ledger need not be whole.
    let needs_ledger = old.existing.keeps_manual() || opened.policy.existing.keeps_manual();
    let remembered = if needs_ledger { backend.ledger()? } else { Ledger::default() };
    let (old_backend, new_backend) = (capabilities(&old), capabilities(&opened.policy));
    let old_now = opened.now.with_time_zone(zone_of(&old));
    let old = Side { policy: &old, capabilities: old_backend.as_ref(), now: &old_now };
    let new = Side { policy: &opened.policy, capabilities: new_backend.as_ref(), now: &opened.now };
    let plan = policy_diff(old, new, snapshot.as_ref(), &remembered)?;
    let plan = opened.names.shown(plan);

    let policies = format!("{} → {}", name.shown().raw(), opened.policy_name.raw());
    let report = Report {
        policy: &policies,
        snapshot: snapshot.as_ref(),
        registry: opened.registry_name(snapshot.as_ref()),
        plan: &plan,
        mode: Mode::PolicyDiff,
        now: &opened.now,
        width: terminal.width(),
    };
    terminal.to_stdout(|page| report.write(args.format, page))?;
    outputs.write(&report)?;
    let differs = args.detailed_exitcode && !plan.rows.is_empty();
    Ok(if differs { Exit::Planned } else { Exit::Done })
}

/// The policy that the user compares with.
fn old_policy(place: &PlaceArgs, from: &OsStr) -> Result<OldPolicy> {
    let called = place.called().as_another("old policy");
    if let Some(wanted) = from.as_bytes().strip_prefix(b"git:") {
        return policy_at(OsStr::from_bytes(wanted), &place.policy(), GIT_LIMIT, called);
    }
    let path = Path::new(from);
    if !path.exists() {
        return Err(CommandProblem::NoSuchFrom { typed: path.into() }.into());
    }
    Ok(OldPolicy { name: FileName::of_whole(path, called), sources: sources::load(path, called)?.sources })
}
