//! Which chats a run is about: the CHAT that a user types, and `--chat`, `--tier`, `--exclude`.

use std::collections::{BTreeMap, BTreeSet};

use crate::chat::Chat;
use crate::error::{Error, Result};
use crate::foreign::Foreign;
use crate::plan::problem::PlanProblem;
use crate::policy::Policy;
use crate::registry::{Entry, Key, Snapshot};
use crate::suggest;

/// Chats as the user wrote them.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Only these, and those of `tiers`; everything where both are empty.
    pub chats: Vec<String>,
    /// Only these tiers.
    pub tiers: Vec<String>,
    /// Never these.
    pub exclude: Vec<String>,
    /// Tried now, also where it waits or is held.
    pub retry: Vec<String>,
    /// Whether all chats are tried now that have failed.
    pub retry_failed: bool,
    /// Back under the policy, where they keep a model that was set by hand.
    pub take_over: TakeOver,
    /// Only these chats, and now. They are ids already, and need not have a session.
    pub ids: Vec<String>,
}

/// Chats that go back under the policy, where that keeps what was set by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// These, as the user wrote them.
    Chats(Vec<String>),
    /// All of them.
    All,
}

impl TakeOver {
    fn words(&self) -> &[String] {
        match self {
            Self::Chats(words) => words,
            Self::All => &[],
        }
    }

    /// Whether it asks for anything.
    pub(crate) fn is_asked(&self) -> bool {
        *self != Self::default()
    }
}

impl Default for TakeOver {
    fn default() -> Self {
        Self::Chats(Vec::new())
    }
}

/// Chats by their ids.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    chats: BTreeSet<String>,
    tiers: BTreeSet<String>,
    exclude: BTreeSet<String>,
    retry: BTreeSet<String>,
    /// These go back under the policy…
    take_over: BTreeSet<String>,
    /// …or all do.
    takes_over_all: bool,
}

impl Selector {
    /// Whether it is of the whole registry.
    pub fn is_complete(&self) -> bool {
        self.chats.is_empty() && self.tiers.is_empty() && self.exclude.is_empty() && self.ids.is_empty()
    }

    /// Finds the chats in the registry.
    ///
    /// # Errors
    /// For a name that no chat or more than one has, and a tier that neither policy nor registry knows.
    pub fn resolve(&self, policy: &Policy, snapshot: &dyn Snapshot) -> Result<Selection> {
        let lists = [&self.chats[..], &self.exclude, &self.retry, self.take_over.words()];
        let words: BTreeSet<&str> = lists.into_iter().flatten().map(String::as_str).collect();
        let ids = find(&words, snapshot)?;
        let named = |words: &[String]| words.iter().filter_map(|word| ids.get(word.as_str()).cloned()).collect();
        if !self.tiers.is_empty() {
            let mut known: BTreeSet<String> = policy.tiers.keys().cloned().collect();
            known.extend(policy.assignments.iter().map(|assignment| assignment.tier.clone()));
            if self.tiers.iter().any(|tier| !known.contains(tier)) {
                snapshot.each(&mut |entry| known.extend(entry.chat.tier.map(Into::into)))?;
            }
            if let Some(tier) = self.tiers.iter().find(|tier| !known.contains(*tier)) {
                let advice = suggest::advice(tier, known.iter().map(String::as_str));
                return Err(PlanProblem::UnknownTier { tier: quoted(tier), advice: advice.into() }.into());
            }
        }
        let with_ids = |chats: BTreeSet<String>| chats.into_iter().chain(self.ids.iter().cloned()).collect();
        Ok(Selection {
            chats: with_ids(named(&self.chats)),
            tiers: self.tiers.iter().cloned().collect(),
            exclude: named(&self.exclude),
            retry: with_ids(named(&self.retry)),
            take_over: with_ids(named(self.take_over.words())),
            takes_over_all: self.take_over == TakeOver::All,
        })
    }
}

impl Selection {
    /// This selection, in which these chats are tried now, too.
    #[must_use]
    pub(crate) fn retrying(mut self, chats: impl IntoIterator<Item = String>) -> Self {
        self.retry.extend(chats);
        self
    }

    /// Whether it is the whole registry.
    pub(crate) fn is_complete(&self) -> bool {
        self.chats.is_empty() && self.tiers.is_empty() && self.exclude.is_empty()
    }

    /// Whether the run is about this chat.
    pub fn contains(&self, chat: &Chat) -> bool {
        let everything = self.chats.is_empty() && self.tiers.is_empty();
        let tier = chat.tier.as_deref().is_some_and(|tier| self.tiers.contains(tier));
        (everything || tier || self.chats.contains(chat.id.as_ref())) && !self.exclude.contains(chat.id.as_ref())
    }

    /// Whether a model that was set by hand does not stay for this chat.
    pub(crate) fn takes_over(&self, chat: &str) -> bool {
        self.takes_over_all || self.take_over.contains(chat)
    }

    /// The chats that it can be about, where it names them all.
    pub(crate) fn only_chats(&self) -> Option<&BTreeSet<String>> {
        Some(&self.chats).filter(|chats| !chats.is_empty() && self.tiers.is_empty())
    }

    /// Whether this chat is to be tried now.
    pub(crate) fn retries(&self, chat: &str) -> bool {
        self.retry.contains(chat)
    }
}

/// The chat ids that the words stand for: an id, else a session's name, else the name of one contact.
///
/// # Errors
/// Where a word stands for none, or for several.
pub fn find<'w>(words: &BTreeSet<&'w str>, snapshot: &dyn Snapshot) -> Result<BTreeMap<&'w str, String>> {
    if words.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found = matches(words, snapshot)?.into_iter();
    found.map(|(word, ids)| Ok((word, only(word, ids)?.map_or_else(|| Err(none(word, snapshot)), Ok)?))).collect()
}

/// The chat id that the word stands for, if it stands for any.
///
/// # Errors
/// Where it stands for several.
pub(crate) fn find_one(word: &str, snapshot: &dyn Snapshot) -> Result<Option<String>> {
    let found = matches(&BTreeSet::from([word]), snapshot)?.remove(word);
    only(word, found.unwrap_or_default())
}

/// The chat id that the word stands for.
///
/// # Errors
/// Where it stands for none, or for several.
pub(crate) fn find_registered(word: &str, snapshot: &dyn Snapshot) -> Result<String> {
    find_one(word, snapshot)?.ok_or_else(|| none(word, snapshot))
}

/// The chats of that id, of that session's name, of that contact's name.
type Found = [Vec<String>; 3];

fn matches<'w>(words: &BTreeSet<&'w str>, snapshot: &dyn Snapshot) -> Result<BTreeMap<&'w str, Found>> {
    let mut matches: BTreeMap<&str, Found> = words.iter().map(|word| (*word, Found::default())).collect();
    snapshot.find(&[Key::Id, Key::SessionName, Key::ContactName], words, &mut |entry| {
        let chat = &entry.chat;
        let names = [Some(&chat.id), chat.session_name.as_ref(), chat.contact_name.as_ref()];
        for (rank, name) in names.into_iter().enumerate() {
            if let Some(found) = name.and_then(|name| matches.get_mut(name.as_ref())) {
                found[rank].push(chat.id.clone().into_owned());
            }
        }
    })?;
    Ok(matches)
}

fn only(word: &str, found: Found) -> Result<Option<String>> {
    let mut strongest = found.into_iter().find(|ids| !ids.is_empty()).unwrap_or_default();
    if strongest.len() > 1 {
        return Err(ambiguous(word, &strongest));
    }
    Ok(strongest.pop())
}

/// That a word is the name of several chats.
pub(crate) fn ambiguous(word: &str, chats: &[String]) -> Error {
    let chats = chats.iter().map(|chat| Foreign::from(chat.as_str())).collect();
    PlanProblem::AmbiguousChat { word: quoted(word), chats }.into()
}

fn none(word: &str, snapshot: &dyn Snapshot) -> Error {
    let near = match nearest(word, snapshot) {
        Ok(near) => near,
        Err(error) => return error,
    };
    let near = near.as_deref().map(quoted);
    PlanProblem::UnknownChat { word: quoted(word), registry: snapshot.name().into(), near }.into()
}

/// A word as it was typed, in quotes: it may have spaces.
fn quoted(word: &str) -> Foreign {
    format!("{word:?}").into()
}

/// The id or name of a chat in the registry that this word is most like, if it is like one.
///
/// # Errors
/// What is wrong with the registry.
pub fn nearest(word: &str, snapshot: &dyn Snapshot) -> Result<Option<String>> {
    let mut nearest = suggest::Nearest::to(word);
    snapshot.each(&mut |Entry { chat, .. }| {
        let names = [Some(&chat.id), chat.session_name.as_ref(), chat.contact_name.as_ref()];
        names.into_iter().flatten().for_each(|name| nearest.look_at(name));
    })?;
    Ok(nearest.found())
}
