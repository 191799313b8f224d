//! What a launch cannot do without, from a policy that has mistakes: those must not keep a session from starting.

use std::collections::BTreeSet;

use toml::de::DeTable;

use crate::form::{Form, Shape};
use crate::policy::{Source, syntax};

/// What can be told of a policy that has mistakes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// `registry.path`, where one is named and no other.
    pub registry: Option<String>,
    /// `registry.key` and `registry.shape`.
    pub form: Form,
    /// `sessions.backend`.
    pub backend: Option<String>,
    /// `sessions.conversation`, where one is named and no other.
    pub conversation: Option<String>,
    /// How sure that is.
    pub certainty: Certainty,
}

/// Whether a policy says what is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certainty {
    /// It does: it is TOML, and its mistakes are others.
    #[default]
    Said,
    /// It is not TOML. Single lines of it say so, each below its header.
    Guessed,
}

/// The values of a setting, each once.
type Values = BTreeSet<String>;

/// Looks for the settings that a launch cannot do without, in a policy that cannot be used otherwise.
pub fn outline(sources: &[Source]) -> Outline {
    let mut found = [const { Values::new() }; 5];
    let mut certainty = Certainty::Said;
    for source in sources {
        let parsed = syntax::parse(source);
        if parsed.mistakes.is_empty() {
            look(parsed.tree.get_ref(), &mut found);
        } else {
            certainty = Certainty::Guessed;
            look_at_lines(&source.text, &mut found);
        }
    }
    let [registries, backends, conversations, keys, shapes] = found;
    let the_one = |values: Values| if values.len() == 1 { values.into_iter().next() } else { None };
    // Of several, the one that a launch must not start.
    let backend = backends.into_iter().find(|backend| backend != "file");
    let shape = if shapes.contains("any") { Shape::Any } else { Shape::Sessions };
    let form = Form { key: the_one(keys), shape };
    Outline { registry: the_one(registries), form, backend, conversation: the_one(conversations), certainty }
}

fn look(tree: &DeTable, found: &mut [Values; 5]) {
    let settings = [
        ("registry", "path"),
        ("sessions", "backend"),
        ("sessions", "conversation"),
        ("registry", "key"),
        ("registry", "shape"),
    ];
    for ((table, key), values) in settings.into_iter().zip(found) {
        let table = tree.get(table).and_then(|table| table.get_ref().as_table());
        let value = table.and_then(|table| table.get(key)?.get_ref().as_str());
        values.extend(value.map(str::to_owned));
    }
}

/// Takes every line for a file of its own, below the last header.
fn look_at_lines(text: &str, found: &mut [Values; 5]) {
    let mut header = "";
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            header = line;
        } else if let Ok(tree) = DeTable::parse(&format!("{header}\n{line}")) {
            look(tree.get_ref(), found);
        }
    }
}
