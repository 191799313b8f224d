//! Edits that replace ranges of a text, and the hunks of a unified diff that shows them.

use std::ops::Range;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// One edit: a range of a text, and its replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// The range to be replaced, in bytes. An empty range is an insertion.
    pub range: Range<usize>,
    /// The replacement.
    pub text: String,
}

/// The text with these edits made, in pieces. The edits must be sorted and must not overlap.
pub fn spliced<'a>(text: &'a str, splices: &'a [Splice]) -> impl Iterator<Item = &'a str> {
    let starts = std::iter::once(0).chain(splices.iter().map(|splice| splice.range.end));
    let ends = splices.iter().map(|splice| splice.range.start).chain(std::iter::once(text.len()));
    let new = splices.iter().map(|splice| splice.text.as_str()).chain(std::iter::once(""));
    starts.zip(ends).zip(new).flat_map(move |((start, end), new)| [&text[start..end], new])
}

/// Lines that change, with up to three unchanged lines before and after them.
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

/// The hunks of a diff between a text and its edited form. Apart from one pass that counts lines, the time depends on the number of
/// edits, and not on the size of the text.
#[derive(Debug)]
pub struct Hunks<'a> {
    text: &'a str,
    splices: std::vec::IntoIter<Splice>,
    /// The offset up to which lines were counted, in bytes.
    counted: usize,
    /// The number of the line at `counted` in the old text.
    old_line: usize,
    /// The number of the line at `counted` in the new text.
    new_line: usize,
}

impl<'a> Hunks<'a> {
    /// The hunks of `text` edited by `splices`, which must be sorted and must not overlap.
    pub fn new(text: &'a str, splices: Vec<Splice>) -> Self {
        Self { text, splices: splices.into_iter(), counted: 0, old_line: 1, new_line: 1 }
    }

    /// The edits of the next hunk, and the range of its lines: edits whose lines overlap or touch, context included.
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
            // At the end of the text there is no further line to look for. In a file of one long line, this keeps the loop linear.
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

/// The start of the first context line before an offset.
fn lines_back(text: &str, from: usize) -> usize {
    let mut start = text[..from].rfind('\n').map_or(0, |newline| newline + 1);
    for _ in 0..CONTEXT {
        start = text[..start.saturating_sub(1)].rfind('\n').map_or(0, |newline| newline + 1);
    }
    start
}

/// The end of the last context line after an offset.
fn lines_on(text: &str, from: usize) -> usize {
    let mut end = from;
    for _ in 0..=CONTEXT {
        end = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    }
    end
}
