//! The report as a comment on a pull request: short enough for GitHub, and nothing that others wrote comes alive in it.

use std::io::{self, Write};

use crate::plan::Refusal;
use crate::report::escape::escape;
use crate::report::text::{Line, counted, line, refusal, short_id, summary, voided};
use crate::report::{Mode, Report};

/// By this line a workflow finds the comment to update.
const MARKER: &str = "<!-- reconcile -->";
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

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let plan = report.plan;
    let mut page = Page::default();
    page.add(&format!("{MARKER}\n**{}**\n\n", summary(report)));
    page.add(&format!("<p>{} · ", code(report.policy, CELL)));
    page.add(&format!("{} in {}", counted(plan.sessions, "session"), code(report.snapshot.name(), CELL)));
    if !plan.complete {
        page.add(&format!(" · <strong>partial: {} selected</strong>", plan.selected));
    }
    if report.mode != Mode::PolicyDiff {
        page.add(&format!(" · plan {}", code(short_id(plan), CELL)));
    }
    page.add("</p>\n");

    let Room { differences, rows, voids } = room(report.mode);
    if let Some(refusal) = refusal(plan) {
        page.add(&format!("\n<p><strong>Refused:</strong> {}</p>\n", code(&refusal, DETAIL)));
    }
    match &plan.refused {
        Some(Refusal::Limit { changes, .. }) => {
            let option = code(&format!("--allow-changes {changes}"), CELL);
            page.add(&format!("<p>If this is what you want, consent with {option}.</p>\n"));
        }
        Some(Refusal::OtherPlan { differences: all, .. }) => {
            page.list("difference", all.len(), all.iter().map(|all| item(all)), differences);
        }
        Some(Refusal::OlderPolicy { .. }) | None => {}
    }
    page.table(plan.rows.len(), plan.rows.iter().map(|row| cells(&line(row, report))), rows);
    // Of a plan that is refused, they are not made void either.
    if plan.refused.is_none() {
        let void = plan.void.iter().map(|(chat, why)| item(&voided(chat, *why)));
        page.list("void debt", plan.void.len(), void, voids);
    }
    if report.mode == Mode::DryRun && plan.refused.is_none() && plan.rows.iter().any(|row| row.edit) {
        let option = code(&format!("--plan {}", plan.id), CELL);
        page.add(&format!("\n<p>{option} applies exactly this, or nothing.</p>\n"));
    }
    out.write_all(page.text.as_bytes())
}

/// What is written so far. All that holds a value is HTML without an empty line, which markdown leaves as it is.
#[derive(Default)]
struct Page {
    text: String,
    /// In characters.
    length: usize,
}

impl Page {
    fn add(&mut self, text: &str) {
        self.text.push_str(text);
        self.length += text.chars().count();
    }

    fn table(&mut self, count: usize, rows: impl Iterator<Item = String>, room: usize) {
        let head =
            "<table>\n<tr><th></th><th>session</th><th>tier</th><th>model</th><th></th><th>decided by</th></tr>\n";
        self.details("row", count, (head, "</table>\n"), rows, room);
    }

    fn list(&mut self, thing: &str, count: usize, items: impl Iterator<Item = String>, room: usize) {
        self.details(thing, count, ("<ul>\n", "</ul>\n"), items, room);
    }

    /// As many whole parts as there is room for, and how many are left out.
    fn details(
        &mut self,
        thing: &str,
        count: usize,
        (head, foot): (&str, &str),
        parts: impl Iterator<Item = String>,
        room: usize,
    ) {
        if count == 0 {
            return;
        }
        let things = counted(count, thing);
        self.add(&format!("\n<details><summary>{things}</summary>\n{head}"));
        let mut shown = 0;
        for part in parts {
            if self.length + part.chars().count() > room {
                break;
            }
            self.add(&part);
            shown += 1;
        }
        self.add(&format!("{foot}</details>\n"));
        if shown < count {
            self.add(&format!("\n**{} of {things} not shown: there is no room in a comment.**\n", count - shown));
        }
    }
}

fn cells(line: &Line) -> String {
    let Line { mark, name, tier, change, action, rule, detail, .. } = line;
    let (mark, change) = (mark.to_string(), change.text());
    let cells = [&mark, name, tier, &change, action].into_iter().chain(rule);
    let cells: String = cells.map(|cell| format!("<td>{}</td>", code(cell, CELL))).collect();
    // What a command said stands behind the first line, and may hold a secret.
    let first = detail.as_deref().and_then(|detail| detail.lines().next()).unwrap_or_default();
    let detail = match code(first.trim_end_matches(':'), DETAIL) {
        none if none.is_empty() => none,
        first => format!("<tr><td></td><td colspan=\"5\">{first}</td></tr>\n"),
    };
    format!("<tr>{cells}</tr>\n{detail}")
}

fn item(text: &str) -> String {
    format!("<li>{}</li>\n", code(text, CELL))
}

/// A value. GitHub makes no mention, reference or link of what stands in `<code>`; and all that could mean something to
/// markdown, to HTML or to a workflow runner is an entity.
fn code(text: &str, most: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    let text = escape(text);
    let plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '/' | '-');
    let piece = |c: char| if plain(c) { c.to_string() } else { format!("&#{};", u32::from(c)) };
    format!("<code>{}</code>", cut(&text, most).chars().map(piece).collect::<String>())
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
