//! What the ledger's file keeps, and its records: patches, each of which says what has become of some chats and models.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chat::Model;
use crate::error::Result;
use crate::json;
use crate::os::exchange::ExchangeNote;
use crate::plan::ledger::{Correction, Debt, Ledger, Note, Wrote};
use crate::plan::trial::{FailedStart, Trial};
use crate::plan::untold::Draft;

/// The form of the journal's records.
pub(super) const VERSION: u32 = 2;

/// What the file keeps: the ledger, and the replacement of the registry that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The ledger, whose form does not depend on the backend.
    pub ledger: Ledger,
    /// A replacement that was noted before it was made. A run that dies in between is put right by the next one.
    pub exchange: Option<ExchangeNote>,
}

/// What has become of some chats' debts and corrections: `None` where there is none any more. A record of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Patch {
    /// The version of the records. Only the first record of a journal has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
    /// How many records stood in the journals that this one has replaced. It stands in the first record, and tells a
    /// journal that was compacted from an older copy of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) earlier: Option<u64>,
    /// Debts, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub owed: BTreeMap<String, Option<Debt>>,
    /// Corrections, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub corrected: BTreeMap<String, Option<Correction>>,
    /// Sessions that did not come up on a model, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, Option<FailedStart>>,
    /// The results of trials, by model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub trials: BTreeMap<Model, Option<Trial>>,
    /// Models that were written since what each chat was last given was saved, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub wrote: BTreeMap<String, Option<Wrote>>,
    /// What commands have done and the history does not tell yet, added to what was known of each; `None` where it tells.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unrecorded: BTreeMap<String, Option<Draft>>,
    /// The replacement under way, where that has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeState>,
}

/// Whether a replacement of the registry is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExchangeState {
    /// This one is under way.
    UnderWay(ExchangeNote),
    /// It has ended: none is, and nothing was changed.
    Ended,
    /// It has ended, and its edits were made.
    Made,
}

impl Patch {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The first record of a journal: all that is kept. `earlier` is how many records led to it.
    pub(super) fn whole(kept: &Kept, earlier: u64) -> Self {
        let earlier = Some(earlier).filter(|earlier| *earlier > 0);
        Self { version: Some(VERSION), earlier, ..Self::of(kept) }
    }

    /// A patch with all that is kept, and without what only the first record of a journal has.
    pub(crate) fn of(kept: &Kept) -> Self {
        let Kept { ledger, exchange } = kept;
        let Ledger { owed, corrected, failed, trials, wrote, unrecorded, last_applied: _ } = ledger;
        Self {
            version: None,
            earlier: None,
            owed: all(owed),
            corrected: all(corrected),
            failed: all(failed),
            trials: all(trials),
            wrote: all(wrote),
            unrecorded: all(unrecorded),
            exchange: exchange.clone().map(ExchangeState::UnderWay),
        }
    }

    /// The patch as a record that is not the first of a journal.
    pub(super) fn without_version(self) -> Self {
        Self { version: None, ..self }
    }

    /// This patch, where the edits that it tells of are made in the transaction that saves it.
    #[cfg(feature = "postgres")]
    pub(crate) fn made(mut self) -> Self {
        self.unrecorded.values_mut().flatten().for_each(Draft::made);
        self
    }

    pub(super) fn json(&self) -> Result<Vec<u8>> {
        json::to_bytes(self)
    }
}

impl Kept {
    /// Applies a patch.
    pub(crate) fn patch(&mut self, patch: Patch) {
        let Patch { version: _, earlier: _, owed, corrected, failed, trials, wrote, unrecorded, exchange } = patch;
        put(&mut self.ledger.owed, owed);
        put(&mut self.ledger.corrected, corrected);
        put(&mut self.ledger.failed, failed);
        put(&mut self.ledger.trials, trials);
        put(&mut self.ledger.wrote, wrote);
        for (name, draft) in unrecorded {
            match draft {
                Some(draft) => self.ledger.unrecorded.entry(name).or_default().merge(draft),
                None => _ = self.ledger.unrecorded.remove(&name),
            }
        }
        match exchange {
            Some(ExchangeState::UnderWay(exchange)) => self.exchange = Some(exchange),
            Some(ExchangeState::Ended) => self.end_exchange(Draft::unmade),
            Some(ExchangeState::Made) => self.end_exchange(Draft::made),
            None => {}
        }
    }

    fn end_exchange(&mut self, end: fn(&mut Draft)) {
        self.exchange = None;
        self.ledger.unrecorded.values_mut().for_each(end);
    }

    /// The patch that these notes lead to. What is kept is not changed yet.
    pub(crate) fn noting(&self, notes: &[Note], now: Timestamp) -> Patch {
        let before = &self.ledger;
        let chats: BTreeSet<&str> = notes.iter().map(Note::chat).collect();
        // Only the chats that the notes are about can change, and models: nothing else need be compared. What becomes of a
        // model depends on all starts that failed, which are few.
        let mut after = Ledger {
            owed: some(&before.owed, &chats),
            corrected: some(&before.corrected, &chats),
            failed: before.failed.clone(),
            trials: before.trials.clone(),
            wrote: some(&before.wrote, &chats),
            // Nothing but what is added: all of it may be long.
            unrecorded: before.unrecorded.keys().map(|name| (name.clone(), Draft::default())).collect(),
            last_applied: Arc::default(),
        };
        for note in notes {
            after.note(note, now);
        }
        let models = before.trials.keys().chain(after.trials.keys());
        let mut patch = Patch {
            owed: changed(&before.owed, &after.owed, chats.iter().copied()),
            corrected: changed(&before.corrected, &after.corrected, chats.iter().copied()),
            failed: changed(&before.failed, &after.failed, chats.iter().copied()),
            trials: changed(&before.trials, &after.trials, models),
            wrote: changed(&before.wrote, &after.wrote, chats.iter().copied()),
            unrecorded: added(after.unrecorded),
            ..Patch::default()
        };
        if notes.iter().any(|note| matches!(note, Note::Confirmed { .. })) {
            for chat in self.ledger.lasting(now) {
                patch.corrected.entry(chat.to_owned()).or_insert(None);
            }
        }
        patch
    }
}

fn added(drafts: BTreeMap<String, Draft>) -> BTreeMap<String, Option<Draft>> {
    let drafts = drafts.into_iter().filter(|(_, draft)| *draft != Draft::default());
    drafts.map(|(name, draft)| (name, Some(draft))).collect()
}

fn all<K: Ord + Clone, T: Clone>(kept: &BTreeMap<K, T>) -> BTreeMap<K, Option<T>> {
    kept.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
}

fn put<K: Ord, T>(all: &mut BTreeMap<K, T>, changes: BTreeMap<K, Option<T>>) {
    for (key, change) in changes {
        match change {
            Some(value) => _ = all.insert(key, value),
            None => _ = all.remove(&key),
        }
    }
}

fn some<T: Clone>(all: &BTreeMap<String, T>, chats: &BTreeSet<&str>) -> BTreeMap<String, T> {
    let found = chats.iter().filter_map(|chat| all.get_key_value(*chat));
    found.map(|(chat, value)| (chat.clone(), value.clone())).collect()
}

fn changed<'k, K, Q, T>(
    before: &BTreeMap<K, T>,
    after: &BTreeMap<K, T>,
    keys: impl Iterator<Item = &'k Q>,
) -> BTreeMap<K, Option<T>>
where
    K: Ord + Borrow<Q>,
    Q: Ord + ToOwned<Owned = K> + ?Sized + 'k,
    T: Clone + PartialEq,
{
    let differs = keys.filter(|key| before.get(*key) != after.get(*key));
    differs.map(|key| (key.to_owned(), after.get(key).cloned())).collect()
}
