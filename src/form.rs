//! The form of a registry: where its sessions stand, and what they must have to be taken for sessions.

use serde::{Deserialize, Serialize};

/// The form of a registry, as a policy declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Form {
    /// `registry.key`: the member that holds the sessions; `None` where they stand at the top.
    pub key: Option<String>,
    /// `registry.shape`.
    pub shape: Shape,
}

/// What the entries of a registry must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// At least one has a field of a session besides `model`. Any other file that maps keys to objects is refused.
    Sessions,
    /// Nothing.
    Any,
}

impl Form {
    /// Entries at the top, which may have any fields or none.
    pub const ANY: Self = Self { key: None, shape: Shape::Any };

    /// How many levels below the top the entries stand.
    pub fn depth(&self) -> usize {
        if self.key.is_some() { 2 } else { 1 }
    }
}

impl Default for Form {
    /// What a policy means that does not say.
    fn default() -> Self {
        Self { key: None, shape: Shape::Sessions }
    }
}
