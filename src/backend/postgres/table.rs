//! The table that is the registry, on its server.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use postgres::Transaction;

use crate::apply::LostState;
use crate::backend::commands::Commands;
use crate::backend::postgres::catalogue::{Relation, is_model_indexed, look};
use crate::backend::postgres::connection::{Database, End};
use crate::backend::postgres::lease::{Lease, held_until};
use crate::backend::postgres::locked::LockedTable;
use crate::backend::postgres::problem::TableProblem;
use crate::backend::postgres::server::{Environment, Said, addresses};
use crate::backend::postgres::snapshot::{Marks, TableSnapshot};
use crate::backend::postgres::sql::identifier;
use crate::backend::postgres::standby::delay;
use crate::backend::postgres::state::{Presence, State, may_write, presence};
use crate::chat::Model;
use crate::checkup::Check;
use crate::error::{Bug, Error, Result};
use crate::foreign::{Foreign, Sentence, sentence};
use crate::plan::json::JsonRun;
use crate::plan::ledger::Ledger;
use crate::policy::{Policy, Rollout, Table};

const NO_SCHEMA: LostState = LostState {
    message: "the database has no schema `reconcile`: what earlier runs left owed is not known",
    hint: "reconcile init --postgres prints the statements that create it",
};
const HIDDEN: LostState = LostState {
    message: "this role may not read the schema `reconcile`: what earlier runs did and left owed is not known",
    hint: "reconcile init --postgres --grants prints the rights",
};
/// How much longer a run holds the registry than its settings let it take between two transactions.
const SPARE: Duration = Duration::from_secs(60);

/// The table that is the registry. The connection to its server is made with the first statement.
#[derive(Clone, Debug)]
pub struct RegistryTable {
    database: Arc<Database>,
    table: Box<Table>,
    /// The models that a run may write.
    models: BTreeSet<Model>,
    /// Whether entries come with what their chats were last given, where that can be read.
    marks: Marks,
    /// How long a run holds the registry after each of its transactions.
    lease: Duration,
}

impl RegistryTable {
    /// The table that a policy names.
    ///
    /// # Errors
    /// Where no server can be told from what is said, or the policy alone names one that is not on this host.
    pub fn new(policy: &Policy, table: &Table, said: Said, environment: &Environment) -> Result<Self> {
        let is_used = |model: &&Model| !policy.retired.contains_key(*model);
        let models = policy.allowed.iter().filter(is_used).cloned().collect();
        let database = Arc::new(Database::new(addresses(said, environment)?));
        let marks = if policy.existing.keeps_manual() { Marks::Joined } else { Marks::LeftOut };
        let lease = lease(policy);
        Ok(Self { database, table: Box::new(table.clone()), models, marks, lease })
    }

    /// The name of the table, as in the policy.
    pub(crate) fn name(&self) -> String {
        let Table { schema, name, .. } = self.table.as_ref();
        schema.as_ref().map_or_else(|| name.clone(), |schema| format!("{schema}.{name}"))
    }

    /// Looks at the table, and returns it as a registry.
    ///
    /// # Errors
    /// Everything about it that keeps it from being one.
    pub(super) fn snapshot(&self) -> Result<TableSnapshot> {
        let relation = self.look()?;
        let is_known = self.marks == Marks::Joined && self.presence()? == Presence::Readable;
        let marks = if is_known { Marks::Joined } else { Marks::LeftOut };
        Ok(TableSnapshot::new(Arc::clone(&self.database), relation, self.table.columns.clone(), marks))
    }

    /// Whether models can be written.
    ///
    /// # Errors
    /// Why they cannot.
    pub(super) fn check_writable(&self) -> Result<()> {
        let Some(why) = self.look()?.unwritable else { return Ok(()) };
        Err(TableProblem::NotWritable { why: why.into() }.into())
    }

    /// Whether what is done can be remembered. What is lost without that is told by [`RegistryTable::lost_state`].
    ///
    /// # Errors
    /// Where it cannot.
    pub(super) fn check_state(&self) -> Result<()> {
        match self.lost_state()? {
            Some(LostState { hint, .. }) => Err(TableProblem::NoMemory { hint }.into()),
            None if self.database.read(may_write)? => Ok(()),
            None => {
                Err(TableProblem::NotWritable { why: "this role may not write to the schema reconcile".into() }.into())
            }
        }
    }

    /// Whether there is anything that runs remember. A role that may not see it is never told that there is nothing.
    ///
    /// # Errors
    /// Where this role may not read it.
    fn is_remembering(&self) -> Result<bool> {
        match self.presence()? {
            Presence::Readable => Ok(true),
            Presence::Missing => Ok(false),
            Presence::Hidden => Err(unknown(HIDDEN)),
        }
    }

    /// Makes changes that are an error where it cannot be told whether they were made.
    pub(super) fn change(&self, mut work: impl FnMut(&mut Transaction) -> Result<()>) -> Result<()> {
        match self.database.change(|transaction| work(transaction).map(Some))? {
            End::Committed(()) => Ok(()),
            End::Lost((), error) => Err(error),
            End::TakenBack => Err(Bug("the transaction was rolled back").into()),
        }
    }

    /// This table, whose server must take a connection within this time.
    #[must_use]
    pub(crate) fn answering_within(self, limit: Duration) -> Self {
        Self { database: Arc::new(self.database.answering_within(limit)), ..self }
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    fn presence(&self) -> Result<Presence> {
        self.database.read(presence)
    }

    /// What is not known of earlier runs, if so.
    pub(super) fn lost_state(&self) -> Result<Option<LostState>> {
        Ok(match self.presence()? {
            Presence::Missing => Some(NO_SCHEMA),
            Presence::Hidden => Some(HIDDEN),
            Presence::Readable => None,
        })
    }

    /// What runs remember of the table.
    ///
    /// # Errors
    /// Where it cannot be read, or this role may not.
    pub(super) fn known_ledger(&self) -> Result<Ledger> {
        self.is_remembering()?;
        self.ledger(&self.look()?)
    }

    /// What runs remember of the table, as far as this role may read it: a plan does without.
    pub(super) fn ledger(&self, relation: &Relation) -> Result<Ledger> {
        if self.presence()? != Presence::Readable {
            return Ok(Ledger::default());
        }
        let kept = |transaction: &mut Transaction| State { transaction, registry: &relation.name }.kept();
        Ok(self.database.read(kept)?.ledger)
    }

    /// The runs in the history, newest first, one at a time.
    pub(super) fn history(&self) -> Result<impl Iterator<Item = Result<JsonRun<'static>>> + '_> {
        let relation = self.look()?;
        let is_there = self.is_remembering()?;
        // The names of runs are times, and sort before this text.
        let mut last = is_there.then(|| "~".to_owned());
        Ok(iter::from_fn(move || {
            let name = last.take()?;
            let older =
                |transaction: &mut Transaction| State { transaction, registry: &relation.name }.run_before(&name);
            let run = self.database.read(older).transpose()?;
            last = run.as_ref().ok().map(|run| run.run.to_string());
            Some(run)
        }))
    }

    /// Takes the table for a run.
    pub(super) fn lock<'b>(
        &self,
        commands: &'b Commands,
        patience: Duration,
        give_up: &dyn Fn() -> bool,
    ) -> Result<LockedTable<'b>> {
        self.check_writable()?;
        self.check_state()?;
        let table = self.snapshot()?;
        let lease = Lease::take(&self.database, &table.relation().name, self.lease, patience, give_up)?;
        let locked = LockedTable { table, lease, commands };
        locked.tell_of_the_dead()?;
        Ok(locked)
    }

    pub(super) fn look(&self) -> Result<Relation> {
        self.database.read(|transaction| look(transaction, &self.table, &self.models))
    }

    /// Looks at the server, the table, and what a run needs besides.
    pub(crate) fn checkup(&self) -> Vec<Check> {
        let looked = self.look();
        let registry = looked.as_ref().ok().map(|relation| relation.name.clone());
        let found = looked.map(|relation| sentence!("the table {} can be read", Foreign::from(relation.name)));
        let state = self.lost_state().and_then(|lost| match lost {
            None => Ok("the state of earlier runs can be read".into()),
            Some(lost) => Err(unknown(lost)),
        });
        let is_known = state.is_ok();
        let mut checks = vec![
            Check::of("registry", found, "check [registry] in the policy"),
            Check::of("state", state, "check the schema reconcile of the database"),
        ];
        if let Some(registry) = registry {
            let delay = self.delay().transpose();
            checks.extend(delay.map(|delay| Check::of("standby", delay, "look at the server")));
            let may_write = self.check_writable();
            checks.push(if is_known {
                let may_record = may_write.and_then(|()| self.check_state());
                rights(may_record, "this role may change models, and record what it does")
            } else {
                rights(may_write, "this role may change models")
            });
            checks.extend(self.look_at_indexes(&registry));
            checks.extend(is_known.then(|| self.look_at_holder(&registry)));
        }
        checks
    }

    /// That the server is a standby, and how old what it shows is, in words.
    pub(super) fn delay(&self) -> Result<Option<Sentence>> {
        self.database.read(delay)
    }

    /// That an index has the column of models, if so.
    fn look_at_indexes(&self, registry: &str) -> Option<Check> {
        let model = &self.table.columns.model;
        let found = self.database.read(|transaction| is_model_indexed(transaction, registry, model));
        let found = found.map(|is_indexed| {
            let (registry, model) = (Foreign::from(registry), Foreign::from(identifier(&model.name)));
            is_indexed
                .then(|| sentence!("an index of {} has the column {}: changes of models take longer", registry, model))
        });
        found.transpose().map(|found| Check::of("index", found, "check the indexes of the table"))
    }

    fn look_at_holder(&self, registry: &str) -> Check {
        let found = self.database.read(|transaction| held_until(transaction, registry)).map(|until| match until {
            None => "no run holds the registry".into(),
            Some(until) => sentence!("a run holds the registry until {}, unless it ends before", Foreign::from(until)),
        });
        Check::of("holder", found, "check the schema reconcile of the database")
    }
}

fn rights(found: Result<()>, good: &'static str) -> Check {
    Check::of("rights", found.map(|()| good.into()), "reconcile init --postgres --grants ROLE prints the rights")
}

fn unknown(lost: LostState) -> Error {
    let LostState { message, hint } = lost;
    TableProblem::StateUnknown { message, hint }.into()
}

/// How long a run holds the registry after each transaction: a restart may take its time twice, once for the command and once
/// until the session is up.
fn lease(policy: &Policy) -> Duration {
    let Rollout { min_healthy, pause, .. } = policy.rollout;
    2 * (policy.sessions.timeout + min_healthy) + pause + SPARE
}
