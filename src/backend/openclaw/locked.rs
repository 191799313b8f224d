//! A run on the sessions of a gateway. No restart is ever owed, because a change is on disk when it is answered, needs
//! no restart, and can be repeated without harm.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::apply::{Attempt, Batch, Committed, Locked, Stands, Turn};
use crate::backend::listener::Listener;
use crate::backend::openclaw::capabilities::DEFAULT;
use crate::backend::openclaw::change::{Intent, Intents};
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::gateway::{Gateway, Target, TargetOutcome};
use crate::backend::openclaw::home::heard;
use crate::backend::openclaw::snapshot::{GatewaySnapshot, Sessions};
use crate::backend::openclaw::thinking::{Levels, Thought};
use crate::chat::Model;
use crate::error::{Bug, Result};
use crate::plan::json::JsonRun;
use crate::plan::last_applied::{Found, Reach};
use crate::plan::ledger::{Begin, Debt, Note};
use crate::plan::standing_faults::Told;
use crate::plan::{Reading, Row};
use crate::state::run::RunState;

/// The detail of a row whose session is not the one that was listed.
const CHANGED: &str = "its session was deleted or recreated since the plan was made";
/// The detail of a row whose change got no reply and was not made.
const NOT_THERE: &str = "the gateway did not reply, and has not made the change: the next run tries again";
/// The detail of a row for which no request was planned.
const NOT_PLANNED: &str = "it was not in the list that the plan was made on, which is a bug in reconcile";

/// The values that one request sets. Sessions with equal values are changed by one request.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    /// The full name of the model; `None` to follow OpenClaw's configuration.
    pin: Option<String>,
    /// The thinking level that is put back, if one is.
    level: Option<String>,
}

/// A row's session as part of a request.
struct RequestPart {
    /// The index of the row among those that are converged.
    index: usize,
    target: Target,
}

/// A run that holds the lock, with a connection that may change sessions and nothing else.
pub(super) struct LockedGateway<'b> {
    state: RunState,
    /// The requests for the changes of the last plan.
    intents: &'b Intents,
    listener: &'b dyn Listener,
    gateway: Mutex<Gateway>,
    /// The sessions on which the last plan was made.
    planned_on: Mutex<Arc<Sessions>>,
}

impl<'b> LockedGateway<'b> {
    /// A run that has taken the lock, and has then connected.
    pub(super) fn new(state: RunState, gateway: Gateway, intents: &'b Intents, listener: &'b dyn Listener) -> Self {
        Self { state, intents, listener, gateway: Mutex::new(gateway), planned_on: Mutex::default() }
    }

    fn gateway(&self) -> MutexGuard<'_, Gateway> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn planned_on(&self) -> Arc<Sessions> {
        Arc::clone(&self.planned_on.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The model to which each session is pinned now, by chat id. Sessions in the background are always included.
    fn pins(&self) -> Result<BTreeMap<String, Option<String>>, Fault> {
        // What was begun is finished: an interrupt does not keep the run from learning what became of it.
        let listed = heard(self.listener, "sessions.list", || self.gateway().sessions_at_any_rate())?;
        Ok(listed.rows.into_iter().map(|row| (row.key, row.pinned)).collect())
    }

    /// The planned request for a row.
    fn intent(&self, row: &Row) -> Option<Intent> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner).get(row.chat.id.as_ref()).cloned()
    }

    /// The values of the request for a row, and the row's session.
    fn request(&self, row: &Row) -> Option<(Request, Target)> {
        let Intent { pin, thought } = self.intent(row)?;
        let level = match thought {
            Some(Thought::PutBack(level)) => Some(level),
            Some(Thought::Lost(_) | Thought::AtRisk(_)) | None => None,
        };
        let sessions = self.planned_on();
        let session = sessions.get(row.chat.id.as_ref())?;
        let target = Target { key: session.key.clone(), session_id: session.session_id.clone()? };
        Some((Request { pin, level }, target))
    }

    /// Saves the thinking levels that the sessions of these rows are about to lose.
    fn save_levels(&self, rows: &[&Row]) -> Result<()> {
        let sessions = self.planned_on();
        let before = Levels::read(Some(self.state.dir()))?;
        let mut levels = before.clone();
        levels.prune(&sessions);
        for row in rows {
            let lost = self.intent(row).and_then(|intent| intent.thought);
            if let (Some(Thought::Lost(level) | Thought::AtRisk(level)), Some(session)) =
                (lost, sessions.get(row.chat.id.as_ref()))
            {
                levels.lose(session, &level);
            }
        }
        if levels == before { Ok(()) } else { levels.save(self.state.dir()) }
    }

    /// Makes a request for these sessions. Returns the attempt on each.
    fn patch(&self, Request { pin, level }: &Request, targets: &[Target]) -> Vec<Attempt> {
        let pin = pin.as_deref();
        // The lock on the connection is released before `look` takes it again.
        let outcomes = heard(self.listener, "sessions.patchMany", || match level {
            Some(level) => self.gateway().patch_with_thinking(targets, pin, level),
            None => self.gateway().patch(targets, pin),
        });
        let all = |attempt: Attempt| vec![attempt; targets.len()];
        match outcomes {
            Ok(outcomes) => outcomes.into_iter().map(attempt).collect(),
            Err(Fault::Interrupted(_)) => all(Attempt::NotBegun),
            Err(fault) if fault.is_perhaps_done() => self.look(targets, &fault),
            Err(fault @ Fault::Refused { .. }) => all(Attempt::Failed(fault.text())),
            Err(fault) => all(Attempt::Unavailable(fault.text())),
        }
    }

    /// The attempts of a request without a reply. A session whose pin is not the one that was listed counts as changed.
    /// Whether it has the wanted pin, the run finds out when it reads back.
    fn look(&self, targets: &[Target], fault: &Fault) -> Vec<Attempt> {
        let Ok(pins) = self.pins() else {
            return vec![Attempt::Unknown(fault.text()); targets.len()];
        };
        let sessions = self.planned_on();
        let is_changed = |key: &str| pins.get(key) != sessions.get(key).map(|session| &session.pinned);
        let attempt = |target: &Target| {
            if is_changed(&target.key) { Attempt::Changed } else { Attempt::Deferred(NOT_THERE.to_owned()) }
        };
        targets.iter().map(attempt).collect()
    }
}

/// The attempt for the outcome of one session.
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
            return Err(Bug("sessions of a gateway are changed by requests alone").into());
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
        let mut requests: BTreeMap<Request, Vec<RequestPart>> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate().filter(|(index, _)| begun.get(*index) == Some(&true)) {
            match self.request(row) {
                Some((request, target)) => requests.entry(request).or_default().push(RequestPart { index, target }),
                None => attempts[index] = Attempt::Failed(NOT_PLANNED.to_owned()),
            }
        }
        let mut gone = self.save_levels(rows).err().map(|error| Attempt::Unavailable(error.text()));
        for (request, parts) in requests {
            let (indices, targets): (Vec<usize>, Vec<Target>) =
                parts.into_iter().map(|part| (part.index, part.target)).unzip();
            let made = match &gone {
                Some(gone) => vec![gone.clone(); targets.len()],
                None => self.patch(&request, &targets),
            };
            let is_last = |attempt: &&Attempt| matches!(attempt, Attempt::Unavailable(_) | Attempt::NotBegun);
            gone = gone.or_else(|| made.iter().find(is_last).cloned());
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

    /// The memory never covers all chats: a new chat is not pinned, so a pin on a chat that no run has seen was set by hand.
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
