//! A run on the sessions of a gateway. A change is on disk when it is answered, needs no restart, and can be made again: so
//! nothing is ever owed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::{Attempt, Batch, Committed, Locked, Stands, Turn};
use crate::backend::listener::Listener;
use crate::backend::openclaw::abilities::{DEFAULT, pin};
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::gateway::{Gateway, Target, TargetOutcome};
use crate::backend::openclaw::hello::Scope;
use crate::backend::openclaw::home::{GatewayHome, heard};
use crate::backend::openclaw::snapshot::{GatewaySnapshot, Sessions};
use crate::backend::openclaw::thinking::{Levels, Thought, Thoughts};
use crate::chat::Model;
use crate::error::{Error, Result};
use crate::plan::conditions::Told;
use crate::plan::json::JsonRun;
use crate::plan::last_applied::{Found, Reach};
use crate::plan::ledger::{Begin, Debt, Note};
use crate::plan::{Reading, Row};
use crate::state::run::RunState;

/// Said of a session that was not the one that had been listed.
const CHANGED: &str = "its session was deleted or made anew since the plan was made";
/// Said of a change that got no reply, and that the gateway does not have.
const NOT_THERE: &str = "the gateway did not reply, and has not made the change: the next run tries again";

/// The one run that holds the lock, with a connection that may change sessions and nothing else.
pub(super) struct LockedGateway<'b> {
    state: RunState,
    /// What the changes of the last plan mean for the thinking of sessions.
    thoughts: &'b Thoughts,
    listener: &'b dyn Listener,
    gateway: Mutex<Gateway>,
    /// What the last plan was made on.
    planned_on: Mutex<Arc<Sessions>>,
}

impl<'b> LockedGateway<'b> {
    /// Takes the lock, and connects.
    pub(super) fn lock(
        home: &GatewayHome,
        thoughts: &'b Thoughts,
        listener: &'b dyn Listener,
        patience: Duration,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let state = RunState::lock(home.state.create()?, patience, give_up)?;
        // Not earlier: a connection that waits for another run would be cut.
        let gateway = Mutex::new(home.connect(Scope::Write)?);
        Ok(Self { state, thoughts, listener, gateway, planned_on: Mutex::default() })
    }

    fn gateway(&self) -> MutexGuard<'_, Gateway> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn planned_on(&self) -> Arc<Sessions> {
        Arc::clone(&self.planned_on.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What each session is pinned to now, by chat id. Unlike what a plan is made on, it holds those in the background, too.
    fn pins(&self) -> Result<BTreeMap<String, Option<String>>, Fault> {
        let listed = heard(self.listener, "sessions.list", || self.gateway().sessions())?;
        Ok(listed.rows.into_iter().map(|row| (row.key, row.pinned)).collect())
    }

    /// What the change of this row means for the thinking of its session.
    fn thought(&self, row: &Row) -> Option<Thought> {
        self.thoughts.lock().unwrap_or_else(PoisonError::into_inner).get(row.chat.id.as_ref()).cloned()
    }

    /// Saves the thinking levels that the sessions of these rows are about to lose.
    fn save_levels(&self, rows: &[&Row]) -> Result<()> {
        let sessions = self.planned_on();
        let before = Levels::read(Some(self.state.dir()))?;
        let mut levels = before.clone();
        levels.prune(&sessions);
        for row in rows {
            if let (Some(Thought::Lost(level)), Some(session)) = (self.thought(row), sessions.get(row.chat.id.as_ref()))
            {
                levels.lose(session, &level);
            }
        }
        if levels == before { Ok(()) } else { levels.save(self.state.dir()) }
    }

    /// Pins the sessions of these rows to their one model by one request, with the thinking level that is put back, if one is.
    fn patch(&self, rows: &[&Row], model: &Model, level: Option<&str>) -> Vec<Attempt> {
        let sessions = self.planned_on();
        let listed = |row: &&Row| {
            let session = sessions.get(row.chat.id.as_ref())?;
            Some(Target { key: session.key.clone(), session_id: session.session_id.clone() })
        };
        let targets: Vec<Target> = rows.iter().filter_map(listed).collect();
        if targets.len() != rows.len() {
            let lost =
                || Attempt::Failed("it was not in the list that was planned on: a mistake in the program".to_owned());
            return rows.iter().map(|_| lost()).collect();
        }
        // The connection is free again before anything is listed.
        let outcomes = heard(self.listener, "sessions.patchMany", || match level {
            Some(level) => self.gateway().patch_with_thinking(&targets, pin(model), level),
            None => self.gateway().patch(&targets, pin(model)),
        });
        match outcomes {
            Ok(outcomes) => outcomes.into_iter().map(attempt).collect(),
            Err(fault) if fault.is_perhaps_done() => self.look(rows, &fault),
            Err(fault @ Fault::Refused { .. }) => rows.iter().map(|_| Attempt::Failed(fault.to_string())).collect(),
            Err(fault) => rows.iter().map(|_| Attempt::Unavailable(fault.to_string())).collect(),
        }
    }

    /// What became of a request to which there was no reply. A session that has another pin than the one that was listed was
    /// changed; whether it is the wanted one, the run finds when it reads back.
    fn look(&self, rows: &[&Row], fault: &Fault) -> Vec<Attempt> {
        let Ok(pins) = self.pins() else {
            return rows.iter().map(|_| Attempt::Unknown(fault.to_string())).collect();
        };
        let sessions = self.planned_on();
        let listed = |row: &Row| sessions.get(row.chat.id.as_ref()).map(|session| &session.pinned);
        let is_changed = |row: &Row| pins.get(row.chat.id.as_ref()) != listed(row);
        let attempt =
            |row: &&Row| if is_changed(row) { Attempt::Changed } else { Attempt::Deferred(NOT_THERE.to_owned()) };
        rows.iter().map(attempt).collect()
    }
}

/// What became of one session of a request.
fn attempt(outcome: TargetOutcome) -> Attempt {
    match outcome {
        TargetOutcome::Done => Attempt::Changed,
        TargetOutcome::SessionChanged => Attempt::Deferred(CHANGED.to_owned()),
        TargetOutcome::Later(words) => Attempt::Deferred(words),
        TargetOutcome::Refused(words) => Attempt::Failed(words),
    }
}

impl Locked for LockedGateway<'_> {
    /// Takes the notes of a wave. Its edits are made by [`Locked::converge`].
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        if !batch.changes.is_empty() {
            return Err(Error::other("sessions of a gateway are changed by requests alone: a mistake in the program"));
        }
        *self.planned_on.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::clone(GatewaySnapshot::of(reading)?.sessions());
        let settled = batch.void.iter().map(|chat| Note::Settled { chat });
        let notes: Vec<Note> = batch.notes.iter().copied().chain(settled).collect();
        self.note(&notes, batch.now)?;
        Ok(Committed::Done { error: None })
    }

    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        self.state.note(notes, now)
    }

    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        let begun = turn.begin_each(rows, Begin::Free);
        let mut attempts = vec![Attempt::NotBegun; rows.len()];
        let mut by_change: BTreeMap<(&Model, Option<String>), Vec<usize>> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate().filter(|(index, _)| begun.get(*index) == Some(&true)) {
            let Some(model) = &row.after else { continue };
            let level = match self.thought(row) {
                Some(Thought::PutBack(level)) => Some(level),
                Some(Thought::Lost(_)) | None => None,
            };
            by_change.entry((model, level)).or_default().push(index);
        }
        let mut gone = self.save_levels(rows).err().map(|error| Attempt::Unavailable(error.to_string()));
        for ((model, level), indices) in by_change {
            let rows: Vec<&Row> = indices.iter().map(|index| rows[*index]).collect();
            let made = match &gone {
                Some(gone) => vec![gone.clone(); rows.len()],
                None => self.patch(&rows, model, level.as_deref()),
            };
            gone = gone.or_else(|| made.iter().find(|attempt| matches!(attempt, Attempt::Unavailable(_))).cloned());
            for (index, attempt) in indices.into_iter().zip(made) {
                attempts[index] = attempt;
            }
        }
        attempts
    }

    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        let pins = self.pins()?;
        let stands = |row: &Row| match pins.get(row.chat.id.as_ref()) {
            Some(pinned) => Stands::Model(Model::new(pinned.as_deref().unwrap_or(DEFAULT))),
            None => Stands::Gone,
        };
        Ok(rows.iter().map(|row| (row.chat.id.clone().into_owned(), stands(row))).collect())
    }

    /// A chat that no run has seen has no pin of ours, also where earlier runs looked at all others: what is remembered never
    /// speaks of all chats.
    fn remember(&self, found: &Found, _: Reach) -> Result<()> {
        self.state.remember(found, Reach::Some)
    }

    fn forget_applied(&self) -> Result<()> {
        self.state.forget_applied()
    }

    fn told(&self) -> Result<Told> {
        self.state.told()
    }

    fn remember_told(&self, told: Told) -> Result<()> {
        self.state.remember_told(told)
    }

    fn name_run(&self, at: Timestamp) -> Result<String> {
        self.state.name_run(at)
    }

    fn record(&self, run: &JsonRun<'_>) -> Result<()> {
        self.state.record(run)
    }
}
