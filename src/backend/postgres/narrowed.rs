//! The rows of a table that a plan must look at, found by the database. All statements see the table at one instant.

use std::collections::BTreeSet;

use postgres::Transaction;

use crate::backend::postgres::compiled::Question;
use crate::backend::postgres::failure::failed;
use crate::backend::postgres::snapshot::TableSnapshot;
use crate::backend::postgres::sql::{exactly, identifier, value};
use crate::error::Result;
use crate::registry::Entry;

/// Settings for statements that look at all rows and return few. The server believes that most rows are returned, so without these
/// settings it would not use its workers, and would spend a second on compiling the statement.
pub(super) const SETTINGS: &str =
    "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL jit = off";
/// How many rows are searched first for the names of the policy. Most names are found there, and need not be looked for in the other
/// rows.
const FIRST: usize = 1_000;

impl TableSnapshot {
    /// Calls `take` for each row that is in question, and returns how many rows the table has.
    ///
    /// # Errors
    /// As [`Snapshot::each`](crate::registry::Snapshot::each).
    pub(super) fn narrowed(
        &self,
        transaction: &mut Transaction,
        question: &Question,
        take: &mut dyn FnMut(Entry<'_>),
    ) -> Result<usize> {
        let doing = |error: postgres::Error| failed("read the table", &error);
        let mut question = question.clone();
        self.look_for_names(transaction, &mut question)?;
        // Not earlier: workers take longer to start than the first rows take to be read.
        transaction.batch_execute(SETTINGS).map_err(doing)?;
        if !question.chats.is_empty() {
            self.stream(transaction, &self.named(), &question.parameters(), take)?;
        }
        self.stream(transaction, &self.asked(&question), &question.parameters(), take)?;
        self.count(transaction)
    }

    /// Looks for the names of the policy among the first rows. For each name that is found there, one chat with that name is added to
    /// the chats of the question, and the name is removed from it.
    fn look_for_names(&self, transaction: &mut Transaction, question: &mut Question) -> Result<()> {
        let doing = |error: postgres::Error| failed("read the table", &error);
        let columns: BTreeSet<String> = self.columns().all().map(|column| identifier(&column.name)).collect();
        let columns: Vec<String> = columns.into_iter().collect();
        let first = format!(
            "FROM (SELECT {} FROM {} LIMIT {FIRST}) AS reconcile_first",
            columns.join(", "),
            self.relation().name
        );
        let chat = format!("pg_catalog.min({})", exactly(&value(&self.columns().chat_id)));
        if !question.names.is_empty() {
            let chats = question.names.iter().map(|name| format!("{chat} FILTER (WHERE {name})"));
            let sql = format!("SELECT {} {first}", chats.collect::<Vec<_>>().join(", "));
            let row = transaction.query_typed_one(&sql, &question.parameters()).map_err(doing)?;
            let mut unseen = Vec::new();
            for (at, name) in std::mem::take(&mut question.names).into_iter().enumerate() {
                match row.try_get(at).map_err(doing)? {
                    Some(chat) => question.chats.push(chat),
                    None => unseen.push(name),
                }
            }
            question.names = unseen;
        }
        if let Some(tier) = &question.tier {
            let sql = format!("SELECT {tier}, {chat} {first} WHERE {tier} <> ALL ($2) GROUP BY 1");
            for row in transaction.query_typed(&sql, &question.parameters()).map_err(doing)? {
                question.tiers.push(row.try_get(0).map_err(doing)?);
                question.chats.push(row.try_get(1).map_err(doing)?);
            }
        }
        Ok(())
    }

    /// Selects the rows of the chats in $1.
    fn named(&self) -> String {
        let is_text = exactly(&value(&self.columns().chat_id));
        let by_index =
            if self.relation().id_is_text { format!("{} AND ", self.has_id_of_list()) } else { String::new() };
        format!("{} WHERE {by_index}{is_text} = ANY ($1)", self.query())
    }

    /// Selects all other rows that are in question, each with whether its model differs. Rows that cannot be read are in question, too.
    fn asked(&self, question: &Question) -> String {
        let id = exactly(&value(&self.columns().chat_id));
        let unlisted = question.tier.as_ref().map(|tier| format!("{tier} <> ALL ($2)"));
        let differs = &question.differs;
        let mut conditions = vec![differs.clone(), format!("{id} IS NULL")];
        conditions.extend(self.broken().map(|field| format!("{field} IS NOT NULL")));
        conditions.extend(question.withdrawn.clone());
        conditions.extend(unlisted);
        conditions.extend(question.names.iter().cloned());
        let conditions: Vec<String> = conditions.into_iter().map(|condition| format!("({condition})")).collect();
        format!(
            "SELECT {}, {differs} FROM {} WHERE ({}) AND ({id} = ANY ($1)) IS NOT TRUE",
            self.fields(&self.mark()),
            self.relation().name,
            conditions.join(" OR ")
        )
    }
}
