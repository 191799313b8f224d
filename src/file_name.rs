//! The path of a policy's file, and the name under which the file is shown.

use std::path::{Path, PathBuf};

use crate::foreign::Public;

/// The path by which a file is opened and compared, and the name under which the file is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    path: PathBuf,
    shown: Public,
}

/// How the files of a policy are named in messages and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// By their paths.
    ByPath,
    /// By this word, which stands for the whole policy, and by their position, because a path may name a person: `policy`
    /// where it is the only file, `policy[3]` for the third of several.
    ByPosition(&'static str),
}

impl Called {
    /// The same way of naming for another policy, which `what` stands for.
    #[must_use]
    pub fn as_another(self, what: &'static str) -> Self {
        match self {
            Self::ByPath => Self::ByPath,
            Self::ByPosition(_) => Self::ByPosition(what),
        }
    }
}

impl FileName {
    /// A file that is called by its path.
    pub fn by_path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // Only a caller that may show paths names files by them.
        let shown = Public::new(path.display().to_string());
        Self { path, shown }
    }

    /// A policy's only file.
    pub fn of_whole(path: &Path, called: Called) -> Self {
        Self::called(path, called, str::to_owned)
    }

    /// One of several files of a policy. `before` is how many of them come before it in path order.
    pub fn of_several(path: &Path, called: Called, before: usize) -> Self {
        Self::called(path, called, |what| format!("{what}[{}]", before + 1))
    }

    fn called(path: &Path, called: Called, position: impl FnOnce(&str) -> String) -> Self {
        match called {
            Called::ByPath => Self::by_path(path),
            // This has only words of this program and a number.
            Called::ByPosition(what) => Self { path: path.to_owned(), shown: Public::new(position(what)) },
        }
    }

    /// The path by which it is opened and compared.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name under which every reader may see it.
    pub fn shown(&self) -> &Public {
        &self.shown
    }
}
