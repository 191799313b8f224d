//! The settings that a launch needs, from a policy that has mistakes: a mistake must not keep a session from starting.

use std::collections::BTreeSet;

use toml::de::DeTable;

use crate::form::{Form, Shape};
use crate::policy::{Source, syntax};

/// The settings that a launch needs, as far as a policy with mistakes tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// `registry.path`; `None` where the policy has none, or several.
    pub registry: Option<String>,
    /// `registry.key` and `registry.shape`.
    pub form: Form,
    /// `sessions.backend`, where the policy names another one than `file`.
    pub backend: Option<String>,
    /// `sessions.conversation`; `None` where the policy has none, or several.
    pub conversation: Option<String>,
    /// How certain these settings are.
    pub certainty: Certainty,
}

/// How certain the settings of an [`Outline`] are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certainty {
    /// Every file is valid TOML, so it certainly has these settings.
    #[default]
    Said,
    /// A file is not valid TOML. Settings of it were found in single lines, each read below the header before it, so they may
    /// belong to a comment or to a string of several lines.
    Guessed,
}

/// The different values of one setting.
type Values = BTreeSet<String>;

/// The values of the settings that a launch needs.
#[derive(Default)]
struct Settings {
    /// `registry.path`.
    paths: Values,
    /// `registry.key`.
    keys: Values,
    /// `registry.shape`.
    shapes: Values,
    /// `sessions.backend`.
    backends: Values,
    /// `sessions.conversation`.
    conversations: Values,
}

/// Looks for the settings that a launch needs, in a policy that cannot be used otherwise.
pub fn outline(sources: &[Source]) -> Outline {
    let mut found = Settings::default();
    let mut certainty = Certainty::Said;
    for source in sources {
        let parsed = syntax::parse(source);
        if parsed.mistakes.is_empty() {
            found.add(parsed.tree.get_ref());
        } else {
            certainty = Certainty::Guessed;
            found.add_lines(&source.text);
        }
    }
    let Settings { paths, keys, shapes, backends, conversations } = found;
    let only = |values: Values| if values.len() == 1 { values.into_iter().next() } else { None };
    // Of several backends, one counts whose sessions a launch must not start.
    let backend = backends.into_iter().find(|backend| backend != "file");
    let shape = if shapes.contains("any") { Shape::Any } else { Shape::Sessions };
    let form = Form { key: only(keys), shape };
    Outline { registry: only(paths), form, backend, conversation: only(conversations), certainty }
}

impl Settings {
    /// Adds the settings of a file.
    fn add(&mut self, tree: &DeTable) {
        let text = |section: &str, key: &str| {
            let section = tree.get(section)?.get_ref().as_table()?;
            section.get(key)?.get_ref().as_str().map(str::to_owned)
        };
        self.paths.extend(text("registry", "path"));
        self.keys.extend(text("registry", "key"));
        self.shapes.extend(text("registry", "shape"));
        self.backends.extend(text("sessions", "backend"));
        self.conversations.extend(text("sessions", "conversation"));
    }

    /// Adds the settings of a file that is not valid TOML: each line is read as a file of its own, below the last header.
    fn add_lines(&mut self, text: &str) {
        let mut header = "";
        for line in text.lines() {
            if line.trim_start().starts_with('[') {
                header = line;
            } else if let Ok(tree) = DeTable::parse(&format!("{header}\n{line}")) {
                self.add(tree.get_ref());
            }
        }
    }
}
