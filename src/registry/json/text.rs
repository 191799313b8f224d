//! A registry whose text is in memory.

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Place};
use crate::form::Form;

/// The text of a registry, as it was read at one instant.
#[derive(Clone, Debug)]
pub struct JsonText {
    pub(super) name: String,
    text: String,
    pub(super) threads: usize,
    pub(super) form: Form,
}

impl JsonText {
    /// The registry with these bytes. `name` is its name in messages.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn new(name: String, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::of_text(name, text)),
            Err(error) => Err(Diagnostic::not_utf8("the registry", &name, &error)
                .help("JSON is UTF-8: restore the file, or convert it")),
        }
    }

    /// The registry with this text. `name` is its name in messages.
    pub(crate) fn of_text(name: String, text: String) -> Self {
        Self { name, text, threads: 1, form: Form::ANY }
    }

    /// Sets the form of the registry.
    #[must_use]
    pub fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Sets how many threads may read it, if it is large.
    #[must_use]
    pub fn read_by(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of the first character that is not blank. In a registry, this is the opening brace.
    pub(super) fn first_brace(&self) -> Place {
        let start = self.text.len() - self.text.trim_ascii_start().len();
        self.place(start..start + 1)
    }

    /// The place of a range of bytes.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.name, self.text(), span)
    }
}
