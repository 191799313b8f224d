//! Which run holds a registry. A lock of the server could not outlive a transaction behind a pooler, so it is a row: it says who
//! holds the registry, and until when. Each transaction of the holder locks that row, and holds the registry for longer.

use std::path::PathBuf;
use std::time::Duration;

use postgres::Transaction;
use postgres::types::Type;
use uuid::Uuid;

use crate::backend::postgres::connection::{Database, End, LOCK_TIMEOUT};
use crate::backend::postgres::failure::{failed, not_held};
use crate::backend::postgres::problem::TableProblem;
use crate::backend::postgres::sql::{Parameter, one};
use crate::backend::postgres::state::State;
use crate::error::{Error, Holder, Result};

const TAKE: &str = "UPDATE reconcile.registry
    SET holder = $2, held_until = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $3)
    WHERE name = $1 AND (holder IS NULL OR holder = $2 OR held_until < pg_catalog.clock_timestamp())";
const RENEW: &str = "UPDATE reconcile.registry
    SET commits = commits + 1, held_until = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $3)
    WHERE name = $1 AND holder = $2 RETURNING commits";
/// Locks the row first. A lost transaction of the holder has ended once the lock is taken.
const COMMITTED: &str = "SELECT commits FROM reconcile.registry WHERE name = $1 AND holder = $2 FOR UPDATE";
const RELEASE: &str = "UPDATE reconcile.registry SET holder = NULL, held_until = NULL WHERE name = $1 AND holder = $2";
const HELD_UNTIL: &str = "SELECT pg_catalog.to_char(held_until AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
    FROM reconcile.registry WHERE name = $1 AND holder IS NOT NULL AND held_until >= pg_catalog.clock_timestamp()";
const HELD_BY: &str = "SELECT holder FROM reconcile.registry WHERE name = $1";
/// The `application_name` of the session whose transaction has locked the row. PostgreSQL shows it to every role. Where several
/// transactions share the row, `xmax` is the number of their group, which is hardly ever that of a transaction: none is named then.
const LOCKED_BY: &str = "SELECT session.application_name
    FROM reconcile.registry
         JOIN pg_catalog.pg_locks held ON held.locktype = 'transactionid' AND held.transactionid = registry.xmax
         JOIN pg_catalog.pg_stat_activity session ON session.pid = held.pid
    WHERE registry.name = $1 AND held.mode = 'ExclusiveLock'";
/// How often a run that waits looks whether the registry is free. The server counts the time.
const WAIT: &str = "SELECT pg_catalog.pg_sleep(0.1)";
const WAITED: Duration = Duration::from_millis(100);

/// What became of changes.
#[derive(Debug)]
pub(super) enum Changed<T> {
    /// The changes were committed.
    Made(T),
    /// The connection was lost during the commit of the changes, and the server cannot be asked about it.
    Unknown(T, Error),
    /// The changes were taken back.
    Nothing,
}

/// The time until which a run holds a registry, by the server's clock; `None` where no run holds it.
pub(super) fn held_until(transaction: &mut Transaction, registry: &str) -> Result<Option<String>> {
    let doing = |error: postgres::Error| failed("find out which run holds the registry", &error);
    let row = transaction.query_typed_opt(HELD_UNTIL, &[one(&registry)]).map_err(doing)?;
    row.map(|row| row.try_get(0)).transpose().map_err(doing)
}

/// What has locked the row of a registry. It has no name where the server cannot tell one: its transaction may have ended by now, or
/// have no session.
fn locked_by(database: &Database, registry: &str) -> Holder {
    let doing = |error: postgres::Error| not_held(registry, &error);
    // Where a transaction has locked the whole table, one that may write waits for a shorter time than one that only reads.
    let found = database.write(|transaction| {
        let row = transaction.query_typed_opt(LOCKED_BY, &[one(&registry)]).map_err(doing)?;
        row.map(|row| row.try_get(0)).transpose().map_err(doing)
    });
    let name: Option<String> = found.unwrap_or_default();
    name.filter(|name| !name.is_empty()).map_or(Holder::Another(None), |name| Holder::AnotherOf(name.into()))
}

/// An error of a transaction about a registry. Where another transaction has locked the registry's row, the error names it.
pub(super) fn naming_holder(error: Error, database: &Database, registry: &str) -> Error {
    match error {
        Error::Locked { path, .. } => Error::Locked { path, holder: locked_by(database, registry) },
        error => error,
    }
}

/// A registry that this run holds.
#[derive(Debug)]
pub(super) struct Lease {
    registry: String,
    /// A name that no other run has, and behind a space the `application_name` of this run.
    holder: String,
    /// How long the registry is held after each transaction, in seconds.
    length: f64,
}

impl Lease {
    /// Takes a registry, waiting for it at most `patience` and until `give_up` says so.
    ///
    /// # Errors
    /// Where another run holds it for longer, or the schema is not there or of another format.
    pub(super) fn take(
        database: &Database,
        registry: &str,
        length: Duration,
        patience: Duration,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let holder = format!("{} {}", Uuid::new_v4(), database.application_name());
        let lease = Self { registry: registry.to_owned(), holder, length: length.as_secs_f64() };
        let mut waited = Duration::ZERO;
        loop {
            let holder = match database.write(|transaction| lease.try_take(transaction)) {
                Ok(None) => return Ok(lease),
                Ok(holder) => holder,
                Err(Error::Locked { .. }) => {
                    waited += LOCK_TIMEOUT;
                    None
                }
                Err(error) => return Err(error),
            };
            let is_interrupted = give_up();
            if is_interrupted || waited >= patience {
                let path = PathBuf::from(registry);
                let holder = holder.unwrap_or_else(|| locked_by(database, registry));
                return Err(if is_interrupted {
                    Error::Interrupted { path, holder }
                } else {
                    Error::Locked { path, holder }
                });
            }
            database.read(|transaction| transaction.batch_execute(WAIT).map_err(|error| failed("wait", &error)))?;
            waited += WAITED;
        }
    }

    /// Takes the registry, or returns what holds it.
    fn try_take(&self, transaction: &mut Transaction) -> Result<Option<Holder>> {
        let doing = |error: postgres::Error| not_held(&self.registry, &error);
        // This creates the registry's row where no run has been yet.
        State { transaction, registry: &self.registry }.hold()?;
        if transaction.execute_typed(TAKE, &self.parameters()).map_err(doing)? == 1 {
            return Ok(None);
        }
        let row = transaction.query_typed_one(HELD_BY, &[one(&self.registry)]).map_err(doing)?;
        let holder: &str = row.try_get(0).map_err(doing)?;
        // A version that leaves no name may share the registry.
        let name = holder.split_once(' ').map(|(_, name)| name).unwrap_or_default();
        Ok(Some(if name.is_empty() { Holder::Another(None) } else { Holder::RunOf(name.into()) }))
    }

    fn parameters(&self) -> [Parameter<'_>; 3] {
        [one(&self.registry), one(&self.holder), (&self.length, Type::FLOAT8)]
    }

    /// Makes changes in one transaction of this run: all that `work` does, or nothing where it returns
    /// `None`. An answer to COMMIT that is lost is asked for.
    ///
    /// # Errors
    /// Where nothing was changed.
    pub(super) fn change<T>(
        &self,
        database: &Database,
        mut work: impl FnMut(&mut Transaction) -> Result<Option<T>>,
    ) -> Result<Changed<T>> {
        let mut number = 0;
        let end = database.change(|transaction| {
            number = self.renew(transaction)?;
            work(transaction)
        });
        let end = end.map_err(|error| naming_holder(error, database, &self.registry))?;
        match end {
            End::Committed(value) => Ok(Changed::Made(value)),
            End::TakenBack => Ok(Changed::Nothing),
            End::Lost(value, error) => match database.write(|transaction| self.is_committed(transaction, number)) {
                Ok(true) => Ok(Changed::Made(value)),
                Ok(false) => Err(error),
                Err(_) => Ok(Changed::Unknown(value, error)),
            },
        }
    }

    /// Locks the registry's row for a transaction of this run, and returns the transaction's number.
    ///
    /// # Errors
    /// Where another run has taken the registry, because this one has done nothing for too long.
    fn renew(&self, transaction: &mut Transaction) -> Result<i64> {
        let doing = |error: postgres::Error| not_held(&self.registry, &error);
        let row = transaction.query_typed_opt(RENEW, &self.parameters()).map_err(doing)?;
        let Some(row) = row else {
            return Err(self.taken_over().into());
        };
        row.try_get(0).map_err(doing)
    }

    /// Whether the transaction of this number was committed. Waits until that is settled.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn is_committed(&self, transaction: &mut Transaction, number: i64) -> Result<bool> {
        let doing = |error: postgres::Error| failed("ask whether the transaction was committed", &error);
        let [registry, holder, _] = self.parameters();
        let row = transaction.query_typed_opt(COMMITTED, &[registry, holder]).map_err(doing)?;
        let commits: i64 = row.ok_or_else(|| self.taken_over())?.try_get(0).map_err(doing)?;
        Ok(commits >= number)
    }

    fn taken_over(&self) -> TableProblem {
        TableProblem::TakenOver { registry: self.registry.as_str().into() }
    }

    /// Lets other runs have the registry.
    pub(super) fn release(&self, database: &Database) {
        let [registry, holder, _] = self.parameters();
        let held = [registry, holder];
        let doing = |error: postgres::Error| failed("release the lock of the registry", &error);
        // Where the release fails, the registry is free when the time of the lease is over.
        let release = |transaction: &mut Transaction| transaction.execute_typed(RELEASE, &held).map_err(doing);
        let _ = database.write(release);
    }
}
