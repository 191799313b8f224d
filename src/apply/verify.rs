//! Step 6: whether what was edited has stuck.

use std::collections::{BTreeMap, HashMap};

use crate::apply::Run;
use crate::chat::Model;
use crate::error::{Error, Result};
use crate::plan::{Outcome, Verdict};
use crate::registry::scan_into;

impl Run<'_> {
    /// What the registry says of the rows that were edited.
    fn read_back(&self) -> Result<BTreeMap<usize, Option<String>>> {
        let edited = self.rows().enumerate().filter(|(_, row)| row.effects.edited);
        let edited: HashMap<&str, usize> = edited.map(|(at, row)| (row.chat.id.as_ref(), at)).collect();
        let policy = self.goal.policy;
        let (_, parts) = scan_into(&self.files.registry()?, Vec::new, |found, entry| {
            if let Some(at) = edited.get(entry.chat.id.as_ref()) {
                found.push((*at, entry.model.as_deref().map(|model| policy.canonical(model).to_owned())));
            }
        })
        .map_err(Error::Invalid)?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Whether a row has reached the registry.
    fn is_there(&self, at: usize, found: &BTreeMap<usize, Option<String>>) -> bool {
        let after = self.planned.plan.rows[at].after.as_ref().map(Model::as_str);
        found.get(&at).is_some_and(|model| model.as_deref() == after)
    }

    /// Step 6: what did not stick has failed; what a daemon has not saved yet is remembered.
    pub(super) fn verify(&mut self) {
        let edited: Vec<usize> =
            (0..self.planned.plan.rows.len()).filter(|at| self.planned.plan.rows[*at].effects.edited).collect();
        if edited.is_empty() {
            return;
        }
        // Nobody has replaced it or written into it since: then it is what was written.
        if self.made.is_some() && self.files.stamp().ok() == self.made {
            self.stuck = edited;
            return;
        }
        self.backend.settle(&|| self.read_back().is_ok_and(|found| edited.iter().all(|at| self.is_there(*at, &found))));
        let read = self.read_back();
        for at in edited {
            let outcome = match &read {
                Err(_) => Outcome::because(Verdict::Unknown, "the registry could not be read back"),
                Ok(found) if self.is_there(at, found) => {
                    self.stuck.push(at);
                    continue;
                }
                // It is known already why.
                Ok(_) if self.planned.plan.rows[at].outcome.verdict == Verdict::Failed => continue,
                Ok(found) => match (found.get(&at), self.started.get(&at)) {
                    (None, _) => Outcome::because(Verdict::Failed, "its entry was removed meanwhile"),
                    // Only where a daemon starts sessions is it known which run of one that is.
                    (Some(_), Some(run)) => {
                        self.unsaved.push((at, run.clone()));
                        Outcome::because(Verdict::Done, "not yet saved")
                    }
                    (Some(model), _) => {
                        let model = model.as_deref().unwrap_or("nothing");
                        Outcome::because(Verdict::Failed, format!("the registry says {model} again"))
                    }
                },
            };
            self.planned.plan.rows[at].outcome = outcome;
        }
        if let Err(error) = read {
            self.error.get_or_insert(error);
        }
    }
}
