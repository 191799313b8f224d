//! `reconcile init --postgres`: the statements that make what runs remember in, for a person to read and run.

use clap::ValueEnum;

use crate::cli::args::PlaceArgs;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::policy::{self, Table};
use crate::report::escape::escape;

const SCHEMA: &str = include_str!("../../backend/postgres/schema.sql");
const FROM_1: &str = include_str!("../../backend/postgres/from_1.sql");
const COMMIT: &str = "COMMIT;\n";
const TABLES: &str = "reconcile.registry, reconcile.memory, reconcile.run, reconcile.chat";

/// What the database has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Has {
    /// No schema of reconcile.
    Nothing,
    /// The schema of an earlier version.
    Older(Format),
    /// The schema of this version.
    Everything,
}

/// The format of a schema that an earlier version made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The schema as the first version made it.
    #[value(name = "1")]
    One,
}

/// Prints those that the database lacks, with the rights of a role if one is named: all in one transaction, so that a role that is
/// misspelled leaves nothing behind. Nothing is connected to.
pub(super) fn run(terminal: &Terminal, place: &PlaceArgs, has: Has, role: Option<&str>) -> anyhow::Result<Exit> {
    let statements = match has {
        Has::Nothing => SCHEMA,
        Has::Older(Format::One) => FROM_1,
        Has::Everything => "BEGIN;\n",
    };
    let body = statements.strip_suffix(COMMIT).unwrap_or(statements);
    let rights = role.map(|role| rights(place, &quoted(role))).unwrap_or_default();
    terminal.to_stdout(|page| page.lines(&format!("{body}{rights}{COMMIT}")))?;
    Ok(Exit::Done)
}

/// What a role needs for a run. On the table itself, where there is a policy that names it.
fn rights(place: &PlaceArgs, role: &str) -> String {
    let table = || policy::read(&place.load().ok()?.sources).ok()?.0.table;
    let on_table = table().map_or_else(
        || "-- And on the table of the registry: SELECT, and UPDATE of the column of models.\n".to_owned(),
        |table| rights_on(&table, role),
    );
    format!(
        "\n-- For runs. A dry run needs no more than USAGE and SELECT.\n\
         GRANT USAGE ON SCHEMA reconcile TO {role};\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO {role};\n{on_table}"
    )
}

fn rights_on(table: &Table, role: &str) -> String {
    let (name, model) = (quoted(&table.name), &table.columns.model);
    let written = [Some(model), table.columns.session_id.as_ref()].into_iter().flatten();
    let written: Vec<String> = written.map(|column| quoted(&column.name)).collect();
    let written = written.join(", ");
    let Some(schema) = table.schema.as_deref().map(quoted) else {
        return format!("GRANT SELECT, UPDATE ({written}) ON {name} TO {role};\n");
    };
    format!(
        "GRANT USAGE ON SCHEMA {schema} TO {role};\n\
         GRANT SELECT, UPDATE ({written}) ON {schema}.{name} TO {role};\n"
    )
}

/// A name as SQL, taken literally. One that cannot be shown as it is has escapes of SQL, so that the statement still means it.
fn quoted(name: &str) -> String {
    let name = name.replace('"', "\"\"");
    if escape(&name) == name {
        return format!("\"{name}\"");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '"' | '_' | ' ');
    let written = |c: char| if is_plain(c) { c.to_string() } else { format!(r"\+{:06x}", u32::from(c)) };
    format!("U&\"{}\"", name.chars().map(written).collect::<String>())
}
