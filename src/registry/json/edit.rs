//! Edits of a registry's text. An edit replaces the bytes of a value, or adds or removes a whole member or entry. All
//! other bytes stay as they are.

use std::ops::Range;

use serde_json::Deserializer;
use serde_json::value::RawValue;

use crate::chat::Model;
use crate::form::Form;
use crate::registry::Position;
use crate::registry::json::raw::{decoded, members, range_in};
use crate::splice::Splice;

const MODEL: &str = "model";

/// The ranges of an entry in the registry's text, in bytes.
#[derive(Clone)]
struct Site {
    /// The range of its key, quotes included.
    key: Range<usize>,
    /// The range of its object, braces included.
    entry: Range<usize>,
}

impl Site {
    /// The entry whose key begins at `at`; `None` where no key begins there.
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

    /// The range of the value of its member of this name. If there are several, the last one counts.
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

/// The edit that sets `model` of the entry at `at`: it replaces the value, or adds the member after the entry's last,
/// in the layout of the entry. Without a model, the edit removes the member. `None` where there is no such entry, or no
/// member to remove.
pub fn set_model(text: &str, form: &Form, at: Position, model: Option<&Model>) -> Option<Splice> {
    let site = Site::find(text, at)?;
    match (site.member(text, MODEL), model) {
        (Some(range), Some(model)) => Some(Splice { range, text: quoted(model.as_str()) }),
        (None, Some(model)) => Some(site.with_members(text, form, &[(MODEL, model.as_str())])),
        (Some(_), None) => remove_member(text, site.entry, MODEL),
        (None, None) => None,
    }
}

/// The edit that replaces the value of a member of the entry at `at`. `None` where the entry does not have the member.
pub fn set_member(text: &str, at: Position, name: &str, value: &str) -> Option<Splice> {
    let range = Site::find(text, at)?.member(text, name)?;
    Some(Splice { range, text: quoted(value) })
}

/// The edit that sets a member of the entry at `at`: it replaces the value, or adds the member. `None` where there is
/// no such entry.
pub(crate) fn put_member(text: &str, form: &Form, at: Position, name: &str, value: &str) -> Option<Splice> {
    set_member(text, at, name, value).or_else(|| add_members(text, form, at, &[(name, value)]))
}

/// The edit that adds members after the entry's last, in the layout of the entry. The entry must have none of them.
/// `None` where there is no such entry.
pub(crate) fn add_members(text: &str, form: &Form, at: Position, members: &[(&str, &str)]) -> Option<Splice> {
    Some(Site::find(text, at)?.with_members(text, form, members))
}

/// The edit that adds an entry after the registry's last, in the layout of that one. `None` where the text does not
/// have this form.
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

/// The member of this name of the object at `object`, if its value is an object, too.
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

/// The layout of an object that has members.
struct Layout<'a> {
    /// The text between the opening brace and the first member.
    open: &'a str,
    /// The text between two members, comma included.
    separator: String,
    /// The text between a key and its value, colon included.
    colon: &'a str,
    /// The text between the last member and the closing brace.
    close: &'a str,
    /// The range of the last value.
    last: Range<usize>,
}

/// The ranges of a member in the registry's text, in bytes.
struct MemberRanges {
    key: Range<usize>,
    value: Range<usize>,
}

impl<'a> Layout<'a> {
    /// The layout of the object at `object`, which must be well-formed; `None` where it has no members.
    fn of(text: &'a str, object: Range<usize>) -> Option<Self> {
        let mut first_key = None;
        let mut last: Option<MemberRanges> = None;
        let mut before_last: Option<MemberRanges> = None;
        members(&text[object.clone()], |key, value| {
            let member = MemberRanges { key: range_in(text, key), value: range_in(text, value) };
            first_key.get_or_insert(member.key.start);
            before_last = last.replace(member);
            true
        })
        .ok()?;
        let MemberRanges { key, value: last } = last?;
        let open = &text[object.start + 1..first_key?];
        let colon = &text[key.end..last.start];
        let separator = match before_last {
            Some(before) => text[before.value.end..key.start].to_owned(),
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

/// The edit that adds the first members of an entry `{}`. It has no layout of its own, so they get that of the object
/// that it is in.
fn first_members(text: &str, site: &Site, depth: usize, members: &[(&str, &str)]) -> Splice {
    let at = site.entry.start + 1;
    let blanks = &text[at..site.entry.end - 1];
    let inside = Inside::of(text, site, depth);
    let members: Vec<String> = members.iter().map(|(key, value)| member(key, inside.colon, value)).collect();
    let text =
        if blanks.is_empty() { inside.around(&members) } else { format!("{blanks}{}", inside.in_one_line(&members)) };
    Splice { range: at..at, text }
}

/// The layout of the members of an object that is empty so far.
#[derive(Clone, Copy)]
struct Inside<'t> {
    /// The text between a key and its value, colon included.
    colon: &'t str,
    /// How members are put on lines of their own; `None` where they are on one line.
    lines: Option<Lines<'t>>,
}

/// The layout of members that are on lines of their own.
#[derive(Clone, Copy)]
struct Lines<'t> {
    /// The line end.
    end: &'static str,
    /// The indentation of the line of the object.
    indent: &'t str,
    /// The additional indentation of its members.
    step: &'t str,
}

impl<'t> Inside<'t> {
    /// The layout of Python's `json.dump` with `indent=2`.
    const AS_PYTHON_WRITES: Self = Self { colon: ": ", lines: Some(Lines { end: "\n", indent: "", step: "  " }) };

    /// The layout for the empty object at `site`, from the object that it is in. `depth` is the level of `site` below the top.
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

    /// The text between the braces: these members, with the blanks around them.
    fn around(&self, members: &[String]) -> String {
        let Some(Lines { end, indent, step }) = self.lines else { return self.in_one_line(members) };
        let between = format!(",{end}{indent}{step}");
        format!("{end}{indent}{step}{}{end}{indent}", members.join(&between))
    }

    fn in_one_line(&self, members: &[String]) -> String {
        members.join(if self.colon.ends_with(' ') { ", " } else { "," })
    }

    /// An entry with these fields.
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

/// The edit that removes a member from an object, with the comma and the blanks before or after it. It is the exact reverse of
/// [`add_members`].
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
    // An error is expected where the walk was stopped.
    .ok()
    .or_else(|| after.map(drop))?;
    let member = found?;
    let (range, kept) = match (before, after) {
        // The comma before the member is removed.
        (Some(before), _) => (before..member.end, ""),
        // The comma after the member is removed.
        (None, Some(after)) => (member.start..after, ""),
        (None, None) => {
            let inside = object.start + 1..object.end - 1;
            let blanks = &text[inside.start..member.start];
            // Adding the member to `{ }` has repeated the blanks between the braces on both sides of it.
            let kept = if blanks == &text[member.end..inside.end] { blanks } else { "" };
            (inside, kept)
        }
    };
    Some(Splice { range, text: kept.to_owned() })
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
