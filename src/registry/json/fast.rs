//! The fast reader. It knows no mistakes: what it accepts is a well-formed registry, and it gives up on anything else,
//! on purpose or because it is unusual. Whoever asked then asks the slow reader, which decides.
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

/// A part of a registry: from the key of an entry to where the next part begins, or to the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    start: usize,
    next: Option<usize>,
}

/// At most `most` parts that together seem to be the registry; none where it does not look like one.
pub(super) fn parts(text: &str, most: usize) -> Vec<Part> {
    let Some((start, lead)) = opening(text) else { return Vec::new() };
    let mut starts = vec![start];
    if lead.contains('\n') {
        let between = format!(",{lead}\"");
        let finder = memmem::Finder::new(&between);
        for part in 1..most {
            let from = text.len() / most * part;
            let found = text.as_bytes().get(from..).and_then(|rest| finder.find(rest));
            starts.extend(found.map(|at| from + at + 1).filter(|at| starts.last().is_some_and(|last| last < at)));
        }
    }
    let nexts = starts.iter().skip(1).copied().map(Some).chain([None]);
    starts.iter().zip(nexts).map(|(start, next)| Part { start: *start, next }).collect()
}

/// Calls `each` for every entry, in the order of the file. `None`: it gave up, maybe after some entries.
pub(super) fn read<'a>(text: &'a str, each: impl FnMut(Entry<'a>)) -> Option<()> {
    let (start, _) = opening(text)?;
    read_part(text, Part { start, next: None }, each)
}

/// The same for a part. That counts only if every part was read.
pub(super) fn read_part<'a>(text: &'a str, part: Part, mut each: impl FnMut(Entry<'a>)) -> Option<()> {
    let mut reader = Reader { text, at: part.start, leads: Vec::new() };
    reader.blanks();
    if reader.peek() == b'}' && text.get(..part.start)?.ends_with('{') {
        reader.at += 1;
        return reader.end(part);
    }
    loop {
        each(reader.entry()?);
        reader.blanks();
        match reader.next() {
            b',' if part.next == Some(reader.at) => return Some(()),
            b',' => reader.blanks(),
            b'}' => return reader.end(part),
            _ => return None,
        }
    }
}

/// Where the members of a registry begin, and the blanks before the first.
fn opening(text: &str) -> Option<(usize, &str)> {
    let mut reader = Reader { text, at: 0, leads: Vec::new() };
    reader.blanks();
    reader.take(b'{')?;
    let start = reader.at;
    reader.blanks();
    Some((start, text.get(start..reader.at)?))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// What the members of the entry before began with, and which fields they were.
    leads: Vec<(&'a [u8], Member)>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The byte to be read next; at the end one that fits nowhere.
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
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
    fn said(&self, start: usize, plain: bool) -> Option<Cow<'a, str>> {
        let raw = self.text.get(start..self.at)?;
        if plain { Some(Cow::Borrowed(raw.get(1..raw.len() - 1)?)) } else { Some(decoded(raw)) }
    }

    fn end(mut self, part: Part) -> Option<()> {
        self.blanks();
        (part.next.is_none() && self.at == self.text.len()).then_some(())
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let start = self.at;
        let plain = self.string()?;
        let mut fields = Fields::new(self.said(start, plain)?, Position(start));
        self.colon()?;
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
                let plain = self.string()?;
                fields.set(field, self.said(start, plain));
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
        let start = self.at;
        let plain = self.string()?;
        let field = Member::named(&self.said(start, plain)?);
        self.colon()?;
        let lead = (self.text.as_bytes().get(end..self.at)?, field);
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
        self.text.as_bytes().get(self.at - word.len()..)?.starts_with(word).then_some(())
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

    /// Past a string. Whether it is plain: without escapes.
    fn string(&mut self) -> Option<bool> {
        self.take(b'"')?;
        let mut plain = true;
        loop {
            self.at += special(self.rest())?;
            match self.next() {
                b'"' => return Some(plain),
                b'\\' => self.escape()?,
                _ => return None,
            }
            plain = false;
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
