//! What a run would do about the drift, given what the sessions are doing.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::drift::BACK;
use crate::plan::ledger::Ledger;
use crate::plan::select::Selection;
use crate::plan::{Drift, Goal, Observed, Outcome, Plan, Presence, Row, Verdict, Writer, guard, id};
use crate::registry::{Snapshot, Stamp, scan};

/// The plan: what differs, with what the sessions are doing taken into account, and whether it may be done.
pub fn predict(goal: &Goal, snapshot: &Snapshot, ledger: &Ledger, drift: Drift, observed: &Observed) -> Plan {
    let mut prediction =
        Prediction { ledger, observed, stamp: snapshot.stamp, cancelled: drift.cancelled, outdated: drift.outdated };
    let rows = drift.rows.into_iter();
    let mut rows: Vec<Row> = match observed.writer {
        Writer::Us => rows.filter_map(|row| prediction.ours(row)).collect(),
        Writer::UsMeanwhile => rows.filter_map(|row| prediction.meanwhile(row)).collect(),
        Writer::Daemon => rows.filter_map(|row| prediction.daemons(row)).collect(),
    };
    if observed.writer == Writer::Daemon {
        prediction.find_unproven(goal, snapshot, &drift.selection, &mut rows);
    }
    let Prediction { cancelled, outdated, .. } = prediction;
    let mut plan = Plan {
        id: id(&rows),
        rows,
        sessions: drift.sessions,
        selected: drift.selected,
        complete: drift.complete,
        writer: observed.writer,
        cancelled,
        forgiven: drift.forgiven,
        outdated,
        refused: None,
    };
    plan.refused = guard(&plan, goal);
    plan
}

struct Prediction<'a> {
    ledger: &'a Ledger,
    observed: &'a Observed,
    stamp: Stamp,
    cancelled: BTreeMap<String, &'static str>,
    outdated: Vec<String>,
}

impl Prediction<'_> {
    /// Where nobody else owns the registry. `None`: the chat is in sync.
    fn ours(&self, mut row: Row) -> Option<Row> {
        if is_idle(&row) {
            return None;
        }
        row.presence =
            self.observed.sessions.get(row.chat.id.as_ref()).map(|session| session.presence).unwrap_or_default();
        if row.restart && row.is_planned() && row.presence == Presence::Stopped {
            row.restart = false;
            row.outcome.detail = Some("not running: it starts on its model".to_owned());
        }
        Some(row)
    }

    /// Where the daemon is down: an edit is enough, because sessions read the registry when it starts.
    fn meanwhile(&mut self, mut row: Row) -> Option<Row> {
        self.pay(&mut row, "the daemon is down, and sessions read the registry when it starts");
        (row.restart, row.stale) = (false, false);
        if is_idle(&row) { None } else { Some(row) }
    }

    /// Where the daemon writes, and only live sessions can be changed.
    fn daemons(&mut self, mut row: Row) -> Option<Row> {
        let chat = row.chat.id.clone();
        let session = self.observed.sessions.get(chat.as_ref());
        row.presence = session.map_or(Presence::Stopped, |session| session.presence);
        let run = session.and_then(|session| session.run.as_ref());
        let asked_of = row.owed.as_ref().and_then(|debt| debt.session.as_ref());
        if session.is_none() {
            self.pay(&mut row, "its session is no longer live");
        } else if asked_of.is_some() && asked_of != run {
            self.pay(&mut row, "its session was started anew since");
        }

        let unconfirmed = self.ledger.is_unconfirmed(&chat, self.stamp);
        if is_idle(&row) && !unconfirmed {
            return None;
        }
        if matches!(row.outcome.verdict, Verdict::Unmanaged | Verdict::Refused | Verdict::Held) {
            return Some(row);
        }
        if row.edit && row.owed.is_none() {
            let unsaved = self.ledger.unsaved.get(chat.as_ref());
            let only_unsaved =
                unsaved.is_some_and(|made| row.after.as_ref() == Some(&made.model) && run == Some(&made.session));
            let runs_it_anyway = row.before.is_none() && row.runs == row.after;
            if only_unsaved || (runs_it_anyway && !unconfirmed) {
                return None;
            }
            if unsaved.is_some() {
                self.outdated.push(chat.into_owned());
            }
        }
        row.restart = row.edit || row.owed.is_some();
        let deferred = match row.presence {
            _ if unconfirmed => Some("not yet confirmed by the daemon"),
            _ if self.observed.hold.is_some() => self.observed.hold.as_deref(),
            Presence::Stopped => Some("not live: it wakes on its old model, and is corrected when a run meets it live"),
            Presence::Young => Some("young: a restart before its first turn has ended would lose the conversation"),
            Presence::Unknown | Presence::Running | Presence::Busy => None,
        };
        if let Some(why) = deferred {
            row.outcome = Outcome::because(Verdict::Deferred, why);
            // What is put off does not bring the registry back.
            if self.cancelled.get(row.chat.id.as_ref()) == Some(&BACK) {
                self.cancelled.remove(row.chat.id.as_ref());
                self.ledger.owed.get(row.chat.id.as_ref()).into_iter().for_each(|debt| row.keep_debt(debt));
            }
        } else if row.is_planned() && row.presence == Presence::Busy {
            row.outcome.detail = Some("busy: waited for".to_owned());
        }
        Some(row)
    }

    /// Marks the rows whose model no healthy session is known to run on: it is tried on one of them first. Where it was
    /// tried, and that session is ill, the others are put off.
    fn find_unproven(&self, goal: &Goal, snapshot: &Snapshot, selection: &Selection, rows: &mut [Row]) {
        let policy = goal.policy;
        let mut proven: BTreeSet<String> = BTreeSet::new();
        let mut ill: BTreeMap<String, String> = BTreeMap::new();
        // It was scanned for the drift, so it is well-formed.
        let _ = scan(snapshot, |entry| {
            let chat = entry.chat.id.as_ref();
            let Some(session) = self.observed.sessions.get(chat) else { return };
            // What a session runs that owes a restart is not what the registry says.
            let owes = self.ledger.owed.contains_key(chat) && !self.cancelled.contains_key(chat);
            if owes || policy.sessions.leaves_alone(&entry.chat).is_some() {
                return;
            }
            let model = entry.model.as_deref().map(|model| policy.canonical(model));
            let Some(runs) = model.or(policy.sessions.unset_runs(&entry.chat)) else { return };
            if session.healthy {
                proven.insert(runs.to_owned());
            } else {
                ill.insert(runs.to_owned(), chat.to_owned());
            }
        });
        for row in rows.iter_mut().filter(|row| row.is_planned() && row.restart) {
            let Some(model) = row.after.as_ref().filter(|model| !proven.contains(model.as_str())) else { continue };
            match ill.get(model.as_str()) {
                Some(chat) if *chat != row.chat.id && !selection.retries(&row.chat.id) => {
                    let why = format!("the session of {chat} is not healthy on {model}, and no other runs on it");
                    row.outcome = Outcome::because(Verdict::Deferred, why);
                }
                _ => row.unproven = true,
            }
        }
    }

    /// Drops what the row owes.
    fn pay(&mut self, row: &mut Row, why: &'static str) {
        if row.owed.take().is_none() {
            return;
        }
        self.cancelled.insert(row.chat.id.clone().into_owned(), why);
        row.effects.owes = false;
        if row.outcome.verdict == Verdict::Deferred {
            row.outcome = Outcome::plain(Verdict::Planned);
        }
    }
}

/// Whether there is nothing to do for a row, and nothing to say.
fn is_idle(row: &Row) -> bool {
    !row.edit && row.owed.is_none() && row.outcome.verdict != Verdict::Unmanaged
}
