//! `reconcile diff`: what a change of policy alone does.

use std::path::PathBuf;

use clap::Args;

use crate::apply::Files;
use crate::cli::args::{PlaceArgs, ReportArgs};
use crate::cli::exit::Exit;
use crate::cli::output::{self, Outputs};
use crate::cli::{Names, open, under_pseudonyms};
use crate::error::Error;
use crate::plan::between;
use crate::policy;
use crate::report::escape::leading;
use crate::report::{Format, Mode, Report};
use crate::store::git::policy_at;
use crate::store::sources;

#[derive(Clone, Debug, Args)]
pub(super) struct DiffArgs {
    /// The old policy: a file, a directory, or git:REV, which is the policy as that revision has it
    #[arg(long, value_name = "POLICY")]
    from: String,

    #[command(flatten)]
    report: ReportArgs,
}

pub(super) fn run(place: &PlaceArgs, args: &DiffArgs) -> anyhow::Result<Exit> {
    if args.report.formats().any(|format| format == Format::Diff) {
        let hint = "as text, json or markdown it can; `reconcile --dry-run --format diff` shows what a run edits";
        output::error(
            "a change of policy alone cannot be shown as a diff of the registry, which also drifts",
            Some(hint),
        );
        return Ok(Exit::Usage);
    }
    let opened = open(place)?;
    let old = match args.from.strip_prefix("git:") {
        Some(revision) => policy_at(revision, &place.policy())?,
        None => sources::load(args.from.as_ref())?.sources,
    };
    let name = match args.from.strip_prefix("git:") {
        Some(revision) => format!("{revision}:{}", opened.policy_name),
        None => args.from.clone(),
    };
    let olds = old.iter().map(|source| PathBuf::from(source.name.as_ref()));
    let outputs = Outputs::open(&args.report.output, &opened.needed().into_iter().chain(olds).collect::<Vec<_>>())?;
    let (old, _) = policy::read(&old).map_err(Error::Invalid)?;
    let old = match &opened.names {
        Names::Snapshot(key) => under_pseudonyms(key, old)?,
        Names::Own | Names::Redacted(_) => old,
    };
    let snapshot = opened.store.registry()?;
    let plan = between(&old, &opened.policy, &snapshot, &opened.now)?;
    let plan = opened.names.shown(plan);

    let policies = format!("{} → {}", leading(&name), opened.policy_name);
    let report =
        Report { policy: &policies, snapshot: &snapshot, plan: &plan, mode: Mode::PolicyDiff, now: &opened.now };
    output::to_stdout(|out| report.write(args.report.format, out))?;
    outputs.write(&report)?;
    Ok(Exit::Done)
}
