//! What can go wrong below the command line. The command line maps it to an exit code.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {}", path.display(), reason(source))]
    Io {
        /// A verb: `read`, `open`, `replace`.
        action: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file does not say what it should.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
    /// Another process held a lock for longer than was to be waited.
    #[error("{holder} holds {}{}", path.display(), holder.in_brackets())]
    Locked {
        /// The locked file.
        path: PathBuf,
        /// What holds the lock.
        holder: Holder,
    },
    /// The user ended the wait for a lock that another process holds.
    #[error("interrupted while waiting for {holder}, which holds {}{}", path.display(), holder.in_brackets())]
    Interrupted {
        /// The locked file.
        path: PathBuf,
        /// What holds the lock.
        holder: Holder,
    },
    /// A directory is on a file system that is mounted read-only.
    #[error("cannot write in {}: it is on a read-only file system", path.display())]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// What to do next.
        hint: String,
    },
    /// A server cannot be reached.
    #[error("{message}")]
    Unreachable {
        /// Which one, and why not.
        message: String,
        /// What to do next.
        hint: String,
    },
    /// Anything else, with what to do about it.
    #[error("{message}")]
    Other {
        /// What is wrong.
        message: String,
        /// What to do next.
        hint: Option<String>,
        /// What is said instead where no chat may be named.
        nameless: Option<String>,
        /// Whether the same may work when it is tried again at once.
        is_passing: bool,
    },
}

impl Error {
    /// For `map_err` after a call to the operating system.
    pub fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// Whether the file system takes nothing more: it is full, or can only be read.
    pub fn is_no_room(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match self {
            Self::Io { source, .. } => [QuotaExceeded, ReadOnlyFilesystem, StorageFull].contains(&source.kind()),
            Self::ReadOnly { .. } => true,
            Self::Invalid(_)
            | Self::Locked { .. }
            | Self::Interrupted { .. }
            | Self::Unreachable { .. }
            | Self::Other { .. } => false,
        }
    }

    /// Whether a server cannot be reached.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// What to do next, where it says that.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Other { hint, .. } => hint.as_deref(),
            Self::ReadOnly { hint, .. } | Self::Unreachable { hint, .. } => Some(hint),
            Self::Io { .. } | Self::Invalid(_) | Self::Locked { .. } | Self::Interrupted { .. } => None,
        }
    }

    /// An error in words.
    pub fn other(message: impl Into<String>) -> Self {
        Self::Other { message: message.into(), hint: None, nameless: None, is_passing: false }
    }

    /// This error, with advice. Only errors in words take it, and that of a read-only file system.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Other { message, nameless, is_passing, .. } => {
                Self::Other { message, hint: Some(hint.into()), nameless, is_passing }
            }
            Self::ReadOnly { path, .. } => Self::ReadOnly { path, hint: hint.into() },
            Self::Unreachable { message, .. } => Self::Unreachable { message, hint: hint.into() },
            error => error,
        }
    }

    /// The error, of which only `nameless` is said where no chat may be named. Only errors in words take it.
    #[must_use]
    pub fn or_nameless(self, nameless: impl Into<String>) -> Self {
        match self {
            Self::Other { message, hint, is_passing, .. } => {
                Self::Other { message, hint, nameless: Some(nameless.into()), is_passing }
            }
            error => error,
        }
    }

    /// The error, of something that may work when it is tried again at once. Only errors in words take it.
    #[must_use]
    pub fn passing(self) -> Self {
        match self {
            Self::Other { message, hint, nameless, .. } => Self::Other { message, hint, nameless, is_passing: true },
            error => error,
        }
    }

    /// Whether the same may work when it is tried again at once.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Other { is_passing: true, .. })
    }
}

/// The system's words without Rust's "(os error 13)".
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    let mut words = text[..end].chars();
    words.next().map_or_else(String::new, |first| first.to_lowercase().chain(words).collect())
}

/// What holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A run: the process of this id.
    Run(u32),
    /// Something else, with its process id where the system tells it.
    Another(Option<u32>),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Run(_) => "another run",
            Self::Another(_) => "another process",
        })
    }
}

impl Holder {
    fn in_brackets(self) -> String {
        match self {
            Self::Run(pid) | Self::Another(Some(pid)) => format!(" (pid {pid})"),
            Self::Another(None) => String::new(),
        }
    }
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [one] => one.message.clone(),
        many => format!("{} mistakes", many.len()),
    }
}
