//! The replacement of the registry. The ledger names both files before it, so that a run that dies in the middle is put
//! right by whoever takes the data lock next.

use std::os::fd::AsFd;

use crate::backend::file::{LEDGER, LockedStore};
use crate::crash::crash_point;
use crate::error::Result;
use crate::os::exchange::{Held, Swap};
use crate::os::{FileMeta, fill};
use crate::plan::ledger::Ledger;
use crate::registry::Exchange;
use crate::registry::json::edit::{Splice, spliced};
use crate::registry::{Snapshot, Stamp};

/// The file that takes the registry's place, and after an exchange the one that it displaced.
pub(super) const NEW: &str = "registry.new";

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
    pub(super) fn write_new(&self, seen: &Snapshot, splices: &[Splice], facts: FileMeta) -> Result<()> {
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
