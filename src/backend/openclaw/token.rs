//! The shared token of a gateway, which is a secret.

use std::fmt;

/// The shared token of a gateway. Its text is sent in the first request of a connection, and is used nowhere else. `Debug`
/// does not show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to be sent to the gateway.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}
