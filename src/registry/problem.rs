//! Errors of reading a registry. Mistakes in its content are diagnostics.

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Sentence, sentence};

/// Why a registry cannot be read.
#[derive(Debug)]
pub(crate) enum RegistryProblem {
    /// A part of it cannot be read.
    Unreadable { name: Foreign, error: Sentence },
    /// Another program writes into it at the same time.
    Changing { name: Foreign },
}

impl Explain for RegistryProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unreadable { name, error } => {
                Explanation::new("registry-unreadable", sentence!("cannot read {}: {}", name, error))
            }
            Self::Changing { name } => {
                Explanation::new("registry-changing", sentence!("{} changes while it is read", name))
                    .hint("another program writes into it in place; run again when that has finished")
            }
        }
    }
}
