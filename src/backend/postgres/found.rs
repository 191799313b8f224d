//! The rows of a table that have one of some values, found by the database. Each is looked at once more here, so a condition may
//! let too many rows through, and must leave none out.

use std::collections::BTreeSet;

use postgres::Transaction;

use crate::backend::postgres::snapshot::TableSnapshot;
use crate::backend::postgres::sql::{exactly, many, value};
use crate::error::Result;
use crate::policy::Column;
use crate::registry::{Entry, Key};

/// What a session's name and its slug have in common: each run of bytes that a slug cannot hold is one dash.
const FOLDED: &str = "'[^A-Za-z0-9_]+', '-', 'g'";

impl TableSnapshot {
    /// Hands over the rows that have one of these values by one of these keys.
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
        // A text with U+0000 is in no row, and none can be sent.
        let sought: Vec<&str> = values.iter().copied().filter(|value| !value.contains('\0')).collect();
        let slugs: Vec<String> = sought.iter().map(|value| folded(value)).collect();
        let conditions: Vec<String> = keys.iter().filter_map(|key| self.condition(*key)).collect();
        if sought.is_empty() || conditions.is_empty() {
            return Ok(());
        }
        let take = &mut |entry: Entry<'_>| {
            if keys.iter().any(|key| key.is_among(values, &entry)) {
                take(entry);
            }
        };
        let sql = format!("{} WHERE {}", self.query(), conditions.join(" OR "));
        self.stream(transaction, &sql, &[many(&sought), many(&slugs)], take).map(drop)
    }

    /// That a row has one of the list $1 by this key, or of the slugs in the list $2; `None` where the table has no such column.
    fn condition(&self, key: Key) -> Option<String> {
        let columns = self.columns();
        let is_among = |column: &Column| format!("{} = ANY ($1)", exactly(&value(column)));
        match key {
            Key::Id => Some(self.has_id_as_text()),
            Key::SessionName => columns.session_name.as_ref().map(is_among),
            Key::ContactName => columns.contact_name.as_ref().map(is_among),
            Key::Model => Some(is_among(&columns.model)),
            Key::Slug => {
                let name = exactly(&value(columns.session_name.as_ref()?));
                Some(format!("pg_catalog.regexp_replace({name}, {FOLDED}) = ANY ($2)"))
            }
        }
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
