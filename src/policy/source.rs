//! A policy file, the places in it, and the commit that it is at.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::diagnostic::Place;
use crate::file_name::FileName;
use crate::policy::At;

/// One policy file.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it lies, and what it is called.
    pub name: Arc<FileName>,
    /// What it holds.
    pub text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// A file that is called by its path, with this content.
    pub fn new(path: impl Into<PathBuf>, text: String) -> Self {
        Self::named(FileName::by_path(path), text)
    }

    /// A file of that name and content.
    pub fn named(name: impl Into<Arc<FileName>>, text: String) -> Self {
        let starts = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let line_starts = std::iter::once(0).chain(starts).collect();
        Self { name: name.into(), text, line_starts }
    }

    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.name.shown().raw(), &self.text, span)
    }

    pub(super) fn at(&self, span: Range<usize>) -> At {
        let short = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        At { file: Arc::clone(&self.name), line, span: (short(span.start), short(span.end)) }
    }
}

/// The commit that a policy is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its full id.
    pub id: String,
    /// Whether the policy is not what that commit has.
    pub modified: bool,
    /// When it was made.
    pub at: Option<Timestamp>,
}
