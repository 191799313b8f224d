//! What a policy said when a launch last could read it: where the registry is, and where conversations are kept. It lies
//! beside the policy, so that sessions start while the policy cannot be read.
//!
//! This is safer than to look for such a line in a text that is no TOML: a line there may belong to the other side of a
//! merge, to a comment or to a text of several lines, and an empty file has none. What is remembered did count on this host.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::form::Form;
use crate::os::unnamed::{NewFile, discard_unfinished};
use crate::os::{FileMeta, open_regular};

const VERSION: u32 = 1;
/// In bytes. What is longer was not written here.
const LONGEST: u64 = 64 << 10;
/// The policy says as much, to the users who can read that.
const PRIVATE: u32 = 0o600;

/// What a policy said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    version: u32,
    /// The absolute path of the registry.
    pub registry: PathBuf,
    /// Its form.
    #[serde(default)]
    pub form: Form,
    /// `sessions.conversation`, as written.
    pub conversation: Option<String>,
}

impl Last {
    /// With the absolute path of the registry, its form, and `sessions.conversation` as written.
    pub fn new(registry: PathBuf, form: Form, conversation: Option<String>) -> Self {
        Self { version: VERSION, registry, form, conversation }
    }

    /// What is remembered of the policy at `path`. Nothing where there is no such file, where it is of another version, or
    /// where a user other than root and this one has written it.
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

    /// Remembers it for the policy at `path`. Where that cannot be done, what was remembered before stays.
    pub fn remember(&self, path: &Path) {
        if Self::recall(path).as_ref() != Some(self) {
            // A session is to be started, and needs this only while its policy is broken.
            let _ = self.write(path);
        }
    }

    /// Removes what a launch left that died while it remembered what the policy at `path` says. It is in the way of nothing.
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
        // Nothing but what this program has written may be replaced.
        let is_ours = fs::symlink_metadata(&path).map_or(true, |found| found.is_file());
        if is_ours { new.take_place(&path).ok() } else { None }
    }
}

/// The file in which it is remembered what the policy at `path` said.
fn place(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".reconcile-last");
    Some(path.with_file_name(name))
}
