//! The result of a checkup, as `reconcile doctor` makes one: what was looked at on a host, and what is wrong with it.

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
    /// Nothing is wrong. The sentence says what was found.
    Good(Sentence),
    /// A run would fail, or promise less than it should.
    Problem {
        /// What is wrong.
        error: Error,
        /// The hint for an error that has none.
        usual_fix: &'static str,
    },
    /// A run works, but probably does not do what is meant.
    Warning(Diagnostic),
    /// It could not be looked at. The sentence says why.
    Unknown(Sentence),
}

impl Check {
    /// The check of this name, which found something good or failed. `usual_fix` is the hint for an error that has none.
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

    /// Something with which a run works, but probably does not do what is meant.
    pub fn warning(name: &'static str, found: Diagnostic) -> Self {
        Self { name, found: Found::Warning(found) }
    }

    /// Whether something keeps a run from working.
    pub(crate) fn is_problem(&self) -> bool {
        matches!(self.found, Found::Problem { .. })
    }
}
