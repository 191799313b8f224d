//! The replacement of the registry. Its name is never missing, never holds anything but a whole registry, and an
//! update that somebody else made meanwhile by replacing the file is never lost.
//!
//! The new file is exchanged with the registry in one step, and what comes out is looked at. If that is not what the
//! edits were made to, it goes back.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::plan::ledger::{Exchange, Ledger};
use crate::registry::edit::{Splice, spliced};
use crate::registry::{Snapshot, Stamp};
use crate::store::{Facts, LEDGER, LockedStore};

/// The file that takes the registry's place, and after an exchange the one that it displaced.
const NEW: &str = "registry.new";

/// How the registry is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// By exchanging two files. Where the file system cannot, by `Rename`.
    Exchange,
    /// By renaming over it. A replacement by somebody else in the instant before that is lost.
    Rename,
}

impl LockedStore {
    pub(super) fn replace_registry(&self, seen: &Snapshot, splices: &[Splice]) -> Result<Option<Stamp>> {
        self.with_ledger(|ledger| {
            let Some(facts) = self.unchanged(seen.stamp)? else { return Ok(None) };
            self.write_new(seen, splices, facts)?;
            let new = Held::open(&self.dir.path(NEW))?;
            crash_point!("registry: new file written");
            let exchange = Exchange { seen: seen.stamp, new: new.stamp };
            ledger.exchange = Some(exchange.clone());
            if let Err(error) = self.save_ledger(ledger) {
                self.dir.remove(NEW)?;
                return Err(error);
            }
            // Where this fails, the note stays, and whoever takes the lock next puts right what it left.
            let replaced = self.swap(seen.stamp, new)?;
            crash_point!("registry: replaced");
            self.dir.remove(NEW)?;
            crash_point!("registry: displaced file removed");
            match replaced {
                Some(_) => ledger.replaced(&exchange),
                None => ledger.exchange = None,
            }
            self.save_ledger(ledger)?;
            Ok(replaced)
        })
        .map(|(replaced, _)| replaced)
    }

    /// What the registry is, if it is still what was seen.
    fn unchanged(&self, seen: Stamp) -> Result<Option<Facts>> {
        match std::fs::symlink_metadata(&self.store.file) {
            Ok(metadata) => Ok(Some(Facts::of(&metadata)).filter(|facts| facts.stamp == seen)),
            // Whoever plans again finds out, and says so.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", &self.store.file)(error)),
        }
    }

    /// Writes the new registry beside the old, with its mode and owner.
    fn write_new(&self, seen: &Snapshot, splices: &[Splice], facts: Facts) -> Result<()> {
        let path = self.dir.path(NEW);
        let file = self.dir.create_new(NEW)?;
        let written = fill(&file, seen, splices, facts, &path);
        if written.is_err() {
            // The error that matters is the first.
            let _ = self.dir.remove(NEW);
        }
        written
    }

    fn swap(&self, seen: Stamp, new: Held) -> Result<Option<Stamp>> {
        if self.unchanged(seen)?.is_none() {
            return Ok(None);
        }
        crash_point!("registry: looked at");
        let registry = &self.store.file;
        if self.means == Means::Exchange {
            match self.exchange() {
                Ok(()) => return self.inspect(seen, new),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(Error::io("replace", registry)(error)),
            }
        }
        rustix::fs::renameat(self.dir.fd(), NEW, CWD, registry).map_err(Error::io("replace", registry))?;
        self.sync_names()?;
        Ok(Some(new.stamp))
    }

    fn exchange(&self) -> Result<(), Errno> {
        rustix::fs::renameat_with(self.dir.fd(), NEW, CWD, &self.store.file, RenameFlags::EXCHANGE)
    }

    /// Looks at what an exchange displaced.
    fn inspect(&self, seen: Stamp, new: Held) -> Result<Option<Stamp>> {
        crash_point!("registry: exchanged");
        if self.displaced()?.is_some_and(|displaced| displaced == seen) {
            self.sync_names()?;
            return Ok(Some(new.stamp));
        }
        self.put_back(new)?;
        Ok(None)
    }

    /// Exchanges back, until what comes out is what went in: somebody may replace the file once more meanwhile, and
    /// then theirs is the latest.
    fn put_back(&self, mut went_in: Held) -> Result<()> {
        loop {
            if self.displaced()?.is_none() {
                return Ok(());
            }
            let next = Held::open(&self.dir.path(NEW))?;
            match self.exchange() {
                Ok(()) => {}
                // Somebody removed the registry; what they had there before must not be lost.
                Err(Errno::NOENT) => {
                    return rustix::fs::renameat(self.dir.fd(), NEW, CWD, &self.store.file)
                        .map_err(Error::io("put back", &self.store.file));
                }
                Err(error) => return Err(Error::io("put back", &self.store.file)(error)),
            }
            crash_point!("registry: put back");
            if self.displaced()?.is_none_or(|came_out| came_out == went_in.stamp) {
                return self.sync_names();
            }
            went_in = next;
        }
    }

    /// Puts right what a run left that died between the exchange and the look at what it displaced.
    pub(super) fn recover(&self, ledger: &mut Ledger) -> Result<()> {
        if let Some(exchange) = ledger.exchange.take() {
            if let Some(left) = self.displaced()? {
                let now = Held::open(&self.store.file)?;
                let foreign = left != exchange.new && left != exchange.seen;
                // Where neither file is ours, it died while putting back: then the younger is the latest.
                if foreign && (now.stamp == exchange.new || left.modified > now.stamp.modified) {
                    self.put_back(now)?;
                }
                self.sync_names()?;
            }
            if self.unchanged(exchange.new)?.is_some() {
                ledger.replaced(&exchange);
            }
        }
        self.dir.discard_unfinished(LEDGER)?;
        self.dir.remove(NEW)
    }

    fn displaced(&self) -> Result<Option<Stamp>> {
        Ok(self.dir.facts(NEW)?.map(|facts| facts.stamp))
    }

    fn sync_names(&self) -> Result<()> {
        let parent = self.store.file.parent().unwrap_or(Path::new("/"));
        let parent_dir = File::open(parent).map_err(Error::io("open", parent))?;
        parent_dir.sync_all().map_err(Error::io("save", parent))?;
        self.dir.sync()
    }
}

/// A file that is kept open, so that no other gets its inode: only then do equal stamps mean the same file.
struct Held {
    stamp: Stamp,
    _file: File,
}

impl Held {
    fn open(path: &Path) -> Result<Self> {
        // Where a file can be held without being read, it need not be readable.
        #[cfg(target_os = "linux")]
        let access = OFlags::PATH;
        #[cfg(not(target_os = "linux"))]
        let access = OFlags::RDONLY | OFlags::NONBLOCK;
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(Error::io("open", path))?);
        let stamp = Facts::of(&file.metadata().map_err(Error::io("look at", path))?).stamp;
        Ok(Self { stamp, _file: file })
    }
}

fn fill(file: &File, seen: &Snapshot, splices: &[Splice], facts: Facts, path: &Path) -> Result<()> {
    let keep_owner = "keep the registry's owner for";
    rustix::fs::fchown(file, Some(Uid::from_raw(facts.owner)), Some(Gid::from_raw(facts.group)))
        .map_err(Error::io(keep_owner, path))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(facts.mode))
        .map_err(Error::io("keep the registry's mode for", path))?;
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    let pieces = spliced(seen.text(), splices).try_for_each(|piece| writer.write_all(piece.as_bytes()));
    pieces.and_then(|()| writer.flush()).map_err(Error::io("write", path))?;
    drop(writer);
    file.sync_all().map_err(Error::io("save", path))
}
