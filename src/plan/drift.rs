//! Policy against registry: what differs, before the backend is asked what the sessions are doing.

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

/// What a backend reads: the registry and the ledger, together.
#[derive(Debug)]
pub struct Reading {
    /// The registry.
    pub snapshot: Box<dyn Snapshot>,
    /// The ledger.
    pub ledger: Ledger,
    /// Chats that get a row even where nothing differs, because the backend may have something to say of them.
    pub doubtful: BTreeSet<String>,
    /// A model that something other than a person may have written into entries: an override of the registry's owner. An entry
    /// that has it was not set by hand.
    pub imposed: Option<Model>,
}

/// What differs between policy and registry.
#[derive(Debug, Default)]
pub struct Drift {
    /// Sorted by chat id.
    pub rows: Vec<Row>,
    /// Restarts that were owed and are void, by chat id, and why.
    pub void: BTreeMap<String, Void>,
    pub(super) sessions: usize,
    pub(super) selected: usize,
    pub(super) complete: bool,
    pub(super) reset: Vec<String>,
    pub(super) selection: Selection,
    /// What is to be remembered of what chats were given.
    pub(super) found: Found,
    /// Where the next chat probably is among what chats were last given.
    hint: Hint,
    /// Chats that keep their model because no run has looked at them before.
    pub(super) unseen: usize,
    pub(super) unshared: Vec<Unshared>,
    pub(super) withdrawals: Vec<Withdrawal>,
    /// Chats in the registry of which the ledger remembers a debt, or a start that failed.
    remembered: BTreeSet<String>,
    /// A chat of which its registry and this program do not agree whether it has the model that was decided.
    disputed: Option<String>,
}

/// Compares every selected entry with its decision, and the ledger with the entries.
///
/// # Errors
/// What is wrong with the registry, or with the selector.
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
    /// Does what can be done only when all rows are there.
    pub(super) fn close(&mut self, input: &PlanInput, snapshot: &dyn Snapshot) -> Result<()> {
        self.rows.sort_by(|a, b| a.chat.id.cmp(&b.chat.id));
        if input.capabilities.uses_slugs() { self.refuse_shared_slugs(snapshot) } else { Ok(()) }
    }

    /// Adds what another part of the registry has.
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

    /// Refuses rows to be restarted whose slug could mean another session as well. A slug reaches every command, in
    /// its environment if not in an argument.
    fn refuse_shared_slugs(&mut self, snapshot: &dyn Snapshot) -> Result<()> {
        let slugs: BTreeSet<String> = self.restarted().filter_map(|row| row.chat.slug()).collect();
        let sought: BTreeSet<&str> = slugs.iter().map(String::as_str).filter(|slug| !slug.is_empty()).collect();
        if sought.is_empty() {
            return Ok(());
        }
        // Two chats of a slug are enough: whichever of them a row is, the other is not.
        let mut sharing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        snapshot.find(&[Key::Slug], &sought, &mut |Entry { chat, .. }| {
            let chats = sharing.entry(chat.slug().unwrap_or_default()).or_default();
            if chats.len() < 2 {
                chats.push(chat.id.into_owned());
            }
        })?;
        for row in self.rows.iter_mut().filter(|row| row.restart && row.is_planned()) {
            let slug = row.chat.slug().unwrap_or_default();
            let other = sharing.get(&slug).and_then(|chats| chats.iter().find(|chat| **chat != row.chat.id));
            if slug == "all" {
                let why = "its session's slug is `all`, which supervisors read as every session";
                row.outcome = Outcome::because(Verdict::Refused, why);
            } else if let Some(other) = other {
                row.outcome = Outcome::because(Verdict::Refused, format!("the session of {other} has the same slug"));
            }
        }
        Ok(())
    }

    fn restarted(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.restart && row.is_planned())
    }
}

/// What is found of a policy's names and models while entries are compared.
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

/// What entries are compared with.
pub(super) struct Comparison<'a> {
    pub(super) input: &'a PlanInput<'a>,
    pub(super) ledger: &'a Ledger,
    pub(super) doubtful: &'a BTreeSet<String>,
    pub(super) imposed: Option<&'a Model>,
    pub(super) selection: &'a Selection,
}

/// What a session runs and should run, as far as that is known before it is asked.
struct Models<'a> {
    before: Option<&'a str>,
    after: &'a Model,
    /// What it runs for certain.
    runs: Option<&'a str>,
}

impl Models<'_> {
    fn edit(&self) -> bool {
        self.before != Some(self.after.as_str())
    }

    /// Whether the session runs something else than it should, or may do so.
    fn stale(&self) -> bool {
        self.runs != Some(self.after.as_str())
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
        // All but new chats are remembered mostly, so that little is copied.
        let news = origin.filter(|origin| *origin != Origin::Applied);
        let news =
            news.and_then(|origin| Some((origin, entry.chat.id.to_string(), entry.model.as_deref()?.to_owned())));
        let row = self.row(drift, entry, decision);
        let is_unmanaged = row.as_ref().is_some_and(|row| row.outcome.verdict == Verdict::Unmanaged);
        let is_as_decided = row.as_ref().is_none_or(|row| !row.edit) && !is_unmanaged;
        match news {
            Some((_, chat, model)) if is_as_decided => drift.found.applied(&chat, &model),
            Some((Origin::Unseen, chat, _)) if is_unmanaged => drift.found.by_hand(&chat),
            _ => {}
        }
        drift.rows.extend(row);
    }

    /// Whether its registry was asked, and answers otherwise than this decision.
    fn is_disputed(&self, entry: &Entry, decision: &Decision) -> bool {
        let says = entry.model.as_deref().map(|model| self.input.policy.canonical(model));
        let is_as_decided = decision.model.is_some() && decision.model.map(Model::as_str) == says;
        entry.differs.is_some_and(|differs| differs == is_as_decided)
    }

    /// The decision on an entry, and where its model comes from where that makes a difference.
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

    /// Where the model of an entry comes from; `None` where that makes no difference.
    fn origin(&self, entry: &Entry, hint: &mut Hint) -> Option<Origin> {
        let origin = self.ledger.origin(self.input.policy, entry, hint)?;
        let is_imposed = self.imposed.is_some_and(|imposed| entry.model.as_deref() == Some(imposed.as_str()));
        let is_taken_over = origin.is_by_hand() && self.selection.takes_over(entry.chat.id.as_ref());
        Some(if is_taken_over || (is_imposed && origin.is_by_hand()) { Origin::Open } else { origin })
    }

    /// The row of an entry; `None` where it is as decided. What follows for the ledger is added to the drift.
    pub(super) fn row(&self, drift: &mut Drift, entry: Entry, decision: Decision) -> Option<Row> {
        let (policy, capabilities) = (self.input.policy, self.input.capabilities);
        let chat = entry.chat.id.as_ref();
        let debt = self.ledger.owed.get(chat);
        let correction = self.ledger.corrected.get(chat);
        let failed = self.ledger.failed.get(chat);
        let remembered = correction.map(|made| &made.model).into_iter().chain(failed.map(|failed| &failed.model));
        let is_another = |model| decision.model != Some(model);
        let is_remembered = correction.is_some() || failed.is_some();
        if remembered.into_iter().any(is_another) || (is_remembered && self.selection.retries(chat)) {
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
        let models = Models { before, after, runs };
        // What a session ran that owes a restart is what it runs only where nothing has started it since.
        let (edit, stale) = (models.edit(), models.stale() || debt.is_some());
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

    /// Why nothing is done for a row, if so.
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

    /// That the row's restart failed before and waits for its next try, if so. An edit does not wait for that, unless one
    /// request makes both.
    fn waits(&self, row: &Row, owed: Option<&Debt>) -> Option<Outcome> {
        let debt = owed.filter(|debt| debt.waits(self.input.now.timestamp()))?;
        if (row.edit && !self.input.capabilities.edits_by_restart()) || self.selection.retries(&row.chat.id) {
            return None;
        }
        let why = Outcome::because(Verdict::Deferred, "the restart failed before and waits for its next try");
        Some(Outcome { next_try: debt.next_try, ..why })
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
