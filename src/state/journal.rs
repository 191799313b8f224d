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

/// Of a checksum, in bytes of SHA-256.
const CHECKSUM: usize = 8;
/// So many zero bytes in a row are a hole.
const HOLE: usize = 8;
/// In bytes. A smaller journal is not worth compacting.
const SMALL: u64 = 256 << 10;
/// A journal that is so many times longer than its first record is compacted.
const GROWN: u64 = 4;

/// A journal that was read, as far as that goes.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Kept open, so that no other file gets its inode: then equal inodes mean the same journal.
    file: File,
    /// How far it was read: the bytes of its whole records.
    length: u64,
    /// The bytes of its first record, which holds all that was kept then.
    first: u64,
}

/// What a journal is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// To be read alone, which works on a read-only file system, too.
    #[default]
    Read,
    /// To be read and appended to.
    Append,
}

/// Whether the journal that is there is one that was read before.
pub(crate) enum Reopened {
    /// It is, and these records have been added since.
    Same(Journal, Vec<Vec<u8>>),
    /// It is another one, and these are all its records.
    Another(Journal, Vec<Vec<u8>>),
    /// There is none.
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

    /// Reads the whole records from where it was read to.
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

    /// Whether it would be much shorter as one record.
    pub(crate) fn is_long(&self) -> bool {
        self.length > SMALL && self.length > GROWN * self.first
    }

    /// Appends a record. On disk when it returns; where it fails, the journal is as it was.
    pub(crate) fn append(&mut self, dir: &StateDir, name: &str, record: &[u8]) -> Result<()> {
        let line = framed(record);
        let appended = self.append_line(&line);
        if appended.is_err() {
            // The error that matters is the first, and half a line is dropped by the next reader, too.
            let _ = self.file.set_len(self.length);
        }
        appended.map_err(Error::io("write", &dir.path(name)))?;
        crash_point!("ledger: appended");
        self.length += line.len() as u64;
        Ok(())
    }

    fn append_line(&mut self, line: &[u8]) -> io::Result<()> {
        // Half a line that a dead writer left.
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

/// Replaces the journal of that name by one of a single record. On disk when it returns.
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

/// What a line says, if it is whole.
fn unframed(line: &[u8]) -> Option<&[u8]> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (length, sum, record) = (parts.next()?, parts.next()?, parts.next()?);
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    (length == record.len() && sum == checksum(record).as_bytes()).then_some(record)
}

pub(crate) fn checksum(record: &[u8]) -> String {
    Sha256::digest(record).iter().take(CHECKSUM).map(|byte| format!("{byte:02x}")).collect()
}
