//! A connection to the database that has the registry. It keeps no state on the server beyond a transaction, because a
//! pooler may hand each transaction to another of its connections: no named statement, no setting, no lock.

use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;
use std::{fmt, mem, thread};

use postgres::{Client, IsolationLevel, NoTls, Transaction};

use crate::backend::postgres::failure::{failed, is_without_encryption};
use crate::backend::postgres::problem::TableProblem;
use crate::backend::postgres::server::Address;
use crate::backend::postgres::tls::connector;
use crate::error::{Bug, Error, Explanation, Remedy, Result};
use crate::foreign::{Foreign, sentence};

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Reading. The transaction sees the database at one instant.
    Read,
    /// Changes. Each statement of the transaction sees what was committed before it.
    Write,
}

impl Purpose {
    fn begin(self, client: &mut Client) -> std::result::Result<Transaction<'_>, postgres::Error> {
        let builder = client.build_transaction();
        match self {
            Self::Read => builder.read_only(true).isolation_level(IsolationLevel::RepeatableRead).start(),
            Self::Write => builder.isolation_level(IsolationLevel::ReadCommitted).start(),
        }
    }

    /// What counts for the transaction alone. Row security would otherwise hide rows in silence: with this, reading them is
    /// an error. One that reads must not wait for good where a migration has locked the table. One that writes must not keep others from
    /// a row for long, and not for good where this program is stopped.
    fn settings(self) -> &'static str {
        match self {
            Self::Read => "SET LOCAL row_security = off; SET LOCAL lock_timeout = '5s'",
            Self::Write => {
                "SET LOCAL row_security = off; SET LOCAL lock_timeout = '1s'; \
                 SET LOCAL idle_in_transaction_session_timeout = '60s'"
            }
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Read => "read the table",
            Self::Write => "begin a transaction",
        }
    }
}

/// How a transaction has ended.
#[derive(Debug)]
pub(super) enum End<T> {
    /// The transaction was committed.
    Committed(T),
    /// The transaction was taken back.
    TakenBack,
    /// The answer to COMMIT was lost, so that it is not known here whether the transaction was committed.
    Lost(T, Error),
}

/// What is done when a transaction ends.
const COMMIT: &str = "commit the changes";
/// How often a transaction is made before it is given up because others are in its way.
const TRIES: usize = 5;
/// For how long a transaction that writes waits for a lock, as its settings say.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// For how long a connection may take to answer after an error before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The database of a registry.
pub(super) struct Database {
    addresses: Vec<Address>,
    /// How long a server may take until it has taken a connection; without it, its own settings say that.
    limit: Option<Duration>,
    client: Mutex<Option<Client>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.addresses.iter().map(|address| &address.name);
        f.debug_list().entries(names).finish()
    }
}

impl Database {
    /// The database behind one of these addresses. It is reached when it is first asked.
    pub(super) fn new(addresses: Vec<Address>) -> Self {
        Self { addresses, limit: None, client: Mutex::new(None) }
    }

    /// This database, whose server must take a connection within this time.
    pub(super) fn answering_within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..Self::new(self.addresses.clone()) }
    }

    /// The `application_name` under which the server knows its connections.
    pub(super) fn application_name(&self) -> &str {
        self.addresses.first().and_then(|address| address.config.get_application_name()).unwrap_or_default()
    }

    /// Does some reading in one transaction, which sees the database at one instant.
    pub(super) fn read<T>(&self, work: impl FnOnce(&mut Transaction) -> Result<T>) -> Result<T> {
        match self.transact(Purpose::Read, |transaction| work(transaction).map(Some))? {
            End::Committed(found) => Ok(found),
            End::Lost(_, error) => Err(error),
            End::TakenBack => Err(Bug("the database was not read").into()),
        }
    }

    /// Makes changes in one transaction: all that `work` does, or nothing where it returns `None`. Where another transaction is
    /// in its way, and the server has ended this one for that, it is made again.
    pub(super) fn change<T>(&self, mut work: impl FnMut(&mut Transaction) -> Result<Option<T>>) -> Result<End<T>> {
        for _ in 1..TRIES {
            match self.transact(Purpose::Write, &mut work) {
                Err(error) if error.remedy() == Remedy::TryAgain => {}
                end => return end,
            }
        }
        self.transact(Purpose::Write, work)
    }

    /// Writes in one transaction what may as well be written twice: where the connection is lost, it is, over another one.
    pub(super) fn write<T>(&self, work: impl Fn(&mut Transaction) -> Result<T>) -> Result<T> {
        let once = || match self.change(|transaction| work(transaction).map(Some))? {
            End::Committed(value) => Ok(value),
            End::Lost(_, error) => Err(error),
            End::TakenBack => Err(Bug("the transaction was rolled back").into()),
        };
        once().or_else(|error| if self.is_lost() { once() } else { Err(error) })
    }

    /// Whether there is no connection, or one that has ended.
    fn is_lost(&self) -> bool {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(Client::is_closed)
    }

    /// Does some work in a transaction over the connection, which is made anew where it has ended.
    fn transact<T>(
        &self,
        purpose: Purpose,
        work: impl FnOnce(&mut Transaction) -> Result<Option<T>>,
    ) -> Result<End<T>> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = match held.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connect()?,
        };
        let end = transact(&mut client, purpose, work);
        let is_usable = match &end {
            Ok(End::Committed(_) | End::TakenBack) => true,
            Ok(End::Lost(..)) => false,
            Err(_) => is_usable(&mut client),
        };
        if is_usable {
            *held = Some(client);
        } else {
            // Closing it would wait for the answer, too.
            mem::forget(client);
        }
        end
    }

    fn connect(&self) -> Result<Client> {
        let Some(limit) = self.limit else { return connect(&self.addresses) };
        let (tell, told) = mpsc::channel();
        let addresses = self.addresses.clone();
        // A server may take the connection and never say anything: no setting ends that.
        thread::spawn(move || _ = tell.send(connect(&addresses)));
        told.recv_timeout(limit).unwrap_or_else(|_| Err(TableProblem::Silent { seconds: limit.as_secs() }.into()))
    }
}

/// Connects to the first server that takes the connection.
fn connect(addresses: &[Address]) -> Result<Client> {
    let mut failures = Vec::new();
    for address in addresses {
        let connected = match &address.roots {
            Some(roots) => address.config.connect(connector(roots)?),
            None => address.config.connect(NoTls),
        };
        match connected {
            Ok(client) => return Ok(client),
            Err(error) => failures.push(unreachable(address, &error)),
        }
    }
    Err(TableProblem::Unreachable { failures }.into())
}

fn unreachable(address: &Address, error: &postgres::Error) -> Explanation {
    let explanation = failed(sentence!("connect to {}", Foreign::from(address.name.as_str())), error).explain();
    if address.is_local && is_without_encryption(error) {
        return explanation.hint("the server is on this host: sslmode=disable allows a connection without encryption");
    }
    explanation
}

/// Does some work in a transaction, which is committed where the work returns a value.
fn transact<T>(
    client: &mut Client,
    purpose: Purpose,
    work: impl FnOnce(&mut Transaction) -> Result<Option<T>>,
) -> Result<End<T>> {
    let doing = |error: postgres::Error| failed(purpose.doing(), &error);
    let mut transaction = purpose.begin(client).map_err(doing)?;
    let ready = transaction.batch_execute(purpose.settings()).map_err(doing);
    match ready.and_then(|()| work(&mut transaction)) {
        Ok(Some(value)) => match transaction.commit() {
            Ok(()) => Ok(End::Committed(value)),
            Err(error) if is_answer(&error) => Err(failed(COMMIT, &error)),
            Err(error) => Ok(End::Lost(value, failed(COMMIT, &error))),
        },
        Ok(None) => transaction.rollback().map(|()| End::TakenBack).map_err(doing),
        Err(error) => {
            // Dropping it would wait for an answer, for good where none comes.
            mem::forget(transaction);
            Err(error)
        }
    }
}

/// Whether this is what the server has to say of the statement. A FATAL error may be a pooler's, of a connection behind it.
fn is_answer(error: &postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| !["FATAL", "PANIC"].contains(&error.severity()))
}

/// Whether a connection still answers after an error, and has no transaction open then. A server, or a pooler before it, may
/// leave it open and never answer again.
fn is_usable(client: &mut Client) -> bool {
    client.is_valid(PATIENCE).is_ok() && client.batch_execute("ROLLBACK").is_ok()
}
