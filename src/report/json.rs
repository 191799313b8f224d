//! The stable form. It holds no times: equal inputs give equal bytes.

use std::io;

use serde::Serialize;

use crate::plan::Summary;
use crate::plan::json::{JsonFailedModel, JsonRow};
use crate::report::page::Page;
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

pub(super) fn write(report: &Report, page: &mut Page) -> io::Result<()> {
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
    page.json(&wire)
}
