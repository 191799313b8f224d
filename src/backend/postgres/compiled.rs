//! A policy as SQL: which rows of a table a plan must look at. Each row that comes out is decided again by
//! [`resolve`](crate::resolve::resolve), so this can only leave rows out. Words of the policy go beside a statement, never into
//! its text.

use std::collections::BTreeSet;

use crate::backend::postgres::sql::{Parameter, exactly, many, nothing, one, value};
use crate::chat::Model;
use crate::plan::PlanInput;
use crate::plan::ledger::Ledger;
use crate::policy::{Column, Columns, Condition, Existing, Glob, Policy, Rule, Who};
use crate::withdrawn::soon;

/// A policy that compares more words with a row is not compiled: the server takes longer for that than for handing the row over.
const COMPARISONS: usize = 40;
/// So many keys are compared one after the other. More are looked up in an object of JSON.
const KEYS: usize = 8;
/// $1 and $2 are the lists of a question. The words follow.
const LISTS: usize = 2;

/// What a plan asks of a table. Its conditions may be NULL, which is no.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// That a row has another model than the policy decides. It holds only for chats that are not in `chats`.
    pub(super) differs: String,
    /// That a row counts where a withdrawal is told of, if one is.
    pub(super) withdrawn: Option<String>,
    /// Of each of these, one row must come out that meets it, where there is any: the plan tells which names of the policy no
    /// chat has.
    pub(super) names: Vec<String>,
    /// The tier of a row, where the plan tells which tiers the policy does not list.
    pub(super) tier: Option<String>,
    /// $1: the chats whose rows come out anyhow, because the policy names them, or runs remember something of them.
    pub(super) chats: Vec<String>,
    /// $2: the tiers that are not told of.
    pub(super) tiers: Vec<String>,
    words: Vec<String>,
}

impl Question {
    /// The question of a plan for the whole registry; `None` where each row has to be read.
    pub(super) fn of(input: &PlanInput, ledger: &Ledger, columns: &Columns) -> Option<Self> {
        let policy = input.policy;
        let is_withdrawn = |(model, _): (&Model, _)| policy.in_use(model, input.now) != model;
        // What was set by hand is compared with the model that is written, and a change is to the one in use.
        let is_ambiguous = policy.existing.keeps_manual() && policy.named_models().any(is_withdrawn);
        if !input.selector.is_complete() || is_ambiguous {
            return None;
        }
        let mut compiler = Compiler { input, columns, words: Vec::new(), comparisons: 0 };
        let differs = compiler.differs();
        let tier = Some(compiler.tier()).filter(|_| !policy.tiers.is_empty());
        if compiler.comparisons > COMPARISONS {
            return None;
        }
        let withdrawn = compiler.withdrawn();
        let names = compiler.names();
        let owed = ledger.owed.keys().chain(ledger.failed.keys());
        let remembered = owed.chain(ledger.corrected.keys()).chain(ledger.wrote.keys());
        let listed = policy.chats.keys().chain(policy.former.keys());
        let chats = sendable(listed.chain(remembered).map(String::as_str));
        let rules = policy.rules.iter().filter_map(|rule| rule.values.get(&Condition::Tier)).flatten();
        // An empty text is no tier.
        let listed: BTreeSet<&str> = policy.tiers.keys().chain(rules).map(String::as_str).chain([""]).collect();
        let tiers = sendable(listed.into_iter());
        Some(Self { differs, withdrawn, names, tier, chats, tiers, words: compiler.words })
    }

    /// What goes beside each of its statements.
    pub(super) fn parameters(&self) -> Vec<Parameter<'_>> {
        let words = self.words.iter().map(one);
        [many(&self.chats), many(&self.tiers)].into_iter().chain(words).collect()
    }
}

/// The words that a database can hold: a text with U+0000 is in no row.
fn sendable<'w>(words: impl Iterator<Item = &'w str>) -> Vec<String> {
    words.filter(|word| !word.contains('\0')).map(str::to_owned).collect()
}

struct Compiler<'p> {
    input: &'p PlanInput<'p>,
    columns: &'p Columns,
    words: Vec<String>,
    /// How many words are compared with a row, at most.
    comparisons: usize,
}

impl<'p> Compiler<'p> {
    /// A word as a parameter.
    fn word(&mut self, word: &str) -> String {
        self.words.push(word.to_owned());
        format!("${}", LISTS + self.words.len())
    }

    /// A model as a parameter: what is used instead of it by now.
    fn model(&mut self, model: &'p Model) -> String {
        let in_use = self.input.policy.in_use(model, self.input.now);
        self.word(in_use.as_str())
    }

    /// That what a row says is one of these words. Neither an empty word nor one with U+0000 is: an empty text says nothing.
    fn is_one_of<'w>(&mut self, said: &str, words: impl IntoIterator<Item = &'w str>) -> Option<String> {
        let words = words.into_iter().filter(|word| !word.is_empty() && !word.contains('\0'));
        let words: Vec<String> = words.map(|word| self.word(word)).collect();
        self.comparisons += words.len();
        match words.as_slice() {
            [] => None,
            [word] => Some(format!("{said} = {word}")),
            words => Some(format!("{said} IN ({})", words.join(", "))),
        }
    }

    fn matches(&mut self, glob: &Glob) -> Option<String> {
        let pattern = like(glob);
        if pattern.contains('\0') {
            return None;
        }
        self.comparisons += 1;
        Some(format!("{} LIKE {}", exactly(&value(&self.columns.chat_id)), self.word(&pattern)))
    }

    /// What stands for a key, one after the other or looked up, and for every other key.
    fn lookup(&mut self, key: &str, pairs: &[(&'p str, &'p Model)], otherwise: &str) -> String {
        let policy = self.input.policy;
        if pairs.len() > KEYS {
            self.comparisons += 1;
            let in_use = |model| policy.in_use(model, self.input.now).as_str();
            let object = pairs.iter().map(|(key, model)| ((*key).to_owned(), in_use(model).into()));
            let object = serde_json::Value::Object(object.collect()).to_string();
            return format!("coalesce({}::pg_catalog.jsonb ->> {key}, {otherwise})", self.word(&object));
        }
        self.comparisons += pairs.len();
        let cases = pairs.iter().map(|(key, model)| format!("WHEN {} THEN {}", self.word(key), self.model(model)));
        let cases: Vec<String> = cases.collect();
        if cases.is_empty() {
            otherwise.to_owned()
        } else {
            format!("CASE {key} {} ELSE {otherwise} END", cases.join(" "))
        }
    }

    fn column(column: Option<&Column>) -> String {
        column.map_or_else(nothing, |column| exactly(&value(column)))
    }

    /// The tier of a row, or the one that the policy gives it where it has none.
    fn tier(&mut self) -> String {
        let said = Self::column(self.columns.tier.as_ref());
        let policy = self.input.policy;
        let mut cases = Vec::new();
        for assignment in &policy.assignments {
            let members = assignment.members.iter().filter_map(|member| self.is(&member.who));
            let members: Vec<String> = members.collect();
            if !members.is_empty() && !assignment.tier.contains('\0') {
                cases.push(format!("WHEN {} THEN {}", members.join(" OR "), self.word(&assignment.tier)));
            }
        }
        if cases.is_empty() {
            return said;
        }
        exactly(&format!("coalesce(nullif({said}, ''), CASE {} END)", cases.join(" ")))
    }

    /// That a row is of the chats whom an assignment is for.
    fn is(&mut self, who: &Who) -> Option<String> {
        match who {
            Who::Chats(glob) => self.matches(glob),
            Who::Contact(name) => {
                let said = Self::column(self.columns.contact_name.as_ref());
                self.is_one_of(&said, [name.as_str()])
            }
        }
    }

    /// That a rule speaks of a row; `None` where it speaks of none.
    fn speaks(&mut self, rule: &Rule) -> Option<String> {
        let mut conditions = Vec::new();
        for (condition, words) in &rule.values {
            let said = match condition {
                Condition::Source => Self::column(self.columns.source.as_ref()),
                Condition::Type => Self::column(self.columns.kind.as_ref()),
                Condition::Tier => self.tier(),
                // A table has no such column, and so no row that meets it.
                Condition::Agent | Condition::Account => return None,
                Condition::Chat => exactly(&value(&self.columns.chat_id)),
            };
            conditions.push(self.is_one_of(&said, words.iter().map(String::as_str))?);
        }
        if rule.chat.is_some() {
            let globs: Vec<String> = rule.globs().iter().filter_map(|glob| self.matches(glob)).collect();
            if globs.is_empty() {
                return None;
            }
            conditions.push(format!("({})", globs.join(" OR ")));
        }
        Some(conditions.join(" AND "))
    }

    /// The model that rules, tiers and fallback give a row.
    fn written(&mut self) -> String {
        let policy: &'p Policy = self.input.policy;
        let mut cases = Vec::new();
        for rule in &policy.rules {
            if let Some(speaks) = self.speaks(rule) {
                cases.push(format!("WHEN {speaks} THEN {}", self.model(&rule.choice.model)));
            }
        }
        let fallback = self.model(&policy.fallback.model);
        let tiers = policy.tiers.iter().map(|(tier, choice)| (tier.as_str(), &choice.model));
        let tiers: Vec<_> = tiers.filter(|(tier, _)| !tier.is_empty() && !tier.contains('\0')).collect();
        let of_tier = if tiers.is_empty() {
            fallback
        } else {
            let tier = self.tier();
            self.lookup(&tier, &tiers, &fallback)
        };
        if cases.is_empty() { of_tier } else { format!("CASE {} ELSE {of_tier} END", cases.join(" ")) }
    }

    /// The model that a row says, as the policy spells it.
    fn canonical(&mut self) -> String {
        let said = exactly(&value(&self.columns.model));
        let aliases = self.input.policy.aliases.iter().map(|(alias, model)| (alias.as_str(), model));
        let aliases: Vec<_> = aliases.filter(|(alias, _)| !alias.is_empty() && !alias.contains('\0')).collect();
        self.lookup(&said, &aliases, &said)
    }

    fn differs(&mut self) -> String {
        let policy: &'p Policy = self.input.policy;
        let (says, written) = (self.canonical(), self.written());
        let differs = format!("({written}) IS DISTINCT FROM ({says})");
        let Existing::Keep(_) = policy.existing else { return differs };
        let is_in_use = |model: &&Model| policy.in_use(model, self.input.now) == *model;
        let kept: Vec<&str> = policy.allowed.iter().filter(is_in_use).map(Model::as_str).collect();
        let is_kept = self.is_one_of(&format!("({says})"), kept).unwrap_or_else(|| "false".to_owned());
        format!("CASE WHEN {is_kept} THEN false ELSE {differs} END")
    }

    fn withdrawn(&mut self) -> Option<String> {
        let says = self.canonical();
        let models = soon(self.input.policy, self.input.now).map(|(model, _)| model.as_str());
        self.is_one_of(&format!("({says})"), models)
    }

    /// All names of rules and assignments that a chat may have.
    fn names(&mut self) -> Vec<String> {
        let policy: &'p Policy = self.input.policy;
        let mut names = Vec::new();
        for rule in &policy.rules {
            names.extend(self.speaks(rule));
            if rule.globs().len() > 1 {
                names.extend(rule.globs().iter().filter_map(|glob| self.matches(glob)));
            }
        }
        for assignment in &policy.assignments {
            names.extend(assignment.members.iter().filter_map(|member| self.is(&member.who)));
        }
        names
    }
}

/// The pattern of LIKE that matches what a glob matches.
fn like(glob: &Glob) -> String {
    let mut pattern = String::new();
    for symbol in glob.pattern().chars() {
        match symbol {
            '*' => pattern.push('%'),
            '?' => pattern.push('_'),
            '%' | '_' | '\\' => pattern.extend(['\\', symbol]),
            other => pattern.push(other),
        }
    }
    pattern
}
