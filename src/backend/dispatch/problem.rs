//! Why the daemon cannot be asked.

use std::path::PathBuf;

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, sentence};

/// Why the daemon cannot be asked, or what is known of it cannot be used.
#[derive(Debug)]
pub(super) enum DaemonProblem {
    /// What stands at the socket's path is something else.
    NotASocket { path: PathBuf },
    /// The path does not fit into an address.
    LongPath { path: PathBuf },
    /// The daemon accepts no connection, and its queue is full.
    Hangs { path: PathBuf },
    /// The system does not say whether the daemon is busy or gone.
    Refuses { path: PathBuf },
    /// Another user than the registry's owner is at the socket.
    OfAnotherUser { user: u32, does: Does, path: PathBuf, owner: u32 },
    /// It answered nothing, or complained.
    NoAnswer { path: PathBuf, command: &'static str, why: Foreign },
    /// Its answer has another form.
    OtherAnswer { path: PathBuf, command: &'static str, why: Foreign },
    /// What is remembered of its unsaved changes cannot be read.
    PendingDamaged { path: PathBuf, why: Foreign },
    /// A later version remembered its unsaved changes.
    PendingLaterVersion { path: PathBuf, version: u32 },
    /// What was remembered during this run has changed.
    PendingChanged { path: PathBuf },
}

/// What a user has to do with a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    /// Its file belongs to that user.
    Owns,
    /// A process of that user accepts its connections.
    #[cfg(target_os = "linux")]
    Listens,
}

impl Explain for DaemonProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotASocket { path } => Explanation::new("not-a-socket", sentence!("{} is not a socket", path))
                .hint("check sessions.socket in the policy"),
            Self::LongPath { path } => {
                Explanation::new("long-socket-path", sentence!("the path of the socket {} is too long", path))
                    .hint("systems allow about 100 bytes: use a shorter one, or a link to its directory")
            }
            Self::Hangs { path } => {
                Explanation::new("daemon-hangs", sentence!("the daemon at {} accepts no connections", path))
                    .hint("it seems to hang; nothing was changed")
            }
            Self::Refuses { path } => {
                Explanation::new("daemon-refuses", sentence!("{} refuses connections", path)).hint(
                    "the daemon's queue may be full, so nothing was changed; if no daemon runs, remove the stale socket \
                     file",
                )
            }
            Self::OfAnotherUser { user, does, path, owner } => {
                let message = match does {
                    Does::Owns => sentence!("user {} owns the socket {}, but {} owns the registry", *user, path, *owner),
                    #[cfg(target_os = "linux")]
                    Does::Listens => {
                        sentence!("user {} listens at the socket {}, but {} owns the registry", *user, path, *owner)
                    }
                };
                Explanation::new("daemon-owner", message)
                    .hint("only a daemon of the registry's owner is asked to change it")
            }
            Self::NoAnswer { path, command, why } => {
                let message = sentence!("the daemon at {} did not answer {}: {}", path, *command, why);
                Explanation::new("daemon-no-answer", message)
                    .hint("while it is up, only it can change the registry; nothing was changed")
            }
            Self::OtherAnswer { path, command, why } => {
                let message = sentence!("the daemon at {} answered {} in an unexpected form: {}", path, *command, why);
                Explanation::new("daemon-answer", message)
                    .hint("check that it is a dispatch daemon, of a version that reconcile supports")
            }
            Self::PendingDamaged { path, why } => {
                Explanation::new("pending-damaged", sentence!("{} is damaged: {}", path, why)).hint(
                    "it remembers changes that the daemon may not have saved: restore it, or remove it while the daemon \
                     is down",
                )
            }
            Self::PendingLaterVersion { path, version } => {
                let message =
                    sentence!("{} has the format {}, which this version of reconcile does not support", path, *version);
                Explanation::new("pending-later-version", message)
                    .hint("it was written by a newer reconcile: use that version, or a newer one")
            }
            Self::PendingChanged { path } => {
                Explanation::new("pending-changed", sentence!("{} was changed while this run used it", path)).hint(
                    "find out which program removed or replaced it, and run again once the daemon has saved",
                )
            }
        }
    }
}
