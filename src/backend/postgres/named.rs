//! The name of a transaction, by which the server is asked what became of it where the answer to its COMMIT was lost.

use postgres::Transaction;
use postgres::types::Type;

use crate::backend::postgres::failure::failed;
use crate::error::Result;

const NAME: &str = "SELECT pg_catalog.txid_current()";
const STATUS: &str = "SELECT pg_catalog.txid_status($1)";

/// The name of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(i64);

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The transaction was committed.
    Committed,
    /// The transaction was not committed, and never will be.
    TakenBack,
    /// The transaction goes on, or the server has forgotten it.
    Unknown,
}

impl Name {
    /// The name of this transaction.
    ///
    /// # Errors
    /// Where the server does not tell it.
    pub(super) fn of(transaction: &mut Transaction) -> Result<Self> {
        let doing = |error: postgres::Error| failed("begin a transaction", &error);
        transaction.query_typed_one(NAME, &[]).and_then(|row| row.try_get(0)).map(Self).map_err(doing)
    }

    /// What became of the transaction of this name. The answer is final only where `transaction` holds a lock that the named one held, too:
    /// before that, the named transaction may be about to be committed.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(super) fn fate(self, transaction: &mut Transaction) -> Result<Fate> {
        let doing = |error: postgres::Error| failed("ask whether the transaction was committed", &error);
        let row = transaction.query_typed_one(STATUS, &[(&self.0, Type::INT8)]).map_err(doing)?;
        let status: Option<&str> = row.try_get(0).map_err(doing)?;
        Ok(match status {
            Some("committed") => Fate::Committed,
            Some("aborted") => Fate::TakenBack,
            _ => Fate::Unknown,
        })
    }
}
