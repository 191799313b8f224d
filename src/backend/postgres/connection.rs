//! A connection to the database that has the registry. It keeps no state on the server beyond a transaction, because a
//! pooler may hand each transaction to another of its connections: no named statement, no setting, no lock.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use postgres::{Client, IsolationLevel, NoTls, Transaction};

use crate::backend::postgres::failure::failed;
use crate::backend::postgres::server::Address;
use crate::backend::postgres::tls::connector;
use crate::error::{Error, Result};

/// Row security would otherwise hide rows in silence: with this, reading them is an error.
const READ_ALL: &str = "SET LOCAL row_security = off";

/// A transaction must not keep others from a row for long, and not for good where this program is stopped.
const WRITING: &str = "SET LOCAL row_security = off; SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";
/// What is done when a transaction ends.
pub(super) const COMMIT: &str = "commit the changes";

/// The database of a registry.
pub(super) struct Database {
    addresses: Vec<Address>,
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
        Self { addresses, client: Mutex::new(None) }
    }

    /// Does some reading in one transaction, which sees the database at one instant.
    pub(super) fn read<T>(&self, work: impl FnOnce(&mut Transaction) -> Result<T>) -> Result<T> {
        self.with_client(|client| {
            let builder = client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead);
            let mut transaction = builder.start().map_err(|error| failed("read the table", &error))?;
            transaction.batch_execute(READ_ALL).map_err(|error| failed("read the table", &error))?;
            let found = work(&mut transaction)?;
            transaction.commit().map_err(|error| failed("read the table", &error))?;
            Ok(found)
        })
    }

    /// Writes in one transaction what may as well be written twice: where the connection is lost, it is, over another one.
    pub(super) fn write<T>(&self, work: impl Fn(&mut Transaction) -> Result<T>) -> Result<T> {
        let once = || {
            self.with_client(|client| {
                let mut transaction = begin(client)?;
                let value = work(&mut transaction)?;
                transaction.commit().map(|()| value).map_err(|error| failed(COMMIT, &error))
            })
        };
        once().or_else(|error| if self.is_lost() { once() } else { Err(error) })
    }

    /// Whether there is no connection, or one that has ended.
    fn is_lost(&self) -> bool {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(Client::is_closed)
    }

    /// Does some work over the connection, which is made anew where it has ended.
    pub(super) fn with_client<T>(&self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match held.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connect()?,
        };
        work(held.insert(client))
    }

    /// Connects to the first server that takes the connection.
    fn connect(&self) -> Result<Client> {
        let mut failures = Vec::new();
        for address in &self.addresses {
            let connected = match &address.roots {
                Some(roots) => address.config.connect(connector(roots)?),
                None => address.config.connect(NoTls),
            };
            match connected {
                Ok(client) => return Ok(client),
                Err(error) => failures.push(failed(&format!("connect to {}", address.name), &error)),
            }
        }
        // Of several, the last is the one that the others stood in for.
        let hint = failures.last().and_then(Error::hint);
        let messages: Vec<String> = failures.iter().map(Error::text).collect();
        Err(Error::other(messages.join("; ")).with_hint(hint.unwrap_or_default()))
    }
}

/// Begins a transaction that writes. Each of its statements sees what was committed before it.
pub(super) fn begin(client: &mut Client) -> Result<Transaction<'_>> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    let mut transaction = builder.start().map_err(|error| failed("begin a transaction", &error))?;
    transaction.batch_execute(WRITING).map_err(|error| failed("begin a transaction", &error))?;
    Ok(transaction)
}
