//! What a policy may say, and probably does not mean: overrides without effect, rules that never match, names that no chat
//! has.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use jiff::Zoned;

use crate::diagnostic::{Diagnostic, Place};
use crate::error::Result;
use crate::names::{Alike, Likeness, Names};
use crate::policy::{
    Assignment, At, Because, Choice, Condition, Existing, Member, Override, Policy, Rule, Setting, Source, is_glob,
};
use crate::registry::Snapshot;
use crate::resolve::{Decision, resolve, resolve_default};
use crate::suggest;
use crate::withdrawn::{Withdrawal, Withdrawals};

/// More than these are counted, not shown.
const SHOWN: usize = 100;

/// Comparing every rule with every other is given up after about so many steps.
const PATIENCE: usize = 20_000_000;

/// So many values of a field of the registry are told apart.
const VALUES: usize = 100;

/// What a policy is looked at with.
#[derive(Clone, Copy, Debug)]
pub struct Lint<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The files that it was read from.
    pub sources: &'a [Source],
    /// The registry that it is for, where that may be asked.
    pub registry: Option<&'a dyn Snapshot>,
    /// The time, in the policy's time zone.
    pub now: &'a Zoned,
    /// An override that ends before this ends soon.
    pub horizon: &'a Zoned,
}

/// What the registry says of the policy's names.
struct Seen<'p> {
    names: Names<'p>,
    tiers: BTreeSet<&'p str>,
    /// The chats that have an override, and what they would get without it.
    overridden: BTreeMap<(&'p OsStr, u32), Decision<'p>>,
    /// The overrides that stand under the name of a contact.
    contacts: BTreeSet<&'p str>,
    /// The values that there are for each condition of rules.
    values: BTreeMap<Condition, BTreeSet<String>>,
    withdrawals: Vec<Withdrawal>,
    sessions: usize,
}

impl<'a> Lint<'a> {
    /// Everything suspicious, in the order in which it stands in the files.
    ///
    /// # Errors
    /// What is wrong with the registry.
    pub fn warnings(&self) -> Result<Vec<Diagnostic>> {
        let seen = self.registry.map(|snapshot| self.look(snapshot)).transpose()?;
        let mut found = self.of_overrides(seen.as_ref());
        found.extend(self.policy.first_in_host_zone(self.now).map(Finding::HostZone));
        found.extend(self.of_rules());
        found.extend(self.of_keys(seen.as_ref()));
        if let Some(seen) = &seen {
            found.extend(self.of_names(seen));
            found.extend(seen.withdrawals.iter().cloned().map(Finding::Withdrawn));
            let unused = self.policy.tiers.iter().filter(|(tier, _)| !seen.tiers.contains(tier.as_str()));
            found.extend(unused.map(|(_, choice)| Finding::UnusedTier(choice)));
        }
        found.sort_by(|a, b| a.at().order().cmp(&b.at().order()));
        let more = found.len().saturating_sub(SHOWN);
        found.truncate(SHOWN);
        let alike = self.alike(&found, seen.as_ref())?;
        let tell = |finding| self.diagnostic(finding, seen.as_ref(), &alike);
        let mut warnings: Vec<Diagnostic> = found.iter().map(tell).collect();
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
                if values.len() < VALUES && !values.contains(value) {
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

    fn of_overrides(&self, seen: Option<&Seen<'a>>) -> Vec<Finding<'a>> {
        let mut found = Vec::new();
        let anyway = self.anyway();
        for (chat, entry) in &self.policy.chats {
            let ends_by = |time| entry.until.as_ref().is_some_and(|until| until.is_past(time));
            if ends_by(self.now) {
                found.push(Finding::Expired(chat, entry));
                continue;
            }
            // Where it says what counts then, its end is expected, and it says more than one model.
            if entry.then.is_some() {
                continue;
            }
            found.extend(ends_by(self.horizon).then_some(Finding::Expiring(chat, entry)));
            found.extend(match seen.map(|seen| seen.overridden.get(&entry.because.at.order())) {
                None => anyway(chat, entry).then_some(Finding::RedundantAnyway(entry)),
                Some(None) => (!is_glob(chat)).then_some(Finding::UnusedOverride(chat, entry)),
                Some(Some(default)) => {
                    self.equals(entry, default).then_some(Finding::Redundant(entry, default.because))
                }
            });
        }
        found
    }

    /// Names that policy and registry do not share, the overrides excepted.
    fn of_names<'f>(&self, seen: &'f Seen<'a>) -> impl Iterator<Item = Finding<'a>> + use<'f, 'a> {
        let first_tier = self.policy.tiers.values().min_by_key(|tier| tier.because.at.order());
        let tiers = seen.names.tiers().zip(first_tier.into_iter().cycle());
        let tiers = tiers.map(|((tier, sessions, near), first)| {
            let tier = tier.to_owned();
            Finding::UndeclaredTier { tier, sessions, near, first }
        });
        let rules = seen.names.rules().map(Finding::UnusedRule);
        let globs = seen.names.globs().map(|(rule, glob)| Finding::UnusedGlob(rule, glob));
        let members = seen.names.members().map(|(of, member, at)| Finding::UnusedAssignment(of, member, at));
        rules.chain(globs).chain(members).chain(tiers)
    }

    /// Keys that stand for themselves and are written like globs, and those that differ in case alone.
    fn of_keys(&self, seen: Option<&Seen<'a>>) -> Vec<Finding<'a>> {
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
                found.push(Finding::DiffersInCase(because, other));
            }
        }
        found
    }

    /// The chats that overrides may be for whose own is not registered. As many are looked for as is soon done.
    fn alike(&self, found: &[Finding<'a>], seen: Option<&Seen>) -> Result<BTreeMap<&'a str, (Likeness, String)>> {
        let (Some(snapshot), Some(seen)) = (self.registry, seen) else { return Ok(BTreeMap::new()) };
        let unused = found.iter().filter_map(|finding| match finding {
            Finding::UnusedOverride(chat, entry) => Some((*chat, entry.because.at.comment(self.sources))),
            _ => None,
        });
        let most = PATIENCE / seen.sessions.max(1);
        let mut alike: Vec<(&str, Alike)> =
            unused.take(most).map(|(chat, contact)| (chat, Alike::to(chat, contact))).collect();
        if !alike.is_empty() {
            snapshot.each(&mut |entry| alike.iter_mut().for_each(|(_, alike)| alike.look_at(&entry.chat)))?;
        }
        Ok(alike.into_iter().filter_map(|(chat, alike)| Some((chat, alike.found()?))).collect())
    }

    /// Whether an override says what would be decided without it. What the registry holds may be there because of the
    /// override, so that does not count.
    fn equals(&self, entry: &Override, default: &Decision) -> bool {
        // It also keeps what is set by hand from staying.
        let protects = self.policy.existing.keeps_manual();
        let kept = self.policy.existing.because() == Some(default.because);
        !protects && !kept && matches!(&entry.setting, Setting::Model(model) if default.model == Some(model))
    }

    /// Tells whether an override says what would be decided without it, for a chat of any tier, type and source.
    fn anyway(&self) -> impl Fn(&str, &Override) -> bool {
        let Policy { tiers, fallback, rules, chats, existing, .. } = self.policy;
        let last = tiers.values().all(|tier| tier.model == fallback.model).then_some(&fallback.model);
        let weight = rules.iter().map(Rule::weight).fold(0, usize::saturating_add);
        let knowable = *existing == Existing::Replace && weight.saturating_mul(chats.len()) <= PATIENCE;
        move |chat, entry| {
            let Setting::Model(model) = &entry.setting else { return false };
            // The first that either says something else, or is certain to match.
            let decisive = |rule: &&Rule| rule.allows(chat) && (rule.choice.model != *model || rule.needs_no_more());
            knowable && rules.iter().find(decisive).map_or(last, |rule| Some(&rule.choice.model)) == Some(model)
        }
    }

    /// Rules that another one before them always beats.
    fn of_rules(&self) -> Vec<Finding<'a>> {
        let rules = &self.policy.rules;
        let mut steps = 0_usize;
        let mut found = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for earlier in rules.iter().take(index) {
                steps = steps.saturating_add(earlier.weight().saturating_mul(rule.weight()));
                if steps > PATIENCE {
                    return found;
                }
                if earlier.covers(rule) {
                    found.push(Finding::Unreachable(rule, earlier));
                    break;
                }
            }
        }
        found
    }

    fn diagnostic(
        &self,
        finding: &Finding,
        seen: Option<&Seen>,
        alike: &BTreeMap<&str, (Likeness, String)>,
    ) -> Diagnostic {
        let is_name = |chat: &str| seen.is_some_and(|seen| seen.contacts.contains(chat));
        // A person's name is no part of a message, which others may read.
        let rule = |chat: &str, entry: &Override| {
            if is_name(chat) { "under a contact's name".to_owned() } else { format!("`{}`", entry.because.rule) }
        };
        let place = |at: &At| at.place(self.sources);
        let at = place(finding.at());
        match finding {
            Finding::Expired(chat, entry) => {
                let message = format!("the override {} has expired", rule(chat, entry));
                let shorter = |then| format!("its `then` decides now: write \"{then}\" alone, or set a later `until`");
                let help = entry.then.as_ref().map_or("remove it, or set a later `until`".to_owned(), shorter);
                Diagnostic::warning("expired-override", message, at, ended("it ended", entry)).help(help)
            }
            Finding::Expiring(chat, entry) => {
                let message = format!("the override {} expires soon", rule(chat, entry));
                Diagnostic::warning("expiring-override", message, at, ended("it ends", entry))
                    .help("if this is intended, ignore the warning; otherwise set a later `until`")
            }
            Finding::HostZone(entry) => {
                let message = "`until` without an offset is read in the time zone of each host that reads the policy";
                Diagnostic::note("no-time-zone", message, at, ended("it ends", entry))
                    .help("to make it the same on every host, add to [models]: time_zone = \"Europe/Berlin\"")
            }
            Finding::Redundant(entry, because) => {
                let message = format!("the override `{}` has no effect", entry.because.rule);
                let label = format!("the chat has the same model from `{}`", because.rule);
                Diagnostic::warning("redundant-override", message, at, "")
                    .and(place(&because.at), label)
                    .help("remove it, unless the chat must keep the model when that changes")
            }
            Finding::RedundantAnyway(entry) => {
                let message = format!("the override `{}` has no effect", entry.because.rule);
                let label = "without it, the chat has the same model for every tier, type and source";
                Diagnostic::warning("redundant-override", message, at, label)
                    .help("remove it, unless the chat must keep the model when rules, tiers or fallback change")
            }
            Finding::Unreachable(rule, earlier) => {
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
            Finding::UnusedOverride(chat, entry) => {
                let message = if is_name(chat) {
                    "an override has a contact's name in place of a chat id".to_owned()
                } else {
                    format!("no session has the chat id of `{}`", entry.because.rule)
                };
                let advice = "check the id, or remove it if the chat is gone";
                let found = Diagnostic::warning("unused-override", message, at, self.not_there()).help(advice);
                match alike.get(chat) {
                    Some((likeness, id)) => found.private_help(advice_on(*likeness, chat, id)),
                    None => found,
                }
            }
            Finding::UnusedRule(rule) => {
                let message = format!("the rule `{}` matches no chat", rule.choice.because.rule);
                let near = seen.and_then(|seen| near_value(rule, &seen.values));
                let usual = "check its values, or remove it if no chat will match".to_owned();
                Diagnostic::note("unused-rule", message, at, self.not_there()).help(near.unwrap_or(usual))
            }
            Finding::UnusedGlob(rule, glob) => {
                let message = format!("the glob {glob:?} of `{}` matches no chat", rule.choice.because.rule);
                Diagnostic::note("unused-glob", message, at, self.not_there())
                    .help("check the glob, or remove it if no chat will match")
            }
            Finding::UnusedAssignment(assignment, member, _) => self.unused_member(assignment, member, at),
            Finding::UndeclaredTier { tier, sessions, near, .. } => {
                let chats = if *sessions == 1 { "1 chat has".to_owned() } else { format!("{sessions} chats have") };
                let message = format!("{chats} the tier {tier:?}, which the policy does not list");
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
            Finding::DiffersInCase(because, other) => {
                let message = format!("`{}` and `{}` differ only in case", because.rule, other.rule);
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

    fn unused_member(&self, assignment: &Assignment, member: &Member, at: Place) -> Diagnostic {
        let name = &assignment.because.rule;
        let (message, meant) = match member {
            Member::Chats(glob) => (format!("the glob {:?} of `{name}` matches no chat", glob.pattern()), "glob"),
            Member::Contact(_) => (format!("no chat has a contact of `{name}`"), "name"),
        };
        Diagnostic::note("unused-assignment", message, at, self.not_there())
            .help(format!("check the {meant}, or remove it if no chat will match"))
    }

    fn not_there(&self) -> String {
        self.registry.map_or_else(String::new, |snapshot| format!("not in {}", snapshot.name()))
    }
}

/// What was found, before its line is looked for.
enum Finding<'p> {
    /// With the id that it is for.
    Expired(&'p str, &'p Override),
    /// With the id that it is for.
    Expiring(&'p str, &'p Override),
    /// Its end depends on the host.
    HostZone(&'p Override),
    Redundant(&'p Override, &'p Because),
    RedundantAnyway(&'p Override),
    /// The second rule is the earlier one.
    Unreachable(&'p Rule, &'p Rule),
    UnusedTier(&'p Choice),
    /// With the id that it is for.
    UnusedOverride(&'p str, &'p Override),
    UnusedRule(&'p Rule),
    UnusedGlob(&'p Rule, String),
    /// With the one whom it is for, and where that stands.
    UnusedAssignment(&'p Assignment, &'p Member, &'p At),
    UndeclaredTier {
        tier: String,
        sessions: usize,
        near: Option<String>,
        /// The first tier that the policy lists.
        first: &'p Choice,
    },
    Withdrawn(Withdrawal),
    GlobInKey(&'p Because),
    DiffersInCase(&'p Because, &'p Because),
}

impl Finding<'_> {
    fn at(&self) -> &At {
        match self {
            Self::Expired(_, entry)
            | Self::Expiring(_, entry)
            | Self::HostZone(entry)
            | Self::Redundant(entry, _)
            | Self::RedundantAnyway(entry)
            | Self::UnusedOverride(_, entry) => &entry.because.at,
            Self::UnusedTier(choice) | Self::UndeclaredTier { first: choice, .. } => &choice.because.at,
            Self::Unreachable(rule, _) | Self::UnusedRule(rule) | Self::UnusedGlob(rule, _) => &rule.start,
            Self::UnusedAssignment(_, _, at) => at,
            Self::GlobInKey(because) | Self::DiffersInCase(because, _) => &because.at,
            Self::Withdrawn(withdrawal) => &withdrawal.at,
        }
    }
}

fn ended(verb: &str, entry: &Override) -> String {
    entry.until.as_ref().map_or_else(String::new, |until| format!("{verb} {} {until}", until.preposition()))
}

/// What to do about an override whose chat is not registered, where another chat may be meant.
fn advice_on(likeness: Likeness, chat: &str, id: &str) -> String {
    let advice = likeness.advice(id);
    match likeness {
        Likeness::Contact | Likeness::Digits => {
            format!("{advice} if the chat's id has changed, write {id:?} = {{ model = …, was = [{chat:?}] }}")
        }
        Likeness::Name | Likeness::Case | Likeness::Plus | Likeness::Spelling => advice,
    }
}

/// A value of the registry that is much like one of a rule which the registry does not have.
fn near_value(rule: &Rule, values: &BTreeMap<Condition, BTreeSet<String>>) -> Option<String> {
    rule.values.iter().find_map(|(condition, wanted)| {
        let known = values.get(condition)?;
        let mut unknown = wanted.iter().filter(|value| !known.contains(value.as_str()));
        let near = |value: &String| suggest::nearest(value, known.iter().map(String::as_str));
        let near = unknown.find_map(near)?;
        Some(format!("did you mean {} = {near:?}?", condition.name()))
    })
}
