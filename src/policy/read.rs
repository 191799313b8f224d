//! Policy text to [`Policy`], with every mistake reported in one go.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZoneDatabase;

use crate::chat::Model;
use crate::diagnostic::{Diagnostic, Level, Place};
use crate::policy::fields::{Item, KeyValue, Mistakes, Section};
use crate::policy::source::Source;
use crate::policy::{Because, Choice, Condition, Glob, Policy, Retirement, Rule, is_glob, syntax};
use crate::suggest;

/// Reads a policy from its files, which are in path order. Returns the warnings with it, in the order of the files.
///
/// # Errors
/// Every mistake, and the warnings, in the order of the files.
pub fn read(sources: &[Source]) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let (mut unread, mut astray) = (0, false);
    let mut trees = Vec::with_capacity(sources.len());
    for source in sources {
        let parsed = syntax::parse(source);
        unread += parsed.unread;
        astray |= parsed.astray;
        diagnostics.extend(parsed.mistakes);
        trees.push(parsed.tree);
    }
    let mistakes = Mistakes::default();
    let whole = Section::whole(sources.iter().zip(&trees));
    let policy =
        Reader { mistakes: &mistakes, allowed: None, special_models: Vec::new(), sources, globs_in_keys: Vec::new() }
            .policy(whole);

    let more = if astray { unread } else { mistakes.more.get() };
    let broken = !diagnostics.is_empty();
    // The parser recovers from a broken line with a guess. Further mistakes in that line, and keys that seem to be missing, may come
    // from the guess.
    let guessed: BTreeSet<(String, usize)> = diagnostics.iter().filter_map(line).collect();
    let is_doubtful = |found: &Diagnostic| {
        astray || (broken && found.code == "missing-key") || line(found).is_some_and(|line| guessed.contains(&line))
    };
    diagnostics.extend(mistakes.into_found().into_iter().filter(|found| !is_doubtful(found)));
    diagnostics.sort_by(|a, b| a.order().cmp(&b.order()));
    if let Some(last) = diagnostics.last_mut().filter(|_| more > 0) {
        let help = last.help.take().map_or_else(String::new, |help| format!("{help}; "));
        last.help = Some(format!("{help}{more} more not shown"));
    }
    let valid = diagnostics.iter().all(|found| found.level != Level::Error);
    match policy {
        Some(policy) if valid => Ok((policy, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// The file and the line of the first place of a diagnostic.
fn line(found: &Diagnostic) -> Option<(String, usize)> {
    found.labels.first().map(|(place, _)| (place.file.clone(), place.line))
}

/// Reads the sections, and gathers what is wrong with them.
pub(super) struct Reader<'r> {
    pub(super) mistakes: &'r Mistakes,
    /// The models that the policy may name; `None` until `models.allowed` is read, and where it is wrong.
    allowed: Option<BTreeSet<Model>>,
    /// The allowed models whose names cannot be arguments of commands.
    pub(super) special_models: Vec<Item<'r>>,
    pub(super) sources: &'r [Source],
    pub(super) globs_in_keys: Vec<Because>,
}

impl<'r> Reader<'r> {
    fn policy(mut self, mut whole: Section<'r>) -> Option<Policy> {
        let Models { fallback, aliases, time_zone, retired } = self.models(&mut whole);
        let tiers = self.tiers(&mut whole);
        let assignments = self.assignments(&mut whole);
        let rules = self.rules(&mut whole);
        let chats = self.chats(&mut whole);
        let registry = self.registry(&mut whole);
        let sessions = self.sessions(&mut whole, &registry.existing);
        self.check_registry(&registry, &sessions);
        let rollout = self.rollout(&mut whole, &sessions);
        let Limits { max_changes, batch } = self.limits(&mut whole);
        whole.finish(self.mistakes);
        let policy = Policy {
            allowed: self.allowed.take()?,
            time_zone,
            retired,
            aliases,
            fallback: fallback?,
            tiers,
            assignments,
            rules,
            chats: chats.overrides,
            former: chats.former,
            redacted_tiers: BTreeMap::new(),
            globs_in_keys: std::mem::take(&mut self.globs_in_keys),
            registry: registry.path,
            form: registry.form,
            table: registry.table,
            existing: registry.existing,
            sessions,
            rollout,
            max_changes,
            batch,
        };
        self.check_dates(&policy);
        Some(policy)
    }

    fn models(&mut self, whole: &mut Section<'r>) -> Models {
        const ALLOWED: &str = r#"allowed = ["opus", "sonnet", "haiku"]"#;
        const RETIRED: &str = r#"retired = { "opus-4" = { on = 2026-12-01, use = "opus-5" } }"#;
        const ALIASES: &str = r#"aliases = { "claude-opus-4-6" = "opus" }"#;
        let mut section = whole.section(self.mistakes, "models", "a table: [models]");

        let allowed = self.required(&mut section, "allowed", ALLOWED);
        self.allowed = allowed.and_then(|item| item.list(self.mistakes, ALLOWED)).map(|items| {
            let mut models = BTreeSet::new();
            for item in items {
                let Some(model) = self.model_name(&item) else { continue };
                if !model.is_plain() {
                    self.special_models.push(item.clone());
                }
                if let Some(model) = models.replace(model) {
                    let message = format!("`{model}` is listed twice");
                    self.mistakes.add(|| item.mistake("duplicate", message, "remove one of them"));
                }
            }
            models
        });

        let withdrawn = section.section(self.mistakes, "retired", RETIRED).entries(self.mistakes);
        if let Some(allowed) = &mut self.allowed {
            allowed.extend(withdrawn.iter().filter_map(|entry| Model::declarable(entry.key)));
        }
        let retired = self.retired(withdrawn, RETIRED);

        let fallback = self.required(&mut section, "fallback", r#"fallback = "sonnet""#);
        let fallback = fallback.and_then(|item| self.choice(&item, item.name.clone()));

        let mut aliases = BTreeMap::new();
        let written = section.section(self.mistakes, "aliases", ALIASES);
        for entry in written.entries(self.mistakes) {
            let alias = entry.key;
            let Some(model) = self.model(&entry.value) else { continue };
            let is_allowed = |alias: Model| self.allowed.as_ref().is_some_and(|allowed| allowed.contains(&alias));
            if Model::new(alias).is_some_and(is_allowed) {
                let place = entry.value.source.place(entry.key_span.clone());
                let message = format!("`{alias}` is an allowed model, so it cannot be another spelling of `{model}`");
                self.mistakes.add(|| {
                    Diagnostic::error("alias-of-itself", message, place, "")
                        .help("remove this alias, or remove the model from `models.allowed`")
                });
            }
            if is_glob(alias) {
                self.globs_in_keys.push(Because { rule: entry.value.name.clone(), at: entry.at() });
            }
            aliases.insert(alias.to_owned(), model);
        }
        let time_zone = section.get(self.mistakes, "time_zone").and_then(|item| self.time_zone(&item));
        section.finish(self.mistakes);
        Models { fallback, aliases, time_zone, retired }
    }

    /// The name of a time zone. It is looked up in the database that is built in, and not in the host's, so that a policy is valid
    /// on all hosts or on none.
    fn time_zone(&self, item: &Item<'r>) -> Option<String> {
        let name = self.text(item, r#"time_zone = "Europe/Berlin""#)?;
        if let Ok(zone) = TimeZoneDatabase::bundled().get(&name) {
            return zone.iana_name().map(str::to_owned);
        }
        self.mistakes.add(|| {
            let message = format!("unknown time zone `{name}`");
            item.mistake("unknown-time-zone", message, zone_advice(&name))
        });
        None
    }

    fn tiers(&self, whole: &mut Section<'r>) -> BTreeMap<String, Choice> {
        let section = whole.section(self.mistakes, "tiers", "a table: [tiers]");
        let choice = |entry: KeyValue<'r>| {
            let because = Because { rule: format!("tiers.{}", entry.key), at: entry.at() };
            Some((entry.key.to_owned(), Choice { model: self.model(&entry.value)?, because }))
        };
        section.entries(self.mistakes).into_iter().filter_map(choice).collect()
    }

    fn rules(&self, whole: &mut Section<'r>) -> Vec<Rule> {
        let tables = whole.tables(self.mistakes, "rules", "an array of tables: [[rules]]");
        tables.into_iter().filter_map(|table| self.rule(table)).collect()
    }

    fn rule(&self, mut table: Section<'r>) -> Option<Rule> {
        let name = table.name.clone();
        let mut values = BTreeMap::new();
        for condition in Condition::ON_VALUES {
            let wanted = self.values(&mut table, condition.name(), example_of(condition));
            values.extend(wanted.map(|wanted| (condition, wanted)));
        }
        let chat = self.values(&mut table, "chat", example_of(Condition::Chat));
        let model = self.required(&mut table, "model", r#"model = "sonnet""#);
        if values.is_empty() && chat.is_none() {
            self.mistakes.add(|| {
                let message = format!("`{name}` has no condition");
                let place = table.place().unwrap_or_else(|| self.start());
                let others = Condition::ON_VALUES.map(Condition::name).join(", ");
                let advice = format!("add at least one of {others} and chat, or set models.fallback instead");
                Diagnostic::error("rule-without-condition", message, place, "it would match every chat").help(advice)
            });
        }
        let start = table.at();
        table.finish(self.mistakes);
        let chat = chat.map(|globs| globs.iter().map(|glob| Glob::new(glob)).collect());
        Some(Rule { values, chat, choice: self.choice(&model?, name)?, start: start? })
    }

    /// The value of a key: one string, or a list of them. `None` only where the key is absent.
    fn values(&self, table: &mut Section<'r>, key: &'static str, example: &str) -> Option<Vec<String>> {
        let item = table.get(self.mistakes, key)?;
        let items = item.strings(self.mistakes, example).unwrap_or_default();
        Some(items.iter().filter_map(|item| item.string(self.mistakes, example)).map(str::to_owned).collect())
    }

    /// Reads `[limits]`.
    fn limits(&self, whole: &mut Section<'r>) -> Limits {
        let mut section = whole.section(self.mistakes, "limits", "a table: [limits]");
        let max_changes = section.get(self.mistakes, "max_changes");
        let max_changes =
            max_changes.and_then(|item| item.integer(self.mistakes, 0, 1_000_000_000, "max_changes = 10"));
        let batch = section.get(self.mistakes, "batch");
        let batch = batch.and_then(|item| item.integer(self.mistakes, 1, 1_000_000_000, "batch = 500"));
        section.finish(self.mistakes);
        Limits { max_changes, batch }
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, section: &mut Section<'r>, key: &'static str, example: &str) -> Option<Item<'r>> {
        let found = section.get(self.mistakes, key);
        if found.is_none() {
            self.mistakes.add(|| {
                let message = format!("`{}.{key}` is missing", section.name);
                let header = if section.is_written() { "" } else { " below a line [models]" };
                let place = section.place().unwrap_or_else(|| self.start());
                Diagnostic::error("missing-key", message, place, "").help(format!("add {example}{header}"))
            });
        }
        found
    }

    /// The start of the first file: the place of a mistake that has no place of its own.
    pub(super) fn start(&self) -> Place {
        self.sources.first().map_or_else(|| Place::new("", "", 0..0), |source| source.place(0..0))
    }

    /// A string that is not empty and has no NUL character.
    pub(super) fn text(&self, item: &Item<'r>, example: &str) -> Option<String> {
        let text = item.string(self.mistakes, example)?;
        let advice = || format!("write it as {example}");
        if text.is_empty() {
            self.mistakes.add(|| item.mistake("empty", format!("`{}` must not be empty", item.name), advice()));
            return None;
        }
        if text.contains('\0') {
            let message = || format!("`{}` must not contain a NUL character", item.name);
            self.mistakes.add(|| item.mistake("nul", message(), advice()));
            return None;
        }
        Some(text.to_owned())
    }

    /// One of a few words.
    pub(super) fn word(&self, item: &Item<'r>, known: &[&'static str]) -> Option<&'static str> {
        let text = item.string(self.mistakes, &format!("{:?}", known.first()?))?;
        let word = known.iter().copied().find(|word| *word == text);
        if word.is_none() {
            self.mistakes.add(|| {
                let message = format!("`{text}` is not a valid value for `{}`", item.name);
                item.mistake("unknown-value", message, suggest::advice(text, known.iter().copied()))
            });
        }
        word
    }

    /// A model that the policy allows, chosen by the part of the policy with this name.
    fn choice(&self, item: &Item<'r>, rule: String) -> Option<Choice> {
        let because = Because { rule, at: item.source.at(item.span.clone()) };
        self.model(item).map(|model| Choice { model, because })
    }

    /// A model that the policy allows.
    pub(super) fn model(&self, item: &Item<'r>) -> Option<Model> {
        let model = self.model_name(item)?;
        let allowed = self.allowed.as_ref()?;
        if !allowed.contains(&model) {
            self.mistakes.add(|| {
                let message = format!("`{model}` is not an allowed model");
                Diagnostic::error("model-not-allowed", message, item.place(), "not in `models.allowed`")
                    .help(suggest::advice(model.as_str(), allowed.iter().map(Model::as_str)))
            });
            return None;
        }
        Some(model)
    }

    /// A model whose name can be declared, allowed or not.
    fn model_name(&self, item: &Item<'r>) -> Option<Model> {
        let text = item.string(self.mistakes, "\"opus\"")?;
        let model = Model::declarable(text);
        if model.is_none() {
            self.mistakes.add(|| {
                let message = format!("`{}` is not a valid model name", item.name);
                item.mistake(
                    "not-a-model",
                    message,
                    format!("use 1 to {} bytes, without blanks and control characters", Model::LONGEST),
                )
            });
        }
        model
    }
}

/// An example of a condition of a rule.
fn example_of(condition: Condition) -> &'static str {
    match condition {
        Condition::Source => r#"source = "discord""#,
        Condition::Tier => r#"tier = ["family", "favorite"]"#,
        Condition::Type => r#"type = "group""#,
        Condition::Agent => r#"agent = "work""#,
        Condition::Account => r#"account = "personal""#,
        Condition::Chat => r#"chat = "discord:*""#,
    }
}

/// `[models]` without `allowed`, which is in the reader.
struct Models {
    fallback: Option<Choice>,
    aliases: BTreeMap<String, Model>,
    time_zone: Option<String>,
    retired: BTreeMap<Model, Retirement>,
}

/// `[limits]`.
struct Limits {
    max_changes: Option<usize>,
    batch: Option<usize>,
}

/// A hint for a time zone that does not exist: the most similar one. There are too many to list.
pub fn zone_advice(name: &str) -> String {
    let zones = TimeZoneDatabase::bundled();
    let names: Vec<String> = zones.available().map(|zone| zone.as_str().to_owned()).collect();
    suggest::nearest(name, names.iter().map(String::as_str))
        .map_or_else(|| "use a name such as Europe/Berlin or UTC".to_owned(), |near| format!("did you mean `{near}`?"))
}
