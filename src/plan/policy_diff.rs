//! Policy against policy: what a change of the one alone does to a registry, apart from drift that is there anyway.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Zoned;

use crate::error::{Error, Result};
use crate::plan::drift::{Drift, plain};
use crate::plan::ledger::Ledger;
use crate::plan::select::{Request, Selection};
use crate::plan::{Goal, Plan, Row, Writer, id};
use crate::policy::Policy;
use crate::registry::{Entry, Snapshot, scan};
use crate::resolve::resolve;

/// The plan of a run under `new` on a registry that is as `old` wants it: a row for each chat on which they decide
/// differently. `before` is the decision of `old`, `None` where that leaves the chat alone; then `edit` and `restart`
/// are about what the registry says, and the id is not that of a run, which knows what stands there. What the registry
/// says also takes part in both decisions where existing models are kept.
///
/// # Errors
/// What is wrong with the registry.
pub fn between(old: &Policy, new: &Policy, snapshot: &Snapshot, now: &Zoned) -> Result<Plan> {
    let request = Request::default();
    let goal = Goal { policy: new, now, request: &request, allow_changes: None, expected: None };
    let (everything, no_debts) = (Selection::default(), Ledger::default());
    let mut drift = Drift::none(snapshot);
    let sessions = scan(snapshot, |entry| {
        let existing = entry.model.as_deref();
        let was = resolve(old, &entry.chat, existing, now).model;
        let was = was.filter(|_| old.sessions.leaves_alone(&entry.chat).is_none());
        let decision = resolve(new, &entry.chat, existing, now);
        let is = decision.model.filter(|_| new.sessions.leaves_alone(&entry.chat).is_none());
        match (was, is) {
            (None, None) => {}
            (Some(was), _) => {
                let entry = Entry { model: Some(Cow::Borrowed(was.as_str())), ..entry };
                drift.add(&goal, &everything, &no_debts, entry, decision);
            }
            (None, Some(is)) => {
                let known = drift.rows.len();
                drift.add(&goal, &everything, &no_debts, entry.clone(), decision);
                if drift.rows.len() == known {
                    drift.rows.push(Row { after: Some(is.clone()), ..plain(entry, decision) });
                }
                drift.rows.iter_mut().skip(known).for_each(|row| row.before = None);
            }
        }
    })
    .map_err(Error::Invalid)?;
    drift.close(&goal, snapshot)?;
    Ok(Plan {
        id: id(&drift.rows),
        rows: drift.rows,
        sessions,
        selected: sessions,
        complete: true,
        writer: Writer::Us,
        cancelled: BTreeMap::new(),
        forgiven: Vec::new(),
        outdated: Vec::new(),
        refused: None,
    })
}
