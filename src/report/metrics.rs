//! A run in numbers, in the text form that Prometheus's node exporter picks up from files.

use std::io;

use jiff::Timestamp;

use crate::plan::{Plan, Summary};
use crate::report::page::{Gauge, Label, Page};

/// When a run last ended well: the value that is carried over from file to file.
const LAST_SUCCESS: &str = "reconcile_last_success_timestamp_seconds";

/// A run in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metrics<'a> {
    /// The registry, by which several files of one host are told apart.
    pub(crate) label: &'a Label,
    /// When the run began.
    pub(crate) at: Timestamp,
    /// The run's exit code.
    pub(crate) exit: u8,
    /// The run's plan; `None` where there was an error before one was made.
    pub(crate) plan: Option<&'a Plan>,
    /// When a run last ended well, as far as is known, in seconds since 1970.
    pub(crate) last_success: Option<i64>,
}

/// What an earlier file of metrics tells.
pub(crate) struct Earlier {
    /// The label of its registry.
    pub(crate) label: Label,
    /// When a run last ended well, in seconds since 1970.
    pub(crate) last_success: i64,
}

impl Earlier {
    /// Reads a file of metrics; `None` where it is none, or no run has ended well.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix(LAST_SUCCESS)?.strip_prefix("{registry=\""));
        let (label, at) = line?.rsplit_once("\"} ")?;
        Some(Self { label: Label::as_written(label), last_success: at.parse().ok()? })
    }
}

impl Metrics<'_> {
    /// Writes the metrics.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn write(&self, page: &mut Page) -> io::Result<()> {
        let mut gauge = |name, help, value| page.gauge(self.label, Gauge { name, help, value });
        if let Some(plan) = self.plan {
            let drift = plan.rows.iter().filter(|row| row.edit).count();
            let Summary { changed, restarted, owed, deferred, refused, failed, unknown, held, .. } = plan.summary();
            let counts = [
                ("reconcile_sessions", "Sessions in the registry.", plan.sessions),
                ("reconcile_drift", "Sessions whose model differed from the policy when the run began.", drift),
                ("reconcile_changes", "Models changed by the run, or planned in a dry run.", changed),
                ("reconcile_restarts", "Sessions restarted by the run, or planned in a dry run.", restarted),
                ("reconcile_owed", "Restarts that are owed after the run.", owed),
                ("reconcile_deferred", "Sessions left for a later run.", deferred),
                ("reconcile_refused", "Sessions whose change was refused.", refused),
                ("reconcile_held", "Sessions left alone because something keeps undoing their change.", held),
                ("reconcile_failed", "Sessions whose change failed, or may have.", failed + unknown),
                (
                    "reconcile_failed_models",
                    "Models that did not come up where they were tried.",
                    plan.failed_models.len(),
                ),
            ];
            for (name, help, count) in counts {
                gauge(name, help, i64::try_from(count).unwrap_or(i64::MAX))?;
            }
        }
        gauge("reconcile_exit_code", "How the run ended.", i64::from(self.exit))?;
        gauge("reconcile_last_run_timestamp_seconds", "When the run began.", self.at.as_second())?;
        match self.last_success {
            Some(at) => gauge(LAST_SUCCESS, "When the last run without failures of its own began, dry runs apart.", at),
            None => Ok(()),
        }
    }
}
