//! Which chats a run is about: the CHAT that a user types, and `--chat`, `--tier`, `--exclude`.

use std::collections::{BTreeMap, BTreeSet};

use crate::chat::Chat;
use crate::error::{Error, Result};
use crate::foreign::Foreign;
use crate::plan::problem::PlanProblem;
use crate::policy::Policy;
use crate::registry::{Entry, Key, Snapshot};
use crate::suggest;

/// The chats that a run is about, as the user has written them: chat ids, or names of sessions or contacts.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// The run is about these chats and those of `tiers`. If `chats`, `tiers` and `ids` are empty, it is about all.
    pub chats: Vec<String>,
    /// The run is about the chats of these tiers.
    pub tiers: Vec<String>,
    /// The run is not about these chats, even if they are selected otherwise.
    pub exclude: Vec<String>,
    /// Chats to be tried now, even if they wait for their next try or are held.
    pub retry: Vec<String>,
    /// Whether all chats that have failed are to be tried now.
    pub retry_failed: bool,
    /// Chats whose models are replaced although they were set by hand.
    pub take_over: TakeOver,
    /// Chat ids, each as if it were in `chats`, `retry` and `take_over`. These chats need not be registered.
    pub ids: Vec<String>,
}

/// Chats whose models are replaced although they were set by hand. Only with `existing = "keep-manual"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// These chats, as the user has written them.
    Chats(Vec<String>),
    /// All chats.
    All,
}

impl TakeOver {
    fn words(&self) -> &[String] {
        match self {
            Self::Chats(words) => words,
            Self::All => &[],
        }
    }

    /// Whether it names any chat.
    pub(crate) fn is_asked(&self) -> bool {
        *self != Self::default()
    }
}

impl Default for TakeOver {
    fn default() -> Self {
        Self::Chats(Vec::new())
    }
}

/// The chats that a run is about, by chat id. See [`Selector`] for the fields.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    chats: BTreeSet<String>,
    tiers: BTreeSet<String>,
    exclude: BTreeSet<String>,
    retry: BTreeSet<String>,
    take_over: BTreeSet<String>,
    takes_over_all: bool,
}

impl Selector {
    /// Whether it selects the whole registry.
    pub fn is_complete(&self) -> bool {
        self.chats.is_empty() && self.tiers.is_empty() && self.exclude.is_empty() && self.ids.is_empty()
    }

    /// Looks up the ids of the chats in the registry.
    ///
    /// # Errors
    /// Where no chat, or more than one, has a name; and where neither the policy nor the registry has a tier.
    pub(crate) fn resolve(&self, policy: &Policy, snapshot: &dyn Snapshot) -> Result<Selection> {
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
    /// Adds chats that are to be tried now.
    #[must_use]
    pub(crate) fn retrying(mut self, chats: impl IntoIterator<Item = String>) -> Self {
        self.retry.extend(chats);
        self
    }

    /// Whether it selects the whole registry.
    pub(crate) fn is_complete(&self) -> bool {
        self.chats.is_empty() && self.tiers.is_empty() && self.exclude.is_empty()
    }

    /// Whether the run is about this chat.
    pub fn contains(&self, chat: &Chat) -> bool {
        let everything = self.chats.is_empty() && self.tiers.is_empty();
        let tier = chat.tier.as_deref().is_some_and(|tier| self.tiers.contains(tier));
        (everything || tier || self.chats.contains(chat.id.as_ref())) && !self.exclude.contains(chat.id.as_ref())
    }

    /// Whether this chat's model is replaced although it was set by hand.
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

/// The chat ids that these words stand for, by word: a word is a chat id, or else a session's name, or else a contact's name.
///
/// # Errors
/// Where a word stands for no chat, or for several.
fn find<'w>(words: &BTreeSet<&'w str>, snapshot: &dyn Snapshot) -> Result<BTreeMap<&'w str, String>> {
    if words.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut ids = BTreeMap::new();
    for (word, matches) in matches(words, snapshot)? {
        let id = matches.only(word)?.ok_or_else(|| unknown(word, snapshot))?;
        ids.insert(word, id);
    }
    Ok(ids)
}

/// The chat id that the word stands for; `None` where it stands for no chat.
///
/// # Errors
/// Where it stands for several chats.
pub(crate) fn find_one(word: &str, snapshot: &dyn Snapshot) -> Result<Option<String>> {
    let matches = matches(&BTreeSet::from([word]), snapshot)?.remove(word);
    matches.unwrap_or_default().only(word)
}

/// The chat id that the word stands for.
///
/// # Errors
/// Where it stands for no chat, or for several.
pub(crate) fn find_registered(word: &str, snapshot: &dyn Snapshot) -> Result<String> {
    find_one(word, snapshot)?.ok_or_else(|| unknown(word, snapshot))
}

/// The ids of the chats that one word may stand for.
#[derive(Default)]
struct Matches {
    /// The chat whose id it is.
    id: Vec<String>,
    /// The chats whose session has it for a name.
    session: Vec<String>,
    /// The chats whose contact has it for a name.
    contact: Vec<String>,
}

impl Matches {
    /// The id of the chat that the word stands for: an id wins over a session's name, and that over a contact's.
    ///
    /// # Errors
    /// Where several chats have the name.
    fn only(self, word: &str) -> Result<Option<String>> {
        let Self { id, session, contact } = self;
        let mut ids = [id, session, contact].into_iter().find(|ids| !ids.is_empty()).unwrap_or_default();
        if ids.len() > 1 { Err(ambiguous(word, &ids)) } else { Ok(ids.pop()) }
    }
}

/// The chats that these words may stand for, by word.
fn matches<'w>(words: &BTreeSet<&'w str>, snapshot: &dyn Snapshot) -> Result<BTreeMap<&'w str, Matches>> {
    let mut matches: BTreeMap<&str, Matches> = words.iter().map(|word| (*word, Matches::default())).collect();
    snapshot.find(&[Key::Id, Key::SessionName, Key::ContactName], words, &mut |Entry { chat, .. }| {
        let id = || chat.id.clone().into_owned();
        if let Some(of_word) = matches.get_mut(chat.id.as_ref()) {
            of_word.id.push(id());
        }
        if let Some(of_word) = chat.session_name.as_deref().and_then(|name| matches.get_mut(name)) {
            of_word.session.push(id());
        }
        if let Some(of_word) = chat.contact_name.as_deref().and_then(|name| matches.get_mut(name)) {
            of_word.contact.push(id());
        }
    })?;
    Ok(matches)
}

/// The error for a word that is the name of several chats.
pub(crate) fn ambiguous(word: &str, chats: &[String]) -> Error {
    let chats = chats.iter().map(|chat| Foreign::from(chat.as_str())).collect();
    PlanProblem::AmbiguousChat { word: quoted(word), chats }.into()
}

/// The error for a word that stands for no chat.
fn unknown(word: &str, snapshot: &dyn Snapshot) -> Error {
    let near = match nearest(word, snapshot) {
        Ok(near) => near,
        Err(error) => return error,
    };
    let near = near.as_deref().map(quoted);
    PlanProblem::UnknownChat { word: quoted(word), registry: snapshot.name().into(), near }.into()
}

/// A word in quotes, because it may have spaces.
fn quoted(word: &str) -> Foreign {
    format!("{word:?}").into()
}

/// The id or name of a chat that is most similar to this word, if one is similar.
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
