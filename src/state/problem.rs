//! Why what runs remember cannot be used.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Public, Sentence, sentence};

const LATER_VERSION: &str = "it was written by a newer reconcile: use that version, or a newer one";
/// What to do where the debts of a run are lost.
const DEBTS_LOST: &str = "restore it, or restart by hand the sessions that are reported as owed";

/// Why what runs remember cannot be used.
#[derive(Debug)]
pub(crate) enum StateProblem {
    /// Something in the state directory is not as this program makes it.
    NotOurs { path: PathBuf, why: Sentence },
    /// A path ends in no name.
    NoName { path: PathBuf },
    /// A file was written by a later version of this program.
    LaterVersion { path: PathBuf, version: u32, known: u32 },
    /// A line of the history was written by a later version of this program.
    LaterVersionInHistory { path: PathBuf, line: usize, version: Foreign },
    /// The ledger does not hold what was written.
    LedgerDamaged { path: PathBuf, why: Sentence },
    /// The ledger was removed during a run.
    LedgerRemoved { path: PathBuf, then: Then },
    /// An older copy has taken the place of the ledger during a run.
    LedgerReplaced { path: PathBuf },
    /// The ledger was moved, and is not where it was moved to.
    LedgerMissing { path: PathBuf },
    /// A line of the history cannot be read.
    HistoryDamaged { path: PathBuf, line: usize, why: Foreign },
    /// What quiet runs have told cannot be read.
    ToldDamaged { path: PathBuf, why: Foreign },
    /// What each chat was last given cannot be read.
    LastAppliedDamaged { path: PathBuf, why: Sentence },
    /// The key of pseudonyms is none.
    KeyDamaged { path: PathBuf },
    /// A file that should hold a key holds something else.
    NotAKey { path: PathBuf },
    /// There is no key of pseudonyms yet.
    NoKey { path: PathBuf },
}

/// What became of a ledger that was removed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// What was known of it was written again.
    Restored,
    /// It could not be written again.
    Lost,
}

/// A file in a state directory. Its own name is one of this program's, so it is told also where names are hidden. That of the
/// directory is made of the registry's.
fn file(path: &Path) -> Sentence {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return path.into() };
    if path.extension() == Some(OsStr::new("reconcile")) {
        return path.into();
    }
    sentence!("{}/{}", directory, Public::new(name.to_string_lossy().into_owned()))
}

impl Explain for StateProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotOurs { path, why } => {
                Explanation::new("state-not-ours", sentence!("cannot use {}: {}", file(path), why))
                    .hint("only the registry's owner may write there; find out who made it, then fix or remove it")
            }
            Self::NoName { path } => {
                Explanation::new("state-no-name", sentence!("{} is not a valid state directory", path))
                    .hint("name a directory of its own in sessions.state, as in ~/.local/state/reconcile")
            }
            Self::LaterVersion { path, version, known } => {
                let message = sentence!(
                    "{} has the format {}, but this version of reconcile supports {}",
                    file(path),
                    *version,
                    *known
                );
                Explanation::new("later-version", message).hint(LATER_VERSION)
            }
            Self::LaterVersionInHistory { path, line, version } => {
                let message = sentence!(
                    "line {} of the history {} has version {}: a newer reconcile wrote it",
                    *line,
                    file(path),
                    version
                );
                Explanation::new("later-version-in-history", message)
                    .hint("use the version that wrote it, or a newer one")
            }
            Self::LedgerDamaged { path, why } => {
                Explanation::new("ledger-damaged", sentence!("the ledger {} is damaged: {}", file(path), why)).hint(
                    "it remembers which restarts are owed: restore it, or restart every session by hand and remove it",
                )
            }
            Self::LedgerRemoved { path, then } => {
                let hint = match then {
                    Then::Restored => "its known contents were written again: run again",
                    Then::Lost => DEBTS_LOST,
                };
                Explanation::new(
                    "ledger-removed",
                    sentence!("the ledger {} was removed while it was in use", file(path)),
                )
                .hint(hint)
            }
            Self::LedgerReplaced { path } => {
                let message = sentence!("the ledger {} was replaced by an older copy while it was in use", file(path));
                Explanation::new("ledger-replaced", message).hint(DEBTS_LOST)
            }
            Self::LedgerMissing { path } => {
                Explanation::new("ledger-missing", sentence!("the ledger {} is missing", file(path))).hint(
                    "it remembers which restarts are owed: restore it, or restart every session by hand and remove the \
                     directory that it was in",
                )
            }
            Self::HistoryDamaged { path, line, why } => {
                let message = sentence!("the history {} is damaged in line {}: {}", file(path), *line, why);
                Explanation::new("history-damaged", message)
                    .hint("restore the file, or remove it: no run depends on it")
            }
            Self::ToldDamaged { path, why } => {
                Explanation::new("told-damaged", sentence!("{} is damaged: {}", file(path), why))
                    .hint("remove it: quiet runs then report everything that is wrong once more")
            }
            Self::LastAppliedDamaged { path, why } => {
                Explanation::new("last-applied-damaged", sentence!("{} is damaged: {}", file(path), why)).hint(
                    "it records what was set by hand: restore it, or remove it, and the next run keeps every model \
                     that it finds",
                )
            }
            Self::KeyDamaged { path } => {
                Explanation::new("key-damaged", sentence!("the redaction key {} is damaged", file(path)))
                    .hint("restore it; a new key would give other pseudonyms")
            }
            Self::NotAKey { path } => {
                Explanation::new("not-a-key", sentence!("{} does not hold a redaction key", path))
                    .hint("reconcile snapshot --redact makes one: redact.key in the registry's state directory")
            }
            Self::NoKey { path } => Explanation::new("no-key", sentence!("there is no redaction key: {}", file(path)))
                .hint("make it with: reconcile snapshot --redact, or pass one with --redact-key"),
        }
    }
}
