//! The batches of a wave. A database locks the rows that a transaction changes until the transaction ends, and applications wait for
//! them. So a wave is committed in several batches, each with the restarts that it will owe and what the history will tell of it. The
//! sessions are restarted after the last batch of their wave.

use crate::apply::wave::{Beside, Progress, Run};
use crate::error::Result;

impl Run<'_> {
    /// Commits a wave, and returns the rows that were committed; `None` where the registry or a debt has changed since the plan was made,
    /// and nothing was committed. Where a change is found after the first batch, the rest of the wave is left to another wave.
    pub(super) fn commit_wave(&mut self, wave: &[usize], notes: Beside) -> Result<Option<Vec<usize>>> {
        let (first, others) = wave.split_at(self.first_batch(wave));
        let Some(mut committed) = self.commit_batch(first, notes)? else { return Ok(None) };
        for batch in others.chunks(self.at_once()) {
            if !self.may_go_on() {
                break;
            }
            match self.commit_batch(batch, Beside::Nothing) {
                Ok(Some(batch)) => committed.extend(batch),
                Ok(None) => break,
                Err(error) => _ = self.error.get_or_insert(error),
            }
        }
        Ok(Some(committed))
    }

    /// Commits those rows of a batch that can be edited, and returns them; `None` where the registry or a debt has changed since the plan
    /// was made.
    fn commit_batch(&mut self, batch: &[usize], notes: Beside) -> Result<Option<Vec<usize>>> {
        loop {
            let rows = &self.planned.plan.rows;
            let batch: Vec<usize> = batch.iter().copied().filter(|index| rows[*index].is_planned()).collect();
            match self.commit(&batch, notes)? {
                Progress::Converge => return Ok(Some(batch)),
                Progress::PlanAgain => return Ok(None),
                Progress::WithoutSome => {}
            }
        }
    }

    /// How many rows of a wave are in its first batch. Canaries are one batch: they are few, and all of them must come up before the rest
    /// is edited.
    fn first_batch(&self, wave: &[usize]) -> usize {
        let is_whole = self.is_per_row() || wave.iter().any(|index| self.planned.plan.rows[*index].canary);
        if is_whole { wave.len() } else { wave.len().min(self.at_once()) }
    }

    /// How many rows are committed together at most. A plan that the user named is applied as a whole, unless the policy has
    /// `limits.batch`.
    pub(super) fn at_once(&self) -> usize {
        let named = self.input.limits.expected.map(|_| usize::MAX);
        self.input.policy.batch.or(named).or(self.context.backend.batch()).unwrap_or(usize::MAX)
    }
}
