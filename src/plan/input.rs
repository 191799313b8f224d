//! What a plan is made from, apart from the registry and the ledger.

use jiff::Zoned;

use crate::plan::capabilities::Capabilities;
use crate::plan::expected::Expected;
use crate::plan::select::Selector;
use crate::policy::Policy;

/// What a plan is made from, apart from the registry and the ledger.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// The desired state.
    pub policy: &'a Policy,
    /// What the backend can do.
    pub capabilities: &'a dyn Capabilities,
    /// The time of the run, in the policy's time zone.
    pub now: &'a Zoned,
    /// Which chats the run is about.
    pub selector: &'a Selector,
    /// What the user allows the run to do.
    pub limits: Limits<'a>,
}

/// What the user allows a run to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// How many changes the run may make, instead of the policy's limit.
    pub allow_changes: Option<usize>,
    /// The only plan that the run may apply, if the user has named one.
    pub expected: Option<&'a Expected>,
}
