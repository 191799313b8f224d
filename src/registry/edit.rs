//! Edits of a registry that change nothing but the bytes of `model` values.

use std::ops::Range;

use crate::chat::Model;
use crate::registry::scan::{members, range_in};
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
    let value = quoted(model.as_str());
    if let Some(range) = &site.model {
        return Splice { range: range.clone(), text: value };
    }
    let text = snapshot.text();
    let mut all: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    // It was parsed when it was scanned.
    let _ = members(&text[site.entry.clone()], |key, value| {
        all.push((range_in(text, key), range_in(text, value)));
        true
    });
    match all.as_slice() {
        [] => first_member(text, site, &value),
        [.., (key, last)] => {
            let colon = &text[key.end..last.start];
            let before = all.len().checked_sub(2).and_then(|index| all.get(index));
            let separator = match before {
                Some((_, previous)) => text[previous.end..key.start].to_owned(),
                None => match &text[site.entry.start + 1..key.start] {
                    "" if colon.ends_with(' ') => ", ".to_owned(),
                    space => format!(",{space}"),
                },
            };
            Splice { range: last.end..last.end, text: format!("{separator}\"model\"{colon}{value}") }
        }
    }
}

/// For an entry `{}`, which has no layout of its own: that of the object it stands in.
fn first_member(text: &str, site: &Site, value: &str) -> Splice {
    let at = site.entry.start + 1;
    let inside = &text[at..site.entry.end - 1];
    let colon = &text[site.key.end..site.entry.start];
    let head = text[..site.key.start].trim_end_matches([' ', '\t', '\n', '\r']);
    let space = &text[head.len()..site.key.start];
    let member = format!("\"model\"{colon}{value}");
    let text = match space.rfind('\n') {
        _ if !inside.is_empty() => format!("{inside}{member}"),
        None => member,
        Some(newline) => {
            let indent = &space[newline + 1..];
            let line = if space[..newline].ends_with('\r') { "\r\n" } else { "\n" };
            format!("{line}{indent}{indent}{member}{line}{indent}")
        }
    };
    Splice { range: at..at, text }
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
