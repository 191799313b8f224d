//! Edits of a text by ranges of its bytes, and what they change as the hunks of a unified diff.

use std::ops::Range;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// A range of bytes, and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// In bytes of the text.
    pub range: Range<usize>,
    /// The new text.
    pub text: String,
}

/// The text with the edits made, in pieces. They must be sorted and must not overlap.
pub fn spliced<'a>(text: &'a str, splices: &'a [Splice]) -> impl Iterator<Item = &'a str> {
    let starts = std::iter::once(0).chain(splices.iter().map(|splice| splice.range.end));
    let ends = splices.iter().map(|splice| splice.range.start).chain(std::iter::once(text.len()));
    let new = splices.iter().map(|splice| splice.text.as_str()).chain(std::iter::once(""));
    starts.zip(ends).zip(new).flat_map(move |((start, end), new)| [&text[start..end], new])
}

/// Lines that change, with a few around them that do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk<'a> {
    /// The number of the first old line, counted from 1.
    pub old_line: usize,
    /// The number of the first new line, counted from 1.
    pub new_line: usize,
    /// The old lines, with their ends.
    pub old: &'a str,
    /// The new lines, with their ends.
    pub new: String,
}

/// The hunks of a text and edits of it, which must be sorted and must not overlap. What they cost follows the edits, but
/// for one pass that counts lines.
#[derive(Debug)]
pub struct Hunks<'a> {
    text: &'a str,
    splices: std::vec::IntoIter<Splice>,
    /// How far lines are counted, in bytes.
    counted: usize,
    old_line: usize,
    new_line: usize,
}

impl<'a> Hunks<'a> {
    /// Those of `text` edited by `splices`.
    pub fn new(text: &'a str, splices: Vec<Splice>) -> Self {
        Self { text, splices: splices.into_iter(), counted: 0, old_line: 1, new_line: 1 }
    }

    /// The next edits whose lines, with those around them, touch each other, and the range of these lines.
    fn group(&mut self) -> Option<(Vec<Splice>, Range<usize>)> {
        let first = self.splices.next()?;
        let start = lines_back(self.text, first.range.start);
        let mut end = lines_on(self.text, first.range.end);
        let mut group = vec![first];
        while let Some(next) = self.splices.as_slice().first() {
            let is_near = next.range.start < end || lines_back(self.text, next.range.start) <= end;
            if !is_near {
                break;
            }
            // In a long line, looking for its end once is enough.
            if end < self.text.len() {
                end = lines_on(self.text, next.range.end).max(end);
            }
            group.extend(self.splices.next());
        }
        Some((group, start..end))
    }
}

impl<'a> Iterator for Hunks<'a> {
    type Item = Hunk<'a>;

    fn next(&mut self) -> Option<Hunk<'a>> {
        let (mut group, range) = self.group()?;
        for splice in &mut group {
            splice.range = splice.range.start - range.start..splice.range.end - range.start;
        }
        let between = self.text[self.counted..range.start].matches('\n').count();
        let old = &self.text[range.clone()];
        let new: String = spliced(old, &group).collect();
        let hunk = Hunk { old_line: self.old_line + between, new_line: self.new_line + between, old, new };
        self.counted = range.end;
        self.old_line = hunk.old_line + hunk.old.split_inclusive('\n').count();
        self.new_line = hunk.new_line + hunk.new.split_inclusive('\n').count();
        Some(hunk)
    }
}

fn lines_back(text: &str, from: usize) -> usize {
    let mut start = text[..from].rfind('\n').map_or(0, |newline| newline + 1);
    for _ in 0..CONTEXT {
        start = text[..start.saturating_sub(1)].rfind('\n').map_or(0, |newline| newline + 1);
    }
    start
}

fn lines_on(text: &str, from: usize) -> usize {
    let mut end = from;
    for _ in 0..=CONTEXT {
        end = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    }
    end
}
