//! Why a session cannot be started, or its conversation not be recorded.

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, sentence};

/// Why a session cannot be started, or its conversation not be recorded.
#[derive(Debug)]
pub(crate) enum LaunchProblem {
    /// The command cannot be filled in.
    NoCommand { chat: Foreign, why: Foreign },
    /// The registry has no such session.
    NotRegistered { word: Foreign, registry: Foreign },
}

impl Explain for LaunchProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoCommand { chat, why } => {
                Explanation::new("no-command", sentence!("the session of {} cannot be started: {}", chat, why))
                    .hint("nothing was changed; fix its entry in the registry, or the command")
            }
            Self::NotRegistered { word, registry } => {
                Explanation::new("not-registered", sentence!("{} is not in {}", word, registry))
                    .hint("start the session with reconcile launch, which registers it")
            }
        }
    }
}
