//! The report as a comment on a pull request: short enough for GitHub, and nothing that others wrote comes alive in it.

use std::io;

use crate::foreign::{Foreign, Sentence, counted, sentence};
use crate::plan::Refusal;
use crate::report::page::{Comment, Details, Markup, Page};
use crate::report::text::{Line, line, refusal, short_id, summary, voided};
use crate::report::{Mode, Report};

/// How long a page may be after each part, in characters.
struct Room {
    /// After what differs from the plan that was named.
    differences: usize,
    /// After the rows.
    rows: usize,
    /// After the debts that are void.
    voids: usize,
}

/// A comment has at most 65,536 characters. What a change of policy does and the plan stand in one comment, with what a
/// workflow adds. The report of an apply stands alone.
const fn room(mode: Mode) -> Room {
    match mode {
        Mode::PolicyDiff => Room { differences: 0, rows: 17_000, voids: 17_000 },
        Mode::DryRun => Room { differences: 14_000, rows: 37_000, voids: 39_000 },
        Mode::Apply => Room { differences: 20_000, rows: 55_000, voids: 59_000 },
    }
}

/// Of one value, in characters: a cell, and what a command said.
const CELL: usize = 200;
const DETAIL: usize = 1_000;

pub(super) fn write(report: &Report, page: &mut Page) -> io::Result<()> {
    let plan = report.plan;
    let mut comment = Comment::default();
    let mut add = |sentence: Sentence| comment.add(&Markup::of(&sentence, CELL));
    // By its first line a workflow finds the comment to update.
    add(sentence!("<!-- reconcile -->\n**{}**\n\n", summary(report)));
    let sessions = counted(plan.sessions, "session");
    add(sentence!("Policy {} · {} in {}", Foreign::from(report.policy), sessions, Foreign::from(report.registry)));
    if !plan.complete {
        add(sentence!(" · **partial: {} selected**", plan.selected));
    }
    if report.mode != Mode::PolicyDiff {
        add(sentence!(" · plan {}", Foreign::from(short_id(plan))));
    }
    add("\n".into());

    let Room { differences, rows, voids } = room(report.mode);
    if let Some(refusal) = refusal(plan) {
        comment.add(&Markup::of(&sentence!("\n**Refused:** {}\n", Foreign::from(refusal)), DETAIL));
    }
    match &plan.refused {
        Some(Refusal::Limit { changes, .. }) => {
            let option = Foreign::from(format!("--allow-changes {changes}"));
            comment.add(&Markup::of(&sentence!("\nTo allow so many changes, pass {}.\n", option), CELL));
        }
        Some(Refusal::OtherPlan { differences: all, .. }) => comment.details(Details {
            thing: "difference",
            count: all.len(),
            head: "",
            parts: all.iter().map(|difference| item(difference)),
            room: differences,
        }),
        Some(Refusal::OlderPolicy { .. }) | None => {}
    }
    let cells = plan.rows.iter().map(|row| cells(line(row, report)));
    comment.details(Details { thing: "row", count: plan.rows.len(), head: HEAD, parts: cells, room: rows });
    // Of a plan that is refused, they are not made void either.
    if plan.refused.is_none() {
        comment.details(Details {
            thing: "unneeded restart",
            count: plan.void.len(),
            head: "",
            parts: plan.void.iter().map(|(chat, why)| item(&voided(chat, *why))),
            room: voids,
        });
    }
    if report.mode == Mode::DryRun && plan.refused.is_none() && plan.rows.iter().any(|row| row.edit) {
        let option = Foreign::from(format!("--plan {}", plan.id));
        comment.add(&Markup::of(&sentence!("\nTo apply exactly this plan or nothing, pass {}.\n", option), CELL));
    }
    page.comment(&comment)
}

const HEAD: &str = "|  | session | tier | model |  | decided by | detail |\n|---|---|---|---|---|---|---|\n";

fn cells(line: Line) -> Markup {
    let Line { mark, name, tier, change, action, rule, detail, .. } = line;
    let rule = rule.unwrap_or_default();
    let [mark, change] = [mark.to_string(), change.text()];
    let [mark, name, tier, change, action, rule] = [mark, name, tier, change, action, rule].map(Foreign::from);
    // What a command said stands behind the first line, and may hold a secret.
    let detail = detail.as_deref().and_then(|detail| detail.lines().next()).unwrap_or_default();
    let detail = sentence!("{} |\n", Foreign::from(detail.trim_end_matches(':')));
    let cells = sentence!("| {} | {} | {} | {} | {} | {} | ", mark, name, tier, change, action, rule);
    Markup::of(&cells, CELL).and(&Markup::of(&detail, DETAIL))
}

fn item(text: &str) -> Markup {
    Markup::of(&sentence!("- {}\n", Foreign::from(text)), CELL)
}
