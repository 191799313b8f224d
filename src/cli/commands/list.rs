//! `reconcile list`: every chat with its model, what decided on it, and how it stands.

use clap::Args;
use jiff::tz::TimeZone;

use crate::apply::Ask;
use crate::backend::Probe;
use crate::cli::args::{PlaceArgs, SelectionArgs, TEXT_OR_JSON, one_of};
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{open, warn_of_lost_state};
use crate::plan::listing::listing;
use crate::plan::{Limits, PlanInput};
use crate::redact::Shown;
use crate::report::TextOrJson;
use crate::report::listing::List;

#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    selection: SelectionArgs,

    /// Output format: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = one_of(&TEXT_OR_JSON), hide_possible_values = true, help_heading = "Output")]
    format: TextOrJson,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &ListArgs) -> anyhow::Result<Exit> {
    let opened = open(terminal, place)?;
    let backend = opened.backend(Probe::Nothing)?;
    warn_of_lost_state(terminal, backend.as_ref())?;
    let backend = opened.backend_to_plan_on(terminal, backend, Probe::Nothing)?;
    let reading = backend.read(Ask::Everything)?;
    let (policy, capabilities, now) = (&opened.policy, backend.capabilities(), &opened.now);
    let selector = &args.selection.selector();
    let listing = listing(&PlanInput { policy, capabilities, now, selector, limits: Limits::default() }, &reading)?;
    let listing = Shown::under(opened.names.redaction(), listing);
    let list = List {
        policy: opened.policy_name.raw(),
        registry: opened.registry_name(reading.snapshot.as_ref()),
        listing: &listing,
        now: &now.with_time_zone(TimeZone::system()),
        width: terminal.width(),
    };
    terminal.to_stdout(|page| list.write(args.format, page))?;
    Ok(Exit::Done)
}
