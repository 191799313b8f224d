//! The files that reports and metrics are written to.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cli::problem::OptionProblem;
use crate::cli::terminal::buffered;
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::os::directory::Directory;
use crate::os::rights::keep_at_most;
use crate::os::unnamed::NewFile;
use crate::os::{FileMeta, mount};
use crate::report::{Format, Page, Report, Width};

/// The mode of a report that takes the place of another, until it has the rights of that.
const PRIVATE: u32 = 0o600;
/// The mode of a new report, of which the umask takes away.
const BY_UMASK: u32 = 0o666;
/// The mode of new metrics, which another user reads.
const SHARED: u32 = 0o644;

/// The files of `--output`. They are opened before a run, so that a wrong name costs nothing.
pub(crate) struct Outputs(Vec<Output>);

struct Output {
    format: Format,
    /// As the user names it.
    path: PathBuf,
    target: Target,
}

impl Outputs {
    /// Opens the `wanted` files. None of them may be one that the run `needed` for something else.
    pub(crate) fn open(wanted: &[(Format, PathBuf)], needed: &[PathBuf]) -> Result<Self> {
        let mut opened: Vec<Output> = Vec::new();
        for (format, path) in wanted {
            refuse_needed("--output", path, needed)?;
            let target = Target::open(path, NewMode::ByUmask)?;
            if opened.iter().any(|other| other.target.replaces_the_same_as(&target)) {
                return Err(OptionProblem::TwoReports { path: path.clone() }.into());
            }
            opened.push(Output { format: *format, path: path.clone(), target });
        }
        Ok(Self(opened))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn write(self, report: &Report) -> Result<()> {
        let report = Report { width: Width::Any, ..*report };
        for Output { format, path, target } in self.0 {
            target.write(|page| report.write(format, page)).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }
}

/// Refuses a path that leads to a file that the run `needed` for something else, or below such a directory.
pub(crate) fn refuse_needed(option: &'static str, path: &Path, needed: &[PathBuf]) -> Result<()> {
    let real = real(path);
    if needed.iter().any(|needed| real.starts_with(self::real(needed))) {
        return Err(OptionProblem::Needed { option, path: path.to_owned() }.into());
    }
    Ok(())
}

/// The path without links, also where the end of it is not there yet.
fn real(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = whole.ancestors().find_map(|above| Some((fs::canonicalize(above).ok()?, above)));
    // Joined with nothing, a file would get a slash.
    let rest = |above| whole.strip_prefix(above).ok().map(Path::components);
    found.and_then(|(real, above)| Some(rest(above)?.fold(real, |real, name| real.join(name)))).unwrap_or(whole.clone())
}

/// The mode of a report's file where there is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewMode {
    /// As for any new file: the umask says who may read it.
    ByUmask,
    /// Other users may read it, under any umask.
    Shared,
}

/// A regular file that is written once, and takes the place of the one at its path in one step.
pub(crate) struct Target {
    new: NewFile,
    path: PathBuf,
}

impl Target {
    /// Opens what will take the place of the file at `path`, for the same users. What stands there is not opened: it may
    /// be a pipe that nothing reads, or a disk.
    pub(crate) fn open(path: &Path, new: NewMode) -> Result<Self> {
        let failed = Error::io("write", path);
        let old = match fs::metadata(path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            Err(_) if path.is_symlink() => {
                return Err(failed(io::Error::new(ErrorKind::NotFound, "it is a link to a file that is not there")));
            }
            Err(_) => None,
        };
        check_replaceable(path)?;
        // A link stays one: what it points to is replaced.
        let real = real(path);
        // What is opened before the file has the rights of another can still be read when it has them.
        let mode = if old.is_some() { PRIVATE } else { BY_UMASK };
        let file = NewFile::create_in(directory_of(&real), mode).map_err(Error::io("write", path))?;
        match (&old, new) {
            (Some(old), _) => keep_at_most(file.file(), FileMeta::of(old), &real)?,
            // The umask was taken from the mode with which the file was created.
            (None, NewMode::Shared) => {
                let shared = fs::Permissions::from_mode(SHARED);
                file.file().set_permissions(shared).map_err(Error::io("write", path))?;
            }
            (None, NewMode::ByUmask) => {}
        }
        crash_point!("output: opened");
        Ok(Self { new: file, path: real })
    }

    fn replaces_the_same_as(&self, other: &Self) -> bool {
        self.path == other.path
    }

    /// Writes the file, which is on disk when this returns: else a power cut could leave an empty file in the place of the last
    /// report.
    pub(crate) fn write(self, write: impl FnOnce(&mut Page) -> io::Result<()>) -> io::Result<()> {
        let file = self.new.file();
        let mut out = buffered(anstream::StripStream::new(buffered(file.try_clone()?)));
        write(&mut Page::onto(&mut out))?;
        out.flush()?;
        file.sync_all()?;
        crash_point!("output: written");
        self.new.take_place(&self.path)?;
        File::open(directory_of(&self.path))?.sync_all()
    }
}

fn directory_of(real: &Path) -> &Path {
    real.parent().unwrap_or(real)
}

/// Refuses a file that cannot be replaced. What is no regular file must not be: to open a pipe may wait, and to write to a
/// device may destroy it.
pub(crate) fn check_replaceable(path: &Path) -> Result<()> {
    if let Some(kind) = fs::metadata(path).ok().as_ref().and_then(not_regular) {
        return Err(OptionProblem::NotReplaceable { path: path.to_owned(), kind }.into());
    }
    let real = real(path);
    // Where there is no such directory, the file cannot be created, and that says why.
    let (Some(name), Ok(directory)) = (real.file_name(), Directory::open(directory_of(&real))) else { return Ok(()) };
    mount::check_replaceable(directory.place(name), &directory)
}

/// The kind of a file that is not regular.
fn not_regular(found: &fs::Metadata) -> Option<&'static str> {
    let kind = found.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_fifo() => Some("a pipe"),
        () if kind.is_block_device() || kind.is_char_device() => Some("a device"),
        () => Some("not a regular file"),
    }
}
