//! The registry's file, and what lies beside it, as they are for runs that change nothing.

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

/// The first entry of a registry lies within so many bytes.
const FIRST_ENTRY: u64 = 64 << 10;
/// How often a registry is read again that changes while it is read.
const READS: usize = 10;
/// What is said of state that is gone, and what to do about it.
const LOST_STATE: LostState = LostState {
    message: "the state of earlier runs, with the restarts that are owed, is missing beside the registry",
    hint: "restore it, or restart by hand the sessions that may run another model; to forget what is owed on purpose, \
           run: reconcile owed --forget-all",
};

/// A registry in a file.
#[derive(Clone, Debug)]
pub struct RegistryFile {
    /// What it is called: by its path, as the user would write it, or otherwise.
    name: String,
    /// The real file, links resolved.
    file: PathBuf,
    /// The directory that it is in. What is read, replaced and removed are names in this very directory.
    directory: Arc<Directory>,
    /// Its name there.
    name_there: OsString,
    form: Form,
    state: StateUse,
}

/// Whether what runs remember of a registry is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateUse {
    Read,
    /// It is taken for a registry beside which no run has been.
    LeftOut,
}

impl RegistryFile {
    /// The registry at `path`, which must be there.
    ///
    /// # Errors
    /// Where it is not.
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

    /// The registry at `path`, which need not be there yet.
    ///
    /// # Errors
    /// Where its directory is not there.
    pub fn open_or_new(path: &Path) -> Result<Self> {
        // A link to nothing is an error: the disk that it leads to is not mounted, perhaps.
        if path.symlink_metadata().is_ok() {
            return Self::open(path);
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = fs::canonicalize(parent).map_err(Error::io("find the directory", parent))?;
        let file = path.file_name().ok_or_else(|| FileProblem::NoName { path: path.to_owned() })?;
        Self::at(path, parent.join(file))
    }

    /// The registry in `file`, where no link leads by any more. The user knows it as `path`.
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

    /// Takes it for a registry of that form.
    #[must_use]
    pub fn in_form(self, form: &Form) -> Self {
        Self { form: form.clone(), ..self }
    }

    /// The real file, links resolved.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The state directory, whether it is there or not.
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

    /// This registry, under another name in all that is shown.
    #[must_use]
    pub(crate) fn called(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory that it is in.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// That the registry can be replaced, as far as mounts have a say in it.
    ///
    /// # Errors
    /// Where it cannot.
    pub(crate) fn check_replaceable(&self) -> Result<()> {
        let state = self.directory.directory(&dir::name_beside(&self.name_there));
        // Where there is no state yet, or it cannot be entered, it is beside the registry.
        mount::check_replaceable(self.place(), state.as_ref().unwrap_or(&self.directory))
    }

    /// The place of the registry's file.
    pub(crate) fn place(&self) -> Place<'_> {
        self.directory.place(&self.name_there)
    }

    /// What the registry's file is.
    pub(crate) fn meta(&self) -> Result<FileMeta> {
        let missing = || Error::io("access", &self.file)(Errno::NOENT);
        self.place().look()?.ok_or_else(missing)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.place().look().is_ok_and(|found| found.is_none())
    }

    /// The user who owns its state directory, where that is another user than this one, and this one may not enter it.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub(crate) fn hidden_state_of(&self) -> Result<Option<u32>> {
        let name = dir::name_beside(&self.name_there);
        let Some(FileMeta { owner, .. }) = self.directory.place(&name).look()? else { return Ok(None) };
        let is_hidden = matches!(self.directory.directory(&name), Err(Errno::ACCESS));
        Ok(Some(owner).filter(|owner| is_hidden && *owner != rustix::process::geteuid().as_raw()))
    }

    /// The registry as if no run had been beside it, for a plan of a user who may not see what runs remember.
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

    /// Where runs have kept state beside it, and that is gone, what to say of that: it was removed, or the registry was
    /// copied without it. A registry that another program has replaced since does not tell.
    ///
    /// # Errors
    /// Where the registry cannot be looked at.
    pub(crate) fn lost_state(&self) -> Result<Option<LostState>> {
        // Whether what is there can be used, the run finds out that uses it.
        let name = dir::name_beside(&self.name_there);
        if self.is_missing() || self.directory.place(&name).look()?.is_some() {
            return Ok(None);
        }
        Ok(is_marked_with_state(&self.place().open_regular()?).then_some(LOST_STATE))
    }

    /// Its state directory, which is made where there is none, for a registry of that owner.
    pub(crate) fn new_state_dir(&self, meta: FileMeta) -> Result<StateDir> {
        StateDir::create(&self.directory, &dir::name_beside(&self.name_there), meta)
    }

    /// The registry as it is now.
    ///
    /// # Errors
    /// Where it cannot be read, or is not UTF-8.
    pub fn snapshot(&self) -> Result<FileSnapshot> {
        let form = self.form_there()?;
        // Something may write into the file while it is read.
        for _ in 0..READS {
            let file = self.place().open_regular()?;
            let stamp = FileMeta::of_open(&file, &self.file)?.stamp;
            if let Some(snapshot) = FileSnapshot::read(&self.name, file, stamp, form.clone())? {
                return Ok(snapshot);
            }
        }
        Err(changes_while_read(&self.name))
    }

    /// A registry of no sessions: what a launch begins with where there is none.
    pub(crate) fn no_sessions(&self) -> FileSnapshot {
        FileSnapshot::empty(&self.name, self.form.clone())
    }

    /// The form of what stands there. The sessions of a redacted snapshot always stand at the top.
    fn form_there(&self) -> Result<Form> {
        let form = self.form.clone();
        if form.key.is_some() && self.redacted_with()?.is_some() { Ok(Form { key: None, ..form }) } else { Ok(form) }
    }

    /// The member that seems to hold the sessions, where they do not stand at the top.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn key_of_sessions(&self) -> Result<Option<String>> {
        Ok(key_of_sessions(self.snapshot()?.text()?))
    }

    /// What runs remember; nothing before the first of them.
    ///
    /// # Errors
    /// Where it is damaged or cannot be read. That is never "no debts".
    pub fn kept(&self) -> Result<Kept> {
        whole::kept(self.state_dir()?.as_ref())
    }

    /// What past runs did, newest first.
    ///
    /// # Errors
    /// Where the state directory cannot be used; the iterator, where a part of the history cannot.
    pub fn history(&self) -> Result<impl Iterator<Item = Result<JsonRun<'static>>> + use<>> {
        whole::history(self.state_dir()?)
    }

    /// The key that the registry's chats are redacted with.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub(crate) fn redaction_key(&self) -> Result<Redaction> {
        whole::redaction_key(self.state_dir()?.as_ref(), &self.state())
    }

    /// The fingerprint of the key that the registry was redacted with, where it is a redacted snapshot.
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
