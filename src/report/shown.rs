//! The one place where foreign text becomes text that is printed.

use crate::error::{Error, Explanation};
use crate::foreign::{Piece, Sentence};
use crate::report::escape::escape;

/// Whether names may be told. Errors and reports say names of chats and of people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// They may.
    Plain,
    /// They may not: of a mistake, its kind and place are told, and of a sentence the program's own words.
    Hidden,
}

/// Stands for what is not told.
pub const HIDDEN: &str = "…";

/// A sentence as it may be printed: nothing in it moves the cursor, ends the line, or passes for a command.
pub fn shown(sentence: &Sentence, naming: Naming) -> String {
    let mut text = String::new();
    for piece in sentence.pieces() {
        match (piece, naming) {
            (Piece::Own(own), _) => text += own,
            (Piece::Public(name), _) => text += name.raw(),
            (Piece::Foreign(foreign), Naming::Plain) => text += foreign.raw(),
            (Piece::Foreign(_), Naming::Hidden) => text += HIDDEN,
        }
    }
    // As a whole: one piece may end in the `##` that makes a command of the `[` with which the next begins.
    escape(&text).into_owned()
}

impl Naming {
    /// The words for an error, with the hint that says something where this is what may be told.
    pub(crate) fn explain(self, error: &Error) -> Explanation {
        let explanation = error.explain();
        match (self, explanation.nameless_hint) {
            (Self::Hidden, Some(hint)) => explanation.hint(hint),
            (Self::Plain, _) | (_, None) => explanation,
        }
    }
}

/// What is wrong and what to do about it, as both may be printed.
pub(super) struct Explained {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Explained {
    /// The words for an error.
    pub(super) fn of(error: &Error, naming: Naming) -> Self {
        let Explanation { message, hint, .. } = naming.explain(error);
        Self { message: shown(&message, naming), hint: hint.map(|hint| shown(&hint, naming)) }
    }
}
