//! Where text goes: reports to stdout and files, the rest to stderr. A closed pipe ends the printing, never a run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anstream::AutoStream;
use tempfile::NamedTempFile;

use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::report::diagnostics::render;
use crate::report::escape::escape;
use crate::report::{Format, Report};

/// Writes to stdout through `write`, without colour where it is no terminal.
pub(crate) fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let stdout = io::stdout();
    let mut out = AutoStream::new(buffered(stdout.lock()), AutoStream::choice(&stdout));
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("write", Path::new("stdout"))(error)),
        _ => Ok(()),
    }
}

/// What would be said on stderr, as long as it is not known whether the run has anything to say.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// From now on stderr waits for `release`.
pub(crate) fn hold() {
    *held() = Some(Vec::new());
}

/// Says what was held, and holds nothing more.
pub(crate) fn release() {
    let lines = held().take();
    lines.into_iter().flatten().for_each(|text| line(&text));
}

fn held() -> MutexGuard<'static, Option<Vec<String>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What takes the colours out writes a few bytes at a time, so the buffer stands behind it.
fn buffered<'a>(out: impl Write + 'a) -> Box<dyn Write + 'a> {
    Box::new(BufWriter::with_capacity(1 << 16, out))
}

/// A line on stderr. Text of others in it must be escaped already.
pub(crate) fn line(text: &str) {
    if let Some(lines) = held().as_mut() {
        lines.push(text.to_owned());
        return;
    }
    // Where nobody reads it, there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{text}");
}

pub(crate) fn note(text: &str) {
    line(&format!("note: {}", escape(text)));
}

pub(crate) fn warning(text: &str) {
    line(&format!("warning: {}", escape(text)));
}

pub(crate) fn error(text: &str, hint: Option<&str>) {
    line(&format!("error: {}", escape(text)));
    if let Some(hint) = hint {
        line(&format!("hint: {}", escape(hint)));
    }
}

/// Whether errors leave out what they quote.
static NAMES_HIDDEN: AtomicBool = AtomicBool::new(false);

/// From now on errors say where something is wrong, and not what stands there.
pub(crate) fn hide_names(hidden: bool) {
    NAMES_HIDDEN.store(hidden, Ordering::Relaxed);
}

pub(crate) fn names_hidden() -> bool {
    NAMES_HIDDEN.load(Ordering::Relaxed)
}

pub(crate) fn diagnostics(found: &[Diagnostic]) {
    if found.is_empty() {
        return;
    }
    let nameless = || found.iter().map(Diagnostic::nameless).collect::<Vec<_>>();
    line(if names_hidden() { render(&nameless()) } else { render(found) }.trim_end());
}

/// An error with its causes, and what to do about it.
pub(crate) fn failure(failed: &anyhow::Error) {
    match failed.downcast_ref() {
        Some(Error::Invalid(found)) => diagnostics(found),
        Some(Error::Other { nameless: Some(nameless), .. }) if names_hidden() => error(nameless, None),
        Some(Error::Other { message, hint, .. }) => error(message, hint.as_deref()),
        Some(locked @ Error::Locked { .. }) => {
            error(&locked.to_string(), Some("wait for it to finish, or give --lock-timeout more time"));
        }
        Some(ours) => error(&ours.to_string(), None),
        None => error(&format!("{failed:#}"), None),
    }
}

/// The files of `--output`. They are opened before a run, so that a wrong name costs nothing.
pub(crate) struct Outputs(Vec<(Format, PathBuf, Target)>);

pub(crate) enum Target {
    /// Takes the place of the file at that path in one step.
    Replace(NamedTempFile, PathBuf),
    /// For what is no regular file: a pipe, a terminal.
    Append(File),
}

impl Outputs {
    /// None of them may be `needed` otherwise.
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

/// Refuses a path that leads to what is `needed` otherwise, or below a directory that is.
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
