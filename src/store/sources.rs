//! The policy's files: one, or every `*.toml` below a directory.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::diagnostic::{Diagnostic, Place};
use crate::error::{Error, Result};
use crate::policy::Source;
use crate::redact::Redaction;
use crate::store::open_regular;

/// In bytes. A policy of 100,000 overrides is about half of it; more is probably the wrong file.
pub(super) const LARGEST: u64 = 16 << 20;

/// The text of a policy, and where it lies.
#[derive(Debug)]
pub struct PolicyFiles {
    /// In path order.
    pub sources: Vec<Source>,
    /// Paths in the policy are relative to it, and its commands run there.
    pub directory: PathBuf,
    /// The first file or directory that somebody other than root and this user can write.
    pub exposed: Option<PathBuf>,
}

/// Reads the policy at `path`.
///
/// # Errors
/// Where it cannot be read, is not UTF-8 or is too large.
pub fn load(path: &Path) -> Result<PolicyFiles> {
    let metadata = fs::metadata(path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            Error::other(format!("there is no policy {}", path.display()))
                .with_hint("name one with --policy PATH or RECONCILE_POLICY, or write ./policy.toml")
        } else {
            Error::io("read the policy", path)(source)
        }
    })?;
    let (files, directory) = if metadata.is_dir() {
        (files_below(path)?, path.to_owned())
    } else {
        (vec![path.to_owned()], path.parent().unwrap_or(Path::new("")).to_owned())
    };
    let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
    let directory = fs::canonicalize(&directory).map_err(Error::io("find", &directory))?;
    let sources = files.iter().map(|file| read(file)).collect::<Result<_>>()?;
    let exposed = find_exposed(&files)?;
    Ok(PolicyFiles { sources, directory, exposed })
}

/// Reads a key file that the user names.
///
/// # Errors
/// Where it cannot be read, or holds something else.
pub fn redaction_key(path: &Path) -> Result<Redaction> {
    let mut text = String::new();
    open_regular(path)?.take(1024).read_to_string(&mut text).map_err(Error::io("read the key", path))?;
    Redaction::from_text(&text).ok_or_else(|| {
        Error::other(format!("{} holds no key for redaction", path.display()))
            .with_hint("it is made by: reconcile snapshot --redact, as redact.key in the registry's state directory")
    })
}

/// The first of the files, or of the directories on the way to them, that others can write: whoever can rename a
/// directory can put another policy in its place. With links, both ways count.
fn find_exposed(files: &[PathBuf]) -> Result<Option<PathBuf>> {
    let mut seen = BTreeSet::new();
    for file in files {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for way in [file.as_path(), parent] {
            let real = fs::canonicalize(way).map_err(Error::io("find", way))?;
            for path in real.ancestors() {
                if seen.insert(path.to_owned()) && others_can_write(path)? {
                    return Ok(Some(path.to_owned()));
                }
            }
        }
    }
    Ok(None)
}

fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let visible = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    let mut files = Vec::new();
    for entry in WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(visible) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(path).to_owned();
            Error::io("read the policy", &path)(std::io::Error::from(error))
        })?;
        let is_toml = entry.path().extension().is_some_and(|extension| extension == "toml");
        if is_toml && entry.path().is_file() {
            files.push(entry.into_path());
        }
    }
    if files.is_empty() {
        return Err(Error::other(format!("there is no *.toml below {}", path.display()))
            .with_hint("a policy directory holds at least one, with [models] in it"));
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Source> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    source(&name, bytes)
}

/// A file of that name, from its bytes.
pub(super) fn source(name: &str, bytes: Vec<u8>) -> Result<Source> {
    if bytes.len() as u64 > LARGEST {
        return Err(Error::other(format!("{name} is larger than {} MiB", LARGEST >> 20))
            .with_hint("is it a policy? split a large one into a directory of files"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let place = Place::new(name, &text, at..at + 1);
            let mistake = Diagnostic::error("not-utf8", "the policy is not UTF-8", place, "the first byte that is not")
                .help("TOML is UTF-8: save the file in that encoding");
            Err(Error::Invalid(vec![mistake]))
        }
    }
}

fn others_can_write(path: &Path) -> Result<bool> {
    let metadata = fs::metadata(path).map_err(Error::io("look at", path))?;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    // In a sticky directory others can add files, but not replace ours.
    let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
    Ok(!ours || (metadata.mode() & 0o022 != 0 && !sticky))
}
