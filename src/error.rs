//! The error of this library. The command line maps it to an exit code.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::foreign::{Foreign, Piece, Sentence, sentence};

/// A result whose error is [`Error`] unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
///
/// Only `report::shown` writes it in full. `Display` writes `…` for all foreign text, so that a caller that prints an error
/// directly shows too little, and never a name.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused an operation on a file or a directory.
    Io {
        /// The operation, as a verb: `read`, `open`, `replace`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The operating system refused an operation on a standard stream of this process.
    Stream {
        /// The operation, as a verb: `read`, `write`.
        action: &'static str,
        /// The stream: `stdin`, `stdout`, `stderr`.
        stream: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file has mistakes.
    Invalid(Vec<Diagnostic>),
    /// Another process held a lock for longer than this one may wait.
    Locked {
        /// The locked file.
        path: PathBuf,
        /// What holds the lock.
        holder: Holder,
    },
    /// The user ended the wait for a lock that another process holds.
    Interrupted {
        /// The locked file.
        path: PathBuf,
        /// What holds the lock.
        holder: Holder,
    },
    /// A directory is on a file system that is mounted read-only.
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// What to do next.
        hint: &'static str,
    },
    /// An error of one room of the program, which has an enum of its own for its errors.
    Problem(Box<dyn Explain>),
}

/// An error in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// A stable name of this kind of error, such as `no-such-run`.
    pub code: &'static str,
    /// What is wrong.
    pub message: Sentence,
    /// What to do next.
    pub hint: Option<Sentence>,
    /// What to do next where names are hidden, if without them the hint says nothing.
    pub nameless_hint: Option<&'static str>,
}

impl Explanation {
    /// An explanation without a hint.
    pub fn new(code: &'static str, message: impl Into<Sentence>) -> Self {
        Self { code, message: message.into(), hint: None, nameless_hint: None }
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<Sentence>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With this advice where names are hidden.
    #[must_use]
    pub(crate) fn nameless_hint(self, hint: &'static str) -> Self {
        Self { nameless_hint: Some(hint), ..self }
    }
}

/// An enum of the errors of one room. Its variants hold values. The sentences are made in one place,
/// [`Explain::explain`], where they can be read as a list.
pub trait Explain: fmt::Debug + Send + Sync + 'static {
    /// The code, the sentence and the hint of this error.
    fn explain(&self) -> Explanation;

    /// What the program can do about this error without asking the user.
    fn remedy(&self) -> Remedy {
        Remedy::None
    }

    /// Whether it failed because the user ended a wait.
    fn is_interrupt(&self) -> bool {
        false
    }
}

/// What the program can do about an error without asking the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    None,
    /// The operation can be tried again at once.
    TryAgain,
    /// One change of several failed: the others can be made without it.
    LeaveOut,
    /// A server cannot be reached: a session can start on what this host knows.
    GoWithout,
}

/// A state that only a bug in this program can lead to. The text says what happened.
#[derive(Debug)]
pub(crate) struct Bug(pub(crate) &'static str);

impl Explain for Bug {
    fn explain(&self) -> Explanation {
        Explanation::new("bug", sentence!("{}: a bug in reconcile", self.0))
            .hint("please report it, with the command that you ran")
    }
}

impl<P: Explain> From<P> for Error {
    fn from(problem: P) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl Error {
    /// For `map_err` after a call to the operating system.
    pub fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// For `map_err` after a call on a standard stream of this process.
    pub fn stream(action: &'static str, stream: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Stream { action, stream, source }
    }

    /// Whether the file system takes nothing more: it is full, or can only be read.
    pub(crate) fn is_no_room(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match self {
            Self::Io { source, .. } => [QuotaExceeded, ReadOnlyFilesystem, StorageFull].contains(&source.kind()),
            Self::ReadOnly { .. } => true,
            _ => false,
        }
    }

    /// What the program can do about it without asking the user.
    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Problem(problem) => problem.remedy(),
            _ => Remedy::None,
        }
    }

    /// Whether it failed because the user ended a wait.
    pub(crate) fn is_interrupt(&self) -> bool {
        match self {
            Self::Interrupted { .. } => true,
            Self::Problem(problem) => problem.is_interrupt(),
            _ => false,
        }
    }

    /// The code, the sentence and the hint.
    pub fn explain(&self) -> Explanation {
        match self {
            Self::Io { action, path, source } => {
                Explanation::new("system", sentence!("cannot {} {}: {}", *action, path, source))
            }
            Self::Stream { action, stream, source } => {
                Explanation::new("system", sentence!("cannot {} {}: {}", *action, *stream, source))
            }
            Self::Invalid(found) => Explanation::new("invalid", summary(found)),
            Self::Locked { path, holder } => {
                Explanation::new("locked", sentence!("{} holds {}{}", holder.words(), path, holder.in_brackets()))
                    .hint("wait for it to finish, or give --lock-timeout more time")
            }
            Self::Interrupted { path, holder } => {
                let message = sentence!(
                    "interrupted while waiting for {}, which holds {}{}",
                    holder.words(),
                    path,
                    holder.in_brackets()
                );
                Explanation::new("interrupted", message)
            }
            Self::ReadOnly { path, hint } => {
                let message = sentence!("cannot write in {}: it is on a read-only file system", path);
                Explanation::new("read-only", message).hint(*hint)
            }
            Self::Problem(problem) => problem.explain(),
        }
    }

    /// A stable name of this kind of error, such as `no-such-run`.
    pub fn code(&self) -> &'static str {
        self.explain().code
    }

    /// What is wrong, for use within another sentence.
    pub fn sentence(&self) -> Sentence {
        self.explain().message
    }

    /// What is wrong, as one text that must be treated as foreign: for a row of a plan, which is shown escaped.
    pub fn text(&self) -> String {
        self.sentence().into_foreign().raw().to_owned()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for piece in self.sentence().pieces() {
            f.write_str(match piece {
                Piece::Own(text) => text,
                Piece::Foreign(_) | Piece::Public(_) => "…",
            })?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Stream { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A run: the process of this id.
    Run(u32),
    /// A run, perhaps on another host, which connects to its database under this `application_name`.
    RunOf(Foreign),
    /// Something else, with its process id where the system tells it.
    Another(Option<u32>),
    /// Something else, which is connected to a database under this `application_name`.
    AnotherOf(Foreign),
}

impl Holder {
    fn words(&self) -> &'static str {
        match self {
            Self::Run(_) | Self::RunOf(_) => "another run",
            Self::Another(_) | Self::AnotherOf(_) => "another process",
        }
    }

    fn in_brackets(&self) -> Sentence {
        match self {
            Self::Run(pid) | Self::Another(Some(pid)) => sentence!(" (pid {})", *pid),
            Self::RunOf(name) | Self::AnotherOf(name) => sentence!(" (application_name {})", name),
            Self::Another(None) => Sentence::default(),
        }
    }
}

fn summary(diagnostics: &[Diagnostic]) -> Sentence {
    match diagnostics {
        [one] => Foreign::from(one.message.as_str()).into(),
        many => sentence!("{} mistakes", many.len()),
    }
}
