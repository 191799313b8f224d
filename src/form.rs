//! The form of a registry: where its sessions stand, and what they must have to be taken for sessions.

use serde::{Deserialize, Serialize};

/// The form of a registry, as a policy declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Form {
    /// `registry.key`: the member that holds the sessions; `None` where they stand at the top.
    pub key: Option<String>,
    /// `registry.shape`: what the entries must have.
    pub shape: Shape,
}

/// What the entries of a registry must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// At least one entry must have a field of a session besides `model`. A file of other objects is refused.
    Sessions,
    /// The entries need no particular fields.
    Any,
}

impl Form {
    /// Entries at the top, which may have any fields or none.
    pub const ANY: Self = Self { key: None, shape: Shape::Any };

    /// The level at which the entries stand. A member of the top object is at level 1.
    pub fn depth(&self) -> usize {
        if self.key.is_some() { 2 } else { 1 }
    }
}

impl Default for Form {
    /// The form of a registry whose policy says nothing about it.
    fn default() -> Self {
        Self { key: None, shape: Shape::Sessions }
    }
}
