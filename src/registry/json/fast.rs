//! The fast reader. It knows no mistakes: what it accepts is a well-formed registry, and it gives up on anything else,
//! on purpose or because it is unusual. Then the slow reader is asked, which decides.
//!
//! What makes it fast: the entries of a registry look alike. A member begins with the same bytes, from the end of the
//! one before to its own value, as the member at the same place of the entry before, so one comparison mostly stands
//! for finding the key, reading it, and telling which field it is. Strings are passed over sixteen bytes at a time.
//!
//! Parts can be read at the same time. They begin where an entry seems to: at a line break, and inside a string there
//! is none. That this is so is proven by the thread that reads the part before, if it ends exactly there, after a comma between
//! entries. If it does not, nothing of what was read counts.

use std::borrow::Cow;

use memchr::memmem;
use wide::u8x16;

use crate::registry::json::fields::{Fields, Member};
use crate::registry::json::raw::decoded;
use crate::registry::{Entry, Position};

/// Values that are nested deeper are left to the slow reader.
const DEEPEST: usize = 32;

/// How a string is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// As the text that it stands for, between quotes.
    Plainly,
    WithEscapes,
}

/// A part of a registry that is to be read, up to where the next part begins, or to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// In bytes of the registry.
    pub(super) start: usize,
    at_start: Stands,
    next: Option<usize>,
}

/// What stands at the start of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// The brace that opens the registry.
    Brace,
    /// The key of an entry.
    Entry,
}

impl Part {
    /// A registry from its beginning to its end.
    pub(super) const WHOLE: Self = Self { start: 0, at_start: Stands::Brace, next: None };

    /// The parts of a registry that begin at these entries, as long as they lie behind each other.
    pub(super) fn between(seams: impl Iterator<Item = usize>) -> Vec<Self> {
        let mut parts = vec![Self::WHOLE];
        for start in seams {
            if let Some(last) = parts.last_mut().filter(|last| last.start < start) {
                last.next = Some(start);
                parts.push(Self { start, at_start: Stands::Entry, next: None });
            }
        }
        parts
    }
}

/// A stretch of a registry's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub(super) text: &'a str,
    /// Where it begins, in bytes of the registry.
    pub(super) start: usize,
    /// Whether the registry ends with it.
    pub(super) is_last: bool,
}

impl<'a> Window<'a> {
    /// All of a registry.
    pub(super) fn whole(text: &'a str) -> Self {
        Self { text, start: 0, is_last: true }
    }
}

/// What stands between two entries that begin lines of their own, up to the second; `None` where a registry that begins
/// so does not look like that. The entries are the members of `key`, where there is one.
pub(super) fn between_entries(beginning: &str, key: Option<&str>) -> Option<String> {
    let mut reader = Reader::at(Window::whole(beginning), 0);
    reader.open(key)?;
    let start = reader.at;
    reader.blanks();
    let lead = beginning.get(start..reader.at).filter(|lead| lead.contains('\n'))?;
    Some(format!(",{lead}\""))
}

/// Where the first entry after `from` seems to begin: behind the comma of what stands between two entries.
pub(super) fn seam(text: &[u8], from: usize, between: &memmem::Finder) -> Option<usize> {
    between.find(text.get(from..)?).map(|at| from + at + 1)
}

/// Reads a part as far as it lies in a window, and calls `each` for every entry, in the order of the file. Returns what
/// is left of the part: it begins with what does not end in the window, or is not as usual. The entries are the members
/// of `key`, where there is one.
pub(super) fn read<'a>(
    window: Window<'a>,
    part: Part,
    key: Option<&str>,
    mut each: impl FnMut(Entry<'a>),
) -> Option<Part> {
    let Some(at) = part.start.checked_sub(window.start) else { return Some(part) };
    let mut reader = Reader::at(window, at);
    let mut left = part;
    reader.blanks();
    if part.at_start == Stands::Brace {
        if reader.open(key).is_none() {
            return Some(part);
        }
        reader.blanks();
        if reader.peek() == b'}' {
            reader.at += 1;
            return Some(part).filter(|_| !reader.is_over(part, key));
        }
    }
    loop {
        let Some(entry) = reader.entry() else { return Some(left) };
        reader.blanks();
        match reader.next() {
            b',' => {}
            b'}' if reader.is_over(part, key) => {
                each(entry);
                return None;
            }
            _ => return Some(left),
        }
        each(entry);
        left = Part { start: window.start + reader.at, at_start: Stands::Entry, ..part };
        if part.next == Some(left.start) {
            return None;
        }
        reader.blanks();
    }
}

struct Reader<'a> {
    window: Window<'a>,
    /// In bytes of the window.
    at: usize,
    /// What the members of the entry before began with, and which fields they were.
    leads: Vec<(&'a [u8], Member)>,
}

impl<'a> Reader<'a> {
    fn at(window: Window<'a>, at: usize) -> Self {
        Self { window, at, leads: Vec::new() }
    }

    fn rest(&self) -> &'a [u8] {
        self.window.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The byte to be read next; at the end of the window one that fits nowhere.
    fn peek(&self) -> u8 {
        self.window.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    fn next(&mut self) -> u8 {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next() == byte).then_some(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    fn colon(&mut self) -> Option<()> {
        self.blanks();
        self.take(b':')?;
        self.blanks();
        Some(())
    }

    /// What the string says that was read from `start` on.
    fn said(&self, start: usize, written: Written) -> Option<Cow<'a, str>> {
        let raw = self.window.text.get(start..self.at)?;
        match written {
            Written::Plainly => raw.get(1..raw.len() - 1).map(Cow::Borrowed),
            Written::WithEscapes => Some(decoded(raw)),
        }
    }

    /// Past the brace that opens the object of entries.
    fn open(&mut self, key: Option<&str>) -> Option<()> {
        self.blanks();
        self.take(b'{')?;
        let Some(key) = key else { return Some(()) };
        self.blanks();
        while self.name()? != key {
            self.value(0)?;
            self.blanks();
            self.take(b',')?;
            self.blanks();
        }
        self.take(b'{')
    }

    /// Past the members that stand behind the object of entries, none of which is another of that name.
    fn close(&mut self, key: &str) -> Option<()> {
        loop {
            self.blanks();
            match self.next() {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
            self.blanks();
            if self.name()? == key {
                return None;
            }
            self.value(0)?;
        }
    }

    /// Past the key of a member, to its value.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        let written = self.string()?;
        let name = self.said(start, written)?;
        self.colon()?;
        Some(name)
    }

    /// Whether the registry ends here, and the part with it.
    fn is_over(&mut self, part: Part, key: Option<&str>) -> bool {
        if key.is_some_and(|key| self.close(key).is_none()) {
            return false;
        }
        self.blanks();
        part.next.is_none() && self.window.is_last && self.at == self.window.text.len()
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let start = self.at;
        let mut fields = Fields::new(self.name()?, Position(self.window.start + start));
        self.take(b'{')?;
        let first = self.at;
        self.blanks();
        if self.peek() == b'}' {
            self.at += 1;
            return Some(fields.entry());
        }
        self.at = first;
        let mut seen = [false; 2];
        for index in 0.. {
            let field = self.lead(index)?;
            if let Some(strict) = field.strict().and_then(|slot| seen.get_mut(slot)) {
                if *strict || !matches!(self.peek(), b'"' | b'n') {
                    return None;
                }
                *strict = true;
            }
            let start = self.at;
            if self.peek() != b'"' {
                self.value(0)?;
                fields.set(field, None);
            } else if field == Member::Other {
                self.string()?;
            } else {
                let written = self.string()?;
                fields.set(field, self.said(start, written));
            }
            self.blanks();
            match self.next() {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        Some(fields.entry())
    }

    /// From the end of a member to the value of the next, and which field that is.
    fn lead(&mut self, index: usize) -> Option<Member> {
        if let Some((lead, field)) = self.leads.get(index).filter(|(lead, _)| self.rest().starts_with(lead)) {
            self.at += lead.len();
            let field = *field;
            self.blanks();
            return Some(field);
        }
        let end = self.at;
        self.blanks();
        let field = Member::named(&self.name()?);
        let lead = (self.window.text.as_bytes().get(end..self.at)?, field);
        match self.leads.get_mut(index) {
            Some(before) => *before = lead,
            None => self.leads.push(lead),
        }
        Some(field)
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'{' | b'[' if depth == DEEPEST => None,
            b'{' => self.list(b'}', |reader| {
                reader.string()?;
                reader.colon()?;
                reader.value(depth + 1)
            }),
            b'[' => self.list(b']', |reader| reader.value(depth + 1)),
            b'n' => self.word(b"null"),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            _ => self.number(),
        }
    }

    fn list(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.blanks();
        if self.peek() == close {
            self.at += 1;
            return Some(());
        }
        loop {
            item(self)?;
            self.blanks();
            match self.next() {
                b',' => self.blanks(),
                byte => return (byte == close).then_some(()),
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.at += word.len();
        self.window.text.as_bytes().get(self.at - word.len()..)?.starts_with(word).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Past a string; returns how it is written.
    fn string(&mut self) -> Option<Written> {
        self.take(b'"')?;
        let mut written = Written::Plainly;
        loop {
            self.at += special(self.rest())?;
            match self.next() {
                b'"' => return Some(written),
                b'\\' => self.escape()?,
                _ => return None,
            }
            written = Written::WithEscapes;
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => (0..4).all(|_| self.next().is_ascii_hexdigit()).then_some(()),
            _ => None,
        }
    }
}

/// Where the first byte stands that is not simply part of a string: a quote, a backslash, or a control character.
fn special(bytes: &[u8]) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<16>();
    for (index, block) in blocks.iter().enumerate() {
        let block = u8x16::new(*block);
        let is = |byte| block.simd_eq(u8x16::splat(byte));
        let is_control = block.simd_eq(block.min(u8x16::splat(0x1F)));
        let found = (is(b'"') | is(b'\\') | is_control).to_bitmask();
        if found != 0 {
            return Some(index * 16 + found.trailing_zeros() as usize);
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    rest.iter().position(special).map(|at| bytes.len() - rest.len() + at)
}
