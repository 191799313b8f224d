//! A policy for a registry under pseudonyms: its overrides are for them, too.

use crate::policy::{Because, Policy};
use crate::redact::Redaction;

impl Policy {
    /// The same policy, its chats under pseudonyms.
    ///
    /// # Errors
    /// The first rule that asks for chat ids, of which nothing is left to ask for.
    pub fn redacted(mut self, redaction: &Redaction) -> Result<Self, Because> {
        if let Some(rule) = self.rules.iter().find(|rule| rule.chat.is_some()) {
            return Err(rule.choice.because.clone());
        }
        let chats = std::mem::take(&mut self.chats).into_iter().map(|(id, mut entry)| {
            let id = redaction.chat(&id);
            entry.because.rule = format!("chats.{id:?}");
            (id, entry)
        });
        self.chats = chats.collect();
        Ok(self)
    }

    /// The same policy without what its writers say of chats in words.
    #[must_use]
    pub fn without_reasons(mut self) -> Self {
        for entry in self.chats.values_mut() {
            entry.reason = None;
        }
        self
    }
}
