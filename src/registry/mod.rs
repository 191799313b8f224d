//! The registry: one JSON object, chat id → session entry. Read as it is at one instant, edited without loss.

pub mod json;
pub mod redacted;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::chat::Chat;
use crate::diagnostic::{Diagnostic, Place};

pub(crate) use json::raw::Lossy;
pub use json::scan::{find_entry, scan, scan_fast, scan_into, scan_slowly};

/// What tells one state of a file from another, without its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// The device that holds the file.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// When it was last modified: seconds and nanoseconds since 1970.
    pub modified: (i64, u64),
}

/// The files of a replacement. Saved before it, so that a run that dies in the middle is put right by the next.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The registry that was planned on.
    pub seen: Stamp,
    /// The file that takes its place. An inode alone would not tell: they are used again.
    pub new: Stamp,
}

/// What holds a registry's text: memory, or the file itself.
pub trait Text: fmt::Debug + Send + Sync {
    /// The text.
    fn text(&self) -> &str;

    /// Whether it still is what it was at first.
    fn is_intact(&self) -> bool;
}

impl Text for String {
    fn text(&self) -> &str {
        self
    }

    fn is_intact(&self) -> bool {
        true
    }
}

/// The registry as it was read at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name, as the user would write it.
    pub name: String,
    /// The real file, links resolved.
    pub file: PathBuf,
    /// Which state of the file this is.
    pub stamp: Stamp,
    text: Arc<dyn Text>,
    threads: usize,
    /// What keeps the file from going, and its inode from being used again, as long as the stamp may be compared.
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Snapshot {
    /// Takes the bytes of a registry.
    ///
    /// # Errors
    /// Where they are not UTF-8.
    pub fn new(name: String, file: PathBuf, stamp: Stamp, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::of_text(name, file, stamp, Arc::new(text))),
            Err(error) => Err(Diagnostic::not_utf8("the registry", &name, &error)
                .help("JSON is UTF-8: restore the file, or convert it")),
        }
    }

    /// Takes the text of a registry.
    pub fn of_text(name: String, file: PathBuf, stamp: Stamp, text: Arc<dyn Text>) -> Self {
        Self { name, file, stamp, text, threads: 1, _held: None }
    }

    /// The same, to be read by so many threads where it is large.
    #[must_use]
    pub fn read_by(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The same, holding on to the open file.
    #[must_use]
    pub fn holding(self, file: Arc<dyn Any + Send + Sync>) -> Self {
        Self { _held: Some(file), ..self }
    }

    /// What the file holds.
    pub fn text(&self) -> &str {
        self.text.text()
    }

    /// Whether that still is what was read. Only a file that is mapped, not read, can change.
    pub fn is_intact(&self) -> bool {
        self.text.is_intact()
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// The place of a range of bytes.
    pub fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.name, self.text(), span)
    }
}

/// One session, borrowed from the registry's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Who it is for.
    pub chat: Chat<'a>,
    /// Its `model`; `None` for `null`, `""` and absent alike.
    pub model: Option<Cow<'a, str>>,
    /// What its conversation can be resumed by: `session_id`, else `resume_id`. A new session has none yet.
    pub resume: Option<Cow<'a, str>>,
    /// Where it stands.
    pub site: Site,
}

/// Where an entry stands, in bytes of the registry's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Its key, with the quotes.
    pub key: Range<usize>,
    /// Its object, with the braces.
    pub entry: Range<usize>,
    /// The value of its `model`, where there is one.
    pub model: Option<Range<usize>>,
}
