//! Rows of cells in columns that fit a terminal. Elsewhere nothing is cut.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::foreign::Sentence;
use crate::report::escape::{beginning, escape};
use crate::report::page::Page;
use crate::report::shown::{Naming, shown};

/// Where nothing is cut, no column is made wider than this: a long cell must not widen every row.
const WIDEST: usize = 48;
/// No cell is cut to less than this.
const NARROWEST: usize = 8;
/// What stands before the cells of a row: two spaces, the mark, a space.
const BEFORE: usize = 4;
const GAP: &str = "   ";
/// What stands before each line below a row. The bar keeps foreign text from standing at the start of a line.
const BELOW: &str = "      | ";

/// How much room a line has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// Any: the output is no terminal.
    #[default]
    Any,
    /// So many columns of a terminal.
    Columns(usize),
}

impl Width {
    fn most(self) -> usize {
        match self {
            Self::Any => usize::MAX,
            Self::Columns(columns) => columns,
        }
    }
}

/// A text, parts of which may have a colour. It is made safe to show when it is made, so that no report can forget that.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Cell(Vec<(Style, String)>);

impl Cell {
    /// A text without colours.
    pub(in crate::report) fn plain(text: impl Into<String>) -> Self {
        Self::default().and(Style::new(), text)
    }

    /// This text with more after it.
    #[must_use]
    pub(in crate::report) fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, escape(&text.into()).into_owned()));
        self
    }

    /// The text, without colours.
    pub(in crate::report) fn text(&self) -> String {
        self.0.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The text, without colours, padded to so many columns.
    pub(in crate::report) fn padded(&self, width: usize) -> String {
        format!("{}{}", self.text(), " ".repeat(width.saturating_sub(self.width())))
    }

    /// This cell as the first of a line that is not blank.
    fn at_beginning(mut self) -> Self {
        if let Some((_, text)) = self.0.first_mut() {
            *text = beginning(text).into_owned();
        }
        self
    }

    fn is_blank(&self) -> bool {
        self.0.iter().all(|(_, text)| text.trim().is_empty())
    }

    /// How many columns of a terminal the text takes.
    pub(in crate::report) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// As much of the text as fits.
    pub(in crate::report) fn cut(&self, most: usize) -> Self {
        if self.width() <= most {
            return self.clone();
        }
        let mut room = most;
        let mut parts = Vec::new();
        for (style, text) in &self.0 {
            if text.width() < room {
                room -= text.width();
                parts.push((*style, text.clone()));
            } else {
                parts.push((*style, cut(text, room)));
                break;
            }
        }
        Self(parts)
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.0.iter().try_for_each(|(style, text)| write!(out, "{style}{text}{style:#}"))
    }
}

/// A row of a table.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct TableRow {
    mark: Cell,
    cells: Vec<Cell>,
    remark: Cell,
    below: Vec<Cell>,
}

impl TableRow {
    /// A row of one character and these cells, which stand below those of other rows.
    pub(in crate::report) fn new(mark: Cell, cells: impl IntoIterator<Item = Cell>) -> Self {
        let mut cells: Vec<Cell> = cells.into_iter().collect();
        if let Some(first) = cells.first_mut().filter(|_| mark.is_blank()) {
            *first = std::mem::take(first).at_beginning();
        }
        Self { mark, cells, ..Self::default() }
    }

    /// With this after the cells, where it runs on. Where there is no room, it stands below them.
    #[must_use]
    pub(in crate::report) fn remarked(self, remark: Cell) -> Self {
        Self { remark, ..self }
    }

    /// With these lines below the row.
    #[must_use]
    pub(in crate::report) fn above(self, below: Vec<Cell>) -> Self {
        Self { below, ..self }
    }
}

/// Whether each row has room on one line.
pub(in crate::report) fn fits(rows: &[TableRow], width: Width) -> bool {
    Layout::of(rows, width).remarks == Remarks::Beside
}

impl Page<'_> {
    /// Writes text of which further lines are indented.
    ///
    /// # Errors
    /// Of writing.
    pub fn line(&mut self, text: &str, width: Width) -> io::Result<()> {
        self.after(&Cell::default(), 2, text, width)
    }

    /// Writes a sentence of which further lines are indented.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn said(&mut self, sentence: &Sentence, naming: Naming, width: Width) -> io::Result<()> {
        self.line(&shown(sentence, naming), width)
    }

    /// Writes one line of a list.
    ///
    /// # Errors
    /// Of writing.
    pub fn item(&mut self, text: &str) -> io::Result<()> {
        self.after(&Cell::plain("  "), 2, text, Width::Any)
    }

    /// Writes rows.
    pub(in crate::report) fn rows(&mut self, rows: &[TableRow], width: Width) -> io::Result<()> {
        let layout = Layout::of(rows, width);
        rows.iter().try_for_each(|row| layout.write(row, self.0))
    }

    /// Writes text after a beginning of its first line. Further lines are indented by so many columns.
    pub(in crate::report) fn after(&mut self, start: &Cell, indent: usize, text: &str, width: Width) -> io::Result<()> {
        let text = &*if start.is_blank() { beginning(text) } else { escape(text) };
        start.write(self.0)?;
        if start.width() + text.width() <= width.most() {
            return writeln!(self.0, "{text}");
        }
        let mut lines = wrapped(text, width.most().saturating_sub(indent.max(start.width()))).into_iter();
        writeln!(self.0, "{}", lines.next().unwrap_or_default())?;
        lines.try_for_each(|line| writeln!(self.0, "{}{}", " ".repeat(indent), beginning(&line)))
    }
}

/// How wide the columns of some rows are, and where remarks stand.
struct Layout {
    columns: Vec<usize>,
    most: usize,
    remarks: Remarks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Remarks {
    Beside,
    Below,
}

impl Layout {
    fn of(rows: &[TableRow], width: Width) -> Self {
        let count = rows.iter().map(|row| row.cells.len()).max().unwrap_or_default();
        let widest = |column: usize| {
            let widths = rows.iter().filter_map(|row| row.cells.get(column).map(Cell::width));
            widths.max().unwrap_or_default()
        };
        let columns = (0..count).map(widest);
        if width == Width::Any {
            let columns = columns.map(|column| column.min(WIDEST)).collect();
            return Self { columns, most: usize::MAX, remarks: Remarks::Beside };
        }
        let mut layout = Self { columns: columns.collect(), most: width.most(), remarks: Remarks::Beside };
        let needs = |row: &TableRow| {
            let remark = if row.remark.is_blank() { 0 } else { GAP.width() + row.remark.width() };
            layout.up_to(row.cells.len()) + remark
        };
        if rows.iter().any(|row| needs(row) > layout.most) {
            layout.remarks = Remarks::Below;
            layout.narrow();
        }
        layout
    }

    /// How much so many columns take.
    fn up_to(&self, cells: usize) -> usize {
        let columns: usize = self.columns.iter().take(cells).sum();
        BEFORE + columns + GAP.width() * cells.saturating_sub(1)
    }

    /// Narrows the widest columns until all of them fit.
    fn narrow(&mut self) {
        while self.up_to(self.columns.len()) > self.most {
            let widest = self.columns.iter_mut().max().filter(|widest| **widest > NARROWEST);
            let Some(widest) = widest else { return };
            *widest -= 1;
        }
    }

    fn write(&self, row: &TableRow, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "  ")?;
        row.mark.write(out)?;
        write!(out, " ")?;
        let is_beside = self.remarks == Remarks::Beside && !row.remark.is_blank();
        for (index, (cell, column)) in row.cells.iter().zip(&self.columns).enumerate() {
            let cell = if self.most == usize::MAX { cell.clone() } else { cell.cut(*column) };
            cell.write(out)?;
            if is_beside || index + 1 < row.cells.len() {
                write!(out, "{}{GAP}", " ".repeat(column.saturating_sub(cell.width())))?;
            }
        }
        if is_beside {
            row.remark.write(out)?;
        }
        writeln!(out)?;
        let below = Some(&row.remark).filter(|remark| !is_beside && !remark.is_blank());
        for cell in below.into_iter().chain(&row.below) {
            let room = self.most.saturating_sub(BELOW.width());
            wrapped(&cell.text(), room).iter().try_for_each(|line| writeln!(out, "{BELOW}{line}"))?;
        }
        Ok(())
    }
}

/// The text in lines that are broken between words. A word that is longer than a line is cut.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    if text.width() <= most {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.width() + 1 + word.width() <= most) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(cut(word, most)),
        }
    }
    lines
}

/// The beginning of a text that is wider than that.
pub(in crate::report) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or_default();
        used <= width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}
