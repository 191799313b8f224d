//! Why the files of a policy cannot be read or written.

use std::path::PathBuf;

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Public, Sentence, sentence};

const ANOTHER_WAY: &str = "pass --from the old policy as a file or a directory";
const CANNOT_EDIT: &str = "mount the policy's directory read-write, or set the registry alone: set-model --no-policy";
const MEBIBYTE: u64 = 1 << 20;

/// Why a policy cannot be read from its files, or written to them.
#[derive(Debug)]
pub(crate) enum FileProblem {
    /// There is none.
    NoPolicy { path: PathBuf, found_above: Option<PathBuf> },
    /// A directory has no file of one.
    NoFiles { directory: PathBuf },
    /// A file is too large to be one.
    TooLarge { name: Public, largest: u64 },
    /// A file would be too large to be read again.
    WouldBeTooLarge { name: Sentence, largest: u64 },
    /// Another program has changed it since it was read.
    Changed { path: PathBuf },
    /// The note of an edit belongs to a user who could not have edited.
    ForeignNote { note: PathBuf, owner: u32 },
    /// Nothing can take its place.
    CannotEdit { why: Sentence },
    /// A new policy would take the place of a file.
    IsThere { path: PathBuf },
}

impl Explain for FileProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoPolicy { path, found_above } => {
                let hint = match found_above {
                    Some(above) => {
                        sentence!("{} is there: pass it with --policy {}, or run in its directory", above, above)
                    }
                    None => "pass one with --policy PATH, set RECONCILE_POLICY, or write ./policy.toml".into(),
                };
                Explanation::new("no-policy", sentence!("there is no policy {}", path)).hint(hint)
            }
            Self::NoFiles { directory } => {
                Explanation::new("no-policy-files", sentence!("there is no *.toml below {}", directory))
                    .hint("a policy directory holds at least one, with [models] in it")
            }
            Self::TooLarge { name, largest } => {
                Explanation::new("policy-too-large", sentence!("{} is larger than {} MiB", name, largest / MEBIBYTE))
                    .hint("is it a policy? split a large one into a directory of files")
            }
            Self::WouldBeTooLarge { name, largest } => {
                let message =
                    sentence!("{} would be larger than {} MiB, which no policy file may be", name, largest / MEBIBYTE);
                Explanation::new("policy-would-be-too-large", message)
                    .hint("nothing was written; a policy can be a directory of several files")
            }
            Self::Changed { path } => {
                Explanation::new("policy-changed", sentence!("{} was changed by another program meanwhile", path))
                    .hint("that change was kept, and this command did nothing: run it again")
            }
            Self::ForeignNote { note, owner } => {
                Explanation::new("foreign-note", sentence!("cannot use {}: user {} owns it", note, *owner))
                    .hint("an interrupted edit leaves such a file; find out who made this one, and remove it")
            }
            Self::CannotEdit { why } => Explanation::new("policy-not-editable", why).hint(CANNOT_EDIT),
            Self::IsThere { path } => {
                Explanation::new("file-exists", sentence!("{} already exists, and is not overwritten", path))
                    .hint("edit it, or name a new file and compare the two")
            }
        }
    }
}

/// Why git does not give a policy as it was.
#[derive(Debug)]
pub(crate) enum GitProblem {
    /// What the user typed has no revision in it.
    NoRevision { typed: Foreign },
    /// There is no such revision.
    UnknownRevision { revision: Foreign, directory: PathBuf },
    /// A revision has no policy at that path.
    NoPolicy { policy: PathBuf, revision: Foreign },
    /// git works in no directory of another user.
    Owner { directory: PathBuf },
    /// There is no work tree around the policy.
    NoWorkTree { directory: PathBuf, complaint: Foreign },
    /// A file of the policy was a link.
    Link { name: PathBuf, commit: Foreign },
    /// A file of the policy was too large.
    TooLarge { name: PathBuf, largest: u64, commit: Foreign },
    /// Some of the policy's objects are missing.
    Unreadable { directory: PathBuf },
    /// git failed with these words.
    Failed { complaint: Foreign },
    /// git is not installed.
    NotInstalled,
    /// git answered with more than was asked for.
    LongAnswer { limit: u64 },
    /// git could not be started, or did not end in time.
    NotRun { words: Foreign },
}

impl Explain for GitProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoRevision { typed } => {
                Explanation::new("git-no-revision", sentence!("git:{} does not name a revision", typed))
                    .hint("as in git:HEAD~1 or git:main")
            }
            Self::UnknownRevision { revision, directory } => {
                let message = sentence!("no such git revision: {} (in {})", revision, directory);
                Explanation::new("git-unknown-revision", message)
                    .hint("a shallow clone lacks older ones: fetch them first")
            }
            Self::NoPolicy { policy, revision } => {
                let message = sentence!("there is no policy {} in the revision {}", policy, revision);
                Explanation::new("git-no-policy", message)
                    .hint("name a revision that has it, or the path that it had there: git:REV:PATH")
            }
            Self::Owner { directory } => {
                let message = sentence!("git refuses the work tree around {}: another user owns it", directory);
                Explanation::new("git-owner", message)
                    .hint("run as its owner, or allow it: git config --global --add safe.directory PATH")
            }
            Self::NoWorkTree { directory, complaint } => {
                let is_silent = complaint.is_empty();
                let complaint = if is_silent { Sentence::default() } else { sentence!(": {}", complaint) };
                Explanation::new("git-no-work-tree", sentence!("{} is not in a git work tree{}", directory, complaint))
                    .hint(ANOTHER_WAY)
            }
            Self::Link { name, commit } => {
                Explanation::new("git-link", sentence!("{} is a symbolic link in the commit {}", name, commit))
                    .hint("pass --from a file or a directory instead")
            }
            Self::TooLarge { name, largest, commit } => {
                let message = sentence!("{} is larger than {} MiB in the commit {}", name, largest / MEBIBYTE, commit);
                Explanation::new("git-too-large", message).hint(ANOTHER_WAY)
            }
            Self::Unreadable { directory } => {
                Explanation::new("git-unreadable", sentence!("git could not read the policy in {}", directory))
                    .hint("objects may be missing, as in a partial clone: fetch them first")
            }
            Self::Failed { complaint } => {
                Explanation::new("git-failed", sentence!("git: {}", complaint)).hint(ANOTHER_WAY)
            }
            Self::NotInstalled => Explanation::new("git-not-installed", "this needs git, which is not installed")
                .hint("install it, or pass --from the old policy as a file or a directory"),
            Self::LongAnswer { limit } => {
                let message = sentence!("git answered with more than {} KiB", limit >> 10);
                Explanation::new("git-long-answer", message).hint(ANOTHER_WAY)
            }
            Self::NotRun { words } => Explanation::new("git-not-run", words)
                .hint("run git there by hand, or pass --from the old policy as a file or a directory"),
        }
    }
}
