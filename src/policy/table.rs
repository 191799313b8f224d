//! `[registry]` for a table of a PostgreSQL database: the server, the table, and which column has which field.

use crate::diagnostic::{Diagnostic, Place};
use crate::policy::conninfo::Conninfo;
use crate::policy::fields::{Item, Section};
use crate::policy::read::Reader;

const TABLE: &str = r#"table = "public.sessions""#;
const COLUMN: &str = r#""model", or { column = "settings", path = ["llm", "model"] }"#;
const UNSHOWN: &str = "this line is not shown, because it may hold a password";
const COLUMNS: &str = r#"columns = { chat_id = "id", model = "model" }"#;

/// The table that is the registry, as a policy names it.
#[derive(Clone, Debug)]
pub struct Table {
    /// `registry.postgres`: the connection string of the server, without a password.
    pub server: Conninfo,
    /// The schema in `registry.table`; without it, the server looks the table up in its `search_path`.
    pub schema: Option<String>,
    /// The name of the table or view.
    pub name: String,
    /// `registry.columns`.
    pub columns: Columns,
    /// Where `registry.table` stands in the policy.
    pub place: Place,
}

impl Table {
    /// The key of `[registry]` that names the server.
    pub const SERVER: &str = "postgres";
}

/// `registry.columns`: the column of each field of an entry.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The column of the chat's id.
    pub chat_id: Column,
    /// The column of the model.
    pub model: Column,
    /// The column of the chat's tier.
    pub tier: Option<Column>,
    /// The column of the service that the chat is on, such as `discord`.
    pub source: Option<Column>,
    /// The column of the chat's type: `individual` or `group`.
    pub kind: Option<Column>,
    /// The column of the session's name.
    pub session_name: Option<Column>,
    /// The column of the contact's name.
    pub contact_name: Option<Column>,
    /// The column of the conversation's id.
    pub session_id: Option<Column>,
}

impl Columns {
    /// All columns, with those of the chat's id and the model first.
    pub fn all(&self) -> impl Iterator<Item = &Column> {
        let Self { chat_id, model, tier, source, kind, session_name, contact_name, session_id } = self;
        let optional = [tier, source, kind, session_name, contact_name, session_id];
        [chat_id, model].into_iter().chain(optional.into_iter().flatten())
    }
}

/// The column of a field, or a path in a column of JSON.
#[derive(Clone, Debug)]
pub struct Column {
    /// The field's name, such as `chat_id`.
    pub field: &'static str,
    /// The column's name, in the exact case.
    pub name: String,
    /// The keys that lead to the field within a column of JSON. Empty where the column has the field itself.
    pub path: Vec<String>,
    /// Where the column stands in the policy.
    pub place: Place,
}

impl<'r> Reader<'r> {
    /// Reads the keys of `[registry]` that are about a table. `postgres` is the value of `registry.postgres`.
    pub(super) fn table(&self, section: &mut Section<'r>, postgres: &Item<'r>) -> Option<Table> {
        let server = self.server(postgres);
        let table = self.required(section, "table", TABLE);
        let name = table.as_ref().and_then(|item| self.text(item, TABLE));
        let columns = self.required(section, "columns", COLUMNS);
        let columns = columns.and_then(|item| self.columns(item.table(self.mistakes, COLUMNS)?));
        let name = name?;
        let (schema, name) = name.split_once('.').map_or((None, name.as_str()), |(schema, name)| (Some(schema), name));
        let (schema, name) = (schema.map(str::to_owned), name.to_owned());
        Some(Table { server: server?, schema, name, columns: columns?, place: table?.place() })
    }

    /// The connection string of the server, which must have no password. Messages do not show its line, in case it has one.
    fn server(&self, item: &Item<'r>) -> Option<Conninfo> {
        let text = self.text(item, r#"postgres = "service=assistant""#)?;
        let unshown = || Place { excerpt: String::new(), caret: 0..0, cut: 0, ..item.place() };
        let mistake = |code, message: String, advice: String| {
            self.mistakes.add(|| Diagnostic::error(code, message, unshown(), UNSHOWN).help(advice));
            None
        };
        match Conninfo::parse(&text) {
            Err(why) => {
                mistake("not-a-connection", format!("`{}` is not a valid connection: {}", item.name, why.message), why.advice)
            }
            Ok(server) if server.get("password").is_some() => mistake(
                "password-in-policy",
                format!("`{}` contains a password", item.name),
                "remove the password, and change it if others could read the policy; put it in ~/.pgpass, or set PGPASSWORD"
                    .to_owned(),
            ),
            Ok(server) => Some(server),
        }
    }

    fn columns(&self, mut table: Section<'r>) -> Option<Columns> {
        let chat_id = self.required(&mut table, "chat_id", r#"chat_id = "id""#);
        let chat_id = chat_id.and_then(|item| self.column("chat_id", &item));
        let model = self.required(&mut table, "model", r#"model = "model""#);
        let model = model.and_then(|item| self.column("model", &item));
        let mut optional = |field| table.get(self.mistakes, field).and_then(|item| self.column(field, &item));
        let (tier, source, kind) = (optional("tier"), optional("source"), optional("type"));
        let (session_name, contact_name) = (optional("session_name"), optional("contact_name"));
        let session_id = optional("session_id");
        table.finish(self.mistakes);
        let (chat_id, model) = (chat_id?, model?);
        if !chat_id.path.is_empty() {
            self.mistakes.add(|| {
                let message = "the id of a chat must be a column of its own";
                Diagnostic::error("chat-id-in-json", message, chat_id.place.clone(), "")
                    .help("make a view that has it as a column, and name the view in registry.table")
            });
            return None;
        }
        Some(Columns { chat_id, model, tier, source, kind, session_name, contact_name, session_id })
    }

    fn column(&self, field: &'static str, item: &Item<'r>) -> Option<Column> {
        if item.value.is_str() {
            return Some(Column { field, name: self.text(item, COLUMN)?, path: Vec::new(), place: item.place() });
        }
        if !item.value.is_table() {
            self.mistakes.add(|| item.wrong_type("a column", COLUMN));
            return None;
        }
        let mut table = item.table(self.mistakes, COLUMN)?;
        let name = self.required(&mut table, "column", r#"column = "settings""#);
        let name = name.and_then(|item| self.text(&item, r#"column = "settings""#));
        let path = self.required(&mut table, "path", r#"path = ["llm", "model"]"#);
        let path = path.and_then(|item| item.list(self.mistakes, r#"path = ["llm", "model"]"#));
        table.finish(self.mistakes);
        let key = |item: &Item<'r>| self.text(item, r#"path = ["llm", "model"]"#);
        let path = path?.iter().map(key).collect::<Option<_>>()?;
        Some(Column { field, name: name?, path, place: item.place() })
    }
}
