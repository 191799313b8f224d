//! Compares two policies: what a change from one to the other does to a registry, without the drift that is there anyway.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Zoned;

use crate::chat::Model;
use crate::error::Result;
use crate::plan::capabilities::Capabilities;
use crate::plan::drift::{Comparison, Drift, plain};
use crate::plan::input::{Limits, PlanInput};
use crate::plan::last_applied::{Found, Hint, Origin};
use crate::plan::ledger::Ledger;
use crate::plan::observed::Edits;
use crate::plan::row::Row;
use crate::plan::select::{Selection, Selector};
use crate::plan::{Plan, id};
use crate::policy::Policy;
use crate::registry::{Entry, Snapshot};
use crate::resolve::{Current, Decision, resolve};

/// One of the two policies, and what the backend that it names can do.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The capabilities of its backend.
    pub capabilities: &'a dyn Capabilities,
    /// The time, in its time zone.
    pub now: &'a Zoned,
}

impl<'a> Side<'a> {
    /// Its decision on an entry, and the decided model; no model for a chat that is not managed.
    fn decide(&self, entry: &Entry, ledger: &Ledger) -> (Decision<'a>, Option<&'a Model>) {
        let by_hand = ledger.origin(self.policy, entry, &mut Hint::default()).is_some_and(Origin::is_by_hand);
        let current = Current { model: entry.model.as_deref(), by_hand };
        let chat = self.policy.with_tier(entry.chat.clone());
        let decision = resolve(self.policy, &chat, current, self.now);
        (decision, decision.model.filter(|_| self.capabilities.unmanaged(&chat).is_none()))
    }
}

/// The plan of a run by `new` on a registry that is as `old` wants it: a row for each chat on which the two decide differently.
///
/// A row's `before` is the decision of `old`. It is `None` where `old` leaves the chat alone: then `edit` and `restart` are about the
/// model in the registry, and the plan's id is not that of a run. Both decisions depend on the model in the registry where a policy
/// keeps existing models, and on the ledger `remembered` where it keeps models that were set by hand.
///
/// # Errors
/// What is wrong with the registry.
pub fn policy_diff(old: Side, new: Side, snapshot: &dyn Snapshot, remembered: &Ledger) -> Result<Plan> {
    let selector = Selector::default();
    let Side { policy, capabilities, now } = new;
    let input = PlanInput { policy, capabilities, now, selector: &selector, limits: Limits::default() };
    let (ledger, doubtful, selection) = (Ledger::default(), BTreeSet::new(), Selection::default());
    let comparison =
        Comparison { input: &input, ledger: &ledger, doubtful: &doubtful, imposed: None, selection: &selection };
    let mut drift = Drift::default();
    let counts = snapshot.each(&mut |entry| {
        let (_, was) = old.decide(&entry, remembered);
        let (decision, is) = new.decide(&entry, remembered);
        let entry = Entry { chat: policy.with_tier(entry.chat), ..entry };
        let row = match (was, is) {
            (None, None) => None,
            (Some(was), _) => {
                let entry = Entry { model: Some(Cow::Borrowed(was.as_str())), ..entry };
                comparison.row(&mut drift, entry, decision)
            }
            (None, Some(is)) => {
                let row = comparison.row(&mut drift, entry.clone(), decision);
                let row = row.unwrap_or_else(|| Row { after: Some(is.clone()), ..plain(entry, decision) });
                Some(Row { before: None, ..row })
            }
        };
        drift.rows.extend(row);
    })?;
    drift.close(&input, snapshot)?;
    Ok(Plan {
        id: id(&drift.rows),
        rows: drift.rows,
        sessions: counts.sessions,
        selected: counts.sessions,
        complete: true,
        edits: Edits::Batch,
        void: BTreeMap::new(),
        reset: Vec::new(),
        working: BTreeMap::new(),
        failed_models: Vec::new(),
        unlisted: Vec::new(),
        unshared: Vec::new(),
        withdrawals: Vec::new(),
        remark: None,
        found: Found::default(),
        unseen: 0,
        refused: None,
    })
}
