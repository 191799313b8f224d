//! A plan, made from what a backend reads and observes; and what a run works with.

use std::collections::BTreeSet;

use crate::apply::backend::{Ask, Backend, Locked};
use crate::apply::watch::Watch;
use crate::error::Result;
use crate::plan::json::Origin;
use crate::plan::observed::Edits;
use crate::plan::{Outcome, Plan, PlanInput, Reading, drift, predict};

/// How often a run plans again because the registry was replaced meanwhile, before it gives up.
pub(super) const PLANS: usize = 100;

/// A plan, and what it was made from.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The registry and the ledger that it was made from.
    pub reading: Reading,
}

/// Makes the plan of a run. Changes nothing.
///
/// # Errors
/// Where registry, ledger or sessions cannot be read.
pub fn plan(input: &PlanInput, backend: &dyn Backend) -> Result<Planned> {
    planned_on(backend.read(Ask::Plan(input))?, input, backend)
}

/// Makes a plan, in which only the rows of these chats count.
///
/// # Errors
/// As [`plan`].
pub(super) fn plan_of(chats: &BTreeSet<&str>, input: &PlanInput, backend: &dyn Backend) -> Result<Planned> {
    planned_on(backend.read(Ask::Chats(chats))?, input, backend)
}

/// Makes a plan on what was read.
pub(super) fn planned_on(reading: Reading, input: &PlanInput, backend: &dyn Backend) -> Result<Planned> {
    let drift = drift(input, &reading)?;
    let observed = backend.observe(&reading, &drift)?;
    let plan = predict(input, &reading, drift, observed);
    Ok(Planned { plan, reading })
}

/// Looks whether what a plan does can be done: its edits, and the restarts of its sessions.
///
/// # Errors
/// Why that cannot be done.
pub fn preflight(plan: &Plan, backend: &dyn Backend) -> Result<()> {
    check_edits(plan, backend)?;
    let restarts = plan.rows.iter().any(|row| row.is_planned() && row.restart);
    if restarts { backend.preflight() } else { Ok(()) }
}

/// Looks whether the registry can be edited, where a plan edits it and leaves that to no owner of the registry.
///
/// # Errors
/// Why it cannot.
pub fn check_edits(plan: &Plan, backend: &dyn Backend) -> Result<()> {
    let edits = plan.edits == Edits::Batch && plan.rows.iter().any(|row| row.is_planned() && row.edit);
    if edits { backend.check_edits() } else { Ok(()) }
}

/// What a run works with.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// The backend.
    pub backend: &'a dyn Backend,
    /// The backend, locked for this run.
    pub locked: &'a dyn Locked,
    /// What watches the run.
    pub watch: &'a dyn Watch,
    /// Who does the run. Asked only where there is something to tell in the history.
    pub author: &'a dyn Fn() -> Origin,
}

/// Gives this outcome to the rows that have none.
pub(super) fn leave(plan: &mut Plan, outcome: &Outcome) {
    for row in plan.rows.iter_mut().filter(|row| row.is_planned()) {
        row.outcome = outcome.clone();
    }
}
