//! Why a run ends before its end.

use std::io;

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, sentence};

/// Why a run ends before its end, or cannot begin.
#[derive(Debug)]
pub(crate) enum ApplyProblem {
    /// The registry was replaced each time that the run had planned.
    Replaced { times: usize, during: During },
    /// What the backend is asked is not there any more.
    Unavailable { why: Foreign },
    /// A worker panicked.
    Panicked,
    /// No worker can be started.
    NoThread { error: io::Error },
    /// The backend keeps no key of pseudonyms.
    NoKey,
}

/// What a run was doing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum During {
    /// Its first plan.
    Plan,
    /// The plan of a later wave.
    Wave,
    /// Putting models back that did not work.
    Revert,
}

impl Explain for ApplyProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::Replaced { times, during } => {
                let (doing, hint) = match during {
                    During::Plan => {
                        ("planning", "nothing was changed; find out what writes it so often, and run again")
                    }
                    During::Wave => ("planning its next part", "find out what writes it so often, and run again"),
                    During::Revert => ("putting models back", "find out what writes it so often, and run again"),
                };
                let message = sentence!("the registry was replaced {} times while the run was {}", *times, doing);
                Explanation::new("registry-replaced", message).hint(hint)
            }
            Self::Unavailable { why } => Explanation::new("unavailable", why).hint(
                "run again later: the next run continues where this one \
                                  ended",
            ),
            Self::Panicked => Explanation::new(
                "panicked",
                "a worker thread of this run failed, which is a bug in \
                                                reconcile",
            )
            .hint("the restart that it was doing is still owed; run again, and report the bug"),
            Self::NoThread { error } => Explanation::new("no-thread", sentence!("cannot start a thread: {}", error))
                .hint("the system may have reached its limit of processes; run again later"),
            Self::NoKey => Explanation::new("no-key-kept", "this backend keeps no redaction key").hint(
                "make one with: (umask 077; openssl rand -hex 32 > redact.key), and name it with --redact-key redact.key",
            ),
        }
    }
}
