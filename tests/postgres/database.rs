//! A database of a test's own, and the binary run on a table in it.

use std::cell::RefCell;
use std::fs;

use postgres::{Client, SimpleQueryMessage};
use serde_json::Value;

use crate::server::{LOG_MARK, Server, server};
use crate::support::{Run, Sandbox};

/// What every policy of these tests has before its registry.
pub const MODELS: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "sonnet"

[tiers]
admin  = "opus"
family = "sonnet"
bots   = "haiku"
"#;

/// The registry of most tests.
pub const COLUMNS: &str = r#"
chat_id      = "id"
model        = "model"
tier         = "tier"
source       = "source"
type         = "kind"
session_name = "name"
"#;

/// The table of most tests.
pub const TABLE: &str =
    "CREATE TABLE sessions (id text PRIMARY KEY, model text, tier text, source text, kind text, name text)";

/// A database, and a directory with a policy for it.
pub struct Database {
    pub name: String,
    pub sandbox: Sandbox,
    /// How its server is reached, as keywords.
    server: String,
    client: RefCell<Client>,
}

impl Database {
    /// A database made by these statements.
    pub fn new(statements: &str) -> Self {
        Self::on(server(), statements)
    }

    /// One of this server.
    pub fn on(server: &Server, statements: &str) -> Self {
        let (name, client) = server.new_database();
        let (server, client) = (server.address(), RefCell::new(client));
        let database = Self { name, sandbox: Sandbox::new("", "{}"), server, client };
        database.execute(statements);
        database.policy(&database.registry(COLUMNS));
        database
    }

    /// One with the usual table, in which these rows are: id, tier and model (empty for none).
    pub fn with_sessions(rows: &[(&str, &str, &str)]) -> Self {
        let database = Self::new(TABLE);
        for (id, tier, model) in rows {
            database.execute(&format!(
                "INSERT INTO sessions VALUES ('{id}', nullif('{model}', ''), '{tier}', 'imessage', 'individual', 'imessage/{id}')"
            ));
        }
        database
    }

    /// Makes what runs remember in: with the statements that the program prints for that.
    pub fn make_schema(&self) {
        self.execute(&self.run(&["init", "--postgres"]).expect(0).stdout);
    }

    /// `[registry]` with these columns.
    pub fn registry(&self, columns: &str) -> String {
        let address = self.address();
        format!("[registry]\npostgres = \"{address}\"\ntable = \"public.sessions\"\n[registry.columns]\n{columns}\n")
    }

    /// The server and the database as keywords.
    pub fn address(&self) -> String {
        format!("{} dbname={} user=postgres", self.server, self.name)
    }

    /// Makes its connection anew: the server may have been stopped.
    pub fn reconnect(&self, server: &Server) {
        *self.client.borrow_mut() = server.connect(&self.name).unwrap();
    }

    /// Writes the policy: the usual models and tiers, and these sections.
    pub fn policy(&self, sections: &str) {
        self.sandbox.write("policy.toml", format!("{MODELS}{sections}"));
    }

    pub fn execute(&self, statements: &str) {
        self.client.borrow_mut().batch_execute(statements).unwrap_or_else(|error| panic!("{error:?}: {statements}"));
    }

    /// Executes statements, or returns what the server says against them.
    pub fn try_to_execute(&self, statements: &str) -> Result<(), String> {
        self.client.borrow_mut().batch_execute(statements).map_err(|error| format!("{error:?}"))
    }

    /// The first column of a query, as text.
    pub fn texts(&self, query: &str) -> Vec<String> {
        let messages = self.client.borrow_mut().simple_query(query).unwrap();
        let text = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        };
        messages.iter().filter_map(text).collect()
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        crate::support::finish(&mut self.command(arguments))
    }

    /// The binary, without what the environment says of a server.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.sandbox.command(arguments);
        let said = std::env::vars_os().map(|(name, _)| name);
        let said = said.filter(|name| name.to_string_lossy().starts_with("PG") || name == "RECONCILE_POSTGRES");
        for name in said {
            command.env_remove(name);
        }
        command.env("HOME", self.sandbox.path("")).env("USER", "nobody");
        command
    }

    /// What the server logs of this database while `act` runs, an entry each. The log is that of all tests, which run beside each other.
    pub fn logged(&self, act: impl FnOnce()) -> Vec<String> {
        let log = server().socket().join("log");
        let before = fs::read(&log).unwrap().len();
        act();
        let text = fs::read(&log).unwrap();
        let text = String::from_utf8_lossy(&text[before..]);
        // The server begins each further line of an entry with a tab.
        let entries = text.replace("\n\t", "\t");
        let of_this = format!("{LOG_MARK}{} ", self.name);
        entries.lines().filter(|entry| entry.starts_with(&of_this)).map(str::to_owned).collect()
    }

    /// The JSON report of a dry run.
    pub fn plan(&self) -> Value {
        let run = self.run(&["--dry-run", "--format", "json"]);
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
    }
}
