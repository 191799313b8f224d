//! Reads the files of a policy: one file, or every `*.toml` below a directory.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::file_name::{Called, FileName};
use crate::foreign::Sentence;
use crate::os::open_regular;
use crate::policy::Source;
use crate::sources::problem::FileProblem;

/// The largest policy file, in bytes. A policy of 100,000 overrides has about half of that. A larger file is probably
/// the wrong one.
pub(super) const LARGEST: u64 = 16 << 20;

/// The files of a policy, and its directory.
#[derive(Debug)]
pub struct PolicyFiles {
    /// The files, in path order.
    pub sources: Vec<Source>,
    /// The policy's directory. Paths in the policy are relative to it, and commands run in it.
    pub directory: PathBuf,
    /// The first file, directory or link on the way to the files that a user other than root and this one can change.
    pub exposed: Option<PathBuf>,
}

/// Reads the policy at `path`. `called` says how its files are named in messages.
///
/// # Errors
/// Where it cannot be read, is not UTF-8 or is too large.
pub fn load(path: &Path, called: Called) -> Result<PolicyFiles> {
    let metadata = fs::metadata(path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            FileProblem::NoPolicy { path: path.to_owned(), found_above: found_above(path) }.into()
        } else {
            Error::io("read the policy", path)(source)
        }
    })?;
    let (files, directory): (Vec<FileName>, PathBuf) = if metadata.is_dir() {
        let several = |(before, file): (usize, PathBuf)| FileName::of_several(&file, called, before);
        (files_below(path)?.into_iter().enumerate().map(several).collect(), path.to_owned())
    } else {
        (vec![FileName::of_whole(path, called)], path.parent().unwrap_or(Path::new("")).to_owned())
    };
    let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
    let directory = fs::canonicalize(&directory).map_err(Error::io("find", &directory))?;
    let mut way = Way::default();
    let read = |file: FileName| read(&way.follow(file.path())?, file);
    let sources = files.into_iter().map(read).collect::<Result<_>>()?;
    Ok(PolicyFiles { sources, directory, exposed: way.exposed })
}

/// The relative path in the nearest directory above the current one in which it exists.
fn found_above(path: &Path) -> Option<PathBuf> {
    let depth = fs::canonicalize(".").ok()?.components().count();
    let above = |steps: usize| [".."].repeat(steps).iter().collect::<PathBuf>().join(path);
    (1..depth).map(above).find(|above| path.is_relative() && above.exists())
}

/// The largest number of links in a path that Linux follows.
const MOST_LINKS: usize = 40;

/// Follows paths, and checks for each directory and link on the way if other users can change it. A user who can rename
/// a directory or change a link can put another policy in its place.
#[derive(Default)]
struct Way {
    /// The paths that were checked.
    seen: BTreeSet<PathBuf>,
    /// The first file, directory or link that others can change.
    exposed: Option<PathBuf>,
}

impl Way {
    /// Follows a path to the real file, name by name, as the system does. If nothing on the way is exposed, no other
    /// user can replace the file before it is read.
    fn follow(&mut self, path: &Path) -> Result<PathBuf> {
        let mut real = PathBuf::new();
        if path.is_relative() {
            real = fs::canonicalize(".").map_err(Error::io("find", path))?;
            real.ancestors().try_for_each(|directory| self.pass(directory).map(drop))?;
        }
        let mut ahead = path.to_owned();
        let mut links = 0;
        loop {
            let mut components = ahead.components();
            let Some(component) = components.next() else { return Ok(real) };
            let rest = components.as_path().to_owned();
            match component {
                Component::CurDir => {}
                Component::ParentDir => _ = real.pop(),
                Component::RootDir | Component::Prefix(_) | Component::Normal(_) => real.push(component),
            }
            let is_link = self.pass(&real)?;
            ahead = if is_link && links < MOST_LINKS {
                links += 1;
                let target = fs::read_link(&real).map_err(Error::io("follow", &real))?;
                real.pop();
                target.join(rest)
            } else {
                rest
            };
        }
    }

    /// Checks one path, and returns whether it is a link.
    fn pass(&mut self, path: &Path) -> Result<bool> {
        let metadata = fs::symlink_metadata(path).map_err(Error::io("access", path))?;
        if self.seen.insert(path.to_owned()) && self.exposed.is_none() && others_can_write(&metadata) {
            self.exposed = Some(path.to_owned());
        }
        Ok(metadata.is_symlink())
    }
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
        // A dangling link is kept, so that reading it fails: otherwise a part of the policy would silently be missing.
        if is_toml && !entry.path().is_dir() {
            files.push(entry.into_path());
        }
    }
    if files.is_empty() {
        return Err(FileProblem::NoFiles { directory: path.to_owned() }.into());
    }
    Ok(files)
}

/// Reads the file at `real`, which messages call `name`.
fn read(real: &Path, name: FileName) -> Result<Source> {
    let mut bytes = Vec::new();
    let file = open_regular(real)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("read", name.path()))?;
    source(name, bytes)
}

/// Checks that a policy file which is about to be written is small enough to be read again.
///
/// # Errors
/// Where it is too large.
pub fn check_size(name: impl Into<Sentence>, text: &[u8]) -> Result<()> {
    if is_too_large(text) {
        return Err(FileProblem::WouldBeTooLarge { name: name.into(), largest: LARGEST }.into());
    }
    Ok(())
}

fn is_too_large(bytes: &[u8]) -> bool {
    bytes.len() as u64 > LARGEST
}

/// The policy file with this name and these bytes.
pub(super) fn source(name: FileName, bytes: Vec<u8>) -> Result<Source> {
    if is_too_large(&bytes) {
        return Err(FileProblem::TooLarge { name: name.shown().clone(), largest: LARGEST }.into());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::named(name, text)),
        Err(error) => {
            let mistake = Diagnostic::not_utf8("the policy", name.shown().raw(), &error);
            Err(Error::Invalid(vec![mistake.help("TOML is UTF-8: save the file in that encoding")]))
        }
    }
}

/// Whether a user other than root and this one can change a file, a directory or a link.
fn others_can_write(metadata: &fs::Metadata) -> bool {
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    // In a sticky directory, others can add files, but not replace ours. The mode of a link has no meaning.
    let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
    let writable = metadata.mode() & 0o022 != 0 && !metadata.is_symlink();
    !ours || (writable && !sticky)
}
