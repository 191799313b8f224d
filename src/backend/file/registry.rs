//! The registry's file and its state directory, for reading.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::apply::LostState;
use crate::backend::file::problem::FileProblem;
use crate::backend::file::snapshot::FileSnapshot;
use crate::error::{Error, Result};
use crate::form::Form;
use crate::os::directory::{Directory, Place};
use crate::os::rights::is_marked_with_state;
use crate::os::{FileMeta, mount};
use crate::plan::json::JsonRun;
use crate::redact::Redaction;
use crate::registry::json::{changes_while_read, key_of_sessions};
use crate::registry::redacted::marker;
use crate::state::dir::{self, StateDir};
use crate::state::kept::Kept;
use crate::state::whole;

/// The first entry of a registry is expected within this many bytes.
const FIRST_ENTRY: u64 = 64 << 10;
/// How many times a registry is read that changes each time while it is read.
const READS: usize = 10;
/// The message about state that is gone.
const LOST_STATE: LostState = LostState {
    message: "the state of earlier runs, with the restarts that are owed, is missing beside the registry",
    hint: "restore it, or restart by hand the sessions that may run another model; to forget what is owed on purpose, \
           run: reconcile owed --forget-all",
};

/// A registry in a file.
#[derive(Clone, Debug)]
pub struct RegistryFile {
    /// The name in messages: the path that the user has given, or another name.
    name: String,
    /// The path of the real file, without links.
    file: PathBuf,
    /// The directory of the real file. Files are read, replaced and removed by their names in this open directory.
    directory: Arc<Directory>,
    /// The name of the real file.
    name_there: OsString,
    form: Form,
    state: StateUse,
}

/// Whether the state of a registry is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateUse {
    /// It is read.
    Read,
    /// It is ignored, as if there had been no run yet.
    LeftOut,
}

impl RegistryFile {
    /// The registry at `path`, which must exist.
    ///
    /// # Errors
    /// Where it does not exist.
    pub fn open(path: &Path) -> Result<Self> {
        let file = fs::canonicalize(path).map_err(|source| {
            if source.kind() == ErrorKind::NotFound {
                FileProblem::Missing { path: path.to_owned() }.into()
            } else {
                Error::io("find the registry", path)(source)
            }
        })?;
        Self::at(path, file)
    }

    /// The registry at `path`, which need not exist yet.
    ///
    /// # Errors
    /// Where its directory does not exist.
    pub fn open_or_new(path: &Path) -> Result<Self> {
        // A dangling link is an error, because the disk to which it leads may not be mounted.
        if path.symlink_metadata().is_ok() {
            return Self::open(path);
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = fs::canonicalize(parent).map_err(Error::io("find the directory", parent))?;
        let file = path.file_name().ok_or_else(|| FileProblem::NoName { path: path.to_owned() })?;
        Self::at(path, parent.join(file))
    }

    /// The registry in `file`, a path without links. Messages call it `path`.
    fn at(path: &Path, file: PathBuf) -> Result<Self> {
        let (Some(directory), Some(name_there)) = (file.parent(), file.file_name()) else {
            return Err(FileProblem::NoName { path: path.to_owned() }.into());
        };
        let (directory, name_there) = (Arc::new(Directory::open(directory)?), name_there.to_owned());
        Ok(Self {
            name: path.display().to_string(),
            file,
            directory,
            name_there,
            form: Form::ANY,
            state: StateUse::Read,
        })
    }

    /// Sets the form of the registry.
    #[must_use]
    pub fn in_form(self, form: &Form) -> Self {
        Self { form: form.clone(), ..self }
    }

    /// The path of the real file, without links.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The path of the state directory, which may not exist.
    pub fn state(&self) -> PathBuf {
        self.file.with_file_name(dir::name_beside(&self.name_there))
    }

    /// The user id of the registry's owner.
    ///
    /// # Errors
    /// Where the registry cannot be looked at.
    pub fn owner(&self) -> Result<u32> {
        Ok(self.meta()?.owner)
    }

    /// Sets the name in messages.
    #[must_use]
    pub(crate) fn called(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory of the real file.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Checks that mounts do not prevent the registry from being replaced.
    ///
    /// # Errors
    /// Where they do.
    pub(crate) fn check_replaceable(&self) -> Result<()> {
        let state = self.directory.directory(&dir::name_beside(&self.name_there));
        // If there is no state directory yet, or it cannot be entered, the directory of the registry stands for it.
        mount::check_replaceable(self.place(), state.as_ref().unwrap_or(&self.directory))
    }

    /// The place of the registry's file.
    pub(crate) fn place(&self) -> Place<'_> {
        self.directory.place(&self.name_there)
    }

    /// The metadata of the registry's file.
    pub(crate) fn meta(&self) -> Result<FileMeta> {
        let missing = || Error::io("access", &self.file)(Errno::NOENT);
        self.place().look()?.ok_or_else(missing)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.place().look().is_ok_and(|found| found.is_none())
    }

    /// The owner of its state directory, if that is another user and this one may not enter the directory.
    ///
    /// # Errors
    /// Where that cannot be found out.
    pub(crate) fn hidden_state_of(&self) -> Result<Option<u32>> {
        let name = dir::name_beside(&self.name_there);
        let Some(FileMeta { owner, .. }) = self.directory.place(&name).look()? else { return Ok(None) };
        let is_hidden = matches!(self.directory.directory(&name), Err(Errno::ACCESS));
        Ok(Some(owner).filter(|owner| is_hidden && *owner != rustix::process::geteuid().as_raw()))
    }

    /// The registry without its state, for a plan by a user who may not read the state.
    #[must_use]
    pub(crate) fn without_state(self) -> Self {
        Self { state: StateUse::LeftOut, ..self }
    }

    /// Its state directory; `None` where there is none yet.
    pub(crate) fn state_dir(&self) -> Result<Option<StateDir>> {
        if self.state == StateUse::LeftOut {
            return Ok(None);
        }
        StateDir::open(&self.directory, &dir::name_beside(&self.name_there), self.owner()?)
    }

    /// The message for a registry beside which runs have kept state that is gone: the state was removed, or the
    /// registry was copied without it. `None` where no state is known to be gone, as when another program has replaced
    /// the registry since.
    ///
    /// # Errors
    /// Where the registry cannot be looked at.
    pub(crate) fn lost_state(&self) -> Result<Option<LostState>> {
        // If the state directory exists, a run finds out whether it can be used.
        let name = dir::name_beside(&self.name_there);
        if self.is_missing() || self.directory.place(&name).look()?.is_some() {
            return Ok(None);
        }
        Ok(is_marked_with_state(&self.place().open_regular()?).then_some(LOST_STATE))
    }

    /// Its state directory, which is created if there is none. `meta` is the metadata of the registry.
    pub(crate) fn new_state_dir(&self, meta: FileMeta) -> Result<StateDir> {
        StateDir::create(&self.directory, &dir::name_beside(&self.name_there), meta)
    }

    /// The registry as it is now.
    ///
    /// # Errors
    /// Where it cannot be read, or is not UTF-8.
    pub fn snapshot(&self) -> Result<FileSnapshot> {
        let form = self.form_there()?;
        // Another program may write into the file while it is read.
        for _ in 0..READS {
            let file = self.place().open_regular()?;
            let stamp = FileMeta::of_open(&file, &self.file)?.stamp;
            if let Some(snapshot) = FileSnapshot::read(&self.name, file, stamp, form.clone())? {
                return Ok(snapshot);
            }
        }
        Err(changes_while_read(&self.name))
    }

    /// A snapshot without sessions, for a launch that creates the registry.
    pub(crate) fn no_sessions(&self) -> FileSnapshot {
        FileSnapshot::empty(&self.name, self.form.clone())
    }

    /// The form of the file. In a redacted snapshot the sessions are always at the top.
    fn form_there(&self) -> Result<Form> {
        let form = self.form.clone();
        if form.key.is_some() && self.redacted_with()?.is_some() { Ok(Form { key: None, ..form }) } else { Ok(form) }
    }

    /// The key of the member that seems to have the sessions, if they are not at the top.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn key_of_sessions(&self) -> Result<Option<String>> {
        Ok(key_of_sessions(self.snapshot()?.text()?))
    }

    /// What runs remember. It is empty before the first run.
    ///
    /// # Errors
    /// Where it is damaged or cannot be read. It is then not taken to be empty.
    pub fn kept(&self) -> Result<Kept> {
        whole::kept(self.state_dir()?.as_ref())
    }

    /// The lines of the history, newest first.
    ///
    /// # Errors
    /// Where the state directory cannot be used; the iterator, where a part of the history cannot.
    pub fn history(&self) -> Result<impl Iterator<Item = Result<JsonRun<'static>>> + use<>> {
        whole::history(self.state_dir()?)
    }

    /// The key for redacting the registry's chats.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub(crate) fn redaction_key(&self) -> Result<Redaction> {
        whole::redaction_key(self.state_dir()?.as_ref(), &self.state())
    }

    /// The fingerprint of the key with which the registry was redacted; `None` where it is not a redacted snapshot.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn redacted_with(&self) -> Result<Option<String>> {
        let mut start = Vec::new();
        self.place()
            .open_regular()?
            .take(FIRST_ENTRY)
            .read_to_end(&mut start)
            .map_err(Error::io("read", &self.file))?;
        Ok(marker(&String::from_utf8_lossy(&start)))
    }
}
