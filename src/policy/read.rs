//! Policy text to [`Policy`], with every mistake reported in one go.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZoneDatabase;
use toml::de::DeValue;

use crate::chat::Model;
use crate::diagnostic::{Diagnostic, Level, Place};
use crate::policy::fields::{Item, Mistakes, Section};
use crate::policy::source::Source;
use crate::policy::{
    Because, Choice, Condition, Glob, Override, Policy, Retirement, Rule, Setting, Until, is_glob, syntax,
};
use crate::suggest;

/// Reads a policy from its files, which are in path order.
///
/// # Errors
/// Every mistake, and the warnings, in the order in which they stand in the files.
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
    // The parser recovers from a broken line with a guess: what else is said of that line is about the guess.
    let guessed: BTreeSet<(String, usize)> = diagnostics.iter().filter_map(line).collect();
    let guess = |found: &Diagnostic| {
        astray || (broken && found.code == "missing-key") || line(found).is_some_and(|line| guessed.contains(&line))
    };
    diagnostics.extend(mistakes.into_found().into_iter().filter(|found| !guess(found)));
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

fn line(found: &Diagnostic) -> Option<(String, usize)> {
    found.labels.first().map(|(place, _)| (place.file.clone(), place.line))
}

/// Reads the sections, and gathers what is wrong with them.
pub(super) struct Reader<'r> {
    pub(super) mistakes: &'r Mistakes,
    /// `None` until it is known, and where it cannot be.
    allowed: Option<BTreeSet<Model>>,
    /// The allowed models that no argument of a command can hold.
    pub(super) special_models: Vec<Item<'r>>,
    pub(super) sources: &'r [Source],
    globs_in_keys: Vec<Because>,
}

impl<'r> Reader<'r> {
    fn policy(mut self, mut whole: Section<'r>) -> Option<Policy> {
        let Models { fallback, aliases, time_zone, retired } = self.models(&mut whole);
        let tiers = self.tiers(&mut whole);
        let assignments = self.assignments(&mut whole);
        let rules = self.rules(&mut whole);
        let (chats, former) = self.chats(&mut whole);
        let registry = self.registry(&mut whole);
        let sessions = self.sessions(&mut whole, &registry.existing);
        self.check_registry(&registry, &sessions);
        let rollout = self.rollout(&mut whole, &sessions);
        let (max_changes, batch) = self.limits(&mut whole);
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
            chats,
            former,
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
            allowed.extend(withdrawn.iter().filter_map(|(name, ..)| Model::declarable(name)));
        }
        let retired = self.retired(withdrawn, RETIRED);

        let fallback = self.required(&mut section, "fallback", r#"fallback = "sonnet""#);
        let fallback = fallback.and_then(|item| self.choice(&item, item.name.clone()));

        let mut aliases = BTreeMap::new();
        let written = section.section(self.mistakes, "aliases", ALIASES);
        for (alias, key, item) in written.entries(self.mistakes) {
            let Some(model) = self.model(&item) else { continue };
            let is_allowed = |alias: Model| self.allowed.as_ref().is_some_and(|allowed| allowed.contains(&alias));
            if Model::new(alias).is_some_and(is_allowed) {
                let place = item.source.place(key.clone());
                let message = format!("`{alias}` is an allowed model, so it cannot be another spelling of `{model}`");
                self.mistakes.add(|| {
                    Diagnostic::error("alias-of-itself", message, place, "")
                        .help("remove this alias, or remove the model from `models.allowed`")
                });
            }
            if is_glob(alias) {
                self.globs_in_keys.push(Because { rule: item.name.clone(), at: item.source.at(key) });
            }
            aliases.insert(alias.to_owned(), model);
        }
        let time_zone = section.get(self.mistakes, "time_zone").and_then(|item| self.time_zone(&item));
        section.finish(self.mistakes);
        Models { fallback, aliases, time_zone, retired }
    }

    /// The name of a time zone that the program knows by itself, so that a policy is valid on every host or on none.
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
        let choice = |(tier, key, item): (&str, _, Item<'r>)| {
            let because = Because { rule: format!("tiers.{tier}"), at: item.source.at(key) };
            Some((tier.to_owned(), Choice { model: self.model(&item)?, because }))
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

    /// One string or a list of them. `None` only where the key is absent.
    fn values(&self, table: &mut Section<'r>, key: &'static str, example: &str) -> Option<Vec<String>> {
        let item = table.get(self.mistakes, key)?;
        let items = item.strings(self.mistakes, example).unwrap_or_default();
        Some(items.iter().filter_map(|item| item.string(self.mistakes, example)).map(str::to_owned).collect())
    }

    /// The overrides, and the ids that their chats had before.
    fn chats(&mut self, whole: &mut Section<'r>) -> (BTreeMap<String, Override>, BTreeMap<String, String>) {
        let section = whole.section(self.mistakes, "chats", "a table: [chats]");
        let mut chats = BTreeMap::new();
        let mut renamed = Vec::new();
        for (id, key, item) in section.entries(self.mistakes) {
            let because = Because { rule: format!("chats.{id:?}"), at: item.source.at(key) };
            if is_glob(id) {
                self.globs_in_keys.push(because.clone());
            }
            if let Some((entry, was)) = self.chat(&item, because) {
                chats.insert(id.to_owned(), entry);
                renamed.extend(was.into_iter().map(|old| (id, old)));
            }
        }
        let former = self.former(&chats, &renamed);
        (chats, former)
    }

    /// The ids that chats had before, each of which must stand for one override alone.
    fn former(&self, chats: &BTreeMap<String, Override>, renamed: &[(&str, Item<'r>)]) -> BTreeMap<String, String> {
        let mut former: BTreeMap<String, String> = BTreeMap::new();
        for (id, item) in renamed {
            let Some(old) = item.value.as_str() else { continue };
            let other = if chats.contains_key(old) { Some(old) } else { former.get(old).map(String::as_str) };
            if let Some(entry) = other.and_then(|other| chats.get(other)) {
                self.mistakes.add(|| {
                    let message = format!("there are two overrides for the chat {old:?}");
                    Diagnostic::error("duplicate", message, item.place(), "again here")
                        .and(entry.because.at.place(self.sources), "first here")
                        .help("remove one of them")
                });
            } else {
                former.insert(old.to_owned(), (*id).to_owned());
            }
        }
        former
    }

    /// An override, and where the ids stand that its chat had before.
    fn chat(&self, item: &Item<'r>, because: Because) -> Option<(Override, Vec<Item<'r>>)> {
        const WAS: &str = r#"was = ["+16175550104"]"#;
        const EXAMPLE: &str = r#""opus", or { model = "opus", until = 2026-12-31, reason = "…" }"#;
        if item.value.is_str() {
            let setting = Setting::Model(self.model(item)?);
            let entry = Override { setting, until: None, then: None, reason: None, was: Vec::new(), because };
            return Some((entry, Vec::new()));
        }
        if !item.value.is_table() {
            self.mistakes.add(|| item.wrong_type("a model or a table", EXAMPLE));
            return None;
        }
        let mut table = item.table(self.mistakes, EXAMPLE)?;
        let model = table.get(self.mistakes, "model");
        let managed = table.get(self.mistakes, "managed");
        let managed_here = managed.as_ref().and_then(|item| item.boolean(self.mistakes, "managed = false"));
        let until = table.get(self.mistakes, "until");
        let then = table.get(self.mistakes, "then");
        if let (None, Some(then)) = (&until, &then) {
            self.mistakes.add(|| {
                let message = format!("`{}` has `then` but no `until`", item.name);
                then.mistake("then-without-until", message, "add `until`, as in until = 2026-12-31, or remove `then`")
            });
        }
        let until = until.and_then(|item| self.until(&item));
        let then = then.and_then(|item| self.model(&item));
        let reason = table.get(self.mistakes, "reason");
        let reason = reason.and_then(|item| item.string(self.mistakes, r#"reason = "why""#)).map(str::to_owned);
        let was = table.get(self.mistakes, "was");
        let was = was.and_then(|item| item.list(self.mistakes, WAS)).unwrap_or_default();
        let ids = was.iter().filter_map(|item| self.text(item, WAS)).collect();
        table.finish(self.mistakes);

        let setting = match (model, managed_here) {
            (Some(model), Some(false)) => {
                let message = format!("`{}` has both `managed = false` and a model", item.name);
                let help = "remove the model, or remove `managed = false`";
                self.mistakes.add(|| model.mistake("unmanaged-with-model", message, help));
                return None;
            }
            (Some(model), _) => Setting::Model(self.model(&model)?),
            (None, Some(false)) => Setting::Unmanaged,
            (None, _) => {
                self.mistakes.add(|| {
                    let message = format!("`{}` has neither a model nor `managed = false`", item.name);
                    item.mistake("missing-key", message, r#"add model = "opus", or managed = false"#)
                });
                return None;
            }
        };
        Some((Override { setting, until, then, reason, was: ids, because }, was))
    }

    pub(super) fn until(&self, item: &Item<'r>) -> Option<Until> {
        let parsed = match item.value {
            DeValue::Datetime(time) => {
                let text = time.to_string();
                match (time.date.is_some(), time.time.is_some(), time.offset.is_some()) {
                    (true, true, true) => text.parse().ok().map(Until::Instant),
                    (true, true, false) => text.parse().ok().map(Until::Local),
                    (true, false, _) => text.parse().ok().map(Until::Date),
                    (false, ..) => None,
                }
            }
            _ => None,
        };
        if parsed.is_none() {
            self.mistakes.add(|| {
                let message = format!("`{}` must be a date or a date-time", item.name);
                let how = if matches!(item.value, DeValue::String(_)) {
                    "it without quotes"
                } else {
                    "a day, or a day and a time"
                };
                item.mistake("not-a-date", message, format!("write {how}: until = 2026-12-31, or 2026-12-31T18:00:00"))
            });
        }
        parsed
    }

    /// `limits.max_changes` and `limits.batch`.
    fn limits(&self, whole: &mut Section<'r>) -> (Option<usize>, Option<usize>) {
        let mut section = whole.section(self.mistakes, "limits", "a table: [limits]");
        let limit = section.get(self.mistakes, "max_changes");
        let limit = limit.and_then(|item| item.integer(self.mistakes, 0, 1_000_000_000, "max_changes = 10"));
        let batch = section.get(self.mistakes, "batch");
        let batch = batch.and_then(|item| item.integer(self.mistakes, 1, 1_000_000_000, "batch = 500"));
        section.finish(self.mistakes);
        (limit, batch)
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

    /// For what stands nowhere.
    pub(super) fn start(&self) -> Place {
        self.sources.first().map_or_else(|| Place::new("", "", 0..0), |source| source.place(0..0))
    }

    /// A string that is not empty.
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

/// How a condition of a rule is written.
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

/// What `[models]` says besides what is allowed.
struct Models {
    fallback: Option<Choice>,
    aliases: BTreeMap<String, Model>,
    time_zone: Option<String>,
    retired: BTreeMap<Model, Retirement>,
}

/// Advice on a time zone that there is not. A list of those that there are would not fit.
pub fn zone_advice(name: &str) -> String {
    let zones = TimeZoneDatabase::bundled();
    let names: Vec<String> = zones.available().map(|zone| zone.as_str().to_owned()).collect();
    suggest::nearest(name, names.iter().map(String::as_str))
        .map_or_else(|| "use a name such as Europe/Berlin or UTC".to_owned(), |near| format!("did you mean `{near}`?"))
}
