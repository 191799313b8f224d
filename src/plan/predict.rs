//! What a run would do about the drift, given what the backend reports of the sessions.

use std::collections::BTreeMap;

use crate::chat::Model;
use crate::plan::capabilities::TakesEffect;
use crate::plan::drift::{Drift, Reading};
use crate::plan::input::PlanInput;
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Canary, Edits, Finding, Observed, Standing, Void};
use crate::plan::row::{Outcome, Row, Verdict};
use crate::plan::select::Selection;
use crate::plan::{Plan, guard, id};

/// The plan: what differs, with what the sessions are doing taken into account, and whether it may be done.
pub fn predict(input: &PlanInput, reading: &Reading, drift: Drift, observed: Observed) -> Plan {
    let Observed { edits, mut findings, canaries, remark } = observed;
    let mut prediction = Prediction {
        ledger: &reading.ledger,
        selection: &drift.selection,
        is_per_row: matches!(edits, Edits::PerRow { .. }),
        restarts: input.capabilities.takes_effect() == TakesEffect::OnRestart,
        void: drift.void,
    };
    let mut rows = Vec::new();
    for row in drift.rows {
        let finding = findings.remove(row.chat.id.as_ref()).unwrap_or_default();
        rows.extend(prediction.row(row, finding));
    }
    for row in rows.iter_mut().filter(|row| row.is_planned() && row.restart) {
        prediction.try_first(row, &canaries);
    }
    let mut plan = Plan {
        id: id(&rows),
        rows,
        sessions: drift.sessions,
        selected: drift.selected,
        complete: drift.complete,
        edits,
        void: prediction.void,
        reset: drift.reset,
        remark,
        refused: None,
    };
    plan.refused = guard(&plan, input.policy, input.limits);
    plan
}

struct Prediction<'a> {
    ledger: &'a Ledger,
    selection: &'a Selection,
    /// Whether a row's edit and its restart are one request.
    is_per_row: bool,
    /// Whether changes are followed by restarts.
    restarts: bool,
    void: BTreeMap<String, Void>,
}

impl Prediction<'_> {
    /// The row as it is planned; `None` where the chat is in sync.
    fn row(&mut self, mut row: Row, finding: Finding) -> Option<Row> {
        let Finding { standing, void } = finding;
        if let Some(why) = void {
            self.void(&mut row, why);
        }
        if row.is_idle() && !matches!(standing, Standing::Deferred(_)) {
            return None;
        }
        if standing == Standing::AllDown {
            (row.restart, row.stale) = (false, false);
        }
        row.standing = standing.clone();
        if matches!(row.outcome.verdict, Verdict::Unmanaged | Verdict::Refused | Verdict::Held) {
            return Some(row);
        }
        if self.is_per_row && self.restarts {
            row.restart = row.edit || row.owed.is_some();
        }
        match standing {
            Standing::InSync => return None,
            Standing::Deferred(why) => self.defer(&mut row, why),
            Standing::Busy if row.is_planned() => row.outcome.detail = Some("busy: waited for".to_owned()),
            Standing::NotRunning if row.is_planned() && row.restart => {
                row.restart = false;
                row.outcome.detail = Some("not running: it starts on its model".to_owned());
            }
            Standing::Ready | Standing::Live | Standing::Busy | Standing::NotRunning | Standing::AllDown => {}
        }
        Some(row)
    }

    fn defer(&mut self, row: &mut Row, why: String) {
        row.outcome = Outcome::because(Verdict::Deferred, why);
        let chat = row.chat.id.as_ref();
        // A change that is put off does not bring the registry back to what the session runs.
        if self.void.get(chat) == Some(&Void::Back) {
            self.void.remove(chat);
            if let Some(debt) = self.ledger.owed.get(chat) {
                row.keep_debt(debt);
            }
        }
    }

    /// Drops what the row owes, and with it the wait for its next try.
    fn void(&mut self, row: &mut Row, why: Void) {
        if row.owed.take().is_none() {
            return;
        }
        self.void.insert(row.chat.id.clone().into_owned(), why);
        row.effects.owes = false;
        if row.outcome.verdict == Verdict::Deferred {
            row.outcome = Outcome::plain(Verdict::Planned);
        }
    }

    /// Marks a row whose model no session is known to work on: it is tried on one such row first. Where it was tried, and
    /// that session is unhealthy, the others are put off.
    fn try_first(&self, row: &mut Row, canaries: &BTreeMap<Model, Canary>) {
        let Some((model, canary)) = row.after.as_ref().and_then(|model| canaries.get_key_value(model)) else { return };
        match &canary.unhealthy {
            Some(chat) if *chat != row.chat.id && !self.selection.retries(&row.chat.id) => {
                let why = format!("the session of {chat} is not healthy on {model}, and no other runs on it");
                row.outcome = Outcome::because(Verdict::Deferred, why);
            }
            _ => row.canary = true,
        }
    }
}
