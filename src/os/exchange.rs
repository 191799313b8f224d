//! Replaces a file by exchanging it with a new one in one system call. The file that comes out is inspected: if it is
//! not the one that was seen before, the two are exchanged back. So the name always exists, and a replacement by
//! another program is not lost.

use std::fs::File;

use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::os::directory::Place;
use crate::os::mount::check_replaceable;
use crate::os::problem::OsProblem;
use crate::os::{FileMeta, Stamp};

/// The files of a replacement. It is saved before the replacement, so that the next run can finish or undo one in which
/// a run died.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeNote {
    /// The file to be replaced, as it was seen before.
    pub seen: Stamp,
    /// The new file. A whole stamp, because inodes are reused.
    pub new: Stamp,
    /// The exchange back, if one is under way. Version 0.1 did not save it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<PutBack>,
}

/// An exchange back, saved before it. It tells which of two files of other programs was in place first. Their
/// modification times do not tell, because a copy may keep the time of its original.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutBack {
    /// The file that is put back in place.
    pub goes_in: Stamp,
    /// The file that comes out, unless another program has replaced it.
    pub comes_out: Stamp,
}

/// Saves a note, which replaces the one that was saved before.
pub(crate) type SaveNote<'s> = dyn FnMut(&ExchangeNote) -> Result<()> + 's;

/// How a file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By exchanging two files. On a file system that cannot do that, by `Rename`.
    Exchange,
    /// By renaming the new file over the old one. A replacement by another program in the instant before that is lost.
    Rename,
}

impl Method {
    /// The method on a file system of this kind; `None` where that is not known without a try.
    pub fn on(file_system: &str) -> Option<Self> {
        match file_system {
            "bcachefs" | "btrfs" | "ext3" | "ext4" | "f2fs" | "overlay" | "tmpfs" | "xfs" => Some(Self::Exchange),
            "9p" | "ceph" | "cifs" | "nfs" | "nfs4" | "smb3" => Some(Self::Rename),
            _ => None,
        }
    }
}

/// The two places of a replacement. Both are names in directories that are held open, so that a file that was looked at
/// is the one that is replaced or removed.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    /// The place of the file that is replaced.
    pub(crate) target: Place<'a>,
    /// The place of the new file before the exchange, and of the displaced one after it. It is on the file system of `target`.
    pub(crate) waiting: Place<'a>,
    pub(crate) method: Method,
}

impl Exchange<'_> {
    /// The metadata of the file; `None` where it is no longer in the state `seen`, or is missing.
    pub(crate) fn unchanged(&self, seen: Stamp) -> Result<Option<FileMeta>> {
        // If it is missing, the run plans again, and finds that out.
        Ok(self.target.look()?.filter(|meta| meta.stamp == seen))
    }

    /// Replaces the file by the waiting one, whose stamp is returned. `None` where the file is no longer in the state `seen`.
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
                // These are one number on Linux. On macOS, a file system that cannot exchange files returns the second.
                Err(error) if [Errno::OPNOTSUPP, Errno::NOTSUP].contains(&error) => {}
                Err(error) => {
                    // If a mount is the reason, this error says what to do.
                    check_replaceable(self.target, self.waiting.directory)?;
                    return Err(Error::io("replace", &self.target.path())(error));
                }
            }
        }
        self.waiting.rename(self.target)?;
        self.sync_names()?;
        Ok(Some(new.stamp))
    }

    /// Finishes or undoes a replacement in which a run died, according to its note. Returns whether the new file is in place.
    pub(crate) fn recover(&self, exchange: &ExchangeNote, save: &mut SaveNote) -> Result<bool> {
        let exchange = &self.on_this_device(exchange)?;
        if let Some(left) = self.displaced()? {
            let foreign = left != exchange.new && left != exchange.seen;
            if self.target.look()?.is_none() {
                // Another program has removed the file. A file that it had put there before must not be lost.
                return if foreign { self.rename_back().map(|_| false) } else { Ok(false) };
            }
            let now = Pinned::open(self.target)?;
            // If neither file is ours, the one in place is the later update. The exception is a file that the dead run
            // had put back: then the displaced one is later, because it had replaced ours.
            let put_in = |back: &PutBack| now.stamp == back.goes_in && left != back.comes_out;
            if foreign && (now.stamp == exchange.new || exchange.back.as_ref().is_some_and(put_in)) {
                self.put_back(exchange, now, save)?;
            }
            self.sync_names()?;
        }
        Ok(self.unchanged(exchange.new)?.is_some())
    }

    /// The note with the present id of the device of its files, which may change when the host is restarted. All files
    /// of a note are on one file system.
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

    /// Inspects the file that an exchange has displaced, and exchanges back if it is not the one that was seen.
    fn inspect(&self, seen: Stamp, new: Pinned, save: &mut SaveNote) -> Result<Option<Stamp>> {
        crash_point!("exchange: made");
        if self.displaced()?.is_some_and(|displaced| displaced == seen) {
            self.sync_names()?;
            return Ok(Some(new.stamp));
        }
        self.put_back(&ExchangeNote { seen, new: new.stamp, back: None }, new, save)?;
        Ok(None)
    }

    /// Exchanges back until the file that comes out is the one that went in, and removes that. If another file comes
    /// out, another program has replaced the file meanwhile, and its file is the latest.
    fn put_back(&self, exchange: &ExchangeNote, mut went_in: Pinned, save: &mut SaveNote) -> Result<()> {
        loop {
            if self.displaced()?.is_none() {
                return Ok(());
            }
            let next = Pinned::open(self.waiting)?;
            let back = PutBack { goes_in: next.stamp, comes_out: went_in.stamp };
            // Without the note, the exchange back is made nevertheless. Only if the run dies right then may the wrong
            // update stay.
            let _ = save(&ExchangeNote { back: Some(back), ..exchange.clone() });
            match self.exchange() {
                Ok(()) => {}
                // Another program has removed the file. The one that it had there before must not be lost.
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

    /// Moves the waiting file to the target, where there is no file. Returns `false` where there is one by now.
    fn rename_back(&self) -> Result<bool> {
        match self.rename_with(RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(Error::io("put back", &self.target.path())(error)),
        }
    }

    /// The state of the file at the waiting place, if there is one.
    fn displaced(&self) -> Result<Option<Stamp>> {
        Ok(self.waiting.look()?.map(|meta| meta.stamp))
    }

    /// Removes the file at the waiting place, which must be one of `ours`: the new file, or the one that it displaced.
    pub(crate) fn clear(&self, ours: [Stamp; 2]) -> Result<()> {
        let Some(left) = self.displaced()? else { return Ok(()) };
        if ours.iter().any(|stamp| stamp.is_same_file(left)) {
            return self.waiting.remove();
        }
        Err(OsProblem::NotOurs { waiting: self.waiting.path() }.into())
    }

    /// Makes the changes of both directories durable.
    pub(crate) fn sync_names(&self) -> Result<()> {
        self.target.directory.sync()?;
        self.waiting.directory.sync()
    }
}

/// A file that is held open, so that its inode is not reused: only then do equal stamps mean that the files are one.
pub(crate) struct Pinned {
    pub(crate) stamp: Stamp,
    _file: File,
}

impl Pinned {
    /// Holds the file at a place open.
    fn open(place: Place) -> Result<Self> {
        // With `O_PATH`, the file need not be readable.
        #[cfg(target_os = "linux")]
        let access = OFlags::PATH;
        #[cfg(not(target_os = "linux"))]
        let access = OFlags::RDONLY;
        let file = place.open(access).map_err(Error::io("open", &place.path()))?;
        Self::of(file, place)
    }

    /// Keeps a file open, which is at this place.
    pub(crate) fn of(file: File, place: Place) -> Result<Self> {
        Ok(Self { stamp: FileMeta::of_open(&file, &place.path())?.stamp, _file: file })
    }
}
