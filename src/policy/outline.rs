//! What a launch cannot do without, from a policy that has mistakes: those must not keep a session from starting.

use crate::form::{Form, Shape};
use crate::policy::{Policy, Source, syntax};

/// What can be told of a policy that has mistakes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// `registry.path`.
    pub registry: Option<String>,
    /// `registry.key` and `registry.shape`.
    pub form: Form,
    /// `sessions.backend`.
    pub backend: Option<String>,
}

impl From<&Policy> for Outline {
    fn from(policy: &Policy) -> Self {
        Self {
            registry: policy.registry.clone(),
            form: policy.form.clone(),
            backend: Some(policy.sessions.backend.name().to_owned()),
        }
    }
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
        outline.form.key = outline.form.key.or_else(|| setting("registry", "key"));
        if setting("registry", "shape").is_some_and(|shape| shape == "any") {
            outline.form.shape = Shape::Any;
        }
        outline.backend = outline.backend.or_else(|| setting("sessions", "backend"));
    }
    outline
}
