//! The shells: what makes one ask, what it asks, and how it is answered.

use std::io::{self, Write};

use clap::Command;
use clap_complete::env::{EnvCompleter, Fish, Zsh};

use crate::cli::completion::bash;
use crate::cli::completion::words::{Word, unquoted};

/// With the name of a shell in this variable, and `--` for the first argument, the program answers the shell instead of
/// running.
pub(super) const VARIABLE: &str = "RECONCILE_COMPLETE";

const PROGRAM: &str = "reconcile";

/// A file in `$fpath` becomes the function when it is first called, and is to offer something that time, too.
const OFFER_AT_ONCE: &str = "[[ ${funcstack[1]-} != _reconcile ]] || _clap_dynamic_completer_reconcile \"$@\"\n";

/// A shell that can be made to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The shells by name.
pub(crate) const SHELLS: [(&str, Shell); 3] = [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

/// A command line that is being typed.
pub(super) struct Question {
    /// Its words, without their quotes.
    pub(super) words: Vec<String>,
    /// How the word begins that is typed, where the shell replaces only the rest of it.
    kept: Word,
}

impl Shell {
    pub(super) fn named(name: &str) -> Option<Self> {
        SHELLS.iter().find(|(known, _)| *known == name).map(|(_, shell)| *shell)
    }

    /// Writes what makes the shell ask.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn write_registration(self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bash => bash::write_registration(VARIABLE, PROGRAM, out),
            Self::Zsh => {
                Zsh.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, out)?;
                out.write_all(OFFER_AT_ONCE.as_bytes())
            }
            Self::Fish => Fish.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, out),
        }
    }

    /// What the shell asks with these arguments.
    pub(super) fn question(self, arguments: &[String]) -> Question {
        let (words, kept) = match (self, arguments) {
            (Self::Bash, [line, replaced]) => bash::words(line, replaced),
            (Self::Zsh, words) => (words.iter().map(|word| unquoted(word)).collect(), Word::default()),
            // Only the word that is being typed still has its quotes.
            (Self::Fish, [before @ .., typed]) => {
                (before.iter().cloned().chain([unquoted(typed)]).collect(), Word::default())
            }
            (Self::Bash | Self::Fish, _) => (Vec::new(), Word::default()),
        };
        Question { words, kept }
    }

    /// Writes what the word that is being typed can become.
    ///
    /// # Errors
    /// Of writing, and where nothing can stand there.
    pub(super) fn answer(self, mut command: Command, question: &Question, out: &mut Vec<u8>) -> io::Result<()> {
        let words = || question.words.iter().map(Into::into).collect();
        let directory = std::env::current_dir().ok();
        match self {
            Self::Bash => bash::write_values(&mut command, &question.words, &question.kept, out),
            Self::Zsh => Zsh.write_complete(&mut command, words(), directory.as_deref(), out),
            Self::Fish => Fish.write_complete(&mut command, words(), directory.as_deref(), out),
        }
    }
}
