//! `[registry]`: the file or the table that maps chats to sessions.

use crate::diagnostic::Diagnostic;
use crate::form::{Form, Shape};
use crate::policy::fields::{Item, Section};
use crate::policy::read::Reader;
use crate::policy::table::Table;
use crate::policy::{BackendSettings, Because, Existing, Override, Policy, Sessions, Until};

/// `[registry]`.
pub(super) struct Registry<'r> {
    /// `registry.path`, as written.
    pub(super) path: Option<String>,
    /// `registry.key` and `registry.shape`.
    pub(super) form: Form,
    /// The table, where the registry is one.
    pub(super) table: Option<Table>,
    /// `registry.existing`.
    pub(super) existing: Existing,
    /// The values of the keys that are only about a file: `path`, `key` and `shape`.
    of_file: Vec<Item<'r>>,
}

impl<'r> Reader<'r> {
    /// Reads `[registry]`.
    pub(super) fn registry(&self, whole: &mut Section<'r>) -> Registry<'r> {
        const EXISTING: [&str; 3] = ["replace", "keep", "keep-manual"];
        let mut section = whole.section(self.mistakes, "registry", "a table: [registry]");
        let table = if let Some(postgres) = section.get(self.mistakes, "postgres") {
            self.refuse_keys(&mut section, &["path", "key", "shape"], "applies only to a registry that is a file");
            self.table(&mut section, &postgres)
        } else {
            let why = "needs `registry.postgres`, the server that has the table";
            self.refuse_keys(&mut section, &["table", "columns"], why);
            None
        };
        let path = section.get(self.mistakes, "path");
        let key = section.get(self.mistakes, "key");
        let shape = section.get(self.mistakes, "shape");
        let of_file = [&path, &key, &shape].into_iter().flatten().cloned().collect();
        let path = path.and_then(|item| self.text(&item, r#"path = "~/dispatch/state/sessions.json""#));
        let key = key.and_then(|item| self.text(&item, r#"key = "sessions""#));
        let shape = shape.filter(|item| self.word(item, &["sessions", "any"]) == Some("any"));
        let form = Form { key, shape: shape.map_or(Shape::Sessions, |_| Shape::Any) };
        let existing = section.get(self.mistakes, "existing");
        let existing = existing.map_or(Existing::Replace, |item| {
            let because = Because { rule: item.name.clone(), at: item.source.at(item.span.clone()) };
            match self.word(&item, &EXISTING) {
                Some("keep") => Existing::Keep(because),
                Some("keep-manual") => Existing::KeepManual(because),
                _ => Existing::Replace,
            }
        });
        section.finish(self.mistakes);
        Registry { path, form, table, existing, of_file }
    }

    /// Reports keys that do not apply to the kind of registry that the section describes. `why` completes the message.
    fn refuse_keys(&self, section: &mut Section<'r>, keys: &[&'static str], why: &str) {
        for item in keys.iter().filter_map(|key| section.get(self.mistakes, key)) {
            self.mistakes.add(|| {
                let help = "remove it, or write [registry] for the other kind of registry";
                item.mistake("wrong-registry", format!("`{}` {why}", item.name), help)
            });
        }
    }

    /// Reports a combination of `[registry]` and backend that does not work: a file with a backend that has its own registry, and a
    /// table with any backend but `file`.
    pub(super) fn check_registry(&self, registry: &Registry<'r>, sessions: &Sessions) {
        if !sessions.backend.has_file() {
            self.refuse_file(&registry.of_file, sessions.backend.name());
        }
        let Some(table) = &registry.table else { return };
        if matches!(sessions.backend, BackendSettings::File(_)) {
            return;
        }
        self.mistakes.add(|| {
            let name = sessions.backend.name();
            let message = format!("`backend = \"{name}\"` cannot be combined with `registry.postgres`");
            let label = "the registry is a table";
            Diagnostic::error("table-with-other-backend", message, table.place.clone(), label)
                .help("remove sessions.backend: with a table, the commands of [sessions] restart sessions")
        });
    }

    /// Reports the keys that are only about a file, for a backend whose registry is not a file.
    fn refuse_file(&self, of_file: &[Item<'r>], backend: &str) {
        for item in of_file {
            self.mistakes.add(|| {
                let message = format!("`{}` cannot be used with `backend = {backend:?}`", item.name);
                item.mistake("registry-elsewhere", message, "remove it; to plan on a file, pass --registry FILE")
            });
        }
    }

    /// Reports dates that depend on the time zone of the host, where several hosts share a table.
    pub(super) fn check_dates(&self, policy: &Policy) {
        if policy.table.is_none() || policy.time_zone.is_some() {
            return;
        }
        let needs_zone = |entry: &&Override| entry.until.as_ref().is_some_and(Until::needs_zone);
        let overrides = policy.chats.values().filter(needs_zone).map(|entry| &entry.because);
        let retired = policy.retired.values().map(|retired| &retired.because);
        for because in overrides.chain(retired) {
            self.mistakes.add(|| {
                let message = format!("`{}` is a date, and the policy sets no time zone", because.rule);
                let label = "hosts that share the table may have different ones";
                Diagnostic::error("date-without-zone", message, because.at.place(self.sources), label)
                    .help("add time_zone = \"Europe/Berlin\" below [models], or an offset to the time")
            });
        }
    }
}
