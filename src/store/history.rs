//! What past runs did, a JSON line each, oldest first. No message text and no output of commands is kept.

use std::io::{Read, Seek, SeekFrom, Write};

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::Serialize;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::plan::wire::WireRow;
use crate::plan::{Plan, Summary};
use crate::store::dir::StateDir;

const CURRENT: &str = "history.jsonl";
/// The file is put aside when it is larger than this, in bytes…
const PART: u64 = 1 << 20;
/// …and this many older parts are kept.
const PARTS: u32 = 4;

#[derive(Serialize)]
struct Line<'a> {
    run: String,
    at: Timestamp,
    plan_id: &'a str,
    changes: Vec<WireRow<'a>>,
    cancelled: Vec<&'a str>,
    summary: Summary,
}

/// Looks whether the history can be used.
pub(super) fn check(dir: &StateDir) -> Result<()> {
    dir.open_file(CURRENT, OFlags::RDONLY).map(drop)
}

pub(super) fn append(dir: &StateDir, plan: &Plan, now: Timestamp) -> Result<()> {
    let told = plan.rows.iter().filter(|row| row.effects.edited || row.outcome.verdict.was_tried());
    let line = Line {
        run: now.strftime("%Y%m%dT%H%M%S%6fZ").to_string(),
        at: now,
        plan_id: &plan.id,
        changes: told.map(|row| WireRow::from(row).without_detail()).collect(),
        cancelled: plan.cancelled.keys().map(String::as_str).collect(),
        summary: plan.summary(),
    };
    let mut json = serde_json::to_vec(&line).map_err(|error| Error::other(error.to_string()))?;
    json.push(b'\n');
    rotate(dir)?;

    let path = dir.path(CURRENT);
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    let Some(mut file) = dir.open_file(CURRENT, flags)? else { return Ok(()) };
    // A run that died while it wrote left half a line: end it, so that the others stay readable.
    let mut last = [b'\n'];
    let torn = file.seek(SeekFrom::End(-1)).and_then(|_| file.read(&mut last)).is_ok() && last != *b"\n";
    if torn {
        json.insert(0, b'\n');
    }
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))?;
    crash_point!("history: appended");
    Ok(())
}

fn rotate(dir: &StateDir) -> Result<()> {
    if dir.facts(CURRENT)?.is_none_or(|facts| facts.stamp.size <= PART) {
        return Ok(());
    }
    let part = |number: u32| format!("history.{number}.jsonl");
    for number in (1..PARTS).rev() {
        if dir.facts(&part(number))?.is_some() {
            dir.rename(&part(number), &part(number + 1))?;
        }
    }
    dir.rename(CURRENT, &part(1))
}
