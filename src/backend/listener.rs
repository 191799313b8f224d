//! What hears of the commands that are run and the requests that are sent, for a user who wants to see them.

use std::fmt;

use crate::foreign::Sentence;

/// Hears of each command and each request, when it begins and when it has ended.
pub trait Listener: fmt::Debug + Send + Sync {
    /// `what` holds nothing that is secret. `session` is the one that it is about, by its name or the
    /// chat's id.
    fn hear(&self, what: &Sentence, session: Option<&str>);
}

/// Hears nothing.
#[derive(Debug)]
pub struct Deaf;

impl Listener for Deaf {
    fn hear(&self, _: &Sentence, _: Option<&str>) {}
}
