//! What must be remembered from one run to the next: restarts that are owed, corrections that may be undone, and a
//! replacement of the registry that is under way.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chat::Model;
use crate::registry::{Exchange, Stamp};

/// Corrections found undone within this time count.
const MEMORY: SignedDuration = SignedDuration::from_hours(24);
/// This many of them, and the row is held.
const TOO_OFTEN: usize = 3;
/// The first failed restart is tried again after this time, which doubles with each failure…
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(1);
/// …up to this.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(6);

/// The memory across runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Of this file's form.
    pub version: Version,
    /// Restarts that an already written change may still need, by chat id.
    pub owed: BTreeMap<String, Debt>,
    /// Corrections that were confirmed, by chat id.
    pub corrected: BTreeMap<String, Correction>,
    /// The replacement of the registry that is under way.
    pub exchange: Option<Exchange>,
    /// Edits that a daemon has not confirmed yet.
    #[serde(default, skip_serializing_if = "Unconfirmed::is_empty")]
    pub unconfirmed: Unconfirmed,
    /// Changes that a daemon made and has not saved yet, by chat id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unsaved: BTreeMap<String, Unsaved>,
}

/// The form of the ledger: 1, the only one so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Version;

impl TryFrom<u32> for Version {
    type Error = String;
    fn try_from(version: u32) -> Result<Self, String> {
        if version == 1 { Ok(Self) } else { Err(format!("version {version} is not known here")) }
    }
}

impl From<Version> for u32 {
    fn from(_: Version) -> Self {
        1
    }
}

/// "This session may run something else than the registry says." A fact, not a wanted model: it is paid by a restart
/// on whatever the registry then holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debt {
    /// When the change was written.
    pub since: Timestamp,
    /// What the session ran before the change; `None` where that is not known.
    pub ran: Option<Model>,
    /// Whether a restart was ever begun. From then on nobody knows what runs until one succeeds.
    pub began: bool,
    /// Restarts that were tried and failed.
    pub attempts: u32,
    /// Not to be tried before this time.
    pub next_try: Option<Timestamp>,
    /// Which run of the session the attempt was about, where the backend can tell: another one since, and it is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl Debt {
    /// A new one, of a session that may run anything.
    fn since(now: Timestamp) -> Self {
        Self { since: now, ran: None, began: false, attempts: 0, next_try: None, session: None }
    }

    /// What the session runs for certain.
    pub fn runs(&self) -> Option<&Model> {
        self.ran.as_ref().filter(|_| !self.began)
    }

    /// Whether it waits at `now`. A time that is much further away than any wait is of a clock that was wrong then; a
    /// little further it is for a run that began before the restart failed, and waited for the lock since.
    pub fn waits(&self, now: Timestamp) -> bool {
        self.next_try.is_some_and(|next| now < next && next.duration_since(now) <= LONGEST_WAIT + LONGEST_WAIT)
    }

    /// Counts a restart that failed: the next try waits, longer each time.
    pub fn fail(&mut self, now: Timestamp) {
        let doubled = 2_i32.checked_pow(self.attempts).and_then(|factor| FIRST_WAIT.checked_mul(factor));
        let wait = doubled.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        self.attempts = self.attempts.saturating_add(1);
        self.next_try = now.checked_add(wait).ok();
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
    /// Whether it was confirmed since. One that is found undone stops being so.
    pub confirmed: bool,
    /// When it was found undone.
    pub undone: Vec<Timestamp>,
    /// Whether the row is left alone from now on.
    pub held: bool,
}

impl Correction {
    /// When this correction was found undone in the last day, if now it is found undone once more.
    pub fn undone_by(&self, now: Timestamp) -> Vec<Timestamp> {
        let recent = |time: &&Timestamp| is_remembered(**time, now);
        let again = (self.confirmed && !self.held).then_some(now);
        let recent = self.undone.iter().filter(|time| self.held || recent(time));
        recent.copied().chain(again).collect()
    }

    /// Whether the row is to be left alone, now that it differs again.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.held || self.undone_by(now).len() >= TOO_OFTEN
    }
}

/// Whether that was in the last day. What is in the future is of a clock that was wrong then.
fn is_remembered(time: Timestamp, now: Timestamp) -> bool {
    now.duration_since(time).abs() < MEMORY
}

/// Edits made while a daemon seemed to be down. It may have read the file just before them: as long as the file is the
/// one that they made, nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unconfirmed {
    /// The file that they made.
    pub made: Option<Stamp>,
    /// The chats that they were of.
    pub chats: BTreeSet<String>,
    /// Chats whose edit is being made.
    pub pending: BTreeSet<String>,
}

impl Unconfirmed {
    fn is_empty(&self) -> bool {
        self.chats.is_empty() && self.pending.is_empty()
    }
}

/// A change that a daemon made, whose file lags behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsaved {
    /// What the session runs.
    pub model: Model,
    /// Which run of the session.
    pub session: String,
}

impl Ledger {
    /// Notes that the session of `chat` will not run what the registry says. `runs` is what it runs, where known.
    pub fn owe(&mut self, chat: &str, runs: Option<Model>, now: Timestamp) {
        let new = || Debt { ran: runs, ..Debt::since(now) };
        self.owed.entry(chat.to_owned()).and_modify(|debt| debt.next_try = None).or_insert_with(new);
    }

    /// Notes that a restart is about to be tried: of this run of the session, where the backend can tell.
    pub fn begin(&mut self, chat: &str, session: Option<String>, now: Timestamp) {
        let debt = self.owed.entry(chat.to_owned()).or_insert_with(|| Debt::since(now));
        debt.began = true;
        debt.session = session;
    }

    /// Notes that a restart was tried and failed: the next try waits, longer each time.
    pub fn fail(&mut self, chat: &str, now: Timestamp) {
        if let Some(debt) = self.owed.get_mut(chat) {
            debt.fail(now);
        }
    }

    /// Notes that nothing is owed any more.
    pub fn strike(&mut self, chat: &str) {
        self.owed.remove(chat);
    }

    /// Notes that a correction was found undone, and whether the row is held for that.
    pub fn found_undone(&mut self, chat: &str, now: Timestamp, held: bool) {
        if let Some(correction) = self.corrected.get_mut(chat) {
            correction.undone = correction.undone_by(now);
            correction.confirmed = false;
            correction.held = held;
        }
    }

    /// Notes that a correction was read back.
    pub fn confirm(&mut self, chat: &str, model: &Model, now: Timestamp) {
        let undone = self.corrected.remove(chat).filter(|earlier| earlier.model == *model);
        let undone = undone.map(|earlier| earlier.undone).unwrap_or_default();
        let correction = Correction { model: model.clone(), at: now, confirmed: true, undone, held: false };
        self.corrected.insert(chat.to_owned(), correction);
    }

    /// Notes that the registry was replaced.
    pub fn replaced(&mut self, exchange: &Exchange) {
        self.exchange = None;
        let edits = &mut self.unconfirmed;
        if edits.pending.is_empty() {
            return;
        }
        if edits.made != Some(exchange.seen) {
            // The daemon has written the file since: earlier edits are confirmed, or show as drift.
            edits.chats.clear();
        }
        edits.chats.append(&mut edits.pending);
        edits.made = Some(exchange.new);
    }

    /// Whether nobody knows yet if a daemon has taken over the edit of this chat that made the registry `now`.
    pub fn is_unconfirmed(&self, chat: &str, now: Stamp) -> bool {
        self.unconfirmed.made == Some(now) && self.unconfirmed.chats.contains(chat)
    }

    /// Drops corrections that lasted: after a day they have stuck.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.corrected.retain(|_, correction| correction.held || is_remembered(correction.at, now));
    }
}
