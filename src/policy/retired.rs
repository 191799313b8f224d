//! `models.retired`: models that are withdrawn on a day, and what takes their place.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Zoned;

use crate::chat::Model;
use crate::diagnostic::Diagnostic;
use crate::policy::fields::{Item, Section};
use crate::policy::read::Reader;
use crate::policy::{Because, Policy, Retirement, Until};

impl Retirement {
    /// Whether the model is not used any more.
    pub(crate) fn has_begun(&self, now: &Zoned) -> bool {
        // Nothing lies before the first day of the calendar.
        self.on.yesterday().map_or(true, |last| Until::Date(last).is_past(now))
    }
}

impl Policy {
    /// What is used where this policy or a registry says `model`: that, or what has taken its place by now.
    pub(crate) fn in_use<'p>(&'p self, mut model: &'p Model, now: &Zoned) -> &'p Model {
        // The reader has seen that this comes to an end.
        while let Some(retired) = self.retired.get(model).filter(|retired| retired.has_begun(now)) {
            model = &retired.replacement;
        }
        model
    }
}

impl<'r> Reader<'r> {
    /// The models that are withdrawn. What takes their place must be something else in the end.
    pub(super) fn retired(
        &self,
        entries: Vec<(&str, Range<usize>, Item<'r>)>,
        example: &str,
    ) -> BTreeMap<Model, Retirement> {
        let mut retired = BTreeMap::new();
        for (name, key, item) in entries {
            let because = Because { rule: item.name.clone(), at: item.source.at(key) };
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

    /// The value of a key that must be there in a table.
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

/// A model whose replacement's replacement, and so on, is itself.
fn in_a_circle(retired: &BTreeMap<Model, Retirement>) -> Option<Model> {
    let leads_back = |model: &&Model| {
        let next = |model: &Model| retired.get(model).map(|retired| &retired.replacement);
        let way = std::iter::successors(next(model), |model| next(model));
        way.take(retired.len()).any(|on_the_way| on_the_way == *model)
    };
    retired.keys().find(leads_back).cloned()
}
