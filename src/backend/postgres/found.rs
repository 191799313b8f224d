//! The rows of a table that have one of some values, found by the database. Each is looked at once more here, so a condition may
//! let too many rows through, and must leave none out.

use std::collections::BTreeSet;

use postgres::Transaction;

use crate::backend::postgres::failure::failed;
use crate::backend::postgres::narrowed::SETTINGS;
use crate::backend::postgres::snapshot::TableSnapshot;
use crate::backend::postgres::sql::{exactly, many, value};
use crate::chat::is_slug_byte;
use crate::error::Result;
use crate::policy::Column;
use crate::registry::{Entry, Key};

/// Turns a session's name into its folded slug: each run of bytes that a slug cannot hold, and of dashes, becomes one dash.
const FOLDED: &str = "'[^A-Za-z0-9_]+', '-', 'g'";
/// The longest end of a slug that is compared. Longer ends would hardly rule out more rows.
const LONGEST_END: usize = 8;

impl TableSnapshot {
    /// Calls `take` for each row that has one of these values in one of these fields.
    ///
    /// # Errors
    /// As [`Snapshot::each`](crate::registry::Snapshot::each).
    pub(super) fn stream_found(
        &self,
        transaction: &mut Transaction,
        keys: &[Key],
        values: &BTreeSet<&str>,
        take: &mut dyn FnMut(Entry<'_>),
    ) -> Result<()> {
        // No row can have a text with U+0000, and PostgreSQL refuses such a parameter.
        let sought: Vec<&str> = values.iter().copied().filter(|value| !value.contains('\0')).collect();
        let slugs: Vec<String> = sought.iter().map(|value| folded(value)).collect();
        let ends = Ends::of(&sought);
        let conditions: Vec<String> = keys.iter().filter_map(|key| self.condition(*key, &ends)).collect();
        if sought.is_empty() || conditions.is_empty() {
            return Ok(());
        }
        let take = &mut |entry: Entry<'_>| {
            if keys.iter().any(|key| key.is_among(values, &entry)) {
                take(entry);
            }
        };
        transaction.batch_execute(SETTINGS).map_err(|error| failed("read the table", &error))?;
        let sql = format!("{} WHERE {}", self.query(), conditions.join(" OR "));
        let parameters = [many(&sought), many(&slugs), many(&ends.texts)];
        self.stream(transaction, &sql, &parameters, take).map(drop)
    }

    /// The condition that a row has one of the values in $1 by this key. For slugs, $2 has the folded ones and $3 their ends. `None`
    /// where the table has no such column.
    fn condition(&self, key: Key, ends: &Ends) -> Option<String> {
        let columns = self.columns();
        let is_among = |column: &Column| format!("{} = ANY ($1)", exactly(&value(column)));
        match key {
            Key::Id => Some(self.has_id_as_text()),
            Key::SessionName => columns.session_name.as_ref().map(is_among),
            Key::ContactName => columns.contact_name.as_ref().map(is_among),
            Key::Model => Some(is_among(&columns.model)),
            Key::Slug => {
                let name = exactly(&value(columns.session_name.as_ref()?));
                let length = ends.length;
                Some(format!(
                    "(pg_catalog.right({name}, {length}) = ANY ($3) AND pg_catalog.regexp_replace({name}, {FOLDED}) = ANY ($2))"
                ))
            }
        }
    }
}

/// The last characters of slugs: as many of each as are no dash in any of them. The session's name ends in the same characters, which
/// rules out most rows before the names of the others are folded. Folding a name takes the server several times as long.
struct Ends<'s> {
    length: usize,
    texts: Vec<&'s str>,
}

impl<'s> Ends<'s> {
    fn of(slugs: &[&'s str]) -> Self {
        let without_dash =
            |slug: &&str| slug.bytes().rev().take_while(|byte| is_slug_byte(*byte) && *byte != b'-').count();
        let length = slugs.iter().map(without_dash).min().unwrap_or_default().min(LONGEST_END);
        let ends: BTreeSet<&str> = slugs.iter().filter_map(|slug| slug.get(slug.len() - length..)).collect();
        Self { length, texts: ends.into_iter().collect() }
    }
}

/// A slug in which each run of dashes is one.
fn folded(slug: &str) -> String {
    let mut folded = String::new();
    for symbol in slug.chars() {
        if symbol != '-' || !folded.ends_with('-') {
            folded.push(symbol);
        }
    }
    folded
}
