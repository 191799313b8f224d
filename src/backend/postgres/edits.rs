//! The edits of a batch, in one transaction. Edits that the database refuses are found, and only they are taken back.

use std::collections::BTreeMap;
use std::mem;

use postgres::Transaction;

use crate::apply::Change;
use crate::backend::postgres::failure::failed;
use crate::backend::postgres::snapshot::{Field, TableSnapshot};
use crate::chat::Model;
use crate::error::{Remedy, Result};
use crate::plan::{Outcome, Verdict};

const SAVEPOINT: &str = "reconcile_edits";
/// Removes a savepoint. To roll back to a savepoint does not remove it.
const RELEASE: &str = "RELEASE SAVEPOINT reconcile_edits";

/// Makes these edits. Where the database refuses them together, each half is tried by itself, and so on. Returns the outcomes of the
/// edits that are refused alone, by chat id. All other edits are made.
///
/// # Errors
/// Where the reason is not one of the edits. The transaction cannot be continued then.
pub(super) fn make(
    table: &TableSnapshot,
    transaction: &mut Transaction,
    changes: &[Change],
) -> Result<BTreeMap<String, Outcome>> {
    let doing = |error: postgres::Error| failed("change models", &error);
    let chats: Vec<&str> = changes.iter().map(|change| change.chat).collect();
    let models: Vec<Option<&str>> = changes.iter().map(|change| change.after.map(Model::as_str)).collect();
    let mut part = transaction.savepoint(SAVEPOINT).map_err(doing)?;
    let error = match table.write(&mut part, Field::Model, &chats, &models) {
        Ok(()) => return part.commit().map(|()| BTreeMap::new()).map_err(doing),
        Err(error) => error,
    };
    if changes.is_empty() || error.remedy() != Remedy::LeaveOut {
        // Dropping the savepoint would wait for an answer of the server, forever where no answer comes.
        mem::forget(part);
        return Err(error);
    }
    part.rollback().map_err(doing)?;
    transaction.batch_execute(RELEASE).map_err(doing)?;
    if let [change] = changes {
        return Ok([(change.chat.to_owned(), Outcome::because(Verdict::Refused, error.text()))].into());
    }
    let (some, others) = changes.split_at(changes.len() / 2);
    let mut not_taken = make(table, transaction, some)?;
    not_taken.extend(make(table, transaction, others)?);
    Ok(not_taken)
}
