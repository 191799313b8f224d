//! What runs remember, in the schema `reconcile` of the registry's own database: a change, the restart that it owes and what
//! the history will tell of it are one transaction.

use std::cmp::Ordering;

use jiff::Timestamp;
use postgres::Transaction;
use postgres::types::Type;

use crate::backend::postgres::failure::{failed, not_held};
use crate::backend::postgres::problem::TableProblem;
use crate::backend::postgres::sql::{Parameter, many, one, text};
use crate::chat::Model;
use crate::error::{Error, Result};
use crate::json;
use crate::plan::json::{JsonRun, Origin, name_after};
use crate::plan::last_applied::{Found, Reach};
use crate::state::kept::{Kept, Patch};

/// The format of the schema that this version reads and writes.
const FORMAT: i32 = 2;
/// Which format the schema has, and whether all of it may be read; no row where it is not there.
const LOOK: &str = "
    SELECT (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid)::pg_catalog.int4
            FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
            WHERE d.adrelid = r.oid AND a.attname = 'format'),
           pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND
           (SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(c.oid, 'SELECT'))
            FROM pg_catalog.pg_class c
            WHERE c.relnamespace = n.oid AND c.relname IN ('registry', 'memory', 'run', 'chat'))
    FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
    WHERE n.nspname = 'reconcile' AND r.relname = 'registry'";
/// Whether this role may write all that a run writes.
const MAY_WRITE: &str = "
    SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(c.oid, 'INSERT')
                               AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')
                               AND pg_catalog.has_table_privilege(c.oid, 'DELETE'))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'reconcile' AND c.relname IN ('registry', 'memory', 'run', 'chat')";
const GIVE: &str = "INSERT INTO reconcile.chat AS known (registry, chat_id, last_applied)
    SELECT registry.id, given.chat, given.model
    FROM reconcile.registry, unnest($2::text[], $3::text[]) AS given(chat, model) WHERE registry.name = $1
    ON CONFLICT (registry, chat_id) DO UPDATE SET last_applied = excluded.last_applied
        WHERE known.last_applied IS DISTINCT FROM excluded.last_applied";
const FORGET: &str = "DELETE FROM reconcile.chat USING reconcile.registry
    WHERE chat.registry = registry.id AND registry.name = $1";
const REACH: &str = "UPDATE reconcile.registry SET reach = $2 WHERE name = $1";
const REGISTER: &str = "INSERT INTO reconcile.registry (name) VALUES ($1) ON CONFLICT DO NOTHING";
const HOLD: &str = "SELECT FROM reconcile.registry WHERE name = $1 FOR UPDATE";
const NEWER: &str = "SELECT policy FROM reconcile.registry
    WHERE name = $1 AND policy <> $2 AND policy_at > pg_catalog.to_timestamp($3)";
const FOLLOWS: &str = "UPDATE reconcile.registry
    SET policy = $2, policy_at = greatest(policy_at, pg_catalog.to_timestamp($3)) WHERE name = $1";
const NEWEST: &str = "SELECT max(name) FROM reconcile.run WHERE registry = $1";
const NEWEST_DRAFT: &str =
    "SELECT split_part(max(key), ' ', 1) FROM reconcile.memory WHERE registry = $1 AND kind = 'unrecorded'";
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
///
/// # Errors
/// Where it has another format than this version knows.
pub(super) fn presence(transaction: &mut Transaction) -> Result<Presence> {
    let doing = |error: postgres::Error| failed("look up the schema reconcile", &error);
    let Some(row) = transaction.query_typed_opt(LOOK, &[]).map_err(doing)? else { return Ok(Presence::Missing) };
    let format: Option<i32> = row.try_get(0).map_err(doing)?;
    let format = format.unwrap_or_default();
    match format.cmp(&FORMAT) {
        Ordering::Less | Ordering::Greater => Err(TableProblem::Format { found: format, needed: FORMAT }.into()),
        Ordering::Equal if row.try_get(1).map_err(doing)? => Ok(Presence::Readable),
        Ordering::Equal => Ok(Presence::Hidden),
    }
}

/// Whether this role may write what runs remember, which is there and which it may read.
pub(super) fn may_write(transaction: &mut Transaction) -> Result<bool> {
    let doing = |error: postgres::Error| failed("look up the schema reconcile", &error);
    transaction.query_typed_one(MAY_WRITE, &[]).and_then(|row| row.try_get(0)).map_err(doing)
}

/// Selects what each chat of a registry was last given, as `reconcile_id` and `reconcile_mark`: no text for a model that was
/// there before.
pub(super) fn marks_of(registry: &str) -> String {
    let registry = text(registry);
    format!(
        "SELECT chat_id AS reconcile_id, coalesce(last_applied, '') AS reconcile_mark FROM reconcile.chat \
         WHERE registry = (SELECT id FROM reconcile.registry WHERE name = {registry})"
    )
}

/// What runs remember of one registry, in one transaction.
pub(super) struct State<'t, 'c> {
    pub(super) transaction: &'t mut Transaction<'c>,
    pub(super) registry: &'t str,
}

impl State<'_, '_> {
    /// Keeps other transactions that write from what runs remember of the registry, until this one ends.
    pub(super) fn hold(&mut self) -> Result<()> {
        for statement in [REGISTER, HOLD] {
            let held = self.transaction.execute_typed(statement, &[one(&self.registry)]);
            held.map_err(|error| not_held(self.registry, &error))?;
        }
        Ok(())
    }

    /// A name in the history for a command that begins, after those of all others.
    pub(super) fn name_run(&mut self, at: Timestamp) -> Result<String> {
        let newest = self.newest(NEWEST_DRAFT)?.max(self.newest_run()?);
        Ok(name_after(newest.as_deref(), at))
    }

    /// Executes a statement that changes what is remembered of the registry, which is its first parameter.
    pub(super) fn change(&mut self, statement: &str, others: &[Parameter]) -> Result<()> {
        let parameters = [&[one(&self.registry)], others].concat();
        self.transaction.execute_typed(statement, &parameters).map(drop).map_err(|error| writing(&error))
    }

    /// Saves what each of these chats was last given; `None` for a model that was there before.
    pub(super) fn give<'a>(&mut self, given: impl Iterator<Item = (&'a str, Option<&'a Model>)>) -> Result<()> {
        let (chats, models): (Vec<&str>, Vec<Option<&str>>) =
            given.map(|(chat, model)| (chat, model.map(Model::as_str))).unzip();
        if chats.is_empty() {
            return Ok(());
        }
        self.change(GIVE, &[many(&chats), many(&models)])
    }

    /// Saves what a run has found of each chat. `None` where nothing of that is new.
    pub(super) fn remember(&mut self, found: &Found, reach: Reach) -> Result<Option<()>> {
        let kept = self.kept()?;
        let ledger = &kept.ledger;
        if !ledger.has_news(found, reach) {
            return Ok(None);
        }
        self.give(found.marks())?;
        let read_back = ledger.wrote.iter().filter(|(_, made)| made.read_back);
        self.give(read_back.map(|(chat, made)| (chat.as_str(), Some(&made.model))))?;
        let is_whole = [reach, ledger.last_applied.reach()].contains(&Reach::All);
        self.reach(Some(if is_whole { "all" } else { "some" }))?;
        let wrote = ledger.settled_by(found).map(|chat| (chat.to_owned(), None)).collect();
        self.save(ledger, &Patch { wrote, ..Patch::default() }).map(Some)
    }

    /// Forgets what each chat was last given.
    pub(super) fn forget_applied(&mut self, kept: &Kept) -> Result<()> {
        self.change(FORGET, &[])?;
        self.reach(None)?;
        let wrote = kept.ledger.wrote.keys().map(|chat| (chat.clone(), None)).collect();
        self.save(&kept.ledger, &Patch { wrote, ..Patch::default() })
    }

    /// Says of which chats it is remembered what they were last given.
    fn reach(&mut self, reach: Option<&str>) -> Result<()> {
        self.change(REACH, &[one(&reach)])
    }

    /// The commit of the policy by which models were last changed, where that is newer than the one of a run `by` this.
    pub(super) fn newer_policy(&mut self, by: &Origin) -> Result<Option<String>> {
        let Some((commit, at)) = commit(by) else { return Ok(None) };
        let asked = [one(&self.registry), one(&commit), (&at, Type::FLOAT8)];
        let row = self.transaction.query_typed_opt(NEWER, &asked).map_err(|error| reading(&error))?;
        row.map(|row| row.try_get(0)).transpose().map_err(|error| reading(&error))
    }

    /// Remembers the policy of a run `by` this, which changes models.
    pub(super) fn follows(&mut self, by: &Origin) -> Result<()> {
        let Some((commit, at)) = commit(by) else { return Ok(()) };
        self.change(FOLLOWS, &[one(&commit), (&at, Type::FLOAT8)])
    }

    /// The name of the newest run in the history.
    pub(super) fn newest_run(&mut self) -> Result<Option<String>> {
        self.newest(NEWEST)
    }

    fn newest(&mut self, question: &str) -> Result<Option<String>> {
        let row = self.transaction.query_typed_one(question, &[one(&self.registry)]);
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
        let text = json::to_text(run)?;
        let name = run.run.as_ref();
        self.change(APPEND, &[one(&name), one(&text)])
    }
}

/// The commit of a policy, and when it was made in seconds, where both are known.
fn commit(by: &Origin) -> Option<(&str, f64)> {
    by.policy_commit.as_deref().zip(by.policy_at.map(|at| at.as_duration().as_secs_f64()))
}

pub(super) fn reading(error: &postgres::Error) -> Error {
    failed("read what runs remember", error)
}

pub(super) fn writing(error: &postgres::Error) -> Error {
    failed("save what runs remember", error)
}

pub(super) fn damaged(error: &serde_json::Error) -> Error {
    TableProblem::Damaged { why: error.to_string().into() }.into()
}
