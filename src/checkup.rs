//! What was looked at on a host, and what is wrong with it.

use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::foreign::Sentence;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Check {
    /// Its stable name, such as `registry`.
    pub name: &'static str,
    /// What was found.
    pub found: Found,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// All is well. In words, what that is.
    Good(Sentence),
    /// A run would fail, or promise less than it should.
    Problem {
        /// What is wrong.
        error: Error,
        /// What to do about it where the error does not say.
        usual_fix: &'static str,
    },
    /// A run works, and probably does not do what is meant.
    Warning(Diagnostic),
    /// It could not be looked at. In words, why.
    Unknown(Sentence),
}

impl Check {
    /// What came of a look at something. `usual_fix` is what to do where the error does not say.
    pub fn of(name: &'static str, found: Result<Sentence>, usual_fix: &'static str) -> Self {
        let found = found.map_or_else(|error| Found::Problem { error, usual_fix }, Found::Good);
        Self { name, found }
    }

    /// Something that is as it should be.
    pub fn good(name: &'static str, what: impl Into<Sentence>) -> Self {
        Self { name, found: Found::Good(what.into()) }
    }

    /// Something that could not be looked at.
    pub fn unknown(name: &'static str, why: impl Into<Sentence>) -> Self {
        Self { name, found: Found::Unknown(why.into()) }
    }

    /// Something with which a run works, and probably does not do what is meant.
    pub fn warning(name: &'static str, found: Diagnostic) -> Self {
        Self { name, found: Found::Warning(found) }
    }

    /// Whether something keeps a run from working.
    pub(crate) fn is_problem(&self) -> bool {
        matches!(self.found, Found::Problem { .. })
    }
}
