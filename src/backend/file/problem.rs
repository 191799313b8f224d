//! Why a registry in a file cannot be used.

use std::path::PathBuf;

use crate::error::{Bug, Explain, Explanation};
use crate::foreign::{Foreign, sentence};

/// That an entry is not found where a snapshot of the registry has it.
pub(super) const MOVED: Bug = Bug("an entry of the registry is not where it was read");

/// Why a registry in a file cannot be used.
#[derive(Debug)]
pub(super) enum FileProblem {
    /// There is none.
    Missing { path: PathBuf },
    /// A path ends in no name.
    NoName { path: PathBuf },
    /// It was replaced each time that a session was to be registered.
    Replaced { times: usize },
    /// A session is to be registered in what is only a snapshot.
    Redacted { registry: Foreign },
    /// This user may not replace it.
    OfAnotherUser { owner: u32, user: u32 },
    /// Its file system cannot exchange two files.
    NoExchange { file_system: Foreign },
    /// What runs remembered is gone.
    StateLost { message: &'static str, hint: &'static str },
}

impl Explain for FileProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::Missing { path } => Explanation::new("no-registry", sentence!("there is no registry {}", path)).hint(
                "pass --registry PATH, or set registry.path in the policy; a missing registry never counts as \"no \
                 sessions\"",
            ),
            Self::NoName { path } => Explanation::new("registry-no-name", sentence!("{} does not name a file", path))
                .hint("name the file itself, as in --registry sessions.json"),
            Self::Replaced { times } => {
                let message =
                    sentence!("the registry was replaced {} times while a session was being registered", *times);
                Explanation::new("registry-replaced", message)
                    .hint("nothing was changed; find out what writes it so often, and try again")
            }
            Self::Redacted { registry } => {
                Explanation::new("redacted-registry", sentence!("{} is a redacted snapshot, not a registry", registry))
                    .hint("start the session on the host of the registry")
            }
            Self::OfAnotherUser { owner, user } => {
                let message = sentence!("the registry belongs to user {}, and this is user {}", *owner, *user);
                Explanation::new("registry-owner", message).hint(sentence!("run as user {}, or as root", *owner))
            }
            Self::NoExchange { file_system } => {
                let message =
                    sentence!("{} cannot exchange two files, so an update by another program can be lost", file_system);
                Explanation::new("no-exchange", message)
            }
            Self::StateLost { message, hint } => Explanation::new("state-lost", *message).hint(*hint),
        }
    }
}
