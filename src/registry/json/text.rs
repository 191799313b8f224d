//! The text of a registry in memory.

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
    /// Takes the bytes of a registry. `name` is what the user would call it.
    ///
    /// # Errors
    /// Where they are not UTF-8.
    pub fn new(name: String, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::of_text(name, text)),
            Err(error) => Err(Diagnostic::not_utf8("the registry", &name, &error)
                .help("JSON is UTF-8: restore the file, or convert it")),
        }
    }

    /// Takes the text of a registry. `name` is what the user would call it.
    pub(crate) fn of_text(name: String, text: String) -> Self {
        Self { name, text, threads: 1, form: Form::ANY }
    }

    /// Takes it for a registry of that form.
    #[must_use]
    pub fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Lets so many threads read it where it is large.
    #[must_use]
    pub fn read_by(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of the first character that is not blank, where the brace stands that opens a registry.
    pub(super) fn first_brace(&self) -> Place {
        let start = self.text.len() - self.text.trim_ascii_start().len();
        self.place(start..start + 1)
    }

    /// The place of a range of bytes.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.name, self.text(), span)
    }
}
