//! Reads policies from git. Only plumbing commands that read objects are run. They run nothing that a repository could
//! define, such as hooks, filters or a file system monitor, and do not use the network.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{ErrorKind, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::file_name::{Called, FileName};
use crate::foreign::Foreign;
use crate::os::process::{Ended, ask};
use crate::policy::{Commit, Source};
use crate::sources::load::{LARGEST, load, source};
use crate::sources::problem::GitProblem;

/// Variables with which git uses another repository than the one around a directory. They are set when a hook runs this
/// program.
const LOCAL: [&str; 16] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// The longest short answer of git, in bytes, such as the id of an object.
const SHORT: u64 = 4 << 10;
/// The longest listing, in bytes: the names of some hundred thousand files.
const LISTING: u64 = 64 << 20;
/// More bytes than `cat-file --batch` writes before and after an object.
const AROUND: u64 = 128;

/// The commit that the work tree of the policy at `path` is at; `None` where there is none, or git does not answer
/// within the time `limit`.
pub fn head(path: &Path, limit: Duration) -> Option<Commit> {
    let tree = Tree::around(path, limit).ok()?;
    let id = tree.commit(OsStr::new("HEAD")).ok()?;
    let committed = tree.files(&id, &tree.today(path)).ok()?;
    let committed = committed.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice()));
    let present = load(path, Called::ByPath).ok()?.sources;
    let same = present.iter().map(|source| (source.name.path(), source.text.as_bytes())).eq(committed);
    let at = tree.time_of(&id);
    Some(Commit { id, modified: !same, at })
}

/// A policy as it was at a revision.
#[derive(Debug)]
pub struct OldPolicy {
    /// The revision and the path of the policy in it, in git's form `REV:PATH`.
    pub name: FileName,
    /// The files, in path order.
    pub sources: Vec<Source>,
}

/// The policy at `path`, as it was at a revision. The policy must exist today.
///
/// `wanted` is `REV`, or `REV:PATH` if the policy had another path at that revision: from the top of the work tree or,
/// with `./`, from the policy's directory. If git recognises that the file was renamed since, `REV` is enough. `called`
/// says how the files are named in messages.
///
/// # Errors
/// Where there is no git, no work tree around it, no such revision, or no policy there in that, or where git takes longer
/// than `limit`.
pub fn policy_at(wanted: &OsStr, path: &Path, limit: Duration, called: Called) -> Result<OldPolicy> {
    let (revision, elsewhere) = revision_and_path(wanted);
    if revision.is_empty() || revision.as_bytes().starts_with(b"-") {
        return Err(GitProblem::NoRevision { typed: Path::new(wanted).into() }.into());
    }
    let tree = Tree::around(path, limit)?;
    let commit = tree.commit(revision)?;
    let mut place = elsewhere.map_or_else(|| tree.today(path), Place::at);
    let mut files = tree.files(&commit, &place)?;
    let renamed = if files.is_empty() && elsewhere.is_none() { tree.path_before_rename(&commit)? } else { None };
    if let Some(old) = &renamed {
        place = Place::at(old);
        files = tree.files(&commit, &place)?;
    }
    if files.is_empty() {
        let policy = place.shown.to_owned();
        return Err(GitProblem::NoPolicy { policy, revision: foreign(revision) }.into());
    }
    let name = FileName::of_whole(&in_revision(revision, place.shown), called);
    let is_whole = files.len() == 1 && files.iter().all(|(path, _)| path == place.shown);
    let read = |(before, (path, bytes)): (usize, (PathBuf, _))| {
        let path = in_revision(revision, &path);
        let name = if is_whole { name.clone() } else { FileName::of_several(&path, called, before) };
        source(name, bytes)
    };
    let sources = files.into_iter().enumerate().map(read).collect::<Result<_>>()?;
    Ok(OldPolicy { name, sources })
}

/// A path in a revision, as git writes it.
fn in_revision(revision: &OsStr, path: &Path) -> PathBuf {
    let mut name = revision.to_owned();
    name.push(":");
    name.push(path);
    name.into()
}

fn foreign(revision: &OsStr) -> Foreign {
    Path::new(revision).into()
}

/// Splits `REV:PATH`. A colon within braces, as in `HEAD^{/fix: it}`, or at the beginning belongs to the revision.
fn revision_and_path(text: &OsStr) -> (&OsStr, Option<&Path>) {
    let bytes = text.as_bytes();
    let mut open = 0_usize;
    let mut ends = |byte: &u8| {
        match byte {
            b'{' => open += 1,
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        *byte == b':' && open == 0
    };
    let Some(colon) = bytes.iter().position(&mut ends).filter(|at| *at > 0) else { return (text, None) };
    (OsStr::from_bytes(&bytes[..colon]), Some(Path::new(OsStr::from_bytes(&bytes[colon + 1..]))))
}

/// The place of a policy in a work tree, and the time limit for git.
struct Tree {
    /// The policy's directory.
    directory: PathBuf,
    /// The name of the policy's file; `None` where the policy is the whole directory.
    file: Option<PathBuf>,
    /// How long git may take for all commands together.
    limit: Duration,
    /// When that time is over.
    until: Instant,
}

/// The place of a policy in a commit.
struct Place<'a> {
    from: From,
    /// The policy's path; empty for a directory that is `From::Here`.
    path: &'a Path,
    /// The path as messages show it.
    shown: &'a Path,
}

impl<'a> Place<'a> {
    /// The place of the path in `REV:PATH`.
    fn at(path: &'a Path) -> Self {
        let here = path.strip_prefix(".").ok();
        let from = if here.is_some() || path.starts_with("..") { From::Here } else { From::Top };
        Self { from, path: here.unwrap_or(path), shown: path }
    }
}

/// What a path is relative to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// The top of the work tree.
    Top,
    /// The directory of the policy as it is today.
    Here,
}

/// A file in a commit.
struct Blob {
    name: PathBuf,
    id: String,
    /// In bytes.
    size: u64,
}

impl Tree {
    fn around(path: &Path, limit: Duration) -> Result<Self> {
        let until = Instant::now() + limit;
        let real = fs::canonicalize(path).map_err(Error::io("find the policy", path))?;
        let (directory, file) = if real.is_dir() {
            (real, None)
        } else {
            (real.parent().unwrap_or(Path::new("/")).to_owned(), real.file_name().map(PathBuf::from))
        };
        let tree = Self { directory, file, limit, until };
        let inside = tree.git(&["rev-parse", "--is-inside-work-tree"], Stdio::null(), SHORT)?;
        match inside {
            Ok(answer) if answer.starts_with(b"true") => Ok(tree),
            Err(complaint) if complaint.contains("dubious ownership") => {
                Err(GitProblem::Owner { directory: tree.directory }.into())
            }
            answer => {
                let complaint = answer.err().unwrap_or_default().into();
                Err(GitProblem::NoWorkTree { directory: tree.directory, complaint }.into())
            }
        }
    }

    /// The id of a commit.
    fn commit(&self, revision: &OsStr) -> Result<String> {
        let mut commit = OsString::from(revision);
        commit.push("^{commit}");
        let arguments = ["rev-parse", "--verify", "--quiet"].map(OsStr::new);
        let answer = self.git(&[&arguments[..], &[&commit]].concat(), Stdio::null(), SHORT)?;
        let id = answer.map(|id| String::from_utf8_lossy(&id).trim().to_owned());
        match id {
            Ok(id) if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(id),
            _ => {
                let (revision, directory) = (foreign(revision), self.directory.clone());
                Err(GitProblem::UnknownRevision { revision, directory }.into())
            }
        }
    }

    /// When a commit was made, by its committer's clock.
    fn time_of(&self, id: &str) -> Option<Timestamp> {
        let answer = self.git(&["rev-list", "--timestamp", "--max-count=1", id], Stdio::null(), SHORT).ok()?.ok()?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (seconds, _) = text.split_once(' ')?;
        Timestamp::from_second(seconds.parse().ok()?).ok()
    }

    /// The place of the policy at its present path.
    fn today<'a>(&'a self, shown: &'a Path) -> Place<'a> {
        Place { from: From::Here, path: self.file.as_deref().unwrap_or(Path::new("")), shown }
    }

    /// The path of the policy's file in a commit, from the top of the work tree, if git recognises that the file was
    /// renamed since.
    fn path_before_rename(&self, commit: &str) -> Result<Option<PathBuf>> {
        let Some(file) = &self.file else { return Ok(None) };
        let prefix = self.ask(&["rev-parse", "--show-prefix"].map(OsStr::new), Stdio::null(), SHORT)?;
        let now = [prefix.trim_ascii_end(), file.as_os_str().as_bytes()].concat();
        // The index is compared, because git would read the files of the work tree through the filters of the repository.
        let renames = ["diff-index", "--cached", "-z", "-M", "--name-status", "--diff-filter=R", commit];
        let Ok(listing) = self.git(&renames, Stdio::null(), LISTING)? else { return Ok(None) };
        let parts: Vec<&[u8]> = listing.split(|byte| *byte == 0).collect();
        let found = parts.chunks_exact(3).find(|rename| rename[2] == now);
        Ok(found.map(|rename| Path::new(OsStr::from_bytes(rename[1])).to_owned()))
    }

    /// The files of the policy at a place in a commit, in path order. There may be none.
    fn files(&self, commit: &str, place: &Place) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut blobs = self.blobs(commit, place)?;
        // In the order of a directory on disk, which is not that of git.
        blobs.sort_by(|a, b| a.name.cmp(&b.name));
        let contents = self.contents(&blobs)?;
        Ok(blobs.into_iter().map(|blob| blob.name).zip(contents).collect())
    }

    fn blobs(&self, commit: &str, place: &Place) -> Result<Vec<Blob>> {
        let mut arguments: Vec<&OsStr> = ["ls-tree", "-r", "-z", "--long"].map(OsStr::new).into();
        arguments.extend((place.from == From::Top).then_some(OsStr::new("--full-tree")));
        arguments.extend([commit, "--"].map(OsStr::new));
        arguments.extend(Some(place.path.as_os_str()).filter(|path| !path.is_empty()));
        let listing = self.ask(&arguments, Stdio::null(), LISTING)?;
        let mut blobs = Vec::new();
        for line in listing.split(|byte| *byte == 0) {
            let mut parts = line.splitn(2, |byte| *byte == b'\t');
            let (Some(facts), Some(name)) = (parts.next(), parts.next()) else { continue };
            let Ok(below) = Path::new(OsStr::from_bytes(name)).strip_prefix(place.path) else { continue };
            let is_file = below.as_os_str().is_empty();
            if !is_file && !is_policy(below) {
                continue;
            }
            let facts = String::from_utf8_lossy(facts);
            let [mode, "blob", id, size] = facts.split_ascii_whitespace().collect::<Vec<_>>()[..] else { continue };
            let name = if is_file { place.shown.to_owned() } else { place.shown.join(below) };
            if mode == "120000" {
                return Err(GitProblem::Link { name, commit: commit.into() }.into());
            }
            // A missing object has no size. Reading it fails later.
            let size = size.parse().unwrap_or_default();
            if size > LARGEST {
                return Err(GitProblem::TooLarge { name, largest: LARGEST, commit: commit.into() }.into());
            }
            blobs.push(Blob { name, id: id.to_owned(), size });
        }
        Ok(blobs)
    }

    /// The contents of blobs, read by one process.
    fn contents(&self, blobs: &[Blob]) -> Result<Vec<Vec<u8>>> {
        // Stdin is a file and not a pipe, because git may write before it has read everything.
        let wanted: String = blobs.iter().map(|blob| format!("{}\n", blob.id)).collect();
        let stdin = file_of(&wanted).map_err(Error::io("write", Path::new("a temporary file")))?;
        let most = blobs.iter().map(|blob| blob.size + AROUND).sum();
        let answer = self.ask(&["cat-file", "--batch"].map(OsStr::new), stdin.into(), most)?;
        let mut rest = answer.as_slice();
        let contents: Option<_> = blobs.iter().map(|_| next_blob(&mut rest)).collect();
        contents.ok_or_else(|| GitProblem::Unreadable { directory: self.directory.clone() }.into())
    }

    /// The answer of git. A complaint is an error.
    fn ask(&self, arguments: &[&OsStr], stdin: Stdio, most: u64) -> Result<Vec<u8>> {
        self.git(arguments, stdin, most)?.map_err(|complaint| GitProblem::Failed { complaint: complaint.into() }.into())
    }

    /// The answer of git, or its complaint. An answer of more than `most` bytes is an error.
    fn git(&self, arguments: &[impl AsRef<OsStr>], stdin: Stdio, most: u64) -> Result<Result<Vec<u8>, String>> {
        let mut command = Command::new("git");
        command.args(["-c", "core.fsmonitor=false", "--literal-pathspecs", "-C"]).arg(&self.directory).args(arguments);
        for name in LOCAL {
            command.env_remove(name);
        }
        // In a partial clone, git would fetch missing objects with a command from the configuration of the repository.
        command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C").stdin(stdin);
        let (report, answer) = ask(&mut command, most, self.until.saturating_duration_since(Instant::now()));
        match &report.ended {
            Ended::NotStarted(error) if error.kind() == ErrorKind::NotFound => Err(GitProblem::NotInstalled.into()),
            Ended::Exited(_) if answer.len() as u64 > most => Err(GitProblem::LongAnswer { limit: most }.into()),
            Ended::Exited(status) if status.success() => Ok(Ok(answer)),
            Ended::Exited(_) => {
                let first = report.complaint.lines().next().unwrap_or_default();
                Ok(Err(first.trim_start_matches("fatal: ").to_owned()))
            }
            Ended::NotStarted(_) | Ended::TimedOut | Ended::Survived => {
                Err(GitProblem::NotRun { words: report.words("git", self.limit).into() }.into())
            }
        }
    }
}

/// Whether the file at this path below a policy's directory belongs to the policy.
fn is_policy(below: &Path) -> bool {
    let hidden = |part: Component| part.as_os_str().as_encoded_bytes().starts_with(b".");
    below.extension().is_some_and(|extension| extension == "toml") && !below.components().any(hidden)
}

fn file_of(text: &str) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Reads one object from the output of `cat-file --batch`: a line with id, kind and size, then the bytes and a line end.
fn next_blob(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (head, after) = rest.split_at_checked(end)?;
    let size: usize = std::str::from_utf8(head).ok()?.rsplit(' ').next()?.parse().ok()?;
    let (bytes, after) = after.get(1..)?.split_at_checked(size)?;
    *rest = after.get(1..)?;
    Some(bytes.to_vec())
}
