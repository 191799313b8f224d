//! What runs remember, in the schema `reconcile` of the registry's own database: a change, the restart that it owes and what
//! the history will tell of it are one transaction.

use std::collections::BTreeMap;

use postgres::Transaction;
use serde_json::{Map, Value};

use crate::backend::postgres::failure::failed;
use crate::backend::postgres::sql::{many, one};
use crate::error::{Error, Result};
use crate::plan::json::JsonRun;
use crate::state::kept::{Kept, Patch};

const MAY_READ: &str =
    "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'reconcile' AND c.relname = 'memory'";
const READ: &str = "SELECT kind, key, value::text FROM reconcile.memory WHERE registry = $1";
const REMOVE: &str = "DELETE FROM reconcile.memory AS known USING unnest($2::text[], $3::text[]) AS gone(kind, key)
    WHERE known.registry = $1 AND known.kind = gone.kind COLLATE \"C\" AND known.key = gone.key COLLATE \"C\"";
const PUT: &str = "INSERT INTO reconcile.memory (registry, kind, key, value)
    SELECT $1, kind, key, value::json FROM unnest($2::text[], $3::text[], $4::text[]) AS new(kind, key, value)
    ON CONFLICT (registry, kind, key) DO UPDATE SET value = excluded.value";
const NEWEST: &str = "SELECT max(name) FROM reconcile.run WHERE registry = $1";
const APPEND: &str =
    "INSERT INTO reconcile.run (registry, name, run) VALUES ($1, $2, $3::text::json) ON CONFLICT DO NOTHING";
const OLDER: &str = "SELECT run::text FROM reconcile.run WHERE registry = $1 AND name < $2 ORDER BY name DESC LIMIT 1";

/// Whether the database has what runs remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It has, and this role may read it.
    Readable,
    /// It has, and only other roles may read it.
    Hidden,
    /// It has no such schema.
    Missing,
}

/// Looks whether the database has what runs remember.
pub(super) fn presence(transaction: &mut Transaction) -> Result<Presence> {
    let doing = |error: postgres::Error| failed("look at the schema reconcile", &error);
    let row = transaction.query_typed_opt(MAY_READ, &[]).map_err(doing)?;
    let may_read: Option<bool> = row.map(|row| row.try_get(0)).transpose().map_err(doing)?;
    Ok(match may_read {
        None => Presence::Missing,
        Some(true) => Presence::Readable,
        Some(false) => Presence::Hidden,
    })
}

/// What runs remember of one registry, in one transaction.
pub(super) struct State<'t, 'c> {
    pub(super) transaction: &'t mut Transaction<'c>,
    pub(super) registry: &'t str,
}

impl State<'_, '_> {
    /// All of it, without the history.
    pub(super) fn kept(&mut self) -> Result<Kept> {
        let rows = self.transaction.query_typed(READ, &[one(&self.registry)]).map_err(|error| reading(&error))?;
        let mut kinds = Map::new();
        for row in rows {
            let column = |at| row.try_get::<_, &str>(at).map_err(|error| reading(&error));
            let value: Value = serde_json::from_str(column(2)?).map_err(|error| damaged(&error))?;
            let kind = kinds.entry(column(0)?).or_insert_with(|| Map::new().into());
            if let Value::Object(kind) = kind {
                kind.insert(column(1)?.to_owned(), value);
            }
        }
        let patch: Patch = serde_json::from_value(kinds.into()).map_err(|error| damaged(&error))?;
        let mut kept = Kept::default();
        kept.patch(patch);
        Ok(kept)
    }

    /// Saves what a patch says, and returns what is kept then.
    pub(super) fn save(&mut self, kept: Kept, patch: Patch) -> Result<Kept> {
        let touched = rows(&patch)?;
        let mut after = kept;
        after.patch(patch);
        let values = rows(&Patch::of(&after))?;
        let (mut gone, mut new) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new()));
        for (place, _) in touched {
            let value = values.get(&place).filter(|value| !value.is_null());
            let (kind, key) = place;
            match value {
                None => {
                    gone.0.push(kind);
                    gone.1.push(key);
                }
                Some(value) => {
                    new.2.push(value.to_string());
                    new.0.push(kind);
                    new.1.push(key);
                }
            }
        }
        let removed = [one(&self.registry), many(&gone.0), many(&gone.1)];
        self.transaction.execute_typed(REMOVE, &removed).map_err(|error| writing(&error))?;
        let put = [one(&self.registry), many(&new.0), many(&new.1), many(&new.2)];
        self.transaction.execute_typed(PUT, &put).map_err(|error| writing(&error))?;
        Ok(after)
    }

    /// The name of the newest run in the history.
    pub(super) fn newest_run(&mut self) -> Result<Option<String>> {
        let row = self.transaction.query_typed_one(NEWEST, &[one(&self.registry)]);
        row.and_then(|row| row.try_get(0)).map_err(|error| reading(&error))
    }

    /// The newest run in the history whose name is before this one.
    pub(super) fn run_before(&mut self, name: &str) -> Result<Option<JsonRun<'static>>> {
        let asked = [one(&self.registry), one(&name)];
        let row = self.transaction.query_typed_opt(OLDER, &asked).map_err(|error| reading(&error))?;
        let Some(row) = row else { return Ok(None) };
        let text: String = row.try_get(0).map_err(|error| reading(&error))?;
        serde_json::from_str(&text).map(Some).map_err(|error| damaged(&error))
    }

    /// Appends a run to the history, once.
    pub(super) fn append(&mut self, run: &JsonRun) -> Result<()> {
        let text = serde_json::to_string(run).map_err(|error| Error::other(error.to_string()))?;
        let name = run.run.as_ref();
        let row = [one(&self.registry), one(&name), one(&text)];
        self.transaction.execute_typed(APPEND, &row).map(drop).map_err(|error| writing(&error))
    }
}

/// The values of a patch, by kind and key.
fn rows(patch: &Patch) -> Result<BTreeMap<(String, String), Value>> {
    let Value::Object(kinds) = serde_json::to_value(patch).map_err(|error| Error::other(error.to_string()))? else {
        return Ok(BTreeMap::new());
    };
    let mut rows = BTreeMap::new();
    for (kind, values) in kinds {
        // What is no table of chats or models is of the file's form alone.
        let Value::Object(values) = values else { continue };
        rows.extend(values.into_iter().map(|(key, value)| ((kind.clone(), key), value)));
    }
    Ok(rows)
}

fn reading(error: &postgres::Error) -> Error {
    failed("read what runs remember", error)
}

fn writing(error: &postgres::Error) -> Error {
    failed("save what runs remember", error)
}

fn damaged(error: &serde_json::Error) -> Error {
    Error::other(format!("the schema reconcile holds what this version does not understand: {error}"))
        .with_hint("it was written by a later version, or changed by hand")
}
