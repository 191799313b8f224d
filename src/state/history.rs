//! What past runs did, a JSON line each, oldest first. No message text and no output of commands is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom, Write};
use std::iter;

use rustix::fs::OFlags;
use serde::Deserialize;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::json;
use crate::plan::json::{JsonRow, JsonRun, LINE_VERSION, Origin};
use crate::state::dir::StateDir;
use crate::state::problem::StateProblem;

const CURRENT: &str = "history.jsonl";
/// The size from which the file is put aside as an older part, in bytes.
const PART: u64 = 1 << 20;
/// How many older parts are kept.
const PARTS: u32 = 4;
/// How many parts are kept of a run that fills more than [`PARTS`], so that the whole run can be undone.
const PARTS_OF_ONE_RUN: u32 = 64;
/// The most rows in one line.
const ROWS: usize = 256;

/// Checks that the history can be used.
pub(crate) fn check(dir: &StateDir) -> Result<()> {
    dir.open_file(CURRENT, OFlags::RDONLY).map(drop)
}

/// Removes the temporary file of a run that died while it created the history.
pub(crate) fn discard_unfinished(dir: &StateDir) -> Result<()> {
    dir.discard_unfinished(CURRENT)
}

/// Appends runs that are not in the history yet, oldest first.
pub(crate) fn append(dir: &StateDir, runs: &[JsonRun]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let told = told(dir)?;
    for run in runs.iter().filter(|run| !told.contains(run.run.as_ref())) {
        append_run(dir, run)?;
    }
    Ok(())
}

/// Appends a run, a file's length of lines at a time: no file grows with a run.
fn append_run(dir: &StateDir, run: &JsonRun) -> Result<()> {
    let mut lines = Lines { run, rows: run.changes.as_slice(), part: 1 };
    let mut files = 0;
    while !lines.is_over() {
        rotate(dir, PARTS.max(files).min(PARTS_OF_ONE_RUN))?;
        let room = PART.saturating_sub(dir.meta(CURRENT)?.map_or(0, |meta| meta.stamp.size));
        let mut text = Vec::new();
        while !lines.is_over() && text.len() as u64 <= room {
            text.extend(json::to_bytes(&lines.next_line())?);
            text.push(b'\n');
        }
        append_text(dir, text)?;
        files += 1;
    }
    Ok(())
}

/// The lines of one run.
struct Lines<'r> {
    run: &'r JsonRun<'r>,
    /// The rows that are not in a line yet.
    rows: &'r [JsonRow<'r>],
    part: usize,
}

impl<'r> Lines<'r> {
    /// A run without rows still has a line.
    fn is_over(&self) -> bool {
        self.rows.is_empty() && self.part > 1
    }

    fn next_line(&mut self) -> JsonRun<'r> {
        let (rows, rest) = self.rows.split_at(self.rows.len().min(ROWS));
        // Only the first line has the fields that a run has once.
        let once = match self.part {
            1 => self.run.clone(),
            _ => JsonRun {
                cancelled: Vec::new(),
                conversations: BTreeMap::new(),
                completed: Vec::new(),
                by: Origin { overrides: Vec::new(), ..self.run.by.clone() },
                ..self.run.clone()
            },
        };
        let line = JsonRun { changes: rows.to_vec(), part: self.part, more: !rest.is_empty(), ..once };
        (self.rows, self.part) = (rest, self.part + 1);
        line
    }
}

fn append_text(dir: &StateDir, mut text: Vec<u8>) -> Result<()> {
    let path = dir.path(CURRENT);
    let is_new = dir.meta(CURRENT)?.is_none();
    let mut file = dir.open_or_create(CURRENT, OFlags::RDWR | OFlags::APPEND)?;
    // A run that died while it wrote left half a line: end it, so that the others stay readable.
    let mut last = [b'\n'];
    let torn = file.seek(SeekFrom::End(-1)).and_then(|_| file.read(&mut last)).is_ok() && last != *b"\n";
    if torn {
        text.insert(0, b'\n');
    }
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))?;
    crash_point!("history: part appended");
    if is_new { dir.sync() } else { Ok(()) }
}

/// Puts the file aside where it is long. Keeps `kept` older parts.
fn rotate(dir: &StateDir, kept: u32) -> Result<()> {
    if dir.meta(CURRENT)?.is_none_or(|meta| meta.stamp.size <= PART) {
        return Ok(());
    }
    for number in (1..=PARTS_OF_ONE_RUN).rev() {
        match dir.meta(&part(number))? {
            Some(_) if number < kept => dir.rename(&part(number), &part(number + 1))?,
            Some(_) => dir.remove(&part(number))?,
            None => {}
        }
    }
    dir.rename(CURRENT, &part(1))
}

fn part(number: u32) -> String {
    format!("history.{number}.jsonl")
}

/// The name of a line's run, and whether more lines of that run follow.
#[derive(Deserialize)]
struct Name {
    run: String,
    #[serde(default)]
    more: bool,
}

/// The names of runs in the newest files. A line that cannot be read is skipped.
fn names(dir: &StateDir) -> Result<Vec<Name>> {
    let mut names = Vec::new();
    for file in [part(1), CURRENT.to_owned()] {
        let bytes = dir.read(&file)?.unwrap_or_default();
        names.extend(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Name>(line).ok()));
    }
    Ok(names)
}

/// The name of the newest run that was recorded.
pub(crate) fn newest_name(dir: &StateDir) -> Result<Option<String>> {
    Ok(names(dir)?.into_iter().map(|name| name.run).max())
}

/// The runs that were recorded to their ends, as far as the newest files say.
pub(crate) fn told(dir: &StateDir) -> Result<BTreeSet<String>> {
    Ok(names(dir)?.into_iter().filter(|name| !name.more).map(|name| name.run).collect())
}

/// What past runs did, newest first. One part and one run are held in memory at a time.
pub(crate) fn newest_first(dir: StateDir) -> impl Iterator<Item = Result<JsonRun<'static>>> {
    let older = (1..=PARTS_OF_ONE_RUN).map(part);
    let names = iter::once(CURRENT.to_owned()).chain(older);
    let lines = names.flat_map(move |name| {
        let lines = dir.read(&name).map(Option::unwrap_or_default).map(|bytes| runs(&dir, &name, &bytes));
        lines.unwrap_or_else(|error| vec![Err(error)])
    });
    let mut lines = lines.peekable();
    let mut seen = BTreeSet::new();
    let runs = iter::from_fn(move || {
        let mut run = match lines.next()? {
            Ok(run) => run,
            Err(error) => return Some(Err(error)),
        };
        let is_of_same = |line: &Result<JsonRun>, run: &JsonRun| line.as_ref().is_ok_and(|line| line.run == run.run);
        let mut earlier = Vec::new();
        while let Some(Ok(line)) = lines.next_if(|line| is_of_same(line, &run)) {
            earlier.push(line);
        }
        for line in earlier {
            run.part = run.part.min(line.part);
            run.cancelled.extend(line.cancelled);
            run.conversations.extend(line.conversations);
            run.completed.extend(line.completed);
            if run.by.overrides.is_empty() {
                run.by.overrides = line.by.overrides;
            }
            run.changes.extend(line.changes);
        }
        // A run that died while it was recorded may have been recorded again. Then the later line counts.
        run.changes.sort_by(|a, b| a.chat_id.cmp(&b.chat_id));
        run.changes.dedup_by(|later, first| later.chat_id == first.chat_id);
        Some(Ok(run))
    });
    // A run that died while it was recorded may have been recorded again. Then only the later lines count.
    runs.filter(move |run| run.as_ref().map_or(true, |run| seen.insert(run.run.to_string())))
}

/// The version of a line, where that is newer than this program knows; else `None`. The version is read by itself, because the rest of
/// such a line may have any form.
fn newer_version(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Line {
        version: u64,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    Some(line.version).filter(|version| *version > LINE_VERSION.into())
}

fn runs(dir: &StateDir, name: &str, part: &[u8]) -> Vec<Result<JsonRun<'static>>> {
    let lines = part.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let runs = lines.filter_map(|(index, line)| {
        if let Some(version) = newer_version(line) {
            let version = version.to_string().into();
            let later = StateProblem::LaterVersionInHistory { path: dir.path(name), line: index + 1, version };
            return Some(Err(later.into()));
        }
        match serde_json::from_slice(line) {
            Ok(run) => Some(Ok(run)),
            // A run that died while it wrote left half a line.
            Err(error) if error.is_eof() => None,
            Err(error) => {
                let why = error.to_string().into();
                Some(Err(StateProblem::HistoryDamaged { path: dir.path(name), line: index + 1, why }.into()))
            }
        }
    });
    let mut runs: Vec<_> = runs.collect();
    runs.reverse();
    runs
}
