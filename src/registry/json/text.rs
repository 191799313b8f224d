//! The text of a registry, and what may be wrong with it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Place};
use crate::error::{Error, Result};

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

/// The text of a registry, as it was read at one instant.
#[derive(Clone, Debug)]
pub struct JsonText {
    pub(super) name: String,
    text: Arc<dyn Text>,
    pub(super) threads: usize,
}

impl JsonText {
    /// Takes the bytes of a registry. `name` is what the user would call it.
    ///
    /// # Errors
    /// Where they are not UTF-8.
    pub fn new(name: String, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::of_text(name, Arc::new(text))),
            Err(error) => Err(Diagnostic::not_utf8("the registry", &name, &error)
                .help("JSON is UTF-8: restore the file, or convert it")),
        }
    }

    /// Takes the text of a registry. `name` is what the user would call it.
    pub fn of_text(name: String, text: Arc<dyn Text>) -> Self {
        Self { name, text, threads: 1 }
    }

    /// Lets so many threads read it where it is large.
    #[must_use]
    pub fn read_by(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.text.text()
    }

    /// The place of a range of bytes.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.name, self.text(), span)
    }

    /// What was read of it, unless it changed meanwhile: then neither entries nor mistakes say anything. Only a file that
    /// is mapped into memory can change.
    pub(super) fn unless_changed<T>(&self, read: Result<T, Vec<Diagnostic>>) -> Result<T> {
        if self.text.is_intact() { read.map_err(Error::Invalid) } else { Err(changes_while_read(&self.name)) }
    }
}

/// That something writes into a registry at the same time.
pub(crate) fn changes_while_read(name: &str) -> Error {
    Error::other(format!("{name} changes while it is read"))
        .with_hint("something writes into it in place; run again when that has finished")
}
