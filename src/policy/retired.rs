//! `models.retired`: the models that are withdrawn, from which day on, and the models that replace them.

use std::collections::BTreeMap;

use jiff::Zoned;

use crate::chat::Model;
use crate::diagnostic::Diagnostic;
use crate::policy::fields::{Item, KeyValue, Section};
use crate::policy::read::Reader;
use crate::policy::{Because, Policy, Retirement, Until};

impl Retirement {
    /// Whether the model is withdrawn at `now`, whose time zone is the policy's.
    pub(crate) fn has_begun(&self, now: &Zoned) -> bool {
        // The first day of the calendar has no day before it, and has begun.
        self.on.yesterday().map_or(true, |last| Until::Date(last).is_past(now))
    }
}

impl Policy {
    /// The model that is used at `now` where this policy or a registry says `model`: its replacement where it is withdrawn, else
    /// the model itself.
    pub(crate) fn in_use<'p>(&'p self, mut model: &'p Model, now: &Zoned) -> &'p Model {
        // This ends, because the reader refuses replacements that form a circle.
        while let Some(retired) = self.retired.get(model).filter(|retired| retired.has_begun(now)) {
            model = &retired.replacement;
        }
        model
    }
}

impl<'r> Reader<'r> {
    /// Reads the entries of `models.retired`. The replacements must not form a circle.
    pub(super) fn retired(&self, entries: Vec<KeyValue<'r>>, example: &str) -> BTreeMap<Model, Retirement> {
        let mut retired = BTreeMap::new();
        for entry in entries {
            let because = Because { rule: entry.value.name.clone(), at: entry.at() };
            let KeyValue { key: name, value: item, .. } = entry;
            let Some(mut table) = item.table(self.mistakes, example) else { continue };
            let on = self.required_in(&mut table, &item, "on", "on = 2026-12-01");
            let on = on.and_then(|item| match self.until(&item) {
                Some(Until::Date(date)) => Some(date),
                Some(_) => {
                    let message = format!("`{}` must be a date", item.name);
                    self.mistakes
                        .add(|| item.mistake("not-a-date", message, "write a date without a time: on = 2026-12-01"));
                    None
                }
                None => None,
            });
            let replacement = self.required_in(&mut table, &item, "use", "use = \"opus-5\"");
            let replacement = replacement.and_then(|item| self.model(&item));
            table.finish(self.mistakes);
            if let (Some(model), Some(on), Some(replacement)) = (Model::declarable(name), on, replacement) {
                retired.insert(model, Retirement { on, replacement, because });
            }
        }
        while let Some(model) = in_a_circle(&retired) {
            if let Some(Retirement { because, .. }) = retired.remove(&model) {
                self.mistakes.add(|| {
                    let message = format!("`{model}` is replaced by itself");
                    Diagnostic::error("retired-in-circle", message, because.at.place(self.sources), "")
                        .help("set `use` to a model that is not retired")
                });
            }
        }
        retired
    }

    /// The value of a key that this table must have. `item` is the table.
    fn required_in(
        &self,
        table: &mut Section<'r>,
        item: &Item<'r>,
        key: &'static str,
        example: &str,
    ) -> Option<Item<'r>> {
        let found = table.get(self.mistakes, key);
        if found.is_none() {
            self.mistakes.add(|| {
                item.mistake("missing-key", format!("`{}.{key}` is missing", item.name), format!("add {example}"))
            });
        }
        found
    }
}

/// A model that following the replacements leads back to.
fn in_a_circle(retired: &BTreeMap<Model, Retirement>) -> Option<Model> {
    let leads_back = |model: &&Model| {
        let next = |model: &Model| retired.get(model).map(|retired| &retired.replacement);
        let way = std::iter::successors(next(model), |model| next(model));
        way.take(retired.len()).any(|on_the_way| on_the_way == *model)
    };
    retired.keys().find(leads_back).cloned()
}
