//! What a plan is made from, besides what a backend reads.

use jiff::Zoned;

use crate::plan::capabilities::Capabilities;
use crate::plan::expected::Expected;
use crate::plan::select::Selector;
use crate::policy::Policy;

/// What is wanted, by whom, and when.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// What is desired.
    pub policy: &'a Policy,
    /// What the backend can do.
    pub capabilities: &'a dyn Capabilities,
    /// The time of the run, in the policy's time zone.
    pub now: &'a Zoned,
    /// Which chats the run is about.
    pub selector: &'a Selector,
    /// The limits that the user consents to.
    pub limits: Limits<'a>,
}

/// What the user consents to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// So many changes, instead of the policy's limit.
    pub allow_changes: Option<usize>,
    /// This plan, and no other.
    pub expected: Option<&'a Expected>,
}
