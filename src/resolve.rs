//! Which model a chat should run on. One list of what could speak of it, in order of precedence; the first that does
//! decides.

use std::iter;

use jiff::Zoned;

use crate::chat::{Chat, Model};
use crate::policy::{Because, Choice, Condition, Override, Policy, Rule, Setting, Until};

/// What would decide a chat's model if nothing before it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// The model; `None` where the chat is to be left alone.
    pub model: Option<&'p Model>,
    /// What speaks, and where it stands.
    pub because: &'p Because,
    /// When it ends.
    pub until: Option<&'p Until>,
    /// Why, in the words of the policy.
    pub reason: Option<&'p str>,
}

/// Something in a policy that could speak of a chat.
#[derive(Clone, Copy, Debug)]
pub enum Candidate<'p> {
    /// It does.
    Speaks(Decision<'p>),
    /// The override was for a time, and that is over.
    Over(Decision<'p>, &'p Until),
    /// What the registry holds would be kept, but that is no allowed model.
    NothingToKeep(&'p Because),
    /// A condition of the rule does not hold.
    Unmet(&'p Rule, Condition),
}

impl<'p> Candidate<'p> {
    /// What it says, if it speaks.
    pub fn spoken(self) -> Option<Decision<'p>> {
        match self {
            Self::Speaks(decision) => Some(decision),
            Self::Over(..) | Self::NothingToKeep(_) | Self::Unmet(..) => None,
        }
    }
}

impl<'p> From<&'p Choice> for Decision<'p> {
    fn from(choice: &'p Choice) -> Self {
        Self { model: Some(&choice.model), because: &choice.because, until: None, reason: None }
    }
}

impl<'p> From<&'p Override> for Decision<'p> {
    fn from(entry: &'p Override) -> Self {
        let model = match &entry.setting {
            Setting::Model(model) => Some(model),
            Setting::Unmanaged => None,
        };
        Self { model, because: &entry.because, until: entry.until.as_ref(), reason: entry.reason.as_deref() }
    }
}

/// Everything that could speak of the chat, strongest first: its override, then the [`defaults`].
pub fn candidates<'p>(
    policy: &'p Policy,
    chat: &Chat,
    existing: Option<&str>,
    now: &Zoned,
) -> impl Iterator<Item = Candidate<'p>> {
    let entry = policy.override_of(&chat.id);
    let overriding = entry.map(|entry| match entry.until.as_ref().filter(|until| until.is_past(now)) {
        Some(until) => Candidate::Over(entry.into(), until),
        None => Candidate::Speaks(entry.into()),
    });
    overriding.into_iter().chain(defaults(policy, chat, existing))
}

/// The same without overrides: what the registry holds (where the policy keeps that), every rule, the chat's tier, and
/// the fallback, which always speaks.
pub fn defaults<'p>(policy: &'p Policy, chat: &Chat, existing: Option<&str>) -> impl Iterator<Item = Candidate<'p>> {
    let kept = policy.keep_existing.as_ref().map(|because| {
        let existing = existing.map(|existing| policy.canonical(existing));
        match policy.allowed.iter().find(|allowed| existing == Some(allowed.as_str())) {
            Some(model) => Candidate::Speaks(Decision { model: Some(model), because, until: None, reason: None }),
            None => Candidate::NothingToKeep(because),
        }
    });
    let rules = policy.rules.iter().map(|rule| match rule.unmet(chat) {
        Some(condition) => Candidate::Unmet(rule, condition),
        None => Candidate::Speaks((&rule.choice).into()),
    });
    let tier = chat.tier.as_deref().and_then(|tier| policy.tiers.get(tier));
    let always = tier.into_iter().chain(iter::once(&policy.fallback));
    kept.into_iter().chain(rules).chain(always.map(|choice| Candidate::Speaks(choice.into())))
}

/// The decision on a chat: what the first candidate says that speaks. Instead of a model that has been withdrawn by then,
/// it is what has taken its place.
pub fn resolve<'p>(policy: &'p Policy, chat: &Chat, existing: Option<&str>, now: &Zoned) -> Decision<'p> {
    let decision = first(policy, candidates(policy, chat, existing, now));
    Decision { model: decision.model.map(|model| policy.in_use(model, now)), ..decision }
}

/// The decision that there would be without an override.
pub fn resolve_default<'p>(policy: &'p Policy, chat: &Chat, existing: Option<&str>) -> Decision<'p> {
    first(policy, defaults(policy, chat, existing))
}

fn first<'p>(policy: &'p Policy, mut candidates: impl Iterator<Item = Candidate<'p>>) -> Decision<'p> {
    candidates.find_map(Candidate::spoken).unwrap_or_else(|| (&policy.fallback).into())
}
