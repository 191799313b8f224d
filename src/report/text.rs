//! The report for people. Understandable without colour; the summary is its last line.

use std::io;

use anstyle::{AnsiColor, Style};
use jiff::{Timestamp, Zoned};
use unicode_width::UnicodeWidthStr;

use crate::chat::Model;
use crate::foreign::{self, Sentence, sentence};
use crate::plan::observed::{Standing, Void};
use crate::plan::{FailedModel, Plan, Refusal, Row, Summary, Verdict};
use crate::report::page::{Cell, Page, TableRow, cut, fits};
use crate::report::shown::Naming;
use crate::report::{Mode, Report};

/// Of a cell, in columns of a terminal.
pub(super) const WIDEST: usize = 200;
/// Of what there is to say below a row: more than all that is kept of what a command said.
const LONGEST_DETAIL: usize = 6_000;

/// One row, in words.
pub(super) struct Line {
    pub(super) mark: char,
    style: Style,
    pub(super) name: String,
    /// The name of its contact, where there is one.
    contact: Option<String>,
    pub(super) tier: String,
    pub(super) change: Cell,
    pub(super) action: String,
    /// What decided; without it the action may run on.
    pub(super) rule: Option<String>,
    pub(super) detail: Option<String>,
}

pub(super) fn write(report: &Report, page: &mut Page) -> io::Result<()> {
    let plan = report.plan;
    let sessions = counted(plan.sessions, "session");
    let selected = format!(" · partial: {} selected", plan.selected);
    let partial = if plan.complete { "" } else { &selected };
    let id = match report.mode {
        Mode::PolicyDiff => String::new(),
        Mode::DryRun | Mode::Apply => format!(" · plan {}", short_id(plan)),
    };
    let head = format!("{} · {sessions} in {}{partial}{id}", report.policy, report.registry);
    page.line(&head, report.width)?;
    page.own("")?;
    let rows = |contacts| plan.rows.iter().map(|row| table_row(line(row, report), contacts)).collect::<Vec<_>>();
    let has_contacts = plan.rows.iter().any(|row| contact(row).is_some());
    let beside = rows(if has_contacts { Contacts::InAColumn } else { Contacts::InRemarks });
    let rows = if fits(&beside, report.width) { beside } else { rows(Contacts::InRemarks) };
    page.rows(&rows, report.width)?;
    if !rows.is_empty() {
        page.own("")?;
    }
    page.said(&summary(report), Naming::Plain, report.width)
}

/// Where the names of contacts stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contacts {
    /// In a column, which they all fit into.
    InAColumn,
    /// Before what is said of the row, where there is no room for a column.
    InRemarks,
}

/// The name of a row's contact, where there is one.
fn contact(row: &Row) -> Option<&str> {
    row.chat.contact_name.as_deref().filter(|name| !name.is_empty())
}

fn table_row(line: Line, contacts: Contacts) -> TableRow {
    let Line { mark, style, name, contact, tier, change, action, rule, detail } = line;
    let (column, prefix) = match contacts {
        Contacts::InAColumn => (Some(Cell::plain(contact.as_deref().unwrap_or("-"))), String::new()),
        Contacts::InRemarks => (None, contact.map(|name| format!("{name} · ")).unwrap_or_default()),
    };
    let mut cells: Vec<Cell> =
        [Cell::plain(name)].into_iter().chain(column).chain([Cell::plain(tier), change]).collect();
    let remark = match rule {
        Some(rule) => {
            cells.push(Cell::plain(action));
            rule
        }
        None => action,
    };
    // A model may be as long as a policy, and stand in every row.
    let cells: Vec<Cell> = cells.iter().map(|cell| cell.cut(WIDEST)).collect();
    let remark = Cell::plain(format!("{prefix}{remark}")).cut(WIDEST);
    let detail = detail.map(|detail| cut(&detail, LONGEST_DETAIL));
    let below = detail.iter().flat_map(|detail| detail.lines()).map(Cell::plain).collect();
    TableRow::new(Cell::default().and(style, mark), cells).remarked(remark).above(below)
}

/// The beginning of a plan's id, by which people tell plans apart.
pub(super) fn short_id(plan: &Plan) -> &str {
    plan.id.get(..12).unwrap_or(&plan.id)
}

pub(super) fn line(row: &Row, report: &Report) -> Line {
    let verdict = row.outcome.verdict;
    let policies = report.mode == Mode::PolicyDiff;
    let none = if policies { "(not managed)" } else { "(none)" };
    let name = |model: &Option<Model>| model.as_ref().map_or(none, Model::as_str).to_owned();
    let change = match verdict {
        Verdict::Unmanaged if !policies => Cell::plain("not managed"),
        _ if policies || row.edit => Cell::default()
            .and(colour(AnsiColor::Red), name(&row.before))
            .and(Style::new(), " → ")
            .and(colour(AnsiColor::Green), name(&row.after)),
        _ => Cell::plain(name(&row.before)),
    };
    let still_owed = row.is_planned() || row.effects.owes;
    let owed = row.owed.as_ref().filter(|_| still_owed).map(|debt| {
        let since = time(debt.since, report.now);
        match debt.attempts {
            0 => format!("restart owed since {since}"),
            attempts => format!("restart owed since {since}, {}", counted(attempts as usize, "attempt")),
        }
    });
    let action = match (verdict, &owed) {
        (Verdict::Unmanaged, _) => row.outcome.detail.clone().unwrap_or_default(),
        (Verdict::Planned, Some(owed)) if row.restart && !row.edit => owed.clone(),
        (Verdict::Planned, _) => planned(row).to_owned(),
        (Verdict::Done, _) if row.effects.restarted => "restarted".to_owned(),
        (Verdict::Done, _) if row.effects.edited => "changed".to_owned(),
        (Verdict::Done, _) => verdict.name().to_owned(),
        (verdict, Some(owed)) if !row.edit => format!("{}, {owed}", verdict.name()),
        (verdict, _) => verdict.name().to_owned(),
    };
    let times: Vec<String> = match verdict {
        Verdict::Held => row.changed_back.iter().map(|then| time(*then, report.now)).collect(),
        _ => Vec::new(),
    };
    let more = match (times.as_slice(), row.outcome.next_try) {
        ([], None) => String::new(),
        ([], Some(next)) => format!(" at {}", time(next, report.now)),
        (times, _) => format!(": changed back at {}", times.join(", ")),
    };
    let shown = row.outcome.detail.as_ref().filter(|_| verdict != Verdict::Unmanaged);
    let place = format!("{}:{} {}", row.because.at.file.shown().raw(), row.because.at.line, row.because.rule);
    let tier = row.chat.tier.as_deref().or(row.chat.kind.as_deref()).unwrap_or("-");
    let (mark, style) = mark(row);
    Line {
        mark,
        style,
        name: row.chat.label().to_owned(),
        contact: contact(row).map(str::to_owned),
        tier: tier.to_owned(),
        change,
        action,
        rule: (row.edit || policies).then_some(place),
        detail: shown.map(|detail| format!("{detail}{more}")),
    }
}

fn planned(row: &Row) -> &'static str {
    match row.standing {
        Standing::Busy if row.restart => "restart (busy)",
        Standing::Live if row.restart => "restart (live)",
        _ if row.restart => "restart",
        _ if row.edit => "edit",
        _ => "in sync already",
    }
}

pub(super) fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(colour.into()))
}

fn mark(row: &Row) -> (char, Style) {
    match row.outcome.verdict {
        Verdict::Planned | Verdict::Done if row.edit => ('~', colour(AnsiColor::Yellow)),
        Verdict::Planned if !row.restart => ('=', Style::new()),
        Verdict::Planned | Verdict::Done => ('^', colour(AnsiColor::Cyan)),
        Verdict::Deferred => ('-', colour(AnsiColor::Cyan)),
        Verdict::Unmanaged => ('!', Style::new()),
        Verdict::Refused | Verdict::Failed | Verdict::Unknown | Verdict::Held => ('!', colour(AnsiColor::Red)),
    }
}

pub(super) fn summary(report: &Report) -> Sentence {
    let plan = report.plan;
    let Summary { changed, restarted, owed, deferred, refused, failed, unknown, held, unmanaged, in_sync } =
        plan.summary();
    let others = |except: &[&str]| {
        let all = [
            (deferred, "deferred"),
            (refused, "refused"),
            (failed, "failed"),
            (unknown, "unknown"),
            (held, "held"),
            (unmanaged, "not managed"),
            (in_sync, "in sync"),
        ];
        let others = all.into_iter().filter(|(count, name)| *count > 0 && !except.contains(name));
        others.map(|(count, name)| sentence!("{} {}", count, name)).collect::<Vec<_>>()
    };
    let rest = |except: &[&str]| Sentence::joined(others(except).iter().map(|other| sentence!(", {}", other)), "");
    let planned = || plan.rows.iter().filter(|row| row.is_planned());
    let is_done = plan.rows.iter().any(|row| row.outcome.verdict == Verdict::Done);
    let is_idle = changed + restarted + refused + failed + unknown == 0 && !is_done && planned().next().is_none();
    match report.mode {
        Mode::PolicyDiff => sentence!(
            "Policy: {} to change, {} to restart, {} no longer managed, {} as before{}.",
            changed,
            restarted,
            unmanaged,
            in_sync,
            rest(&["in sync", "not managed"])
        ),
        _ if is_idle => match others(&[]) {
            all if !all.is_empty() => sentence!("No changes. {}.", Sentence::joined(all, ", ")),
            _ if plan.complete => "No changes. There are no sessions.".into(),
            _ => "No changes. No session was selected.".into(),
        },
        Mode::DryRun => {
            let paid = planned().filter(|row| row.restart && !row.edit).count();
            let owed = if paid > 0 { sentence!(" ({} owed)", paid) } else { Sentence::default() };
            sentence!(
                "Plan: {} to change, {} to restart{}, {} deferred, {} in sync{}.",
                changed,
                restarted,
                owed,
                deferred,
                in_sync,
                rest(&["deferred", "in sync"])
            )
        }
        Mode::Apply if plan.refused.is_some() => {
            let rows = foreign::counted(refused, "row");
            sentence!("Refused: nothing was changed, {} left undone{}.", rows, rest(&["refused"]))
        }
        Mode::Apply => {
            let restarts = foreign::counted(owed, "restart");
            let left = if owed > 0 { sentence!(", {} still owed", restarts) } else { Sentence::default() };
            sentence!(
                "Applied: {} changed, {} restarted, {} deferred, {} failed{}{}.",
                changed,
                restarted,
                deferred,
                failed,
                rest(&["deferred", "failed", "in sync", "not managed"]),
                left
            )
        }
    }
}

/// Why nothing of a plan may be done, if so.
pub(crate) fn refusal(plan: &Plan) -> Option<String> {
    plan.refused.as_ref().map(|refused| match refused {
        Refusal::Limit { changes, limit } => {
            let count = if *changes == 1 { "counts" } else { "count" };
            let changes = counted(*changes, "change");
            format!("the plan has {changes} that {count}, and the limit is {limit}: nothing was done")
        }
        Refusal::OtherPlan { expected, .. } => format!("this is plan {}, not {expected}: nothing was done", plan.id),
        Refusal::OlderPolicy { newer } => {
            format!("the registry was last changed by a newer policy, of commit {newer}: nothing was done")
        }
    })
}

/// What stands in the way of a model that did not come up.
pub(crate) fn failed_model(failed: &FailedModel, now: &Zoned) -> String {
    let FailedModel { model, chat, since, attempts, next_try } = failed;
    let (attempts, since) = (counted(*attempts as usize, "attempt"), time(*since, now));
    let next = next_try.map_or_else(String::new, |next| format!(", next try at {}", time(next, now)));
    format!("{model} did not come up on {chat}: {attempts} since {since}{next}")
}

/// That a debt is void.
pub(crate) fn voided(chat: &str, why: Void) -> String {
    format!("the restart owed to {chat} is no longer needed: {why}")
}

/// A number of things, in words.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// A time as people near it write it: without the date on the same day.
pub(crate) fn time(time: Timestamp, now: &Zoned) -> String {
    let then = time.to_zoned(now.time_zone().clone());
    let form = if then.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    then.strftime(form).to_string()
}

pub(super) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}
