//! The replacement of the registry. The ledger names both files before it, so that a run that dies in the middle is put
//! right by whoever takes the data lock next.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, Uid};

use crate::crash::crash_point;
use crate::error::{Error, Result, reason};
use crate::plan::ledger::{Exchange, Ledger};
use crate::registry::edit::{Splice, spliced};
use crate::registry::{Snapshot, Stamp};
use crate::store::swap::{Held, Swap};
use crate::store::{Facts, LEDGER, LockedStore};

/// The file that takes the registry's place, and after an exchange the one that it displaced.
pub(super) const NEW: &str = "registry.new";

/// In bytes. There may be an edit every few lines, and a write for each piece between them takes longer than the copy.
const WRITTEN_AT_ONCE: usize = 1 << 20;

impl LockedStore {
    /// Replaces the registry by `seen` with the edits made. The data lock must be held, and `ledger` be what it guards.
    pub(super) fn replace_under(
        &self,
        ledger: &mut Ledger,
        seen: &Snapshot,
        splices: &[Splice],
    ) -> Result<Option<Stamp>> {
        let swap = self.swap();
        let Some(facts) = swap.unchanged(seen.stamp)? else { return Ok(None) };
        self.write_new(seen, splices, facts)?;
        let new = Held::open(&swap.waiting_path)?;
        crash_point!("registry: new file written");
        let exchange = Exchange { seen: seen.stamp, new: new.stamp };
        ledger.exchange = Some(exchange.clone());
        if let Err(error) = self.save_ledger(ledger) {
            swap.clear()?;
            return Err(error);
        }
        // Where this fails, the note stays, and whoever takes the lock next puts right what it left.
        let replaced = swap.run(seen.stamp, new)?;
        crash_point!("registry: replaced");
        swap.clear()?;
        crash_point!("registry: displaced file removed");
        match replaced {
            Some(_) => ledger.replaced(&exchange),
            None => ledger.exchange = None,
        }
        self.save_ledger(ledger)?;
        Ok(replaced)
    }

    pub(super) fn swap(&self) -> Swap<'_> {
        let waiting = (self.dir.fd().as_fd(), NEW);
        Swap { target: &self.store.file, waiting, waiting_path: self.dir.path(NEW), means: self.means }
    }

    /// Writes the new registry beside the old, with its mode and owner.
    pub(super) fn write_new(&self, seen: &Snapshot, splices: &[Splice], facts: Facts) -> Result<()> {
        let path = self.dir.path(NEW);
        let file = self.dir.create_new(NEW)?;
        crash_point!("registry: new file begun");
        let pieces = spliced(seen.text(), splices).map(str::as_bytes);
        let written = fill(&file, pieces, facts, &path);
        if written.is_err() {
            // The error that matters is the first.
            let _ = self.dir.remove(NEW);
        }
        written
    }

    /// Puts right what a run left that died in the middle.
    pub(super) fn recover(&self, ledger: &mut Ledger) -> Result<()> {
        if let Some(exchange) = ledger.exchange.take()
            && self.swap().recover(&exchange)?
        {
            ledger.replaced(&exchange);
        }
        self.dir.discard_unfinished(LEDGER)?;
        self.dir.remove(NEW)
    }
}

/// Writes a file that is to take another's place, with its mode and owner. On disk when it returns.
pub(super) fn fill<'a>(file: &File, pieces: impl Iterator<Item = &'a [u8]>, facts: Facts, path: &Path) -> Result<()> {
    let (owner, group) = (Uid::from_raw(facts.owner), Gid::from_raw(facts.group));
    rustix::fs::fchown(file, Some(owner), Some(group)).map_err(|error| {
        Error::other(format!("cannot keep the owner of {}: {}", path.display(), reason(&error.into())))
            .with_hint(format!("what it replaces belongs to user {}: run as that user, or as root", facts.owner))
    })?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(facts.mode)).map_err(Error::io("keep the mode of", path))?;
    let mut writer = BufWriter::with_capacity(WRITTEN_AT_ONCE, file);
    let mut pieces = pieces;
    let written = pieces.try_for_each(|piece| writer.write_all(piece)).and_then(|()| writer.flush());
    written.map_err(Error::io("write", path))?;
    drop(writer);
    file.sync_all().map_err(Error::io("save", path))
}
