//! The traits of a backend, as the order of effects needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::batch::{Batch, Committed};
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
use crate::plan::{Drift, PlanInput, Reading, Row};
use crate::policy::{Policy, Source};
use crate::redact::Redaction;
use crate::registry::Snapshot;

/// What a registry is read for. A backend may leave out entries that are not needed for that.
#[derive(Clone, Copy)]
pub enum Ask<'a> {
    /// All entries.
    Everything,
    /// A dry run's plan: the entries that can have a row. A backend may return more.
    Plan(&'a PlanInput<'a>),
    /// The entries of these chats. A backend may return more.
    Chats(&'a BTreeSet<&'a str>),
    /// An apply's plan: the entries that can have a row, and those of which the run would remember something.
    Apply(&'a PlanInput<'a>),
}

/// Where the models of sessions are kept, and how a session comes to run on one.
pub trait Backend: Sync {
    /// What it can do, as far as that is known from the policy alone.
    fn capabilities(&self) -> &dyn Capabilities;

    /// Reads the registry and the ledger.
    ///
    /// # Errors
    /// Where one of them cannot be read. A missing registry is an error, and not a registry without sessions. A damaged
    /// ledger is an error, and not a ledger without debts.
    fn read(&self, ask: Ask<'_>) -> Result<Reading>;

    /// Reads the whole registry, for commands that need no ledger.
    ///
    /// # Errors
    /// As [`Backend::read`].
    fn snapshot(&self) -> Result<Box<dyn Snapshot>>;

    /// Reads the whole registry, for commands that can do without it. `None` where that would need a request to a server.
    ///
    /// # Errors
    /// As [`Backend::read`].
    fn snapshot_at_hand(&self) -> Result<Option<Box<dyn Snapshot>>> {
        self.snapshot().map(Some)
    }

    /// Reads the ledger, for commands that are only about debts.
    ///
    /// # Errors
    /// As [`Backend::read`].
    fn ledger(&self) -> Result<Ledger>;

    /// How many rows are committed together at most, where the policy does not say. `None` for all.
    fn batch(&self) -> Option<usize> {
        None
    }

    /// Finds out what the sessions of a drift's rows are doing. Changes nothing.
    ///
    /// # Errors
    /// Where that cannot be found out, and a plan without it would be wrong.
    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed>;

    /// Checks that sessions can be restarted. Called before anything is changed.
    ///
    /// # Errors
    /// Why they cannot.
    fn preflight(&self) -> Result<()> {
        Ok(())
    }

    /// Checks that the registry can be edited. Called before anything is changed.
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

/// Decides on the registration of a session, given the present registry and ledger.
pub type Decide<'d> = dyn FnMut(&dyn Snapshot, &Ledger) -> Result<Registration> + 'd;

/// The message about state of earlier runs that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostState {
    /// What is lost.
    pub message: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

/// The result of a registration.
#[derive(Debug)]
pub struct Registered {
    /// Whether the registry was changed.
    pub changed: bool,
    /// Whether the session owed a restart, which the start pays.
    pub paid: bool,
    /// What went wrong after the effect, or may have. The session must not be started then, although its debt may be settled;
    /// except where the registry cannot be reached any more: then it starts on the model that was decided.
    pub error: Option<Error>,
}

/// What only the run that holds the lock may do. The effect of a method is durable when it returns.
pub trait Locked: Sync {
    /// Makes all changes of a batch together with the restarts that they will owe, or nothing.
    ///
    /// # Errors
    /// Where nothing has happened. What goes wrong after the effect is returned in [`Committed::Done`].
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed>;

    /// Adds these notes to the ledger in their order. Returns the debts of their chats after that, by chat id.
    ///
    /// # Errors
    /// Where they could not be saved.
    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>>;

    /// Makes the sessions of these rows run on their models. With edits per row, this makes the edits, too. There are
    /// at most as many rows as fit into one request. Returns the attempt on each row, in their order.
    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt>;

    /// Reads back rows that were edited, by chat id. Waits for an owner of the registry that saves late.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>>;

    /// Saves what each chat was last given, with what a run has `found`. `reach` says which chats the memory then covers.
    ///
    /// # Errors
    /// Where it cannot be saved.
    fn remember(&self, found: &Found, reach: Reach) -> Result<()>;

    /// Forgets what chats were last given, because the policy does not keep models that were set by hand.
    ///
    /// # Errors
    /// Where that cannot be saved.
    fn forget_applied(&self) -> Result<()>;

    /// Whether a commit compares what the registry has taken, and saves with the edits that it has. By default it does not: the edits are
    /// read back after the restarts.
    fn confirms_commits(&self) -> bool {
        false
    }

    /// The standing faults that quiet runs have reported. By default, none.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn told(&self) -> Result<Told> {
        Ok(Told::default())
    }

    /// Saves the standing faults that quiet runs have reported. By default, they are not kept.
    ///
    /// # Errors
    /// Where they cannot be saved.
    fn remember_told(&self, _told: Told) -> Result<()> {
        Ok(())
    }

    /// The commit of the policy by which the registry was last changed, if it is newer than the policy of the run `by`.
    /// By default, `None`.
    ///
    /// # Errors
    /// Where that cannot be read.
    fn newer_policy(&self, _by: &Origin) -> Result<Option<String>> {
        Ok(None)
    }

    /// A name in the history for a run that began at this time. By default, it is made of the time alone.
    ///
    /// # Errors
    /// Where the names of earlier runs cannot be read.
    fn name_run(&self, at: Timestamp) -> Result<String> {
        Ok(name(at))
    }

    /// Appends this run to the history, and before it the runs that died before they could append their lines.
    ///
    /// # Errors
    /// Where the history cannot be written.
    fn record(&self, run: &JsonRun<'_>) -> Result<()>;
}

/// What the registry has for a row that was edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    /// This model, or none.
    Model(Option<Model>),
    /// Another model, because the owner of the registry has made the change but not saved it yet.
    NotSavedYet,
    /// No entry.
    Gone,
}

/// The result of one attempt to make a session run on its model. The texts are details for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The session runs on the model now.
    Changed,
    /// The session runs on the model already, or will when it next starts.
    NotNeeded(String),
    /// The attempt did not work.
    Failed(String),
    /// The owner of the session refused to restart it, and left it as it was.
    Refused(String),
    /// The session was working before it was restarted, and is not working now.
    Unhealthy(String),
    /// The session was not known to work before it was restarted, and is not running now.
    StillDown(String),
    /// It is not known whether the attempt worked.
    Unknown(String),
    /// The session cannot be changed now.
    Deferred(String),
    /// No session can be changed now: the run ends.
    Unavailable(String),
    /// The request was never sent: nothing has happened, although the attempt was noted to begin.
    NotSent(String),
    /// The run ended before the attempt began.
    NotBegun,
}

/// What an attempt proves about the model of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A session came up on it.
    Works,
    /// A session did not come up on it, or may not have.
    Fails,
    /// Nothing, because the model was not tried.
    Nothing,
}

impl Attempt {
    /// What it proves about the model.
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

/// What a backend asks of the run during an attempt.
pub trait Turn {
    /// Notes that the attempt on a row begins, which is durable when this returns. Returns `false` if it must not begin.
    fn begin(&self, row: &Row, begin: Begin<'_>) -> bool;

    /// Notes that the attempts on these rows begin, for one request about all of them. Returns of each row whether it
    /// may begin.
    fn begin_each(&self, rows: &[&Row], begin: Begin<'_>) -> Vec<bool> {
        rows.iter().map(|row| self.begin(row, begin)).collect()
    }

    /// Whether waiting should end, because the user interrupted the run.
    fn is_over(&self) -> bool;
}
