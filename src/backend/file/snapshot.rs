//! What the registry's file held at one instant: in memory, or, where it is large, in the file itself, so that memory does
//! not follow its size.
//!
//! A program that replaces the file leaves this one as it was, because it is kept open. One that writes *into* it is noticed
//! by the stamp, after every read and again before the registry is replaced.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use crate::chat::Model;
use crate::error::{Bug, Error, Result};
use crate::form::Form;
use crate::os::rights::Attributes;
use crate::os::{FileMeta, Stamp};
use crate::plan::Reading;
use crate::registry::json::{Bytes, JsonText, JsonWindows};
use crate::registry::{Collector, Counts, Entry, Make, Position, Snapshot};
use crate::splice::{Hunks, Splice, spliced};

/// In bytes. What is larger is read in windows.
const LARGEST_IN_MEMORY: u64 = 16 << 20;

/// In bytes. What is smaller is read before a second thread has begun.
const SMALLEST_FOR_THREADS: u64 = 2 << 20;

/// The registry as its file held it at one instant.
#[derive(Debug)]
pub struct FileSnapshot {
    text: Text,
    stamp: Stamp,
    form: Form,
    /// Kept open, so that no other file gets its inode as long as the stamp may be compared.
    pinned: Option<File>,
    /// The tiers of chats that are known better than the file says, by chat id.
    tiers: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Text {
    InMemory(JsonText),
    InFile(JsonWindows),
}

impl FileSnapshot {
    /// Of an open file, whose state before it is read `stamp` tells; `None` where it changed while it was read.
    pub(super) fn read(name: &str, mut file: File, stamp: Stamp, form: Form) -> Result<Option<Self>> {
        let failed = |error| Error::io("read", Path::new(name))(error);
        let size = usize::try_from(stamp.size).map_err(|_| failed(ErrorKind::FileTooLarge.into()))?;
        let name = name.to_owned();
        let text = if stamp.size > LARGEST_IN_MEMORY {
            let bytes = OpenRegistry { file: file.try_clone().map_err(failed)?, stamp };
            Text::InFile(JsonWindows::new(name, Box::new(bytes), size, threads(stamp.size)).in_form(form.clone()))
        } else {
            let mut bytes = Vec::with_capacity(size);
            // One byte more tells that it has grown.
            (&mut file).take(stamp.size + 1).read_to_end(&mut bytes).map_err(failed)?;
            let is_as_it_was = bytes.len() == size && state_of(&file).is_some_and(|now| now == stamp);
            if !is_as_it_was {
                return Ok(None);
            }
            let text = JsonText::new(name, bytes).map_err(|mistake| Error::Invalid(vec![mistake]))?;
            Text::InMemory(text.read_by(threads(stamp.size)).in_form(form.clone()))
        };
        Ok(Some(Self { text, stamp, form, pinned: Some(file), tiers: BTreeMap::new() }))
    }

    /// A registry of no sessions: what a launch begins with where there is none.
    pub(super) fn empty(name: &str, form: Form) -> Self {
        let text = match &form.key {
            Some(key) => format!("{{\n  {}: {{}}\n}}\n", serde_json::Value::from(key.as_str())),
            None => "{}\n".to_owned(),
        };
        let text = JsonText::of_text(name.to_owned(), text).in_form(form.clone());
        Self { text: Text::InMemory(text), stamp: Stamp::default(), form, pinned: None, tiers: BTreeMap::new() }
    }

    /// This snapshot with these tiers of chats, by chat id, in place of what the file says. Groups have none.
    #[must_use]
    pub(crate) fn with_tiers(self, tiers: BTreeMap<String, String>) -> Self {
        Self { tiers, ..self }
    }

    /// The one in a reading of this backend.
    pub(crate) fn of(reading: &Reading) -> Result<&Self> {
        let snapshot: &dyn Any = reading.snapshot.as_ref();
        snapshot.downcast_ref().ok_or(Bug("a plan was made on the registry of another backend").into())
    }

    /// Its text. A large one is read into memory.
    ///
    /// # Errors
    /// Where it cannot be read, or has changed.
    pub fn text(&self) -> Result<&str> {
        match &self.text {
            Text::InMemory(text) => Ok(text.text()),
            Text::InFile(windows) => Ok(windows.whole()?.text()),
        }
    }

    /// The edit that `find` makes of the entry at `at`, whose place it is told in a text around it; `None` where it makes
    /// none.
    pub(super) fn edit(&self, at: Position, find: &dyn Fn(&str, Position) -> Option<Splice>) -> Result<Option<Splice>> {
        match &self.text {
            Text::InMemory(text) => Ok(find(text.text(), at)),
            Text::InFile(windows) => windows.edit(at, find),
        }
    }

    /// Writes its text with the edits made, which must be sorted and must not overlap.
    pub(super) fn write_edited(&self, splices: &[Splice], out: &mut dyn Write) -> io::Result<()> {
        match &self.text {
            Text::InMemory(text) => spliced(text.text(), splices).try_for_each(|piece| out.write_all(piece.as_bytes())),
            Text::InFile(windows) => windows.write_edited(splices, out),
        }
    }

    /// The extended attributes of its file.
    pub(crate) fn attributes(&self) -> Result<Attributes> {
        let file = self.pinned.as_ref().map(|file| Attributes::of(file, Path::new(self.name())));
        Ok(file.transpose()?.unwrap_or_default())
    }

    /// Which state of the file it is.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The form that its text has.
    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    fn snapshot(&self) -> &dyn Snapshot {
        match &self.text {
            Text::InMemory(text) => text,
            Text::InFile(windows) => windows,
        }
    }
}

impl Snapshot for FileSnapshot {
    fn name(&self) -> &str {
        self.snapshot().name()
    }

    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts> {
        self.snapshot().each(&mut |entry| take(with_tier(entry, &self.tiers)))
    }

    fn in_parts(&self, make: Make<'_>) -> Result<Counts> {
        if self.tiers.is_empty() {
            return self.snapshot().in_parts(make);
        }
        self.snapshot().in_parts(&|| Box::new(WithTiers { collector: make(), tiers: &self.tiers }))
    }

    fn preview(&self, edits: &[(Position, &Model)]) -> Result<Option<Hunks<'_>>> {
        self.snapshot().preview(edits)
    }
}

/// Hands over the entries of a part with the tiers that are known better.
struct WithTiers<'x> {
    collector: Box<dyn Collector + 'x>,
    tiers: &'x BTreeMap<String, String>,
}

impl Collector for WithTiers<'_> {
    fn take(&mut self, entry: Entry<'_>) {
        self.collector.take(with_tier(entry, self.tiers));
    }

    fn finish(self: Box<Self>) {
        self.collector.finish();
    }
}

fn with_tier<'e>(mut entry: Entry<'e>, tiers: &'e BTreeMap<String, String>) -> Entry<'e> {
    let tier = tiers.get(entry.chat.id.as_ref()).filter(|_| entry.chat.kind.as_deref() != Some("group"));
    if let Some(tier) = tier {
        entry.chat.tier = Some(Cow::Borrowed(tier));
    }
    entry
}

/// A registry that stays in its file.
#[derive(Debug)]
struct OpenRegistry {
    file: File,
    stamp: Stamp,
}

impl Bytes for OpenRegistry {
    fn read_at(&self, room: &mut [u8], offset: usize) -> io::Result<usize> {
        let mut read = 0;
        while read < room.len() {
            match self.file.read_at(&mut room[read..], (offset + read) as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn are_intact(&self) -> bool {
        state_of(&self.file).is_some_and(|now| now == self.stamp)
    }
}

fn state_of(file: &File) -> Option<Stamp> {
    file.metadata().ok().map(|now| FileMeta::of(&now).stamp)
}

/// How many threads are worth their while for a file of that size.
fn threads(size: u64) -> usize {
    if size < SMALLEST_FOR_THREADS {
        1
    } else {
        thread::available_parallelism().map_or(1, |threads| threads.get().min(8))
    }
}
