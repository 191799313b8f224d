//! What past runs did, a JSON line each, oldest first. No message text and no output of commands is kept.

use std::io::{Read, Seek, SeekFrom, Write};
use std::iter;

use rustix::fs::OFlags;
use serde::Deserialize;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::plan::json::{JsonRun, LINE_VERSION};
use crate::state::dir::StateDir;

const CURRENT: &str = "history.jsonl";
/// The file is put aside when it is larger than this, in bytes…
const PART: u64 = 1 << 20;
/// …and this many older parts are kept.
const PARTS: u32 = 4;

/// Looks whether the history can be used.
pub(crate) fn check(dir: &StateDir) -> Result<()> {
    dir.open_file(CURRENT, OFlags::RDONLY).map(drop)
}

/// Removes what a run left that died while it created the file.
pub(crate) fn discard_unfinished(dir: &StateDir) -> Result<()> {
    dir.discard_unfinished(CURRENT)
}

/// Appends what a run did, under a name of its own.
pub(crate) fn append(dir: &StateDir, run: JsonRun) -> Result<()> {
    let run = match newest_name(dir)? {
        Some(newest) => run.named_after(&newest),
        None => run,
    };
    let mut json = serde_json::to_vec(&run).map_err(|error| Error::other(error.to_string()))?;
    json.push(b'\n');
    rotate(dir)?;

    let path = dir.path(CURRENT);
    let is_new = dir.meta(CURRENT)?.is_none();
    let mut file = dir.open_or_create(CURRENT, OFlags::RDWR | OFlags::APPEND)?;
    // A run that died while it wrote left half a line: end it, so that the others stay readable.
    let mut last = [b'\n'];
    let torn = file.seek(SeekFrom::End(-1)).and_then(|_| file.read(&mut last)).is_ok() && last != *b"\n";
    if torn {
        json.insert(0, b'\n');
    }
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))?;
    crash_point!("history: appended");
    if is_new { dir.sync() } else { Ok(()) }
}

fn rotate(dir: &StateDir) -> Result<()> {
    if dir.meta(CURRENT)?.is_none_or(|meta| meta.stamp.size <= PART) {
        return Ok(());
    }
    for number in (1..PARTS).rev() {
        if dir.meta(&part(number))?.is_some() {
            dir.rename(&part(number), &part(number + 1))?;
        }
    }
    dir.rename(CURRENT, &part(1))
}

fn part(number: u32) -> String {
    format!("history.{number}.jsonl")
}

/// The name of the run that was recorded last. A line that cannot be read has none.
fn newest_name(dir: &StateDir) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Line {
        run: String,
    }
    for file in [CURRENT.to_owned(), part(1)] {
        let bytes = dir.read(&file)?.unwrap_or_default();
        let mut lines = bytes.rsplit(|byte| *byte == b'\n');
        if let Some(line) = lines.find_map(|line| serde_json::from_slice::<Line>(line).ok()) {
            return Ok(Some(line.run));
        }
    }
    Ok(None)
}

/// What past runs did, newest first. One part is held in memory at a time.
pub(crate) fn newest_first(dir: StateDir) -> impl Iterator<Item = Result<JsonRun<'static>>> {
    let names = iter::once(CURRENT.to_owned()).chain((1..=PARTS).map(part));
    names.flat_map(move |name| {
        let lines = dir.read(&name).map(Option::unwrap_or_default).map(|bytes| runs(&dir, &name, &bytes));
        lines.unwrap_or_else(|error| vec![Err(error)])
    })
}

/// The version of a line, where it is a newer one than is known here. It is read by itself, because the rest of such a
/// line may have any form.
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
            let place = format!("line {} of the history {}", index + 1, dir.path(name).display());
            let newer = Error::other(format!("{place} has version {version}: a newer reconcile wrote it"));
            return Some(Err(newer.with_hint("use the version of reconcile that wrote it, or a newer one")));
        }
        match serde_json::from_slice(line) {
            Ok(run) => Some(Ok(run)),
            // A run that died while it wrote left half a line.
            Err(error) if error.is_eof() => None,
            Err(error) => {
                let damaged = format!("the history {} is damaged in line {}", dir.path(name).display(), index + 1);
                Some(Err(Error::other(format!("{damaged}: {error}"))
                    .with_hint("restore the file, or remove it: it is only told from")
                    .or_nameless(damaged)))
            }
        }
    });
    let mut runs: Vec<_> = runs.collect();
    runs.reverse();
    runs
}
