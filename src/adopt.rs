//! From a registry to the policy that describes it as it is: what most chats of a tier run on is the tier's model, and
//! the others are exceptions.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::chat::{Chat, Model};
use crate::error::Result;
use crate::registry::Snapshot;

/// The content of a policy under which no entry with a model changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Every model of the registry whose name a policy can hold: `models.allowed`.
    pub allowed: BTreeSet<Model>,
    /// For chats without a tier, and for tiers in which no chat has a model: `models.fallback`. `None` where no entry has a
    /// model.
    pub fallback: Option<Model>,
    /// The model that most chats of each tier have, by tier.
    pub tiers: BTreeMap<String, Model>,
    /// The chats that need an override or a comment, by chat id.
    pub chats: BTreeMap<String, Exception>,
}

/// A chat that its tier's model does not describe.
#[derive(Debug, PartialEq, Eq)]
pub struct Exception {
    /// The name of its contact or group.
    pub name: Option<String>,
    /// Why it is an exception.
    pub kind: Kind,
}

/// Why a chat is an exception.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has this model, which is not its tier's.
    Differs(Model),
    /// Its model has a name that no policy can hold.
    Undeclarable,
    /// It has no model, and the policy would give it this one; `None` where no chat has a model.
    Unset(Option<Model>),
}

/// What is kept of an entry until all entries are known.
struct Seen {
    tier: Option<String>,
    model: Held,
    name: Option<String>,
}

/// The model that an entry has.
enum Held {
    Nothing,
    /// A model that a policy can name.
    Named(Model),
    /// A model whose name no policy can hold.
    Undeclarable,
}

/// How many chats have each model.
type Votes = BTreeMap<Model, usize>;

/// The policy that describes a registry.
///
/// # Errors
/// What is wrong with the registry.
pub fn adopt(snapshot: &dyn Snapshot) -> Result<Adopted> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut all = Votes::new();
    let mut votes: BTreeMap<Option<String>, Votes> = BTreeMap::new();
    snapshot.each(&mut |entry| {
        let own = |text: Option<Cow<str>>| text.map(Cow::into_owned);
        let Chat { id, tier, contact_name, .. } = entry.chat;
        let tier = own(tier);
        let model = match entry.model.as_deref() {
            None => Held::Nothing,
            Some(name) => Model::declarable(name).map_or(Held::Undeclarable, Held::Named),
        };
        if let Held::Named(model) = &model {
            *all.entry(model.clone()).or_default() += 1;
            *votes.entry(tier.clone()).or_default().entry(model.clone()).or_default() += 1;
        }
        seen.insert(id.into_owned(), Seen { tier, model, name: own(contact_name) });
    })?;

    let tierless = votes.remove(&None);
    let fallback = tierless.as_ref().and_then(|votes| majority(votes, &all)).or_else(|| majority(&all, &all));
    let elected: BTreeMap<String, Model> =
        votes.into_iter().filter_map(|(tier, votes)| Some((tier?, majority(&votes, &all)?))).collect();
    let mut adopted = Adopted { allowed: all.into_keys().collect(), fallback, tiers: elected, chats: BTreeMap::new() };
    for (id, Seen { tier, model, name }) in seen {
        if let Some(kind) = adopted.exception(tier.as_deref(), model) {
            adopted.chats.insert(id, Exception { name, kind });
        }
    }
    Ok(adopted)
}

impl Adopted {
    fn exception(&self, tier: Option<&str>, held: Held) -> Option<Kind> {
        let default = tier.and_then(|tier| self.tiers.get(tier)).or(self.fallback.as_ref());
        match held {
            Held::Nothing => Some(Kind::Unset(default.cloned())),
            Held::Undeclarable => Some(Kind::Undeclarable),
            Held::Named(model) => (default != Some(&model)).then_some(Kind::Differs(model)),
        }
    }
}

/// The model with the most votes. A tie goes to the model with the most votes of `all`, then to the first by name.
fn majority(votes: &Votes, all: &Votes) -> Option<Model> {
    let rank = |(model, count): &(&Model, &usize)| (**count, all.get(model).copied(), Reverse((*model).clone()));
    votes.iter().max_by_key(rank).map(|(model, _)| model.clone())
}
