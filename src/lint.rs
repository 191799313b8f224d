//! What a policy may say, and probably does not mean: overrides without effect, rules that never match, names that no chat
//! has.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Zoned;

use crate::diagnostic::Diagnostic;
use crate::error::Result;
use crate::policy::{At, Because, Choice, Existing, Override, Policy, Rule, Setting, Source};
use crate::registry::Snapshot;
use crate::resolve::{Decision, resolve_default};

/// More than these are counted, not shown.
const SHOWN: usize = 100;

/// Comparing every rule with every other is given up after about so many steps.
const PATIENCE: usize = 20_000_000;

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
#[derive(Default)]
struct Seen<'p> {
    tiers: BTreeSet<&'p str>,
    /// The chats that have an override, and what they would get without it.
    overridden: BTreeMap<String, Decision<'p>>,
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
        if let Some(seen) = &seen {
            let unused = self.policy.tiers.iter().filter(|(tier, _)| !seen.tiers.contains(tier.as_str()));
            found.extend(unused.map(|(_, choice)| Finding::UnusedTier(choice)));
        }
        found.sort_by(|a, b| a.at().order().cmp(&b.at().order()));
        let more = found.len().saturating_sub(SHOWN);
        let mut warnings: Vec<Diagnostic> = found.iter().take(SHOWN).map(|finding| self.diagnostic(finding)).collect();
        if let Some(last) = warnings.last_mut().filter(|_| more > 0) {
            let help = last.help.take().unwrap_or_default();
            last.help = Some(format!("{help}; {more} more warnings are not shown"));
        }
        Ok(warnings)
    }

    fn look(&self, snapshot: &dyn Snapshot) -> Result<Seen<'a>> {
        let policy = self.policy;
        let mut seen = Seen::default();
        snapshot.each(&mut |entry| {
            let tier = entry.chat.tier.as_deref().and_then(|tier| policy.tiers.get_key_value(tier));
            seen.tiers.extend(tier.map(|(tier, _)| tier.as_str()));
            if policy.chats.contains_key(entry.chat.id.as_ref()) {
                let default = resolve_default(policy, &entry.chat, entry.model.as_deref().into());
                seen.overridden.insert(entry.chat.id.into_owned(), default);
            }
        })?;
        Ok(seen)
    }

    fn of_overrides(&self, seen: Option<&Seen<'a>>) -> Vec<Finding<'a>> {
        let mut found = Vec::new();
        let anyway = self.anyway();
        for (chat, entry) in &self.policy.chats {
            let ends_by = |time| entry.until.as_ref().is_some_and(|until| until.is_past(time));
            if ends_by(self.now) {
                found.push(Finding::Expired(entry));
                continue;
            }
            // Where it says what counts then, its end is expected, and it says more than one model.
            if entry.then.is_some() {
                continue;
            }
            found.extend(ends_by(self.horizon).then_some(Finding::Expiring(entry)));
            found.extend(match seen.map(|seen| seen.overridden.get(chat)) {
                None => anyway(chat, entry).then_some(Finding::RedundantAnyway(entry)),
                Some(None) => Some(Finding::UnusedOverride(entry)),
                Some(Some(default)) => {
                    self.equals(entry, default).then_some(Finding::Redundant(entry, default.because))
                }
            });
        }
        found
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

    fn diagnostic(&self, finding: &Finding) -> Diagnostic {
        let place = |at: &At| at.place(self.sources);
        let at = place(finding.at());
        match finding {
            Finding::Expired(entry) => {
                let message = format!("the override `{}` is over", entry.because.rule);
                let shorter = |then| format!("what counts is its `then`: write \"{then}\" alone, or a later `until`");
                let help = entry.then.as_ref().map_or("remove it, or give it a later `until`".to_owned(), shorter);
                Diagnostic::warning("expired-override", message, at, ended("ended with", entry)).help(help)
            }
            Finding::Expiring(entry) => {
                let message = format!("the override `{}` is over soon", entry.because.rule);
                Diagnostic::warning("expiring-override", message, at, ended("ends with", entry))
                    .help("nothing needs to be done if that is meant; else give it a later `until`")
            }
            Finding::HostZone(entry) => {
                let message = "`until` without an offset counts in the time zone of each host that reads the policy";
                Diagnostic::note("no-time-zone", message, at, ended("ends with", entry))
                    .help("to make it the same everywhere, set a zone below [models]: time_zone = \"Europe/Berlin\"")
            }
            Finding::Redundant(entry, because) => {
                let message = format!("the override `{}` changes nothing", entry.because.rule);
                let label = format!("the chat has the same model by `{}`", because.rule);
                Diagnostic::warning("redundant-override", message, at, "")
                    .and(place(&because.at), label)
                    .help("remove it, unless it is to stay when that changes")
            }
            Finding::RedundantAnyway(entry) => {
                let message = format!("the override `{}` changes nothing", entry.because.rule);
                let label = "the chat has the same model without it, whatever its tier, type and source";
                Diagnostic::warning("redundant-override", message, at, label)
                    .help("remove it, unless it is to stay when rules, tiers or fallback change")
            }
            Finding::Unreachable(rule, earlier) => {
                let (name, earlier_name) = (&rule.choice.because.rule, &earlier.choice.because.rule);
                let message = format!("the rule `{name}` never decides");
                let label = format!("`{earlier_name}` matches every chat that it matches, and comes first");
                Diagnostic::warning("unreachable-rule", message, at, "")
                    .and(place(&earlier.start), label)
                    .help(format!("remove it, or move it before `{earlier_name}`"))
            }
            Finding::UnusedTier(choice) => {
                let message = format!("no session has the tier of `{}`", choice.because.rule);
                Diagnostic::warning("unused-tier", message, at, self.nobody())
                    .help("remove it if there will be none, or see whether the name is right")
            }
            Finding::UnusedOverride(entry) => {
                let message = format!("no session has the chat of `{}`", entry.because.rule);
                Diagnostic::warning("unused-override", message, at, self.nobody())
                    .help("remove it if the chat is gone, or see whether the id is right")
            }
        }
    }

    fn nobody(&self) -> String {
        self.registry.map_or_else(String::new, |snapshot| format!("not in {}", snapshot.name()))
    }
}

/// What was found, before anybody looks for its line.
enum Finding<'p> {
    Expired(&'p Override),
    Expiring(&'p Override),
    /// Its end depends on the host.
    HostZone(&'p Override),
    Redundant(&'p Override, &'p Because),
    RedundantAnyway(&'p Override),
    /// The second rule is the earlier one.
    Unreachable(&'p Rule, &'p Rule),
    UnusedTier(&'p Choice),
    UnusedOverride(&'p Override),
}

impl Finding<'_> {
    fn at(&self) -> &At {
        match self {
            Self::Expired(entry)
            | Self::Expiring(entry)
            | Self::HostZone(entry)
            | Self::Redundant(entry, _)
            | Self::RedundantAnyway(entry)
            | Self::UnusedOverride(entry) => &entry.because.at,
            Self::UnusedTier(choice) => &choice.because.at,
            Self::Unreachable(rule, _) => &rule.start,
        }
    }
}

fn ended(verb: &str, entry: &Override) -> String {
    entry.until.as_ref().map_or_else(String::new, |until| format!("it {verb} {until}"))
}
