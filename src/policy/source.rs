//! A policy file and the places in it, and the commit of a policy.

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
    /// Its path, and the name under which it is shown.
    pub name: Arc<FileName>,
    /// Its content.
    pub text: String,
    /// Where its lines begin, in bytes.
    line_starts: Vec<usize>,
}

impl Source {
    /// A file with this content that is shown under its path.
    pub fn new(path: impl Into<PathBuf>, text: String) -> Self {
        Self::named(FileName::by_path(path), text)
    }

    /// A file with this name and content.
    pub fn named(name: impl Into<Arc<FileName>>, text: String) -> Self {
        let starts = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let line_starts = std::iter::once(0).chain(starts).collect();
        Self { name: name.into(), text, line_starts }
    }

    /// A range of bytes of this file, with a copy of its line: for a diagnostic.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.name.shown().raw(), &self.text, span)
    }

    /// A range of bytes of this file, without its line: for a value that is kept.
    pub(super) fn at(&self, span: Range<usize>) -> At {
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        At::new(Arc::clone(&self.name), line, span)
    }
}

/// The commit that the work tree of a policy is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its full id.
    pub id: String,
    /// Whether the files of the policy differ from that commit.
    pub modified: bool,
    /// When the commit was made, by its committer's clock.
    pub at: Option<Timestamp>,
}
