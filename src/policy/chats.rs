//! `[chats]`: overrides of single chats.

use std::collections::BTreeMap;

use toml::de::DeValue;
use toml::value::Datetime;

use crate::diagnostic::Diagnostic;
use crate::policy::fields::{Item, Section};
use crate::policy::read::Reader;
use crate::policy::{Because, Override, Setting, Until, is_glob};

/// `[chats]`.
pub(super) struct Chats {
    /// By chat id.
    pub(super) overrides: BTreeMap<String, Override>,
    /// The present ids of chats, by their former ids.
    pub(super) former: BTreeMap<String, String>,
}

/// An override, with its former ids as they are written.
struct WrittenOverride<'r> {
    entry: Override,
    was: Vec<Item<'r>>,
}

/// A chat with a former id.
struct Renamed<'r> {
    /// Its present id.
    id: &'r str,
    former_id: Item<'r>,
}

impl<'r> Reader<'r> {
    /// Reads `[chats]`.
    pub(super) fn chats(&mut self, whole: &mut Section<'r>) -> Chats {
        let section = whole.section(self.mistakes, "chats", "a table: [chats]");
        let mut overrides = BTreeMap::new();
        let mut renamed = Vec::new();
        for written in section.entries(self.mistakes) {
            let because = Because { rule: format!("chats.{:?}", written.key), at: written.at() };
            if is_glob(written.key) {
                self.globs_in_keys.push(because.clone());
            }
            if let Some(WrittenOverride { entry, was }) = self.chat(&written.value, because) {
                overrides.insert(written.key.to_owned(), entry);
                renamed.extend(was.into_iter().map(|former_id| Renamed { id: written.key, former_id }));
            }
        }
        let former = self.former(&overrides, &renamed);
        Chats { overrides, former }
    }

    /// The present ids of chats, by their former ids. A former id must not have an override of its own, nor be the former id of
    /// another chat.
    fn former(&self, overrides: &BTreeMap<String, Override>, renamed: &[Renamed<'r>]) -> BTreeMap<String, String> {
        let mut former: BTreeMap<String, String> = BTreeMap::new();
        for Renamed { id, former_id } in renamed {
            let Some(old) = former_id.value.as_str() else { continue };
            let other = if overrides.contains_key(old) { Some(old) } else { former.get(old).map(String::as_str) };
            if let Some(entry) = other.and_then(|other| overrides.get(other)) {
                self.mistakes.add(|| {
                    let message = format!("there are two overrides for the chat {old:?}");
                    Diagnostic::error("duplicate", message, former_id.place(), "again here")
                        .and(entry.because.at.place(self.sources), "first here")
                        .help("remove one of them")
                });
            } else {
                former.insert(old.to_owned(), (*id).to_owned());
            }
        }
        former
    }

    /// Reads one override: a model, or a table.
    fn chat(&self, item: &Item<'r>, because: Because) -> Option<WrittenOverride<'r>> {
        const WAS: &str = r#"was = ["+16175550104"]"#;
        const EXAMPLE: &str = r#""opus", or { model = "opus", until = 2026-12-31, reason = "…" }"#;
        if item.value.is_str() {
            let setting = Setting::Model(self.model(item)?);
            let entry = Override { setting, until: None, then: None, reason: None, was: Vec::new(), because };
            return Some(WrittenOverride { entry, was: Vec::new() });
        }
        if !item.value.is_table() {
            self.mistakes.add(|| item.wrong_type("a model or a table", EXAMPLE));
            return None;
        }
        let mut table = item.table(self.mistakes, EXAMPLE)?;
        let model = table.get(self.mistakes, "model");
        let managed = table.get(self.mistakes, "managed");
        let managed = managed.and_then(|item| item.boolean(self.mistakes, "managed = false"));
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
        let setting = self.setting(item, model, managed)?;
        Some(WrittenOverride { entry: Override { setting, until, then, reason, was: ids, because }, was })
    }

    /// What an override sets, given the values of its keys `model` and `managed`.
    fn setting(&self, item: &Item<'r>, model: Option<Item<'r>>, managed: Option<bool>) -> Option<Setting> {
        match (model, managed) {
            (Some(model), Some(false)) => {
                let message = format!("`{}` has both `managed = false` and a model", item.name);
                let help = "remove the model, or remove `managed = false`";
                self.mistakes.add(|| model.mistake("unmanaged-with-model", message, help));
                None
            }
            (Some(model), _) => self.model(&model).map(Setting::Model),
            (None, Some(false)) => Some(Setting::Unmanaged),
            (None, _) => {
                self.mistakes.add(|| {
                    let message = format!("`{}` has neither a model nor `managed = false`", item.name);
                    item.mistake("missing-key", message, r#"add model = "opus", or managed = false"#)
                });
                None
            }
        }
    }

    /// A date, or a date with a time.
    pub(super) fn until(&self, item: &Item<'r>) -> Option<Until> {
        let parsed = if let DeValue::Datetime(time) = item.value { end(time) } else { None };
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
}

/// The end of an override, from a date-time of TOML. `None` for a time without a date.
fn end(time: &Datetime) -> Option<Until> {
    let text = time.to_string();
    match (time.date.is_some(), time.time.is_some(), time.offset.is_some()) {
        (true, true, true) => text.parse().ok().map(Until::Instant),
        (true, true, false) => text.parse().ok().map(Until::Local),
        (true, false, _) => text.parse().ok().map(Until::Date),
        (false, ..) => None,
    }
}
