//! What runs remember of chats and models, as rows: one for each kind and chat, or model. Only what a transaction is about is
//! read and written.
//!
//! What commands have done and the history does not tell yet is in pieces: each transaction adds its own, and none is read or
//! written again before the history tells of all of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use postgres::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::postgres::problem::TableProblem;
use crate::backend::postgres::sql::{many, one};
use crate::backend::postgres::state::{State, damaged, reading};
use crate::chat::Model;
use crate::error::Result;
use crate::json;
use crate::plan::last_applied::LastApplied;
use crate::plan::ledger::{Ledger, Note};
use crate::plan::untold::Draft;
use crate::state::kept::{Kept, Patch};

const READ: &str = "
    SELECT kind, key, value::text FROM reconcile.memory WHERE registry = $1 AND kind NOT IN ('told', 'unrecorded')
    UNION ALL SELECT 'reach', '', to_json(reach)::text FROM reconcile.registry WHERE name = $1 AND reach IS NOT NULL";
/// Selects what is remembered of some chats, and all failed starts and trials: what becomes of a model depends on all of those, which are
/// few.
///
/// The planner would estimate each chat of a list by itself, which takes longer than to look it up. And its statistics are of before the
/// run, so a join would be planned as a scan of the whole table. `OFFSET 0` keeps the inner query one of its own, which the index serves.
const READ_OF: &str = "
    SELECT kind, key, value::text FROM reconcile.memory WHERE registry = $1 AND kind IN ('failed', 'trials')
    UNION ALL SELECT known.* FROM unnest(ARRAY['owed', 'corrected', 'wrote']) AS asked(kind), unnest($2::text[]) AS of(chat),
        LATERAL (SELECT kind, key, value::text FROM reconcile.memory
                 WHERE registry = $1 AND kind = asked.kind COLLATE \"C\" AND key = of.chat COLLATE \"C\" OFFSET 0) AS known
    WHERE EXISTS (SELECT FROM reconcile.memory WHERE registry = $1 AND kind = asked.kind COLLATE \"C\")";
/// A correction that was made so near to now has not lasted yet: [`Ledger::lasting`] wants a day.
const NOT_YET_LASTED: SignedDuration = SignedDuration::from_hours(23);
/// Selects the corrections that may have lasted. The times are texts of one form, in one zone.
const READ_OLD: &str = "
    SELECT kind, key, value::text FROM reconcile.memory
    WHERE registry = $1 AND kind = 'corrected' AND (value ->> 'at') COLLATE \"C\" NOT BETWEEN $2 AND $3";
const REMOVE: &str = "DELETE FROM reconcile.memory AS known USING unnest($2::text[], $3::text[]) AS gone(kind, key)
    WHERE known.registry = $1 AND known.kind = gone.kind COLLATE \"C\" AND known.key = gone.key COLLATE \"C\"";
/// Adds rows, none of which is there: the registry is held, and what it had was read in the same transaction. To let the database find
/// that out for each row takes twice as long.
const ADD: &str = "INSERT INTO reconcile.memory (registry, kind, key, value)
    SELECT $1, kind, key, value::json FROM unnest($2::text[], $3::text[], $4::text[]) AS new(kind, key, value)";
const CHANGE: &str = "UPDATE reconcile.memory AS known SET value = new.value::json
    FROM unnest($2::text[], $3::text[], $4::text[]) AS new(kind, key, value)
    WHERE known.registry = $1 AND known.kind = new.kind COLLATE \"C\" AND known.key = new.key COLLATE \"C\"";
/// Adds a piece. Its key is the name of the command and the number of the transaction, so that the pieces are in order.
const ADD_PIECE: &str = "INSERT INTO reconcile.memory (registry, kind, key, value)
    SELECT name, 'unrecorded', $2 || ' ' || lpad(commits::text, 20, '0'), $3::json FROM reconcile.registry WHERE name = $1";
const READ_PIECES: &str = "
    SELECT split_part(key, ' ', 1), CASE WHEN split_part(key, ' ', 1) IS DISTINCT FROM $2 THEN value::text END
    FROM reconcile.memory WHERE registry = $1 AND kind = 'unrecorded' ORDER BY key";
const REMOVE_PIECES: &str = "
    DELETE FROM reconcile.memory WHERE registry = $1 AND kind = 'unrecorded' AND split_part(key, ' ', 1) = ANY ($2)";

impl State<'_, '_> {
    /// All that is remembered, without what the history does not tell yet.
    pub(super) fn kept(&mut self) -> Result<Kept> {
        kept(&self.transaction.query_typed(READ, &[one(&self.registry)]).map_err(|error| reading(&error))?)
    }

    /// What is remembered of these chats, and of all models.
    pub(super) fn kept_of(&mut self, chats: &[&str]) -> Result<Kept> {
        let asked = [one(&self.registry), many(&chats)];
        kept(&self.transaction.query_typed(READ_OF, &asked).map_err(|error| reading(&error))?)
    }

    /// Forgets the corrections that have lasted until `now`. They may be of any chat, so notes about some chats do not find them.
    pub(super) fn forget_lasting(&mut self, now: Timestamp) -> Result<()> {
        let first = now.saturating_sub(NOT_YET_LASTED).unwrap_or(now).to_string();
        let last = now.saturating_add(NOT_YET_LASTED).unwrap_or(now).to_string();
        let asked = [one(&self.registry), one(&first), one(&last)];
        let old = kept(&self.transaction.query_typed(READ_OLD, &asked).map_err(|error| reading(&error))?)?.ledger;
        let corrected = old.lasting(now).map(|chat| (chat.to_owned(), None)).collect();
        self.save(&old, &Patch { corrected, ..Patch::default() })
    }

    /// Saves what these notes change. The edits among them are made in the same transaction.
    pub(super) fn note_around(&mut self, kept: &Kept, notes: &[Note], now: Timestamp) -> Result<()> {
        self.save(&kept.ledger, &kept.noting(notes, now).made())
    }

    /// Saves a patch of what was remembered `before`, which was read in the same transaction. A written model is also saved as what its
    /// chat was last given.
    pub(super) fn save(&mut self, before: &Ledger, patch: &Patch) -> Result<()> {
        // The other fields of a patch exist only for the journal of a registry that is a file.
        let Patch { version: _, earlier: _, owed, corrected, failed, trials, wrote, unrecorded, exchange: _ } = patch;
        let given = wrote.iter().filter_map(|(chat, wrote)| Some((chat.as_str(), Some(&wrote.as_ref()?.model))));
        self.give(given)?;
        let mut rows = Rows::default();
        rows.take("owed", &before.owed, owed)?;
        rows.take("corrected", &before.corrected, corrected)?;
        rows.take("failed", &before.failed, failed)?;
        rows.take("trials", &before.trials, trials)?;
        rows.take("wrote", &before.wrote, wrote)?;
        self.write(&rows)?;
        self.save_drafts(unrecorded)
    }

    /// Adds what commands have done, and removes what the history tells.
    pub(super) fn save_drafts(&mut self, drafts: &BTreeMap<String, Option<Draft>>) -> Result<()> {
        let mut told = Vec::new();
        for (name, draft) in drafts {
            match draft {
                Some(draft) => self.add_piece(name, draft)?,
                None => told.push(name),
            }
        }
        if told.is_empty() { Ok(()) } else { self.change(REMOVE_PIECES, &[many(&told)]) }
    }

    fn write(&mut self, rows: &Rows) -> Result<()> {
        let Rows { gone, new, changed } = rows;
        if !gone.keys.is_empty() {
            self.change(REMOVE, &[many(&gone.kinds), many(&gone.keys)])?;
        }
        for (statement, lists) in [(ADD, new), (CHANGE, changed)] {
            if !lists.keys.is_empty() {
                self.change(statement, &[many(&lists.kinds), many(&lists.keys), many(&lists.values)])?;
            }
        }
        Ok(())
    }

    fn add_piece(&mut self, name: &str, draft: &Draft) -> Result<()> {
        self.change(ADD_PIECE, &[one(&name), one(&json::to_text(draft)?)])
    }

    /// What commands have done and the history does not tell yet, by the name of the command's run. The value for the command `own` is
    /// `None`: its own process knows what it did.
    pub(super) fn drafts(&mut self, own: Option<&str>) -> Result<BTreeMap<String, Option<Draft>>> {
        let asked = [one(&self.registry), one(&own)];
        let rows = self.transaction.query_typed(READ_PIECES, &asked).map_err(|error| reading(&error))?;
        let mut drafts: BTreeMap<String, Option<Draft>> = BTreeMap::new();
        for row in rows {
            let draft = drafts.entry(row.try_get(0).map_err(|error| reading(&error))?).or_default();
            if let Some(piece) = row.try_get(1).map_err(|error| reading(&error))? {
                draft.get_or_insert_default().merge(value(piece)?);
            }
        }
        Ok(drafts)
    }
}

/// Rows to be removed, added and changed, as lists for the statements.
#[derive(Default)]
struct Rows {
    gone: Lists,
    new: Lists,
    changed: Lists,
}

#[derive(Default)]
struct Lists {
    kinds: Vec<&'static str>,
    keys: Vec<String>,
    values: Vec<String>,
}

impl Rows {
    /// Takes the changes of one kind of rows.
    fn take<K: Ord + Display, T: Serialize>(
        &mut self,
        kind: &'static str,
        before: &BTreeMap<K, T>,
        changes: &BTreeMap<K, Option<T>>,
    ) -> Result<()> {
        for (key, change) in changes {
            let lists = match change {
                None => &mut self.gone,
                Some(_) if before.contains_key(key) => &mut self.changed,
                Some(_) => &mut self.new,
            };
            lists.kinds.push(kind);
            lists.keys.push(key.to_string());
            lists.values.extend(change.as_ref().map(json::to_text).transpose()?);
        }
        Ok(())
    }
}

fn kept(rows: &[Row]) -> Result<Kept> {
    let mut kept = Kept::default();
    let ledger = &mut kept.ledger;
    for row in rows {
        let column = |at| row.try_get::<_, &str>(at).map_err(|error| reading(&error));
        let (kind, key, text) = (column(0)?, column(1)?, column(2)?);
        match kind {
            "owed" => _ = ledger.owed.insert(key.to_owned(), value(text)?),
            "corrected" => _ = ledger.corrected.insert(key.to_owned(), value(text)?),
            "failed" => _ = ledger.failed.insert(key.to_owned(), value(text)?),
            "wrote" => _ = ledger.wrote.insert(key.to_owned(), value(text)?),
            "trials" => {
                let model = Model::new(key).ok_or_else(|| unknown(key))?;
                ledger.trials.insert(model, value(text)?);
            }
            "reach" => ledger.last_applied = Arc::new(LastApplied::beside_entries(value(text)?)),
            kind => return Err(unknown(kind).into()),
        }
    }
    Ok(kept)
}

fn value<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| damaged(&error))
}

fn unknown(word: &str) -> TableProblem {
    TableProblem::Damaged { why: format!("unknown name `{word}`").into() }
}
