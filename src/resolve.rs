//! Which model a chat should run on. Everything that could decide it is one list of candidates in order of precedence, and the
//! first candidate that applies decides.

use std::iter;

use jiff::Zoned;

use crate::chat::{Chat, Model};
use crate::policy::{Because, Choice, Condition, Existing, Override, Policy, Rule, Setting, Until};

/// The model for a chat, and the part of the policy that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// The model; `None` where the chat is to be left alone.
    pub model: Option<&'p Model>,
    /// The part of the policy that decides: its name, its file and its line.
    pub because: &'p Because,
    /// When the override ends, if it is one that ends.
    pub until: Option<&'p Until>,
    /// The override's model after `until`, if it has one.
    pub then: Option<&'p Model>,
    /// The reason that the override gives.
    pub reason: Option<&'p str>,
}

/// A part of a policy that could decide a chat's model.
#[derive(Clone, Copy, Debug)]
pub enum Candidate<'p> {
    /// It applies to the chat.
    Speaks(Decision<'p>),
    /// The override has ended, and when it did.
    Over(Decision<'p>, &'p Until),
    /// `existing = "keep"` does not apply: the registry has no model for the chat, or one that is not allowed.
    NothingToKeep(&'p Because),
    /// `existing = "keep-manual"` does not apply: the chat's model was not set by hand.
    NotByHand(&'p Because),
    /// The rule does not apply, because of this condition.
    Unmet(&'p Rule, Condition),
}

/// What the registry says of a chat's model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Current<'e> {
    /// The model; `None` where the chat has none.
    pub model: Option<&'e str>,
    /// Whether the model was set by hand. Only used with `existing = "keep-manual"`.
    pub by_hand: bool,
}

impl<'e> From<Option<&'e str>> for Current<'e> {
    fn from(model: Option<&'e str>) -> Self {
        Self { model, by_hand: false }
    }
}

/// The reason of a decision to leave a chat alone because its model was set by hand.
pub(crate) const SET_BY_HAND: &str = "set by hand: kept";

impl<'p> Decision<'p> {
    /// This model, without an end and without a reason.
    fn of_model(model: &'p Model, because: &'p Because) -> Self {
        Self { model: Some(model), because, until: None, then: None, reason: None }
    }
}

impl<'p> Candidate<'p> {
    /// The decision, if the candidate applies to the chat.
    pub fn spoken(self) -> Option<Decision<'p>> {
        match self {
            Self::Speaks(decision) => Some(decision),
            Self::Over(..) | Self::NothingToKeep(_) | Self::NotByHand(_) | Self::Unmet(..) => None,
        }
    }
}

impl<'p> From<&'p Choice> for Decision<'p> {
    fn from(choice: &'p Choice) -> Self {
        Self::of_model(&choice.model, &choice.because)
    }
}

impl<'p> From<&'p Override> for Decision<'p> {
    fn from(entry: &'p Override) -> Self {
        let model = match &entry.setting {
            Setting::Model(model) => Some(model),
            Setting::Unmanaged => None,
        };
        let (until, then) = (entry.until.as_ref(), entry.then.as_ref());
        Self { model, because: &entry.because, until, then, reason: entry.reason.as_deref() }
    }
}

/// Everything that could decide the chat's model, strongest first: its override, then the [`defaults`].
pub fn candidates<'p>(
    policy: &'p Policy,
    chat: &Chat,
    current: Current,
    now: &Zoned,
) -> impl Iterator<Item = Candidate<'p>> {
    let entry = policy.override_of(&chat.id);
    let ended = entry.and_then(|entry| entry.ended(now));
    let overriding = entry.map(|entry| match ended {
        Some(until) => Candidate::Over(entry.into(), until),
        None => Candidate::Speaks(entry.into()),
    });
    let after_end = entry.filter(|_| ended.is_some());
    let then = after_end.and_then(|entry| {
        let model = entry.then.as_ref()?;
        Some(Candidate::Speaks(Decision::of_model(model, &entry.because)))
    });
    overriding.into_iter().chain(then).chain(defaults(policy, chat, current))
}

/// Everything besides an override that could decide the chat's model, strongest first: the model that the registry has (where
/// the policy keeps that), every rule, the chat's tier, and the fallback, which always applies.
pub fn defaults<'p>(policy: &'p Policy, chat: &Chat, current: Current) -> impl Iterator<Item = Candidate<'p>> {
    kept(policy, chat, current).into_iter().chain(written(policy, chat))
}

/// The candidate of `registry.existing`; `None` where existing models are replaced.
fn kept<'p>(policy: &'p Policy, chat: &Chat, current: Current) -> Option<Candidate<'p>> {
    let existing = current.model.map(|model| policy.canonical(model));
    match &policy.existing {
        Existing::Replace => None,
        Existing::Keep(because) => {
            let allowed = policy.allowed.iter().find(|allowed| existing == Some(allowed.as_str()));
            let kept = allowed.map(|model| Decision::of_model(model, because));
            Some(kept.map_or(Candidate::NothingToKeep(because), Candidate::Speaks))
        }
        Existing::KeepManual(because) => {
            let is_kept = current.by_hand && existing != first(policy, written(policy, chat)).model.map(Model::as_str);
            let kept = Decision { model: None, because, until: None, then: None, reason: Some(SET_BY_HAND) };
            Some(if is_kept { Candidate::Speaks(kept) } else { Candidate::NotByHand(because) })
        }
    }
}

/// The rules, the chat's tier and the fallback.
fn written<'p>(policy: &'p Policy, chat: &Chat) -> impl Iterator<Item = Candidate<'p>> {
    let rules = policy.rules.iter().map(|rule| match rule.unmet(chat) {
        Some(condition) => Candidate::Unmet(rule, condition),
        None => Candidate::Speaks((&rule.choice).into()),
    });
    let tier = chat.tier.as_deref().and_then(|tier| policy.tiers.get(tier));
    let always = tier.into_iter().chain(iter::once(&policy.fallback));
    rules.chain(always.map(|choice| Candidate::Speaks(choice.into())))
}

/// The decision on a chat: that of the first candidate that applies. A model that has been withdrawn by `now` is replaced by its
/// replacement.
pub fn resolve<'p>(policy: &'p Policy, chat: &Chat, current: Current, now: &Zoned) -> Decision<'p> {
    let decision = first(policy, candidates(policy, chat, current, now));
    Decision { model: decision.model.map(|model| policy.in_use(model, now)), ..decision }
}

/// The decision on a chat as if it had no override. Models that were withdrawn are not replaced.
pub fn resolve_default<'p>(policy: &'p Policy, chat: &Chat, current: Current) -> Decision<'p> {
    first(policy, defaults(policy, chat, current))
}

/// The decision of the first candidate that applies. The fallback always does.
fn first<'p>(policy: &'p Policy, mut candidates: impl Iterator<Item = Candidate<'p>>) -> Decision<'p> {
    candidates.find_map(Candidate::spoken).unwrap_or_else(|| (&policy.fallback).into())
}
