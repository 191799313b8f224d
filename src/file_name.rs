//! A file, and what it is called.

use std::path::{Path, PathBuf};

use crate::foreign::Public;

/// The path by which a file is opened and compared, and what the file is called where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    path: PathBuf,
    shown: Public,
}

/// How the files of a policy are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// By their paths.
    ByPath,
    /// By what they are together and by their position, because a path may name a person: `policy`, or `policy[3]` of
    /// several.
    ByPosition(&'static str),
}

impl Called {
    /// How the files of another policy are called, where these are called so.
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
        // It is chosen by a caller that may show paths.
        let shown = Public::new(path.display().to_string());
        Self { path, shown }
    }

    /// A file that is the whole of a policy.
    pub fn of_whole(path: &Path, called: Called) -> Self {
        Self::called(path, called, str::to_owned)
    }

    /// A file of a policy of several, of which so many come before it in path order.
    pub fn of_several(path: &Path, called: Called, before: usize) -> Self {
        Self::called(path, called, |what| format!("{what}[{}]", before + 1))
    }

    fn called(path: &Path, called: Called, position: impl FnOnce(&str) -> String) -> Self {
        match called {
            Called::ByPath => Self::by_path(path),
            // Words of this program, and a number.
            Called::ByPosition(what) => Self { path: path.to_owned(), shown: Public::new(position(what)) },
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What every reader may be told.
    pub fn shown(&self) -> &Public {
        &self.shown
    }
}
