//! What this program remembers, as JSON.

use serde::Serialize;

use crate::error::{Bug, Result};

/// A value in the form in which it is kept.
///
/// # Errors
/// Where it has no such form, which no value of this program lacks.
pub(crate) fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|_| Bug("what is to be remembered has no form in JSON").into())
}
