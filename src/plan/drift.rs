//! Policy against registry: what differs, before anybody is asked what the sessions are doing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Zoned;

use crate::chat::Model;
use crate::error::{Error, Result};
use crate::plan::ledger::Ledger;
use crate::plan::select::{Request, Selection};
use crate::plan::{Effects, Expected, Outcome, Presence, Row, Verdict};
use crate::policy::Policy;
use crate::registry::{Entry, Snapshot, Stamp, scan, scan_into};
use crate::resolve::{Decision, resolve};

/// Why a debt is void whose session runs what the registry says, or will say after this run.
pub(super) const BACK: &str = "the registry is back at the model that the session runs";

/// What a run is for.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// What is desired.
    pub policy: &'a Policy,
    /// The time of the run, in the host's time zone.
    pub now: &'a Zoned,
    /// Which chats it is about.
    pub request: &'a Request,
    /// The limit that the user consents to.
    pub allow_changes: Option<usize>,
    /// The plan that the user consents to.
    pub expected: Option<&'a Expected>,
}

/// What differs between policy and registry.
#[derive(Debug, Default)]
pub struct Drift {
    /// Sorted by chat id.
    pub rows: Vec<Row>,
    pub(super) sessions: usize,
    pub(super) selected: usize,
    pub(super) complete: bool,
    pub(super) cancelled: BTreeMap<String, &'static str>,
    pub(super) forgiven: Vec<String>,
    pub(super) outdated: Vec<String>,
    pub(super) selection: Selection,
    /// Chats in the registry that owe something.
    owing: BTreeSet<String>,
    stamp: Stamp,
}

/// Compares every selected entry with its decision, and the ledger with the entries.
///
/// # Errors
/// What is wrong with the registry, or with the request for chats.
pub fn drift(goal: &Goal, snapshot: &Snapshot, ledger: &Ledger) -> Result<Drift> {
    let selection = goal.request.resolve(goal.policy, snapshot)?;
    let begin = || Drift { complete: selection.is_complete(), ..Drift::none(snapshot) };
    let (sessions, parts) = scan_into(snapshot, begin, |drift, entry| {
        if let Some((chat, _)) = ledger.owed.get_key_value(entry.chat.id.as_ref()) {
            drift.owing.insert(chat.clone());
        }
        if selection.contains(&entry.chat) {
            drift.selected += 1;
            let decision = resolve(goal.policy, &entry.chat, entry.model.as_deref(), goal.now);
            drift.add(goal, &selection, ledger, entry, decision);
        }
    })
    .map_err(Error::Invalid)?;
    let mut drift = parts.into_iter().fold(Drift { sessions, ..begin() }, Drift::and);
    if drift.complete {
        let gone = ledger.owed.keys().filter(|chat| !drift.owing.contains(*chat)).cloned();
        drift.cancelled.extend(gone.map(|chat| (chat, "its entry is gone")));
    }
    drift.selection = selection;
    drift.close(goal, snapshot)?;
    Ok(drift)
}

impl Drift {
    /// That nothing differs.
    pub(super) fn none(snapshot: &Snapshot) -> Self {
        Self { stamp: snapshot.stamp, ..Self::default() }
    }

    /// What can be said only when all rows are there.
    pub(super) fn close(&mut self, goal: &Goal, snapshot: &Snapshot) -> Result<()> {
        self.rows.sort_by(|a, b| a.chat.id.cmp(&b.chat.id));
        if goal.policy.sessions.runs_commands() { self.refuse_shared_slugs(snapshot) } else { Ok(()) }
    }

    /// The same, and what another part of the registry has.
    fn and(mut self, other: Self) -> Self {
        self.rows.extend(other.rows);
        self.selected += other.selected;
        self.cancelled.extend(other.cancelled);
        self.forgiven.extend(other.forgiven);
        self.outdated.extend(other.outdated);
        self.owing.extend(other.owing);
        self
    }

    /// Adds the row of an entry, where it differs from the decision on it.
    pub(super) fn add(
        &mut self,
        goal: &Goal,
        selection: &Selection,
        ledger: &Ledger,
        entry: Entry,
        decision: Decision,
    ) {
        let policy = goal.policy;
        let chat = entry.chat.id.as_ref();
        let debt = ledger.owed.get(chat);
        let correction = ledger.corrected.get(chat);
        if correction.is_some_and(|made| decision.model != Some(&made.model) || selection.retries(chat)) {
            self.forgiven.push(chat.to_owned());
        }
        let left_alone = policy.sessions.leaves_alone(&entry.chat);
        let Some(after) = decision.model.filter(|_| left_alone.is_none()) else {
            if debt.is_some() {
                self.cancelled.insert(chat.to_owned(), "the chat is no longer managed");
            }
            let why = decision.reason.or(left_alone).unwrap_or("the policy says managed = false");
            self.rows.push(Row { outcome: Outcome::because(Verdict::Unmanaged, why), ..plain(entry, decision) });
            return;
        };
        let before = entry.model.as_deref().map(|model| policy.canonical(model));
        let edit = before != Some(after.as_str());
        let unset = policy.sessions.unset_runs(&entry.chat);
        let runs = debt.map_or(before.or(unset), |debt| debt.runs().map(Model::as_str));
        let needed = runs != Some(after.as_str());
        // A debt that is not needed is void as soon as the registry says what the session runs.
        if debt.is_some() && !needed && !edit {
            self.cancelled.insert(chat.to_owned(), BACK);
        }
        let owed = debt.filter(|_| needed);
        if !edit && ledger.unsaved.contains_key(chat) {
            self.outdated.push(chat.to_owned());
        }
        if !edit && owed.is_none() && !ledger.is_unconfirmed(chat, self.stamp) {
            return;
        }
        let undone = correction.filter(|made| edit && made.model == *after);
        let mut row = Row {
            edit,
            restart: needed && policy.sessions.restarts(),
            stale: needed && policy.sessions.restarts(),
            runs: runs.and_then(Model::new),
            effects: Effects { owes: owed.is_some(), ..Effects::default() },
            undone: undone.map_or_else(Vec::new, |made| made.undone_by(goal.now.timestamp())),
            owed: owed.cloned(),
            after: Some(after.clone()),
            ..plain(entry, decision)
        };
        let retry = selection.retries(&row.chat.id);
        if let Some(why) = policy.sessions.cannot_carry(after).filter(|_| edit || owed.is_some()) {
            row.outcome = Outcome::because(Verdict::Refused, why);
        } else if row.restart
            && let Some(why) = policy.sessions.cannot_restart(&row.chat, after)
        {
            row.outcome = Outcome::because(Verdict::Refused, why);
        } else if undone.is_some_and(|made| made.holds(goal.now.timestamp())) && !retry {
            row.outcome = Outcome::because(Verdict::Held, "something undoes this change again and again");
        } else if !edit && owed.is_some() && !policy.sessions.restarts() {
            row.outcome = Outcome::because(Verdict::Deferred, "the policy has no restart command");
        } else if (!edit || !policy.sessions.runs_commands())
            && !retry
            && let Some(debt) = owed.filter(|debt| debt.waits(goal.now.timestamp()))
        {
            let why = Outcome::because(Verdict::Deferred, "the restart failed before and waits for its next try");
            row.outcome = Outcome { next_try: debt.next_try, ..why };
        }
        match debt.filter(|_| !needed) {
            Some(_) if row.is_planned() => {
                self.cancelled.insert(row.chat.id.clone().into_owned(), BACK);
            }
            Some(debt) => row.keep_debt(debt),
            None => {}
        }
        self.rows.push(row);
    }

    /// Refuses rows to be restarted whose slug could mean another session as well. A slug reaches every command, in
    /// its environment if not in an argument.
    fn refuse_shared_slugs(&mut self, snapshot: &Snapshot) -> Result<()> {
        let mut slugs: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, row) in self.rows.iter().enumerate().filter(|(_, row)| row.restart && row.is_planned()) {
            slugs.entry(row.chat.slug().unwrap_or_default()).or_default().push(index);
        }
        slugs.remove("");
        let mut refused: BTreeMap<usize, String> = BTreeMap::new();
        for index in slugs.remove("all").unwrap_or_default() {
            refused.insert(index, "its session's slug is `all`, which supervisors take for every session".to_owned());
        }
        if !slugs.is_empty() {
            scan(snapshot, |Entry { chat, .. }| {
                let Some(rows) = chat.slug().and_then(|slug| slugs.get(&slug)) else { return };
                for index in rows.iter().filter(|index| self.rows[**index].chat.id != chat.id) {
                    refused.entry(*index).or_insert_with(|| format!("the session of {} has the same slug", chat.id));
                }
            })
            .map_err(Error::Invalid)?;
        }
        for (index, why) in refused {
            self.rows[index].outcome = Outcome::because(Verdict::Refused, why);
        }
        Ok(())
    }
}

/// The row of an entry that nothing needs to be done for.
pub(super) fn plain(entry: Entry, decision: Decision) -> Row {
    Row {
        before: entry.model.as_deref().and_then(Model::new),
        chat: entry.chat.into_owned(),
        after: None,
        because: decision.because.clone(),
        edit: false,
        restart: false,
        stale: false,
        runs: None,
        owed: None,
        unproven: false,
        undone: Vec::new(),
        presence: Presence::Unknown,
        outcome: Outcome::plain(Verdict::Planned),
        effects: Effects::default(),
        site: entry.site,
    }
}
