//! Compares the registry with the policy, before the backend is asked what the sessions are doing.

use std::collections::{BTreeMap, BTreeSet};

use crate::chat::Model;
use crate::error::Result;
use crate::names::{Names, Unshared};
use crate::plan::capabilities::TakesEffect;
use crate::plan::input::PlanInput;
use crate::plan::last_applied::{Found, Hint, Origin};
use crate::plan::ledger::{Correction, Debt, Ledger};
use crate::plan::observed::{Standing, Void};
use crate::plan::problem::PlanProblem;
use crate::plan::row::{Effects, Outcome, Row};
use crate::plan::select::Selection;
use crate::plan::verdict::Verdict;
use crate::registry::{Entry, Key, Make, Snapshot, collect};
use crate::resolve::{Current, Decision, resolve};
use crate::withdrawn::{Withdrawal, Withdrawals};

/// The registry and the ledger, read together.
#[derive(Debug)]
pub struct Reading {
    /// The registry.
    pub snapshot: Box<dyn Snapshot>,
    /// The ledger.
    pub ledger: Ledger,
    /// Chats that get a row even where nothing differs, because the backend may have a finding about them.
    pub doubtful: BTreeSet<String>,
    /// The model of an override of the registry's owner, which may have been written into entries. An entry with this
    /// model does not count as set by hand.
    pub imposed: Option<Model>,
}

/// The differences between policy and registry. The fields have the meaning of those of a [`Plan`](crate::plan::Plan).
#[derive(Debug, Default)]
pub struct Drift {
    /// The chats that differ, owe a restart, or are deliberately left alone, sorted by chat id.
    pub rows: Vec<Row>,
    /// Restarts that were owed and are void, by chat id, and why.
    pub void: BTreeMap<String, Void>,
    pub(super) sessions: usize,
    pub(super) selected: usize,
    pub(super) complete: bool,
    pub(super) reset: Vec<String>,
    pub(super) selection: Selection,
    pub(super) found: Found,
    pub(super) unseen: usize,
    pub(super) unshared: Vec<Unshared>,
    pub(super) withdrawals: Vec<Withdrawal>,
    /// The index at which the next chat probably is in [`Ledger::last_applied`].
    hint: Hint,
    /// Registered chats that owe a restart, or whose last start failed, according to the ledger.
    remembered: BTreeSet<String>,
    /// A chat about which its registry and this program disagree: whether it has the model that is decided.
    disputed: Option<String>,
}

/// Compares every selected entry with the decision on its chat, and the ledger with the entries.
///
/// # Errors
/// Where the registry cannot be read, or the selector names a chat or a tier that does not exist.
pub fn drift(input: &PlanInput, reading: &Reading) -> Result<Drift> {
    let snapshot = reading.snapshot.as_ref();
    let selection = input.selector.resolve(input.policy, snapshot)?;
    let failed = input.selector.retry_failed.then(|| reading.ledger.failed_chats(input.now.timestamp()));
    let selection = selection.retrying(failed.into_iter().flatten().cloned());
    let comparison = Comparison {
        input,
        ledger: &reading.ledger,
        doubtful: &reading.doubtful,
        imposed: reading.imposed.as_ref(),
        selection: &selection,
    };
    let none = || (Drift::default(), Beside::of(input));
    let read = |make: Make<'_>| match selection.only_chats() {
        Some(chats) => snapshot.of_chats(chats, make),
        None => snapshot.in_question(make),
    };
    let (counts, parts) = collect(read, none, |(drift, beside), entry| comparison.take(drift, beside, entry))?;
    let parts = parts.into_iter().reduce(|(drift, beside), (more, others)| (drift.and(more), beside.and(others)));
    let (mut drift, Beside { names, withdrawals }) = parts.unwrap_or_else(none);
    if let Some(chat) = drift.disputed {
        return Err(PlanProblem::Disputed { registry: snapshot.name().into(), chat: chat.into() }.into());
    }
    drift.sessions = counts.sessions;
    drift.selected = counts.selected.unwrap_or(drift.selected);
    drift.complete = selection.is_complete();
    if drift.complete {
        drift.unshared = names.unshared(input.now);
        drift.withdrawals = withdrawals.all(counts.sessions);
        let is_gone = |chat: &&String| !drift.remembered.contains(*chat);
        let unowed: Vec<String> = reading.ledger.owed.keys().filter(is_gone).cloned().collect();
        let unfailed: Vec<String> = reading.ledger.failed.keys().filter(is_gone).cloned().collect();
        drift.void.extend(unowed.into_iter().map(|chat| (chat, Void::Gone)));
        drift.reset.extend(unfailed);
    }
    drift.selection = selection;
    drift.close(input, snapshot)?;
    Ok(drift)
}

impl Drift {
    /// Sorts the rows, and refuses those that can only be judged when all rows are known.
    pub(super) fn close(&mut self, input: &PlanInput, snapshot: &dyn Snapshot) -> Result<()> {
        self.rows.sort_by(|a, b| a.chat.id.cmp(&b.chat.id));
        if input.capabilities.names_slugs() { self.refuse_shared_slugs(snapshot) } else { Ok(()) }
    }

    /// Adds the differences in another part of the registry.
    fn and(mut self, other: Self) -> Self {
        self.rows.extend(other.rows);
        self.selected += other.selected;
        self.void.extend(other.void);
        self.reset.extend(other.reset);
        self.remembered.extend(other.remembered);
        self.found = self.found.and(other.found);
        self.unseen += other.unseen;
        self.disputed = self.disputed.or(other.disputed);
        self
    }

    /// Refuses to restart sessions whose slug is also that of another session: a command could restart the wrong one.
    fn refuse_shared_slugs(&mut self, snapshot: &dyn Snapshot) -> Result<()> {
        let slugs: BTreeSet<String> = self.restarted().filter_map(|row| row.chat.slug()).collect();
        let sought: BTreeSet<&str> = slugs.iter().map(String::as_str).filter(|slug| !slug.is_empty()).collect();
        if sought.is_empty() {
            return Ok(());
        }
        // Two chats of a slug are enough: at least one of them is not the row's.
        let mut sharing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        snapshot.find(&[Key::Slug], &sought, &mut |Entry { chat, .. }| {
            let chats = sharing.entry(chat.slug().unwrap_or_default()).or_default();
            if chats.len() < 2 {
                chats.push(chat.id.into_owned());
            }
        })?;
        for row in self.rows.iter_mut().filter(|row| row.restart && row.is_planned()) {
            let slug = row.chat.slug().unwrap_or_default();
            let chats = sharing.get(&slug).map(Vec::as_slice).unwrap_or_default();
            if let Some(other) = chats.iter().find(|chat| **chat != row.chat.id) {
                row.outcome = Outcome::because(Verdict::Refused, format!("the session of {other} has the same slug"));
            }
        }
        Ok(())
    }

    fn restarted(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.restart && row.is_planned())
    }
}

/// What the same pass over the registry finds about a policy's names and models.
struct Beside<'p> {
    names: Names<'p>,
    withdrawals: Withdrawals<'p>,
}

impl<'p> Beside<'p> {
    fn of(input: &PlanInput<'p>) -> Self {
        Self { names: Names::of(input.policy), withdrawals: Withdrawals::of(input.policy, input.now) }
    }

    fn and(self, other: Self) -> Self {
        Self { names: self.names.and(other.names), withdrawals: self.withdrawals.and(other.withdrawals) }
    }
}

/// Compares entries with the policy and the ledger.
pub(super) struct Comparison<'a> {
    pub(super) input: &'a PlanInput<'a>,
    pub(super) ledger: &'a Ledger,
    pub(super) doubtful: &'a BTreeSet<String>,
    pub(super) imposed: Option<&'a Model>,
    pub(super) selection: &'a Selection,
}

/// What is to be remembered of an entry that was not remembered as it is: a new chat, mostly.
struct News {
    origin: Origin,
    chat: String,
    model: String,
}

impl News {
    /// `None` where the entry has no model, or its model is what the memory says, so that mostly nothing is copied.
    fn of(entry: &Entry, origin: Option<Origin>) -> Option<Self> {
        let origin = origin.filter(|origin| *origin != Origin::Applied)?;
        Some(Self { origin, chat: entry.chat.id.to_string(), model: entry.model.as_deref()?.to_owned() })
    }
}

impl<'a> Comparison<'a> {
    fn take(&self, drift: &mut Drift, beside: &mut Beside<'a>, entry: Entry) {
        let entry = Entry { chat: self.input.policy.with_tier(entry.chat), ..entry };
        let chat = entry.chat.id.as_ref();
        if self.ledger.owed.contains_key(chat) || self.ledger.failed.contains_key(chat) {
            drift.remembered.insert(chat.to_owned());
        }
        if self.selection.contains(&entry.chat) {
            drift.selected += 1;
            self.compare(drift, beside, entry);
        }
    }

    fn compare(&self, drift: &mut Drift, beside: &mut Beside<'a>, entry: Entry) {
        let (decision, origin) = self.decide(&entry, &mut drift.hint);
        if self.is_disputed(&entry, &decision) {
            drift.disputed = Some(entry.chat.id.to_string());
        }
        beside.names.take(&entry.chat, decision.because);
        let managed = decision.model.filter(|_| self.input.capabilities.unmanaged(&entry.chat).is_none());
        beside.withdrawals.take(&entry.chat, entry.model.as_deref(), managed);
        let is_kept = self.keeps(&decision);
        drift.unseen += usize::from(is_kept && origin == Some(Origin::Unseen));
        let news = News::of(&entry, origin);
        let row = self.row(drift, entry, decision);
        let is_unmanaged = row.as_ref().is_some_and(|row| row.outcome.verdict == Verdict::Unmanaged);
        let is_as_decided = row.as_ref().is_none_or(|row| !row.edit) && !is_unmanaged;
        match news {
            Some(News { chat, model, .. }) if is_as_decided => drift.found.applied(&chat, &model),
            Some(News { origin: Origin::Unseen, chat, .. }) if is_unmanaged => drift.found.by_hand(&chat),
            _ => {}
        }
        drift.rows.extend(row);
    }

    /// Whether the registry was asked if this entry differs from the policy, and gave another answer than this decision.
    fn is_disputed(&self, entry: &Entry, decision: &Decision) -> bool {
        let says = entry.model.as_deref().map(|model| self.input.policy.canonical(model));
        let is_as_decided = decision.model.is_some() && decision.model.map(Model::as_str) == says;
        entry.differs.is_some_and(|differs| differs == is_as_decided)
    }

    /// The decision on an entry, and the origin of its model where the decision depends on that.
    pub(super) fn decide(&self, entry: &Entry, hint: &mut Hint) -> (Decision<'a>, Option<Origin>) {
        let origin = self.origin(entry, hint);
        let by_hand = origin.is_some_and(Origin::is_by_hand);
        let current = Current { model: entry.model.as_deref(), by_hand };
        (resolve(self.input.policy, &entry.chat, current, self.input.now), origin)
    }

    /// Whether a chat is left alone because its model was set by hand.
    pub(super) fn keeps(&self, decision: &Decision) -> bool {
        decision.model.is_none() && Some(decision.because) == self.input.policy.existing.because()
    }

    /// The origin of an entry's model; `None` where the decision does not depend on it.
    fn origin(&self, entry: &Entry, hint: &mut Hint) -> Option<Origin> {
        let origin = self.ledger.origin(self.input.policy, entry, hint)?;
        let is_imposed = self.imposed.is_some_and(|imposed| entry.model.as_deref() == Some(imposed.as_str()));
        let is_taken_over = origin.is_by_hand() && self.selection.takes_over(entry.chat.id.as_ref());
        Some(if is_taken_over || (is_imposed && origin.is_by_hand()) { Origin::Open } else { origin })
    }

    /// The row of an entry; `None` where the entry is as decided. Debts that are void and counters that are reset are
    /// added to the drift.
    pub(super) fn row(&self, drift: &mut Drift, entry: Entry, decision: Decision) -> Option<Row> {
        let (policy, capabilities) = (self.input.policy, self.input.capabilities);
        let chat = entry.chat.id.as_ref();
        let debt = self.ledger.owed.get(chat);
        let correction = self.ledger.corrected.get(chat);
        let failed = self.ledger.failed.get(chat);
        if self.is_reset(chat, &decision) {
            drift.reset.push(chat.to_owned());
        }
        let unmanaged = capabilities.unmanaged(&entry.chat);
        let Some(after) = decision.model.filter(|_| unmanaged.is_none()) else {
            if debt.is_some() {
                drift.void.insert(chat.to_owned(), Void::Unmanaged);
            }
            let why = decision.reason.or(unmanaged).unwrap_or("the policy says managed = false");
            return Some(Row { outcome: Outcome::because(Verdict::Unmanaged, why), ..plain(entry, decision) });
        };
        let before = entry.model.as_deref().map(|model| policy.canonical(model));
        let did_not_come_up = failed.is_some_and(|failed| before == Some(failed.model.as_str()));
        let runs = match debt {
            Some(debt) => debt.runs().map(Model::as_str),
            None if did_not_come_up => None,
            None => before.or(capabilities.unset_runs(&entry.chat)),
        };
        let edit = before != Some(after.as_str());
        // A session that owes a restart may have been started since on another model than it ran.
        let stale = debt.is_some() || runs != Some(after.as_str());
        if !edit && !stale && !self.doubtful.contains(chat) {
            return None;
        }
        let restarts = capabilities.takes_effect() == TakesEffect::OnRestart;
        let correction = correction.filter(|made| edit && made.model == *after);
        let now = self.input.now.timestamp();
        let mut row = Row {
            edit,
            restart: stale && restarts,
            stale: stale && restarts,
            runs: runs.and_then(Model::new),
            did_not_come_up,
            effects: Effects { owes: debt.is_some(), ..Effects::default() },
            changed_back: correction.map_or_else(Vec::new, |made| made.changed_back_by(now)),
            owed: debt.cloned(),
            after: Some(after.clone()),
            ..plain(entry, decision)
        };
        if let Some(outcome) = self.stops(&row, after, debt, correction) {
            row.outcome = outcome;
        }
        Some(row)
    }

    /// Whether corrections and failed starts of a chat no longer count: they are about another model than the decision,
    /// or the user asks for another try.
    fn is_reset(&self, chat: &str, decision: &Decision) -> bool {
        let corrected = self.ledger.corrected.get(chat).map(|correction| &correction.model);
        let failed = self.ledger.failed.get(chat).map(|failed| &failed.model);
        let mut remembered = [corrected, failed].into_iter().flatten();
        remembered.any(|model| decision.model != Some(model) || self.selection.retries(chat))
    }

    /// Why nothing is done for a row; `None` where something is.
    fn stops(&self, row: &Row, after: &Model, owed: Option<&Debt>, correction: Option<&Correction>) -> Option<Outcome> {
        let capabilities = self.input.capabilities;
        if (row.edit || owed.is_some())
            && let Some(why) = capabilities.refuses_model(after)
        {
            return Some(Outcome::because(Verdict::Refused, why));
        }
        if row.restart
            && let Some(why) = capabilities.refuses_restart(&row.chat, after)
        {
            return Some(Outcome::because(Verdict::Refused, why));
        }
        let now = self.input.now.timestamp();
        if correction.is_some_and(|made| made.holds(now)) && !self.selection.retries(&row.chat.id) {
            return Some(Outcome::because(Verdict::Held, "something keeps changing it back"));
        }
        if !row.edit && owed.is_some() && capabilities.takes_effect() == TakesEffect::OnNextStart {
            return Some(Outcome::because(Verdict::Deferred, "the policy has no restart command"));
        }
        self.waits(row, owed)
    }

    /// The outcome of a row whose restart failed before and waits for its next try; `None` where it does not wait. A
    /// row with an edit does not wait, unless edit and restart are one request.
    fn waits(&self, row: &Row, owed: Option<&Debt>) -> Option<Outcome> {
        let debt = owed.filter(|debt| debt.waits(self.input.now.timestamp()))?;
        if (row.edit && !self.input.capabilities.edits_by_restart()) || self.selection.retries(&row.chat.id) {
            return None;
        }
        let why = Outcome::because(Verdict::Deferred, "the restart failed before and waits for its next try");
        Some(Outcome { next_try: debt.next_try, ..why })
    }
}

/// A row for which nothing needs to be done.
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
        did_not_come_up: false,
        owed: None,
        canary: false,
        imposed: false,
        changed_back: Vec::new(),
        standing: Standing::default(),
        remark: None,
        outcome: Outcome::plain(Verdict::Planned),
        effects: Effects::default(),
        at: entry.at,
    }
}
