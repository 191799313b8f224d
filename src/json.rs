//! State of this program, written as JSON.

use serde::Serialize;

use crate::error::{Bug, Result};

const NO_FORM: Bug = Bug("what is to be remembered has no form in JSON");

/// A value as JSON, for a file.
///
/// # Errors
/// Where the value cannot be written as JSON, which is a bug.
pub(crate) fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|_| NO_FORM.into())
}

/// A value as JSON text, for a column of a table.
///
/// # Errors
/// As [`to_bytes`].
#[cfg(feature = "postgres")]
pub(crate) fn to_text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|_| NO_FORM.into())
}

/// A value as a JSON value, whose members can be taken.
///
/// # Errors
/// As [`to_bytes`].
#[cfg(feature = "postgres")]
pub(crate) fn to_value(value: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|_| NO_FORM.into())
}
