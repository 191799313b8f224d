//! A policy for a redacted registry: the names in it are replaced by their pseudonyms, and the reasons of overrides are left out.

use crate::policy::{Assignment, Because, Condition, Glob, Policy, Who, is_glob};
use crate::redact::Redaction;

impl Policy {
    /// This policy with the pseudonyms of its chats.
    ///
    /// # Errors
    /// The first rule or assignment that matches chats by a glob or a contact's name: it could not match pseudonyms.
    pub fn redacted(mut self, redaction: &Redaction) -> Result<Self, Because> {
        if let Some(rule) = self.rules.iter().find(|rule| rule.chat.is_some()) {
            return Err(rule.choice.because.clone());
        }
        for assignment in &mut self.assignments {
            assignment.redact(redaction)?;
        }
        self.redacted_tiers = self.tier_names().into_iter().map(|tier| (redaction.tier(&tier), tier)).collect();
        self.redact_names(redaction);
        Ok(self)
    }

    /// This policy with pseudonyms, for showing the decision on one chat. The globs of a rule are replaced by the pseudonym of that
    /// chat where they match it, and by `…` where they do not.
    #[must_use]
    pub(crate) fn redacted_for(mut self, redaction: &Redaction, chat: &str) -> Self {
        for globs in self.rules.iter_mut().filter_map(|rule| rule.chat.as_mut()) {
            let id = if globs.iter().any(|glob| glob.matches(chat)) { redaction.chat(chat) } else { "…".to_owned() };
            *globs = vec![Glob::new(&id)];
        }
        self.redact_names(redaction);
        self
    }

    fn redact_names(&mut self, redaction: &Redaction) {
        let chats = std::mem::take(&mut self.chats).into_iter().map(|(id, mut entry)| {
            let id = redaction.chat(&id);
            entry.because.rule = format!("chats.{id:?}");
            entry.reason = None;
            entry.was = entry.was.iter().map(|id| redaction.chat(id)).collect();
            (id, entry)
        });
        self.chats = chats.collect();
        let former = std::mem::take(&mut self.former).into_iter();
        self.former = former.map(|(old, id)| (redaction.chat(&old), redaction.chat(&id))).collect();
        for (condition, values) in self.rules.iter_mut().flat_map(|rule| &mut rule.values) {
            match condition {
                Condition::Account => *values = values.iter().map(|account| redaction.chat(account)).collect(),
                // The globs of `Condition::Chat` are not among the values.
                Condition::Source | Condition::Tier | Condition::Type | Condition::Agent | Condition::Chat => {}
            }
        }
    }
}

impl Assignment {
    /// Replaces the ids of its chats by pseudonyms.
    ///
    /// # Errors
    /// Where a member is a glob or a contact's name, neither of which matches pseudonyms.
    fn redact(&mut self, redaction: &Redaction) -> Result<(), Because> {
        for member in &mut self.members {
            match &mut member.who {
                Who::Chats(glob) if !is_glob(glob.pattern()) => *glob = Glob::new(&redaction.chat(glob.pattern())),
                Who::Chats(_) | Who::Contact(_) => return Err(self.because.clone()),
            }
        }
        Ok(())
    }
}
