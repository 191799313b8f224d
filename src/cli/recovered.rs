//! What is known of a policy that cannot be read: what it said when a launch last could, or what is left to be read.

use std::path::{Path, PathBuf};

use crate::cli::paths::beside_policy;
use crate::diagnostic::{Diagnostic, Level};
use crate::error::Result;
use crate::foreign::{Sentence, sentence};
use crate::form::Form;
use crate::policy::{Certainty, Outline};
use crate::sources::Last;

/// What is known of a policy that cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The registry's path, and how it is known.
    pub(crate) registry: Option<(PathBuf, KnownBy)>,
    /// Its form.
    pub(crate) form: Form,
    /// `sessions.conversation`, as written.
    pub(crate) conversation: Option<String>,
    /// `sessions.backend`.
    pub(crate) backend: Option<String>,
}

/// How the path of a registry is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownBy {
    /// The command line or the policy says so.
    Said,
    /// The policy said so when a launch last could read it.
    Remembered,
    /// Of the lines of a text that is no TOML, one alone says so.
    Guessed,
}

/// What is known of the policy at `path`, of which `outline` could be read.
pub(crate) fn recover(path: &Path, outline: Outline) -> Result<Recovered> {
    let Outline { registry, form, backend, conversation, certainty } = outline;
    let registry = registry.map(|registry| beside_policy(path, &registry)).transpose()?;
    let last = Last::recall(path);
    Ok(match (registry, last, certainty) {
        (Some(registry), last, Certainty::Said) => {
            let conversation = conversation.or_else(|| last?.conversation);
            Recovered { registry: Some((registry, KnownBy::Said)), form, conversation, backend }
        }
        (_, Some(Last { registry, form, conversation: remembered, .. }), _) => {
            let conversation = remembered.or(conversation);
            Recovered { registry: Some((registry, KnownBy::Remembered)), form, conversation, backend }
        }
        (Some(registry), None, Certainty::Guessed) => {
            Recovered { registry: Some((registry, KnownBy::Guessed)), form, conversation, backend }
        }
        (None, None, _) => Recovered { registry: None, form, conversation, backend },
    })
}

/// That the policy at `path` cannot be read, with the line of its first mistake.
pub(crate) fn unreadable(path: &Path, mistakes: &[Diagnostic]) -> Sentence {
    let first = mistakes.iter().find(|mistake| mistake.level == Level::Error);
    let place = first.and_then(|mistake| mistake.labels.first());
    let line = place.map(|(place, _)| sentence!(": line {}", place.line));
    sentence!("{} could not be read{}", path, line.unwrap_or_default())
}
