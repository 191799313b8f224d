//! What each chat was last given by this program, or found in sync on. With `existing = "keep-manual"` a registry that says
//! something else was changed by hand, and stays as it is.
//!
//! A run looks up every chat of a registry, of which there may be a million. So chats are known by fingerprints of eight
//! bytes. They are made with a key, because people choose the ids of their chats: without it one could be made that passes
//! for another. And they are kept in the order of the registry, in which the next run asks for them: looking for each of a
//! million in a table takes as long as reading the registry.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::chat::Model;
use crate::registry::Mark;

/// The bytes of a key.
pub const KEY_LENGTH: usize = 16;
/// Stands for a chat whose model was found when no run had looked at it before. More models than this are not told apart.
const BY_HAND: u16 = u16::MAX;

/// What each chat was last given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastApplied {
    key: [u8; KEY_LENGTH],
    reach: Reach,
    /// Whether what stands for a chat is kept beside its entry, and not here.
    is_beside_entries: bool,
    models: Vec<Model>,
    /// The fingerprints of the chats, in the order in which they were found.
    chats: Vec<u64>,
    /// What stands for each of them: the place of its model, or [`BY_HAND`].
    marks: Vec<u16>,
    /// The places of the chats, sorted by fingerprint.
    sorted: Vec<u32>,
}

/// Where a chat probably is: behind the one that was looked up last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint(usize);

/// Of which chats the memory speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// No run has looked at the whole registry yet: a chat that is not in it may have been set by hand.
    #[default]
    Some,
    /// A run has: a chat that is not in it is new.
    All,
}

/// Where the model in a registry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This program gave it, and remembers that.
    Applied,
    /// It is not known to be anything but the assistant's default: the chat is new, or what it was given is not settled yet.
    Open,
    /// It was set by hand.
    ByHand,
    /// No run has looked at it before, so it may have been set by hand.
    Unseen,
}

impl Origin {
    /// Whether it was set by hand, or may have been.
    pub(crate) fn is_by_hand(self) -> bool {
        matches!(self, Self::ByHand | Self::Unseen)
    }
}

impl LastApplied {
    /// Nothing yet.
    pub fn nothing(key: [u8; KEY_LENGTH]) -> Self {
        Self { key, ..Self::default() }
    }

    /// What is kept beside the entries of a registry: an entry comes with what stands for its chat.
    pub fn beside_entries(reach: Reach) -> Self {
        Self { reach, is_beside_entries: true, ..Self::default() }
    }

    /// What was kept of it. `None` where the parts do not fit together.
    pub fn of(key: [u8; KEY_LENGTH], reach: Reach, models: Vec<Model>, table: Table) -> Option<Self> {
        let Table { chats, marks, sorted } = table;
        let is_known = |mark: &u16| *mark == BY_HAND || usize::from(*mark) < models.len();
        let fits = chats.len() == marks.len() && chats.len() == sorted.len() && marks.iter().all(is_known);
        fits.then_some(Self { key, reach, is_beside_entries: false, models, chats, marks, sorted })
    }

    /// The key of its fingerprints.
    pub fn key(&self) -> &[u8; KEY_LENGTH] {
        &self.key
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.chats.is_empty() && self.reach == Reach::Some && !self.is_beside_entries
    }

    /// Of which chats it speaks.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The models that it names.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The fingerprints of the chats, what stands for each, and their places sorted by fingerprint.
    pub fn table(&self) -> (&[u64], &[u16], &[u32]) {
        (&self.chats, &self.marks, &self.sorted)
    }

    /// What stands for a chat, if anything does.
    pub fn mark(&self, chat: &str, hint: &mut Hint) -> Option<Mark<'_>> {
        let fingerprint = self.fingerprint(chat);
        let at = if self.chats.get(hint.0) == Some(&fingerprint) { hint.0 } else { self.place(fingerprint)? };
        *hint = Hint(at + 1);
        match *self.marks.get(at)? {
            BY_HAND => Some(Mark::ByHand),
            model => self.models.get(usize::from(model)).map(|model| Mark::Applied(Cow::Borrowed(model.as_str()))),
        }
    }

    /// Where a chat stands, if it does.
    fn place(&self, fingerprint: u64) -> Option<usize> {
        let of = |place: &u32| self.chats.get(*place as usize).copied();
        let found = self.sorted.binary_search_by_key(&Some(fingerprint), of).ok()?;
        self.sorted.get(found).map(|place| *place as usize)
    }

    fn fingerprint(&self, chat: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(chat.as_bytes());
        hasher.finish()
    }

    /// This memory with what was found since. `reach` is what it speaks of then, unless it spoke of all chats before.
    #[must_use]
    pub fn with(&self, found: &Found, reach: Reach) -> Self {
        let mut models = self.models.clone();
        let marks_now: Vec<u16> = found.models.iter().map(|model| mark_of(&mut models, model)).collect();
        let (mut chats, mut marks) = (self.chats.clone(), self.marks.clone());
        let mut added: HashMap<u64, usize> = HashMap::new();
        for (chat, mark) in &found.chats {
            let fingerprint = self.fingerprint(chat);
            let mark = marks_now.get(usize::from(*mark)).copied().unwrap_or(BY_HAND);
            let known = self.place(fingerprint).or_else(|| added.get(&fingerprint).copied());
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
        sorted.sort_unstable_by_key(|place| chats.get(*place as usize));
        Self { key: self.key, reach, is_beside_entries: false, models, chats, marks, sorted }
    }
}

/// What is kept of each chat.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Fingerprints, in the order in which the chats were found.
    pub chats: Vec<u64>,
    /// What stands for each.
    pub marks: Vec<u16>,
    /// The places of the chats, sorted by fingerprint.
    pub sorted: Vec<u32>,
}

/// What stands for a model. One more than can be counted is taken for one that was set by hand, which is left alone.
fn mark_of(models: &mut Vec<Model>, model: &Model) -> u16 {
    let found = models.iter().position(|known| known == model).unwrap_or_else(|| {
        models.push(model.clone());
        models.len() - 1
    });
    u16::try_from(found).unwrap_or(BY_HAND)
}

/// What a run has found of chats that the memory does not say yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    models: Vec<Model>,
    chats: Vec<(Box<str>, u16)>,
}

impl Found {
    /// Whether that is nothing.
    pub fn is_empty(&self) -> bool {
        self.chats.is_empty()
    }

    /// That this chat was given this model, or is in sync on it.
    pub fn applied(&mut self, chat: &str, model: &str) {
        let known = self.models.iter().position(|known| known.as_str() == model);
        let at = known.or_else(|| {
            self.models.push(Model::new(model)?);
            Some(self.models.len() - 1)
        });
        // More models than can be counted are left to a later run.
        if let Some(at) = at.and_then(|at| u16::try_from(at).ok()).filter(|at| *at != BY_HAND) {
            self.chats.push((chat.into(), at));
        }
    }

    /// The chats.
    pub fn chats(&self) -> impl Iterator<Item = &str> {
        self.chats.iter().map(|(chat, _)| chat.as_ref())
    }

    /// The chats, each with the model that it was given or is in sync on; `None` where that was there before.
    pub fn marks(&self) -> impl Iterator<Item = (&str, Option<&Model>)> {
        self.chats.iter().map(|(chat, mark)| (chat.as_ref(), self.models.get(usize::from(*mark))))
    }

    /// That this chat has a model that no run has looked at before.
    pub fn by_hand(&mut self, chat: &str) {
        self.chats.push((chat.into(), BY_HAND));
    }

    /// Takes back what was found of a chat.
    pub fn forget(&mut self, chat: &str) {
        self.chats.retain(|(known, _)| known.as_ref() != chat);
    }

    /// Adds what another part of the registry has.
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
