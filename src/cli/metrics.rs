//! The metrics file of a run. It takes the place of the last one in one step, and remembers the last success.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use crate::cli::exit::Exit;
use crate::cli::output::Target;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::report::metrics::{Metrics, label, last_success};

/// Writes what became of a run. `plan` is `None` where it ended before one was made.
pub(super) fn write(path: &Path, registry: &str, at: Timestamp, exit: Exit, plan: Option<&Plan>) -> Result<()> {
    let earlier = fs::read_to_string(path).unwrap_or_default();
    let earlier = last_success(&earlier);
    let last_success = if exit == Exit::Done { Some(at.as_second()) } else { earlier.map(|(_, at)| at) };
    let named = label(registry);
    // A run that could not read its policy need not know which registry it was for.
    let label = earlier.map(|(label, _)| label).filter(|_| registry.is_empty()).unwrap_or(&named);
    let metrics = Metrics { label, at, exit: exit as u8, plan, last_success };
    let target = Target::open(path).map_err(Error::io("write", path))?;
    target.write(path, |out| metrics.write(out)).map_err(Error::io("write", path))
}
