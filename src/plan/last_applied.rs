//! The model that each chat was last given by this program, or was found in sync on. With `existing = "keep-manual"`, an entry with
//! another model was changed by hand, and keeps its model.
//!
//! A run looks up every chat of a registry, which may have a million. To keep the memory small, a chat is known by a fingerprint of
//! eight bytes. The fingerprint is made with a secret key: people choose the ids of their chats, and without the key one could be
//! made that has the fingerprint of another. The fingerprints are kept in the order of the registry, because the next run asks for
//! them in that order. A binary search for each of a million chats would take as long as reading the registry.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::chat::Model;
use crate::registry::Mark;

/// The length of a key, in bytes.
pub const KEY_LENGTH: usize = 16;
/// The mark of a chat that had its model before any run looked at it. There can be fewer models than this.
const BY_HAND: u16 = u16::MAX;

/// The model that each chat was last given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastApplied {
    key: [u8; KEY_LENGTH],
    reach: Reach,
    /// Whether the marks of chats are kept beside the entries of the registry, as in a table, and not here.
    is_beside_entries: bool,
    /// The models that marks refer to.
    models: Vec<Model>,
    table: Table,
}

/// The index at which the next chat probably is: the one after the chat that was looked up last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint(usize);

/// Which chats the memory covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Some chats, because no run has looked at the whole registry yet. The model of another chat may have been set by hand.
    #[default]
    Some,
    /// All chats. Another chat is new.
    All,
}

/// Where the model of an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This program wrote it, and remembers that.
    Applied,
    /// There is no sign that it was set by hand: the chat is new, or a change of this program may not have been made.
    Open,
    /// It was set by hand.
    ByHand,
    /// No run has looked at the chat before, so it may have been set by hand.
    Unseen,
}

impl Origin {
    /// Whether the model was set by hand, or may have been.
    pub(crate) fn is_by_hand(self) -> bool {
        matches!(self, Self::ByHand | Self::Unseen)
    }
}

impl LastApplied {
    /// A memory without chats, which makes fingerprints with this key.
    pub fn nothing(key: [u8; KEY_LENGTH]) -> Self {
        Self { key, ..Self::default() }
    }

    /// A memory that is kept beside the entries of a registry: each entry brings along the mark of its chat.
    pub fn beside_entries(reach: Reach) -> Self {
        Self { reach, is_beside_entries: true, ..Self::default() }
    }

    /// A memory that was saved. `None` where the parts do not fit together.
    pub fn of(key: [u8; KEY_LENGTH], reach: Reach, models: Vec<Model>, table: Table) -> Option<Self> {
        let is_known = |mark: &u16| *mark == BY_HAND || usize::from(*mark) < models.len();
        let chats = table.chats.len();
        let fits = table.marks.len() == chats && table.sorted.len() == chats && table.marks.iter().all(is_known);
        fits.then_some(Self { key, reach, is_beside_entries: false, models, table })
    }

    /// The key of its fingerprints.
    pub fn key(&self) -> &[u8; KEY_LENGTH] {
        &self.key
    }

    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.table.chats.is_empty() && self.reach == Reach::Some && !self.is_beside_entries
    }

    /// Which chats it covers.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The models that marks refer to.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The fingerprints and marks of its chats.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The mark of a chat; `None` where it has none.
    pub fn mark(&self, chat: &str, hint: &mut Hint) -> Option<Mark<'_>> {
        let fingerprint = self.fingerprint(chat);
        let is_hinted = self.table.chats.get(hint.0) == Some(&fingerprint);
        let at = if is_hinted { hint.0 } else { self.table.index(fingerprint)? };
        *hint = Hint(at + 1);
        match *self.table.marks.get(at)? {
            BY_HAND => Some(Mark::ByHand),
            model => self.models.get(usize::from(model)).map(|model| Mark::Applied(Cow::Borrowed(model.as_str()))),
        }
    }

    fn fingerprint(&self, chat: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(chat.as_bytes());
        hasher.finish()
    }

    /// This memory with what was found since. It covers all chats where it did before, or where `reach` says so.
    #[must_use]
    pub fn with(&self, found: &Found, reach: Reach) -> Self {
        let mut models = self.models.clone();
        let marks_now: Vec<u16> = found.models.iter().map(|model| mark_of(&mut models, model)).collect();
        let (mut chats, mut marks) = (self.table.chats.clone(), self.table.marks.clone());
        let mut added: HashMap<u64, usize> = HashMap::new();
        for (chat, mark) in &found.chats {
            let fingerprint = self.fingerprint(chat);
            let mark = marks_now.get(usize::from(*mark)).copied().unwrap_or(BY_HAND);
            let known = self.table.index(fingerprint).or_else(|| added.get(&fingerprint).copied());
            if let Some(known) = known.and_then(|at| marks.get_mut(at)) {
                *known = mark;
            } else {
                added.insert(fingerprint, chats.len());
                chats.push(fingerprint);
                marks.push(mark);
            }
        }
        let reach = if self.reach == Reach::All { Reach::All } else { reach };
        let mut sorted: Vec<u32> = (0..).take(chats.len()).collect();
        sorted.sort_unstable_by_key(|at| chats.get(*at as usize));
        Self { key: self.key, reach, is_beside_entries: false, models, table: Table { chats, marks, sorted } }
    }
}

/// The fingerprints and marks of chats, as parallel lists: this is the form in which they are saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The fingerprint of each chat, in the order in which the chats were found.
    pub chats: Vec<u64>,
    /// The mark of each chat: the index of its model in [`LastApplied::models`], or `u16::MAX` for a model that was there before.
    pub marks: Vec<u16>,
    /// The indices of the chats, sorted by fingerprint.
    pub sorted: Vec<u32>,
}

impl Table {
    /// The index of the chat with this fingerprint.
    fn index(&self, fingerprint: u64) -> Option<usize> {
        let fingerprint_at = |at: &u32| self.chats.get(*at as usize).copied();
        let found = self.sorted.binary_search_by_key(&Some(fingerprint), fingerprint_at).ok()?;
        self.sorted.get(found).map(|at| *at as usize)
    }
}

/// The mark of a model, which is added to the models if it is new. Where there are too many models for a mark, the chat counts as set
/// by hand, and so keeps its model.
fn mark_of(models: &mut Vec<Model>, model: &Model) -> u16 {
    let found = models.iter().position(|known| known == model).unwrap_or_else(|| {
        models.push(model.clone());
        models.len() - 1
    });
    u16::try_from(found).unwrap_or(BY_HAND)
}

/// What a run has found about chats, and is to be added to the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The models that marks refer to.
    models: Vec<Model>,
    /// Each chat with its mark.
    chats: Vec<(Box<str>, u16)>,
}

impl Found {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.chats.is_empty()
    }

    /// Adds that this chat was given this model, or is in sync on it.
    pub fn applied(&mut self, chat: &str, model: &str) {
        let known = self.models.iter().position(|known| known.as_str() == model);
        let at = known.or_else(|| {
            self.models.push(Model::new(model)?);
            Some(self.models.len() - 1)
        });
        // A chat with a model for which there is no mark is left to a later run.
        if let Some(at) = at.and_then(|at| u16::try_from(at).ok()).filter(|at| *at != BY_HAND) {
            self.chats.push((chat.into(), at));
        }
    }

    /// The chats about which something was found.
    pub fn chats(&self) -> impl Iterator<Item = &str> {
        self.chats.iter().map(|(chat, _)| chat.as_ref())
    }

    /// Each chat with the model that it was given or is in sync on; `None` for a model that was there before any run.
    pub fn marks(&self) -> impl Iterator<Item = (&str, Option<&Model>)> {
        self.chats.iter().map(|(chat, mark)| (chat.as_ref(), self.models.get(usize::from(*mark))))
    }

    /// Adds that this chat had its model before any run looked at it.
    pub fn by_hand(&mut self, chat: &str) {
        self.chats.push((chat.into(), BY_HAND));
    }

    /// Removes what was found about a chat.
    pub fn forget(&mut self, chat: &str) {
        self.chats.retain(|(known, _)| known.as_ref() != chat);
    }

    /// Adds what was found in another part of the registry.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        for (chat, mark) in other.chats {
            match other.models.get(usize::from(mark)) {
                Some(model) => self.applied(&chat, model.as_str()),
                None => self.by_hand(&chat),
            }
        }
        self
    }
}
