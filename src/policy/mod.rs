//! The desired state, as declared: which model each chat should run on, and how to get there.
//!
//! A [`Policy`] exists only where every part of it is valid; [`read()`] is the one way to make one.

mod assign;
mod command;
pub mod conninfo;
pub mod conversation;
mod cover;
pub mod edit;
mod fields;
pub mod fingerprint;
mod glob;
mod outline;
pub mod placeholder;
mod read;
mod redacted;
mod registry;
mod retired;
mod rollout;
pub mod scope;
mod sessions;
mod source;
mod syntax;
mod table;
pub mod template;
pub mod tilde;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::sync::Arc;

use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned, civil};

use crate::chat::{Chat, Model};
use crate::diagnostic::Place;
use crate::file_name::FileName;
use crate::foreign::Sentence;
use crate::form::Form;

pub use assign::{Assignment, Member, Who};
pub use glob::Glob;
pub use outline::{Certainty, Outline, outline};
pub use read::{read, zone_advice};
pub use rollout::Rollout;
pub use sessions::{BackendSettings, DispatchSettings, FileSettings, OpenclawSettings};
pub use sessions::{SUGGESTED, Sessions, TokenSource};
pub use source::{Commit, Source};
pub use table::{Column, Columns, Table};

/// Without a limit in the policy: this many changes…
const LEAST: usize = 10;
/// …or this share of all sessions, in percent, where that is more.
const SHARE: usize = 30;

/// By no more than this do the clocks of two time zones differ.
const ZONES_DIFFER_BY: SignedDuration = SignedDuration::from_hours(26);

/// A valid policy.
#[derive(Debug)]
pub struct Policy {
    /// What it may name.
    pub allowed: BTreeSet<Model>,
    /// `models.time_zone`: the name of the time zone for dates and times without an offset, instead of the host's.
    pub time_zone: Option<String>,
    /// Models that are withdrawn. They are allowed, so that what says them stays valid.
    pub retired: BTreeMap<Model, Retirement>,
    /// Other spellings that a registry may hold, and what they mean.
    pub aliases: BTreeMap<String, Model>,
    /// For chats that nothing else decides.
    pub fallback: Choice,
    /// The default of each tier.
    pub tiers: BTreeMap<String, Choice>,
    /// The first that is for a chat gives it a tier, where the registry tells none.
    pub assignments: Vec<Assignment>,
    /// The first that matches decides.
    pub rules: Vec<Rule>,
    /// Overrides by chat id; they win over everything.
    pub chats: BTreeMap<String, Override>,
    /// The ids that chats with an override had before, and those that they have now.
    pub former: BTreeMap<String, String>,
    /// Its tiers by their pseudonyms, which a redacted snapshot has of those that no policy declared when it was made. Empty
    /// where chats have their own names.
    pub redacted_tiers: BTreeMap<String, String>,
    /// The keys that are written like globs, and stand for themselves: of `models.aliases` and `[chats]`.
    pub globs_in_keys: Vec<Because>,
    /// `registry.path`, as written.
    pub registry: Option<String>,
    /// `registry.key` and `registry.shape`.
    pub form: Form,
    /// `registry.postgres`, `registry.table` and `registry.columns`, where the registry is a table.
    pub table: Option<Table>,
    /// `registry.existing`.
    pub existing: Existing,
    /// Where models are kept, and how sessions come to run on them.
    pub sessions: Sessions,
    /// `[rollout]`.
    pub rollout: Rollout,
    /// `limits.max_changes`.
    pub max_changes: Option<usize>,
    /// `limits.batch`.
    pub batch: Option<usize>,
}

/// What becomes of models that the registry has already, and where the policy says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// They are replaced by what the policy decides.
    #[default]
    Replace,
    /// Those that are allowed win over rules, tiers and fallback.
    Keep(Because),
    /// Those that were set by hand stay; the chat is left alone.
    KeepManual(Because),
}

impl Existing {
    /// Where the policy says so; `None` where it does not, or the models are replaced.
    pub fn because(&self) -> Option<&Because> {
        match self {
            Self::Replace => None,
            Self::Keep(because) | Self::KeepManual(because) => Some(because),
        }
    }

    /// Whether what was set by hand stays, so that runs remember what each chat was last given.
    pub(crate) fn keeps_manual(&self) -> bool {
        matches!(self, Self::KeepManual(_))
    }
}

/// A model, and what decided on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The model.
    pub model: Model,
    /// What decided.
    pub because: Because,
}

/// What decided, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// `chats."ID"`, `rules[0]`, `tiers.NAME`, `models.fallback` or `registry.existing`.
    pub rule: String,
    /// File and line.
    pub at: At,
}

/// A place in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The file: where it lies, and what it is called.
    pub file: Arc<FileName>,
    /// Counted from 1.
    pub line: usize,
    /// The bytes that are meant. Short numbers, because there is one of these for every override.
    span: (u32, u32),
}

impl At {
    /// For what stands in no policy.
    pub fn elsewhere(name: &'static str) -> Self {
        Self { file: FileName::by_path(name).into(), line: 1, span: (0, 0) }
    }

    /// The comment at the end of its line, without the `#` and the blanks around it.
    pub fn comment<'s>(&self, sources: &'s [Source]) -> Option<&'s str> {
        let text = &sources.iter().find(|source| source.name == self.file)?.text;
        let line = text.get(self.span.0 as usize..)?.lines().next()?;
        let mut quote = None;
        let mut is_escaped = false;
        let starts = |(_, letter): &(usize, char)| {
            let was_escaped = std::mem::take(&mut is_escaped);
            match (quote, letter) {
                (None, '#') => return true,
                (None, '"' | '\'') => quote = Some(*letter),
                (Some('"'), '\\') => is_escaped = !was_escaped,
                (Some(open), letter) if *letter == open && !was_escaped => quote = None,
                _ => {}
            }
            false
        };
        let (start, _) = line.char_indices().find(starts)?;
        Some(line[start + 1..].trim()).filter(|comment| !comment.is_empty())
    }

    /// The order of the files, and of what stands in them.
    pub fn order(&self) -> (&OsStr, u32) {
        (self.file.path().as_os_str(), self.span.0)
    }

    /// This place with its line, which is in one of the files that the policy was read from.
    pub fn place(&self, sources: &[Source]) -> Place {
        let (start, end) = self.span;
        let text = sources.iter().find(|source| source.name == self.file).map_or("", |source| &source.text);
        Place::new(self.file.shown().raw(), text, start as usize..end as usize)
    }
}

/// One `[[rules]]` entry. Every condition that it has must hold; it has at least one.
#[derive(Debug)]
pub struct Rule {
    /// The values that meet each of its other conditions.
    pub values: BTreeMap<Condition, Vec<String>>,
    /// Globs, one of which must match the chat id.
    pub chat: Option<Vec<Glob>>,
    /// What follows.
    pub choice: Choice,
    /// Where it begins.
    pub start: At,
}

/// A condition that a rule can have: on a field of the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// On where the chat comes from.
    Source,
    /// On who it is with.
    Tier,
    /// On whether it is a group.
    Type,
    /// On which agent answers it.
    Agent,
    /// On the account of ours that it comes through.
    Account,
    /// On the chat id.
    Chat,
}

impl Condition {
    /// Those that name the values which meet them, in the order in which rules are compared with chats.
    pub const ON_VALUES: [Self; 5] = [Self::Source, Self::Tier, Self::Type, Self::Agent, Self::Account];

    /// Its name in a rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Tier => "tier",
            Self::Type => "type",
            Self::Agent => "agent",
            Self::Account => "account",
            Self::Chat => "chat",
        }
    }

    /// What a chat has there.
    pub fn of<'c>(self, chat: &'c Chat) -> Option<&'c str> {
        match self {
            Self::Source => chat.source.as_deref(),
            Self::Tier => chat.tier.as_deref(),
            Self::Type => chat.kind.as_deref(),
            Self::Agent => chat.agent.as_deref(),
            Self::Account => chat.account.as_deref(),
            Self::Chat => Some(&chat.id),
        }
    }
}

impl Rule {
    /// Whether it speaks of this chat.
    pub fn matches(&self, chat: &Chat) -> bool {
        self.unmet(chat).is_none()
    }

    /// The first of its conditions that does not hold for this chat.
    pub(crate) fn unmet(&self, chat: &Chat) -> Option<Condition> {
        for (condition, wanted) in &self.values {
            let value = condition.of(chat);
            if !value.is_some_and(|value| wanted.iter().any(|wanted| wanted == value)) {
                return Some(*condition);
            }
        }
        (!self.allows(&chat.id)).then_some(Condition::Chat)
    }

    /// The globs of its condition on the chat id.
    pub fn globs(&self) -> &[Glob] {
        self.chat.as_deref().unwrap_or_default()
    }

    /// Whether the chat id alone tells that it matches.
    pub(crate) fn needs_no_more(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether its condition on the chat id holds, where it has one.
    pub fn allows(&self, id: &str) -> bool {
        self.chat.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(id)))
    }
}

/// One entry of `models.retired`: when a model is withdrawn, and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// The first day on which the model is not used, in the policy's time zone.
    pub on: civil::Date,
    /// What is used instead.
    pub replacement: Model,
    /// Where it stands.
    pub because: Because,
}

/// One entry of `[chats]`.
#[derive(Debug)]
pub struct Override {
    /// What it wants.
    pub setting: Setting,
    /// When it ends.
    pub until: Option<Until>,
    /// The model that counts once it has ended; without it, the override counts no longer.
    pub then: Option<Model>,
    /// Why it is there.
    pub reason: Option<String>,
    /// The ids that the chat had before.
    pub was: Vec<String>,
    /// Where it stands.
    pub because: Because,
}

impl Override {
    /// The model that it sets for good: the only one, where it has no end.
    pub fn permanent(&self) -> Option<&Model> {
        match (&self.until, &self.setting) {
            (None, Setting::Model(model)) => Some(model),
            (None, Setting::Unmanaged) => None,
            (Some(_), _) => self.then.as_ref(),
        }
    }

    /// When it ended, if that is over at `now`, whose time zone is the policy's.
    pub fn ended(&self, now: &Zoned) -> Option<&Until> {
        self.until.as_ref().filter(|until| until.is_past(now))
    }
}

/// What an override wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Setting {
    /// This model.
    Model(Model),
    /// That the chat is left alone.
    Unmanaged,
}

/// When an override ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// With the end of this day, in the policy's time zone.
    Date(civil::Date),
    /// At this time, in the policy's time zone.
    Local(civil::DateTime),
    /// At this instant.
    Instant(Timestamp),
}

impl Until {
    /// Whether it is over at `now`, whose time zone is the policy's.
    pub fn is_past(&self, now: &Zoned) -> bool {
        self.end(now.time_zone()).is_some_and(|end| now.timestamp() >= end)
    }

    /// The instant at which it ends in a time zone; `None` where that is after the last one of the calendar.
    ///
    /// It is one instant, so that what has ended stays so, also where a clock is set back and shows a time again.
    pub fn end(&self, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Date(date) => first_instant(date.tomorrow().ok()?.into(), zone),
            Self::Local(time) => first_instant(*time, zone),
            Self::Instant(instant) => Some(*instant),
        }
    }

    /// Whether the time zone has a part in when it ends.
    pub(crate) fn needs_zone(&self) -> bool {
        !matches!(self, Self::Instant(_))
    }
}

/// The first instant at which a clock shows this time or a later one. Of a time that is shown twice, that is the earlier
/// instant; of one that is skipped, the instant at which the clock is set forward.
fn first_instant(time: civil::DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let AmbiguousOffset::Gap { after, .. } = zone.to_ambiguous_timestamp(time).offset() else {
        return zone.to_ambiguous_timestamp(time).earlier().ok();
    };
    // By the offset that counts after the gap, a skipped time lies before it.
    let before_gap = after.to_timestamp(time).ok()?;
    zone.following(before_gap).next().map(|transition| transition.timestamp())
}

/// Whether a name is written like a glob.
pub(crate) fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

impl std::fmt::Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Date(date) => date.fmt(f),
            Self::Local(time) => time.fmt(f),
            Self::Instant(instant) => instant.fmt(f),
        }
    }
}

impl From<&Until> for Sentence {
    fn from(until: &Until) -> Self {
        match until {
            Until::Date(date) => (*date).into(),
            Until::Local(time) => (*time).into(),
            Until::Instant(instant) => (*instant).into(),
        }
    }
}

impl Policy {
    /// How many changes one run may make in a registry of so many sessions.
    pub fn limit(&self, sessions: usize) -> usize {
        self.max_changes.unwrap_or_else(|| LEAST.max(sessions.saturating_mul(SHARE) / 100))
    }

    /// The allowed model that a registry's value stands for, or the value itself.
    pub fn canonical<'a>(&'a self, model: &'a str) -> &'a str {
        self.aliases.get(model).map_or(model, Model::as_str)
    }

    /// The override for a chat, by its id or by one that it had before.
    pub(crate) fn override_of(&self, chat: &str) -> Option<&Override> {
        self.chats.get(chat).or_else(|| self.chats.get(self.former.get(chat)?))
    }

    /// The models that it gives to chats, and what names each.
    pub(crate) fn named_models(&self) -> impl Iterator<Item = (&Model, &Because)> {
        let overrides = self.chats.values().filter_map(|entry| match &entry.setting {
            Setting::Model(model) => Some((model, &entry.because)),
            Setting::Unmanaged => None,
        });
        let choices = self.tiers.values().chain([&self.fallback]).chain(self.rules.iter().map(|rule| &rule.choice));
        choices.map(|choice| (&choice.model, &choice.because)).chain(overrides)
    }

    /// Whether it lists the tier, or a rule asks for it.
    pub(crate) fn names_tier(&self, tier: &str) -> bool {
        let asks = |rule: &Rule| {
            rule.values.get(&Condition::Tier).is_some_and(|tiers| tiers.iter().any(|known| known == tier))
        };
        self.tiers.contains_key(tier) || self.rules.iter().any(asks)
    }

    /// Every tier that it declares: one that it lists, asks for or assigns.
    pub fn tier_names(&self) -> BTreeSet<String> {
        let asked = self.rules.iter().filter_map(|rule| rule.values.get(&Condition::Tier)).flatten();
        let assigned = self.assignments.iter().map(|assignment| &assignment.tier);
        self.tiers.keys().chain(asked).chain(assigned).cloned().collect()
    }

    /// The override that stands first among those whose end depends on the host's time zone. One that is over in every
    /// zone does not count.
    pub(crate) fn first_in_host_zone(&self, now: &Zoned) -> Option<&Override> {
        if self.time_zone.is_some() {
            return None;
        }
        let earliest = now.saturating_sub(ZONES_DIFFER_BY);
        let depends = |until: &Until| until.needs_zone() && !until.is_past(&earliest);
        let entries = self.chats.values().filter(|entry| entry.until.as_ref().is_some_and(depends));
        entries.min_by_key(|entry| entry.because.at.order())
    }

    /// Overrides that are over at `now` and count no longer, with the chats they were for.
    pub fn expired<'a>(&'a self, now: &'a Zoned) -> impl Iterator<Item = (&'a str, &'a Override, &'a Until)> {
        self.chats.iter().filter_map(move |(id, entry)| {
            let until = entry.ended(now).filter(|_| entry.then.is_none())?;
            Some((id.as_str(), entry, until))
        })
    }
}
