//! What a session was last started on, where its registry is a table: so that it starts while the server cannot be reached. It
//! is a registry of that one session, in a directory beside the policy.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::os::unnamed::NewFile;

/// Who the chats are with is said there.
const PRIVATE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;
/// So many bytes of a hash tell the words apart by which sessions are started.
const NAME: usize = 16;

/// Where it is remembered of the session that is started by this word, with the policy at `path`. `None` where nothing can be
/// kept beside the policy.
pub fn place(path: &Path, word: &str) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".reconcile-sessions");
    let directory = path.with_file_name(name);
    // It is there already, or cannot be made: then nothing is found in it, and nothing is kept.
    let _ = DirBuilder::new().mode(PRIVATE_DIRECTORY).create(&directory);
    let hash = Sha256::digest(word.as_bytes());
    let name: String = hash.iter().take(NAME).map(|byte| format!("{byte:02x}")).collect();
    Some(directory.join(format!("{name}.json"))).filter(|_| directory.is_dir())
}

/// Remembers it. Where that cannot be done, what was remembered before stays.
pub fn remember(place: &Path, registry: &str) {
    // A session is to be started, and needs this only while the server cannot be reached.
    let _ = write(place, registry);
}

fn write(place: &Path, registry: &str) -> Option<()> {
    let new = NewFile::create_in(place.parent()?, PRIVATE).ok()?;
    let mut file = new.file();
    file.write_all(registry.as_bytes()).and_then(|()| file.sync_all()).ok()?;
    new.take_place(place).ok()
}
