//! The faults that quiet runs have told of: rows of a kind of their own beside what else runs remember.

use postgres::Transaction;
use serde_json::{Map, Value};

use crate::backend::postgres::sql::{many, one};
use crate::backend::postgres::state::{State, damaged, reading, writing};
use crate::error::Result;
use crate::json;
use crate::plan::standing_faults::Told;

const READ: &str = "SELECT key, value::text FROM reconcile.memory WHERE registry = $1 AND kind = 'told'";
const FORGET: &str = "DELETE FROM reconcile.memory WHERE registry = $1 AND kind = 'told'";
const SAVE: &str = "INSERT INTO reconcile.memory (registry, kind, key, value)
    SELECT $1, 'told', name, telling::json FROM unnest($2::text[], $3::text[]) AS new(name, telling)";

/// What has been told of a registry.
pub(super) fn read(transaction: &mut Transaction, registry: &str) -> Result<Told> {
    let rows = transaction.query_typed(READ, &[one(&registry)]).map_err(|error| reading(&error))?;
    let mut told = Map::new();
    for row in rows {
        let column = |at| row.try_get::<_, &str>(at).map_err(|error| reading(&error));
        let telling: Value = serde_json::from_str(column(1)?).map_err(|error| damaged(&error))?;
        told.insert(column(0)?.to_owned(), telling);
    }
    serde_json::from_value(Value::Object(told)).map_err(|error| damaged(&error))
}

/// Remembers that this has been told, and nothing else.
pub(super) fn save(state: &mut State, told: &Told) -> Result<()> {
    let told = match json::to_value(told)? {
        Value::Object(told) => told,
        _ => Map::new(),
    };
    let (names, tellings): (Vec<String>, Vec<String>) =
        told.into_iter().map(|(name, telling)| (name, telling.to_string())).unzip();
    let new = [one(&state.registry), many(&names), many(&tellings)];
    state.transaction.execute_typed(FORGET, &new[..1]).map_err(|error| writing(&error))?;
    state.transaction.execute_typed(SAVE, &new).map(drop).map_err(|error| writing(&error))
}
