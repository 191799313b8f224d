//! Which model a chat should run on. One list of candidates in order of precedence; the first decides.

use std::iter;

use jiff::Zoned;

use crate::chat::{Chat, Model};
use crate::policy::{Because, Override, Policy, Setting};

/// Something that speaks of a chat, and would decide its model if nothing before it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// The model; `None` where the chat is to be left alone.
    pub model: Option<&'p Model>,
    /// What speaks, and where it stands.
    pub because: &'p Because,
    /// Why, in the words of whoever wrote the policy.
    pub reason: Option<&'p str>,
}

/// Everything that speaks of the chat, strongest first: override, what the registry holds (where the policy keeps
/// that), rules, tier, fallback. There is always at least one.
pub fn candidates<'p>(
    policy: &'p Policy,
    chat: &Chat,
    existing: Option<&str>,
    now: &Zoned,
) -> impl Iterator<Item = Decision<'p>> {
    let over = |entry: &Override| entry.until.as_ref().is_some_and(|until| until.is_past(now));
    let chosen = policy.chats.get(chat.id.as_ref()).filter(|entry| !over(entry)).map(|entry| Decision {
        model: match &entry.setting {
            Setting::Model(model) => Some(model),
            Setting::Unmanaged => None,
        },
        because: &entry.because,
        reason: entry.reason.as_deref(),
    });
    let kept = policy.keep_existing.as_ref().and_then(|because| {
        let existing = policy.canonical(existing?);
        let model = policy.allowed.iter().find(|allowed| allowed.as_str() == existing)?;
        Some(Decision { model: Some(model), because, reason: None })
    });
    let rules = policy.rules.iter().filter(|rule| rule.matches(chat)).map(|rule| &rule.choice);
    let tier = chat.tier.as_deref().and_then(|tier| policy.tiers.get(tier));
    let defaults = rules.chain(tier).chain(iter::once(&policy.fallback));
    let defaults =
        defaults.map(|choice| Decision { model: Some(&choice.model), because: &choice.because, reason: None });
    chosen.into_iter().chain(kept).chain(defaults)
}

/// The decision on a chat: the first candidate.
pub fn resolve<'p>(policy: &'p Policy, chat: &Chat, existing: Option<&str>, now: &Zoned) -> Decision<'p> {
    let fallback = Decision { model: Some(&policy.fallback.model), because: &policy.fallback.because, reason: None };
    candidates(policy, chat, existing, now).next().unwrap_or(fallback)
}
