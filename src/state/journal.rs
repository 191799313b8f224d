//! A file of records that only grows: one record a line, each with its length and a checksum.
//!
//! ```text
//! 38 9f86d081884c7d65 {"owed":{"+16175550142":{…}}}
//! ```
//!
//! A record counts once its line has ended. What stands behind the last line end was being written when its writer died,
//! or when the power failed; it was never acknowledged, and is dropped. Anything else that is not a whole record is damage,
//! and an error: what is remembered here must not get lost silently.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::foreign::{Sentence, sentence};
use crate::os::FileMeta;
use crate::state::dir::StateDir;
use crate::state::problem::StateProblem;

/// The length of a checksum: the first bytes of a SHA-256.
const CHECKSUM: usize = 8;
/// The number of zero bytes in a row that counts as a hole, see [`has_hole`].
const HOLE: usize = 8;
/// The size up to which a journal is not compacted, in bytes: it would not be worth it.
const SMALL: u64 = 256 << 10;
/// How many times as long as its first record a journal must be to be compacted.
const GROWN: u64 = 4;

/// A journal that was read up to `length`.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The file. It is kept open, so that no other file gets its inode: then equal inodes mean the same journal.
    file: File,
    /// How far the journal was read: the length of its whole records, in bytes.
    length: u64,
    /// The length of the first record, in bytes. The first record holds all that was kept when the journal was made.
    first: u64,
}

/// What a journal is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only to be read. This works on a read-only file system, too.
    #[default]
    Read,
    /// To be read and appended to.
    Append,
}

/// Whether the journal that is there is one that was read before.
pub(crate) enum Reopened {
    /// The journal that was read before, with the records that have been added since.
    Same(Journal, Vec<Vec<u8>>),
    /// Another journal, with all its records.
    Another(Journal, Vec<Vec<u8>>),
    /// No journal.
    Missing,
}

impl Journal {
    /// Opens the journal of that name anew, and reads what was added to `known`, if it is still that one.
    pub(crate) fn reopen(dir: &StateDir, name: &str, access: Access, known: Option<Self>) -> Result<Reopened> {
        let path = dir.path(name);
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Append => OFlags::RDWR | OFlags::APPEND,
        };
        let Some(file) = dir.open_file(name, flags)? else { return Ok(Reopened::Missing) };
        let now = FileMeta::of_open(&file, &path)?.stamp;
        let same = |known: &Self| {
            let then = FileMeta::of_open(&known.file, &path).map(|meta| meta.stamp);
            then.is_ok_and(|then| then.is_same_file(now)) && known.length <= now.size
        };
        let known = known.filter(same);
        let (from, first) = known.as_ref().map_or((0, 0), |known| (known.length, known.first));
        let mut journal = Self { file, length: from, first };
        let records = journal.read_on(dir, name)?;
        Ok(if known.is_some() { Reopened::Same(journal, records) } else { Reopened::Another(journal, records) })
    }

    /// Reads the whole records after `length`.
    fn read_on(&mut self, dir: &StateDir, name: &str) -> Result<Vec<Vec<u8>>> {
        let path = dir.path(name);
        let mut text = Vec::new();
        let read = self.file.seek(SeekFrom::Start(self.length)).and_then(|_| self.file.read_to_end(&mut text));
        read.map_err(Error::io("read", &path))?;
        let mut records = Vec::new();
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            let Some(record) = unframed(line) else {
                if lines.peek().is_none() && has_hole(line) {
                    break;
                }
                return Err(damaged(dir, name, sentence!("no complete record begins at byte {}", self.length)));
            };
            self.length += line.len() as u64 + 1;
            if self.first == 0 {
                self.first = self.length;
            }
            records.push(record.to_vec());
        }
        Ok(records)
    }

    /// Whether the journal would be much shorter if all that is kept were one record.
    pub(crate) fn is_long(&self) -> bool {
        self.length > SMALL && self.length > GROWN * self.first
    }

    /// Appends a record, which is on disk when this returns. Where appending fails, the journal is as it was before.
    pub(crate) fn append(&mut self, dir: &StateDir, name: &str, record: &[u8]) -> Result<()> {
        let line = framed(record);
        let appended = self.append_line(&line);
        if appended.is_err() {
            // A second error is not reported: the first one is the cause, and the next reader drops half a line, too.
            let _ = self.file.set_len(self.length);
        }
        appended.map_err(Error::io("write", &dir.path(name)))?;
        crash_point!("ledger: appended");
        self.length += line.len() as u64;
        Ok(())
    }

    fn append_line(&mut self, line: &[u8]) -> io::Result<()> {
        // A writer that died has left half a line.
        if self.file.metadata()?.len() > self.length {
            self.file.set_len(self.length)?;
        }
        let (half, rest) = line.split_at(line.len() / 2);
        self.file.write_all(half)?;
        crash_point!("ledger: half appended");
        self.file.write_all(rest)?;
        self.file.sync_data()
    }
}

/// Replaces the journal of that name by one with a single record, which is on disk when this returns.
pub(crate) fn replace(dir: &StateDir, name: &str, record: &[u8]) -> Result<()> {
    dir.save(name, &framed(record))
}

/// The error of a journal that is damaged. `why` is what is wrong with it.
pub(crate) fn damaged(dir: &StateDir, name: &str, why: impl Into<Sentence>) -> Error {
    StateProblem::LedgerDamaged { path: dir.path(name), why: why.into() }.into()
}

fn framed(record: &[u8]) -> Vec<u8> {
    let mut line = format!("{} {} ", record.len(), checksum(record)).into_bytes();
    line.extend_from_slice(record);
    line.push(b'\n');
    line
}

/// Whether a part of the line never reached the disk before the power failed: it reads as zeros, which no record has. One
/// zero alone may be a flipped bit.
fn has_hole(line: &[u8]) -> bool {
    line.windows(HOLE).any(|bytes| bytes.iter().all(|byte| *byte == 0))
}

/// The record of a line; `None` where the length or the checksum of the line is wrong.
fn unframed(line: &[u8]) -> Option<&[u8]> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (length, sum, record) = (parts.next()?, parts.next()?, parts.next()?);
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    (length == record.len() && sum == checksum(record).as_bytes()).then_some(record)
}

pub(crate) fn checksum(record: &[u8]) -> String {
    Sha256::digest(record).iter().take(CHECKSUM).map(|byte| format!("{byte:02x}")).collect()
}
