//! Reads back the edits of a wave. An edit that is no longer in the registry has failed.

use std::collections::BTreeMap;

use crate::apply::backend::Stands;
use crate::apply::wave::Run;
use crate::chat::Model;
use crate::plan::{Outcome, Row, Verdict};

/// Whether the registry still has an edit.
enum Stuck {
    Yes,
    /// It has not, and the row says why already.
    KnownFailure,
    /// It has not, and the row gets this outcome.
    No(Outcome),
}

impl Row {
    fn unless_failed(&self, outcome: Outcome) -> Stuck {
        if self.outcome.verdict == Verdict::Failed { Stuck::KnownFailure } else { Stuck::No(outcome) }
    }
}

impl Run<'_> {
    /// Reads back the edits of a wave, and sets the outcomes of rows whose edits the registry does not have.
    pub(super) fn read_back(&mut self, wave: &[usize]) {
        let rows = &self.planned.plan.rows;
        let edited: Vec<usize> = wave.iter().copied().filter(|index| rows[*index].effects.edited).collect();
        if edited.is_empty() {
            return;
        }
        let asked: Vec<&Row> = edited.iter().map(|index| &rows[*index]).collect();
        let found = match self.context.locked.read_back(&asked) {
            Ok(found) => found,
            Err(error) => {
                self.error.get_or_insert(error);
                for index in edited {
                    let outcome = Outcome::because(Verdict::Unknown, "the registry could not be read back");
                    self.planned.plan.rows[index].outcome = outcome;
                }
                return;
            }
        };
        for index in edited {
            match self.stuck(index, &found) {
                Stuck::Yes => self.confirmed.push(index),
                Stuck::KnownFailure => self.not_confirmed.push(index),
                Stuck::No(outcome) => {
                    self.planned.plan.rows[index].outcome = outcome;
                    self.not_confirmed.push(index);
                }
            }
        }
    }

    fn stuck(&self, index: usize, found: &BTreeMap<String, Stands>) -> Stuck {
        let row = &self.planned.plan.rows[index];
        let says = match found.get(row.chat.id.as_ref()) {
            Some(Stands::Model(model)) => model.as_ref().map(|model| self.input.policy.canonical(model.as_str())),
            Some(Stands::NotSavedYet) => return row.unless_failed(Outcome::because(Verdict::Done, "not yet saved")),
            Some(Stands::Gone) | None => {
                return row.unless_failed(Outcome::because(Verdict::Failed, "its entry was removed meanwhile"));
            }
        };
        if says == row.after.as_ref().map(Model::as_str) {
            return Stuck::Yes;
        }
        let says = says.unwrap_or("nothing");
        row.unless_failed(Outcome::because(Verdict::Failed, format!("the registry has {says} again")))
    }
}
