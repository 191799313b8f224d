//! The formats of a report, and which file writes which.

use std::io;

use crate::report::page::Page;
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
pub(crate) enum TextOrJson {
    /// For people at a terminal.
    #[default]
    Text,
    /// For programs; stable.
    Json,
}

impl Format {
    /// Every format, with its name on the command line.
    pub const ALL: [(&'static str, Self); 4] =
        [("text", Self::Text), ("json", Self::Json), ("markdown", Self::Markdown), ("diff", Self::Diff)];

    /// The formats that can show what a change of policy alone does. A diff of the registry would show the drift as well.
    pub(crate) const OF_POLICIES: [(&'static str, Self); 3] =
        [("text", Self::Text), ("json", Self::Json), ("markdown", Self::Markdown)];

    /// Whether a diff of the policy can stand before the report.
    pub(crate) fn shows_policy(self) -> bool {
        match self {
            Self::Text | Self::Diff => true,
            Self::Json | Self::Markdown => false,
        }
    }

    /// Whether the report consists of the registry's own text, which cannot be redacted.
    pub fn quotes_registry(self) -> bool {
        match self {
            Self::Diff => true,
            Self::Text | Self::Json | Self::Markdown => false,
        }
    }
}

impl Report<'_> {
    /// Writes the report.
    ///
    /// # Errors
    /// Of writing.
    pub fn write(&self, format: Format, page: &mut Page) -> io::Result<()> {
        match format {
            Format::Text => text::write(self, page),
            Format::Json => json::write(self, page),
            Format::Markdown => markdown::write(self, page),
            Format::Diff => diff::write(self, page),
        }
    }
}
