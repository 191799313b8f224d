//! Makes a plan of the drift and of what the backend reports about the sessions.

use std::collections::BTreeMap;

use crate::chat::Model;
use crate::plan::capabilities::TakesEffect;
use crate::plan::drift::{Drift, Reading};
use crate::plan::input::PlanInput;
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Edits, Finding, Observed, Standing, Void};
use crate::plan::rollout::{Rollout, failed_models};
use crate::plan::row::{Outcome, Row};
use crate::plan::verdict::Verdict;
use crate::plan::{Plan, guard, id};

/// The plan for this drift and these findings, with a refusal where it must not be done.
pub fn predict(input: &PlanInput, reading: &Reading, drift: Drift, observed: Observed) -> Plan {
    let Observed { edits, mut findings, canaries, working, restarts: recent_restarts, unlisted, remark } = observed;
    let restarts = input.capabilities.takes_effect() == TakesEffect::OnRestart;
    let is_per_row = matches!(edits, Edits::PerRow { .. });
    let mut prediction = Prediction { ledger: &reading.ledger, is_per_row, restarts, void: drift.void };
    let mut rows = Vec::new();
    for row in drift.rows {
        let finding = findings.remove(row.chat.id.as_ref()).unwrap_or_default();
        rows.extend(prediction.row(row, finding));
    }
    if restarts {
        let rollout = Rollout {
            canary: input.policy.rollout.canary,
            ledger: &reading.ledger,
            selection: &drift.selection,
            reset: &drift.reset,
            canaries: &canaries,
            working: &working,
            is_per_row,
            limit: input.capabilities.restart_limit(),
            recent_restarts: &recent_restarts,
            now: input.now.timestamp(),
        };
        rollout.choose(&mut rows);
    }
    let mut plan = Plan {
        id: id(&rows),
        rows,
        sessions: drift.sessions,
        selected: drift.selected,
        complete: drift.complete,
        edits,
        void: prediction.void,
        failed_models: if restarts { failed_models(&reading.ledger, &drift.reset) } else { Vec::new() },
        reset: drift.reset,
        unshared: drift.unshared,
        withdrawals: drift.withdrawals,
        working,
        unlisted,
        remark,
        found: drift.found,
        unseen: drift.unseen,
        refused: None,
    };
    plan.refused = guard(&plan, input.policy, input.limits);
    plan
}

/// Plans rows, one after the other.
struct Prediction<'a> {
    ledger: &'a Ledger,
    /// Whether a row's edit and its restart are one request.
    is_per_row: bool,
    /// Whether changes are followed by restarts.
    restarts: bool,
    /// The debts that are void, by chat id, and why.
    void: BTreeMap<String, Void>,
}

impl Prediction<'_> {
    /// The row as it is planned; `None` where the chat is in sync.
    fn row(&mut self, mut row: Row, finding: Finding) -> Option<Row> {
        let Finding { standing, void, identity, runs, is_overridden, remark } = finding;
        if let Some(runs) = runs {
            take_what_runs(&mut row, runs);
        }
        if is_overridden && self.was_confirmed(&row) {
            take_for_imposed(&mut row);
        }
        if let Some(why) = void {
            self.void(&mut row, why);
        }
        let runs_it = runs_what_it_should(&row, identity.as_deref());
        if runs_it && !row.edit {
            self.void(&mut row, Void::Back);
        }
        let has_reason = matches!(standing, Standing::Deferred(_) | Standing::Refused(_));
        if row.is_idle() && !row.restart && !has_reason {
            return None;
        }
        if runs_it || standing == Standing::AllDown {
            (row.restart, row.stale) = (false, false);
        }
        row.standing = standing.clone();
        if matches!(row.outcome.verdict, Verdict::Unmanaged | Verdict::Refused | Verdict::Held) {
            return Some(row);
        }
        if self.is_per_row && self.restarts {
            row.restart |= row.edit || row.owed.is_some();
        }
        if standing == Standing::InSync {
            return None;
        }
        follow_standing(&mut row, standing);
        if runs_it && row.is_planned() {
            self.void(&mut row, Void::Back);
        }
        if let Some(remark) = remark.filter(|_| row.is_planned()) {
            row.outcome.detail = Some(remark.clone());
            row.remark = Some(remark);
        }
        Some(row)
    }

    /// Whether the row's model after the edit is the one that was last confirmed.
    fn was_confirmed(&self, row: &Row) -> bool {
        let made = self.ledger.corrected.get(row.chat.id.as_ref());
        row.edit && made.is_some_and(|made| row.after.as_ref() == Some(&made.model))
    }

    /// Drops the row's debt, and with it the wait for its next try.
    fn void(&mut self, row: &mut Row, why: Void) {
        if row.owed.take().is_none() {
            return;
        }
        self.void.insert(row.chat.id.clone().into_owned(), why);
        row.effects.owes = false;
        row.restart &= row.edit || row.did_not_come_up;
        if row.outcome.verdict == Verdict::Deferred {
            row.outcome = Outcome::plain(Verdict::Planned);
        }
    }
}

/// Takes into account the model that the session runs, which the backend knows better than the registry.
fn take_what_runs(row: &mut Row, runs: Model) {
    let is_another = row.after.as_ref().is_some_and(|after| *after != runs);
    row.restart |= is_another;
    row.stale |= is_another;
    row.runs = Some(runs);
}

/// Marks a difference that no person chose. It is not counted as changed back, so the row is not held.
fn take_for_imposed(row: &mut Row) {
    row.imposed = true;
    row.changed_back.clear();
    if row.outcome.verdict == Verdict::Held {
        row.outcome = Outcome::plain(Verdict::Planned);
    }
}

/// Sets the outcome of a row by what its session is doing.
fn follow_standing(row: &mut Row, standing: Standing) {
    match standing {
        Standing::Deferred(why) => row.outcome = Outcome::because(Verdict::Deferred, why),
        Standing::Refused(why) => row.outcome = Outcome::because(Verdict::Refused, why),
        Standing::Busy if row.is_planned() => row.outcome.detail = Some("busy: the run waits for it".to_owned()),
        Standing::NotRunning if row.is_planned() && row.restart && !row.was_tried() => {
            row.restart = false;
            row.outcome.detail = Some("not running: it will start on its model".to_owned());
        }
        Standing::Ready
        | Standing::Live
        | Standing::Busy
        | Standing::NotRunning
        | Standing::AllDown
        | Standing::InSync => {}
    }
}

/// Whether the session of a row with a debt runs its model after all: no new start of it was found since the debt was made, and its
/// model then was the one that the registry has, or will have after this run.
fn runs_what_it_should(row: &Row, identity: Option<&str>) -> bool {
    row.runs == row.after && row.owed.as_ref().is_some_and(|debt| debt.is_same_start(identity))
}
