//! A standby: a server that follows another one, and shows what the other had some time ago.

use postgres::Transaction;

use crate::backend::postgres::failure::failed;
use crate::error::Result;
use crate::foreign::{Sentence, sentence};

/// Selects how many seconds ago the newest transaction was committed that a standby shows. No row where the server is no standby.
const AGE: &str = "
    SELECT pg_catalog.date_part('epoch',
        pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())::pg_catalog.int8
    WHERE pg_catalog.pg_is_in_recovery()";

/// A sentence that the server is a standby, and how old what it shows is; `None` for any other server.
///
/// # Errors
/// Where that cannot be asked.
pub(super) fn delay(transaction: &mut Transaction) -> Result<Option<Sentence>> {
    let doing = |error: postgres::Error| failed("look how old what the server shows is", &error);
    let Some(row) = transaction.query_typed_opt(AGE, &[]).map_err(doing)? else { return Ok(None) };
    let age: Option<i64> = row.try_get(0).map_err(doing)?;
    let age = age.map_or_else(|| "is not known".into(), |seconds| sentence!("was committed {} s ago", seconds));
    Ok(Some(sentence!("the server is a standby: the newest transaction that it shows {}", age)))
}
