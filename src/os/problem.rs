//! What can go wrong with files, beyond what the system itself says.

use std::path::PathBuf;

use crate::error::{Explain, Explanation};
use crate::foreign::{Octal, Sentence, sentence};

/// What to do about a file or a directory that is mounted so that nothing can take its place.
pub(crate) const MOUNT_THE_DIRECTORY: &str = "mount its directory, not the file alone, and mount it read-write; under systemd, name the directory in ReadWritePaths=";

/// Why a file cannot be used as it must be.
#[derive(Debug)]
pub(crate) enum OsProblem {
    /// A directory is no longer where it was opened.
    Moved { directory: PathBuf },
    /// A file that waits for its exchange was replaced by another program.
    NotOurs { waiting: PathBuf },
    /// A lock's file is no longer the one that was locked.
    LockLost { lock: PathBuf },
    /// A file that is to be read is something else.
    NotRegular { path: PathBuf, is_directory: bool },
    /// A file is mounted by itself.
    Mounted { path: PathBuf },
    /// What is to take a file's place waits in another mount.
    OtherFileSystem { path: PathBuf, waits_in: PathBuf },
    /// There is no file with a secret where one is named.
    NoSecret { what: &'static str, path: PathBuf },
    /// A file that is to hold a secret is not used.
    NotPrivate { what: &'static str, path: PathBuf, why: NotPrivate },
    /// What takes a file's place cannot have its rights.
    NotKept { what: Sentence, path: PathBuf, error: std::io::Error, fix: Fix },
}

/// Why a file is not taken for one that holds a secret.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotPrivate {
    /// It belongs to another user than this one.
    Owner { owner: u32, user: u32 },
    /// Other users can read or change it.
    Mode(u32),
    /// It is longer than this many bytes, or not text.
    Content { longest: u64 },
}

/// What would keep the rights of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fix {
    /// It belongs to this user.
    Owner(u32),
    /// It belongs to this group.
    Group(u32),
    /// The file can do without.
    Remove,
}

impl Fix {
    fn hint(self) -> Sentence {
        match self {
            Self::Owner(user) => sentence!("what it replaces belongs to user {}: run as that user, or as root", user),
            Self::Group(group) => {
                sentence!("what it replaces belongs to group {}: run as a member of that group, or as root", group)
            }
            Self::Remove => "run as a user who can set it, such as root, or remove it from the file".into(),
        }
    }
}

impl Explain for OsProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::Moved { directory } => {
                let message = sentence!("{} was moved, removed or replaced while it was in use", directory);
                Explanation::new("directory-moved", message)
                    .hint("nothing more was done there; find out what did that, put it back, and run again")
            }
            Self::NotOurs { waiting } => {
                let message = sentence!("{} is another file by now, so it was not removed", waiting);
                Explanation::new("displaced-file", message).hint("the next run looks at it; find out what put it there")
            }
            Self::LockLost { lock } => {
                let message = sentence!("{} was removed or replaced while this run held it", lock);
                Explanation::new("lock-lost", message)
                    .hint("another run may be at work, so nothing more was done; wait for it, and run again")
            }
            Self::NotRegular { path, is_directory } => {
                let what = if *is_directory { "a directory" } else { "not a regular file" };
                Explanation::new("not-a-regular-file", sentence!("cannot read {}: it is {}", path, what))
                    .hint("name a regular file")
            }
            Self::Mounted { path } => {
                let message = sentence!(
                    "cannot replace {}: it is mounted as a single file, and the system replaces no mounted file",
                    path
                );
                Explanation::new("mounted-file", message).hint(MOUNT_THE_DIRECTORY)
            }
            Self::OtherFileSystem { path, waits_in } => {
                let message = sentence!("cannot replace {}: {} is on another file system", path, waits_in);
                Explanation::new("other-file-system", message).hint(sentence!(
                    "let {} be an ordinary directory beside the file: mount the directory that holds both",
                    waits_in
                ))
            }
            Self::NoSecret { what, path } => {
                let message = sentence!("there is no {} file {}", *what, path);
                Explanation::new("no-secret-file", message).hint(sentence!(
                    "write the {} into it, then run chmod 600 {}; or name the file that holds it",
                    *what,
                    path
                ))
            }
            Self::NotPrivate { what, path, why } => {
                let (why, hint) = match why {
                    NotPrivate::Owner { owner, user } => (
                        sentence!("it belongs to user {}, and this is user {}", *owner, *user),
                        sentence!("chown {} {}", *user, path),
                    ),
                    NotPrivate::Mode(mode) => (
                        sentence!("its mode is {}, so other users can read or change it", Octal(*mode)),
                        sentence!("chmod 600 {}", path),
                    ),
                    NotPrivate::Content { longest } => (
                        "it is too long, or not text".into(),
                        sentence!("it holds the {}, and nothing else, in at most {} bytes", *what, *longest),
                    ),
                };
                Explanation::new("not-private", sentence!("the {} file {} is not used: {}", *what, path, why))
                    .hint(hint)
            }
            Self::NotKept { what, path, error, fix } => {
                let message = sentence!("cannot keep the {} of {}: {}", what, path, error);
                Explanation::new("rights-not-kept", message).hint(fix.hint())
            }
        }
    }
}
