//! The fast reader. What it accepts is a well-formed registry. It gives up on anything that is malformed or unusual, and then the
//! slow reader decides. So it has no error messages.
//!
//! It is fast because the entries of a registry look alike. The bytes between the end of one member and the value of the next mostly
//! equal those at the same index in the entry before. If they do, one comparison finds and identifies the key. Strings are skipped
//! sixteen bytes at a time.
//!
//! Parts of a registry can be read in parallel. A part begins where an entry seems to begin: after a line break, which cannot be
//! inside a string. The thread that reads the part before proves this, by ending exactly there, after a comma between entries. If it
//! ends elsewhere, nothing that was read counts.

use std::borrow::Cow;

use memchr::memmem;
use wide::u8x16;

use crate::registry::json::fields::{Fields, Member};
use crate::registry::json::raw::decoded;
use crate::registry::{Entry, Position};

/// Values that are nested deeper than this are left to the slow reader.
const MAX_DEPTH: usize = 32;

/// How a string is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// Without escapes: the bytes between the quotes are the text.
    Plainly,
    WithEscapes,
}

/// A part of a registry: up to where the next part begins, or to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its offset in the registry, in bytes.
    pub(super) start: usize,
    begins_with: Begins,
    /// The offset of the next part.
    next: Option<usize>,
}

/// What a part begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// The brace that opens the registry.
    Brace,
    /// The key of an entry.
    Entry,
}

impl Part {
    /// A registry from its beginning to its end.
    pub(super) const WHOLE: Self = Self { start: 0, begins_with: Begins::Brace, next: None };

    /// The parts of a registry that begin at these offsets. Offsets that are not in ascending order are left out.
    pub(super) fn between(seams: impl Iterator<Item = usize>) -> Vec<Self> {
        let mut parts = vec![Self::WHOLE];
        for start in seams {
            if let Some(last) = parts.last_mut().filter(|last| last.start < start) {
                last.next = Some(start);
                parts.push(Self { start, begins_with: Begins::Entry, next: None });
            }
        }
        parts
    }
}

/// A contiguous piece of a registry's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub(super) text: &'a str,
    /// Its offset in the registry, in bytes.
    pub(super) start: usize,
    /// Whether the registry ends with it.
    pub(super) is_last: bool,
}

impl<'a> Window<'a> {
    /// The whole text of a registry.
    pub(super) fn whole(text: &'a str) -> Self {
        Self { text, start: 0, is_last: true }
    }
}

/// The text between two entries, up to the quote that opens the second, if each entry begins on a line of its own; `None` where the
/// beginning of the registry does not look like that. With a `key`, the entries are the members of its value.
pub(super) fn between_entries(beginning: &str, key: Option<&str>) -> Option<String> {
    let mut reader = Reader::at(Window::whole(beginning), 0);
    reader.open(key)?;
    let start = reader.at;
    reader.blanks();
    let lead = beginning.get(start..reader.at).filter(|lead| lead.contains('\n'))?;
    Some(format!(",{lead}\""))
}

/// The offset after `from` at which an entry seems to begin: right after the comma of the text between two entries.
pub(super) fn seam(text: &[u8], from: usize, between: &memmem::Finder) -> Option<usize> {
    between.find(text.get(from..)?).map(|at| from + at + 1)
}

/// Reads a part as far as it is in a window, and calls `each` for every entry, in the order of the file. Returns the rest of the
/// part, which begins with an entry that does not end in the window, or is unusual; `None` where the whole part was read. With a
/// `key`, the entries are the members of its value.
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
    if part.begins_with == Begins::Brace {
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
        left = Part { start: window.start + reader.at, begins_with: Begins::Entry, ..part };
        if part.next == Some(left.start) {
            return None;
        }
        reader.blanks();
    }
}

/// Reads one window. Its methods move past what they read, and return `None` where it is malformed or unusual.
struct Reader<'a> {
    window: Window<'a>,
    /// The offset in the window, in bytes.
    at: usize,
    /// The leads of the members of the entry before.
    leads: Vec<Lead<'a>>,
}

/// The bytes before the value of a member, and the member that they begin.
struct Lead<'a> {
    /// From the end of the value before to the value: comma, blanks, key, colon.
    bytes: &'a [u8],
    member: Member,
}

impl<'a> Reader<'a> {
    fn at(window: Window<'a>, at: usize) -> Self {
        Self { window, at, leads: Vec::new() }
    }

    fn rest(&self) -> &'a [u8] {
        self.window.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte, or 0 at the end of the window, which no token begins with.
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

    /// The text of the string that was read from `start` on.
    fn said(&self, start: usize, written: Written) -> Option<Cow<'a, str>> {
        let raw = self.window.text.get(start..self.at)?;
        match written {
            Written::Plainly => raw.get(1..raw.len() - 1).map(Cow::Borrowed),
            Written::WithEscapes => Some(decoded(raw)),
        }
    }

    /// Moves past the brace that opens the object of entries.
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

    /// Moves past the members after the object of entries. None of them may have the key of that object.
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

    /// Moves past the key of a member to its value.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        let written = self.string()?;
        let name = self.said(start, written)?;
        self.colon()?;
        Some(name)
    }

    /// Moves past what follows the entries, and returns whether the registry and the part end there.
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
        let mut has_strict = [false; Member::STRICT.len()];
        for index in 0.. {
            let field = self.lead(index)?;
            if let Some(has_it) = field.strict().and_then(|strict| has_strict.get_mut(strict)) {
                if *has_it || !matches!(self.peek(), b'"' | b'n') {
                    return None;
                }
                *has_it = true;
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

    /// Moves from the end of a member to the value of the next, which has this index in its entry. Returns which member that is.
    fn lead(&mut self, index: usize) -> Option<Member> {
        if let Some(lead) = self.leads.get(index).filter(|lead| self.rest().starts_with(lead.bytes)) {
            self.at += lead.bytes.len();
            let member = lead.member;
            self.blanks();
            return Some(member);
        }
        let end = self.at;
        self.blanks();
        let member = Member::named(&self.name()?);
        let lead = Lead { bytes: self.window.text.as_bytes().get(end..self.at)?, member };
        match self.leads.get_mut(index) {
            Some(before) => *before = lead,
            None => self.leads.push(lead),
        }
        Some(member)
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'{' | b'[' if depth == MAX_DEPTH => None,
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

    /// Moves past a string, and returns how it is written.
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

/// The index of the first byte that ends or interrupts the plain text of a string: a quote, a backslash, or a control character.
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
