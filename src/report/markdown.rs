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
    page.add(&format!("Policy {} · ", code(report.policy, CELL)));
    page.add(&format!("{} in {}", counted(plan.sessions, "session"), code(report.registry, CELL)));
    if !plan.complete {
        page.add(&format!(" · **partial: {} selected**", plan.selected));
    }
    if report.mode != Mode::PolicyDiff {
        page.add(&format!(" · plan {}", code(short_id(plan), CELL)));
    }
    page.add("\n");

    let Room { differences, rows, voids } = room(report.mode);
    if let Some(refusal) = refusal(plan) {
        page.add(&format!("\n**Refused:** {}\n", code(&refusal, DETAIL)));
    }
    match &plan.refused {
        Some(Refusal::Limit { changes, .. }) => {
            let option = code(&format!("--allow-changes {changes}"), CELL);
            page.add(&format!("\nTo allow so many changes, pass {option}.\n"));
        }
        Some(Refusal::OtherPlan { differences: all, .. }) => {
            page.details("difference", all.len(), "", all.iter().map(|all| item(all)), differences);
        }
        Some(Refusal::OlderPolicy { .. }) | None => {}
    }
    page.details("row", plan.rows.len(), HEAD, plan.rows.iter().map(|row| cells(&line(row, report))), rows);
    // Of a plan that is refused, they are not made void either.
    if plan.refused.is_none() {
        let void = plan.void.iter().map(|(chat, why)| item(&voided(chat, *why)));
        page.details("unneeded restart", plan.void.len(), "", void, voids);
    }
    if report.mode == Mode::DryRun && plan.refused.is_none() && plan.rows.iter().any(|row| row.edit) {
        let option = code(&format!("--plan {}", plan.id), CELL);
        page.add(&format!("\nTo apply exactly this plan or nothing, pass {option}.\n"));
    }
    out.write_all(page.text.as_bytes())
}

const HEAD: &str = "|  | session | tier | model |  | decided by | detail |\n|---|---|---|---|---|---|---|\n";

/// What is written so far. All that holds a value is one line, which begins with words of this program.
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

    /// As many whole parts as there is room for, and how many are left out.
    fn details(&mut self, thing: &str, count: usize, head: &str, parts: impl Iterator<Item = String>, room: usize) {
        if count == 0 {
            return;
        }
        let things = counted(count, thing);
        // Markdown begins behind an empty line.
        self.add(&format!("\n<details><summary>{things}</summary>\n\n{head}"));
        let mut shown = 0;
        for part in parts {
            if self.length + part.chars().count() > room {
                break;
            }
            self.add(&part);
            shown += 1;
        }
        self.add("\n</details>\n");
        if shown < count {
            self.add(&format!("\n**{} of {things} not shown: there is no room in a comment.**\n", count - shown));
        }
    }
}

fn cells(line: &Line) -> String {
    let Line { mark, name, tier, change, action, rule, detail, .. } = line;
    let (mark, change) = (mark.to_string(), change.text());
    let rule = rule.as_deref().unwrap_or_default();
    // What a command said stands behind the first line, and may hold a secret.
    let detail = detail.as_deref().and_then(|detail| detail.lines().next()).unwrap_or_default();
    let cells = [&mark, name, tier, &change, action, rule].map(|text| code(text, CELL));
    format!("| {} | {} |\n", cells.join(" | "), code(detail.trim_end_matches(':'), DETAIL))
}

fn item(text: &str) -> String {
    format!("- {}\n", code(text, CELL))
}

/// A value. GitHub makes no mention and no reference of what stands in `<code>`; and all that could mean something to
/// markdown, to HTML or to a workflow runner is an entity, so it does not end a cell of a table either.
fn code(text: &str, most: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    let text = escape(text);
    let mut shown = String::new();
    let mut before = '@';
    for c in cut(&text, most).chars() {
        // An address of e-mail is looked for after entities are decoded, and not across an element.
        if c == '@' && before != '@' {
            shown += "<wbr>";
        }
        shown += &entity(c);
        before = c;
    }
    format!("<code>{shown}</code>")
}

/// Of `www.` GitHub would make a link, so a full stop is none of the plain ones.
fn entity(c: char) -> String {
    let is_plain = c.is_alphanumeric() || matches!(c, ' ' | '/' | '-');
    if is_plain { c.to_string() } else { format!("&#{};", u32::from(c)) }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
