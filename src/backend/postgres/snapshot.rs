//! A table as a registry: its rows as entries, streamed.

use std::borrow::Cow;
use std::sync::Arc;

use fallible_iterator::FallibleIterator;
use postgres::Row;
use postgres::types::{ToSql, Type};

use crate::backend::postgres::catalogue::Relation;
use crate::backend::postgres::connection::Database;
use crate::backend::postgres::failure::failed;
use crate::backend::postgres::sql::{is_sound, text, value};
use crate::chat::{Chat, is_session_id};
use crate::error::{Error, Result};
use crate::policy::{Column, Columns};
use crate::registry::{Blank, Counts, Entry, Position, Snapshot};

/// A table, read when it is asked. Each pass over it sees it at one instant, and a later pass may see a later one: what is
/// committed is compared with the row once more.
#[derive(Debug)]
pub(super) struct TableSnapshot {
    database: Arc<Database>,
    /// The table's name as the user would write it.
    name: String,
    query: String,
}

impl TableSnapshot {
    pub(super) fn new(database: Arc<Database>, name: String, relation: &Relation, columns: &Columns) -> Self {
        Self { database, name, query: query(relation, columns) }
    }
}

impl Snapshot for TableSnapshot {
    fn name(&self) -> &str {
        &self.name
    }

    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts> {
        let none: [(&(dyn ToSql + Sync), Type); 0] = [];
        let doing = |error: postgres::Error| failed("read the table", &error);
        let sessions = self.database.read(|transaction| {
            let mut rows = transaction.query_typed_raw(&self.query, none).map_err(doing)?;
            let mut sessions = 0;
            while let Some(row) = rows.next().map_err(doing)? {
                sessions += 1;
                take(self.entry(&row)?);
            }
            Ok(sessions)
        })?;
        Ok(Counts { sessions, selected: None })
    }
}

impl TableSnapshot {
    /// A row as an entry. Its columns stand in the order of [`query`].
    fn entry<'r>(&self, row: &'r Row) -> Result<Entry<'r>> {
        let field = |at: usize| row.try_get::<_, Option<&str>>(at).map_err(|error| failed("read the table", &error));
        let Some(id) = field(0)? else {
            return Err(Error::other(format!("a row of {} has no chat id", self.name))
                .with_hint("make a view without such rows, and name the view in registry.table"));
        };
        if let Some(broken) = field(8)? {
            return Err(Error::other(format!("the {broken} of chat {id} cannot be read: its JSON has another form"))
                .or_nameless(format!("the {broken} of a chat cannot be read: its JSON has another form"))
                .with_hint("the path in registry.columns must lead through objects to a text or nothing"));
        }
        // An empty text says as little as none, as in a file.
        let text = |at| Ok::<_, Error>(field(at)?.filter(|text| !text.is_empty()).map(Cow::Borrowed));
        let chat = Chat {
            id: Cow::Borrowed(id),
            tier: text(2)?,
            source: text(3)?,
            kind: text(4)?,
            session_name: text(5)?,
            contact_name: text(6)?,
            ..Chat::default()
        };
        let model = text(1)?;
        let resume = field(7)?.filter(|id| is_session_id(id)).map(Cow::Borrowed);
        let (blank, at) = (Blank::default(), Position::default());
        Ok(Entry { chat, model, resume, by_hand: None, is_session: true, blank, at })
    }
}

/// Selects the fields of every row as text, and the name of one that cannot be read.
fn query(relation: &Relation, columns: &Columns) -> String {
    let Columns { chat_id, model, tier, source, kind, session_name, contact_name, session_id } = columns;
    let optional = [tier, source, kind, session_name, contact_name, session_id].map(Option::as_ref);
    let fields = [Some(chat_id), Some(model)].into_iter().chain(optional);
    let nothing = || "NULL::pg_catalog.text".to_owned();
    let fields: Vec<String> = fields.map(|column| column.map_or_else(nothing, value)).collect();
    format!("SELECT {}, {} FROM {}", fields.join(", "), broken(columns).unwrap_or_else(nothing), relation.0)
}

/// The name of the first field that a row has in another form than it must have.
fn broken(columns: &Columns) -> Option<String> {
    let case = |column: &Column| Some(format!("WHEN NOT {} THEN {}", is_sound(column)?, text(column.field)));
    let cases: Vec<String> = columns.all().filter_map(case).collect();
    (!cases.is_empty()).then(|| format!("CASE {} END", cases.join(" ")))
}
