//! Edits of a policy's overrides that change nothing else: comments, order, layout and line ends stay as they are,
//! because only the bytes of an override are replaced.

use std::ops::Range;

use toml_edit::{Document, DocumentMut, InlineTable, Item, Key, Table, Value};

use crate::chat::Model;
use crate::policy::Until;

/// What an override is to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The model.
    pub model: &'a Model,
    /// When it ends.
    pub until: Option<&'a Until>,
    /// Why it is there.
    pub reason: Option<&'a str>,
}

impl Wanted<'_> {
    /// The keys of an override, and their values as TOML; `None` for those that must not be there.
    fn members(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("model", Some(quoted(self.model.as_str()))),
            ("until", self.until.map(ToString::to_string)),
            ("reason", self.reason.map(quoted)),
            ("managed", None),
        ]
    }

    fn value(&self) -> String {
        if self.until.is_none() && self.reason.is_none() {
            return quoted(self.model.as_str());
        }
        let members = self.members().into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?)));
        format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
    }
}

/// The text with the override of `chat` replaced or added; `None` where the text is no TOML, or is written in a way that
/// cannot be edited without risk.
pub fn set(text: &str, chat: &str, wanted: &Wanted) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let file = File { text };
    match document.get("chats") {
        Some(Item::Value(Value::InlineTable(chats))) => file.with_member(chats, chat, wanted),
        Some(Item::Table(chats)) => match chats.get_key_value(chat) {
            // Where there are only sections of chats. A table of dotted keys counts as implicit, too, and cannot be reopened.
            None if chats.is_implicit() && !chats.is_dotted() => Some(file.with_section(chat, wanted)),
            None => file.with_line(chats, &quoted(chat), &wanted.value()),
            Some((_, Item::Value(value))) => Some(file.spliced(vec![(value.span()?, wanted.value())])),
            Some((_, Item::Table(own))) => file.with_members(own, wanted),
            Some(_) => None,
        },
        None => Some(file.with_section(chat, wanted)),
        Some(_) => None,
    }
}

/// The text without the override of `chat`; `None` as above, or where there is none.
pub fn unset(text: &str, chat: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let file = File { text };
    match document.get("chats")? {
        Item::Value(Value::InlineTable(chats)) => file.without_member(chats, chat),
        Item::Table(chats) => match chats.get_key_value(chat)? {
            (key, Item::Value(value)) => Some(file.spliced(vec![(file.lines(key, value)?, String::new())])),
            (_, Item::Table(own)) => {
                let header = (!own.is_dotted()).then(|| own.span()).flatten();
                let mut lines: Vec<_> = header.into_iter().map(|header| file.whole_lines(header)).collect();
                for (key, item) in own {
                    lines.push(file.lines(own.key(key)?, item.as_value()?)?);
                }
                Some(file.spliced(lines.into_iter().map(|range| (range, String::new())).collect()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// For `chats = { … }` with dotted keys, where its value is written anew. On several lines it may hold comments, which
/// would be lost.
fn inline(text: &str, edit: impl FnOnce(&mut InlineTable) -> Option<()>) -> Option<String> {
    let span = Document::parse(text).ok()?.get("chats")?.span().filter(|span| !text[span.clone()].contains('\n'))?;
    let mut document: DocumentMut = text.parse().ok()?;
    let chats = document.get_mut("chats")?.as_inline_table_mut()?;
    edit(chats)?;
    chats.decor_mut().clear();
    Some(File { text }.spliced(vec![(span, chats.to_string())]))
}

/// As a basic string, whose escapes are those of JSON. Only DEL may stand in the one and not in the other.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A policy file that is edited by ranges.
struct File<'t> {
    text: &'t str,
}

impl File<'_> {
    /// With the edits made. They must not overlap. What is put into an empty range is lines of their own.
    fn spliced(&self, mut edits: Vec<(Range<usize>, String)>) -> String {
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut new = String::with_capacity(self.text.len());
        let mut from = 0;
        for (range, text) in edits {
            new.push_str(&self.text[from..range.start]);
            let unfinished = new.len() > self.start() && !new.ends_with('\n');
            if range.is_empty() && unfinished {
                new.push_str(self.line_end());
            }
            new.push_str(&text);
            from = range.end;
        }
        new + &self.text[from..]
    }

    fn line_end(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// Where the first line begins: after a byte order mark.
    fn start(&self) -> usize {
        if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
    }

    /// The whole lines, ends included, that a range touches.
    fn whole_lines(&self, range: Range<usize>) -> Range<usize> {
        let start = self.text[..range.start].rfind('\n').map_or(self.start(), |newline| newline + 1);
        let end = self.text[range.end..].find('\n').map_or(self.text.len(), |newline| range.end + newline + 1);
        start..end
    }

    /// With an override in `chats = { … }`.
    fn with_member(&self, chats: &InlineTable, chat: &str, wanted: &Wanted) -> Option<String> {
        let values = chats.get_values();
        let (span, new) = match chats.get(chat) {
            Some(Value::InlineTable(own)) if own.is_dotted() => {
                return inline(self.text, |chats| {
                    chats.insert(chat, wanted.value().parse().ok()?);
                    Some(())
                });
            }
            Some(value) => (value.span()?, wanted.value()),
            None => {
                let member = format!("{} = {}", quoted(chat), wanted.value());
                match values.iter().filter_map(|(_, value)| value.span()).max_by_key(|span| span.end) {
                    Some(last) => (last.clone(), format!("{}, {member}", &self.text[last])),
                    None => (chats.span()?, format!("{{ {member} }}")),
                }
            }
        };
        Some(self.spliced(vec![(span, new)]))
    }

    /// Without an override in `chats = { … }`, and without the comma that it no longer needs.
    fn without_member(&self, chats: &InlineTable, chat: &str) -> Option<String> {
        let (key, item) = chats.get_key_value(chat)?;
        if item.as_inline_table().is_some_and(InlineTable::is_dotted) {
            return inline(self.text, |chats| chats.remove(chat).map(drop));
        }
        let member = key.span()?.start..item.span()?.end;
        let comma = |from: usize| Some(self.next(from)).filter(|at| self.text[*at..].starts_with(','));
        if let Some(comma) = comma(member.end) {
            return Some(self.spliced(vec![(self.own_lines(member.start..comma + 1), String::new())]));
        }
        let values = chats.get_values();
        let before = values.iter().filter_map(|(_, value)| value.span()).filter(|span| span.end <= member.start);
        let mut cut = vec![self.own_lines(member.clone())];
        match before.map(|span| span.end).max().and_then(comma) {
            Some(comma) if self.text[comma..member.start].contains('\n') => cut.push(comma..comma + 1),
            Some(comma) => cut[0] = comma..member.end,
            None => {}
        }
        Some(self.spliced(cut.into_iter().map(|range| (range, String::new())).collect()))
    }

    /// Where the next token begins, after blanks and comments.
    fn next(&self, from: usize) -> usize {
        let mut at = from;
        loop {
            let rest = self.text[at..].trim_start();
            at = self.text.len() - rest.len();
            if !rest.starts_with('#') {
                return at;
            }
            at = self.whole_lines(at..at).end;
        }
    }

    /// The whole lines of a range that has them for itself, but for a comment behind it; else itself, and the blanks
    /// behind it.
    fn own_lines(&self, range: Range<usize>) -> Range<usize> {
        let lines = self.whole_lines(range.clone());
        let behind = self.text[range.end..lines.end].trim();
        if self.text[lines.start..range.start].trim().is_empty() && (behind.is_empty() || behind.starts_with('#')) {
            return lines;
        }
        let rest = &self.text[range.end..];
        range.start..self.text.len() - rest.trim_start_matches([' ', '\t']).len()
    }

    fn lines(&self, key: &Key, value: &Value) -> Option<Range<usize>> {
        Some(self.whole_lines(key.span()?.start..value.span()?.end))
    }

    /// With a new line in a table, after its last or else after its header.
    fn with_line(&self, table: &Table, key: &str, value: &str) -> Option<String> {
        let values = table.get_values();
        let last = values.iter().filter_map(|(path, value)| Some((path.first()?.span()?, value.span()?)));
        let (after, prefix) = match last.max_by_key(|(_, span)| span.end) {
            Some((key, value)) => (self.whole_lines(value), self.before(key)),
            None => (self.whole_lines(table.span()?), ""),
        };
        Some(self.spliced(vec![self.insert(after.end, &format!("{prefix}{key} = {value}"))]))
    }

    /// What stands before a key in its line: the indentation, and where it is dotted the names of its tables.
    fn before(&self, key: Range<usize>) -> &str {
        &self.text[self.whole_lines(key.clone()).start..key.start]
    }

    /// A new line at an offset where a line begins, or at the end of the file.
    fn insert(&self, at: usize, line: &str) -> (Range<usize>, String) {
        (at..at, format!("{line}{}", self.line_end()))
    }

    /// With a section of its own at the end.
    fn with_section(&self, chat: &str, wanted: &Wanted) -> String {
        let end = self.line_end();
        let blank = if self.text[self.start()..].trim().is_empty() { "" } else { end };
        let section = format!("{blank}[chats]{end}{} = {}", quoted(chat), wanted.value());
        self.spliced(vec![self.insert(self.text.len(), &section)])
    }

    /// For an override that is a table with lines of its own: each is replaced, added or removed.
    fn with_members(&self, own: &Table, wanted: &Wanted) -> Option<String> {
        let values = own.get_values();
        let spans = values.iter().filter_map(|(path, value)| Some((path.first()?.span()?, value.span()?)));
        let (key, value) = spans.max_by_key(|(_, span)| span.end)?;
        let (end, prefix) = (self.whole_lines(value).end, self.before(key));
        let mut edits = Vec::new();
        let mut new = Vec::new();
        for (name, value) in wanted.members() {
            match (own.get_key_value(name), value) {
                (Some((_, item)), Some(value)) => edits.push((item.as_value()?.span()?, value)),
                (Some((key, item)), None) => edits.push((self.lines(key, item.as_value()?)?, String::new())),
                (None, Some(value)) => new.push(format!("{prefix}{name} = {value}")),
                (None, None) => {}
            }
        }
        if !new.is_empty() {
            edits.push(self.insert(end, &new.join(self.line_end())));
        }
        Some(self.spliced(edits))
    }
}
