//! What each chat was last given by this program, or found in sync on. With `existing = "keep-manual"` a registry that says
//! something else was changed by hand, and stays as it is.
//!
//! A run looks up every chat of a registry, of which there may be a million. So chats are known by fingerprints of eight
//! bytes. They are made with a key, because people choose the ids of their chats: without it one could be made that passes
//! for another.

use std::hash::Hasher;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::chat::Model;

/// The bytes of a key.
pub const KEY_LENGTH: usize = 16;
/// Stands for a chat whose model was found when no run had looked at it before. More models than this are not told apart.
const BY_HAND: u16 = u16::MAX;

/// What each chat was last given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastApplied {
    key: [u8; KEY_LENGTH],
    reach: Reach,
    models: Vec<Model>,
    /// The fingerprints of the chats, sorted.
    chats: Vec<u64>,
    /// What stands for each of them: the place of its model, or [`BY_HAND`].
    marks: Vec<u16>,
    /// Where the chats begin whose fingerprints begin with the same bits, for all values of so many bits as it takes to count
    /// the chats. So a chat is found at once: fingerprints are evenly spread.
    buckets: Vec<u32>,
}

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

/// What stands for a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// This program gave it the model, or found it in sync on it.
    Applied(&'a Model),
    /// Its model was there before.
    ByHand,
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
    pub fn is_by_hand(self) -> bool {
        matches!(self, Self::ByHand | Self::Unseen)
    }
}

impl LastApplied {
    /// Nothing yet.
    pub fn nothing(key: [u8; KEY_LENGTH]) -> Self {
        Self { key, ..Self::default() }
    }

    /// What was kept of it. `None` where the parts do not fit together.
    pub fn of(
        key: [u8; KEY_LENGTH],
        reach: Reach,
        models: Vec<Model>,
        chats: Vec<u64>,
        marks: Vec<u16>,
    ) -> Option<Self> {
        let is_known = |mark: &u16| *mark == BY_HAND || usize::from(*mark) < models.len();
        let fits = chats.len() == marks.len() && chats.is_sorted() && marks.iter().all(is_known);
        let buckets = buckets(&chats)?;
        fits.then_some(Self { key, reach, models, chats, marks, buckets })
    }

    /// The key of its fingerprints.
    pub fn key(&self) -> &[u8; KEY_LENGTH] {
        &self.key
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.chats.is_empty() && self.reach == Reach::Some
    }

    /// Of which chats it speaks.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The models that it names.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The fingerprints of the chats and what stands for each, sorted.
    pub fn chats(&self) -> (&[u64], &[u16]) {
        (&self.chats, &self.marks)
    }

    /// What stands for a chat, if anything does.
    pub fn mark(&self, chat: &str) -> Option<Mark<'_>> {
        let fingerprint = self.fingerprint(chat);
        let range = self.bucket(fingerprint);
        let found = self.chats.get(range.clone())?.iter().position(|known| *known == fingerprint)?;
        match *self.marks.get(range.start + found)? {
            BY_HAND => Some(Mark::ByHand),
            model => self.models.get(usize::from(model)).map(Mark::Applied),
        }
    }

    fn bucket(&self, fingerprint: u64) -> Range<usize> {
        let at = bucket_of(fingerprint, self.chats.len());
        let bound = |at: usize| self.buckets.get(at).map_or(0, |bound| *bound as usize);
        bound(at)..bound(at + 1)
    }

    fn fingerprint(&self, chat: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(chat.as_bytes());
        hasher.finish()
    }

    /// The same with what was found since. `reach` is what it speaks of then, unless it spoke of all chats before.
    #[must_use]
    pub fn with(&self, found: &Found, reach: Reach) -> Self {
        let mut models = self.models.clone();
        let places: Vec<u16> = found.models.iter().map(|model| place(&mut models, model)).collect();
        let translated = |mark: u16| places.get(usize::from(mark)).copied().unwrap_or(BY_HAND);
        let before = self.chats.iter().copied().zip(self.marks.iter().copied());
        let since = found.chats.iter().map(|(chat, mark)| (self.fingerprint(chat), translated(*mark)));
        let mut all: Vec<(u64, u16)> = before.chain(since).collect();
        // Of one chat the last stays: a stable order leaves what was found since behind what was known before.
        all.sort_by_key(|(chat, _)| *chat);
        all.reverse();
        all.dedup_by_key(|(chat, _)| *chat);
        all.reverse();
        let reach = if self.reach == Reach::All { Reach::All } else { reach };
        let (chats, marks): (Vec<u64>, Vec<u16>) = all.into_iter().unzip();
        let buckets = buckets(&chats).unwrap_or_default();
        Self { key: self.key, reach, models, chats, marks, buckets }
    }
}

/// The place of a model among those that are named. One more than can be counted is taken for one that was set by hand, which
/// is left alone.
fn place(models: &mut Vec<Model>, model: &Model) -> u16 {
    let found = models.iter().position(|known| known == model).unwrap_or_else(|| {
        models.push(model.clone());
        models.len() - 1
    });
    u16::try_from(found).unwrap_or(BY_HAND)
}

/// How many bits tell the buckets of so many chats apart.
fn bits(chats: usize) -> u32 {
    (usize::BITS - chats.leading_zeros()).min(u32::BITS)
}

fn bucket_of(fingerprint: u64, chats: usize) -> usize {
    let rest = u64::BITS - bits(chats);
    usize::try_from(fingerprint.checked_shr(rest).unwrap_or_default()).unwrap_or_default()
}

/// Where the buckets of sorted fingerprints begin, and where the last of them ends. `None` where there are too many to count.
fn buckets(chats: &[u64]) -> Option<Vec<u32>> {
    let mut begins = Vec::with_capacity((1_usize << bits(chats.len())) + 1);
    for (at, chat) in chats.iter().enumerate() {
        let at = u32::try_from(at).ok()?;
        while begins.len() <= bucket_of(*chat, chats.len()) {
            begins.push(at);
        }
    }
    begins.resize((1_usize << bits(chats.len())) + 1, u32::try_from(chats.len()).ok()?);
    Some(begins)
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

    /// That this chat has a model that no run has looked at before.
    pub fn by_hand(&mut self, chat: &str) {
        self.chats.push((chat.into(), BY_HAND));
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
