//! What only the run that holds the registry may do. A change, the restart that it owes and what the history will tell of it
//! are committed together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use postgres::Transaction;

use crate::apply::{Attempt, Batch, Committed, Locked, Stands, Turn};
use crate::backend::commands::Commands;
use crate::backend::postgres::edits;
use crate::backend::postgres::lease::{Changed, Lease};
use crate::backend::postgres::snapshot::TableSnapshot;
use crate::backend::postgres::state::State;
use crate::backend::postgres::told;
use crate::error::{Bug, Remedy, Result};
use crate::plan::json::{JsonRun, Origin, name_after};
use crate::plan::last_applied::{Found, Reach};
use crate::plan::ledger::{Debt, Note};
use crate::plan::standing_faults::Told;
use crate::plan::{Outcome, Reading, Row, Verdict};

/// A table that this run holds.
#[derive(Debug)]
pub(super) struct LockedTable<'b> {
    pub(super) table: TableSnapshot,
    pub(super) lease: Lease,
    pub(super) commands: &'b Commands,
}

impl Drop for LockedTable<'_> {
    fn drop(&mut self) {
        self.lease.release(self.table.database());
    }
}

impl LockedTable<'_> {
    /// Tells the history what it does not know yet of runs that died.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub(super) fn tell_of_the_dead(&self) -> Result<()> {
        self.change(|state| record(state, None).map(Some)).map(drop)
    }

    fn change<T>(&self, mut work: impl FnMut(&mut State) -> Result<Option<T>>) -> Result<Changed<T>> {
        let registry = self.table.relation().name.as_str();
        let work = |transaction: &mut Transaction| work(&mut State { transaction, registry });
        self.lease.change(self.table.database(), work)
    }

    /// Makes a change. Where it cannot be found out whether the change was committed, that is an error.
    fn change_for_sure<T>(&self, mut work: impl FnMut(&mut State) -> Result<T>) -> Result<T> {
        match self.change(|state| work(state).map(Some))? {
            Changed::Made(value) => Ok(value),
            Changed::Unknown(_, error) => Err(error),
            Changed::Nothing => Err(Bug("the transaction was not committed").into()),
        }
    }

    /// Locks the rows of a batch, and tells whether each is what was planned on.
    fn is_as_planned(&self, transaction: &mut Transaction, batch: &Batch) -> Result<bool> {
        let ids: Vec<&str> = batch.changes.iter().map(|change| change.chat).collect();
        let mut stand = BTreeMap::new();
        self.table.lock(transaction, &ids, &mut |entry| _ = stand.insert(entry.chat.id.into_owned(), entry.at))?;
        Ok(batch.changes.iter().all(|change| stand.get(change.chat) == Some(&change.at)))
    }
}

/// The chats of a batch and of these notes. What is remembered of them is read before the batch is committed.
fn chats<'b>(batch: &'b Batch, notes: &'b [Note]) -> Vec<&'b str> {
    let changed = batch.changes.iter().map(|change| change.chat);
    let chats: BTreeSet<&str> = changed.chain(notes.iter().map(Note::chat)).collect();
    chats.into_iter().collect()
}

/// Appends to the history what is not told there yet: what this run did, and what commands did that died. With a run of its own, also
/// forgets the corrections that have lasted.
fn record(state: &mut State, own: Option<&JsonRun>) -> Result<()> {
    let drafts = state.drafts(own.map(|own| own.run.as_ref()))?;
    let told = drafts.keys().map(|name| (name.clone(), None)).collect();
    let is_reserved = own.is_some_and(|own| drafts.contains_key(own.run.as_ref()));
    for (name, draft) in drafts {
        if let Some(run) = draft.and_then(|draft| draft.into_run(&name)) {
            state.append(&run)?;
        }
    }
    if let Some(own) = own {
        // A run without effects has not reserved its name, so another run may have taken that name.
        let name = if is_reserved { own.run.to_string() } else { name_after(state.newest_run()?.as_deref(), own.at) };
        state.append(&JsonRun { run: name.into(), ..own.clone() })?;
        state.forget_lasting(own.at)?;
    }
    state.save_drafts(&told)
}

impl Locked for LockedTable<'_> {
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        if batch.is_empty() {
            return Ok(Committed::Done { error: None });
        }
        let identities = self.commands.identities_before(reading, batch)?;
        let batch = batch.clone().identified(&identities);
        let notes = [batch.notes_before(), batch.notes_after()].concat();
        let chats = chats(&batch, &notes);
        let mut not_taken = BTreeMap::new();
        let changed = self.change(|state| {
            let kept = state.kept_of(&chats)?;
            if batch.is_stale(&kept.ledger) || !self.is_as_planned(state.transaction, &batch)? {
                return Ok(None);
            }
            not_taken = edits::make(&self.table, state.transaction, &batch.changes)?;
            if !not_taken.is_empty() {
                return Ok(None);
            }
            let record = batch.notes.iter().find_map(|note| match note {
                Note::Edits { record, .. } => Some(record),
                _ => None,
            });
            record.map_or(Ok(()), |record| state.follows(&record.head.by))?;
            state.note_around(&kept, &notes, batch.now).map(Some)
        });
        Ok(match changed {
            Err(error) if error.remedy() == Remedy::TryAgain && !batch.changes.is_empty() => {
                Committed::Blocked(Outcome::because(Verdict::Deferred, error.text()))
            }
            Err(error) => return Err(error),
            Ok(Changed::Nothing) if !not_taken.is_empty() => Committed::NotTaken(not_taken),
            Ok(Changed::Nothing) => Committed::Stale,
            Ok(Changed::Made(())) => Committed::Done { error: None },
            Ok(Changed::Unknown((), error)) => Committed::Done { error: Some(error) },
        })
    }

    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        self.change_for_sure(|state| {
            let mut kept = state.kept_of(&notes.iter().map(Note::chat).collect::<Vec<_>>())?;
            let patch = kept.noting(notes, now);
            state.save(&kept.ledger, &patch)?;
            kept.patch(patch);
            let debts = notes.iter().filter_map(|note| kept.ledger.owed.get_key_value(note.chat()));
            Ok(debts.map(|(chat, debt)| (chat.clone(), debt.clone())).collect())
        })
    }

    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        rows.iter().map(|row| self.commands.restart(row, turn)).collect()
    }

    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        let chat = |row: &&Row| (row.chat.id.clone().into_owned(), Stands::Gone);
        let mut found: BTreeMap<String, Stands> = rows.iter().map(chat).collect();
        // These ids were read from the table, so the type of its column can hold them, and its index finds them.
        let chats: Vec<&str> = rows.iter().map(|row| row.chat.id.as_ref()).collect();
        let models = self.table.database().read(|transaction| self.table.models(transaction, &chats))?;
        found.extend(models.into_iter().map(|(chat, model)| (chat, Stands::Model(model))));
        Ok(found)
    }

    fn remember(&self, found: &Found, reach: Reach) -> Result<()> {
        match self.change(|state| state.remember(found, reach))? {
            Changed::Made(()) | Changed::Nothing => Ok(()),
            Changed::Unknown((), error) => Err(error),
        }
    }

    fn forget_applied(&self) -> Result<()> {
        self.change_for_sure(|state| {
            let kept = state.kept()?;
            state.forget_applied(&kept)
        })
    }

    fn newer_policy(&self, by: &Origin) -> Result<Option<String>> {
        let registry = self.table.relation().name.as_str();
        self.table.database().read(|transaction| State { transaction, registry }.newer_policy(by))
    }

    fn confirms_commits(&self) -> bool {
        true
    }

    fn told(&self) -> Result<Told> {
        let registry = self.table.relation().name.as_str();
        self.table.database().read(|transaction| told::read(transaction, registry))
    }

    fn remember_told(&self, told: Told) -> Result<()> {
        self.change_for_sure(|state| told::save(state, &told))
    }

    fn name_run(&self, at: Timestamp) -> Result<String> {
        self.change_for_sure(|state| state.name_run(at))
    }

    fn record(&self, run: &JsonRun<'_>) -> Result<()> {
        self.change_for_sure(|state| record(state, Some(run)))
    }
}
