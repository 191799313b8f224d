//! The desired state, as declared: which model each chat should run on, and how to get there.
//!
//! A [`Policy`] exists only where every part of it is valid; [`read()`] is the one way to make one.

mod assign;
mod chats;
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
mod until;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Range;
use std::sync::Arc;

use jiff::{SignedDuration, Zoned, civil};

use crate::chat::{Chat, Model};
use crate::diagnostic::Place;
use crate::file_name::FileName;
use crate::form::Form;

pub use assign::{Assignment, Member, Who};
pub use glob::Glob;
pub use outline::{Certainty, Outline, outline};
pub use read::{read, zone_advice};
pub use rollout::Rollout;
pub use sessions::{BackendSettings, DispatchSettings, FileSettings, OpenclawSettings};
pub use sessions::{SUGGESTED, Sessions, Suggestion, TokenSource};
pub use source::{Commit, Source};
pub use table::{Column, Columns, Table};
pub use until::Until;

/// The default of `limits.max_changes` is the larger of this many changes…
const DEFAULT_CHANGES: usize = 10;
/// …and this share of all sessions, in percent.
const DEFAULT_PERCENT: usize = 30;

/// The clocks of two time zones differ by at most this much.
const ZONES_DIFFER_BY: SignedDuration = SignedDuration::from_hours(26);

/// A valid policy.
#[derive(Debug)]
pub struct Policy {
    /// `models.allowed`, and the models of `models.retired`: every model that the policy may name.
    pub allowed: BTreeSet<Model>,
    /// `models.time_zone`: the name of the time zone for dates and times without an offset, instead of the host's.
    pub time_zone: Option<String>,
    /// `models.retired`: the models that are withdrawn. The policy may still name them until it is updated.
    pub retired: BTreeMap<Model, Retirement>,
    /// `models.aliases`: other spellings of models in a registry, each with the model that it stands for.
    pub aliases: BTreeMap<String, Model>,
    /// `models.fallback`: decides on chats that nothing else decides on.
    pub fallback: Choice,
    /// `[tiers]`: the model of each tier.
    pub tiers: BTreeMap<String, Choice>,
    /// `[[assign]]`: give tiers to chats that have none in the registry. The first that names a chat counts.
    pub assignments: Vec<Assignment>,
    /// `[[rules]]`: the first that matches a chat decides.
    pub rules: Vec<Rule>,
    /// `[chats]`: overrides by chat id. They win over everything else.
    pub chats: BTreeMap<String, Override>,
    /// `was` in `[chats]`: the chat's present id, by each id that it had before.
    pub former: BTreeMap<String, String>,
    /// The policy's tiers by their pseudonyms, for a redacted snapshot: it has pseudonyms of the tiers that no policy declared
    /// when it was made. Empty for a registry that is not redacted.
    pub redacted_tiers: BTreeMap<String, String>,
    /// The keys of `models.aliases` and `[chats]` that look like globs, but are exact names.
    pub globs_in_keys: Vec<Because>,
    /// `registry.path`, as written.
    pub registry: Option<String>,
    /// `registry.key` and `registry.shape`.
    pub form: Form,
    /// `registry.postgres`, `registry.table` and `registry.columns`, where the registry is a table.
    pub table: Option<Table>,
    /// `registry.existing`: what happens to models that the registry has.
    pub existing: Existing,
    /// `[sessions]`: where models are kept, and how sessions are restarted on them.
    pub sessions: Sessions,
    /// `[rollout]`: how a run moves sessions to another model.
    pub rollout: Rollout,
    /// `limits.max_changes`: how many changes one run may make; without it, see [`Policy::limit`].
    pub max_changes: Option<usize>,
    /// `limits.batch`: how many rows are committed together.
    pub batch: Option<usize>,
}

/// What happens to models that the registry has, and where the policy says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// They are replaced by what the policy decides.
    #[default]
    Replace,
    /// Allowed models win over rules, tiers and fallback.
    Keep(Because),
    /// Models that were set by hand stay, and their chats are left alone.
    KeepManual(Because),
}

impl Existing {
    /// Where the policy says so; `None` where the models are replaced.
    pub fn because(&self) -> Option<&Because> {
        match self {
            Self::Replace => None,
            Self::Keep(because) | Self::KeepManual(because) => Some(because),
        }
    }

    /// Whether models that were set by hand stay. Only then do runs remember what each chat was last given.
    pub(crate) fn keeps_manual(&self) -> bool {
        matches!(self, Self::KeepManual(_))
    }
}

/// A model, and the part of the policy that chooses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The model.
    pub model: Model,
    /// The part of the policy that chooses it.
    pub because: Because,
}

/// A part of a policy: its name, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// Its name: `chats."ID"`, `rules[0]`, `tiers.NAME`, `models.fallback` or `registry.existing`.
    pub rule: String,
    /// Where it stands.
    pub at: At,
}

/// A place in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The file.
    pub file: Arc<FileName>,
    /// The number of the line, counted from 1.
    pub line: usize,
    span: Span,
}

/// A range of a file, in bytes. Half the size of a `Range<usize>`, because there is one for every override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl At {
    /// A place outside any policy, such as `command line`.
    pub fn elsewhere(name: &'static str) -> Self {
        Self { file: FileName::by_path(name).into(), line: 1, span: Span { start: 0, end: 0 } }
    }

    /// A range of a file, in bytes, that begins in this line.
    fn new(file: Arc<FileName>, line: usize, span: Range<usize>) -> Self {
        let short = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file, line, span: Span { start: short(span.start), end: short(span.end) } }
    }

    /// The comment at the end of its line, without the `#` and the blanks around it.
    pub(crate) fn comment<'s>(&self, sources: &'s [Source]) -> Option<&'s str> {
        let text = &sources.iter().find(|source| source.name == self.file)?.text;
        let line = text.get(self.span.start as usize..)?.lines().next()?;
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

    /// What places are sorted by: the file, then the offset of the first byte. It also identifies the place.
    pub(crate) fn order(&self) -> (&OsStr, u32) {
        (self.file.path().as_os_str(), self.span.start)
    }

    /// This place with a copy of its line. `sources` are the files that the policy was read from.
    pub fn place(&self, sources: &[Source]) -> Place {
        let Span { start, end } = self.span;
        let text = sources.iter().find(|source| source.name == self.file).map_or("", |source| &source.text);
        Place::new(self.file.shown().raw(), text, start as usize..end as usize)
    }
}

/// One `[[rules]]` entry. It has at least one condition, and matches a chat that meets all of them.
#[derive(Debug)]
pub struct Rule {
    /// The conditions other than `chat`, each with its values. A chat meets a condition that has its value.
    pub values: BTreeMap<Condition, Vec<String>>,
    /// The condition `chat`: globs, one of which must match the chat id.
    pub chat: Option<Vec<Glob>>,
    /// The model of the chats that it matches.
    pub choice: Choice,
    /// Where it begins.
    pub start: At,
}

/// A condition that a rule can have, on one field of the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// On the service that the chat is on, such as `discord`.
    Source,
    /// On the chat's tier.
    Tier,
    /// On whether the chat is with one person or a group.
    Type,
    /// On the agent that answers the chat.
    Agent,
    /// On the account of ours through which the chat comes.
    Account,
    /// On the chat id.
    Chat,
}

impl Condition {
    /// The conditions that list values, in the order in which rules are compared with chats: all but `chat`.
    pub const ON_VALUES: [Self; 5] = [Self::Source, Self::Tier, Self::Type, Self::Agent, Self::Account];

    /// Its key in a rule.
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

    /// The field of a chat that the condition is on; `None` where the chat has no value.
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
    /// Whether the chat meets all conditions.
    pub fn matches(&self, chat: &Chat) -> bool {
        self.unmet(chat).is_none()
    }

    /// The first condition that the chat does not meet.
    pub(crate) fn unmet(&self, chat: &Chat) -> Option<Condition> {
        for (condition, wanted) in &self.values {
            let value = condition.of(chat);
            if !value.is_some_and(|value| wanted.iter().any(|wanted| wanted == value)) {
                return Some(*condition);
            }
        }
        (!self.allows(&chat.id)).then_some(Condition::Chat)
    }

    /// The globs of its condition `chat`; none where it has no such condition.
    pub fn globs(&self) -> &[Glob] {
        self.chat.as_deref().unwrap_or_default()
    }

    /// Whether `chat` is its only condition, so that it matches every chat whose id it allows.
    pub(crate) fn needs_no_more(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether this chat id meets its condition `chat`. Any id does where it has no such condition.
    pub(crate) fn allows(&self, id: &str) -> bool {
        self.chat.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(id)))
    }
}

/// One entry of `models.retired`: when a model is withdrawn, and which model replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// The first day on which the model is not used, in the policy's time zone.
    pub on: civil::Date,
    /// The model that is used instead.
    pub replacement: Model,
    /// Its name and where it stands.
    pub because: Because,
}

/// One entry of `[chats]`.
#[derive(Debug)]
pub struct Override {
    /// What it sets.
    pub setting: Setting,
    /// When it ends; `None` where it does not.
    pub until: Option<Until>,
    /// The model that it sets once it has ended; without it, it has no effect then.
    pub then: Option<Model>,
    /// Why it is there, for readers.
    pub reason: Option<String>,
    /// The ids that the chat had before.
    pub was: Vec<String>,
    /// Its name and where it stands.
    pub because: Because,
}

impl Override {
    /// The model that it sets without an end: that of `then` where it has an end, else its only one.
    pub(crate) fn permanent(&self) -> Option<&Model> {
        match (&self.until, &self.setting) {
            (None, Setting::Model(model)) => Some(model),
            (None, Setting::Unmanaged) => None,
            (Some(_), _) => self.then.as_ref(),
        }
    }

    /// When it ended, if it has ended at `now`, whose time zone is the policy's.
    pub fn ended(&self, now: &Zoned) -> Option<&Until> {
        self.until.as_ref().filter(|until| until.is_past(now))
    }
}

/// What an override sets.
#[derive(Debug, PartialEq, Eq)]
pub enum Setting {
    /// This model.
    Model(Model),
    /// `managed = false`: the chat is left alone.
    Unmanaged,
}

/// Whether a name looks like a glob.
pub(crate) fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

impl Policy {
    /// How many changes one run may make in a registry of `sessions` sessions.
    pub fn limit(&self, sessions: usize) -> usize {
        let default = || DEFAULT_CHANGES.max(sessions.saturating_mul(DEFAULT_PERCENT) / 100);
        self.max_changes.unwrap_or_else(default)
    }

    /// The model that a registry's value is an alias of, or the value itself.
    pub fn canonical<'a>(&'a self, model: &'a str) -> &'a str {
        self.aliases.get(model).map_or(model, Model::as_str)
    }

    /// The override for a chat, by its id or by one that it had before.
    pub(crate) fn override_of(&self, chat: &str) -> Option<&Override> {
        self.chats.get(chat).or_else(|| self.chats.get(self.former.get(chat)?))
    }

    /// The models that its parts choose, each with the part that names it.
    pub(crate) fn named_models(&self) -> impl Iterator<Item = (&Model, &Because)> {
        let overrides = self.chats.values().filter_map(|entry| match &entry.setting {
            Setting::Model(model) => Some((model, &entry.because)),
            Setting::Unmanaged => None,
        });
        let choices = self.tiers.values().chain([&self.fallback]).chain(self.rules.iter().map(|rule| &rule.choice));
        choices.map(|choice| (&choice.model, &choice.because)).chain(overrides)
    }

    /// Whether the tier is in `[tiers]` or in a condition of a rule.
    pub(crate) fn names_tier(&self, tier: &str) -> bool {
        let asks = |rule: &Rule| {
            rule.values.get(&Condition::Tier).is_some_and(|tiers| tiers.iter().any(|known| known == tier))
        };
        self.tiers.contains_key(tier) || self.rules.iter().any(asks)
    }

    /// Every tier that it declares: in `[tiers]`, in a condition of a rule, or in an assignment.
    pub(crate) fn tier_names(&self) -> BTreeSet<String> {
        let asked = self.rules.iter().filter_map(|rule| rule.values.get(&Condition::Tier)).flatten();
        let assigned = self.assignments.iter().map(|assignment| &assignment.tier);
        self.tiers.keys().chain(asked).chain(assigned).cloned().collect()
    }

    /// The first override in the files whose end depends on the host's time zone. An override that has ended in every time zone
    /// does not count.
    pub(crate) fn first_in_host_zone(&self, now: &Zoned) -> Option<&Override> {
        if self.time_zone.is_some() {
            return None;
        }
        let earliest = now.saturating_sub(ZONES_DIFFER_BY);
        let depends = |until: &Until| until.needs_zone() && !until.is_past(&earliest);
        let entries = self.chats.values().filter(|entry| entry.until.as_ref().is_some_and(depends));
        entries.min_by_key(|entry| entry.because.at.order())
    }

    /// The overrides that have ended at `now` and set nothing any more, by chat id.
    pub(crate) fn expired(&self, now: &Zoned) -> BTreeMap<&str, Expired<'_>> {
        let expired = self.chats.iter().filter_map(|(chat, entry)| {
            let until = entry.ended(now).filter(|_| entry.then.is_none())?;
            Some((chat.as_str(), Expired { entry, until }))
        });
        expired.collect()
    }
}

/// An override that has ended and sets nothing any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expired<'p> {
    /// The override.
    pub(crate) entry: &'p Override,
    /// When it ended.
    pub(crate) until: &'p Until,
}
