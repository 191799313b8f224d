//! `reconcile init`: a first policy, in a new file.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::adopt::adopt;
use crate::backend::{self, Home, file::RegistryFile};
use crate::cli::args::PlaceArgs;
use crate::cli::commands::adopt::{of_gateway, told_gateway, written};
use crate::cli::commands::init_postgres::{self, Has};
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::error::Result;
use crate::form::Form;
use crate::report::Width;
use crate::report::adopted::{self, Named};
use crate::report::first_policy::FIRST_POLICY;
use crate::report::page::Toml;
use crate::sources;

#[derive(Clone, Debug, Args)]
pub(crate) struct InitArgs {
    /// Print the statements that create the schema in which runs on a PostgreSQL registry keep their state; write
    /// nothing
    #[arg(long)]
    postgres: bool,

    /// Print the statements that upgrade the schema of an earlier version, which has this format
    #[arg(long, requires = "postgres", value_name = "FORMAT", hide_possible_values = true)]
    from: Option<init_postgres::Format>,

    /// Also print the statements that grant this role the rights for a run
    #[arg(long, requires = "postgres", value_name = "ROLE")]
    grants: Option<String>,

    /// Print only the grants, for another role or table where the schema already exists
    #[arg(long, requires = "grants", conflicts_with = "from")]
    grants_only: bool,
}

/// What is to be done with a policy that describes what is there.
const AS_IT_IS: &str = "It describes the registry as it is: edit it to say what it should be.";

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &InitArgs) -> anyhow::Result<Exit> {
    if args.postgres {
        let has = match (args.grants_only, args.from) {
            (true, _) => Has::Everything,
            (false, Some(format)) => Has::Older(format),
            (false, None) => Has::Nothing,
        };
        return init_postgres::run(terminal, place, has, args.grants.as_deref());
    }
    let path = place.policy();
    let (text, next) = match (place.registry(), told_gateway(place)) {
        (Some(registry), _) => (adopted(&path, registry)?, AS_IT_IS),
        (None, Some(gateway)) => (of_gateway(place, &gateway)?, AS_IT_IS),
        (None, None) => (
            FIRST_POLICY.into(),
            "Edit its models and tiers, and let your supervisor start each session with reconcile launch.",
        ),
    };
    sources::write_new(&path, text.as_bytes())?;
    let name = path.display().to_string();
    let option = if name == "policy.toml" { String::new() } else { format!(" --policy {name}") };
    terminal.to_stdout(|page| {
        page.line(&format!("Wrote {name}. {next}"), Width::Any)?;
        page.item(&format!("reconcile check{option}        looks for mistakes in it"))?;
        page.item(&format!("reconcile --dry-run{option}    shows what a run would change"))
    })?;
    Ok(Exit::Done)
}

/// The policy that describes a registry.
fn adopted(policy: &Path, registry: PathBuf) -> Result<Toml> {
    let file = RegistryFile::open(&registry)?;
    let form = Form { key: file.key_of_sessions()?, ..Form::default() };
    let adopted = adopt(backend::of_home(Home::File(file.in_form(&form))).snapshot()?.as_ref())?;
    // A relative path counts from the policy's directory.
    let is_here = policy.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let registry = if is_here { registry } else { std::path::absolute(&registry).unwrap_or(registry) };
    Ok(adopted::policy(&adopted, Named::File(&written(&registry)?, &form)))
}
