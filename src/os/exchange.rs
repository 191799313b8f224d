//! A new file takes the place of another: by exchange, in one step, and what comes out is looked at. If that is not what
//! was seen before, it goes back. So the name is never missing, and a replacement by another program is not lost.

use std::fs::File;

use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::os::directory::Place;
use crate::os::mount::check_replaceable;
use crate::os::problem::OsProblem;
use crate::os::{FileMeta, Stamp};

/// The files of a replacement. Noted before it, so that a run that dies in the middle is put right by the next.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeNote {
    /// The file that was planned on.
    pub seen: Stamp,
    /// The file that takes its place. An inode alone would not tell: they are used again.
    pub new: Stamp,
    /// What is being put back, where an update was displaced. Version 0.1 did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<PutBack>,
}

/// An exchange back, noted before it. Of two files that other programs wrote, it tells which was in place first; the times
/// of files do not, because a copy may keep the time of its original.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutBack {
    /// The file that goes in again.
    pub goes_in: Stamp,
    /// The file that comes out, unless another program has replaced it.
    pub comes_out: Stamp,
}

/// Saves a note in the place of the one that was saved before.
pub(crate) type SaveNote<'s> = dyn FnMut(&ExchangeNote) -> Result<()> + 's;

/// How a file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By exchanging two files. Where the file system cannot, by `Rename`.
    Exchange,
    /// By renaming over it. A replacement by another program in the instant before that is lost.
    Rename,
}

impl Method {
    /// How files are replaced on a file system of this kind, where that is known: of others, only a try would tell.
    pub fn on(file_system: &str) -> Option<Self> {
        match file_system {
            "bcachefs" | "btrfs" | "ext3" | "ext4" | "f2fs" | "overlay" | "tmpfs" | "xfs" => Some(Self::Exchange),
            "9p" | "ceph" | "cifs" | "nfs" | "nfs4" | "smb3" => Some(Self::Rename),
            _ => None,
        }
    }
}

/// A file, and the place on the same file system where its successor waits, and after an exchange what it displaced. Both
/// are names in directories that are held open, so that what is looked at is what is replaced and removed.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) target: Place<'a>,
    pub(crate) waiting: Place<'a>,
    pub(crate) method: Method,
}

impl Exchange<'_> {
    /// What the file is, if it is still what was seen.
    pub(crate) fn unchanged(&self, seen: Stamp) -> Result<Option<FileMeta>> {
        // Where it is missing, the run plans again, and reports that.
        Ok(self.target.look()?.filter(|meta| meta.stamp == seen))
    }

    /// Lets the waiting file take the place; `None` where the file is no longer what was seen.
    pub(crate) fn run(&self, seen: Stamp, new: Pinned, save: &mut SaveNote) -> Result<Option<Stamp>> {
        if self.unchanged(seen)?.is_none() {
            return Ok(None);
        }
        crash_point!("exchange: looked at");
        if self.method == Method::Exchange {
            match self.exchange() {
                Ok(()) => return self.inspect(seen, new, save),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::INVAL | Errno::NOSYS) => {}
                // One number on Linux, two on macOS, where the second is what a file system answers that cannot exchange.
                Err(error) if [Errno::OPNOTSUPP, Errno::NOTSUP].contains(&error) => {}
                Err(error) => {
                    // Where that is because of a mount, it says what to do.
                    check_replaceable(self.target, self.waiting.directory)?;
                    return Err(Error::io("replace", &self.target.path())(error));
                }
            }
        }
        self.waiting.rename(self.target)?;
        self.sync_names()?;
        Ok(Some(new.stamp))
    }

    /// Puts right what a run left that died between the exchange and the look at what it displaced. Whether the new file
    /// has taken the place.
    pub(crate) fn recover(&self, exchange: &ExchangeNote, save: &mut SaveNote) -> Result<bool> {
        let exchange = &self.on_this_device(exchange)?;
        if let Some(left) = self.displaced()? {
            let foreign = left != exchange.new && left != exchange.seen;
            if self.target.look()?.is_none() {
                // Another program removed the file. What it had put there before must not go with it.
                return if foreign { self.rename_back().map(|_| false) } else { Ok(false) };
            }
            let now = Pinned::open(self.target)?;
            // Where neither file is ours, what is in place is the later update, unless the run itself has put it there: then
            // what came out had replaced ours meanwhile.
            let put_in = |back: &PutBack| now.stamp == back.goes_in && left != back.comes_out;
            if foreign && (now.stamp == exchange.new || exchange.back.as_ref().is_some_and(put_in)) {
                self.put_back(exchange, now, save)?;
            }
            self.sync_names()?;
        }
        Ok(self.unchanged(exchange.new)?.is_some())
    }

    /// The note with the device that its files are on now. Both are on one file system, and the number of that may be another
    /// after a restart of the host.
    fn on_this_device(&self, exchange: &ExchangeNote) -> Result<ExchangeNote> {
        let there = match self.displaced()? {
            Some(left) => Some(left),
            None => self.target.look()?.map(|meta| meta.stamp),
        };
        let Some(Stamp { device, .. }) = there else { return Ok(exchange.clone()) };
        let moved = |stamp: Stamp| Stamp { device, ..stamp };
        let back = exchange.back.as_ref();
        let back = back.map(|back| PutBack { goes_in: moved(back.goes_in), comes_out: moved(back.comes_out) });
        Ok(ExchangeNote { seen: moved(exchange.seen), new: moved(exchange.new), back })
    }

    fn exchange(&self) -> Result<(), Errno> {
        self.rename_with(RenameFlags::EXCHANGE)
    }

    fn rename_with(&self, flags: RenameFlags) -> Result<(), Errno> {
        let Self { waiting, target, .. } = self;
        rustix::fs::renameat_with(waiting.directory, waiting.name, target.directory, target.name, flags)
    }

    /// Looks at what an exchange displaced.
    fn inspect(&self, seen: Stamp, new: Pinned, save: &mut SaveNote) -> Result<Option<Stamp>> {
        crash_point!("exchange: made");
        if self.displaced()?.is_some_and(|displaced| displaced == seen) {
            self.sync_names()?;
            return Ok(Some(new.stamp));
        }
        self.put_back(&ExchangeNote { seen, new: new.stamp, back: None }, new, save)?;
        Ok(None)
    }

    /// Exchanges back, until what comes out is what went in, which is removed: another program may replace the file once
    /// more meanwhile, and then its file is the latest.
    fn put_back(&self, exchange: &ExchangeNote, mut went_in: Pinned, save: &mut SaveNote) -> Result<()> {
        loop {
            if self.displaced()?.is_none() {
                return Ok(());
            }
            let next = Pinned::open(self.waiting)?;
            let back = PutBack { goes_in: next.stamp, comes_out: went_in.stamp };
            // Without the note this must still be put back; a death in the next instant could then keep the wrong update.
            let _ = save(&ExchangeNote { back: Some(back), ..exchange.clone() });
            match self.exchange() {
                Ok(()) => {}
                // Another program removed the file; what it had there before must not be lost.
                Err(Errno::NOENT) if self.rename_back()? => return self.sync_names(),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(Error::io("put back", &self.target.path())(error)),
            }
            crash_point!("exchange: put back");
            if self.displaced()?.is_none_or(|came_out| came_out == went_in.stamp) {
                self.sync_names()?;
                return self.waiting.remove();
            }
            went_in = next;
        }
    }

    /// Renames the waiting file to where there is none; `false` where another program was quicker.
    fn rename_back(&self) -> Result<bool> {
        match self.rename_with(RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(Error::io("put back", &self.target.path())(error)),
        }
    }

    fn displaced(&self) -> Result<Option<Stamp>> {
        Ok(self.waiting.look()?.map(|meta| meta.stamp))
    }

    /// Removes the waiting file, which must be one of `ours`: the new file, or what it displaced.
    pub(crate) fn clear(&self, ours: [Stamp; 2]) -> Result<()> {
        let Some(left) = self.displaced()? else { return Ok(()) };
        if ours.iter().any(|stamp| stamp.is_same_file(left)) {
            return self.waiting.remove();
        }
        Err(OsProblem::NotOurs { waiting: self.waiting.path() }.into())
    }

    /// Makes both names durable.
    pub(crate) fn sync_names(&self) -> Result<()> {
        self.target.directory.sync()?;
        self.waiting.directory.sync()
    }
}

/// A file that is kept open, so that no other gets its inode: only then do equal stamps mean the same file.
pub(crate) struct Pinned {
    pub(crate) stamp: Stamp,
    _file: File,
}

impl Pinned {
    /// Keeps what is at a place.
    fn open(place: Place) -> Result<Self> {
        // Where a file can be held without being read, it need not be readable.
        #[cfg(target_os = "linux")]
        let access = OFlags::PATH;
        #[cfg(not(target_os = "linux"))]
        let access = OFlags::RDONLY;
        let file = place.open(access).map_err(Error::io("open", &place.path()))?;
        Self::of(file, place)
    }

    /// Keeps an open file, which is at a place.
    pub(crate) fn of(file: File, place: Place) -> Result<Self> {
        Ok(Self { stamp: FileMeta::of_open(&file, &place.path())?.stamp, _file: file })
    }
}
