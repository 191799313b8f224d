//! Names that a policy and a registry do not share: overrides for chats that are not registered, rules that match no chat,
//! tiers that the policy does not list. A run finds all of them in its one pass over the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use jiff::Zoned;

use crate::chat::Chat;
use crate::policy::{Assignment, At, Because, Member, Override, Policy, Rule, is_glob};
use crate::suggest;

/// A rule that has matched no chat so far is compared with every further chat. After this many comparisons in all, the search
/// ends, and the rules that are left are taken to match a chat.
const MAX_COMPARISONS: usize = 20_000_000;
/// At most this many tiers that the policy does not list are counted.
const MAX_TIERS: usize = 100;

/// The names of a policy that no entry of the registry has had so far. Entries are taken one by one ([`Names::take`]).
#[derive(Debug)]
pub struct Names<'p> {
    policy: &'p Policy,
    /// Where the overrides stand whose chats are registered.
    overridden: BTreeSet<(&'p OsStr, u32)>,
    /// Indices into [`Policy::rules`], of rules that have matched no chat.
    rules: Vec<usize>,
    /// Globs that have matched no chat, of rules with more than one glob.
    globs: Vec<GlobIndex>,
    /// Members of assignments that no chat belongs to.
    members: Vec<MemberIndex>,
    /// How many chats have each of the tiers that the policy does not name.
    tiers: BTreeMap<String, usize>,
    comparisons_left: usize,
}

/// Which glob of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GlobIndex {
    /// The index of its rule in [`Policy::rules`].
    rule: usize,
    /// Its index in [`Rule::globs`].
    glob: usize,
}

/// Which member of which assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MemberIndex {
    /// The index of its assignment in [`Policy::assignments`].
    assignment: usize,
    /// Its index in [`Assignment::members`].
    member: usize,
}

/// A glob that matches no chat, of a rule that matches one by another glob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnmatchedGlob<'p> {
    /// Its rule.
    pub(crate) rule: &'p Rule,
    /// The glob as it is written.
    pub(crate) pattern: &'p str,
}

/// A member of an assignment that no chat belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnmatchedMember<'p> {
    /// The assignment that names it.
    pub(crate) assignment: &'p Assignment,
    /// The glob or the contact.
    pub(crate) member: &'p Member,
}

/// A tier of the registry that the policy does not name.
#[derive(Clone, Debug)]
pub(crate) struct UnlistedTier<'n> {
    /// Its name.
    pub(crate) name: &'n str,
    /// How many chats have it.
    pub(crate) chats: usize,
    /// The tier of the policy with the most similar name, if one is similar.
    pub(crate) near: Option<String>,
}

/// In which way a policy and a registry do not share a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An override is for a chat that is not registered.
    Override,
    /// A rule matches no chat.
    Rule,
    /// One of a rule's globs matches no chat.
    Glob,
    /// No chat belongs to a member of an assignment.
    Member,
    /// The policy does not name a tier of the registry.
    Tier,
    /// A key that stands for one name alone is written like a glob.
    GlobInKey,
}

/// The names of one [`Kind`] that policy and registry do not share: how many, and the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unshared {
    /// Why they are not shared.
    pub kind: Kind,
    /// How many names there are.
    pub count: usize,
    /// The first name.
    pub first: String,
    /// Where the first name stands in the policy; `None` for a tier, which stands in the registry alone.
    pub at: Option<At>,
    /// The tier of the policy whose name is most similar to the first name. Only for [`Kind::Tier`].
    pub near: Option<String>,
}

impl<'p> Names<'p> {
    /// All names of a policy, before an entry of the registry was taken.
    pub fn of(policy: &'p Policy) -> Self {
        Self {
            policy,
            overridden: BTreeSet::new(),
            rules: (0..policy.rules.len()).collect(),
            globs: globs_of_several(policy),
            members: members(policy),
            tiers: BTreeMap::new(),
            comparisons_left: MAX_COMPARISONS,
        }
    }

    /// Takes a chat of the registry into account. `because` is what decides its model.
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
            } else if self.tiers.len() < MAX_TIERS {
                self.tiers.insert(tier.to_owned(), 1);
            }
        }
    }

    fn match_rules(&mut self, chat: &Chat) {
        let rules = &self.policy.rules;
        let assignments = &self.policy.assignments;
        let comparisons = self.rules.len() + self.globs.len() + self.members.len();
        let Some(left) = self.comparisons_left.checked_sub(comparisons) else {
            self.rules.clear();
            self.globs.clear();
            self.members.clear();
            return;
        };
        self.comparisons_left = left;
        self.rules.retain(|rule| !rules[*rule].matches(chat));
        self.globs.retain(|at| !rules[at.rule].globs()[at.glob].matches(&chat.id));
        self.members.retain(|at| !assignments[at.assignment].members[at.member].who.is(chat));
    }

    /// The names that neither this part of the registry nor `other` has.
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

    /// The overrides in effect at `now` whose chats are not registered, by chat id. Ids that look like globs are left out:
    /// they are a [`Kind::GlobInKey`].
    fn overrides(&self, now: &Zoned) -> impl Iterator<Item = (&'p str, &'p Override)> {
        let is_unshared = |id: &str, entry: &Override| {
            let is_registered = self.overridden.contains(&entry.because.at.order());
            !is_registered && entry.ended(now).is_none() && !is_glob(id)
        };
        let chats = self.policy.chats.iter().map(|(id, entry)| (id.as_str(), entry));
        chats.filter(move |(id, entry)| is_unshared(id, entry))
    }

    /// The rules that match no chat.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &'p Rule> {
        let policy = self.policy;
        self.rules.iter().filter_map(|index| policy.rules.get(*index))
    }

    /// The globs that match no chat, of rules that match one.
    pub(crate) fn globs(&self) -> impl Iterator<Item = UnmatchedGlob<'p>> {
        let policy = self.policy;
        let of_matching_rules = self.globs.iter().filter(|at| !self.rules.contains(&at.rule));
        of_matching_rules.filter_map(|at| {
            let rule = policy.rules.get(at.rule)?;
            Some(UnmatchedGlob { rule, pattern: rule.globs().get(at.glob)?.pattern() })
        })
    }

    /// The members of assignments that no chat belongs to.
    pub(crate) fn members(&self) -> impl Iterator<Item = UnmatchedMember<'p>> {
        let policy = self.policy;
        self.members.iter().filter_map(|at| {
            let assignment = policy.assignments.get(at.assignment)?;
            Some(UnmatchedMember { assignment, member: assignment.members.get(at.member)? })
        })
    }

    /// The tiers of the registry that the policy does not name.
    pub(crate) fn tiers(&self) -> impl Iterator<Item = UnlistedTier<'_>> {
        let listed = || self.policy.tiers.keys().map(String::as_str);
        self.tiers.iter().map(move |(name, chats)| UnlistedTier {
            name,
            chats: *chats,
            near: suggest::nearest(name, listed()),
        })
    }

    /// The names that are not shared at `now`, one item for each kind that there is.
    pub(crate) fn unshared(&self, now: &Zoned) -> Vec<Unshared> {
        let one = |kind, first: &str, at: &At| Unshared {
            kind,
            count: 1,
            first: first.to_owned(),
            at: Some(at.clone()),
            near: None,
        };
        let overrides = self.overrides(now).map(|(id, entry)| one(Kind::Override, id, &entry.because.at));
        let rules = self.rules().map(|rule| one(Kind::Rule, &rule.choice.because.rule, &rule.start));
        let globs = self.globs().map(|glob| one(Kind::Glob, glob.pattern, &glob.rule.start));
        let members = self
            .members()
            .map(|UnmatchedMember { assignment, member }| one(Kind::Member, &assignment.because.rule, &member.at));
        let tiers = self.tiers().map(|UnlistedTier { name, near, .. }| {
            let first = name.to_owned();
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

    /// The keys that are written like globs. A key that is the id of a registered chat is left out.
    fn globs_in_keys(&self) -> impl Iterator<Item = &'p Because> {
        self.policy.globs_in_keys.iter().filter(|because| !self.overridden.contains(&because.at.order()))
    }
}

/// The globs of all rules that have more than one: where a rule has one glob, the rule itself is told of.
fn globs_of_several(policy: &Policy) -> Vec<GlobIndex> {
    let mut all = Vec::new();
    for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| rule.globs().len() > 1) {
        all.extend((0..rule.globs().len()).map(|glob| GlobIndex { rule: index, glob }));
    }
    all
}

/// The members of all assignments.
fn members(policy: &Policy) -> Vec<MemberIndex> {
    let mut all = Vec::new();
    for (index, assignment) in policy.assignments.iter().enumerate() {
        all.extend((0..assignment.members.len()).map(|member| MemberIndex { assignment: index, member }));
    }
    all
}

/// Why a registered chat may be the one that an override is meant for. The strongest reason comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Likeness {
    /// The override's key is the name of the chat's contact or of its session.
    Name,
    /// The chat's contact is the one that the comment beside the override names.
    Contact,
    /// The override's key and the chat's id differ only in case.
    Case,
    /// The override's key and the chat's id differ only in a `+`.
    Plus,
    /// The override's key and the chat's id end in the same digits.
    Digits,
    /// The override's key and the chat's id differ in a few characters.
    Spelling,
}

impl Likeness {
    /// A hint that the chat of this id may be meant, and why.
    pub(crate) fn advice(self, chat: &str) -> String {
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

/// A registered chat that an override may be meant for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MeantChat {
    /// Why it may be meant.
    pub(crate) likeness: Likeness,
    /// Its chat id.
    pub(crate) id: String,
}

/// Looks for the registered chat that an override may be meant for.
#[derive(Debug)]
pub(crate) struct Alike<'w> {
    /// The override's key.
    key: &'w str,
    /// The contact that the comment beside the override names, if it has a comment.
    contact: Option<&'w str>,
    best: Option<MeantChat>,
    /// Whether another chat has the likeness of the best one.
    is_ambiguous: bool,
    nearest: suggest::Nearest,
}

impl<'w> Alike<'w> {
    /// Looks for a chat that resembles the key of an override, or whose contact is the one in the comment beside it.
    pub(crate) fn to(key: &'w str, contact: Option<&'w str>) -> Self {
        Self { key, contact, best: None, is_ambiguous: false, nearest: suggest::Nearest::to(key) }
    }

    /// Takes another registered chat into account. Of several with one likeness, the first by id is the best.
    pub(crate) fn look_at(&mut self, chat: &Chat) {
        self.nearest.look_at(&chat.id);
        let Some(likeness) = self.likeness(chat) else { return };
        if let Some(best) = &self.best {
            if best.likeness < likeness {
                return;
            }
            self.is_ambiguous = best.likeness == likeness;
            if self.is_ambiguous && best.id.as_str() <= chat.id.as_ref() {
                return;
            }
        }
        self.best = Some(MeantChat { likeness, id: chat.id.clone().into_owned() });
    }

    fn likeness(&self, chat: &Chat) -> Option<Likeness> {
        let (name, id) = (chat.contact_name.as_deref(), chat.id.as_ref());
        let without_plus = |id: &str| id.replace('+', "");
        if name == Some(self.key) || chat.session_name.as_deref() == Some(self.key) {
            Some(Likeness::Name)
        } else if name.is_some() && name == self.contact {
            Some(Likeness::Contact)
        } else if id.len() == self.key.len() && id.to_lowercase() == self.key.to_lowercase() {
            Some(Likeness::Case)
        } else if id.len().abs_diff(self.key.len()) == 1 && without_plus(id) == without_plus(self.key) {
            Some(Likeness::Plus)
        } else {
            same_digits(self.key, id).then_some(Likeness::Digits)
        }
    }

    /// The chat that is most probably meant, if there is one. Several chats that end in the same digits are no hint.
    pub(crate) fn found(self) -> Option<MeantChat> {
        let is_certain = |best: &MeantChat| best.likeness != Likeness::Digits || !self.is_ambiguous;
        let spelling = || Some(MeantChat { likeness: Likeness::Spelling, id: self.nearest.found()? });
        self.best.filter(is_certain).or_else(spelling)
    }
}

/// Whether two ids end in the same two or more digits, and have the same text before all their digits. This is so of a
/// number with and without its country code, and of a group whose id was given a prefix of digits.
fn same_digits(one: &str, other: &str) -> bool {
    let (text, digits) = split_digits(one);
    let (other_text, other_digits) = split_digits(other);
    let is_suffix = digits.ends_with(other_digits) || other_digits.ends_with(digits);
    digits.len().min(other_digits.len()) > 1 && is_suffix && text.replace('+', "") == other_text.replace('+', "")
}

/// An id as the text before its last digits, and these digits.
fn split_digits(id: &str) -> (&str, &str) {
    let digits = id.bytes().rev().take_while(u8::is_ascii_digit).count();
    id.split_at(id.len() - digits)
}
