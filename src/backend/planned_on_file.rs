//! A backend for planning on a file, such as a redacted snapshot, with a policy whose own registry is elsewhere. It changes nothing,
//! because a run would have to change that other registry.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::apply::{Ask, Backend, Locked};
use crate::backend::file::RegistryFile;
use crate::backend::problem::BackendProblem;
use crate::checkup::Check;
use crate::error::Result;
use crate::plan::capabilities::Capabilities;
use crate::plan::json::JsonRun;
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Edits, Observed};
use crate::plan::{Drift, Reading};
use crate::redact::Redaction;
use crate::registry::Snapshot;

/// A file that a policy of another backend is planned on.
pub(super) struct PlannedOnFile {
    pub(super) registry: RegistryFile,
    /// What the policy's own backend can do.
    pub(super) capabilities: Box<dyn Capabilities>,
}

impl Backend for PlannedOnFile {
    fn capabilities(&self) -> &dyn Capabilities {
        self.capabilities.as_ref()
    }

    fn read(&self, _: Ask<'_>) -> Result<Reading> {
        let (snapshot, ledger) = (self.snapshot()?, self.ledger()?);
        Ok(Reading { snapshot, ledger, doubtful: BTreeSet::new(), imposed: None })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.registry.snapshot()?))
    }

    /// An empty ledger: what runs remember is kept with the policy's own registry.
    fn ledger(&self) -> Result<Ledger> {
        Ok(Ledger::default())
    }

    fn observe(&self, _: &Reading, _: &Drift) -> Result<Observed> {
        Ok(Observed { edits: Edits::PerRow { batch: 1 }, ..Observed::default() })
    }

    fn redaction_key(&self) -> Result<Redaction> {
        self.registry.redaction_key()
    }

    fn checkup(&self) -> Vec<Check> {
        self.registry.checkup()
    }

    fn lock<'b>(&'b self, _: Duration, _: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        Err(BackendProblem::OnlyPlanned { file: self.registry.file().to_owned() }.into())
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(std::iter::empty()))
    }
}
