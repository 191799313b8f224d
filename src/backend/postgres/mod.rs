//! The backend `postgres`: a registry that is a table of the operator's own schema, and commands that restart sessions.

#![allow(clippy::disallowed_methods, reason = "this room is where a server is reached, and its password file read")]

mod catalogue;
mod compiled;
mod connection;
mod edits;
mod failure;
mod files;
mod found;
mod lease;
mod locked;
mod memory;
mod named;
mod narrowed;
mod problem;
mod register;
mod server;
mod snapshot;
mod sql;
mod standby;
mod state;
mod table;
mod tls;
mod told;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::{Ask, Backend, Decide, Locked, LostState, Registered};
use crate::backend::commands::{Commands, remark};
use crate::backend::observe::Observer;
use crate::backend::postgres::problem::TableProblem;
use crate::backend::postgres::register::Purpose;
use crate::chat::Model;
use crate::checkup::Check;
use crate::error::{Error, Result};
use crate::foreign::Sentence;
use crate::plan::capabilities::Capabilities;
use crate::plan::json::{JsonRun, Origin};
use crate::plan::ledger::Ledger;
use crate::plan::observed::{Finding, Observed, Standing};
use crate::plan::{Drift, Reading};
use crate::registry::Snapshot;

pub use server::{Environment, Said};
pub use table::RegistryTable;

/// How many rows are changed in one transaction, where the policy does not say. An application waits for them until that ends.
const BATCH: usize = 500;

/// A registry that is a table, and the commands of this host that restart its sessions.
#[derive(Debug)]
pub struct PostgresBackend {
    table: RegistryTable,
    commands: Commands,
    /// Other names of models that the registry may hold.
    aliases: BTreeMap<String, Model>,
}

impl PostgresBackend {
    /// The registry in this table, whose sessions these commands restart.
    pub fn new(table: RegistryTable, aliases: BTreeMap<String, Model>, commands: Commands) -> Self {
        Self { table, commands, aliases }
    }
}

impl PostgresBackend {
    /// What is found of the rows that cannot be read: nothing is decided on them.
    fn refusals(&self) -> Result<BTreeMap<String, Finding>> {
        let refusal = |(chat, field): (String, String)| {
            let why = TableProblem::OtherForm { field: field.into(), chat: chat.as_str().into() };
            let standing = Standing::Refused(Error::from(why).text());
            (chat, Finding { standing, ..Finding::default() })
        };
        Ok(self.table.snapshot()?.unreadable()?.into_iter().map(refusal).collect())
    }
}

impl Backend for PostgresBackend {
    fn capabilities(&self) -> &dyn Capabilities {
        &self.commands
    }

    fn read(&self, ask: Ask<'_>) -> Result<Reading> {
        let snapshot = self.table.snapshot()?;
        // First: what is committed between the two is in sync then, and not a debt without a change.
        let ledger = self.table.ledger(snapshot.relation())?;
        // Each gets a row, which says that it cannot be read.
        let doubtful = snapshot.unreadable()?.into_keys().collect();
        let snapshot = match ask {
            Ask::Everything => snapshot,
            // Any chat may be one of which nothing is remembered yet.
            Ask::Apply(input) if input.policy.existing.keeps_manual() => snapshot,
            Ask::Chats(chats) => snapshot.of_chats(chats),
            Ask::Plan(input) | Ask::Apply(input) => snapshot.asking(input, &ledger),
        };
        Ok(Reading { snapshot: Box::new(snapshot), ledger, doubtful, imposed: None })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.table.snapshot()?))
    }

    fn ledger(&self) -> Result<Ledger> {
        self.table.known_ledger()
    }

    fn batch(&self) -> Option<usize> {
        Some(BATCH)
    }

    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        let mut found = Observer { commands: &self.commands, aliases: &self.aliases, reading, rows: &drift.rows }
            .observe(remark(&drift.rows))?;
        if !reading.doubtful.is_empty() {
            found.findings.extend(self.refusals()?);
        }
        Ok(found)
    }

    fn preflight(&self) -> Result<()> {
        self.commands.preflight()
    }

    fn check_edits(&self) -> Result<()> {
        self.table.check_writable()
    }

    fn has_state(&self) -> Result<bool> {
        self.table.lost_state().map(|lost| lost.is_none())
    }

    fn lost_state(&self) -> Result<Option<LostState>> {
        self.table.lost_state()
    }

    fn delay(&self) -> Result<Option<Sentence>> {
        self.table.delay()
    }

    fn checkup(&self) -> Vec<Check> {
        let mut checks = self.table.checkup();
        checks.extend(self.commands.checkup());
        checks
    }

    fn lock<'b>(&'b self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        Ok(Box::new(self.table.lock(&self.commands, patience, give_up)?))
    }

    fn register(&self, _: Duration, now: Timestamp, by: &Origin, decide: &mut Decide<'_>) -> Result<Registered> {
        self.table.register(Purpose::Start, now, by, decide)
    }

    fn record_session(&self, _: Duration, now: Timestamp, decide: &mut Decide<'_>) -> Result<Registered> {
        self.table.register(Purpose::Record, now, &Origin::default(), decide)
    }

    fn not_started(&self, chat: &str, now: Timestamp) -> Result<()> {
        self.table.owe(chat, now)
    }

    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        Ok(Box::new(self.table.history()?))
    }
}
