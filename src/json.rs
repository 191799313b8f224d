//! What this program remembers, as JSON.

use serde::Serialize;

use crate::error::{Bug, Result};

const NO_FORM: Bug = Bug("what is to be remembered has no form in JSON");

/// A value in the form in which it is kept.
///
/// # Errors
/// Where it has no such form, which no value of this program lacks.
pub(crate) fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|_| NO_FORM.into())
}

/// A value as text.
///
/// # Errors
/// As [`to_bytes`].
#[cfg(feature = "postgres")]
pub(crate) fn to_text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|_| NO_FORM.into())
}

/// A value as JSON that can be taken apart.
///
/// # Errors
/// As [`to_bytes`].
#[cfg(feature = "postgres")]
pub(crate) fn to_value(value: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|_| NO_FORM.into())
}
