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
            (Piece::Public(name), _) => text += &escape(name.raw()),
            (Piece::Foreign(foreign), Naming::Plain) => text += &escape(foreign.raw()),
            (Piece::Foreign(_), Naming::Hidden) => text += HIDDEN,
        }
    }
    text
}

/// What is wrong and what to do about it, as both may be printed.
pub fn explained(error: &Error, naming: Naming) -> (String, Option<String>) {
    let Explanation { message, hint, .. } = error.explain();
    (shown(&message, naming), hint.map(|hint| shown(&hint, naming)))
}
