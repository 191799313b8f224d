//! Where the program of a launch keeps its conversations: as the command line says, else as the policy does.

use std::path::{Path, PathBuf};

use crate::cli::paths::{home, policy_directory};
use crate::launch::Conversations;
use crate::policy::conversation::{ConversationPath, cwd_slug};

/// The conversations at a path of the command line, which is relative to the current directory.
pub(super) fn named(path: ConversationPath) -> Conversations {
    at(path, PathBuf::new())
}

/// The conversations at a path of the policy `policy`, which is relative to the policy's directory.
pub(super) fn of_policy(path: ConversationPath, policy: &Path) -> Conversations {
    at(path, policy_directory(policy).to_owned())
}

fn at(path: ConversationPath, base: PathBuf) -> Conversations {
    // The system returns the current directory without links, as the session's program will see it.
    let cwd = std::env::current_dir().unwrap_or_default();
    Conversations { path, base, home: home(), cwd_slug: cwd_slug(&cwd.to_string_lossy()) }
}
