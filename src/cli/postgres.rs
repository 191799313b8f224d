//! A registry that is a table: which server has it, as the policy, the command line and the environment say.

use std::time::Duration;

use crate::backend::Home;
use crate::cli::args::PlaceArgs;
use crate::cli::problem::PlaceProblem;
use crate::error::Result;
use crate::policy::conninfo::Conninfo;
use crate::policy::{Policy, Table};

/// What names the server for this host, instead of the policy.
const VARIABLE: &str = "RECONCILE_POSTGRES";

/// Where the registry of a policy is that names a table. Its server must take a connection within `limit`; without that, its own
/// settings say how long it may take.
pub(crate) fn home_of_table(
    place: &PlaceArgs,
    policy: &Policy,
    table: &Table,
    limit: Option<Duration>,
) -> Result<Home> {
    let named = place.connect(VARIABLE).map(|server| Conninfo::parse(&server)).transpose();
    let named = named.map_err(|why| PlaceProblem::Server {
        variable: VARIABLE,
        why: why.message.into(),
        advice: why.advice.into(),
    })?;
    reach(policy, table, named.as_ref(), limit)
}

#[cfg(feature = "postgres")]
fn reach(policy: &Policy, table: &Table, named: Option<&Conninfo>, limit: Option<Duration>) -> Result<Home> {
    use crate::backend::postgres::{Environment, RegistryTable, Said};

    let said = named.map_or(Said::ByPolicy(&table.server), Said::ByHost);
    let readable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment = Environment { variables: std::env::vars_os().filter_map(readable).collect() };
    let table = RegistryTable::new(policy, table, said, &environment)?;
    Ok(Home::Table(match limit {
        Some(limit) => table.answering_within(limit),
        None => table,
    }))
}

#[cfg(not(feature = "postgres"))]
fn reach(_: &Policy, table: &Table, _: Option<&Conninfo>, _: Option<Duration>) -> Result<Home> {
    Err(PlaceProblem::NoPostgres { table: table.name.as_str().into() }.into())
}
