//! The files that reports and metrics are written to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cli::terminal::buffered;
use crate::error::{Error, Result};
use crate::report::{Format, Report};

/// The files of `--output`. They are opened before a run, so that a wrong name costs nothing.
pub(crate) struct Outputs(Vec<(Format, PathBuf, Target)>);

impl Outputs {
    /// Opens the `wanted` files. None of them may be one that the run `needed` for something else.
    pub(crate) fn open(wanted: &[(Format, PathBuf)], needed: &[PathBuf]) -> Result<Self> {
        let mut opened: Vec<(Format, PathBuf, Target)> = Vec::new();
        for (format, path) in wanted {
            refuse_needed("--output", path, needed)?;
            let target = Target::open(path).map_err(Error::io("write", path))?;
            if opened.iter().any(|(.., other)| other.replaces_the_same_as(&target)) {
                return Err(Error::other(format!("--output {}: two reports go into that file", path.display()))
                    .with_hint("name another file"));
            }
            opened.push((*format, path.clone(), target));
        }
        Ok(Self(opened))
    }

    pub(crate) fn write(self, report: &Report) -> Result<()> {
        for (format, path, target) in self.0 {
            target.write(|out| report.write(format, out)).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }
}

/// Refuses a path that leads to a file that the run `needed` for something else, or below such a directory.
pub(crate) fn refuse_needed(option: &str, path: &Path, needed: &[PathBuf]) -> Result<()> {
    let real = real(path);
    if needed.iter().any(|needed| real.starts_with(self::real(needed))) {
        return Err(Error::other(format!("{option} {}: the run itself needs that file", path.display()))
            .with_hint("name another file"));
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

/// A file that is written once.
pub(crate) enum Target {
    /// Takes the place of the file at that path in one step.
    Replace(NamedTempFile, PathBuf),
    /// For what is no regular file: a pipe, a terminal.
    Append(File),
}

impl Target {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path.exists() && !path.is_file() {
            return OpenOptions::new().append(true).open(path).map(Self::Append);
        }
        if path.is_symlink() && !path.exists() {
            return Err(io::Error::new(ErrorKind::NotFound, "it is a link to a file that is not there"));
        }
        // A link stays one: what it points to is replaced.
        let real = real(path);
        let readable = fs::Permissions::from_mode(0o666);
        let mode = fs::metadata(&real).map_or(readable, |old| old.permissions());
        let temporary = tempfile::Builder::new().permissions(mode).tempfile_in(real.parent().unwrap_or(&real))?;
        Ok(Self::Replace(temporary, real))
    }

    fn replaces_the_same_as(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Replace(_, path), Self::Replace(_, other)) if path == other)
    }

    pub(crate) fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let file = match &self {
            Self::Append(file) => file,
            Self::Replace(temporary, _) => temporary.as_file(),
        };
        let mut out = anstream::StripStream::new(buffered(file.try_clone()?));
        write(&mut out)?;
        out.flush()?;
        match self {
            Self::Append(_) => Ok(()),
            Self::Replace(temporary, path) => temporary.persist(path).map(drop).map_err(|error| error.error),
        }
    }
}
