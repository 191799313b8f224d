//! Why a backend cannot work as the policy says.

use std::path::PathBuf;

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, sentence};

/// Why a backend cannot work as the policy says.
#[derive(Debug)]
pub(super) enum BackendProblem {
    /// The program of a command cannot be executed.
    Program { key: &'static str, program: Foreign, why: Foreign },
    /// The registry is in a file, and the policy keeps it elsewhere.
    OnlyPlanned { file: PathBuf },
}

impl Explain for BackendProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::Program { key, program, why } => {
                let message = sentence!("the {} command ({}) cannot be executed: {}", *key, program, why);
                Explanation::new("program", message)
                    .hint("name the program by its full path, or set PATH for this run: cron's is short")
            }
            Self::OnlyPlanned { file } => {
                let message =
                    sentence!("{} is a file, but the policy's registry is not: only a dry run can use it", file);
                Explanation::new("only-planned", message).hint("pass --dry-run, or leave out --registry")
            }
        }
    }
}
