//! Names that a policy and a registry do not share: overrides for chats that are not registered, rules that match no chat,
//! tiers that the policy does not list. All of it is found in one pass, which is the run's own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use jiff::Zoned;

use crate::chat::Chat;
use crate::policy::{Assignment, At, Because, Member, Override, Policy, Rule, is_glob};
use crate::suggest;

/// Rules that no chat has matched so far are compared with every chat, until it took so many steps: then they are taken
/// to match one.
const PATIENCE: usize = 20_000_000;
/// So many tiers are told apart.
const TIERS: usize = 100;

/// What is known of the names in a policy after some entries of a registry.
#[derive(Debug)]
pub struct Names<'p> {
    policy: &'p Policy,
    /// The overrides of chats that were seen.
    overridden: BTreeSet<(&'p OsStr, u32)>,
    /// The rules that have matched no chat, by index.
    rules: Vec<usize>,
    /// The globs that have matched no chat, of rules that have several: the rule's index, and theirs.
    globs: Vec<(usize, usize)>,
    /// Those whom an assignment is for and who have no chat: its index, and theirs.
    members: Vec<(usize, usize)>,
    /// How many chats have each of the tiers that the policy does not name.
    tiers: BTreeMap<String, usize>,
    patience: usize,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An override is for a chat that is not registered.
    Override,
    /// A rule matches no chat.
    Rule,
    /// One of a rule's globs matches no chat.
    Glob,
    /// No chat is of those whom an assignment is for.
    Member,
    /// The policy does not name a tier of the registry.
    Tier,
    /// A key that stands for one name alone is written like a glob.
    GlobInKey,
}

/// The names of a policy and a registry that are wrong in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unshared {
    /// In which way.
    pub kind: Kind,
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub first: String,
    /// Where it stands in the policy, if it does.
    pub at: Option<At>,
    /// A name that is much like it, if there is one.
    pub near: Option<String>,
}

impl<'p> Names<'p> {
    /// Before the first entry.
    pub fn of(policy: &'p Policy) -> Self {
        let several = |(index, rule): (usize, &Rule)| {
            let globs = rule.chat.as_ref().map_or(0, Vec::len);
            (0..globs).filter(move |_| globs > 1).map(move |glob| (index, glob)).collect::<Vec<_>>()
        };
        Self {
            policy,
            overridden: BTreeSet::new(),
            rules: (0..policy.rules.len()).collect(),
            globs: policy.rules.iter().enumerate().flat_map(several).collect(),
            members: members(policy),
            tiers: BTreeMap::new(),
            patience: PATIENCE,
        }
    }

    /// Takes a chat of the registry, and what decides on it.
    pub fn take(&mut self, chat: &Chat, because: &'p Because) {
        if because.rule.starts_with("chats.") {
            self.overridden.insert(because.at.order());
        }
        if !self.rules.is_empty() || !self.globs.is_empty() || !self.members.is_empty() {
            self.match_rules(chat);
        }
        if let Some(tier) = chat.tier.as_deref()
            && !because.rule.starts_with("tiers.")
            && !self.policy.tiers.is_empty()
            && !self.policy.names_tier(tier)
        {
            if let Some(count) = self.tiers.get_mut(tier) {
                *count += 1;
            } else if self.tiers.len() < TIERS {
                self.tiers.insert(tier.to_owned(), 1);
            }
        }
    }

    fn match_rules(&mut self, chat: &Chat) {
        let rules = &self.policy.rules;
        let assignments = &self.policy.assignments;
        let steps = self.rules.len() + self.globs.len() + self.members.len();
        let Some(patience) = self.patience.checked_sub(steps) else {
            self.rules.clear();
            self.globs.clear();
            self.members.clear();
            return;
        };
        self.patience = patience;
        self.rules.retain(|index| !rules[*index].matches(chat));
        self.globs.retain(|(rule, glob)| !rules[*rule].globs()[*glob].matches(&chat.id));
        self.members.retain(|(assignment, member)| !assignments[*assignment].members[*member].0.is(chat));
    }

    /// What this and another part of the registry have together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let (rules, globs) = (BTreeSet::from_iter(other.rules), BTreeSet::from_iter(other.globs));
        let members = BTreeSet::from_iter(other.members);
        self.members.retain(|member| members.contains(member));
        self.rules.retain(|rule| rules.contains(rule));
        self.globs.retain(|glob| globs.contains(glob));
        self.overridden.extend(other.overridden);
        for (tier, count) in other.tiers {
            *self.tiers.entry(tier).or_default() += count;
        }
        self
    }

    /// The overrides that count at `now` and are for chats that are not registered, with their ids. What is written like a
    /// glob is told of otherwise.
    pub fn overrides(&self, now: &Zoned) -> impl Iterator<Item = (&'p str, &'p Override)> {
        let is_over = |entry: &Override| entry.until.as_ref().is_some_and(|until| until.is_past(now));
        let chats = self
            .policy
            .chats
            .iter()
            .filter(move |(id, entry)| !self.is_registered(entry) && !is_over(entry) && !is_glob(id));
        chats.map(|(id, entry)| (id.as_str(), entry))
    }

    /// Whether the chat of an override that counts is registered.
    pub fn is_registered(&self, entry: &Override) -> bool {
        self.overridden.contains(&entry.because.at.order())
    }

    /// The rules that match no chat.
    pub fn rules(&self) -> impl Iterator<Item = &'p Rule> {
        let policy = self.policy;
        self.rules.iter().filter_map(|index| policy.rules.get(*index))
    }

    /// The globs that match no chat, of rules that match one.
    pub fn globs(&self) -> impl Iterator<Item = (&'p Rule, String)> {
        let policy = self.policy;
        let of_others = self.globs.iter().filter(|(rule, _)| !self.rules.contains(rule));
        of_others.filter_map(|(rule, glob)| {
            let rule = policy.rules.get(*rule)?;
            Some((rule, rule.globs().get(*glob)?.pattern().to_owned()))
        })
    }

    /// Those whom assignments are for and who have no chat, and where they stand.
    pub fn members(&self) -> impl Iterator<Item = (&'p Assignment, &'p Member, &'p At)> {
        let policy = self.policy;
        self.members.iter().filter_map(|(assignment, member)| {
            let assignment = policy.assignments.get(*assignment)?;
            let (member, at) = assignment.members.get(*member)?;
            Some((assignment, member, at))
        })
    }

    /// The tiers that the policy does not name, how many chats have each, and a tier of the policy that is much like it.
    pub fn tiers(&self) -> impl Iterator<Item = (&str, usize, Option<String>)> {
        let known = || self.policy.tiers.keys().map(String::as_str);
        self.tiers.iter().map(move |(tier, count)| (tier.as_str(), *count, suggest::nearest(tier, known())))
    }

    /// Of each kind what there is.
    pub fn unshared(&self, now: &Zoned) -> Vec<Unshared> {
        let one = |kind, first: &str, at: &At| Unshared {
            kind,
            count: 1,
            first: first.to_owned(),
            at: Some(at.clone()),
            near: None,
        };
        let overrides = self.overrides(now).map(|(id, entry)| one(Kind::Override, id, &entry.because.at));
        let rules = self.rules().map(|rule| one(Kind::Rule, &rule.choice.because.rule, &rule.start));
        let globs = self.globs().map(|(rule, glob)| one(Kind::Glob, &glob, &rule.start));
        let members = self.members().map(|(assignment, _, at)| one(Kind::Member, &assignment.because.rule, at));
        let tiers = self.tiers().map(|(tier, _, near)| {
            let first = tier.to_owned();
            Unshared { kind: Kind::Tier, count: 1, first, at: None, near }
        });
        let keys = self.globs_in_keys().map(|because| one(Kind::GlobInKey, &because.rule, &because.at));
        let mut unshared: Vec<Unshared> = Vec::new();
        for found in overrides.chain(rules).chain(globs).chain(members).chain(tiers).chain(keys) {
            match unshared.last_mut().filter(|last| last.kind == found.kind) {
                Some(last) => last.count += 1,
                None => unshared.push(found),
            }
        }
        unshared
    }

    /// The keys that are written like globs, those of registered chats excepted.
    pub(crate) fn globs_in_keys(&self) -> impl Iterator<Item = &'p Because> {
        self.policy.globs_in_keys.iter().filter(|because| !self.overridden.contains(&because.at.order()))
    }
}

/// All whom the assignments of a policy are for.
fn members(policy: &Policy) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    for (index, assignment) in policy.assignments.iter().enumerate() {
        all.extend((0..assignment.members.len()).map(|member| (index, member)));
    }
    all
}

/// In which way a chat is like the one that is sought, the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// The id that is sought is its contact's or its session's name.
    Name,
    /// It is of the same contact.
    Contact,
    /// The ids differ in case alone.
    Case,
    /// One of the ids has a `+` that the other has not.
    Plus,
    /// The ids end in the same digits.
    Digits,
    /// The ids are nearly the same.
    Spelling,
}

impl Likeness {
    /// That this chat may be meant, and why.
    pub fn advice(self, chat: &str) -> String {
        match self {
            Self::Name => format!("that is a name, and the chat's id is {chat:?}"),
            Self::Contact => format!("did you mean {chat:?}, which has the same contact?"),
            Self::Case => format!("did you mean {chat:?}, which differs only in case?"),
            Self::Plus => format!("did you mean {chat:?}, which differs only in the +?"),
            Self::Digits => format!("did you mean {chat:?}, which ends in the same digits?"),
            Self::Spelling => format!("did you mean {chat:?}?"),
        }
    }
}

/// Looks for the registered chat that an override may be for.
#[derive(Debug)]
pub struct Alike<'w> {
    id: &'w str,
    /// The contact's name, where the policy tells it.
    contact: Option<&'w str>,
    best: Option<(Likeness, String)>,
    /// Whether another chat is like it in the same way.
    is_ambiguous: bool,
    nearest: suggest::Nearest,
}

impl<'w> Alike<'w> {
    /// Looks for a chat like the one of this id, whose contact's name may be known.
    pub fn to(id: &'w str, contact: Option<&'w str>) -> Self {
        Self { id, contact, best: None, is_ambiguous: false, nearest: suggest::Nearest::to(id) }
    }

    /// Takes another registered chat into account.
    pub(crate) fn look_at(&mut self, chat: &Chat) {
        self.nearest.look_at(&chat.id);
        let Some(likeness) = self.likeness(chat) else { return };
        let candidate = (likeness, chat.id.as_ref());
        match self.best.as_ref().map(|(likeness, id)| (*likeness, id.as_str())) {
            Some((best, _)) if best < likeness => {}
            Some(best) if best.0 == likeness => {
                self.is_ambiguous = true;
                if candidate < best {
                    self.best = Some((likeness, chat.id.clone().into_owned()));
                }
            }
            _ => {
                self.is_ambiguous = false;
                self.best = Some((likeness, chat.id.clone().into_owned()));
            }
        }
    }

    fn likeness(&self, chat: &Chat) -> Option<Likeness> {
        let (name, id) = (chat.contact_name.as_deref(), chat.id.as_ref());
        let without_plus = |id: &str| id.replace('+', "");
        if name == Some(self.id) || chat.session_name.as_deref() == Some(self.id) {
            Some(Likeness::Name)
        } else if name.is_some() && name == self.contact {
            Some(Likeness::Contact)
        } else if id.len() == self.id.len() && id.to_lowercase() == self.id.to_lowercase() {
            Some(Likeness::Case)
        } else if id.len().abs_diff(self.id.len()) == 1 && without_plus(id) == without_plus(self.id) {
            Some(Likeness::Plus)
        } else {
            same_digits(self.id, id).then_some(Likeness::Digits)
        }
    }

    /// The chat, and in which way it is like the one that is sought.
    pub fn found(self) -> Option<(Likeness, String)> {
        let is_certain = |likeness: Likeness| likeness != Likeness::Digits || !self.is_ambiguous;
        let best = self.best.filter(|(likeness, _)| is_certain(*likeness));
        best.or_else(|| Some((Likeness::Spelling, self.nearest.found()?)))
    }
}

/// Whether two ids end in the same digits and are alike before them, as of a group that has become a larger one, or of a
/// number with and without its country code.
fn same_digits(one: &str, other: &str) -> bool {
    let split = |id: &'_ str| -> (usize, bool) {
        let digits = id.bytes().rev().take_while(u8::is_ascii_digit).count();
        (id.len() - digits, digits > 1)
    };
    let ((at, has_digits), (other_at, other_has_digits)) = (split(one), split(other));
    let lead = |id: &str, at: usize| id[..at].replace('+', "");
    has_digits
        && other_has_digits
        && (one[at..].ends_with(&other[other_at..]) || other[other_at..].ends_with(&one[at..]))
        && lead(one, at) == lead(other, other_at)
}
