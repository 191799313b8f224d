//! `--confirm`: the plan is shown before anything is done, and applied only where the user says yes.

use jiff::tz::TimeZone;

use crate::apply;
use crate::backend::Probe;
use crate::cli::run::checks::check;
use crate::cli::run::options::RunOptions;
use crate::cli::terminal::{Answer, Terminal};
use crate::cli::workspace::Opened;
use crate::plan::{Expected, Limits, Row};
use crate::report::{Format, Mode, Report};

/// The plan that may be applied, where the user confirms it. A plan that does nothing, or is refused anyway, is not asked
/// about.
pub(super) fn confirmed(
    terminal: &Terminal,
    opened: &Opened,
    options: &RunOptions,
) -> anyhow::Result<Option<Expected>> {
    check(opened, options)?;
    let backend = opened.backend(Probe::Needed)?;
    let expected = options.expected(&opened.names)?;
    let limits = Limits { allow_changes: options.allow_changes, expected: expected.as_ref() };
    let input = options.input(opened, backend.as_ref(), &opened.now, limits);
    let planned = apply::plan(&input, backend.as_ref())?;
    let confirmed = Expected::of_plan(&planned.plan);
    if planned.plan.refused.is_some() || !planned.plan.rows.iter().any(Row::is_planned) {
        return Ok(Some(confirmed));
    }
    let plan = opened.names.shown(planned.plan);
    let (snapshot, now) = (planned.reading.snapshot.as_ref(), &opened.now.with_time_zone(TimeZone::system()));
    let answer = terminal.ask("Apply this plan?", |page, width| {
        let (policy, registry) = (opened.policy_name.raw(), opened.registry_name(snapshot));
        let report = Report { policy, snapshot, registry, plan: &plan, mode: Mode::DryRun, now, width };
        report.write(Format::Text, page)
    })?;
    Ok((answer == Answer::Yes).then_some(confirmed))
}
