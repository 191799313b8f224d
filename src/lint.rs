//! What a policy may say, and probably does not mean: overrides without effect, rules that never match, names that no chat
//! has.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use jiff::Zoned;

use crate::diagnostic::{Diagnostic, Place};
use crate::error::Result;
use crate::names::{Alike, Likeness, MeantChat, Names, UnlistedTier, UnmatchedGlob, UnmatchedMember};
use crate::policy::{At, Because, Choice, Condition, Existing, Override, Policy, Rule, Setting, Source, Who, is_glob};
use crate::registry::Snapshot;
use crate::resolve::{Decision, resolve, resolve_default};
use crate::suggest;
use crate::withdrawn::{Withdrawal, Withdrawals};

/// At most this many findings are shown. The rest is counted.
const MAX_SHOWN: usize = 100;

/// A search that compares everything with everything ends after about this many comparisons, with what it has found.
const MAX_COMPARISONS: usize = 20_000_000;

/// At most this many values of each condition are remembered of a registry, to suggest one.
const MAX_VALUES: usize = 100;

/// What the lints of a policy go by.
#[derive(Clone, Copy, Debug)]
pub struct Lint<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The files that it was read from.
    pub sources: &'a [Source],
    /// The registry that it is for. Without one, the lints about names are left out.
    pub registry: Option<&'a dyn Snapshot>,
    /// The time, in the policy's time zone.
    pub now: &'a Zoned,
    /// An override that ends before this time expires soon.
    pub horizon: &'a Zoned,
}

/// What one pass over the registry finds of a policy's names.
struct Seen<'p> {
    names: Names<'p>,
    /// The tiers of the policy that a chat has.
    tiers: BTreeSet<&'p str>,
    /// By the place of an override in the files whose chat is registered: what the chat would get without the override.
    overridden: BTreeMap<(&'p OsStr, u32), Decision<'p>>,
    /// The keys of overrides that are the name of a contact.
    contacts: BTreeSet<&'p str>,
    /// The values that chats have for each condition of rules.
    values: BTreeMap<Condition, BTreeSet<String>>,
    withdrawals: Vec<Withdrawal>,
    /// How many sessions the registry has.
    sessions: usize,
}

impl<'a> Lint<'a> {
    /// Everything suspicious, in the order of the files.
    ///
    /// # Errors
    /// What is wrong with the registry.
    pub fn warnings(&self) -> Result<Vec<Diagnostic>> {
        let seen = self.registry.map(|snapshot| self.look(snapshot)).transpose()?;
        let mut found = self.overrides(seen.as_ref());
        found.extend(self.policy.first_in_host_zone(self.now).map(Finding::HostZone));
        found.extend(self.unreachable_rules());
        found.extend(self.misleading_keys(seen.as_ref()));
        if let Some(seen) = &seen {
            found.extend(self.unshared_names(seen));
            found.extend(seen.withdrawals.iter().cloned().map(Finding::Withdrawn));
            let unused = self.policy.tiers.iter().filter(|(tier, _)| !seen.tiers.contains(tier.as_str()));
            found.extend(unused.map(|(_, choice)| Finding::UnusedTier(choice)));
        }
        found.sort_by(|a, b| a.at().order().cmp(&b.at().order()));
        let more = found.len().saturating_sub(MAX_SHOWN);
        found.truncate(MAX_SHOWN);
        let meant = self.meant_chats(&found, seen.as_ref())?;
        let diagnostic = |finding| self.diagnostic(finding, seen.as_ref(), &meant);
        let mut warnings: Vec<Diagnostic> = found.iter().map(diagnostic).collect();
        if let Some(last) = warnings.last_mut().filter(|_| more > 0) {
            for help in [&mut last.help, &mut last.private_help].into_iter().flatten() {
                *help = format!("{help}; {more} more warnings are not shown");
            }
        }
        Ok(warnings)
    }

    fn look(&self, snapshot: &dyn Snapshot) -> Result<Seen<'a>> {
        let policy = self.policy;
        let mut seen = Seen {
            names: Names::of(policy),
            tiers: BTreeSet::new(),
            overridden: BTreeMap::new(),
            contacts: BTreeSet::new(),
            values: BTreeMap::new(),
            withdrawals: Vec::new(),
            sessions: 0,
        };
        let mut withdrawals = Withdrawals::of(policy, self.now);
        let counts = snapshot.each(&mut |entry| {
            let chat = &policy.with_tier(entry.chat);
            let tier = chat.tier.as_deref().and_then(|tier| policy.tiers.get_key_value(tier));
            seen.tiers.extend(tier.map(|(tier, _)| tier.as_str()));
            let contact = chat.contact_name.as_deref().and_then(|name| policy.chats.get_key_value(name));
            seen.contacts.extend(contact.map(|(name, _)| name.as_str()));
            for condition in Condition::ON_VALUES {
                let Some(value) = condition.of(chat) else { continue };
                let values = seen.values.entry(condition).or_default();
                if values.len() < MAX_VALUES && !values.contains(value) {
                    values.insert(value.to_owned());
                }
            }
            let existing = entry.model.as_deref();
            withdrawals.take(chat, existing, resolve(policy, chat, existing.into(), self.now).model);
            let default = resolve_default(policy, chat, existing.into());
            let entry = policy.override_of(&chat.id);
            seen.names.take(chat, entry.map_or(default.because, |entry| &entry.because));
            seen.overridden.extend(entry.map(|entry| (entry.because.at.order(), default)));
        })?;
        seen.sessions = counts.sessions;
        seen.withdrawals = withdrawals.all(counts.sessions);
        Ok(seen)
    }

    /// Overrides that have ended, end soon, or have no effect.
    fn overrides(&self, seen: Option<&Seen<'a>>) -> Vec<Finding<'a>> {
        let mut found = Vec::new();
        let is_redundant_anyway = self.is_redundant_anyway();
        for (chat, entry) in &self.policy.chats {
            let ends_by = |time| entry.until.as_ref().is_some_and(|until| until.is_past(time));
            if ends_by(self.now) {
                found.push(Finding::Expired { chat, entry });
                continue;
            }
            // An override with `then` is meant to end, and says more than its model.
            if entry.then.is_some() {
                continue;
            }
            found.extend(ends_by(self.horizon).then_some(Finding::Expiring { chat, entry }));
            found.extend(match seen.map(|seen| seen.overridden.get(&entry.because.at.order())) {
                None => is_redundant_anyway(chat, entry).then_some(Finding::RedundantAnyway(entry)),
                Some(None) => (!is_glob(chat)).then_some(Finding::UnusedOverride { chat, entry }),
                Some(Some(default)) => {
                    self.is_redundant(entry, default).then_some(Finding::Redundant { entry, default: default.because })
                }
            });
        }
        found
    }

    /// Names that policy and registry do not share. Overrides are left out: they are in [`Lint::overrides`].
    fn unshared_names<'f>(&self, seen: &'f Seen<'a>) -> impl Iterator<Item = Finding<'a>> + use<'f, 'a> {
        let first_tier = self.policy.tiers.values().min_by_key(|tier| tier.because.at.order());
        let tiers = seen.names.tiers().zip(first_tier.into_iter().cycle());
        let tiers = tiers.map(|(UnlistedTier { name, chats, near }, first)| {
            let tier = name.to_owned();
            Finding::UndeclaredTier { tier, chats, near, first }
        });
        let rules = seen.names.rules().map(Finding::UnusedRule);
        let globs = seen.names.globs().map(Finding::UnusedGlob);
        let members = seen.names.members().map(Finding::UnusedMember);
        rules.chain(globs).chain(members).chain(tiers)
    }

    /// Keys that look like globs and are exact names, and pairs of keys that differ only in case.
    fn misleading_keys(&self, seen: Option<&Seen<'a>>) -> Vec<Finding<'a>> {
        let Policy { chats, tiers, globs_in_keys, .. } = self.policy;
        let is_registered =
            |because: &Because| seen.is_some_and(|seen| seen.overridden.contains_key(&because.at.order()));
        let globs = globs_in_keys.iter().filter(|because| !is_registered(because));
        let mut found: Vec<Finding> = globs.map(Finding::GlobInKey).collect();
        let chats = chats.iter().map(|(id, entry)| ("chats", id, &entry.because));
        let tiers = tiers.iter().map(|(tier, choice)| ("tiers", tier, &choice.because));
        let mut seen = BTreeMap::new();
        for (table, name, because) in chats.chain(tiers) {
            if let Some(other) = seen.insert((table, name.to_lowercase()), because) {
                found.push(Finding::DiffersInCase { key: because, other });
            }
        }
        found
    }

    /// For overrides whose chats are not registered: the chats that may be meant, by the override's key. On a large registry
    /// only the first overrides are looked up, so that the time stays bounded.
    fn meant_chats(&self, found: &[Finding<'a>], seen: Option<&Seen>) -> Result<BTreeMap<&'a str, MeantChat>> {
        let (Some(snapshot), Some(seen)) = (self.registry, seen) else { return Ok(BTreeMap::new()) };
        let unused = found.iter().filter_map(|finding| match finding {
            Finding::UnusedOverride { chat, entry } => Some((*chat, entry.because.at.comment(self.sources))),
            _ => None,
        });
        let most = MAX_COMPARISONS / seen.sessions.max(1);
        let mut searches: Vec<(&str, Alike)> =
            unused.take(most).map(|(chat, contact)| (chat, Alike::to(chat, contact))).collect();
        if !searches.is_empty() {
            snapshot.each(&mut |entry| searches.iter_mut().for_each(|(_, alike)| alike.look_at(&entry.chat)))?;
        }
        Ok(searches.into_iter().filter_map(|(chat, alike)| Some((chat, alike.found()?))).collect())
    }

    /// Whether the policy would decide on the override's model without the override. A model that is kept because the registry
    /// has it does not count: it may be there because of the override.
    fn is_redundant(&self, entry: &Override, default: &Decision) -> bool {
        // With `keep-manual`, an override also replaces what is set by hand.
        let replaces_manual = self.policy.existing.keeps_manual();
        let is_kept = self.policy.existing.because() == Some(default.because);
        let has_same_model = matches!(&entry.setting, Setting::Model(model) if default.model == Some(model));
        has_same_model && !replaces_manual && !is_kept
    }

    /// Returns a test of overrides: whether the policy would decide on the override's model without the override, for a chat
    /// of any tier, type and source. The test says no where that is not certain.
    fn is_redundant_anyway(&self) -> impl Fn(&str, &Override) -> bool {
        let Policy { tiers, fallback, rules, chats, existing, .. } = self.policy;
        let without_rules = tiers.values().all(|tier| tier.model == fallback.model).then_some(&fallback.model);
        let weight = rules.iter().map(Rule::weight).fold(0, usize::saturating_add);
        let is_knowable = *existing == Existing::Replace && weight.saturating_mul(chats.len()) <= MAX_COMPARISONS;
        move |chat, entry| {
            let Setting::Model(model) = &entry.setting else { return false };
            // The first rule that either has another model, or is certain to match.
            let is_decisive = |rule: &&Rule| rule.allows(chat) && (rule.choice.model != *model || rule.needs_no_more());
            let decide = || rules.iter().find(is_decisive).map_or(without_rules, |rule| Some(&rule.choice.model));
            is_knowable && decide() == Some(model)
        }
    }

    /// Rules whose chats are all matched by one earlier rule.
    fn unreachable_rules(&self) -> Vec<Finding<'a>> {
        let rules = &self.policy.rules;
        let mut comparisons = 0_usize;
        let mut found = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for earlier in rules.iter().take(index) {
                comparisons = comparisons.saturating_add(earlier.weight().saturating_mul(rule.weight()));
                if comparisons > MAX_COMPARISONS {
                    return found;
                }
                if earlier.covers(rule) {
                    found.push(Finding::Unreachable { rule, earlier });
                    break;
                }
            }
        }
        found
    }

    fn diagnostic(&self, finding: &Finding, seen: Option<&Seen>, meant: &BTreeMap<&str, MeantChat>) -> Diagnostic {
        let is_name = |chat: &str| seen.is_some_and(|seen| seen.contacts.contains(chat));
        // A person's name is no part of a message, which others may read.
        let rule = |chat: &str, entry: &Override| {
            if is_name(chat) { "under a contact's name".to_owned() } else { format!("`{}`", entry.because.rule) }
        };
        let place = |at: &At| at.place(self.sources);
        let at = place(finding.at());
        match finding {
            Finding::Expired { chat, entry } => {
                let message = format!("the override {} has expired", rule(chat, entry));
                let shorter = |then| format!("its `then` decides now: write \"{then}\" alone, or set a later `until`");
                let help = entry.then.as_ref().map_or("remove it, or set a later `until`".to_owned(), shorter);
                Diagnostic::warning("expired-override", message, at, ended("it ended", entry)).help(help)
            }
            Finding::Expiring { chat, entry } => {
                let message = format!("the override {} expires soon", rule(chat, entry));
                Diagnostic::warning("expiring-override", message, at, ended("it ends", entry))
                    .help("if this is intended, ignore the warning; otherwise set a later `until`")
            }
            Finding::HostZone(entry) => {
                let message = "`until` without an offset is read in the time zone of each host that reads the policy";
                Diagnostic::note("no-time-zone", message, at, ended("it ends", entry))
                    .help("to make it the same on every host, add to [models]: time_zone = \"Europe/Berlin\"")
            }
            Finding::Redundant { entry, default } => {
                let message = format!("the override `{}` has no effect", entry.because.rule);
                let label = format!("the chat has the same model from `{}`", default.rule);
                Diagnostic::warning("redundant-override", message, at, "")
                    .and(place(&default.at), label)
                    .help("remove it, unless the chat must keep the model when that changes")
            }
            Finding::RedundantAnyway(entry) => {
                let message = format!("the override `{}` has no effect", entry.because.rule);
                let label = "without it, the chat has the same model for every tier, type and source";
                Diagnostic::warning("redundant-override", message, at, label)
                    .help("remove it, unless the chat must keep the model when rules, tiers or fallback change")
            }
            Finding::Unreachable { rule, earlier } => {
                let (name, earlier_name) = (&rule.choice.because.rule, &earlier.choice.because.rule);
                let message = format!("the rule `{name}` never takes effect");
                let label = format!("`{earlier_name}` comes first and matches every chat that it matches");
                Diagnostic::warning("unreachable-rule", message, at, "")
                    .and(place(&earlier.start), label)
                    .help(format!("remove it, or move it before `{earlier_name}`"))
            }
            Finding::UnusedTier(choice) => {
                let message = format!("no session has the tier of `{}`", choice.because.rule);
                Diagnostic::warning("unused-tier", message, at, self.not_there())
                    .help("check the name, or remove it if no session will have the tier")
            }
            Finding::UnusedOverride { chat, entry } => {
                let message = if is_name(chat) {
                    "an override has a contact's name in place of a chat id".to_owned()
                } else {
                    format!("no session has the chat id of `{}`", entry.because.rule)
                };
                let advice = "check the id, or remove it if the chat is gone";
                let found = Diagnostic::warning("unused-override", message, at, self.not_there()).help(advice);
                match meant.get(chat) {
                    Some(meant) => found.private_help(advice_on(chat, meant)),
                    None => found,
                }
            }
            Finding::UnusedRule(rule) => {
                let message = format!("the rule `{}` matches no chat", rule.choice.because.rule);
                let near = seen.and_then(|seen| near_value(rule, &seen.values));
                let usual = "check its values, or remove it if no chat will match".to_owned();
                Diagnostic::note("unused-rule", message, at, self.not_there()).help(near.unwrap_or(usual))
            }
            Finding::UnusedGlob(UnmatchedGlob { rule, pattern }) => {
                let message = format!("the glob {pattern:?} of `{}` matches no chat", rule.choice.because.rule);
                Diagnostic::note("unused-glob", message, at, self.not_there())
                    .help("check the glob, or remove it if no chat will match")
            }
            Finding::UnusedMember(unmatched) => self.unused_member(unmatched, at),
            Finding::UndeclaredTier { tier, chats, near, .. } => {
                let who = if *chats == 1 { "1 chat has".to_owned() } else { format!("{chats} chats have") };
                let message = format!("{who} the tier {tier:?}, which the policy does not list");
                let near = near.as_ref().map(|near| format!("did you mean {near:?}? "));
                let help = "add it to [tiers], or leave it to models.fallback";
                Diagnostic::note("undeclared-tier", message, at, "the tiers are listed here")
                    .help(format!("{}{help}", near.unwrap_or_default()))
            }
            Finding::Withdrawn(withdrawal) => self.withdrawn(withdrawal, at),
            Finding::GlobInKey(because) => {
                let message = format!("`{}` looks like a glob, but matches only that exact name", because.rule);
                let help = if because.rule.starts_with("chats.") {
                    "for many chats, write a rule: [[rules]] with chat = \"…*\""
                } else {
                    "write each spelling as an alias of its own"
                };
                Diagnostic::note("glob-in-exact-key", message, at, "* and ? have no special meaning here").help(help)
            }
            Finding::DiffersInCase { key, other } => {
                let message = format!("`{}` and `{}` differ only in case", key.rule, other.rule);
                Diagnostic::note("differs-in-case", message, at, "")
                    .and(place(&other.at), "the other one")
                    .help("names are compared exactly: remove the one that the registry does not have")
            }
        }
    }

    fn withdrawn(&self, withdrawal: &Withdrawal, at: Place) -> Diagnostic {
        let message = format!("{}: {}", withdrawal.when(self.now), withdrawal.effect(None));
        let chats = withdrawal.effect(Some(&str::to_owned));
        let advice = match withdrawal.over_limit {
            Some(_) => "raise limits.max_changes, or change some of them by hand: over the limit nothing is done",
            None if withdrawal.has_begun => "the next run changes the managed ones",
            None => "let the run of that day change them, or change them earlier",
        };
        let found = match withdrawal.over_limit {
            Some(_) => Diagnostic::warning("withdrawn-model", message, at, ""),
            None => Diagnostic::note("withdrawn-model", message, at, ""),
        };
        found.help(advice).private_help(format!("{advice}: {chats}"))
    }

    fn unused_member(&self, unmatched: &UnmatchedMember, at: Place) -> Diagnostic {
        let UnmatchedMember { assignment, member } = unmatched;
        let name = &assignment.because.rule;
        let (message, meant) = match &member.who {
            Who::Chats(glob) => (format!("the glob {:?} of `{name}` matches no chat", glob.pattern()), "glob"),
            Who::Contact(_) => (format!("no chat has a contact of `{name}`"), "name"),
        };
        Diagnostic::note("unused-assignment", message, at, self.not_there())
            .help(format!("check the {meant}, or remove it if no chat will match"))
    }

    fn not_there(&self) -> String {
        self.registry.map_or_else(String::new, |snapshot| format!("not in {}", snapshot.name()))
    }
}

/// One lint, before it is put into words.
enum Finding<'p> {
    /// The override has ended.
    Expired {
        /// The override's key.
        chat: &'p str,
        entry: &'p Override,
    },
    /// The override ends before [`Lint::horizon`].
    Expiring {
        /// The override's key.
        chat: &'p str,
        entry: &'p Override,
    },
    /// The end of the override depends on the host's time zone. Told of the first such override only.
    HostZone(&'p Override),
    /// Without the override its chat would get the same model.
    Redundant {
        entry: &'p Override,
        /// What would decide without the override.
        default: &'p Because,
    },
    /// Without the override its chat would get the same model. This follows from the policy alone.
    RedundantAnyway(&'p Override),
    /// Another rule matches all chats of this one before it.
    Unreachable { rule: &'p Rule, earlier: &'p Rule },
    /// No session has the tier.
    UnusedTier(&'p Choice),
    /// The override's chat is not registered.
    UnusedOverride {
        /// The override's key.
        chat: &'p str,
        entry: &'p Override,
    },
    /// The rule matches no chat.
    UnusedRule(&'p Rule),
    /// One glob of a rule matches no chat.
    UnusedGlob(UnmatchedGlob<'p>),
    /// No chat belongs to a member of an assignment.
    UnusedMember(UnmatchedMember<'p>),
    /// Chats have a tier that the policy does not list.
    UndeclaredTier {
        tier: String,
        /// How many chats have the tier.
        chats: usize,
        /// The listed tier with the most similar name, if one is similar.
        near: Option<String>,
        /// The tier that the policy lists first: the lint is shown there.
        first: &'p Choice,
    },
    /// A model is withdrawn soon, or was.
    Withdrawn(Withdrawal),
    /// A key that is an exact name looks like a glob.
    GlobInKey(&'p Because),
    /// Two keys differ only in case.
    DiffersInCase { key: &'p Because, other: &'p Because },
}

impl Finding<'_> {
    /// Where the lint is shown.
    fn at(&self) -> &At {
        match self {
            Self::Expired { entry, .. }
            | Self::Expiring { entry, .. }
            | Self::HostZone(entry)
            | Self::Redundant { entry, .. }
            | Self::RedundantAnyway(entry)
            | Self::UnusedOverride { entry, .. } => &entry.because.at,
            Self::UnusedTier(choice) | Self::UndeclaredTier { first: choice, .. } => &choice.because.at,
            Self::Unreachable { rule, .. } | Self::UnusedRule(rule) => &rule.start,
            Self::UnusedGlob(glob) => &glob.rule.start,
            Self::UnusedMember(unmatched) => &unmatched.member.at,
            Self::GlobInKey(key) | Self::DiffersInCase { key, .. } => &key.at,
            Self::Withdrawn(withdrawal) => &withdrawal.at,
        }
    }
}

fn ended(verb: &str, entry: &Override) -> String {
    entry.until.as_ref().map_or_else(String::new, |until| format!("{verb} {} {until}", until.preposition()))
}

/// What to do about an override whose chat is not registered, where another chat may be meant.
fn advice_on(chat: &str, meant: &MeantChat) -> String {
    let MeantChat { likeness, id } = meant;
    let advice = likeness.advice(id);
    match likeness {
        Likeness::Contact | Likeness::Digits => {
            format!("{advice} if the chat's id has changed, write {id:?} = {{ model = …, was = [{chat:?}] }}")
        }
        Likeness::Name | Likeness::Case | Likeness::Plus | Likeness::Spelling => advice,
    }
}

/// A hint for a rule that matches no chat: the value of the registry that is most similar to one of the rule's.
fn near_value(rule: &Rule, values: &BTreeMap<Condition, BTreeSet<String>>) -> Option<String> {
    rule.values.iter().find_map(|(condition, wanted)| {
        let known = values.get(condition)?;
        let mut unknown = wanted.iter().filter(|value| !known.contains(value.as_str()));
        let near = |value: &String| suggest::nearest(value, known.iter().map(String::as_str));
        let near = unknown.find_map(near)?;
        Some(format!("did you mean {} = {near:?}?", condition.name()))
    })
}
