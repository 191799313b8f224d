//! `reconcile adopt`: a policy that describes a registry as it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::adopt::adopt;
use crate::backend::{self, Home, file::RegistryFile};
use crate::cli::args::PlaceArgs;
use crate::cli::commands::problem::CommandProblem;
use crate::cli::exit::Exit;
use crate::cli::gateway::{self, gateway_of};
use crate::cli::paths::registry_of;
use crate::cli::postgres::home_of_table;
use crate::cli::terminal::Terminal;
use crate::error::{Error, Result};
use crate::file_name::Called;
use crate::foreign::sentence;
use crate::form::Form;
use crate::policy::{self, BackendSettings, OpenclawSettings, TokenSource};
use crate::report::adopted::{self, Named};
use crate::report::page::{Key, Toml, Value};
use crate::sources;

/// How long a gateway may take for one request that no policy names yet.
const FIRST_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Write the policy to a new file instead of stdout; never overwrites a file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &AdoptArgs) -> anyhow::Result<Exit> {
    let policy = match (of_table(place)?, named_gateway(place)?) {
        (Some(policy), _) => policy,
        (None, Some(gateway)) => of_gateway(place, &gateway)?,
        (None, None) => of_file(place)?,
    };
    sources::check_size("the policy", policy.as_bytes())?;
    let Some(file) = &args.write else {
        terminal.to_stdout(|page| page.toml(&policy))?;
        return Ok(Exit::Done);
    };
    sources::write_new(file, policy.as_bytes())?;
    terminal.note(sentence!("wrote {}", file));
    Ok(Exit::Done)
}

/// A registry that a new policy describes.
struct AdoptedFile {
    path: PathBuf,
    /// The path as the new policy writes it.
    written: String,
    form: Form,
}

/// The policy that describes the registry in a file.
fn of_file(place: &PlaceArgs) -> anyhow::Result<Toml> {
    let AdoptedFile { path, written, mut form } = match place.registry() {
        Some(path) => AdoptedFile { written: written(&path)?, form: form_in_policy(&place.policy()), path },
        None => named_by_policy(&place.policy())?,
    };
    let registry = RegistryFile::open(&path)?;
    if form.key.is_none() {
        form.key = registry.key_of_sessions()?;
    }
    let backend = backend::of_home(Home::File(registry.in_form(&form)));
    let adopted = adopt(backend.snapshot()?.as_ref())?;
    Ok(adopted::policy(&adopted, Named::File(&written, &form)))
}

/// The policy that describes the table that a policy names, where it names one.
fn of_table(place: &PlaceArgs) -> anyhow::Result<Option<Toml>> {
    let path = place.policy();
    if place.registry().is_some() || !path.exists() {
        return Ok(None);
    }
    let (known, _) = policy::read(&place.load()?.sources).map_err(Error::Invalid)?;
    let Some(table) = &known.table else { return Ok(None) };
    let adopted = adopt(backend::of_home(home_of_table(place, &known, table, None)?).snapshot()?.as_ref())?;
    Ok(Some(adopted::policy(&adopted, Named::Table(table))))
}

/// A gateway whose sessions a new policy describes.
pub(super) struct NamedGateway {
    settings: OpenclawSettings,
    /// How long it may take for one request.
    timeout: Duration,
}

/// The policy that describes the sessions of a gateway.
pub(super) fn of_gateway(place: &PlaceArgs, NamedGateway { settings, timeout }: &NamedGateway) -> anyhow::Result<Toml> {
    let gateway = gateway_of(place, settings, *timeout, &place.policy())?;
    let set = |key, text: &str| (Key::own(key), Value::text(text));
    let mut lines = vec![set("backend", "openclaw"), set("url    ", &gateway.address.to_string())];
    lines.extend(settings.token.as_ref().map(|token| {
        let source = match token {
            TokenSource::Env(name) => ("env", Value::text(name)),
            TokenSource::File(path) => ("file", Value::text(path)),
        };
        (Key::own("token  "), Value::table([source]))
    }));
    lines.extend(settings.fingerprint.map(|pin| set("fingerprint", &pin.to_string())));
    lines.extend(settings.device_key.as_ref().map(|path| set("device_key", path)));
    lines.extend(settings.state.as_ref().map(|state| set("state  ", state)));
    let adopted = adopt(backend::of_home(Home::Gateway(gateway)).snapshot()?.as_ref())?;
    Ok(adopted::policy(&adopted, Named::Server(&lines)))
}

/// The gateway that is meant, where the registry is no file: that of the policy, or, where there is no policy yet, the one
/// to which the user wants to connect.
fn named_gateway(place: &PlaceArgs) -> anyhow::Result<Option<NamedGateway>> {
    let path = place.policy();
    if place.registry().is_some() {
        return Ok(None);
    }
    if !path.exists() {
        return Ok(told_gateway(place));
    }
    let (policy, _) = policy::read(&place.load()?.sources).map_err(Error::Invalid)?;
    Ok(match policy.sessions.backend {
        BackendSettings::Openclaw(settings) => Some(NamedGateway { settings, timeout: policy.sessions.timeout }),
        BackendSettings::File(_) | BackendSettings::Dispatch(_) => None,
    })
}

/// The gateway to which the user wants to connect, and that no policy names yet.
pub(super) fn told_gateway(place: &PlaceArgs) -> Option<NamedGateway> {
    let url = place.connect(gateway::VARIABLE)?;
    Some(NamedGateway { settings: OpenclawSettings::at(url), timeout: FIRST_TIMEOUT })
}

/// The form of the registry, where a policy that is there already tells it.
fn form_in_policy(policy_path: &Path) -> Form {
    sources::load(policy_path, Called::ByPath).map(|files| policy::outline(&files.sources).form).unwrap_or_default()
}

/// The registry of the policy that is there already.
fn named_by_policy(policy_path: &Path) -> anyhow::Result<AdoptedFile> {
    if !policy_path.exists() {
        return Err(Error::from(CommandProblem::NothingToAdopt { policy: policy_path.into() }).into());
    }
    let files = sources::load(policy_path, Called::ByPath)?;
    let (policy, _) = policy::read(&files.sources).map_err(Error::Invalid)?;
    let path = registry_of(policy.registry.as_deref(), policy_path)?;
    let written = match policy.registry {
        Some(registry) if registry.starts_with("~/") => registry,
        _ => written(&path)?,
    };
    Ok(AdoptedFile { path, written, form: policy.form })
}

/// The path as a policy in the current directory names it.
pub(super) fn written(path: &Path) -> Result<String> {
    let Some(text) = path.to_str() else {
        return Err(CommandProblem::PathNotUtf8 { path: path.to_owned() }.into());
    };
    // In a policy, that would be the home directory.
    Ok(if text.starts_with("~/") { format!("./{text}") } else { text.to_owned() })
}
