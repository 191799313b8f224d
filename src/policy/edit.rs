//! Edits of the overrides in the text of a policy. Only the bytes of an override are replaced, so comments, order,
//! layout and line ends stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml_edit::{Document, DocumentMut, InlineTable, Item, Key, Table, Value};

use crate::chat::Model;
use crate::policy::Until;
use crate::splice::Splice;

/// What an override is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The model.
    pub model: &'a Model,
    /// When the override ends.
    pub until: Option<&'a Until>,
    /// The model from that end on.
    pub then: Option<&'a Model>,
    /// Why the override is there.
    pub reason: Option<&'a str>,
}

/// One key of an override.
struct Member {
    key: &'static str,
    /// Its value as TOML; `None` where the override must not have the key.
    value: Option<String>,
}

impl Wanted<'_> {
    /// Every key that an override can have, `was` excepted.
    fn members(&self) -> Vec<Member> {
        let member = |key, value| Member { key, value };
        vec![
            member("model", Some(quoted(self.model.as_str()))),
            member("until", self.until.map(ToString::to_string)),
            member("then", self.then.map(|model| quoted(model.as_str()))),
            member("reason", self.reason.map(quoted)),
            member("managed", None),
        ]
    }

    /// The override as a TOML value that replaces `old`, whose `was` it keeps.
    fn value(&self, old: Option<&Value>) -> String {
        let was = old.and_then(|old| old.as_inline_table()?.get("was"));
        if self.until.is_none() && self.reason.is_none() && was.is_none() {
            return quoted(self.model.as_str());
        }
        let was = Member { key: "was", value: was.map(|was| was.to_string().trim().to_owned()) };
        let members = self.members().into_iter().chain([was]);
        let members = members.filter_map(|member| Some(format!("{} = {}", member.key, member.value?)));
        format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
    }
}

/// The text with the override of `chat` replaced or added; `None` where the text is not TOML, or is written in a way that
/// cannot be edited without risk.
pub fn set(text: &str, chat: &str, wanted: &Wanted) -> Option<String> {
    set_all(text, &BTreeMap::from([(chat, *wanted)])).ok()
}

/// The text with the overrides of these chats replaced or added, as if they were set one after the other. The text is
/// parsed once for all of them, and a second time where an inline table with dotted keys must be written anew first.
///
/// # Errors
/// The first chat whose override cannot be edited without risk. Where the text is not TOML, the first of all.
pub fn set_all<'c>(text: &str, overrides: &BTreeMap<&'c str, Wanted>) -> Result<String, &'c str> {
    let Some(first) = overrides.keys().next() else { return Ok(text.to_owned()) };
    let document = Document::parse(text).map_err(|_| *first)?;
    let file = File::new(text);
    match document.get("chats") {
        Some(Item::Value(Value::InlineTable(chats))) => file.with_members(chats, overrides),
        Some(Item::Table(chats)) => file.with_lines(Some(chats), overrides),
        None => file.with_lines(None, overrides),
        Some(_) => Err(first),
    }
}

/// The text with a comment after the override of `chat`; `None` where the override is not the last thing on its line, such as before
/// another comment, and where the comment has control characters, which could end its line.
pub(crate) fn with_comment(text: &str, chat: &str, comment: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let end = document.get("chats")?.as_table()?.get(chat)?.as_value()?.span()?.end;
    let (before, behind) = text.split_at_checked(end)?;
    let is_last = behind.lines().next().is_none_or(|rest| rest.trim().is_empty());
    let stays = !comment.contains(char::is_control);
    (is_last && stays).then(|| format!("{before}  # {comment}{behind}"))
}

/// The text without the override of `chat`; `None` where the chat has no override, the text is not TOML, or the text is
/// written in a way that cannot be edited without risk.
pub fn unset(text: &str, chat: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let file = File::new(text);
    match document.get("chats")? {
        Item::Value(Value::InlineTable(chats)) => file.without_member(chats, chat),
        Item::Table(chats) => match chats.get_key_value(chat)? {
            (key, Item::Value(value)) => Some(file.without(vec![file.lines(key, value)?])),
            (_, Item::Table(own)) => {
                let header = (!own.is_dotted()).then(|| own.span()).flatten();
                let mut lines: Vec<_> = header.into_iter().map(|header| file.whole_lines(header)).collect();
                for (key, item) in own {
                    lines.push(file.lines(own.key(key)?, item.as_value()?)?);
                }
                Some(file.without(lines))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The text with the whole value of `chats = { … }` written anew after an edit: for dotted keys, which cannot be edited
/// by ranges. `None` where the value is on several lines, because comments in it would be lost.
fn inline(text: &str, edit: impl FnOnce(&mut InlineTable) -> Option<()>) -> Option<String> {
    let span = Document::parse(text).ok()?.get("chats")?.span().filter(|span| !text[span.clone()].contains('\n'))?;
    let mut document: DocumentMut = text.parse().ok()?;
    let chats = document.get_mut("chats")?.as_inline_table_mut()?;
    edit(chats)?;
    chats.decor_mut().clear();
    Some(File::new(text).spliced(vec![Splice { range: span, text: chats.to_string() }]))
}

/// A basic string of TOML. Its escapes are those of JSON; besides, DEL must be escaped in TOML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A policy file that is edited by ranges.
struct File<'t> {
    text: &'t str,
    line_end: &'static str,
}

impl<'t> File<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, line_end: if text.contains("\r\n") { "\r\n" } else { "\n" } }
    }

    /// The text without these ranges, which must not overlap.
    fn without(&self, ranges: Vec<Range<usize>>) -> String {
        self.spliced(ranges.into_iter().map(|range| Splice { range, text: String::new() }).collect())
    }

    /// The text with these edits made, which must not overlap. An insertion consists of whole lines: it begins a new line.
    fn spliced(&self, mut edits: Vec<Splice>) -> String {
        edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let mut new = String::with_capacity(self.text.len());
        let mut from = 0;
        for Splice { range, text } in edits {
            new.push_str(&self.text[from..range.start]);
            let unfinished = new.len() > self.start() && !new.ends_with('\n');
            if range.is_empty() && unfinished {
                new.push_str(self.line_end);
            }
            new.push_str(&text);
            from = range.end;
        }
        new + &self.text[from..]
    }

    /// Where the first line begins: after a byte order mark.
    fn start(&self) -> usize {
        if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
    }

    /// The lines that a range touches, with their line ends.
    fn whole_lines(&self, range: Range<usize>) -> Range<usize> {
        let start = self.text[..range.start].rfind('\n').map_or(self.start(), |newline| newline + 1);
        let end = self.text[range.end..].find('\n').map_or(self.text.len(), |newline| range.end + newline + 1);
        start..end
    }

    /// The text with these overrides set in `chats = { … }`.
    fn with_members<'c>(&self, chats: &InlineTable, overrides: &BTreeMap<&'c str, Wanted>) -> Result<String, &'c str> {
        let is_dotted =
            |chat: &str| chats.get(chat).and_then(Value::as_inline_table).is_some_and(InlineTable::is_dotted);
        let (dotted, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            overrides.iter().map(|(chat, wanted)| (*chat, *wanted)).partition(|(chat, _)| is_dotted(chat));
        if let Some(first) = dotted.keys().next() {
            let new = inline(self.text, |chats| {
                for (chat, wanted) in &dotted {
                    let value = wanted.value(chats.get(chat)).parse().ok()?;
                    chats.insert(*chat, value);
                }
                Some(())
            });
            return set_all(&new.ok_or(*first)?, &others);
        }
        let mut edits = BTreeMap::new();
        let mut new = Vec::new();
        for (chat, wanted) in overrides {
            match chats.get(chat) {
                Some(value) => {
                    let range = value.span().ok_or(*chat)?;
                    edits.insert(range.start, Splice { range, text: wanted.value(Some(value)) });
                }
                None => new.push((*chat, format!("{} = {}", quoted(chat), wanted.value(None)))),
            }
        }
        if let Some((first, _)) = new.first() {
            let members = new.iter().map(|(_, member)| member.as_str()).collect::<Vec<_>>().join(", ");
            let values = chats.get_values();
            let last = values.iter().filter_map(|(_, value)| value.span()).max_by_key(|span| span.end);
            if let Some(last) = last {
                // The new members follow the last value, or its replacement.
                let kept = self.text[last.clone()].to_owned();
                let edit = edits.entry(last.start).or_insert(Splice { range: last, text: kept });
                edit.text = format!("{}, {members}", edit.text);
            } else {
                let span = chats.span().ok_or(*first)?;
                edits.insert(span.start, self.first_members(span, &members));
            }
        }
        Ok(self.spliced(edits.into_values().collect()))
    }

    /// Gives an inline table its first members. The table may have comments in it, on lines of their own.
    fn first_members(&self, table: Range<usize>, members: &str) -> Splice {
        let brace = table.end - 1;
        if self.text[table.clone()].contains('#') {
            return Splice { range: brace..table.end, text: format!("  {members}{}}}", self.line_end) };
        }
        Splice { range: table, text: format!("{{ {members} }}") }
    }

    /// The text without an override in `chats = { … }`, and without the comma before or after it.
    fn without_member(&self, chats: &InlineTable, chat: &str) -> Option<String> {
        let (key, item) = chats.get_key_value(chat)?;
        if item.as_inline_table().is_some_and(InlineTable::is_dotted) {
            return inline(self.text, |chats| chats.remove(chat).map(drop));
        }
        let member = key.span()?.start..item.span()?.end;
        let comma = |from: usize| Some(self.next(from)).filter(|at| self.text[*at..].starts_with(','));
        if let Some(comma) = comma(member.end) {
            return Some(self.without(vec![self.own_lines(member.start..comma + 1)]));
        }
        let values = chats.get_values();
        let before = values.iter().filter_map(|(_, value)| value.span()).filter(|span| span.end <= member.start);
        let mut cut = vec![self.own_lines(member.clone())];
        match before.map(|span| span.end).max().and_then(comma) {
            Some(comma) if self.text[comma..member.start].contains('\n') => cut.push(comma..comma + 1),
            Some(comma) => cut[0] = comma..member.end,
            None => {}
        }
        Some(self.without(cut))
    }

    /// The offset of the next token, after blanks and comments.
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

    /// What to remove with a range: its whole lines where nothing else but a comment is on them, or else the blanks after it.
    fn own_lines(&self, range: Range<usize>) -> Range<usize> {
        let lines = self.whole_lines(range.clone());
        let behind = self.text[range.end..lines.end].trim();
        if self.text[lines.start..range.start].trim().is_empty() && (behind.is_empty() || behind.starts_with('#')) {
            return lines;
        }
        let rest = &self.text[range.end..];
        range.start..self.text.len() - rest.trim_start_matches([' ', '\t']).len()
    }

    /// The lines of a key and its value.
    fn lines(&self, key: &Key, value: &Value) -> Option<Range<usize>> {
        Some(self.whole_lines(key.span()?.start..value.span()?.end))
    }

    /// The text with these overrides set on lines of their own: in `[chats]`, in sections of their own, or with dotted keys.
    fn with_lines<'c>(&self, chats: Option<&Table>, overrides: &BTreeMap<&'c str, Wanted>) -> Result<String, &'c str> {
        let mut edits = Vec::new();
        let mut new: Option<NewLines> = None;
        for (chat, wanted) in overrides {
            match chats.and_then(|chats| chats.get(chat)) {
                Some(Item::Value(value)) => {
                    let range = value.span().ok_or(*chat)?;
                    edits.push(Splice { range, text: wanted.value(Some(value)) });
                }
                Some(Item::Table(own)) => edits.extend(self.member_lines(own, wanted).ok_or(*chat)?),
                Some(_) => return Err(chat),
                None => {
                    let lines = match new.take() {
                        Some(lines) => lines,
                        None => self.new_lines(chats, &edits).ok_or(*chat)?,
                    };
                    new = Some(lines.with(&format!("{} = {}", quoted(chat), wanted.value(None)), self.line_end));
                }
            }
        }
        // Last, because an insertion at the same offset belongs to the line before.
        edits.extend(new.map(|new| self.insert(new.at, &new.text)));
        Ok(self.spliced(edits))
    }

    /// Where new overrides go once these edits are made: after the last line of the table, or else after its header, or
    /// else into a new section `[chats]` at the end. A table of dotted keys, or of sections such as `[chats.a]`, has no header.
    fn new_lines(&self, chats: Option<&Table>, edits: &[Splice]) -> Option<NewLines<'_>> {
        let values = chats.map(Table::get_values).unwrap_or_default();
        let spans = values.iter().filter_map(|(path, value)| Some((path.first()?.span()?, value.span()?)));
        // A line that is removed is not the last one, unless a line is inserted right after it.
        let insertions = edits.iter().filter(|edit| edit.range.is_empty());
        let inserted: BTreeSet<usize> = insertions.map(|edit| edit.range.end).collect();
        let removals = edits.iter().filter(|edit| edit.text.is_empty() && !inserted.contains(&edit.range.end));
        let removed: BTreeSet<usize> = removals.map(|edit| edit.range.end).collect();
        let stays = |value: &Range<usize>| !removed.contains(&self.whole_lines(value.clone()).end);
        let last = spans.filter(|(_, value)| stays(value)).max_by_key(|(_, value)| value.end);
        if let Some((key, value)) = last {
            return Some(NewLines { at: self.whole_lines(value).end, prefix: self.before(key), text: String::new() });
        }
        if let Some(chats) = chats.filter(|chats| !chats.is_implicit() && !chats.is_dotted()) {
            return Some(NewLines { at: self.whole_lines(chats.span()?).end, prefix: "", text: String::new() });
        }
        let blank = if self.text[self.start()..].trim().is_empty() { "" } else { self.line_end };
        Some(NewLines { at: self.text.len(), prefix: "", text: format!("{blank}[chats]") })
    }

    /// The text before a key in its line: the indentation, and the tables of a dotted key.
    fn before(&self, key: Range<usize>) -> &str {
        &self.text[self.whole_lines(key.clone()).start..key.start]
    }

    /// Inserts a line at an offset where a line begins, or at the end of the file.
    fn insert(&self, at: usize, line: &str) -> Splice {
        Splice { range: at..at, text: format!("{line}{}", self.line_end) }
    }

    /// The edits of an override whose keys have lines of their own: each line is replaced, added or removed.
    fn member_lines(&self, own: &Table, wanted: &Wanted) -> Option<Vec<Splice>> {
        let values = own.get_values();
        let spans = values.iter().filter_map(|(path, value)| Some((path.first()?.span()?, value.span()?)));
        let (key, value) = spans.max_by_key(|(_, span)| span.end)?;
        let (end, prefix) = (self.whole_lines(value).end, self.before(key));
        let mut edits = Vec::new();
        let mut new = Vec::new();
        for Member { key: name, value } in wanted.members() {
            match (own.get_key_value(name), value) {
                (Some((_, item)), Some(text)) => edits.push(Splice { range: item.as_value()?.span()?, text }),
                (Some((key, item)), None) => {
                    edits.push(Splice { range: self.lines(key, item.as_value()?)?, text: String::new() });
                }
                (None, Some(value)) => new.push(format!("{prefix}{name} = {value}")),
                (None, None) => {}
            }
        }
        if !new.is_empty() {
            edits.push(self.insert(end, &new.join(self.line_end)));
        }
        Some(edits)
    }
}

/// Lines to be inserted at one offset.
struct NewLines<'t> {
    at: usize,
    /// The text before the key of each override.
    prefix: &'t str,
    /// The lines so far, without the end of the last one.
    text: String,
}

impl NewLines<'_> {
    /// Adds a line.
    fn with(mut self, line: &str, line_end: &str) -> Self {
        if !self.text.is_empty() {
            self.text.push_str(line_end);
        }
        self.text.push_str(self.prefix);
        self.text.push_str(line);
        self
    }
}
