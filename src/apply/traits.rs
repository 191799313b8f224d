//! What the order of effects needs of those around it: the files, whoever restarts sessions, and whoever watches.

use jiff::Timestamp;

use crate::error::Result;
use crate::plan::ledger::Ledger;
use crate::plan::{Observed, Plan, Row};
use crate::registry::json::edit::Splice;
use crate::registry::{Snapshot, Stamp};

/// What a plan is made from.
pub trait Files {
    /// The registry as it is now.
    ///
    /// # Errors
    /// Where it cannot be read. A missing registry is an error, never "no sessions".
    fn registry(&self) -> Result<Snapshot>;

    /// Which state of the registry this is, for whoever knows already what that holds.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    fn stamp(&self) -> Result<Stamp> {
        self.registry().map(|snapshot| snapshot.stamp)
    }

    /// The ledger as it is now; empty before the first run.
    ///
    /// # Errors
    /// Where it is damaged or cannot be read. That is never "no debts".
    fn ledger(&self) -> Result<Ledger>;
}

/// What only the one run that holds the lock may do.
pub trait Locked: Files {
    /// Changes the ledger as the file holds it now, and returns it. On disk when it returns.
    ///
    /// # Errors
    /// Where that cannot be done. The file is then as it was, or as it should be.
    fn amend(&self, change: &mut dyn FnMut(&mut Ledger)) -> Result<Ledger>;

    /// Replaces the registry by `seen` with the edits made; `None` where it no longer is what was seen, or where one of
    /// the chats `owing` no longer owes: its session was started meanwhile, on what stood there before. On disk when it
    /// returns.
    ///
    /// # Errors
    /// Where that cannot be done. Whether it was done can be seen from the registry alone.
    fn replace(&self, seen: &Snapshot, splices: &[Splice], owing: &[&str]) -> Result<Option<Stamp>>;

    /// Appends what became of a plan to the history.
    ///
    /// # Errors
    /// Where that cannot be done.
    fn record(&self, plan: &Plan) -> Result<()>;
}

impl dyn Locked + '_ {
    /// Changes the ledger, where there is anything to change.
    pub(super) fn amend_if(&self, needed: bool, mut change: impl FnMut(&mut Ledger)) -> Result<()> {
        if needed { self.amend(&mut change).map(drop) } else { Ok(()) }
    }
}

/// Who restarts sessions.
pub trait Backend: Sync {
    /// What the sessions of rows to be restarted are doing. Changes nothing.
    ///
    /// # Errors
    /// Where that cannot be told, and a plan without it would be wrong.
    fn observe(&self, rows: &[&Row]) -> Result<Observed>;

    /// Whether we may still write the registry, as `observe` found. Asked right before it is replaced.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn may_write(&self) -> Result<bool> {
        Ok(true)
    }

    /// Restarts the session of a row, and makes sure that it came up. Where the registry is the daemon's, the row's edit
    /// goes with it.
    fn restart(&self, row: &Row, turn: &dyn Turn) -> Attempt;

    /// Returns when `arrived` says that what was done has reached the registry, or it has been waited for long enough.
    fn settle(&self, _arrived: &dyn Fn() -> bool) {}
}

/// What a restart must ask for.
pub trait Turn {
    /// Notes that the attempt begins: of this run of the session, where the backend can tell. On disk when it returns;
    /// `false` if nothing may be begun any more.
    fn begin(&self, run: Option<&str>) -> bool;

    /// Whether waiting should end, because the run shall.
    fn is_over(&self) -> bool;
}

/// What became of one restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The session was restarted. Which run of it this is, where the backend can tell.
    Restarted(Option<String>),
    /// It runs the right model, or will when it next starts.
    NotNeeded(String),
    /// It did not work.
    Failed(String),
    /// The session was restarted, and does not work.
    Broken(String),
    /// Nobody can tell.
    Unknown(String),
    /// This is not the time.
    Deferred(String),
    /// It was begun, and could not be asked for: nothing has happened.
    Withdrawn(String),
    /// Its turn did not come.
    NotBegun,
}

/// Who watches a run.
pub trait Watch: Sync {
    /// Whether the run shall end as soon as what is under way has finished.
    fn interrupted(&self) -> bool;
    /// So many sessions will be restarted.
    fn expect(&self, _restarts: usize) {}
    /// One of them begins.
    fn begun(&self, _row: &Row) {}
    /// One of them has ended.
    fn ended(&self, _row: &Row) {}
    /// What time it is, in a run that began at `start`.
    fn now(&self, start: Timestamp) -> Timestamp {
        start
    }
}
