//! Remembers the settings that a launch needs from the last policy that a launch could read: where the registry is, and where
//! conversations are kept. They are saved beside the policy, so that sessions start while the policy cannot be read.
//!
//! This is safer than looking for such lines in a file that is not valid TOML: a line may belong to the other side of a
//! merge, to a comment or to a string of several lines, and an empty file has no lines. The remembered settings were in
//! use on this host.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::form::Form;
use crate::os::unnamed::{NewFile, discard_unfinished};
use crate::os::{FileMeta, open_regular};

/// The version of the file's form.
const VERSION: u32 = 1;
/// The largest file that is read, in bytes. This program writes no larger one.
const LONGEST: u64 = 64 << 10;
/// The mode of the file. Users who may read the policy have the settings from there.
const PRIVATE: u32 = 0o600;

/// The settings that a launch needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    version: u32,
    /// The absolute path of the registry.
    pub registry: PathBuf,
    /// The form of the registry.
    #[serde(default)]
    pub form: Form,
    /// `sessions.conversation`, as written.
    pub conversation: Option<String>,
}

impl Last {
    /// The settings of a policy. `registry` is an absolute path, and `conversation` is `sessions.conversation`, as written.
    pub fn new(registry: PathBuf, form: Form, conversation: Option<String>) -> Self {
        Self { version: VERSION, registry, form, conversation }
    }

    /// What is remembered of the policy at `path`. `None` where there is no such file, it has another version, or it
    /// belongs to a user other than root and this one.
    pub fn recall(path: &Path) -> Option<Self> {
        let path = place(path)?;
        let file = open_regular(&path).ok()?;
        let owner = FileMeta::of_open(&file, &path).ok()?.owner;
        if ![0, rustix::process::geteuid().as_raw()].contains(&owner) {
            return None;
        }
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok().filter(|last: &Self| last.version == VERSION)
    }

    /// Saves this for the policy at `path`. If that fails, what was remembered before stays.
    pub fn remember(&self, path: &Path) {
        if Self::recall(path).as_ref() != Some(self) {
            // An error must not keep the session from starting, which needs the file only while the policy is broken.
            let _ = self.write(path);
        }
    }

    /// Removes the temporary file of a launch that died while it saved this for the policy at `path`.
    pub fn tidy(path: &Path) {
        let _ = place(path).map(|place| discard_unfinished(&place));
    }

    fn write(&self, path: &Path) -> Option<()> {
        let path = place(path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let text = serde_json::to_vec(self).ok()?;
        let new = NewFile::create_in(directory, PRIVATE).ok()?;
        let mut file = new.file();
        file.write_all(&text).and_then(|()| file.sync_all()).ok()?;
        // A link or a directory of this name is not this program's, and must not be replaced.
        let is_ours = fs::symlink_metadata(&path).map_or(true, |found| found.is_file());
        if is_ours { new.take_place(&path).ok() } else { None }
    }
}

/// The file for the policy at `path`.
fn place(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".reconcile-last");
    Some(path.with_file_name(name))
}
