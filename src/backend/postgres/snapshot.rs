//! A table as a registry: its rows as entries, streamed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use fallible_iterator::FallibleIterator;
use postgres::{Row, Transaction};

use crate::backend::postgres::catalogue::Relation;
use crate::backend::postgres::compiled::Question;
use crate::backend::postgres::connection::Database;
use crate::backend::postgres::failure::failed;
use crate::backend::postgres::problem::TableProblem;
use crate::backend::postgres::sql::{Parameter, assignment, exactly, identifier, is_sound, many, nothing, text, value};
use crate::backend::postgres::state::marks_of;
use crate::chat::{Chat, Model, is_session_id};
use crate::error::{Error, Result};
use crate::foreign::sentence;
use crate::plan::PlanInput;
use crate::plan::ledger::Ledger;
use crate::policy::{Column, Columns};
use crate::registry::{Blank, Counts, Entry, Key, Make, Mark, Position, Snapshot};

/// How many columns a row has that are fields of an entry. Behind them is the name of one that cannot be read.
const FIELDS: usize = 8;
/// The column of what a chat was last given, where that is asked for.
const MARK: usize = FIELDS + 1;
/// The column of whether the row differs, where that was asked.
const DIFFERS: usize = MARK + 1;

/// Lets all triggers fire that wait for the end of the transaction.
const ALL_TRIGGERS: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// A field that this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The model of a session.
    Model,
    /// The id of its conversation.
    SessionId,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::SessionId => "session_id",
        }
    }
}

/// A column that this program writes.
struct Written<'t> {
    column: &'t Column,
    /// Its type without a length.
    bare_type: &'t str,
}

/// Whether entries come with what their chats were last given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    /// Entries have them: the table is joined with what runs remember.
    Joined,
    /// Entries come without them, and no other table is read.
    LeftOut,
}

/// Which rows are in question.
#[derive(Clone, Debug)]
enum Scope {
    /// All of them.
    Everything,
    /// Those that the plan asks for that it was read for.
    InQuestion(Box<Question>),
    /// Those of these chats, which are of the table.
    Chats(BTreeSet<String>),
}

/// A table, read when it is asked. Each pass over it sees it at one instant, and a later pass may see a later one: what is
/// committed is compared with the row once more.
#[derive(Clone, Debug)]
pub(super) struct TableSnapshot {
    database: Arc<Database>,
    relation: Relation,
    columns: Columns,
    marks: Marks,
    scope: Scope,
}

impl TableSnapshot {
    pub(super) fn new(database: Arc<Database>, relation: Relation, columns: Columns, marks: Marks) -> Self {
        Self { database, relation, columns, marks, scope: Scope::Everything }
    }

    /// This table, read for a plan.
    pub(super) fn asking(self, input: &PlanInput, ledger: &Ledger) -> Self {
        let question = Question::of(input, ledger, &self.columns).map(Box::new);
        Self { scope: question.map_or(Scope::Everything, Scope::InQuestion), ..self }
    }

    /// This table, of which only the rows of these chats are in question.
    pub(super) fn of_chats(self, chats: &BTreeSet<&str>) -> Self {
        Self { scope: Scope::Chats(chats.iter().map(|chat| (*chat).to_owned()).collect()), ..self }
    }

    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    pub(super) fn relation(&self) -> &Relation {
        &self.relation
    }

    /// Locks the rows of these chats for a transaction that changes their models, always in one order, and hands them over
    /// as they are then. A row that cannot be read is left out.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    pub(super) fn lock(
        &self,
        transaction: &mut Transaction,
        chats: &[&str],
        take: &mut dyn FnMut(Entry<'_>),
    ) -> Result<()> {
        let id = identifier(&self.columns.chat_id.name);
        let (rows, are_meant) = (self.without_marks(), self.has_id_of_list());
        let are_sound = self.broken().map_or_else(String::new, |broken| format!(" AND {broken} IS NULL"));
        let sql = format!("{} WHERE {are_meant}{are_sound} ORDER BY {id} FOR NO KEY UPDATE", rows.query());
        rows.stream(transaction, &sql, &[many(&chats)], take).map(drop)
    }

    /// Hands over the rows of these chats as a transaction sees them.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    pub(super) fn read(
        &self,
        transaction: &mut Transaction,
        chats: &[&str],
        take: &mut dyn FnMut(Entry<'_>),
    ) -> Result<()> {
        let sql = format!("{} WHERE {}", self.query(), self.has_id_of_list());
        self.stream(transaction, &sql, &[many(&chats)], take).map(drop)
    }

    /// The models of these chats as a transaction sees them, by chat id.
    pub(super) fn models(
        &self,
        transaction: &mut Transaction,
        chats: &[&str],
    ) -> Result<BTreeMap<String, Option<Model>>> {
        let doing = |error: postgres::Error| failed("read the table", &error);
        let (id, model) = (value(&self.columns.chat_id), value(&self.columns.model));
        let (name, are_meant) = (&self.relation.name, self.has_id_of_list());
        let sql = format!("SELECT {id}, {model} FROM {name} WHERE {are_meant}");
        let mut found = BTreeMap::new();
        for row in transaction.query_typed(&sql, &[many(&chats)]).map_err(doing)? {
            let model: Option<&str> = row.try_get(1).map_err(doing)?;
            found.insert(row.try_get(0).map_err(doing)?, model.and_then(Model::new));
        }
        Ok(found)
    }

    /// The chats whose rows cannot be read, each with the name of the first field of it that has another form than the policy
    /// says. Nothing is known of such a field, which is not the same as that there is none.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    pub(super) fn unreadable(&self) -> Result<BTreeMap<String, String>> {
        self.unreadable_where("true", &[])
    }

    /// The name of the first field of a chat's row that cannot be read, if there is one.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    pub(super) fn unreadable_field(&self, chat: &str) -> Result<Option<String>> {
        self.unreadable_where(&self.has_id_as_text(), &[many(&vec![chat])]).map(|mut found| found.remove(chat))
    }

    fn unreadable_where(&self, condition: &str, parameters: &[Parameter]) -> Result<BTreeMap<String, String>> {
        let Some(broken) = self.broken() else { return Ok(BTreeMap::new()) };
        let (id, name) = (value(&self.columns.chat_id), &self.relation.name);
        let sql = format!("SELECT {id}, {broken} FROM {name} WHERE {condition} AND {broken} IS NOT NULL");
        let doing = |error: postgres::Error| failed("read the table", &error);
        let rows = self.database.read(|transaction| transaction.query_typed(&sql, parameters).map_err(doing))?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, _>>().map_err(doing)
    }

    /// Writes a field of these chats, and looks whether the database has taken it.
    ///
    /// # Errors
    /// Where it has not. Nothing may be committed then.
    pub(super) fn write(
        &self,
        transaction: &mut Transaction,
        field: Field,
        chats: &[&str],
        values: &[Option<&str>],
    ) -> Result<()> {
        let doing = |error: postgres::Error| failed(sentence!("change the {}", field.name()), &error);
        let parameters = [many(&chats), many(&values)];
        let changed = transaction.execute_typed(&self.update(field)?, &parameters).map_err(doing)?;
        // What triggers do is done by now, also those that would wait for the end: a session must not be started on a model
        // that is gone when its change is committed.
        transaction.batch_execute(ALL_TRIGGERS).map_err(doing)?;
        if field == Field::Model && self.relation.keeps_models && changed == chats.len() as u64 {
            return Ok(());
        }
        let not_taken = transaction.query_typed_opt(&self.not_taken(field)?, &parameters).map_err(doing)?;
        let Some(row) = not_taken else { return Ok(()) };
        let chat: String = row.try_get(0).map_err(doing)?;
        Err(TableProblem::NotTaken { name: field.name(), chat: chat.into() }.into())
    }

    /// Gives the chats of the list $1 the values of the list $2. The first comparison is the one that an index serves; in its
    /// collation another chat may have the same id, which the second leaves alone.
    fn update(&self, field: Field) -> Result<String> {
        let (Relation { name, id_type, .. }, Columns { chat_id, .. }) = (&self.relation, &self.columns);
        let id = identifier(&chat_id.name);
        let (set, id_is) = (self.assignment(field)?, value(chat_id));
        Ok(format!(
            "UPDATE {name} SET {set} FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[]) \
             AS change(reconcile_chat, reconcile_value) WHERE {id} = reconcile_chat::{id_type} \
             AND ({id_is}) COLLATE pg_catalog.\"C\" = reconcile_chat"
        ))
    }

    /// Selects one of the chats of the list $1 that does not have its value of the list $2, where there is one.
    fn not_taken(&self, field: Field) -> Result<String> {
        let (Relation { name, id_type, .. }, Columns { chat_id, .. }) = (&self.relation, &self.columns);
        let id = identifier(&chat_id.name);
        let (id_is, stands) = (exactly(&value(chat_id)), exactly(&value(self.written(field)?.column)));
        Ok(format!(
            "SELECT reconcile_chat FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[]) \
             AS change(reconcile_chat, reconcile_value) WHERE NOT EXISTS (SELECT FROM {name} \
             WHERE {id} = reconcile_chat::{id_type} AND {id_is} = reconcile_chat \
             AND nullif({stands}, '') IS NOT DISTINCT FROM reconcile_value) LIMIT 1"
        ))
    }

    fn assignment(&self, field: Field) -> Result<String> {
        self.written(field).map(|written| assignment(written.column, written.bare_type))
    }

    fn written(&self, field: Field) -> Result<Written<'_>> {
        let (columns, relation) = (&self.columns, &self.relation);
        match (field, &columns.session_id, &relation.session_id_type) {
            (Field::Model, ..) => Ok(Written { column: &columns.model, bare_type: &relation.model_type }),
            (Field::SessionId, Some(column), Some(bare_type)) => Ok(Written { column, bare_type }),
            (Field::SessionId, ..) => Err(TableProblem::NoColumn.into()),
        }
    }

    /// The rows of the table by themselves: no row of another table is locked with them.
    fn without_marks(&self) -> Self {
        Self { marks: Marks::LeftOut, ..self.clone() }
    }

    /// The name of the first field that a row has in another form than it must have, where one can have another form.
    pub(super) fn broken(&self) -> Option<String> {
        let case = |column: &Column| Some(format!("WHEN NOT {} THEN {}", is_sound(column)?, text(column.field)));
        let cases: Vec<String> = self.columns.all().filter_map(case).collect();
        (!cases.is_empty()).then(|| format!("CASE {} END", cases.join(" ")))
    }

    /// The fields of a row as text, the name of one that cannot be read, and what the chat was last given: `mark`.
    pub(super) fn fields(&self, mark: &str) -> String {
        let Columns { chat_id, model, tier, source, kind, session_name, contact_name, session_id } = &self.columns;
        let optional = [tier, source, kind, session_name, contact_name, session_id].map(Option::as_ref);
        let fields = [Some(chat_id), Some(model)].into_iter().chain(optional);
        let fields: Vec<String> = fields.map(|column| column.map_or_else(nothing, value)).collect();
        let broken = self.broken().unwrap_or_else(nothing);
        format!("{}, {broken}, {mark}", fields.join(", "))
    }

    /// Selects the fields of every row.
    pub(super) fn query(&self) -> String {
        let name = &self.relation.name;
        match self.marks {
            Marks::LeftOut => format!("SELECT {} FROM {name}", self.fields(&nothing())),
            Marks::Joined => format!(
                "SELECT {} FROM {name} LEFT JOIN ({}) AS reconcile_marks ON reconcile_id = {}",
                self.fields("reconcile_mark"),
                marks_of(name),
                exactly(&value(&self.columns.chat_id))
            ),
        }
    }

    /// What the chat of a row was last given, looked up for this row alone: the database does so only for rows that come out.
    pub(super) fn mark(&self) -> String {
        match self.marks {
            Marks::LeftOut => nothing(),
            Marks::Joined => format!(
                "(SELECT reconcile_mark FROM ({}) AS reconcile_marks WHERE reconcile_id = {})",
                marks_of(&self.relation.name),
                exactly(&value(&self.columns.chat_id))
            ),
        }
    }

    /// That the id of a row is one of the list $1. In the column's own type, so that its index is used; which may take other
    /// texts for the same.
    pub(super) fn has_id_of_list(&self) -> String {
        let (id, of) = (identifier(&self.columns.chat_id.name), &self.relation.id_type);
        format!("{id} = ANY ($1::pg_catalog.text[]::{of}[])")
    }

    /// That the id of a row may be one of the list $1. A column of numbers, say, cannot be asked for any text by its index.
    pub(super) fn has_id_as_text(&self) -> String {
        if self.relation.id_is_text {
            return self.has_id_of_list();
        }
        format!("{} = ANY ($1)", exactly(&value(&self.columns.chat_id)))
    }

    pub(super) fn stream(
        &self,
        transaction: &mut Transaction,
        sql: &str,
        parameters: &[Parameter],
        take: &mut dyn FnMut(Entry<'_>),
    ) -> Result<usize> {
        let doing = |error: postgres::Error| failed("read the table", &error);
        let parameters = parameters.iter().cloned();
        let mut rows = transaction.query_typed_raw(sql, parameters).map_err(doing)?;
        let mut sessions = 0;
        while let Some(row) = rows.next().map_err(doing)? {
            sessions += 1;
            take(self.entry(&row)?);
        }
        Ok(sessions)
    }

    /// How many rows there are.
    pub(super) fn count(&self, transaction: &mut Transaction) -> Result<usize> {
        let doing = |error: postgres::Error| failed("read the table", &error);
        let count = format!("SELECT pg_catalog.count(*) FROM {}", self.relation.name);
        let count: i64 = transaction.query_typed_one(&count, &[]).and_then(|row| row.try_get(0)).map_err(doing)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// A row as an entry. Its columns stand in the order of the query.
    fn entry<'r>(&self, row: &'r Row) -> Result<Entry<'r>> {
        let reading = |error: postgres::Error| failed("read the table", &error);
        let field = |at: usize| row.try_get::<_, Option<&str>>(at).map_err(reading);
        let Some(id) = field(0)? else {
            return Err(TableProblem::NoChatId { table: self.relation.name.as_str().into() }.into());
        };
        let mut hasher = DefaultHasher::new();
        for at in 0..=FIELDS {
            field(at)?.hash(&mut hasher);
        }
        // What the row says: whether it still says so is known without keeping it.
        let at = Position(usize::try_from(hasher.finish() & usize::MAX as u64).unwrap_or_default());
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
        let resume = text(7)?.filter(|id| is_session_id(id));
        let mark = field(MARK)?.map(mark);
        let differs = if row.len() > DIFFERS { row.try_get(DIFFERS).map_err(reading)? } else { None };
        let (model, blank) = (text(1)?, Blank::default());
        Ok(Entry { chat, model, resume, by_hand: None, mark, is_session: true, blank, at, differs })
    }
}

/// What was last given to a chat: no text for a model that was there before.
fn mark(model: &str) -> Mark<'_> {
    if model.is_empty() { Mark::ByHand } else { Mark::Applied(Cow::Borrowed(model)) }
}

impl Snapshot for TableSnapshot {
    fn name(&self) -> &str {
        &self.relation.name
    }

    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts> {
        let sessions = self.database.read(|transaction| self.stream(transaction, &self.query(), &[], take))?;
        Ok(Counts { sessions, selected: None })
    }

    fn in_question(&self, make: Make<'_>) -> Result<Counts> {
        let mut collector;
        let sessions = match &self.scope {
            Scope::Everything => return self.in_parts(make),
            Scope::InQuestion(question) => {
                collector = make();
                let take = &mut |entry: Entry<'_>| collector.take(entry);
                self.database.read(|transaction| self.narrowed(transaction, question, take))?
            }
            Scope::Chats(chats) => {
                collector = make();
                let sought: Vec<&str> = chats.iter().map(String::as_str).collect();
                let take = &mut |entry: Entry<'_>| {
                    if chats.contains(entry.chat.id.as_ref()) {
                        collector.take(entry);
                    }
                };
                self.database.read(|transaction| self.read(transaction, &sought, take))?;
                chats.len()
            }
        };
        collector.finish();
        Ok(Counts { sessions, selected: Some(sessions) })
    }

    fn of_chats(&self, chats: &BTreeSet<String>, make: Make<'_>) -> Result<Counts> {
        let mut collector = make();
        let chats: BTreeSet<&str> = chats.iter().map(String::as_str).collect();
        let take = &mut |entry: Entry<'_>| collector.take(entry);
        let sessions = self.database.read(|transaction| {
            self.stream_found(transaction, &[Key::Id], &chats, take)?;
            self.count(transaction)
        })?;
        collector.finish();
        Ok(Counts { sessions, selected: None })
    }

    fn find(&self, keys: &[Key], values: &BTreeSet<&str>, take: &mut dyn FnMut(Entry<'_>)) -> Result<()> {
        self.database.read(|transaction| self.stream_found(transaction, keys, values, take))
    }
}
