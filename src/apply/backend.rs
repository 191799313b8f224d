//! What the order of effects needs of a backend: where models are kept, and how a session comes to run on one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::problem::ApplyProblem;
use crate::chat::Model;
use crate::checkup::Check;
use crate::diagnostic::Diagnostic;
use crate::error::{Bug, Error, Result};
use crate::foreign::Sentence;
use crate::launch::Registration;
use crate::plan::capabilities::Capabilities;
use crate::plan::json::{JsonRun, Origin, name};
use crate::plan::last_applied::{Found, Reach};
use crate::plan::ledger::{Begin, Debt, Ledger, Note};
use crate::plan::observed::Observed;
use crate::plan::standing_faults::Told;
use crate::plan::{Drift, Outcome, PlanInput, Reading, Row};
use crate::policy::{Policy, Source};
use crate::redact::Redaction;
use crate::registry::{Position, Snapshot};

/// What a registry is read for. A backend may leave out entries that cannot be needed for it.
#[derive(Clone, Copy)]
pub enum Ask<'a> {
    /// For every entry.
    Everything,
    /// For a plan: the entries that can have a row. More do no harm.
    Plan(&'a PlanInput<'a>),
    /// For the entries of these chats. More do no harm.
    Chats(&'a BTreeSet<&'a str>),
    /// For a plan that is applied: also the entries of which the run would remember something.
    Apply(&'a PlanInput<'a>),
}

/// Where the models of sessions are kept, and how a session comes to run on one.
pub trait Backend: Sync {
    /// What it can do, as far as that is known without asking it.
    fn capabilities(&self) -> &dyn Capabilities;

    /// The registry and the ledger as they are now.
    ///
    /// # Errors
    /// Where one of them cannot be read. A missing registry is an error, never "no sessions"; a damaged ledger is one,
    /// never "no debts".
    fn read(&self, ask: Ask<'_>) -> Result<Reading>;

    /// The registry alone, every entry of it, for what needs no ledger.
    ///
    /// # Errors
    /// As [`Backend::read`].
    fn snapshot(&self) -> Result<Box<dyn Snapshot>>;

    /// The snapshot, for a command that can do without it; `None` where another program would have to be asked.
    ///
    /// # Errors
    /// As [`Backend::read`].
    fn snapshot_at_hand(&self) -> Result<Option<Box<dyn Snapshot>>> {
        self.snapshot().map(Some)
    }

    /// The ledger alone, for what is only about debts.
    ///
    /// # Errors
    /// As [`Backend::read`].
    fn ledger(&self) -> Result<Ledger>;

    /// How many rows are committed together at most, where the policy does not say. By default, all.
    fn batch(&self) -> Option<usize> {
        None
    }

    /// What the sessions of the rows of a drift are doing. Changes nothing.
    ///
    /// # Errors
    /// Where that cannot be told, and a plan without it would be wrong.
    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed>;

    /// Whether sessions can be restarted at all: looked at before anything is changed.
    ///
    /// # Errors
    /// Why they cannot.
    fn preflight(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the registry can be edited at all: looked at before anything is changed.
    ///
    /// # Errors
    /// Why it cannot.
    fn check_edits(&self) -> Result<()> {
        Ok(())
    }

    /// Whether runs have remembered anything of the registry that this host knows of.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn has_state(&self) -> Result<bool> {
        Ok(false)
    }

    /// Where what runs have remembered is gone: that it is, and what to do about it.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn lost_state(&self) -> Result<Option<LostState>> {
        Ok(None)
    }

    /// That what is read here is a copy of the registry, and how old that is, in words. By default, it is none.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn delay(&self) -> Result<Option<Sentence>> {
        Ok(None)
    }

    /// The id of the user who alone may see what runs remember, where that is another user.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn hidden_state_of(&self) -> Result<Option<u32>> {
        Ok(None)
    }

    /// The key that makes pseudonyms of the registry's chats.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read. By default: that this backend keeps none.
    fn redaction_key(&self) -> Result<Redaction> {
        Err(ApplyProblem::NoKey.into())
    }

    /// The key that makes pseudonyms of the registry's chats. Where there is none, one is made, and its file returned.
    ///
    /// # Errors
    /// Where it cannot be read or written. By default: that this backend keeps none.
    fn redaction_key_or_new(&self, _patience: Duration) -> Result<(Redaction, Option<PathBuf>)> {
        Err(ApplyProblem::NoKey.into())
    }

    /// Looks at everything that a run needs on this host. Changes nothing.
    fn checkup(&self) -> Vec<Check> {
        Vec::new()
    }

    /// What the owner of the registry says that is probably not what the policy means, with the places in these files that
    /// it is about. Changes nothing.
    ///
    /// # Errors
    /// Where the owner cannot be asked. By default, nothing is.
    fn advise(&self, _policy: &Policy, _sources: &[Source]) -> Result<Vec<Diagnostic>> {
        Ok(Vec::new())
    }

    /// Takes the lock of a run, waiting for it at most `patience` and until `give_up` says so, and finishes what a run
    /// that died left in the middle.
    ///
    /// # Errors
    /// Where another run holds the lock for longer, or the state cannot be used.
    fn lock<'b>(&'b self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>>;

    /// What past runs did, newest first.
    ///
    /// # Errors
    /// Where the state cannot be used; the iterator, where a part of the history cannot.
    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>>;

    /// Registers a session that is about to be started, and settles its debt, which the start pays, in one step.
    /// `decide` is asked once or more, with the registry and the ledger as they are, and what it says last is done. Where a
    /// model is changed or a restart is paid, the history tells of it as done `by` this.
    ///
    /// # Errors
    /// Those of `decide`, and where the registry or the state cannot be used. Nothing has happened then; what goes wrong
    /// after the effect is returned in [`Registered`]. By default, always: a launch is refused before it comes to a backend
    /// that knows none.
    fn register(
        &self,
        _patience: Duration,
        _now: Timestamp,
        _by: &Origin,
        _decide: &mut Decide<'_>,
    ) -> Result<Registered> {
        Err(never_launched())
    }

    /// Registers what a running session has told of itself. Nothing is started, so what is owed stays so. `decide` is
    /// asked once or more, with the registry and the ledger as they are, and what it says last is done.
    ///
    /// # Errors
    /// As [`Backend::register`].
    fn record_session(&self, _patience: Duration, _now: Timestamp, _decide: &mut Decide<'_>) -> Result<Registered> {
        Err(never_launched())
    }

    /// Notes that a session which was registered did not start: another may still run on what it did before.
    ///
    /// # Errors
    /// Where the state cannot be used. By default, always: a launch is refused before it comes to a backend that knows none.
    fn not_started(&self, _chat: &str, _now: Timestamp) -> Result<()> {
        Err(never_launched())
    }
}

fn never_launched() -> Error {
    Bug("a launch was not refused, and its backend knows none").into()
}

/// Decides on the registration of a session, given the registry and the ledger as they are.
pub type Decide<'d> = dyn FnMut(&dyn Snapshot, &Ledger) -> Result<Registration> + 'd;

/// That what runs have remembered is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostState {
    /// What is lost with it.
    pub message: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

/// What was registered.
#[derive(Debug)]
pub struct Registered {
    /// Whether the registry was changed.
    pub changed: bool,
    /// Whether a restart was owed, which the start pays.
    pub paid: bool,
    /// What went wrong after the effect, or may have. The session must not be started then, and what it was to pay may be settled;
    /// except where the registry is out of reach by then: it starts on what was decided.
    pub error: Option<Error>,
}

/// What only the run that holds the lock may do. What a method does is durable when it returns.
pub trait Locked: Sync {
    /// Makes all changes of a batch, each with what will be owed for it, or none of them.
    ///
    /// # Errors
    /// Where nothing has happened. What goes wrong after the effect is returned in [`Committed::Done`].
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed>;

    /// Takes these notes in their order, and returns what their chats owe then.
    ///
    /// # Errors
    /// Where they could not be saved.
    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>>;

    /// Makes the sessions of these rows run on their models; where edits go per row, the edits go with it. There are at
    /// most as many rows as one request carries. Returns an attempt for each.
    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt>;

    /// What the registry says now of rows that were edited, by chat id. Waits for an owner that saves late.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>>;

    /// Saves what each chat was last given, with what a run has `found`. `reach` is of which chats it then speaks.
    ///
    /// # Errors
    /// Where that cannot be done.
    fn remember(&self, found: &Found, reach: Reach) -> Result<()>;

    /// Forgets what chats were last given: the policy does not keep what is set by hand.
    ///
    /// # Errors
    /// Where that cannot be done.
    fn forget_applied(&self) -> Result<()>;

    /// What quiet runs have told of that stays wrong. By default, nothing.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn told(&self) -> Result<Told> {
        Ok(Told::default())
    }

    /// Remembers what quiet runs have told of. By default, that is forgotten.
    ///
    /// # Errors
    /// Where it cannot be saved.
    fn remember_told(&self, _told: Told) -> Result<()> {
        Ok(())
    }

    /// The commit of the policy by which the registry was last changed, where that is newer than the one of a run `by` this. By
    /// default, none is known.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn newer_policy(&self, _by: &Origin) -> Result<Option<String>> {
        Ok(None)
    }

    /// A name in the history for a run that began at this time. By default, the time.
    ///
    /// # Errors
    /// Where the names of earlier runs cannot be read.
    fn name_run(&self, at: Timestamp) -> Result<String> {
        Ok(name(at))
    }

    /// Appends what a run did to the history, with what is not told there yet of others.
    ///
    /// # Errors
    /// Where that cannot be done.
    fn record(&self, run: &JsonRun<'_>) -> Result<()>;
}

/// What is committed together.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The edits, in the order of chat ids.
    pub changes: Vec<Change<'a>>,
    /// What is remembered beside the edits, also where there are none.
    pub notes: Vec<Note<'a>>,
    /// The chats whose debts are void once the edits are made. Each owes a restart in the ledger that was read.
    pub void: Vec<&'a str>,
    /// The time of the run.
    pub now: Timestamp,
}

impl<'a> Batch<'a> {
    /// This batch, with the start of the session that each change is made on. Starts are by chat id, where they are known.
    #[must_use]
    pub(crate) fn identified(mut self, identities: &'a BTreeMap<String, String>) -> Self {
        for change in &mut self.changes {
            let identity = identities.get(change.chat).map(String::as_str);
            change.owes = change.owes.map(|owes| Owes { identity, ..owes });
        }
        self
    }
}

impl Batch<'_> {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.notes.is_empty() && self.void.is_empty()
    }

    /// Whether a debt that was planned on is gone: a launch has started that session meanwhile, on what the registry said
    /// then.
    pub fn is_stale(&self, now: &Ledger) -> bool {
        let planned_on =
            self.changes.iter().filter(|change| change.owes.is_some_and(|owes| owes.planned_on == PlannedOn::Debt));
        let counted_on = planned_on.map(|change| change.chat).chain(self.void.iter().copied());
        counted_on.into_iter().any(|chat| !now.owed.contains_key(chat))
    }

    /// What is noted before the edits are made: the notes of the batch, and the restarts that the edits will owe.
    pub(crate) fn notes_before(&self) -> Vec<Note<'_>> {
        let mut notes = self.notes.clone();
        for change in &self.changes {
            let chat = change.chat;
            notes.extend(change.owes.map(|Owes { ran, identity, .. }| Note::Owes { chat, ran, identity }));
        }
        notes
    }

    /// What is noted once the edits are made: that void debts are settled.
    pub(crate) fn notes_after(&self) -> Vec<Note<'_>> {
        self.void.iter().map(|chat| Note::Settled { chat }).collect()
    }
}

/// One edit of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The chat.
    pub chat: &'a str,
    /// Where the snapshot that was planned on finds its entry.
    pub at: Position,
    /// The model that it gets; `None` takes the member away again that was added for a first model.
    pub after: Option<&'a Model>,
    /// The restart that will be owed for it, if any.
    pub owes: Option<Owes<'a>>,
}

/// The restart that a change will owe.
#[derive(Clone, Copy, Debug)]
pub struct Owes<'a> {
    /// What the session runs, where that is known.
    pub ran: Option<&'a Model>,
    /// Which start of the session that is. A backend that can tell starts apart fills it in right before the commit.
    pub identity: Option<&'a str>,
    /// Whether the chat owed a restart already when the plan was made.
    pub planned_on: PlannedOn,
}

/// What a chat owed when the plan was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlannedOn {
    /// Nothing.
    NoDebt,
    /// A restart. If it is owed no longer, a launch has started the session meanwhile, and the plan is stale.
    Debt,
}

/// What became of a commit.
#[derive(Debug)]
pub enum Committed {
    /// The registry, or a debt that was planned on, is another by now. Nothing has happened.
    Stale,
    /// At least one of the changes cannot be made. What becomes of the rows of those, by chat id. Nothing has happened, and the
    /// others can be committed without them.
    NotTaken(BTreeMap<String, Outcome>),
    /// Something that may pass keeps the registry from being changed now. What becomes of all rows that would change it. Nothing
    /// has happened.
    Blocked(Outcome),
    /// It was made.
    Done {
        /// What went wrong after the effect. Void debts still stand then.
        error: Option<Error>,
    },
}

/// What the registry says of a row that was edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    /// This model, or none.
    Model(Option<Model>),
    /// The owner of the registry has made the change and not saved it yet.
    NotSavedYet,
    /// It no longer has the entry.
    Gone,
}

/// What became of one attempt to make a session run on its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The session runs on it now.
    Changed,
    /// It does already, or will when it next starts.
    NotNeeded(String),
    /// It did not work.
    Failed(String),
    /// The owner of the session refused to restart it, and left it as it was.
    Refused(String),
    /// The session worked, was restarted, and does not work any more.
    Unhealthy(String),
    /// The session was not known to work, was restarted, and is not running.
    StillDown(String),
    /// Whether it worked cannot be told.
    Unknown(String),
    /// It cannot be done now.
    Deferred(String),
    /// It cannot be done now, nor can anything else: the run ends.
    Unavailable(String),
    /// It was begun, and the request was never sent: nothing has happened.
    NotSent(String),
    /// Its turn did not come.
    NotBegun,
}

/// What an attempt says of the model of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A session came up on it.
    Works,
    /// A session did not come up on it, or may not have.
    Fails,
    /// Nothing: it was not tried.
    Nothing,
}

impl Attempt {
    /// What it says of the model.
    pub(super) fn proof(&self) -> Proof {
        match self {
            Self::Changed => Proof::Works,
            Self::Failed(_) | Self::Unhealthy(_) | Self::StillDown(_) | Self::Unknown(_) => Proof::Fails,
            Self::NotNeeded(_)
            | Self::Refused(_)
            | Self::Deferred(_)
            | Self::Unavailable(_)
            | Self::NotSent(_)
            | Self::NotBegun => Proof::Nothing,
        }
    }
}

/// What an attempt asks of the run.
pub trait Turn {
    /// Notes that the attempt on a row begins. That is durable when it returns; `false` if it must not begin.
    fn begin(&self, row: &Row, begin: Begin<'_>) -> bool;

    /// Notes that the attempts on these rows begin, and tells of each whether it may: for a request that is about several.
    fn begin_each(&self, rows: &[&Row], begin: Begin<'_>) -> Vec<bool> {
        rows.iter().map(|row| self.begin(row, begin)).collect()
    }

    /// Whether waiting should end, because the run was asked to end.
    fn is_over(&self) -> bool;
}
