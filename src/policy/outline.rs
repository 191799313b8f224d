//! What a launch cannot do without, from a policy that has mistakes: those must not keep a session from starting.

use crate::policy::{Source, syntax};

/// What can be told of a policy that has mistakes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// `registry.path`.
    pub registry: Option<String>,
    /// `sessions.backend`.
    pub backend: Option<String>,
    /// `sessions.conversation`.
    pub conversation: Option<String>,
}

/// Looks for the settings that a launch cannot do without, in a policy that cannot be used otherwise.
pub fn outline(sources: &[Source]) -> Outline {
    let mut outline = Outline::default();
    for source in sources {
        let parsed = syntax::parse(source);
        let setting = |table: &str, key: &str| {
            let table = parsed.tree.get_ref().get(table)?.get_ref().as_table()?;
            Some(table.get(key)?.get_ref().as_str()?.to_owned())
        };
        outline.registry = outline.registry.or_else(|| setting("registry", "path"));
        outline.backend = outline.backend.or_else(|| setting("sessions", "backend"));
        outline.conversation = outline.conversation.or_else(|| setting("sessions", "conversation"));
    }
    outline
}
