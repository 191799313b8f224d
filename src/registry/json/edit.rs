//! Edits of a registry that change nothing but the bytes of `model` values, or add whole members and entries.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::chat::Model;
use crate::registry::json::raw::{decoded, members, range_in};
use crate::registry::{Site, Snapshot};

/// A range of bytes, and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// In bytes of the registry's text.
    pub range: Range<usize>,
    /// JSON.
    pub text: String,
}

/// The edit that makes the entry at `site` say `model`: of the value that is there, or one member added after the
/// entry's last, laid out as that entry is.
pub fn splice(snapshot: &Snapshot, site: &Site, model: &Model) -> Splice {
    match &site.model {
        Some(range) => Splice { range: range.clone(), text: quoted(model.as_str()) },
        None => add_members(snapshot, site, &[("model", model.as_str())]),
    }
}

/// The edit that adds members after the entry's last, laid out as that entry is. It must have none of them yet.
pub fn add_members(snapshot: &Snapshot, site: &Site, members: &[(&str, &str)]) -> Splice {
    let text = snapshot.text();
    match Layout::of(text, site.entry.clone()) {
        Some(layout) => layout.append(members),
        None => first_members(text, site, members),
    }
}

/// The names of an entry's members.
pub fn keys(snapshot: &Snapshot, site: &Site) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    // It was parsed when it was scanned.
    let _ = members(&snapshot.text()[site.entry.clone()], |key, _| {
        keys.insert(decoded(key).into_owned());
        true
    });
    keys
}

/// The edit that adds an entry after the registry's last, laid out as that one is.
pub fn add_entry(snapshot: &Snapshot, id: &str, fields: &[(&str, &str)]) -> Splice {
    let text = snapshot.text();
    let start = text.len() - text.trim_ascii_start().len();
    let whole = start..text.trim_ascii_end().len();
    let Some(registry) = Layout::of(text, whole.clone()) else {
        // The form that Python's json.dump writes with an indent of two.
        let fields: Vec<String> =
            fields.iter().map(|(key, value)| format!("    {}", member(key, ": ", value))).collect();
        let text = format!("\n  {}: {{\n{}\n  }}\n", quoted(id), fields.join(",\n"));
        return Splice { range: whole.start + 1..whole.end - 1, text };
    };
    let entry = text.get(registry.last.clone()).filter(|entry| entry.starts_with('{'));
    let entry = entry.and_then(|_| Layout::of(text, registry.last.clone()));
    let in_one_line = if registry.colon.ends_with(' ') { ", " } else { "," };
    let (open, separator, colon, close) = match &entry {
        Some(entry) => (entry.open, entry.separator.as_str(), entry.colon, entry.close),
        None => ("", in_one_line, registry.colon, ""),
    };
    let fields: Vec<String> = fields.iter().map(|(key, value)| member(key, colon, value)).collect();
    let body = format!("{{{open}{}{close}}}", fields.join(separator));
    let text = format!("{}{}{}{body}", registry.separator, quoted(id), registry.colon);
    Splice { range: registry.last.end..registry.last.end, text }
}

/// How an object that has members is laid out.
struct Layout<'a> {
    /// Between the brace and the first member.
    open: &'a str,
    /// Between two members, comma included.
    separator: String,
    /// Between a key and its value.
    colon: &'a str,
    /// Between the last member and the brace.
    close: &'a str,
    /// The last value.
    last: Range<usize>,
}

impl<'a> Layout<'a> {
    /// Of the object at `object`, which must be well-formed; `None` where it has no members.
    fn of(text: &'a str, object: Range<usize>) -> Option<Self> {
        let mut first = None;
        let mut latest: [Option<(Range<usize>, Range<usize>)>; 2] = [None, None];
        members(&text[object.clone()], |key, value| {
            let (key, value) = (range_in(text, key), range_in(text, value));
            first.get_or_insert(key.start);
            latest = [latest[1].take(), Some((key, value))];
            true
        })
        .ok()?;
        let [before, Some((key, last))] = latest else { return None };
        let open = &text[object.start + 1..first?];
        let colon = &text[key.end..last.start];
        let separator = match before {
            Some((_, previous)) => text[previous.end..key.start].to_owned(),
            None if open.is_empty() && colon.ends_with(' ') => ", ".to_owned(),
            None => format!(",{open}"),
        };
        Some(Self { open, separator, colon, close: &text[last.end..object.end - 1], last })
    }

    fn append(&self, members: &[(&str, &str)]) -> Splice {
        let new = members.iter().map(|(key, value)| format!("{}{}", self.separator, member(key, self.colon, value)));
        Splice { range: self.last.end..self.last.end, text: new.collect() }
    }
}

/// For an entry `{}`, which has no layout of its own: that of the object it stands in.
fn first_members(text: &str, site: &Site, members: &[(&str, &str)]) -> Splice {
    let at = site.entry.start + 1;
    let inside = &text[at..site.entry.end - 1];
    let colon = &text[site.key.end..site.entry.start];
    let head = text[..site.key.start].trim_end_matches([' ', '\t', '\n', '\r']);
    let space = &text[head.len()..site.key.start];
    let members: Vec<String> = members.iter().map(|(key, value)| member(key, colon, value)).collect();
    let one_line = || members.join(if colon.ends_with(' ') { ", " } else { "," });
    let text = match space.rfind('\n') {
        _ if !inside.is_empty() => format!("{inside}{}", one_line()),
        None => one_line(),
        Some(newline) => {
            let indent = &space[newline + 1..];
            let line = if space[..newline].ends_with('\r') { "\r\n" } else { "\n" };
            let between = format!(",{line}{indent}{indent}");
            format!("{line}{indent}{indent}{}{line}{indent}", members.join(&between))
        }
    };
    Splice { range: at..at, text }
}

fn member(key: &str, colon: &str, value: &str) -> String {
    format!("{}{colon}{}", quoted(key), quoted(value))
}

/// The text with the edits made, in pieces. They must be sorted and must not overlap.
pub fn spliced<'a>(text: &'a str, splices: &'a [Splice]) -> impl Iterator<Item = &'a str> {
    let starts = std::iter::once(0).chain(splices.iter().map(|splice| splice.range.end));
    let ends = splices.iter().map(|splice| splice.range.start).chain(std::iter::once(text.len()));
    let new = splices.iter().map(|splice| splice.text.as_str()).chain(std::iter::once(""));
    starts.zip(ends).zip(new).flat_map(move |((start, end), new)| [&text[start..end], new])
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
