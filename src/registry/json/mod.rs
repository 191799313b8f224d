//! The registry as a JSON file: read in one pass, edited without loss.

pub mod edit;
mod fast;
mod fields;
pub(crate) mod raw;
pub mod scan;
