//! The edge: arguments, environment, clock and signals go in, text and an exit code come out.

#![allow(clippy::disallowed_methods, reason = "the edge reads the environment and the clock for everybody else")]

mod adopt;
mod args;
mod check;
mod diff;
mod exit;
mod explain;
mod history;
mod launch;
mod manual;
mod metrics;
mod output;
mod overrides;
mod owed;
mod progress;
mod reconcile;
mod set_model;
mod show;
mod signals;
mod snapshot;
mod undo;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use jiff::Zoned;

use crate::cli::args::{Cli, Command, PlaceArgs};
use crate::cli::exit::Exit;
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::policy::{self, Policy};
use crate::redact::Redaction;
use crate::report::escape::{escape, leading};
use crate::store::sources::{self, PolicyFiles};
use crate::store::{Author, Store};

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = harmless(error);
            let printed = error.print();
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed pipe ends the printing.
            let failed = printed.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
            return match (asked_for, failed) {
                (true, false) => Exit::Done,
                (true, true) => Exit::Error,
                (false, _) => Exit::Usage,
            }
            .into();
        }
    };
    output::hide_names(cli.place.redact);
    signals::survive_file_size_limit();
    if let Err((why, hint)) = cli.check() {
        output::error(why, Some(hint));
        return Exit::Usage.into();
    }
    let result = match cli.command {
        None => reconcile::run(&cli.place, &cli.run),
        Some(Command::Check(args)) => check::run(&cli.place, &args),
        Some(Command::Explain(args)) => explain::run(&cli.place, &args),
        Some(Command::Launch(args)) => launch::run(&cli.place, &args),
        Some(Command::Snapshot) => snapshot::run(&cli.place),
        Some(Command::SetModel(args)) => set_model::set(&cli.place, &args),
        Some(Command::UnsetModel(args)) => set_model::unset(&cli.place, &args),
        Some(Command::Adopt) => adopt::run(&cli.place),
        Some(Command::Completions(args)) => manual::completions(&args).map_err(Into::into),
        Some(Command::Man) => manual::man().map_err(Into::into),
        Some(Command::Diff(args)) => diff::run(&cli.place, &args),
        Some(Command::History(args)) => history::run(&cli.place, &args),
        Some(Command::Undo(args)) => undo::run(&cli.place, &args),
        Some(Command::Owed(args)) => owed::run(&cli.place, &args),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::release();
            output::failure(&error);
            Exit::of_error(&error).into()
        }
    }
}

/// The same, with what the user typed made safe to show. Where it is to be redacted, it may name somebody.
fn harmless(mut error: clap::Error) -> clap::Error {
    let redact = std::env::args_os().any(|argument| argument == "--redact");
    let told: Vec<(ContextKind, ContextValue)> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in told {
        let typed = match kind {
            ContextKind::InvalidValue | ContextKind::InvalidSubcommand => true,
            ContextKind::InvalidArg => error.kind() == ErrorKind::UnknownArgument,
            _ => false,
        };
        if let ContextValue::String(text) = value {
            let text = if typed && redact { "…".into() } else { escape(&text) };
            error.insert(kind, ContextValue::String(text.into_owned()));
        }
    }
    error
}

/// What every command starts from.
struct Opened {
    policy: Policy,
    files: PolicyFiles,
    /// The policy's name, as the user would write it.
    policy_name: String,
    store: Store,
    now: Zoned,
    names: Names,
    /// What there is to warn of.
    warnings: Vec<Diagnostic>,
}

/// What chats are called.
enum Names {
    /// What the registry calls them.
    Own,
    /// Pseudonyms, wherever they are shown.
    Redacted(Redaction),
    /// Pseudonyms everywhere: the registry is a redacted snapshot, on which a run can only plan. With its key.
    Snapshot(Redaction),
}

impl Names {
    /// What a chat is called where it is shown.
    fn of(&self, chat: &str) -> String {
        self.redaction().map_or_else(|| chat.to_owned(), |redaction| redaction.chat(chat))
    }

    /// What makes pseudonyms of the registry's names, if they are to have any.
    fn redaction(&self) -> Option<&Redaction> {
        match self {
            Self::Redacted(redaction) => Some(redaction),
            Self::Own | Self::Snapshot(_) => None,
        }
    }

    fn is_snapshot(&self) -> bool {
        matches!(self, Self::Snapshot(_))
    }

    /// A plan as it may be shown. What is known of a snapshot's chats is no more than what a redacted plan says.
    fn shown(&self, plan: Plan) -> Plan {
        match self {
            Self::Own => plan,
            Self::Redacted(redaction) => plan.redacted(redaction),
            Self::Snapshot(_) => plan.without_details(),
        }
    }
}

impl Opened {
    /// What a chat is called where it is shown.
    fn name(&self, chat: &str) -> String {
        self.names.of(chat)
    }

    /// The files that no report may take the place of, because they are read or hold the state.
    fn needed(&self) -> Vec<PathBuf> {
        let policies = self.files.sources.iter().map(|source| PathBuf::from(source.name.as_ref()));
        policies.chain([self.store.file().to_owned(), self.store.state()]).collect()
    }
}

/// The files that no report may take the place of, where one of them is missing or cannot be read.
fn needed_to_open(place: &PlaceArgs) -> Vec<PathBuf> {
    let path = place.policy();
    let of_policy = || {
        let (policy, _) = policy::read(&sources::load(&path).ok()?.sources).ok()?;
        registry_of(policy.registry.as_deref(), &path).ok()
    };
    let registry = place.registry().or_else(of_policy);
    // A policy directory may well hold other files.
    registry.into_iter().chain(Some(path).filter(|path| !path.is_dir())).collect()
}

/// Opens what a command needs, and shows what there is to warn of.
fn open(place: &PlaceArgs) -> anyhow::Result<Opened> {
    let opened = open_quietly(place)?;
    output::diagnostics(&opened.warnings);
    Ok(opened)
}

/// Opens what a command needs. On a redacted snapshot the policy speaks in pseudonyms.
fn open_quietly(place: &PlaceArgs) -> anyhow::Result<Opened> {
    let opened = open_plain(place)?;
    let key = place.redaction_key()?;
    if let Some(fingerprint) = opened.store.redacted_with()? {
        let (policy, key) = for_snapshot(key, &opened.store, &fingerprint, opened.policy)?;
        return Ok(Opened { policy, names: Names::Snapshot(key), ..opened });
    }
    if key.is_some() && !place.redact {
        let registry = opened.store.file().display();
        return Err(Error::other(format!(
            "{registry} is no redacted snapshot, so its chats would be shown as they are"
        ))
        .with_hint("say --redact, too, or leave out --redact-key")
        .into());
    }
    let names = names(place, key, &opened.store)?;
    Ok(Opened { names, ..opened })
}

/// What the chats of a registry are called that is no snapshot.
fn names(place: &PlaceArgs, key: Option<Redaction>, store: &Store) -> Result<Names> {
    Ok(match (place.redact, key) {
        (false, _) => Names::Own,
        (true, Some(key)) => Names::Redacted(key),
        (true, None) => Names::Redacted(store.redaction_key()?),
    })
}

/// What a command starts from that is about past runs alone.
struct Past {
    store: Store,
    now: Zoned,
    names: Names,
}

/// Opens it. The policy is only asked where the registry is, if nobody says so, and may have mistakes: what is owed and
/// what was done can be looked at all the same.
fn open_past(place: &PlaceArgs) -> anyhow::Result<Past> {
    let of_policy = || {
        let path = place.policy();
        registry_of(policy::outline(&sources::load(&path)?.sources).registry.as_deref(), &path)
    };
    let registry = place.registry().map_or_else(of_policy, Ok)?;
    let store = Store::open(&registry, &registry.display().to_string())?;
    let names = names(place, place.redaction_key()?, &store)?;
    Ok(Past { store, now: Zoned::now(), names })
}

/// A policy for a redacted snapshot, which was made with the key of this fingerprint, and that key.
fn for_snapshot(
    key: Option<Redaction>,
    store: &Store,
    fingerprint: &str,
    policy: Policy,
) -> anyhow::Result<(Policy, Redaction)> {
    let registry = store.file().display();
    let Some(key) = key else {
        return Err(Error::other(format!("{registry} is a redacted snapshot"))
            .with_hint("give the key that it was made with: --redact-key FILE")
            .into());
    };
    if key.fingerprint() != fingerprint {
        return Err(Error::other(format!("{registry} was redacted with another key"))
            .with_hint("the key is redact.key in the state directory of the registry that it was made from")
            .into());
    }
    Ok((under_pseudonyms(&key, policy)?, key))
}

/// A policy as it is where chats have pseudonyms.
fn under_pseudonyms(key: &Redaction, policy: Policy) -> anyhow::Result<Policy> {
    let redacted = policy.redacted(key).map_err(|because| {
        let rule = format!("{} ({}:{})", because.rule, because.at.file, because.at.line);
        Error::other(format!("{rule} asks for chat ids, and under pseudonyms there are none"))
            .with_hint("write the rule by source, tier or type, or name the chats in [chats]")
    });
    Ok(redacted?)
}

fn open_plain(place: &PlaceArgs) -> anyhow::Result<Opened> {
    let path = place.policy();
    let files = sources::load(&path)?;
    let (policy, warnings) = policy::read(&files.sources).map_err(Error::Invalid)?;
    let policy_name = leading(&path.display().to_string()).into_owned();
    let registry = place.registry().map_or_else(|| registry_of(policy.registry.as_deref(), &path), Ok)?;
    let store = Store::open(&registry, &registry.display().to_string())?;
    Ok(Opened { policy, files, policy_name, store, now: Zoned::now(), names: Names::Own, warnings })
}

/// The registry that the policy at `path` names.
fn registry_of(named: Option<&str>, path: &Path) -> anyhow::Result<PathBuf> {
    let Some(registry) = named else {
        return Err(Error::other(format!("{} names no registry", leading(&path.display().to_string())))
            .with_hint("add registry.path to it, or give --registry PATH")
            .into());
    };
    beside_policy(path, registry)
}

/// Who runs this, for the history.
fn author(place: &PlaceArgs) -> Author {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let user = name("SUDO_USER").or_else(|| name("LOGNAME")).or_else(|| name("USER"));
    Author { user, policy: place.policy() }
}

/// A path that stands in a policy: `~` is the home directory, and others are relative to the policy's.
fn beside_policy(policy: &Path, path: &str) -> anyhow::Result<PathBuf> {
    if let Some(rest) = path.strip_prefix("~/") {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        return Ok(PathBuf::from(home.context("HOME is not set, and the policy's path begins with ~")?).join(rest));
    }
    let directory = if policy.is_dir() { policy } else { policy.parent().unwrap_or(Path::new("")) };
    Ok(directory.join(path))
}
