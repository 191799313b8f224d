//! Typed access to the keys of a table. The keys that are asked for are the known keys, so there is no second list of
//! them to keep in step; a key that no reader asked for is a mistake.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Place};
use crate::length;
use crate::policy::At;
use crate::policy::source::Source;
use crate::suggest;

/// At most this many mistakes are shown. The rest is counted: the wrong file was probably passed.
pub(super) const MISTAKES_SHOWN: usize = 100;
/// The sections of a policy.
const SECTIONS: [&str; 8] = ["models", "tiers", "rules", "chats", "registry", "sessions", "rollout", "limits"];
/// The longest duration that a setting can have.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The mistakes that were found so far.
#[derive(Default)]
pub(super) struct Mistakes {
    found: RefCell<Vec<Diagnostic>>,
    /// How many were found beyond [`MISTAKES_SHOWN`].
    pub(super) more: Cell<usize>,
}

impl Mistakes {
    /// Adds a mistake. It is built only if it will be shown.
    pub(super) fn add(&self, mistake: impl FnOnce() -> Diagnostic) {
        let mut found = self.found.borrow_mut();
        if found.len() < MISTAKES_SHOWN {
            found.push(mistake());
        } else {
            self.more.set(self.more.get() + 1);
        }
    }

    pub(super) fn into_found(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }
}

/// A value of a policy, with its name and its place.
#[derive(Clone)]
pub(super) struct Item<'s> {
    pub(super) source: &'s Source,
    /// Its full name, such as `sessions.timeout` or `rules[0].tier`.
    pub(super) name: String,
    pub(super) span: Range<usize>,
    pub(super) value: &'s DeValue<'s>,
}

impl<'s> Item<'s> {
    fn new(source: &'s Source, name: String, value: &'s Spanned<DeValue<'s>>) -> Self {
        Self { source, name, span: value.span(), value: value.get_ref() }
    }

    pub(super) fn place(&self) -> Place {
        self.source.place(self.span.clone())
    }

    /// The place of this value with the value replaced by `…`, because it may be a secret.
    pub(super) fn hidden_place(&self) -> Place {
        const HIDDEN: &str = "…";
        let mut place = self.place();
        place.excerpt.truncate(place.caret.start);
        place.excerpt.push_str(HIDDEN);
        place.caret.end = place.caret.start + HIDDEN.len();
        place
    }

    /// A mistake in this value.
    pub(super) fn mistake(
        &self,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::error(code, message, self.place(), "").help(help)
    }

    pub(super) fn wrong_type(&self, wanted: &str, example: &str) -> Diagnostic {
        let found = match self.value.type_str() {
            kind @ ("integer" | "array") => format!("an {kind}"),
            kind => format!("a {kind}"),
        };
        let message = format!("`{}` must be {wanted}", self.name);
        Diagnostic::error("wrong-type", message, self.place(), format!("this is {found}"))
            .help(format!("write it as {example}"))
    }

    pub(super) fn string(&self, mistakes: &Mistakes, example: &str) -> Option<&'s str> {
        let text = self.value.as_str();
        if text.is_none() {
            mistakes.add(|| self.wrong_type("a string", example));
        }
        text
    }

    pub(super) fn boolean(&self, mistakes: &Mistakes, example: &str) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            mistakes.add(|| self.wrong_type("true or false", example));
        }
        value
    }

    /// A whole number from `least` to `most`.
    pub(super) fn integer(&self, mistakes: &Mistakes, least: usize, most: usize, example: &str) -> Option<usize> {
        let Some(integer) = self.value.as_integer() else {
            mistakes.add(|| self.wrong_type("a whole number", example));
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|number| usize::try_from(number).ok());
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            mistakes.add(|| {
                let message = format!("`{}` must be between {least} and {most}", self.name);
                self.mistake("out-of-range", message, format!("write it as {example}"))
            });
        }
        number
    }

    /// A duration above zero and of at most a day, such as "30s" or "2m".
    pub(super) fn duration(&self, mistakes: &Mistakes, example: &str) -> Option<Duration> {
        self.duration_from(Duration::from_nanos(1), mistakes, example)
    }

    /// A duration of at most a day, which may be zero: "0s".
    pub(super) fn wait(&self, mistakes: &Mistakes, example: &str) -> Option<Duration> {
        self.duration_from(Duration::ZERO, mistakes, example)
    }

    /// A duration from `least` to a day.
    fn duration_from(&self, least: Duration, mistakes: &Mistakes, example: &str) -> Option<Duration> {
        let text = self.string(mistakes, example)?;
        let parsed = length::duration(text).filter(|duration| (least..=LONGEST).contains(duration));
        if parsed.is_none() {
            mistakes.add(|| {
                let range = if least.is_zero() { "from 0s to" } else { "longer than 0s and at most" };
                let message = format!("`{}` must be a duration {range} 24h", self.name);
                self.mistake("not-a-duration", message, format!("write {} {example}", length::FORM))
            });
        }
        parsed
    }

    pub(super) fn table(&self, mistakes: &Mistakes, example: &str) -> Option<Section<'s>> {
        let table = self.value.as_table();
        if table.is_none() {
            mistakes.add(|| self.wrong_type("a table", example));
        }
        let part = Part { source: self.source, span: self.span.clone(), table: table? };
        Some(Section { name: self.name.clone(), parts: vec![part], asked: Vec::new() })
    }

    /// The items of a list, which must have at least one.
    pub(super) fn list(&self, mistakes: &Mistakes, example: &str) -> Option<Vec<Item<'s>>> {
        let Some(items) = self.value.as_array() else {
            mistakes.add(|| self.wrong_type("a list", example));
            return None;
        };
        if items.is_empty() {
            mistakes.add(|| {
                self.mistake("empty", format!("`{}` must not be empty", self.name), format!("write it as {example}"))
            });
            return None;
        }
        let named = |(index, item)| Item::new(self.source, format!("{}[{index}]", self.name), item);
        Some(items.iter().enumerate().map(named).collect())
    }

    /// One string or a list of them.
    pub(super) fn strings(&self, mistakes: &Mistakes, example: &str) -> Option<Vec<Item<'s>>> {
        if self.value.is_str() { Some(vec![self.clone()]) } else { self.list(mistakes, example) }
    }
}

/// A key of the user's own choice, such as a chat id, and its value.
pub(super) struct KeyValue<'s> {
    pub(super) key: &'s str,
    /// Where the key stands in the file of the value, in bytes.
    pub(super) key_span: Range<usize>,
    pub(super) value: Item<'s>,
}

impl KeyValue<'_> {
    /// Where the key stands.
    pub(super) fn at(&self) -> At {
        self.value.source.at(self.key_span.clone())
    }
}

/// A table in one file.
struct Part<'s> {
    source: &'s Source,
    /// Where the table stands, in bytes.
    span: Range<usize>,
    table: &'s DeTable<'s>,
}

/// A table, of which each file of the policy may have a part.
pub(super) struct Section<'s> {
    /// The full name of the table, such as `rules[0]`; empty for the top of the files.
    pub(super) name: String,
    parts: Vec<Part<'s>>,
    /// The keys that a reader has asked for.
    asked: Vec<&'static str>,
}

impl<'s> Section<'s> {
    /// The top of all files together.
    pub(super) fn whole(files: impl IntoIterator<Item = (&'s Source, &'s Spanned<DeTable<'s>>)>) -> Self {
        let part = |(source, table): (_, &'s Spanned<DeTable<'s>>)| Part { source, span: 0..0, table: table.get_ref() };
        Self { name: String::new(), parts: files.into_iter().map(part).collect(), asked: Vec::new() }
    }

    /// The name of a key from the top of the file on, such as `sessions.timeout`.
    fn full_name(&self, key: &str) -> String {
        let bare = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') && !key.is_empty();
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        if self.name.is_empty() { key } else { format!("{}.{key}", self.name) }
    }

    /// Where its first part stands, for a diagnostic. `None` where the table is not written.
    pub(super) fn place(&self) -> Option<Place> {
        self.parts.first().map(|part| part.source.place(part.span.clone()))
    }

    /// Where its first part stands, for a value that is kept. `None` where the table is not written.
    pub(super) fn at(&self) -> Option<At> {
        self.parts.first().map(|part| part.source.at(part.span.clone()))
    }

    /// The values of this key: at most one of each file.
    fn all(&mut self, key: &'static str) -> Vec<Item<'s>> {
        self.asked.push(key);
        let misspelt = self.misspelt(key);
        let written = |part: &Part<'s>| part.table.get(key).or_else(|| part.table.get(misspelt.as_deref()?));
        let value = |part: &Part<'s>| Some(Item::new(part.source, self.full_name(key), written(part)?));
        self.parts.iter().filter_map(value).collect()
    }

    /// The key that probably is a misspelling of this section's name, where no file has the section. The key is reported as
    /// unknown, and the section is read nevertheless, so that its mistakes are found, too.
    fn misspelt(&self, key: &str) -> Option<String> {
        let has = |name: &str| self.parts.iter().any(|part| part.table.contains_key(name));
        if !self.name.is_empty() || !SECTIONS.contains(&key) || has(key) {
            return None;
        }
        let names = self.parts.iter().flat_map(|part| part.table.keys().map(|key| key.get_ref().as_ref()));
        let mut strangers = names.filter(|name| !SECTIONS.contains(name));
        let is_meant = |name: &&str| suggest::nearest(name, SECTIONS).as_deref() == Some(key);
        strangers.find(is_meant).map(str::to_owned)
    }

    /// The value of this key. Having it in two files is a mistake.
    pub(super) fn get(&mut self, mistakes: &Mistakes, key: &'static str) -> Option<Item<'s>> {
        let mut found = self.all(key).into_iter();
        let first = found.next()?;
        for again in found {
            mistakes.add(|| twice(&first.name, first.place(), again.place()));
        }
        Some(first)
    }

    /// The table of this name, with its parts in all files. A table that is not written is empty.
    pub(super) fn section(&mut self, mistakes: &Mistakes, key: &'static str, example: &str) -> Self {
        let parts = self.all(key).into_iter().filter_map(|item| item.table(mistakes, example));
        Self { name: self.full_name(key), parts: parts.flat_map(|section| section.parts).collect(), asked: Vec::new() }
    }

    /// The tables of an array of tables, in the order of the files.
    pub(super) fn tables(&mut self, mistakes: &Mistakes, key: &'static str, example: &str) -> Vec<Self> {
        let lists = self.all(key).into_iter().filter_map(|item| item.list(mistakes, example)).flatten();
        let mut tables: Vec<Self> = lists.filter_map(|item| item.table(mistakes, example)).collect();
        for (index, table) in tables.iter_mut().enumerate() {
            table.name = format!("{}[{index}]", self.full_name(key));
        }
        tables
    }

    /// Every key and value, for tables whose keys the user chooses. A key that is defined twice is a mistake.
    pub(super) fn entries(&self, mistakes: &Mistakes) -> Vec<KeyValue<'s>> {
        let mut first: BTreeMap<&str, (&Source, Range<usize>)> = BTreeMap::new();
        let mut entries = Vec::new();
        for part in &self.parts {
            for (key, value) in part.table {
                let name: &'s str = key.get_ref();
                let value = Item::new(part.source, self.full_name(name), value);
                if let Some((source, span)) = first.get(name) {
                    mistakes.add(|| twice(&value.name, source.place(span.clone()), part.source.place(key.span())));
                    continue;
                }
                // Within one file, the parser has found duplicates.
                if self.parts.len() > 1 {
                    first.insert(name, (part.source, key.span()));
                }
                entries.push(KeyValue { key: name, key_span: key.span(), value });
            }
        }
        entries
    }

    /// Whether a file has a part of it.
    pub(super) fn is_written(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Reports the keys that no reader asked for.
    pub(super) fn finish(self, mistakes: &Mistakes) {
        for part in &self.parts {
            let is_unknown = |(key, _): &(&Spanned<_>, _)| !self.asked.contains(&AsRef::<str>::as_ref(key.get_ref()));
            for (key, value) in part.table.iter().filter(is_unknown) {
                // The parser does not check numbers: the reader of a key does. This key has no reader.
                broken_numbers(value, &mut |span| {
                    mistakes.add(|| {
                        let label = "a number needs a digit, and must fit into 64 bits";
                        Diagnostic::error("not-a-number", "this is not a number", part.source.place(span), label)
                    });
                });
                mistakes.add(|| {
                    let message = format!("unknown key `{}`", self.full_name(key.get_ref()));
                    Diagnostic::error("unknown-key", message, part.source.place(key.span()), "")
                        .help(suggest::advice(key.get_ref(), self.asked.iter().copied()))
                });
            }
        }
    }
}

/// Calls `each` with the place of every malformed number in a value, such as `0b`.
fn broken_numbers(value: &Spanned<DeValue>, each: &mut impl FnMut(Range<usize>)) {
    let is_broken = match value.get_ref() {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).is_err(),
        DeValue::Float(float) => float.as_str().parse::<f64>().is_err(),
        DeValue::Array(items) => {
            items.iter().for_each(|item| broken_numbers(item, each));
            false
        }
        DeValue::Table(table) => {
            table.values().for_each(|value| broken_numbers(value, each));
            false
        }
        _ => false,
    };
    if is_broken {
        each(value.span());
    }
}

fn twice(name: &str, first: Place, again: Place) -> Diagnostic {
    Diagnostic::error("duplicate", format!("`{name}` is defined twice"), again, "again here")
        .and(first, "first here")
        .help("remove one of them")
}
