//! One pass over the registry, an entry at a time, so that memory does not follow its size.
//!
//! There are two readers. The one in `fast` gives up on anything that is malformed or unusual. Then the one in this
//! file decides, and makes the error messages. It lets `serde_json` parse the text into raw values, whose addresses
//! give their ranges. So unknown fields are checked for well-formedness, but never interpreted: 400-digit numbers and
//! the lone surrogates that Python writes pass through. Either both readers find equal entries, or the fast one finds
//! none.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::thread::{Builder, scope};

use memchr::memmem;

use crate::diagnostic::Diagnostic;
use crate::form::Shape;
use crate::registry::json::fast::{self, Part, Window};
use crate::registry::json::fields::{Fields, Member};
use crate::registry::json::object::{DEEPER, NOTHING_WRITTEN, find, malformed, not_sessions};
use crate::registry::json::raw::{decoded, members, range_in, string};
use crate::registry::json::text::JsonText;
use crate::registry::{Collector, Entry, Make, Position};

/// At most this many mistakes are looked for.
const MISTAKES_SHOWN: usize = 20;

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

/// Reads a registry with `serde_json`, and calls `each` for the entries after the first `seen` ones: another reader has handed those over.
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

/// Reads a registry in parts, one for each thread, and hands the entries of each part to a collector. Returns how many entries there were.
///
/// # Errors
/// What is wrong with the registry.
pub(crate) fn scan_parts(json: &JsonText, threads: usize, make: Make<'_>) -> Result<usize, Vec<Diagnostic>> {
    let parts = parts(json, threads);
    if parts.len() > 1
        && let Some(sessions) = scan_at_once(parts, json.form.shape, make, |part, each| read_all(json, part, each))
    {
        return Ok(sessions);
    }
    let mut collector = make();
    let sessions = scan(json, |entry| collector.take(entry))?;
    collector.finish();
    Ok(sessions)
}

/// Divides the registry into at most `most` parts. It is not certain yet that entries begin where the parts do.
fn parts(json: &JsonText, most: usize) -> Vec<Part> {
    let text = json.text();
    let between = fast::between_entries(text, json.form.key.as_deref());
    let finder = between.as_deref().map(memmem::Finder::new);
    let seam = |part| fast::seam(text.as_bytes(), text.len() / most * part, finder.as_ref()?);
    Part::between((1..most).filter_map(seam))
}

/// Reads a part with the fast reader. `None` where it gave up.
fn read_all<'a>(json: &'a JsonText, part: Part, each: impl FnMut(Entry<'a>)) -> Option<()> {
    fast::read(Window::whole(json.text()), part, json.form.key.as_deref(), each).is_none().then_some(())
}

/// Reads each part with `read` in a thread of its own, and returns how many entries there were. `None`, without
/// finishing a collector, where the fast reader gave up, two entries may have one id, the entries do not have this
/// shape, or a thread cannot be started.
pub(super) fn scan_at_once(
    parts: Vec<Part>,
    shape: Shape,
    make: Make<'_>,
    read: impl Fn(Part, &mut dyn FnMut(Entry<'_>)) -> Option<()> + Sync,
) -> Option<usize> {
    let read = |part| {
        let (mut seen, mut collector) = (Seen::default(), make());
        read(part, &mut |entry| {
            seen.take(&entry);
            collector.take(entry);
        })?;
        seen.ids.sort_unstable();
        Some((seen, collector))
    };
    let found: Option<Vec<_>> = scope(|scope| {
        let read = &read;
        let readers: Vec<_> =
            parts.into_iter().map(|part| Builder::new().spawn_scoped(scope, move || read(part))).collect();
        readers.into_iter().map(|reader| reader.ok()?.join().ok().flatten()).collect()
    });
    let (seen, collectors): (Vec<_>, Vec<_>) = found?.into_iter().unzip();
    let sessions = Seen::all(&seen).count(shape)?;
    collectors.into_iter().for_each(Collector::finish);
    Some(sessions)
}

/// Reads a registry with the fast reader alone, and returns how many entries there were. `None` where it gave up, possibly after some
/// entries.
pub fn scan_fast<'a>(json: &'a JsonText, mut each: impl FnMut(Entry<'a>)) -> Option<usize> {
    let mut seen = Seen::default();
    read_all(json, Part::WHOLE, |entry| {
        seen.take(&entry);
        each(entry);
    })?;
    seen.count(json.form.shape)
}

/// What is kept of the entries that were read, to check them as a whole.
#[derive(Default)]
pub(super) struct Seen {
    /// The hashes of their ids.
    ids: Vec<u64>,
    /// Whether one of them has a field of a session.
    any_session: bool,
}

impl Seen {
    pub(super) fn take(&mut self, entry: &Entry) {
        self.ids.push(hash(&entry.chat.id));
        self.any_session |= entry.is_session;
    }

    /// What was kept of the entries of all parts.
    fn all(parts: &[Self]) -> Self {
        let ids: Vec<&[u64]> = parts.iter().map(|part| part.ids.as_slice()).collect();
        Self { ids: ids.concat(), any_session: parts.iter().any(|part| part.any_session) }
    }

    /// How many entries there are; `None` where two hashes are equal, or the entries do not have this shape.
    #[allow(clippy::stable_sort_primitive, reason = "of those that are sorted in parts already it makes one pass")]
    pub(super) fn count(mut self, shape: Shape) -> Option<usize> {
        self.ids.sort();
        let has_twins = self.ids.windows(2).any(|pair| pair[0] == pair[1]);
        let has_shape = shape == Shape::Any || self.any_session || self.ids.is_empty();
        (has_shape && !has_twins).then_some(self.ids.len())
    }
}

/// Reads a registry with `serde_json` alone, and returns how many entries there were.
///
/// # Errors
/// What is wrong with the registry.
pub fn scan_slowly<'a>(json: &'a JsonText, mut each: impl FnMut(Entry<'a>)) -> Result<usize, Vec<Diagnostic>> {
    let object = find(json).map_err(|mistake| vec![mistake])?;
    let mut mistakes = Vec::new();
    let mut ids: Vec<u64> = Vec::new();
    let mut any_session = false;
    let walked = members(object, |key, value| {
        ids.push(hash(&decoded(key)));
        match entry(json, key, value) {
            Ok(entry) => {
                any_session |= entry.is_session;
                each(entry);
            }
            Err(found) => mistakes.extend(found),
        }
        mistakes.len() < MISTAKES_SHOWN
    });
    // The walk was stopped by us where there are enough mistakes already.
    if let Err(error) = &walked
        && mistakes.len() < MISTAKES_SHOWN
    {
        mistakes.push(malformed(json, error));
        return Err(mistakes);
    }
    let sessions = ids.len();
    ids.sort_unstable();
    let twice: HashSet<u64> = ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    if walked.is_ok() && !twice.is_empty() {
        mistakes.extend(duplicates(json, object, &twice));
    }
    if !any_session
        && sessions > 0
        && let Some(mistake) = not_sessions(json, object)
        // All other mistakes follow from that one.
        && (mistakes.is_empty() || mistake.code == DEEPER)
    {
        return Err(vec![mistake]);
    }
    if mistakes.is_empty() { Ok(sessions) } else { Err(mistakes) }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// The diagnostics for ids that are defined twice. `suspects` are hashes that occur twice, which different ids may have, too.
fn duplicates(json: &JsonText, object: &str, suspects: &HashSet<u64>) -> Vec<Diagnostic> {
    let text = json.text();
    let mut first: BTreeMap<String, Range<usize>> = BTreeMap::new();
    let mut found = Vec::new();
    // It parsed a moment ago.
    let _ = members(object, |key, _| {
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
    // The keys of the strict members that were found.
    let mut strict_keys: [Option<&str>; Member::STRICT.len()] = [None; Member::STRICT.len()];
    let mut mistakes = Vec::new();
    // It is part of what was parsed a moment ago.
    let _ = members(value, |key, value| {
        let field = Member::named(&decoded(key));
        if mistakes.len() >= MISTAKES_SHOWN {
            return false;
        }
        if let Some(strict) = field.strict() {
            let (name, id) = (decoded(key), &fields.chat.id);
            if let Some(first) = strict_keys[strict] {
                let twice =
                    mistake("duplicate-field", format!("`{name}` is defined twice in the entry of {id:?}"), key);
                mistakes.push(twice.and(json.place(range_in(text, first)), "first here"));
            }
            strict_keys[strict] = Some(key);
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
