//! A snapshot of the registry's file. A small file is read into memory. A large one stays in the file, so that the
//! memory used does not depend on its size.
//!
//! The file is held open. So a program that replaces it does not change the snapshot. A program that writes *into* it
//! changes its stamp, which is compared after every read, and again before the registry is replaced.

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

/// The largest file that is read into memory, in bytes. A larger one is read in windows.
const LARGEST_IN_MEMORY: u64 = 16 << 20;

/// The smallest file that is read by several threads, in bytes. A smaller one is read before a second thread has begun.
const SMALLEST_FOR_THREADS: u64 = 2 << 20;

/// A snapshot of the registry's file.
#[derive(Debug)]
pub struct FileSnapshot {
    text: Text,
    stamp: Stamp,
    form: Form,
    /// The open file, so that its inode is not reused while its stamp may be compared. `None` for a registry that does
    /// not exist yet.
    pinned: Option<File>,
    /// Tiers of chats that replace those of the file, by chat id.
    tiers: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Text {
    InMemory(JsonText),
    InFile(JsonWindows),
}

impl FileSnapshot {
    /// Reads an open file, whose stamp before that is `stamp`. `None` where the file changed while it was read.
    pub(super) fn read(name: &str, mut file: File, stamp: Stamp, form: Form) -> Result<Option<Self>> {
        let failed = |error| Error::io("read", Path::new(name))(error);
        let size = usize::try_from(stamp.size).map_err(|_| failed(ErrorKind::FileTooLarge.into()))?;
        let name = name.to_owned();
        let text = if stamp.size > LARGEST_IN_MEMORY {
            let bytes = OpenRegistry { file: file.try_clone().map_err(failed)?, stamp };
            Text::InFile(JsonWindows::new(name, Box::new(bytes), size, threads(stamp.size)).in_form(form.clone()))
        } else {
            let mut bytes = Vec::with_capacity(size);
            // One byte more than expected, to find out that the file has grown.
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

    /// A snapshot without sessions, for a launch that creates the registry.
    pub(super) fn empty(name: &str, form: Form) -> Self {
        let text = match &form.key {
            Some(key) => format!("{{\n  {}: {{}}\n}}\n", serde_json::Value::from(key.as_str())),
            None => "{}\n".to_owned(),
        };
        let text = JsonText::of_text(name.to_owned(), text).in_form(form.clone());
        Self { text: Text::InMemory(text), stamp: Stamp::default(), form, pinned: None, tiers: BTreeMap::new() }
    }

    /// Replaces the tiers of the file by these, by chat id. Groups get no tier.
    #[must_use]
    pub(crate) fn with_tiers(self, tiers: BTreeMap<String, String>) -> Self {
        Self { tiers, ..self }
    }

    /// The snapshot in a reading of this backend.
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

    /// The edit that `find` makes of the entry at `at`; `None` where it makes none. `find` is called with a text around
    /// the entry, and the position of the entry in that text.
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

/// A collector that replaces tiers before it passes entries on.
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

/// How many threads should read a file of this size, in bytes.
fn threads(size: u64) -> usize {
    if size < SMALLEST_FOR_THREADS {
        1
    } else {
        thread::available_parallelism().map_or(1, |threads| threads.get().min(8))
    }
}
