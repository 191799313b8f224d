//! The table that is the registry, on its server.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::backend::postgres::catalogue::{Relation, look};
use crate::backend::postgres::connection::Database;
use crate::backend::postgres::server::{Environment, Said, addresses};
use crate::backend::postgres::snapshot::TableSnapshot;
use crate::chat::Model;
use crate::checkup::Check;
use crate::error::Result;
use crate::policy::{Policy, Table};

/// The table that is the registry. Its server is reached when it is first asked.
#[derive(Clone, Debug)]
pub struct RegistryTable {
    database: Arc<Database>,
    table: Table,
    /// The models that a run may write.
    models: BTreeSet<Model>,
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
        Ok(Self { database, table: table.clone(), models })
    }

    /// Its name, as the policy has it.
    pub fn name(&self) -> String {
        let Table { schema, name, .. } = &self.table;
        schema.as_ref().map_or_else(|| name.clone(), |schema| format!("{schema}.{name}"))
    }

    /// Looks at the table, and returns it as a registry.
    ///
    /// # Errors
    /// Everything about it that keeps it from being one.
    pub(super) fn snapshot(&self) -> Result<TableSnapshot> {
        let relation = self.look()?;
        Ok(TableSnapshot::new(Arc::clone(&self.database), self.name(), &relation, &self.table.columns))
    }

    fn look(&self) -> Result<Relation> {
        self.database.read(|transaction| look(transaction, &self.table, &self.models))
    }

    /// Looks at the server and the table.
    pub(crate) fn checkup(&self) -> Check {
        let found = self.look().map(|relation| format!("the table {} can be read", relation.0));
        Check::of("registry", found, "look at [registry] in the policy")
    }
}
