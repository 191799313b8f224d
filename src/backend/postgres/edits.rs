//! The edits of a batch, in one transaction. Those that the database does not take are found, and taken back by themselves.

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
/// A savepoint is still there when what was done since is taken back.
const RELEASE: &str = "RELEASE SAVEPOINT reconcile_edits";

/// Makes these edits. Where the database does not take them together, each half is made by itself, and so on. Returns what
/// becomes of those that it does not take alone, by chat id; all others are made.
///
/// # Errors
/// Where the reason is not one of the edits. The transaction cannot be gone on with then.
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
        // Dropping it would wait for an answer, for good where none comes.
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
