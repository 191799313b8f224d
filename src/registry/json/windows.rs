//! A registry that is too large for memory. It is read in windows: each is copied, checked for UTF-8, and read from the
//! copy. If another program writes into the file meanwhile, a window may have nonsense in it, but it is valid text, and
//! the read is discarded in the end.

use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::OnceLock;

use memchr::memmem;

use crate::chat::Model;
use crate::error::{Error, Result};
use crate::form::Form;
use crate::registry::json::fast::{self, Part, Window};
use crate::registry::json::scan::{Seen, scan_at_once, scan_slowly_after};
use crate::registry::json::text::JsonText;
use crate::registry::problem::RegistryProblem;
use crate::registry::{Counts, Entry, Make, Position, Snapshot};
use crate::splice::{Hunks, Splice};

/// The size of a window, in bytes. A window fits into the cache of a core, so that copying, checking and reading it is fast.
const WINDOW: usize = 256 << 10;
/// The largest window, in bytes. A larger entry is left to the slow reader, which has the whole text in memory.
const LARGEST_WINDOW: usize = 16 << 20;
/// The window of an edit is at first this fraction of a window, into which most entries fit.
const EDIT_FRACTION: usize = 32;
/// This fraction of the window of an edit is before the entry, because the blanks there show the layout.
const LEAD_FRACTION: usize = 8;

/// The bytes of a registry, wherever they are stored.
pub trait Bytes: Debug + Send + Sync {
    /// Copies the bytes at `offset` into `room`, and returns how many were copied: fewer than `room` has only at the end.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn read_at(&self, room: &mut [u8], offset: usize) -> io::Result<usize>;

    /// Whether the bytes have not been changed since they were opened.
    fn are_intact(&self) -> bool;
}

/// A registry whose text is not in memory.
#[derive(Debug)]
pub struct JsonWindows {
    name: String,
    bytes: Box<dyn Bytes>,
    size: usize,
    threads: usize,
    window: usize,
    form: Form,
    /// All of it, once something has asked for that.
    whole: OnceLock<JsonText>,
}

impl JsonWindows {
    /// The registry with these `size` bytes, which at most `threads` threads read. `name` is its name in messages.
    pub fn new(name: String, bytes: Box<dyn Bytes>, size: usize, threads: usize) -> Self {
        Self { name, bytes, size, threads, window: WINDOW, form: Form::ANY, whole: OnceLock::new() }
    }

    /// Sets the form of the registry.
    #[must_use]
    pub fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Sets the size of a window, in bytes.
    #[must_use]
    pub fn by_windows_of(self, window: usize) -> Self {
        Self { window, ..self }
    }

    /// All of its text, in memory.
    ///
    /// # Errors
    /// Where it cannot be read, is not UTF-8, or has changed.
    pub fn whole(&self) -> Result<&JsonText> {
        if let Some(whole) = self.whole.get() {
            return Ok(whole);
        }
        let mut bytes = vec![0; self.size];
        let read = self.bytes.read_at(&mut bytes, 0).map_err(|error| self.unreadable(&error))?;
        let whole = self.unless_changed((read == self.size).then_some(bytes))?.ok_or_else(|| changes(&self.name))?;
        let whole = JsonText::new(self.name.clone(), whole).map_err(|mistake| Error::Invalid(vec![mistake]))?;
        Ok(self.whole.get_or_init(|| whole.in_form(self.form.clone())))
    }

    /// The edit that `find` makes of the entry at a position; `None` where it makes none. `find` is called with a piece
    /// of the text around the entry, and the position of the entry in that piece.
    ///
    /// # Errors
    /// Where the text has changed.
    pub fn edit(&self, at: Position, find: &dyn Fn(&str, Position) -> Option<Splice>) -> Result<Option<Splice>> {
        if let Some(whole) = self.whole.get() {
            return Ok(find(whole.text(), at));
        }
        let mut size = (self.window / EDIT_FRACTION).max(1);
        loop {
            let mut room = vec![0; size];
            let start = at.0.saturating_sub(size / LEAD_FRACTION);
            let window = self.window(start, &mut room).ok_or_else(|| changes(&self.name))?;
            let here = Position(at.0 - window.start);
            let before = window.text.get(..here.0).unwrap_or_default();
            // Otherwise the blanks before the entry, which show its layout, are cut off.
            let has_layout = window.start == 0 || !before.trim_ascii().is_empty();
            let found = find(window.text, here).filter(|_| has_layout);
            if found.is_some() || (has_layout && window.is_last) || size >= LARGEST_WINDOW {
                let moved = |splice: Splice| {
                    let range = window.start + splice.range.start..window.start + splice.range.end;
                    Splice { range, ..splice }
                };
                return self.unless_changed(found.map(moved));
            }
            size *= 4;
        }
    }

    /// Writes its text to `out` with these edits made, which must be sorted and must not overlap.
    ///
    /// # Errors
    /// Where the registry cannot be read or has become shorter, and errors of `out`.
    pub fn write_edited(&self, splices: &[Splice], out: &mut dyn Write) -> io::Result<()> {
        let mut at = 0;
        for Splice { range, text } in splices {
            self.copy(at, range.start, out)?;
            out.write_all(text.as_bytes())?;
            at = range.end;
        }
        self.copy(at, self.size, out)
    }

    fn copy(&self, mut at: usize, end: usize, out: &mut dyn Write) -> io::Result<()> {
        let mut room = vec![0; self.window.min(end.saturating_sub(at))];
        while at < end {
            let wanted = room.len().min(end - at);
            let read = self
                .bytes
                .read_at(&mut room[..wanted], at)
                .map_err(|error| io::Error::other(self.unreadable(&error).text()))?;
            if read == 0 {
                return Err(io::Error::other(changes(&self.name).text()));
            }
            out.write_all(&room[..read])?;
            at += read;
        }
        Ok(())
    }

    /// Returns what was read.
    ///
    /// # Errors
    /// Where the registry has changed since, so that what was read does not count.
    fn unless_changed<T>(&self, read: T) -> Result<T> {
        if self.bytes.are_intact() { Ok(read) } else { Err(changes(&self.name)) }
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        RegistryProblem::Unreadable { name: self.name.as_str().into(), error: error.into() }.into()
    }

    /// Reads the window that begins at `start`, as far as `room` goes. `None` where there are fewer bytes than
    /// expected, or they are not UTF-8.
    fn window<'r>(&self, start: usize, room: &'r mut [u8]) -> Option<Window<'r>> {
        let wanted = room.len().min(self.size.checked_sub(start)?);
        let room = &mut room[..wanted];
        if self.bytes.read_at(room, start).ok()? < wanted {
            return None;
        }
        // The window may begin and end within a character.
        let cut = room.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
        let cut = if start == 0 { 0 } else { cut };
        let is_last = start + wanted == self.size;
        let text = match simdutf8::compat::from_utf8(&room[cut..]) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() && !is_last => {
                std::str::from_utf8(&room[cut..cut + error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        Some(Window { text, start: start + cut, is_last })
    }

    /// Reads a part with the fast reader, window by window. `None` where it gave up, possibly after some entries.
    fn read(&self, part: Part, each: &mut dyn FnMut(Entry<'_>)) -> Option<()> {
        let mut room = vec![0; self.window];
        let mut left = part;
        loop {
            let window = self.window(left.start, &mut room)?;
            let is_last = window.is_last;
            let key = self.form.key.as_deref();
            let Some(rest) = fast::read(window, left, key, &mut *each) else { return Some(()) };
            if is_last {
                return None;
            }
            if rest == left {
                let larger = room.len() * 2;
                if larger > LARGEST_WINDOW {
                    return None;
                }
                room.resize(larger, 0);
            }
            left = rest;
        }
    }

    /// Divides the registry into parts. It is not certain yet that entries begin where the parts do.
    fn parts(&self) -> Vec<Part> {
        let mut room = vec![0; self.window];
        let between =
            self.window(0, &mut room).and_then(|window| fast::between_entries(window.text, self.form.key.as_deref()));
        let finder = between.as_deref().map(memmem::Finder::new);
        let seam = |part| {
            let from = self.size / self.threads * part;
            let read = self.bytes.read_at(&mut room, from).ok()?;
            fast::seam(&room[..read], 0, finder.as_ref()?).map(|at| from + at)
        };
        Part::between((1..self.threads).filter_map(seam))
    }
}

impl Snapshot for JsonWindows {
    fn name(&self) -> &str {
        &self.name
    }

    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts> {
        let (mut seen, mut count) = (Seen::default(), 0);
        let read = self.read(Part::WHOLE, &mut |entry| {
            seen.take(&entry);
            count += 1;
            take(entry);
        });
        let sessions = match read.and_then(|()| seen.count(self.form.shape)) {
            Some(sessions) => sessions,
            None => scan_slowly_after(count, self.whole()?, take).map_err(Error::Invalid)?,
        };
        self.unless_changed(Counts { sessions, selected: None })
    }

    fn in_parts(&self, make: Make<'_>) -> Result<Counts> {
        let sessions = scan_at_once(self.parts(), self.form.shape, make, |part, each| self.read(part, each));
        if let Some(sessions) = sessions {
            return self.unless_changed(Counts { sessions, selected: None });
        }
        let mut collector = make();
        let counts = self.each(&mut |entry| collector.take(entry))?;
        collector.finish();
        Ok(counts)
    }

    fn preview(&self, edits: &[(Position, &Model)]) -> Result<Option<Hunks<'_>>> {
        self.whole()?.preview(edits)
    }
}

/// The error for a registry into which another program writes while it is read.
pub(crate) fn changes(name: &str) -> Error {
    RegistryProblem::Changing { name: name.into() }.into()
}
