//! Listeners are told of the commands that are run and the requests that are sent, so that `-vv` can show them.

use std::fmt;

use crate::foreign::Sentence;

/// Is told of each command and each request, when it begins and when it has ended.
pub trait Listener: fmt::Debug + Send + Sync {
    /// A command or a request has begun or ended, as `what` says, which has no secret in it. `session` is the session that it is
    /// about: its name, or its chat's id.
    fn hear(&self, what: &Sentence, session: Option<&str>);
}

/// A listener that ignores everything.
#[derive(Debug)]
pub struct Deaf;

impl Listener for Deaf {
    fn hear(&self, _: &Sentence, _: Option<&str>) {}
}
