//! What a launch does before its session starts, in one transaction: the row's model, and the debt that the start pays. Rows
//! are never added: the table is its owner's.

use jiff::Timestamp;
use postgres::Transaction;

use crate::apply::{Decide, Registered};
use crate::backend::postgres::connection::End;
use crate::backend::postgres::lease::naming_holder;
use crate::backend::postgres::named::{Fate, Name};
use crate::backend::postgres::problem::TableProblem;
use crate::backend::postgres::snapshot::{Field, TableSnapshot};
use crate::backend::postgres::state::State;
use crate::backend::postgres::table::RegistryTable;
use crate::error::{Error, Result};
use crate::launch::{Registration, SESSION_ID};
use crate::plan::json::{Head, JsonRow, JsonRun, Origin, Record};
use crate::plan::ledger::{Ledger, Note};
use crate::state::kept::Kept;

/// How often it is decided again because the row, or what runs remember of it, has changed meanwhile.
const TRIES: usize = 10;
/// How often the lock is waited for under which a lost transaction is asked about. A session waits for that.
const ASKED: usize = 3;

/// What a row is edited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A start of its session, which pays what that owes.
    Start,
    /// What its session, which runs, has told of itself.
    Record,
}

impl RegistryTable {
    /// Registers a session.
    ///
    /// # Errors
    /// Those of `decide`, and where the database cannot be used. Nothing has happened then.
    pub(super) fn register(
        &self,
        purpose: Purpose,
        now: Timestamp,
        by: &Origin,
        decide: &mut Decide<'_>,
    ) -> Result<Registered> {
        let table = self.snapshot()?;
        self.check_state()?;
        for _ in 0..TRIES {
            // The rows are read when they are asked for, so what is remembered is no newer than they are.
            let ledger = self.ledger(table.relation())?;
            let registration = decide(&table, &ledger)?;
            if registration.entry.is_none() {
                return Ok(Registered { changed: false, paid: false, error: None });
            }
            let chat = registration.chat.id.as_ref();
            if let Some(field) = table.unreadable_field(chat)? {
                return Err(TableProblem::OtherForm { field: field.into(), chat: chat.into() }.into());
            }
            let edit = Edit { table: &table, ledger: &ledger, registration: &registration, purpose, now, by };
            let end = table.database().change(|transaction| edit.make(transaction));
            match end.map_err(|error| naming_holder(error, table.database(), &table.relation().name))? {
                End::Committed((registered, _)) => return Ok(registered),
                End::Lost((registered, name), error) => match self.fate(&table.relation().name, name) {
                    Fate::Committed => return Ok(registered),
                    Fate::TakenBack => {}
                    Fate::Unknown => {
                        let unanswered = TableProblem::Unanswered { why: error.explain().message };
                        return Ok(Registered { error: Some(unanswered.into()), ..registered });
                    }
                },
                End::TakenBack => {}
            }
        }
        Err(TableProblem::Unsteady { registry: self.name().into(), times: TRIES }.into())
    }

    /// What became of a transaction of this name on a registry, as far as the server can be asked.
    fn fate(&self, registry: &str, name: Name) -> Fate {
        let ask = || {
            self.database().write(|transaction| {
                State { transaction, registry }.hold()?;
                name.fate(transaction)
            })
        };
        for _ in 1..ASKED {
            match ask() {
                Err(Error::Locked { .. }) => {}
                fate => return fate.unwrap_or(Fate::Unknown),
            }
        }
        ask().unwrap_or(Fate::Unknown)
    }

    /// Notes that a session which was registered did not start.
    pub(super) fn owe(&self, chat: &str, now: Timestamp) -> Result<()> {
        let registry = self.look()?.name;
        self.change(|transaction| {
            let mut state = State { transaction, registry: &registry };
            state.hold()?;
            let kept = state.kept_of(&[chat])?;
            state.save(&kept.ledger, &kept.noting(&[Note::Owes { chat, ran: None, identity: None }], now))
        })
    }
}

/// A registration, and what it was decided on.
struct Edit<'e> {
    table: &'e TableSnapshot,
    ledger: &'e Ledger,
    registration: &'e Registration,
    purpose: Purpose,
    now: Timestamp,
    by: &'e Origin,
}

impl Edit<'_> {
    /// Makes the edit, and returns the name of its transaction as well; `None` where the registration was decided on something
    /// else than there is by now.
    fn make(&self, transaction: &mut Transaction) -> Result<Option<(Registered, Name)>> {
        let chat = self.registration.chat.id.as_ref();
        let name = Name::of(transaction)?;
        let mut state = State { transaction, registry: &self.table.relation().name };
        state.hold()?;
        let kept = state.kept_of(&[chat])?;
        if self.is_stale(&kept.ledger) {
            return Ok(None);
        }
        let mut at = None;
        self.table.lock(state.transaction, &[chat], &mut |entry| {
            if entry.chat.id == chat {
                at = Some(entry.at);
            }
        })?;
        if at != self.registration.entry {
            return Ok(None);
        }
        let changed = self.write(state.transaction, chat)?;
        let paid = match self.purpose {
            Purpose::Start => self.note(&mut state, &kept)?,
            Purpose::Record => false,
        };
        Ok(Some((Registered { changed, paid, error: None }, name)))
    }

    /// Whether something is remembered by now that may decide otherwise.
    fn is_stale(&self, now: &Ledger) -> bool {
        let chat = self.registration.chat.id.as_ref();
        let was = self.ledger;
        now.failed != was.failed
            || now.trials != was.trials
            || now.owed.get(chat) != was.owed.get(chat)
            || now.wrote.get(chat) != was.wrote.get(chat)
    }

    /// Writes the model and the id of the conversation, where the row has others. All else of it is its owner's.
    fn write(&self, transaction: &mut Transaction, chat: &str) -> Result<bool> {
        let model = self.registration.model.as_ref().map(|model| (Field::Model, model.as_str()));
        let session = self.registration.fields.iter().find(|(name, _)| *name == SESSION_ID);
        let session = session.map(|(_, id)| (Field::SessionId, id.as_str()));
        let mut changed = false;
        for (field, value) in model.into_iter().chain(session) {
            self.table.write(transaction, field, &[chat], &[Some(value)])?;
            changed = true;
        }
        Ok(changed)
    }

    /// Takes the notes of a start, and tells the history of it where a model is changed or a restart is paid. Returns whether
    /// one is paid.
    fn note(&self, state: &mut State, kept: &Kept) -> Result<bool> {
        let Registration { chat, model, told, .. } = self.registration;
        let chat = chat.id.as_ref();
        let paid = kept.ledger.owed.contains_key(chat);
        let head = Head { at: self.now, by: self.by.clone(), plan_id: String::new() };
        let record = Record { name: state.name_run(self.now)?, head };
        let row = JsonRow { restart: paid, ..told.clone() };
        let mut notes = Vec::new();
        if model.is_some() {
            notes.push(Note::Edits { record: &record, row: &row });
            notes.extend(self.registration.wrote());
        }
        notes.extend([Note::ReadBack { chat }, Note::Settled { chat }]);
        if model.is_some() || paid {
            notes.push(Note::Does { record: &record, row: &row });
        }
        let mut patch = kept.noting(&notes, self.now).made();
        let draft = patch.unrecorded.remove(&record.name).flatten();
        state.save(&kept.ledger, &patch)?;
        if let Some(run) = draft.and_then(|draft| draft.into_run(&record.name)) {
            state.append(&JsonRun::finished(run))?;
        }
        Ok(paid)
    }
}
