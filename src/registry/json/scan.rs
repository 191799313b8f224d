//! One pass over the registry, an entry at a time, so that memory does not follow its size.
//!
//! There are two readers. `fast` reads what is as it should be, and gives up on anything else. The one in this file
//! then decides, and says what is wrong: `serde_json` parses; what it is asked for are raw values, whose addresses give
//! their ranges. So unknown fields are checked for well-formedness and otherwise never interpreted: 400-digit numbers
//! and the lone surrogates that Python writes pass through. Both find the same entries, or the fast one finds none.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::thread::{Builder, scope};

use memchr::memmem;

use crate::diagnostic::{Diagnostic, Place};
use crate::registry::json::fast::{self, Part, Window};
use crate::registry::json::fields::{Fields, Member};
use crate::registry::json::raw::{decoded, members, range_in, string};
use crate::registry::json::text::JsonText;
use crate::registry::{Collector, Entry, Make, Position};

/// More mistakes than these are not looked for.
const MISTAKES_SHOWN: usize = 20;

const NOTHING_WRITTEN: &str = "fix or restore the file; nothing was written";

/// Calls `each` for every entry, in the order of the file, and returns how many there were.
///
/// # Errors
/// What is wrong with the registry. `each` may have been called for entries before that.
pub fn scan<'a>(json: &'a JsonText, mut each: impl FnMut(Entry<'a>)) -> Result<usize, Vec<Diagnostic>> {
    let mut seen = 0;
    let fast = scan_fast(json, |entry| {
        seen += 1;
        each(entry);
    });
    if let Some(sessions) = fast {
        return Ok(sessions);
    }
    scan_slowly_after(seen, json, each)
}

/// What [`scan_slowly`] does, for the entries after the first `seen` ones.
pub(super) fn scan_slowly_after<'a>(
    seen: usize,
    json: &'a JsonText,
    mut each: impl FnMut(Entry<'a>),
) -> Result<usize, Vec<Diagnostic>> {
    let mut at = 0;
    scan_slowly(json, |entry| {
        at += 1;
        if at > seen {
            each(entry);
        }
    })
}

/// What [`scan`] does for collectors: with several threads, parts of the registry are read at the same time. Returns how
/// many entries there were.
///
/// # Errors
/// What is wrong with the registry.
pub fn scan_parts(json: &JsonText, threads: usize, make: Make<'_>) -> Result<usize, Vec<Diagnostic>> {
    let text = json.text();
    let parts = parts(text, threads);
    if parts.len() > 1
        && let Some(sessions) = scan_at_once(parts, make, |part, each| read_all(text, part, each))
    {
        return Ok(sessions);
    }
    let mut collector = make();
    let sessions = scan(json, |entry| collector.take(entry))?;
    collector.finish();
    Ok(sessions)
}

/// At most `most` parts that together seem to be the registry.
fn parts(text: &str, most: usize) -> Vec<Part> {
    let between = fast::between_entries(text);
    let finder = between.as_deref().map(memmem::Finder::new);
    let seam = |part| fast::seam(text.as_bytes(), text.len() / most * part, finder.as_ref()?);
    Part::between((1..most).filter_map(seam))
}

/// `None`: the fast reader gave up.
fn read_all<'a>(text: &'a str, part: Part, each: impl FnMut(Entry<'a>)) -> Option<()> {
    fast::read(Window::whole(text), part, each).is_none().then_some(())
}

/// Reads each part in a thread, by `read`, and returns how many entries there were. `None`: the fast reader gave up, an id
/// seems to stand twice, or a thread cannot be started; the collectors are not finished then.
pub(super) fn scan_at_once(
    parts: Vec<Part>,
    make: Make<'_>,
    read: impl Fn(Part, &mut dyn FnMut(Entry<'_>)) -> Option<()> + Sync,
) -> Option<usize> {
    let read = |part| {
        let (mut ids, mut collector) = (Vec::new(), make());
        read(part, &mut |entry| {
            ids.push(hash(&entry.chat.id));
            collector.take(entry);
        })?;
        ids.sort_unstable();
        Some((ids, collector))
    };
    let found: Option<Vec<_>> = scope(|scope| {
        let read = &read;
        let readers: Vec<_> =
            parts.into_iter().map(|part| Builder::new().spawn_scoped(scope, move || read(part))).collect();
        readers.into_iter().map(|reader| reader.ok()?.join().ok().flatten()).collect()
    });
    let (ids, collectors): (Vec<_>, Vec<_>) = found?.into_iter().unzip();
    let mut ids = ids.concat();
    if has_twins(&mut ids) {
        return None;
    }
    collectors.into_iter().for_each(Collector::finish);
    Some(ids.len())
}

/// Whether two hashes are the same. Sorts them.
#[allow(clippy::stable_sort_primitive, reason = "of those that are sorted in parts already it makes one pass")]
fn has_twins(ids: &mut [u64]) -> bool {
    ids.sort();
    ids.windows(2).any(|pair| pair[0] == pair[1])
}

/// What [`scan`] does, by the fast reader alone. `None`: it gave up, maybe after some entries.
pub fn scan_fast<'a>(json: &'a JsonText, mut each: impl FnMut(Entry<'a>)) -> Option<usize> {
    let mut ids = Ids::default();
    read_all(json.text(), Part::WHOLE, |entry| {
        ids.take(&entry);
        each(entry);
    })?;
    ids.count()
}

/// The ids of the entries that were read, as hashes.
#[derive(Default)]
pub(super) struct Ids(Vec<u64>);

impl Ids {
    pub(super) fn take(&mut self, entry: &Entry) {
        self.0.push(hash(&entry.chat.id));
    }

    /// How many there are; `None` where one seems to stand twice.
    pub(super) fn count(mut self) -> Option<usize> {
        (!has_twins(&mut self.0)).then_some(self.0.len())
    }
}

/// What [`scan`] does, by `serde_json` alone.
///
/// # Errors
/// What is wrong with the registry.
pub fn scan_slowly<'a>(json: &'a JsonText, mut each: impl FnMut(Entry<'a>)) -> Result<usize, Vec<Diagnostic>> {
    let text = json.text();
    let mut mistakes = Vec::new();
    let mut ids: Vec<u64> = Vec::new();
    let walked = members(text, |key, value| {
        ids.push(hash(&decoded(key)));
        match entry(json, key, value) {
            Ok(entry) => each(entry),
            Err(found) => mistakes.extend(found),
        }
        mistakes.len() < MISTAKES_SHOWN
    });
    if let Err(error) = walked {
        // The walk was stopped by us where there are enough mistakes already.
        if mistakes.len() < MISTAKES_SHOWN {
            mistakes.push(malformed(json, &error));
        }
        return Err(mistakes);
    }
    let sessions = ids.len();
    ids.sort_unstable();
    let twice: HashSet<u64> = ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    if !twice.is_empty() {
        mistakes.extend(duplicates(json, &twice));
    }
    if mistakes.is_empty() { Ok(sessions) } else { Err(mistakes) }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Tells ids that really stand twice from those that only share a hash.
fn duplicates(json: &JsonText, suspects: &HashSet<u64>) -> Vec<Diagnostic> {
    let text = json.text();
    let mut first: BTreeMap<String, Range<usize>> = BTreeMap::new();
    let mut found = Vec::new();
    // It parsed a moment ago.
    let _ = members(text, |key, _| {
        let id = decoded(key);
        let range = range_in(text, key);
        if !suspects.contains(&hash(&id)) {
            return true;
        }
        if let Some(earlier) = first.get(id.as_ref()) {
            found.push(
                Diagnostic::error(
                    "duplicate-chat",
                    format!("chat {id:?} is defined twice"),
                    json.place(range),
                    "again here",
                )
                .and(json.place(earlier.clone()), "first here")
                .help("only one of them can be the session's: remove the other; nothing was written"),
            );
        } else {
            first.insert(id.into_owned(), range);
        }
        found.len() < MISTAKES_SHOWN
    });
    found
}

fn malformed(json: &JsonText, error: &serde_json::Error) -> Diagnostic {
    let text = json.text();
    if text.trim_ascii().is_empty() {
        return Diagnostic::error("registry-empty", "the registry is empty", json.place(0..0), "")
            .help("a registry of no sessions is `{}`; an empty file is what a failed write leaves: restore it");
    }
    if error.is_data() {
        let start = text.len() - text.trim_ascii_start().len();
        let place = json.place(start..start + 1);
        return Diagnostic::error(
            "malformed",
            "the registry is not a JSON object",
            place,
            "it maps chat ids to entries",
        )
        .help(NOTHING_WRITTEN);
    }
    let full = error.to_string();
    let message = full.find(" at line ").map_or(full.as_str(), |end| &full[..end]);
    let place = Place::at_line(&json.name, text, error.line(), error.column());
    let help = match text.as_bytes() {
        [0xEF, 0xBB, 0xBF, ..] => "the file begins with a byte order mark: remove it",
        _ if error.is_eof() => "the file ends too early: it may have been cut off; restore it; nothing was written",
        _ => NOTHING_WRITTEN,
    };
    Diagnostic::error("malformed", format!("the registry is malformed: {message}"), place, "").help(help)
}

fn entry<'a>(json: &'a JsonText, key: &'a str, value: &'a str) -> Result<Entry<'a>, Vec<Diagnostic>> {
    let text = json.text();
    let id = decoded(key);
    let mistake = |code, message: String, at: &str| {
        Diagnostic::error(code, message, json.place(range_in(text, at)), "").help(NOTHING_WRITTEN)
    };
    if !value.starts_with('{') {
        return Err(vec![mistake("not-an-object", format!("the entry of chat {id:?} is not an object"), value)]);
    }
    let mut fields = Fields::new(id, Position(range_in(text, key).start));
    let mut seen: [Option<&str>; 2] = [None; 2];
    let mut mistakes = Vec::new();
    // It is part of what was parsed a moment ago.
    let _ = members(value, |key, value| {
        let field = Member::named(&decoded(key));
        if mistakes.len() >= MISTAKES_SHOWN {
            return false;
        }
        if let Some(slot) = field.strict() {
            let (name, id) = (decoded(key), &fields.chat.id);
            if let Some(first) = seen[slot] {
                let twice =
                    mistake("duplicate-field", format!("`{name}` is defined twice in the entry of {id:?}"), key);
                mistakes.push(twice.and(json.place(range_in(text, first)), "first here"));
            }
            seen[slot] = Some(key);
            if !value.starts_with('"') && value != "null" {
                mistakes.push(mistake("wrong-type", format!("`{name}` of chat {id:?} is not a string"), value));
            }
        }
        if field != Member::Other {
            fields.set(field, string(value));
        }
        true
    });
    if mistakes.is_empty() { Ok(fields.entry()) } else { Err(mistakes) }
}
