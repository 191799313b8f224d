//! Edits of a registry that change nothing but the bytes of `model` values, or add and remove whole members and entries.

use std::ops::Range;

use serde_json::Deserializer;
use serde_json::value::RawValue;

use crate::chat::Model;
use crate::form::Form;
use crate::registry::Position;
use crate::registry::json::raw::{decoded, members, range_in};
use crate::splice::Splice;

const MODEL: &str = "model";

/// Where an entry stands, in bytes of the registry's text.
#[derive(Clone)]
struct Site {
    /// Its key, with the quotes.
    key: Range<usize>,
    /// Its object, with the braces.
    entry: Range<usize>,
}

impl Site {
    /// Of the entry whose key begins at `at`; `None` where none does.
    fn find(text: &str, at: Position) -> Option<Self> {
        let raw = |from: usize| -> Option<Range<usize>> {
            let mut values = Deserializer::from_str(text.get(from..)?).into_iter::<&RawValue>();
            Some(range_in(text, values.next()?.ok()?.get()))
        };
        let key = raw(at.0)?;
        let colon = key.end + text.get(key.end..)?.find(':')?;
        let entry = raw(colon + 1)?;
        text.get(entry.clone())?.starts_with('{').then_some(Self { key, entry })
    }

    fn with_members(&self, text: &str, form: &Form, members: &[(&str, &str)]) -> Splice {
        match Layout::of(text, self.entry.clone()) {
            Some(layout) => layout.append(members),
            None => first_members(text, self, form.depth(), members),
        }
    }

    /// The value of its member of this name, where there is one. Of several it is the last, which counts.
    fn member(&self, text: &str, name: &str) -> Option<Range<usize>> {
        let mut found = None;
        // It was well-formed when it was scanned.
        let _ = members(text.get(self.entry.clone())?, |key, value| {
            if decoded(key) == name {
                found = Some(range_in(text, value));
            }
            true
        });
        found
    }
}

/// The edit that makes the entry at `at` say `model`: of the value that is there, or one member added after the entry's
/// last, laid out as that entry is. Without a model, the edit that takes such a member away again. `None` where there is
/// no such entry, or nothing to take away.
pub fn set_model(text: &str, form: &Form, at: Position, model: Option<&Model>) -> Option<Splice> {
    let site = Site::find(text, at)?;
    match (site.member(text, MODEL), model) {
        (Some(range), Some(model)) => Some(Splice { range, text: quoted(model.as_str()) }),
        (None, Some(model)) => Some(site.with_members(text, form, &[(MODEL, model.as_str())])),
        (Some(_), None) => remove_member(text, site.entry, MODEL),
        (None, None) => None,
    }
}

/// The edit that gives a member that the entry at `at` has, with or without a value, this one. `None` where it does not
/// have that member.
pub fn set_member(text: &str, at: Position, name: &str, value: &str) -> Option<Splice> {
    let range = Site::find(text, at)?.member(text, name)?;
    Some(Splice { range, text: quoted(value) })
}

/// The edit that gives a member of the entry at `at` this value: in place of the value that is there, or as one member more.
/// `None` where there is no such entry.
pub(crate) fn put_member(text: &str, form: &Form, at: Position, name: &str, value: &str) -> Option<Splice> {
    set_member(text, at, name, value).or_else(|| add_members(text, form, at, &[(name, value)]))
}

/// The edit that adds members after the entry's last, laid out as that entry is. It must have none of them yet. `None`
/// where there is no such entry.
pub(crate) fn add_members(text: &str, form: &Form, at: Position, members: &[(&str, &str)]) -> Option<Splice> {
    Some(Site::find(text, at)?.with_members(text, form, members))
}

/// The edit that adds an entry after the registry's last, laid out as that one is. `None` where the text has not
/// that form.
pub(crate) fn add_entry(text: &str, form: &Form, id: &str, fields: &[(&str, &str)]) -> Option<Splice> {
    let whole = text.len() - text.trim_ascii_start().len()..text.trim_ascii_end().len();
    let below = form.key.as_deref().map(|key| member_named(text, whole.clone(), key));
    let sessions = match &below {
        Some(found) => found.clone()?.entry,
        None => whole,
    };
    let Some(registry) = Layout::of(text, sessions.clone()) else {
        let (range, inside) = match below.flatten() {
            Some(site) => (site.entry.start + 1..site.entry.end - 1, Inside::of(text, &site, 1)),
            None => (sessions.start + 1..sessions.end - 1, Inside::AS_PYTHON_WRITES),
        };
        return Some(Splice { range, text: inside.around(&[inside.entry(id, fields)]) });
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
    Some(Splice { range: registry.last.end..registry.last.end, text })
}

/// The member of that name of the object at `object`, if it is an object.
fn member_named(text: &str, object: Range<usize>, name: &str) -> Option<Site> {
    let mut found = None;
    // It was well-formed when it was scanned.
    let _ = members(text.get(object)?, |key, value| {
        if decoded(key) == name && value.starts_with('{') {
            found = Some(Site { key: range_in(text, key), entry: range_in(text, value) });
        }
        found.is_none()
    });
    found
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
fn first_members(text: &str, site: &Site, depth: usize, members: &[(&str, &str)]) -> Splice {
    let at = site.entry.start + 1;
    let blanks = &text[at..site.entry.end - 1];
    let inside = Inside::of(text, site, depth);
    let members: Vec<String> = members.iter().map(|(key, value)| member(key, inside.colon, value)).collect();
    let text =
        if blanks.is_empty() { inside.around(&members) } else { format!("{blanks}{}", inside.in_one_line(&members)) };
    Splice { range: at..at, text }
}

/// How the members of an empty object are laid out.
#[derive(Clone, Copy)]
struct Inside<'t> {
    /// Between a key and its value.
    colon: &'t str,
    lines: Option<Lines<'t>>,
}

/// Members that stand in lines of their own.
#[derive(Clone, Copy)]
struct Lines<'t> {
    end: &'static str,
    /// What the line of the object begins with.
    indent: &'t str,
    /// How much farther in its members stand.
    step: &'t str,
}

impl<'t> Inside<'t> {
    /// The form of `json.dump` with an indent of two.
    const AS_PYTHON_WRITES: Self = Self { colon: ": ", lines: Some(Lines { end: "\n", indent: "", step: "  " }) };

    /// As the object is laid out in which the empty one stands: so many levels below the top.
    fn of(text: &'t str, site: &Site, depth: usize) -> Self {
        let colon = &text[site.key.end..site.entry.start];
        let head = text[..site.key.start].trim_end_matches([' ', '\t', '\n', '\r']);
        let space = &text[head.len()..site.key.start];
        let lines = space.rfind('\n').map(|newline| {
            let indent = &space[newline + 1..];
            let end = if space[..newline].ends_with('\r') { "\r\n" } else { "\n" };
            let step = indent.get(..indent.len() / depth).unwrap_or(indent);
            Lines { end, indent, step }
        });
        Self { colon, lines }
    }

    /// These members, with the blanks between them and the braces.
    fn around(&self, members: &[String]) -> String {
        let Some(Lines { end, indent, step }) = self.lines else { return self.in_one_line(members) };
        let between = format!(",{end}{indent}{step}");
        format!("{end}{indent}{step}{}{end}{indent}", members.join(&between))
    }

    fn in_one_line(&self, members: &[String]) -> String {
        members.join(if self.colon.ends_with(' ') { ", " } else { "," })
    }

    /// A member that is an object of these fields.
    fn entry(&self, id: &str, fields: &[(&str, &str)]) -> String {
        let deeper = self.lines.map(|lines| format!("{}{}", lines.indent, lines.step));
        let lines = self.lines.zip(deeper.as_deref()).map(|(lines, indent)| Lines { indent, ..lines });
        let inside = Inside { lines, colon: self.colon };
        let fields: Vec<String> = fields.iter().map(|(key, value)| member(key, self.colon, value)).collect();
        format!("{}{}{{{}}}", quoted(id), self.colon, inside.around(&fields))
    }
}

fn member(key: &str, colon: &str, value: &str) -> String {
    format!("{}{colon}{}", quoted(key), quoted(value))
}

/// The edit that takes a member out of an object, and with it what separates it from the others. What was added by
/// [`add_members`] is so removed to the byte.
fn remove_member(text: &str, object: Range<usize>, name: &str) -> Option<Splice> {
    let mut before: Option<usize> = None;
    let mut found: Option<Range<usize>> = None;
    let mut after: Option<usize> = None;
    members(&text[object.clone()], |key, value| {
        let (start, end) = (range_in(text, key).start, range_in(text, value).end);
        if found.is_some() {
            after = Some(start);
        } else if decoded(key) == name {
            found = Some(start..end);
        } else {
            before = Some(end);
        }
        after.is_none()
    })
    // It ends with an error where the walk was stopped.
    .ok()
    .or_else(|| after.map(drop))?;
    let member = found?;
    let (range, kept) = match (before, after) {
        // With the comma before it.
        (Some(before), _) => (before..member.end, ""),
        // With the comma behind it.
        (None, Some(after)) => (member.start..after, ""),
        (None, None) => {
            let inside = object.start + 1..object.end - 1;
            let blanks = &text[inside.start..member.start];
            // Blanks that stood between the braces stand on both sides of a member that was added.
            let kept = if blanks == &text[member.end..inside.end] { blanks } else { "" };
            (inside, kept)
        }
    };
    Some(Splice { range, text: kept.to_owned() })
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
