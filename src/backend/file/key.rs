//! The key of a registry's pseudonyms, which is made when it is first needed.

use std::time::Duration;

use crate::backend::file::commit::Files;
use crate::backend::file::registry::RegistryFile;
use crate::error::Result;
use crate::redact::Redaction;
use crate::state::key;

impl RegistryFile {
    /// The key that the registry's chats are redacted with, and a new one where there is none.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub fn redaction_key_or_new(&self, patience: Duration) -> Result<Redaction> {
        let files = Files::new(self.clone(), self.meta()?, patience)?;
        // Two programs must not make two keys.
        let _ledger = files.open()?;
        if let Some(redaction) = key::read(files.dir())? {
            return Ok(redaction);
        }
        let redaction = key::new()?;
        files.dir().save(key::KEY, redaction.to_text().as_bytes())?;
        Ok(redaction)
    }
}
