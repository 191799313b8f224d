//! Whole processes on registries of three sizes, side by side with other ways to do the same work.
//!
//! `cargo bench` runs everything; `cargo bench -- --sessions 100 --rounds 1 --restarts 10` takes seconds. All contenders
//! of a row take turns within a round, so that anything else that the machine does hits them alike. A first round, which is
//! not counted, warms the caches; in it memory is watched. What takes longer than ten seconds runs in that round alone.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures for people")]

mod generate;
mod measure;
mod plot;
mod work;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::measure::{Cell, Measured, measure};
use crate::work::Job;

/// What the command line asks for.
struct Options {
    sessions: Vec<usize>,
    rounds: Option<usize>,
    restarts: usize,
    svg: Option<PathBuf>,
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self { sessions: vec![100, 10_000, 1_000_000], rounds: None, restarts: 1_000, svg: None };
        // Cargo adds `--bench`.
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--sessions" => options.sessions = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--rounds" => options.rounds = Some(value.parse()?),
                "--restarts" => options.restarts = value.parse()?,
                "--svg" => options.svg = Some(value.into()),
                _ => anyhow::bail!("there is no {name}: --sessions N,… --rounds N --restarts N --svg FILE"),
            }
        }
        Ok(options)
    }

    /// Enough of them that a median means something, where they are short.
    fn rounds(&self, sessions: usize) -> usize {
        self.rounds.unwrap_or(match sessions {
            ..1_000 => 51,
            1_000..100_000 => 21,
            _ => 7,
        })
    }
}

fn main() -> Result<()> {
    let options = Options::read()?;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("whole-process");
    fs::create_dir_all(&directory)?;
    let mut cells = Vec::new();
    for sessions in &options.sessions {
        for job in [Job::InSync, Job::Drift, Job::Apply] {
            let work = job.prepare(&directory, *sessions)?;
            cells.push(measure(job.name(), *sessions, work.contenders(), options.rounds(*sessions), &|| work.again())?);
            table(cells.last().into_iter())?;
        }
    }
    if options.restarts > 0 {
        for parallel in [1, 8, 32] {
            let work = work::restarts(&directory, options.restarts, parallel)?;
            let name = format!("{} restarts of 20 ms, {parallel} at once", options.restarts);
            let rounds = options.rounds.unwrap_or(3);
            cells.push(measure(&name, options.restarts, work.contenders(), rounds, &|| work.again())?);
            table(cells.last().into_iter())?;
        }
    }
    println!("\n## All\n\n{}\n", measure::machine());
    table(cells.iter())?;
    println!();
    targets(&cells);
    if let Some(path) = &options.svg {
        fs::write(path, plot::svg(&cells))?;
    }
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// A table in Markdown.
fn table<'c>(cells: impl Iterator<Item = &'c Cell>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "| sessions | work | | median | minimum | CPU | peak memory | of it private | times ours |")?;
    writeln!(out, "|---:|---|---|---:|---:|---:|---:|---:|---:|")?;
    for cell in cells {
        let ours = cell.of("reconcile").map(Measured::median);
        for (name, measured) in &cell.measured {
            let Some(measured) = measured else {
                writeln!(out, "| {} | {} | {name} | not installed | | | | | |", cell.sessions, cell.job)?;
                continue;
            };
            writeln!(
                out,
                "| {} | {} | {name} | {} | {} | {} | {:.1} MB | {:.1} MB | {} |",
                cell.sessions,
                cell.job,
                time(measured.median()),
                time(measured.minimum()),
                time(measured.cpu),
                measured.peak as f64 / 1e3,
                measured.private as f64 / 1e3,
                ours.map_or(String::new(), |ours| format!("{:.2}", measured.median() / ours)),
            )?;
        }
    }
    Ok(())
}

fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// The targets beside what was measured: by medians, and by minima, which a busy machine disturbs less.
fn targets(cells: &[Cell]) {
    let find = |job: Job, sessions| cells.iter().find(|cell| cell.job == job.name() && cell.sessions == sessions);
    let ratio = |job, sessions, one: &str, other: &str, by: fn(&Measured) -> f64| {
        let cell = find(job, sessions)?;
        Some(by(cell.of(one)?) / by(cell.of(other)?))
    };
    println!("| target | by medians | by minima | |\n|---|---:|---:|---|");
    let row = |name: &str, limit: f64, unit: &str, value: &dyn Fn(fn(&Measured) -> f64) -> Option<f64>| {
        let (Some(median), Some(minimum)) = (value(Measured::median), value(Measured::minimum)) else { return };
        let met = match (median <= limit, minimum <= limit) {
            (true, true) => "met",
            (false, false) => "missed",
            _ => "met by one of them",
        };
        println!("| {name}: at most {limit:.3}{unit} | {median:.3}{unit} | {minimum:.3}{unit} | {met} |");
    };
    let million = 1_000_000;
    for (other, limit) in [("Python, json", 1.0 / 15.0), ("jq", 1.0 / 25.0), ("wc -l", 3.0)] {
        row(&format!("dry run of a million, times {other}"), limit, "", &|by| {
            ratio(Job::InSync, million, "reconcile", other, by)
        });
    }
    row("apply to a million, times cp with fsync", 2.5, "", &|by| {
        ratio(Job::Apply, million, "reconcile", "cp, fsync", by)
    });
    row("dry run of 100, more than /bin/true", 3.0, " ms", &|by| {
        let cell = find(Job::InSync, 100)?;
        Some((by(cell.of("reconcile")?) - by(cell.of("/bin/true")?)) * 1e3)
    });
    row("time per session, at a million to at 10,000", 1.2, "", &|by| {
        let each = |sessions| Some(by(find(Job::InSync, sessions)?.of("reconcile")?) / sessions as f64);
        Some(each(million)? / each(10_000)?)
    });
    for (sessions, job, limit) in [(million, Job::Apply, 128.0), (million, Job::InSync, 128.0), (100, Job::InSync, 8.0)]
    {
        row(&format!("private memory, {}, {sessions} sessions", job.name()), limit, " MB", &|_| {
            Some(find(job, sessions)?.of("reconcile")?.private as f64 / 1e3)
        });
    }
}
