//! The secret that lets a program in at a gateway.

use std::fmt;

/// A gateway's shared token. Its text goes into the first request of a connection and nowhere else: it is in no message,
/// and `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the gateway alone.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}
