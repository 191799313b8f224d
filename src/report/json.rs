//! The stable form. It holds no times: equal inputs give equal bytes.

use std::io::{self, Write};

use serde::Serialize;

use crate::plan::Summary;
use crate::plan::json::{JsonFailedModel, JsonRow};
use crate::report::{Mode, Report};

#[derive(Serialize)]
struct Wire<'a> {
    format_version: &'static str,
    mode: &'static str,
    plan_id: &'a str,
    complete: bool,
    sessions: usize,
    changes: Vec<JsonRow<'a>>,
    failed_models: Vec<JsonFailedModel<'a>>,
    summary: Summary,
}

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let plan = report.plan;
    let wire = Wire {
        format_version: "1.0",
        mode: match report.mode {
            Mode::DryRun => "dry-run",
            Mode::Apply => "apply",
            Mode::PolicyDiff => "policy-diff",
        },
        plan_id: &plan.id,
        complete: plan.complete,
        sessions: plan.sessions,
        changes: plan.rows.iter().map(JsonRow::shown).collect(),
        failed_models: plan.failed_models.iter().map(JsonFailedModel::from).collect(),
        summary: plan.summary(),
    };
    write_json(&wire, out)
}

/// Writes a value so that nothing in it can move a cursor.
///
/// # Errors
/// Those of `out`.
pub fn write_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let json = serde_json::to_string_pretty(value)?;
    // Line ends are the layout's own: inside strings they are escaped already.
    for line in json.lines() {
        writeln!(out, "{}", super::escape::escape_json(line))?;
    }
    Ok(())
}
