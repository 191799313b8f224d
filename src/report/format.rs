//! The formats of a report, and which file writes which.

use std::io::{self, Write};

use crate::report::{Report, diff, json, markdown, text};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people at a terminal.
    #[default]
    Text,
    /// For programs; stable.
    Json,
    /// For comments on pull requests.
    Markdown,
    /// A unified diff of the registry.
    Diff,
}

/// How something is written that has only these forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextOrJson {
    /// For people at a terminal.
    #[default]
    Text,
    /// For programs; stable.
    Json,
}

impl Format {
    /// Whether a diff of the policy can stand before it.
    pub fn shows_policy(self) -> bool {
        matches!(self, Self::Text | Self::Diff)
    }
}

impl Report<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Text => text::write(self, out),
            Format::Json => json::write(self, out),
            Format::Markdown => markdown::write(self, out),
            Format::Diff => diff::write(self, out),
        }
    }
}
