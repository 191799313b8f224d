//! What must be remembered from one run to the next: restarts that are owed, corrections that may be changed back, and
//! which models work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chat::Model;
use crate::plan::backoff::{is_waiting, next_try};
use crate::plan::history_lines::Record;
use crate::plan::last_applied::{Found, Hint, LastApplied, Origin, Reach};
use crate::plan::trial::{Blame, FailedStart, Trial};
use crate::plan::untold::{Draft, DraftRow};
use crate::policy::Policy;
use crate::registry::{Entry, Mark};

pub use crate::plan::note::{Begin, Note, Then};

/// Corrections that were changed back within this time count.
const MEMORY: SignedDuration = SignedDuration::from_hours(24);
/// A row is held after this many corrections that were changed back.
const TOO_OFTEN: usize = 3;

/// The memory across runs that all backends have. A backend keeps what only it must remember in a file of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Restarts that a change which was already written may still need, by chat id.
    pub owed: BTreeMap<String, Debt>,
    /// Corrections that were confirmed, by chat id.
    pub corrected: BTreeMap<String, Correction>,
    /// Sessions that did not come up on a model, by chat id.
    pub failed: BTreeMap<String, FailedStart>,
    /// What is known of models.
    pub trials: BTreeMap<Model, Trial>,
    /// What commands have done that is not in the history yet, by the names of the commands there.
    pub unrecorded: BTreeMap<String, Draft>,
    /// Models that were written since [`Ledger::last_applied`] was saved, by chat id. Only with `existing = "keep-manual"`.
    pub wrote: BTreeMap<String, Wrote>,
    /// The model that each chat was last given. Only with `existing = "keep-manual"`.
    pub last_applied: Arc<LastApplied>,
}

/// A model that was written into an entry, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrote {
    /// The model.
    pub model: Model,
    /// The model that the entry had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Model>,
    /// Whether the entry was seen to have the model since. Until then it may still have the model of before, because
    /// the run may have died before it wrote.
    pub read_back: bool,
}

/// A restart that a session may still need, because it may not run what the registry says. A debt names no model: it is
/// paid by a restart on the model that the registry has at that time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debt {
    /// When the change was written.
    pub since: Timestamp,
    /// The model that the session ran before the change; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<Model>,
    /// Whether a restart was begun. After that, it is not known what the session runs until a restart succeeds.
    pub began: bool,
    /// How many restarts were tried and failed.
    pub attempts: u32,
    /// The time before which no restart is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// The run of the session that was to be restarted, where the backend can tell runs apart. The debt is paid when
    /// the session has another run.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "session")]
    pub run: Option<String>,
    /// The identity of the start on which the session ran `ran`, where it could be asked for. When the session has
    /// another identity, it is not known what it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

impl Debt {
    /// A new debt of a session that may run any model.
    fn since(now: Timestamp) -> Self {
        Self { since: now, ran: None, began: false, attempts: 0, next_try: None, run: None, identity: None }
    }

    /// A new debt whose restart was begun.
    pub fn begun(now: Timestamp) -> Self {
        Self { began: true, ..Self::since(now) }
    }

    /// The model that the session runs unless something has started it since; `None` where that is not known.
    pub fn runs(&self) -> Option<&Model> {
        self.ran.as_ref().filter(|_| !self.began)
    }

    /// Whether the session certainly runs what it ran when the debt was made, because its start has the identity that was noted
    /// then. Without that proof, a supervisor may have started it since on what the registry said.
    pub(crate) fn is_same_start(&self, identity: Option<&str>) -> bool {
        !self.began && identity.is_some() && self.identity.as_deref() == identity
    }

    /// Whether its next try is not due at `now`.
    pub fn waits(&self, now: Timestamp) -> bool {
        is_waiting(self.next_try, now)
    }

    /// Counts a restart that failed.
    pub(crate) fn fail(&mut self, now: Timestamp) {
        self.next_try = next_try(self.attempts, now);
        self.attempts = self.attempts.saturating_add(1);
    }
}

/// A change of a chat's model that was read back from the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// The model that it set. Once another model is decided, the correction no longer counts.
    pub model: Model,
    /// When it was last made.
    pub at: Timestamp,
    /// Whether it was read back, and not found changed back since.
    pub confirmed: bool,
    /// When it was found changed back.
    #[serde(alias = "undone")]
    pub changed_back: Vec<Timestamp>,
    /// Whether the row is left alone.
    pub held: bool,
}

impl Correction {
    /// The times in the last day at which this correction was found changed back, `now` included where it is found so
    /// again. A row that is held keeps older times, too.
    pub fn changed_back_by(&self, now: Timestamp) -> Vec<Timestamp> {
        let recent = |time: &&Timestamp| is_remembered(**time, now);
        let again = (self.confirmed && !self.held).then_some(now);
        let recent = self.changed_back.iter().filter(|time| self.held || recent(time));
        recent.copied().chain(again).collect()
    }

    /// Whether the row is to be left alone, given that it differs again at `now`.
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.held || self.changed_back_by(now).len() >= TOO_OFTEN
    }
}

/// Whether a time is in the last day. A time more than a day in the future was noted by a clock that was wrong.
fn is_remembered(time: Timestamp, now: Timestamp) -> bool {
    now.duration_since(time).abs() < MEMORY
}

impl Ledger {
    /// The chats whose restart has failed, or whose session did not come up. Chats that are held are left out.
    pub(crate) fn failed_chats(&self, now: Timestamp) -> impl Iterator<Item = &String> {
        let owing = self.owed.iter().filter(|(_, debt)| debt.attempts > 0).map(|(chat, _)| chat);
        let is_held = move |chat: &String| self.corrected.get(chat).is_some_and(|made| made.holds(now));
        owing.chain(self.failed.keys()).filter(move |chat| !is_held(chat))
    }

    /// Adds a fact. Returns `false` where the fact is that an owed restart begins, but none is owed.
    pub fn note(&mut self, note: &Note, now: Timestamp) -> bool {
        match *note {
            Note::Owes { chat, ran, identity } => self.owe(chat, ran, identity, now),
            Note::Begun { chat, begin } => return self.begin(chat, begin, now),
            Note::Failed { chat } => self.fail(chat, now),
            Note::Unchanged { .. } => {}
            Note::Settled { chat } => _ = self.owed.remove(chat),
            Note::Confirmed { chat, model } => self.confirm(chat, model, now),
            Note::NotConfirmed { chat } => self.not_confirmed(chat),
            Note::Wrote { chat, model, before } => self.write(chat, model, before),
            Note::ReadBack { chat } => self.read_back(chat),
            Note::ChangedBack { chat, then } => self.changed_back(chat, then, now),
            Note::Trying { chat, model } => self.try_on(chat, model),
            Note::Worked { chat, model } => self.worked(chat, model, now),
            Note::DidNotComeUp { chat, model, blame } => self.did_not_come_up(chat, model, blame, now),
            Note::Reverted { chat } => _ = self.corrected.remove(chat),
            Note::Reset { chat } => self.reset(chat),
            Note::Edits { record, row } => {
                let row = row.clone().without_detail().into_owned();
                self.draft(record).begun.insert(row.chat_id.to_string(), row);
            }
            Note::Does { record, row } => {
                let row = row.clone().without_detail().into_owned();
                self.draft(record).rows.insert(row.chat_id.to_string(), DraftRow { row, edited: false });
            }
        }
        true
    }

    /// The draft of a command's line in the history. The head is written with the first row.
    fn draft(&mut self, record: &Record) -> &mut Draft {
        let new = || Draft { head: Some(record.head.clone()), ..Draft::default() };
        self.unrecorded.entry(record.name.clone()).or_insert_with(new)
    }

    fn owe(&mut self, chat: &str, ran: Option<&Model>, identity: Option<&str>, now: Timestamp) {
        let new = || Debt { ran: ran.cloned(), identity: identity.map(str::to_owned), ..Debt::since(now) };
        self.owed.entry(chat.to_owned()).and_modify(|debt| debt.next_try = None).or_insert_with(new);
    }

    /// Notes that a model is tried on a chat. A model that failed stays failed, because the try may never begin.
    fn try_on(&mut self, chat: &str, model: &Model) {
        if self.trials.get(model) != Some(&Trial::Failed) {
            self.trials.insert(model.clone(), Trial::Trying(chat.to_owned()));
        }
    }

    fn worked(&mut self, chat: &str, model: &Model, now: Timestamp) {
        if self.failed.get(chat).is_some_and(|failed| failed.model == *model) {
            self.failed.remove(chat);
        }
        self.trials.insert(model.clone(), Trial::Worked(now));
    }

    fn did_not_come_up(&mut self, chat: &str, model: &Model, blame: Blame, now: Timestamp) {
        let earlier = self.failed.get(chat).cloned();
        // A new decision would have cleared the earlier failure. So the session was being put back on its former model,
        // and this start says nothing about the model that failed.
        if earlier.as_ref().is_some_and(|earlier| earlier.model != *model) {
            return;
        }
        self.failed.insert(chat.to_owned(), FailedStart::again(earlier, model, now));
        if blame == Blame::Model {
            self.trials.insert(model.clone(), Trial::Failed);
        }
    }

    fn reset(&mut self, chat: &str) {
        self.corrected.remove(chat);
        self.failed.remove(chat);
        let failed: BTreeSet<&Model> = self.failed.values().map(|failed| &failed.model).collect();
        self.trials.retain(|model, trial| match trial {
            Trial::Worked(_) => true,
            Trial::Trying(tried) => tried != chat,
            Trial::Failed => failed.contains(model),
        });
    }

    /// The chat on which a failed model must come up first, and the failed start there: the chat on which it failed
    /// first. Chats that are `passed_over` do not count. `None` for a model that has not failed.
    pub fn failed_on(&self, model: &Model, passed_over: &dyn Fn(&str) -> bool) -> Option<(&str, &FailedStart)> {
        if self.trials.get(model) != Some(&Trial::Failed) {
            return None;
        }
        let starts = self.failed.iter().map(|(chat, failed)| (chat.as_str(), failed));
        let counted = starts.filter(|(chat, failed)| failed.model == *model && !passed_over(chat));
        counted.min_by_key(|(_, failed)| failed.since)
    }

    /// The one of these models on which a session has come up most recently.
    pub(crate) fn last_that_worked(&self, allowed: &BTreeSet<Model>) -> Option<&Model> {
        let mut last = None;
        for (model, trial) in self.trials.iter().filter(|(model, _)| allowed.contains(model)) {
            if let Trial::Worked(at) = trial {
                last = last.max(Some((*at, model)));
            }
        }
        last.map(|(_, model)| model)
    }

    fn begin(&mut self, chat: &str, begin: Begin, now: Timestamp) -> bool {
        match begin {
            Begin::Free => {}
            Begin::Owed => match self.owed.get_mut(chat) {
                Some(debt) => debt.began = true,
                None => return false,
            },
            Begin::Owing(run) => {
                let debt = self.owed.entry(chat.to_owned()).or_insert_with(|| Debt::since(now));
                debt.began = true;
                debt.run = Some(run.to_owned());
            }
        }
        true
    }

    fn fail(&mut self, chat: &str, now: Timestamp) {
        if let Some(debt) = self.owed.get_mut(chat) {
            debt.fail(now);
        }
    }

    fn changed_back(&mut self, chat: &str, then: Then, now: Timestamp) {
        if let Some(correction) = self.corrected.get_mut(chat) {
            correction.changed_back = correction.changed_back_by(now);
            correction.confirmed = false;
            correction.held = then == Then::Held;
        }
    }

    fn write(&mut self, chat: &str, model: &Model, before: Option<&Model>) {
        let wrote = Wrote { model: model.clone(), before: before.cloned(), read_back: false };
        self.wrote.insert(chat.to_owned(), wrote);
    }

    fn read_back(&mut self, chat: &str) {
        if let Some(wrote) = self.wrote.get_mut(chat) {
            wrote.read_back = true;
        }
    }

    fn confirm(&mut self, chat: &str, model: &Model, now: Timestamp) {
        if self.wrote.get(chat).is_some_and(|wrote| wrote.model == *model) {
            self.read_back(chat);
        }
        let earlier = self.corrected.remove(chat).filter(|earlier| earlier.model == *model);
        let changed_back = earlier.map(|earlier| earlier.changed_back).unwrap_or_default();
        let correction = Correction { model: model.clone(), at: now, confirmed: true, changed_back, held: false };
        self.corrected.insert(chat.to_owned(), correction);
    }

    fn not_confirmed(&mut self, chat: &str) {
        if let Some(correction) = self.corrected.get_mut(chat) {
            correction.confirmed = false;
        }
    }

    /// Where the model of an entry comes from; `None` where it has no model, and where the policy does not keep what
    /// was set by hand.
    pub(crate) fn origin(&self, policy: &Policy, entry: &Entry, hint: &mut Hint) -> Option<Origin> {
        let model = entry.model.as_deref().filter(|_| policy.existing.keeps_manual())?;
        Some(match entry.by_hand {
            Some(true) => Origin::ByHand,
            Some(false) => Origin::Open,
            None => self.origin_of(policy, entry, model, hint),
        })
    }

    fn origin_of(&self, policy: &Policy, entry: &Entry, model: &str, hint: &mut Hint) -> Origin {
        let chat = entry.chat.id.as_ref();
        // A program changes it back again and again, and not a person.
        if self.corrected.get(chat).is_some_and(|made| made.held) {
            return Origin::Open;
        }
        let is = |known: &str| policy.canonical(known) == policy.canonical(model);
        if let Some(wrote) = self.wrote.get(chat) {
            let is_as_before = !wrote.read_back && wrote.before.as_ref().is_some_and(|before| is(before.as_str()));
            return if is(wrote.model.as_str()) || is_as_before { Origin::Open } else { Origin::ByHand };
        }
        match entry.mark.clone().or_else(|| self.last_applied.mark(chat, hint)) {
            Some(Mark::Applied(known)) if is(&known) => Origin::Applied,
            Some(Mark::Applied(_) | Mark::ByHand) => Origin::ByHand,
            None if self.last_applied.reach() == Reach::All => Origin::Open,
            None => Origin::Unseen,
        }
    }

    /// [`Ledger::last_applied`] with what was written since and what a run has found; `None` where that changes nothing.
    pub fn applied_by_now(&self, found: &Found, reach: Reach) -> Option<LastApplied> {
        let mut wrote = Found::default();
        for (chat, made) in self.wrote.iter().filter(|(_, made)| made.read_back) {
            wrote.applied(chat, made.model.as_str());
        }
        self.has_news(found, reach).then(|| self.last_applied.with(found, reach).with(&wrote, reach))
    }

    /// Whether there is anything that [`Ledger::last_applied`] does not have yet: models that were written and read
    /// back, or what a run has found.
    pub(crate) fn has_news(&self, found: &Found, reach: Reach) -> bool {
        let is_wider = reach == Reach::All && self.last_applied.reach() != Reach::All;
        is_wider || !found.is_empty() || self.wrote.values().any(|made| made.read_back)
    }

    /// The chats whose [`Wrote`] can be removed once it and what a run has found are in [`Ledger::last_applied`].
    pub(crate) fn settled_by<'c>(&'c self, found: &'c Found) -> impl Iterator<Item = &'c str> {
        let read_back = self.wrote.iter().filter(|(_, made)| made.read_back).map(|(chat, _)| chat.as_str());
        read_back.chain(found.chats().filter(|chat| self.wrote.contains_key(*chat)))
    }

    /// The chats whose corrections were not changed back for a day, and need not be remembered any longer.
    pub fn lasting(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let lasted = move |made: &Correction| {
            let mut times = made.changed_back.iter().chain([&made.at]);
            !made.held && !times.any(|time| is_remembered(*time, now))
        };
        self.corrected.iter().filter(move |(_, made)| lasted(made)).map(|(chat, _)| chat.as_str())
    }
}
