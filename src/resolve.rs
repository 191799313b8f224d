//! Which model a chat should run on. One list of what could speak of it, in order of precedence; the first that does
//! decides.

use std::iter;

use jiff::Zoned;

use crate::chat::{Chat, Model};
use crate::policy::{Because, Choice, Condition, Existing, Override, Policy, Rule, Setting, Until};

/// What would decide a chat's model if nothing before it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// The model; `None` where the chat is to be left alone.
    pub model: Option<&'p Model>,
    /// What speaks, and where it stands.
    pub because: &'p Because,
    /// When it ends.
    pub until: Option<&'p Until>,
    /// What counts then, where the override says so.
    pub then: Option<&'p Model>,
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
    /// What was set by hand would be kept, but this was not.
    NotByHand(&'p Because),
    /// A condition of the rule does not hold.
    Unmet(&'p Rule, Condition),
}

/// What the registry says of a chat's model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Current<'e> {
    /// The model; `None` where it has none.
    pub model: Option<&'e str>,
    /// Whether it was set by hand, which only counts where the policy keeps that.
    pub by_hand: bool,
}

impl<'e> From<Option<&'e str>> for Current<'e> {
    fn from(model: Option<&'e str>) -> Self {
        Self { model, by_hand: false }
    }
}

/// Why a chat is left alone whose model was set by hand.
pub(crate) const SET_BY_HAND: &str = "set by hand: kept";

impl<'p> Candidate<'p> {
    /// What it says, if it speaks.
    pub fn spoken(self) -> Option<Decision<'p>> {
        match self {
            Self::Speaks(decision) => Some(decision),
            Self::Over(..) | Self::NothingToKeep(_) | Self::NotByHand(_) | Self::Unmet(..) => None,
        }
    }
}

impl<'p> From<&'p Choice> for Decision<'p> {
    fn from(choice: &'p Choice) -> Self {
        Self { model: Some(&choice.model), because: &choice.because, until: None, then: None, reason: None }
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

/// Everything that could speak of the chat, strongest first: its override, then the [`defaults`].
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
    let then = entry.and_then(|entry| Some((entry.then.as_ref()?, &entry.because))).filter(|_| ended.is_some());
    let then = then.map(|(model, because)| {
        Candidate::Speaks(Decision { model: Some(model), because, until: None, then: None, reason: None })
    });
    overriding.into_iter().chain(then).chain(defaults(policy, chat, current))
}

/// Everything that could speak of the chat besides an override, strongest first: what the registry holds (where the policy
/// keeps that), every rule, the chat's tier, and the fallback, which always speaks.
pub fn defaults<'p>(policy: &'p Policy, chat: &Chat, current: Current) -> impl Iterator<Item = Candidate<'p>> {
    kept(policy, chat, current).into_iter().chain(written(policy, chat))
}

/// What the policy says of the model that the registry holds, if it keeps any.
fn kept<'p>(policy: &'p Policy, chat: &Chat, current: Current) -> Option<Candidate<'p>> {
    let existing = current.model.map(|model| policy.canonical(model));
    match &policy.existing {
        Existing::Replace => None,
        Existing::Keep(because) => {
            let allowed = policy.allowed.iter().find(|allowed| existing == Some(allowed.as_str()));
            let kept =
                allowed.map(|model| Decision { model: Some(model), because, until: None, then: None, reason: None });
            Some(kept.map_or(Candidate::NothingToKeep(because), Candidate::Speaks))
        }
        Existing::KeepManual(because) => {
            let is_kept = current.by_hand && existing != first(policy, written(policy, chat)).model.map(Model::as_str);
            let kept = Decision { model: None, because, until: None, then: None, reason: Some(SET_BY_HAND) };
            Some(if is_kept { Candidate::Speaks(kept) } else { Candidate::NotByHand(because) })
        }
    }
}

/// What the policy itself says of a chat that has no override.
fn written<'p>(policy: &'p Policy, chat: &Chat) -> impl Iterator<Item = Candidate<'p>> {
    let rules = policy.rules.iter().map(|rule| match rule.unmet(chat) {
        Some(condition) => Candidate::Unmet(rule, condition),
        None => Candidate::Speaks((&rule.choice).into()),
    });
    let tier = chat.tier.as_deref().and_then(|tier| policy.tiers.get(tier));
    let always = tier.into_iter().chain(iter::once(&policy.fallback));
    rules.chain(always.map(|choice| Candidate::Speaks(choice.into())))
}

/// The decision on a chat: what the first candidate says that speaks. Instead of a model that has been withdrawn by then,
/// it is what has taken its place.
pub fn resolve<'p>(policy: &'p Policy, chat: &Chat, current: Current, now: &Zoned) -> Decision<'p> {
    let decision = first(policy, candidates(policy, chat, current, now));
    Decision { model: decision.model.map(|model| policy.in_use(model, now)), ..decision }
}

/// The decision that there would be without an override.
pub fn resolve_default<'p>(policy: &'p Policy, chat: &Chat, current: Current) -> Decision<'p> {
    first(policy, defaults(policy, chat, current))
}

fn first<'p>(policy: &'p Policy, mut candidates: impl Iterator<Item = Candidate<'p>>) -> Decision<'p> {
    candidates.find_map(Candidate::spoken).unwrap_or_else(|| (&policy.fallback).into())
}
