//! Remembers the entry with which a session was last started, where the registry is a table, so that the session can be
//! started while the server cannot be reached. It is saved as a registry with this one entry, in a directory beside the
//! policy.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::os::unnamed::NewFile;
use crate::redact::hex;

/// The mode of the files, which say who chats are with.
const PRIVATE: u32 = 0o600;
/// The mode of their directory.
const PRIVATE_DIRECTORY: u32 = 0o700;
/// How many bytes of a hash are in the name of a file.
const HASH_LENGTH: usize = 16;

/// The file for the session that a launch calls `word`, with the policy at `path`. Creates its directory. `None` where
/// there can be no directory beside the policy.
pub fn place(path: &Path, word: &str) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".reconcile-sessions");
    let directory = path.with_file_name(name);
    // An error is ignored, because the directory may exist already. That is checked below.
    let _ = DirBuilder::new().mode(PRIVATE_DIRECTORY).create(&directory);
    let hash = Sha256::digest(word.as_bytes());
    let name = hex(&hash[..HASH_LENGTH]);
    Some(directory.join(format!("{name}.json"))).filter(|_| directory.is_dir())
}

/// Saves the text of a registry at a place. If that fails, the earlier text stays.
pub fn remember(place: &Path, registry: &str) {
    // An error must not keep the session from starting, which needs the file only while the server cannot be reached.
    let _ = write(place, registry);
}

fn write(place: &Path, registry: &str) -> Option<()> {
    let new = NewFile::create_in(place.parent()?, PRIVATE).ok()?;
    let mut file = new.file();
    file.write_all(registry.as_bytes()).and_then(|()| file.sync_all()).ok()?;
    new.take_place(place).ok()
}
