//! State directories that are not beside a registry's file.

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

/// The mode of the directories that are created above a state directory.
const PRIVATE: u32 = 0o700;

/// The place of a state directory, which need not exist yet. It belongs to the user who runs the program.
#[derive(Clone, Debug)]
pub struct StateHome {
    path: PathBuf,
    /// Whether the directory is ignored, as if there had been no run yet.
    is_left_out: bool,
}

impl StateHome {
    /// The state directory at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, is_left_out: false }
    }

    /// This place with its directory ignored, for a plan by a user who may not read the state.
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

    /// The directory, which is created if there is none.
    ///
    /// # Errors
    /// Where it cannot be created or used.
    pub(crate) fn create(&self) -> Result<StateDir> {
        let above = self.above();
        DirBuilder::new().recursive(true).mode(PRIVATE).create(above).map_err(Error::io("create", above))?;
        let missing = || Error::io("open", above)(Errno::NOENT);
        let parent = self.parent()?.ok_or_else(missing)?;
        let (owner, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        StateDir::create(&parent, self.name()?, FileMeta { owner, group, ..parent.meta()? })
    }

    /// Checks that this user may write in it, or create it if there is none, without writing anything.
    ///
    /// # Errors
    /// Where the nearest directory that exists may not be written, or its file system is mounted read-only.
    pub(crate) fn check_writable(&self) -> Result<()> {
        // The last ancestor of a relative path is empty, and stands for the current directory.
        let mut paths =
            self.path.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
        let Some(nearest) = paths.find_map(|path| fs::canonicalize(path).ok()) else { return Ok(()) };
        Directory::open(&nearest)?.may_write().map_err(Error::io("write in", &nearest))
    }

    /// Its owner, if that is another user and this one may not enter it.
    ///
    /// # Errors
    /// Where that cannot be found out.
    pub(crate) fn hidden_from(&self) -> Result<Option<u32>> {
        let Some(parent) = self.parent()? else { return Ok(None) };
        let Some(FileMeta { owner, .. }) = parent.place(self.name()?).look()? else { return Ok(None) };
        let is_hidden = matches!(
            rustix::fs::accessat(&parent, self.name()?, Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS),
            Err(Errno::ACCESS)
        );
        Ok(Some(owner).filter(|owner| is_hidden && *owner != rustix::process::geteuid().as_raw()))
    }

    /// The key for redacting chats. If there is none, it is created, and the path of its file returned.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub(crate) fn redaction_key_or_new(&self, patience: Duration) -> Result<(Redaction, Option<PathBuf>)> {
        let ledger = LedgerFile::new(self.create()?);
        // The lock keeps two programs from creating two keys.
        let _open = ledger.open_within(patience, &|| false)?;
        key::read_or_new(ledger.dir())
    }

    /// The directory that it is in; `None` where that does not exist.
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
