//! The redaction key of a registry in a file, which is created when it is first needed.

use std::path::PathBuf;
use std::time::Duration;

use crate::backend::file::commit::Files;
use crate::backend::file::registry::RegistryFile;
use crate::error::Result;
use crate::redact::Redaction;
use crate::state::key;

impl RegistryFile {
    /// The key for redacting the registry's chats. If there is none, it is created, and the path of its file returned.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub(crate) fn redaction_key_or_new(&self, patience: Duration) -> Result<(Redaction, Option<PathBuf>)> {
        let files = Files::new(self.clone(), self.meta()?)?;
        // The lock keeps two programs from creating two keys.
        let _ledger = files.open_within(patience, &|| false)?;
        key::read_or_new(files.dir())
    }
}
