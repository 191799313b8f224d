//! Where a state directory is that stands beside no registry.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::os::FileMeta;
use crate::os::directory::Directory;
use crate::redact::Redaction;
use crate::state::dir::StateDir;
use crate::state::key;
use crate::state::ledger::LedgerFile;
use crate::state::problem::StateProblem;

/// The mode of the directories that are made above a state directory.
const PRIVATE: u32 = 0o700;

/// Where a state directory is, whether it is there yet or not. It belongs to the user who runs the program.
#[derive(Clone, Debug)]
pub struct StateHome {
    path: PathBuf,
    /// Whether it is taken for one that no run has made.
    is_left_out: bool,
}

impl StateHome {
    /// The state directory at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, is_left_out: false }
    }

    /// This directory as if no run had made it, for a plan of a user who may not see what runs remember.
    #[must_use]
    pub(crate) fn left_out(self) -> Self {
        Self { is_left_out: true, ..self }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory; `None` where there is none yet.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub(crate) fn open(&self) -> Result<Option<StateDir>> {
        if self.is_left_out {
            return Ok(None);
        }
        let Some(parent) = self.parent()? else { return Ok(None) };
        StateDir::open(&parent, self.name()?, rustix::process::geteuid().as_raw())
    }

    /// The directory, which is made where there is none.
    ///
    /// # Errors
    /// Where it cannot be made or used.
    pub(crate) fn create(&self) -> Result<StateDir> {
        let above = self.above();
        DirBuilder::new().recursive(true).mode(PRIVATE).create(above).map_err(Error::io("create", above))?;
        let missing = || Error::io("open", above)(Errno::NOENT);
        let parent = self.parent()?.ok_or_else(missing)?;
        let (owner, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        StateDir::create(&parent, self.name()?, FileMeta { owner, group, ..parent.meta()? })
    }

    /// That this user may write in it, or make it where there is none: asked, and not tried.
    ///
    /// # Errors
    /// Where the nearest directory that exists may not be written, or its file system is mounted read-only.
    pub(crate) fn check_writable(&self) -> Result<()> {
        // A path that does not begin at the root ends with an empty one, which is this directory.
        let mut paths =
            self.path.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
        let Some(nearest) = paths.find_map(|path| fs::canonicalize(path).ok()) else { return Ok(()) };
        Directory::open(&nearest)?.may_write().map_err(Error::io("write in", &nearest))
    }

    /// The user who owns it, where that is another user than this one, and this one may not enter it.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub(crate) fn hidden_from(&self) -> Result<Option<u32>> {
        let Some(parent) = self.parent()? else { return Ok(None) };
        let Some(FileMeta { owner, .. }) = parent.place(self.name()?).look()? else { return Ok(None) };
        let is_hidden = matches!(
            rustix::fs::accessat(&parent, self.name()?, Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS),
            Err(Errno::ACCESS)
        );
        Ok(Some(owner).filter(|owner| is_hidden && *owner != rustix::process::geteuid().as_raw()))
    }

    /// The key that chats are redacted with. Where there is none, one is made, and its file returned.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub(crate) fn redaction_key_or_new(&self, patience: Duration) -> Result<(Redaction, Option<PathBuf>)> {
        let ledger = LedgerFile::new(self.create()?);
        // Two programs must not make two keys.
        let _open = ledger.open_within(patience, &|| false)?;
        key::read_or_new(ledger.dir())
    }

    /// The directory that it is in; `None` where that is not there.
    fn parent(&self) -> Result<Option<Arc<Directory>>> {
        let above = self.above();
        match fs::canonicalize(above) {
            Ok(real) => Ok(Some(Arc::new(Directory::open(&real)?))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", above)(error)),
        }
    }

    fn above(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn name(&self) -> Result<&std::ffi::OsStr> {
        self.path.file_name().ok_or_else(|| StateProblem::NoName { path: self.path.clone() }.into())
    }
}
