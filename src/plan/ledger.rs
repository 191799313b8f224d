//! What must be remembered from one run to the next, and the rules of it: restarts that are owed, and corrections that
//! may be changed back.

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

/// Corrections found changed back within this time count.
const MEMORY: SignedDuration = SignedDuration::from_hours(24);
/// This many of them, and the row is held.
const TOO_OFTEN: usize = 3;

/// The memory across runs: what is the same for every backend. What only one backend must remember, that backend keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Restarts that an already written change may still need, by chat id.
    pub owed: BTreeMap<String, Debt>,
    /// Corrections that were confirmed, by chat id.
    pub corrected: BTreeMap<String, Correction>,
    /// Sessions that did not come up on a model, by chat id.
    pub failed: BTreeMap<String, FailedStart>,
    /// What is known of models.
    pub trials: BTreeMap<Model, Trial>,
    /// What commands have done and the history does not tell yet, by their names in it.
    pub unrecorded: BTreeMap<String, Draft>,
    /// What was written since [`Ledger::last_applied`] was saved, by chat id. Only where the policy keeps what was set by hand.
    pub wrote: BTreeMap<String, Wrote>,
    /// What each chat was last given. Only where the policy keeps what was set by hand.
    pub last_applied: Arc<LastApplied>,
}

/// A model that was written into an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrote {
    /// The model.
    pub model: Model,
    /// What the entry had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Model>,
    /// Whether the entry was seen to have the model since. Until then it may as well have what it had before: the writer may
    /// have died.
    pub read_back: bool,
}

/// "This session may run something else than the registry says." A fact, not a wanted model: it is paid by a restart
/// on the model that the registry then holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debt {
    /// When the change was written.
    pub since: Timestamp,
    /// What the session ran before the change; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<Model>,
    /// Whether a restart was ever begun. From then on it is not known what the session runs, until one succeeds.
    pub began: bool,
    /// Restarts that were tried and failed.
    pub attempts: u32,
    /// Not to be tried before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// Which run of the session the attempt was about, where the backend can tell: another run of it since, and the debt
    /// is met.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "session")]
    pub run: Option<String>,
    /// Which start of the session ran `ran`, where that could be told. Another one since, and what it runs is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

impl Debt {
    /// A new one, of a session that may run anything.
    fn since(now: Timestamp) -> Self {
        Self { since: now, ran: None, began: false, attempts: 0, next_try: None, run: None, identity: None }
    }

    /// One of a restart that was begun.
    pub fn begun(now: Timestamp) -> Self {
        Self { began: true, ..Self::since(now) }
    }

    /// What the session runs for certain, unless something has started it since.
    pub fn runs(&self) -> Option<&Model> {
        self.ran.as_ref().filter(|_| !self.began)
    }

    /// Whether the session is known to run what it ran when the debt was made: what the start of that time is called, and
    /// still is. Anything else may have started it anew since, on what the registry said then.
    pub(crate) fn is_same_start(&self, identity: Option<&str>) -> bool {
        !self.began && identity.is_some() && self.identity.as_deref() == identity
    }

    /// Whether it waits for its next try at `now`.
    pub fn waits(&self, now: Timestamp) -> bool {
        is_waiting(self.next_try, now)
    }

    /// Counts a restart that failed.
    pub fn fail(&mut self, now: Timestamp) {
        self.next_try = next_try(self.attempts, now);
        self.attempts = self.attempts.saturating_add(1);
    }
}

/// A change of a chat's model that was seen to have stuck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// The model that it set. Another decision makes the record void.
    pub model: Model,
    /// When it was last made.
    pub at: Timestamp,
    /// Whether it was confirmed since. One that is found changed back stops being so.
    pub confirmed: bool,
    /// When it was found changed back.
    #[serde(alias = "undone")]
    pub changed_back: Vec<Timestamp>,
    /// Whether the row is left alone from now on.
    pub held: bool,
}

impl Correction {
    /// When this correction was found changed back in the last day, if now it is found so once more.
    pub fn changed_back_by(&self, now: Timestamp) -> Vec<Timestamp> {
        let recent = |time: &&Timestamp| is_remembered(**time, now);
        let again = (self.confirmed && !self.held).then_some(now);
        let recent = self.changed_back.iter().filter(|time| self.held || recent(time));
        recent.copied().chain(again).collect()
    }

    /// Whether the row is to be left alone, now that it differs again.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.held || self.changed_back_by(now).len() >= TOO_OFTEN
    }
}

/// Whether that was in the last day. What is in the future is of a clock that was wrong then.
fn is_remembered(time: Timestamp, now: Timestamp) -> bool {
    now.duration_since(time).abs() < MEMORY
}

impl Ledger {
    /// The chats whose restart has failed, or whose session did not come up. Those that are held wait for another reason.
    pub(crate) fn failed_chats(&self, now: Timestamp) -> impl Iterator<Item = &String> {
        let owing = self.owed.iter().filter(|(_, debt)| debt.attempts > 0).map(|(chat, _)| chat);
        let is_held = move |chat: &String| self.corrected.get(chat).is_some_and(|made| made.holds(now));
        owing.chain(self.failed.keys()).filter(move |chat| !is_held(chat))
    }

    /// Folds a note in. Returns `false` where it says that an owed restart begins, and none is owed.
    pub fn note(&mut self, note: &Note, now: Timestamp) -> bool {
        match *note {
            Note::Owes { chat, ran, identity } => self.owe(chat, ran, identity, now),
            Note::Begun { chat, begin } => return self.begin(chat, begin, now),
            Note::Failed { chat } => self.fail(chat, now),
            Note::Unchanged { .. } => {}
            Note::Settled { chat } => _ = self.owed.remove(chat),
            Note::Confirmed { chat, model } => self.confirm(chat, model, now),
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

    /// What is remembered of a command. Its head is taken down once.
    fn draft(&mut self, record: &Record) -> &mut Draft {
        let new = || Draft { head: Some(record.head.clone()), ..Draft::default() };
        self.unrecorded.entry(record.name.clone()).or_insert_with(new)
    }

    fn owe(&mut self, chat: &str, ran: Option<&Model>, identity: Option<&str>, now: Timestamp) {
        let new = || Debt { ran: ran.cloned(), identity: identity.map(str::to_owned), ..Debt::since(now) };
        self.owed.entry(chat.to_owned()).and_modify(|debt| debt.next_try = None).or_insert_with(new);
    }

    /// A model that failed stays so while it is tried again: the try may never begin.
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
        // Another decision would have cleared what failed before. So the session was being put back on what it ran, which
        // says nothing of the model that it did not come up on.
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

    /// Where a model that failed must come up first: the chat on which it first did not, and that start. Chats that are
    /// `passed_over` do not count.
    pub fn failed_on(&self, model: &Model, passed_over: &dyn Fn(&str) -> bool) -> Option<(&str, &FailedStart)> {
        if self.trials.get(model) != Some(&Trial::Failed) {
            return None;
        }
        let starts = self.failed.iter().map(|(chat, failed)| (chat.as_str(), failed));
        let counted = starts.filter(|(chat, failed)| failed.model == *model && !passed_over(chat));
        counted.min_by_key(|(_, failed)| failed.since)
    }

    /// The model among these on which a session was last seen to come up.
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

    /// Where the model of an entry comes from; `None` where it has none, and where the policy does not ask.
    pub fn origin(&self, policy: &Policy, entry: &Entry, hint: &mut Hint) -> Option<Origin> {
        let model = entry.model.as_deref().filter(|_| policy.existing.keeps_manual())?;
        Some(match entry.by_hand {
            Some(true) => Origin::ByHand,
            Some(false) => Origin::Open,
            None => self.origin_of(policy, entry, model, hint),
        })
    }

    fn origin_of(&self, policy: &Policy, entry: &Entry, model: &str, hint: &mut Hint) -> Origin {
        let chat = entry.chat.id.as_ref();
        // It was found to be changed back again and again: the row is held.
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

    /// What each chat was last given, with what was written since and what a run has found; `None` where that is nothing new.
    pub fn applied_by_now(&self, found: &Found, reach: Reach) -> Option<LastApplied> {
        let mut wrote = Found::default();
        for (chat, made) in self.wrote.iter().filter(|(_, made)| made.read_back) {
            wrote.applied(chat, made.model.as_str());
        }
        self.has_news(found, reach).then(|| self.last_applied.with(found, reach).with(&wrote, reach))
    }

    /// Whether what was written and read back since, or what a run has found, is not remembered yet of each chat.
    pub(crate) fn has_news(&self, found: &Found, reach: Reach) -> bool {
        let is_wider = reach == Reach::All && self.last_applied.reach() != Reach::All;
        is_wider || !found.is_empty() || self.wrote.values().any(|made| made.read_back)
    }

    /// The chats of which it need not be remembered any more what was written, once that and what a run has found is
    /// remembered of each chat.
    pub(crate) fn settled_by<'c>(&'c self, found: &'c Found) -> impl Iterator<Item = &'c str> {
        let read_back = self.wrote.iter().filter(|(_, made)| made.read_back).map(|(chat, _)| chat.as_str());
        read_back.chain(found.chats().filter(|chat| self.wrote.contains_key(*chat)))
    }

    /// The chats whose corrections lasted for a day: they have stuck, and need not be remembered.
    pub fn lasting(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let lasted = move |made: &Correction| !made.held && !is_remembered(made.at, now);
        self.corrected.iter().filter(move |(_, made)| lasted(made)).map(|(chat, _)| chat.as_str())
    }
}
