//! A registry that is too large for memory. It is read in windows: each is copied, found to be UTF-8, and read from its
//! copy. So it does not matter what another program does to the file meanwhile: what is read of it may be nonsense, and
//! does not count then, but it is text.

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

/// In bytes. It stays in the cache of a core from the copy to the last look at it.
const WINDOW: usize = 256 << 10;
/// In bytes. Entries that are larger are left to the slow reader, which has all of the text in memory.
const LARGEST_WINDOW: usize = 16 << 20;
/// An entry that is edited mostly lies in this part of a window…
const EDITED: usize = 32;
/// …with this part of that before it, because the blanks there show how it is laid out.
const LEAD: usize = 8;

/// Where the bytes of a registry are.
pub trait Bytes: Debug + Send + Sync {
    /// Copies what stands at `offset`. Returns how many bytes that are: fewer than there is room for only at the end.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn read_at(&self, room: &mut [u8], offset: usize) -> io::Result<usize>;

    /// Whether they still are what they were at first.
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
    /// Takes `size` bytes of a registry, which at most so many threads read. `name` is what the user would call it.
    pub fn new(name: String, bytes: Box<dyn Bytes>, size: usize, threads: usize) -> Self {
        Self { name, bytes, size, threads, window: WINDOW, form: Form::ANY, whole: OnceLock::new() }
    }

    /// Takes it for a registry of that form.
    #[must_use]
    pub fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Lets it read in windows of another size, in bytes.
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

    /// An edit that `find` makes of an entry, whose place it is told in a stretch of text around it; `None` where it makes
    /// none.
    ///
    /// # Errors
    /// Where the text has changed.
    pub fn edit(&self, at: Position, find: &dyn Fn(&str, Position) -> Option<Splice>) -> Result<Option<Splice>> {
        if let Some(whole) = self.whole.get() {
            return Ok(find(whole.text(), at));
        }
        let mut size = (self.window / EDITED).max(1);
        loop {
            let mut room = vec![0; size];
            let window = self.window(at.0.saturating_sub(size / LEAD), &mut room).ok_or_else(|| changes(&self.name))?;
            let here = Position(at.0 - window.start);
            let is_shown = window.start == 0 || !window.text.get(..here.0).unwrap_or_default().trim_ascii().is_empty();
            let found = find(window.text, here).filter(|_| is_shown);
            if found.is_some() || (is_shown && window.is_last) || size >= LARGEST_WINDOW {
                let moved = |splice: Splice| {
                    let range = window.start + splice.range.start..window.start + splice.range.end;
                    Splice { range, ..splice }
                };
                return self.unless_changed(found.map(moved));
            }
            size *= 4;
        }
    }

    /// Writes it with the edits made, which must be sorted and must not overlap.
    ///
    /// # Errors
    /// Those of `out`, and where it cannot be read or was cut short.
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

    /// What was read of it, unless it has changed since: then neither entries nor mistakes say anything.
    fn unless_changed<T>(&self, read: T) -> Result<T> {
        if self.bytes.are_intact() { Ok(read) } else { Err(changes(&self.name)) }
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        RegistryProblem::Unreadable { name: self.name.as_str().into(), error: error.into() }.into()
    }

    /// The text that stands from `start` on, as much of it as there is room for; `None` where there is less, or it is not
    /// text.
    fn window<'r>(&self, start: usize, room: &'r mut [u8]) -> Option<Window<'r>> {
        let wanted = room.len().min(self.size.checked_sub(start)?);
        let room = &mut room[..wanted];
        if self.bytes.read_at(room, start).ok()? < wanted {
            return None;
        }
        // It may begin and end within a character.
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

    /// Reads a part, window by window. `None`: the fast reader gave up, maybe after some entries.
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

    /// The parts that together seem to be the registry.
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

/// That something writes into a registry at the same time.
pub(crate) fn changes(name: &str) -> Error {
    RegistryProblem::Changing { name: name.into() }.into()
}
