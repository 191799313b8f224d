//! The metrics file of a run. It takes the place of the last one in one step, and remembers the last success.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;

use crate::cli::exit::Exit;
use crate::cli::outputs::{NewMode, Target, check_replaceable};
use crate::cli::problem::OptionProblem;
use crate::error::{Error, Result};
use crate::os::open_regular;
use crate::plan::Plan;
use crate::report::metrics::{Earlier, Metrics};
use crate::report::page::Label;

/// What every file of metrics begins with.
const START: &[u8] = b"# HELP reconcile_";
/// No metrics are longer, in bytes.
const LARGEST: u64 = 64 << 10;

/// Whether the file can be replaced: a registry or a policy must not be, by a slip of the pen, and a wrong name shall be
/// found before the run.
pub(crate) fn check(path: &Path) -> Result<()> {
    check_replaceable(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() || !parent.is_dir() {
        return Err(OptionProblem::NoMetricsFile { path: path.to_owned() }.into());
    }
    let mut start = Vec::new();
    let read = open_regular(path).map(|file| file.take(START.len() as u64).read_to_end(&mut start));
    if read.is_err() || start.is_empty() || start == START {
        return Ok(());
    }
    Err(OptionProblem::NotMetrics { path: path.to_owned() }.into())
}

/// Whether a run had no failures of its own. What is held or refused in every run is none, and a dry run has done nothing that
/// could succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Success {
    Yes,
    No,
}

/// A plan, and what came of it.
#[derive(Clone, Copy)]
pub(crate) struct Ended<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) success: Success,
}

/// Writes what became of a run. `ended` is `None` where there was an error before a plan was made.
pub(crate) fn write(path: &Path, registry: &str, at: Timestamp, exit: Exit, ended: Option<Ended>) -> Result<()> {
    let mut earlier = String::new();
    // What cannot be read tells of no success. A pipe or a device is not even tried.
    let _ = open_regular(path).map(|file| file.take(LARGEST).read_to_string(&mut earlier));
    let earlier = Earlier::read(&earlier);
    let is_success = ended.is_some_and(|ended| ended.success == Success::Yes);
    let now = is_success.then(|| at.as_second());
    let last_success = now.or_else(|| Some(earlier.as_ref()?.last_success));
    // A run that could not read its policy need not know which registry it was for.
    let known = earlier.map(|earlier| earlier.label).filter(|_| registry.is_empty());
    let label = known.unwrap_or_else(|| Label::of(registry));
    let plan = ended.map(|ended| ended.plan);
    let metrics = Metrics { label: &label, at, exit: exit as u8, plan, last_success };
    let target = Target::open(path, NewMode::Shared)?;
    target.write(|page| metrics.write(page)).map_err(Error::io("write", path))
}
