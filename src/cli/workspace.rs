//! What a command works on: the policy, the registry with its state, the time, and what chats are called.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Zoned;

use crate::apply::Backend;
use crate::backend::file::RegistryFile;
use crate::backend::{self, Place, Probe};
use crate::cli::args::PlaceArgs;
use crate::cli::paths::{beside_policy, registry_of};
use crate::cli::recovered::{KnownBy, recover, unreadable};
use crate::cli::terminal::Terminal;
use crate::cli::zone::{self, now_for};
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::json::Origin;
use crate::policy::{self, Outline, Policy};
use crate::redact::Redaction;
use crate::registry::Snapshot;
use crate::report::escape::leading;
use crate::sources::{self, PolicyFiles, git};

/// Until then git may tell the commit of the policy for the history. The run holds its lock meanwhile, and does without
/// the commit then.
const GIT_LIMIT: Duration = Duration::from_secs(5);

/// What every command starts from.
pub(crate) struct Opened {
    pub(crate) policy: Policy,
    pub(crate) files: PolicyFiles,
    /// The policy's path.
    pub(crate) path: PathBuf,
    /// The policy's name, as the user would write it.
    pub(crate) policy_name: String,
    pub(crate) registry: RegistryFile,
    /// The time, in the policy's time zone.
    pub(crate) now: Zoned,
    pub(crate) names: Names,
    /// What there is to warn of.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// What chats are called.
pub(crate) enum Names {
    /// What the registry calls them.
    Own,
    /// Pseudonyms, wherever they are shown.
    Redacted(Redaction),
    /// Pseudonyms everywhere: the registry is a redacted snapshot, on which a run can only plan. With its key.
    Snapshot(Redaction),
}

impl Names {
    /// What a chat is called where it is shown.
    pub(crate) fn of(&self, chat: &str) -> String {
        self.redaction().map_or_else(|| chat.to_owned(), |redaction| redaction.chat(chat))
    }

    /// What makes pseudonyms of the registry's names, if they are to have any.
    pub(crate) fn redaction(&self) -> Option<&Redaction> {
        match self {
            Self::Redacted(redaction) => Some(redaction),
            Self::Own | Self::Snapshot(_) => None,
        }
    }

    pub(crate) fn is_snapshot(&self) -> bool {
        matches!(self, Self::Snapshot(_))
    }

    /// A plan as it may be shown. What is known of a snapshot's chats is no more than what a redacted plan says.
    pub(crate) fn shown(&self, plan: Plan) -> Plan {
        match self {
            Self::Own => plan,
            Self::Redacted(redaction) => plan.redacted(redaction),
            Self::Snapshot(_) => plan.without_details(),
        }
    }
}

impl Opened {
    /// What a chat is called where it is shown.
    pub(crate) fn name(&self, chat: &str) -> String {
        self.names.of(chat)
    }

    /// The backend that the policy names.
    pub(crate) fn backend(&self, probe: Probe) -> Result<Box<dyn Backend>> {
        let socket = self.policy.sessions.socket().map(|socket| beside_policy(&self.path, socket)).transpose()?;
        let (registry, directory) = (self.registry.clone(), self.files.directory.clone());
        backend::open(&self.policy, Place { registry, directory, socket, probe })
    }

    /// The registry, every entry of it.
    pub(crate) fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.backend(Probe::Nothing)?.snapshot()
    }

    /// The files that no report may take the place of, because they are read or hold the state.
    pub(crate) fn needed(&self) -> Vec<PathBuf> {
        let policies = self.files.sources.iter().map(|source| PathBuf::from(source.name.as_ref()));
        policies.chain([self.registry.file().to_owned(), self.registry.state()]).collect()
    }
}

/// The files that no report may take the place of, where one of them is missing or cannot be read.
pub(crate) fn needed_to_open(place: &PlaceArgs) -> Vec<PathBuf> {
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
pub(crate) fn open(terminal: &Terminal, place: &PlaceArgs) -> anyhow::Result<Opened> {
    let opened = open_quietly(place)?;
    terminal.diagnostics(&opened.warnings);
    Ok(opened)
}

/// Opens what a command needs. On a redacted snapshot the policy speaks in pseudonyms.
pub(crate) fn open_quietly(place: &PlaceArgs) -> anyhow::Result<Opened> {
    let opened = open_plain(place)?;
    let key = place.redaction_key()?;
    if let Some(fingerprint) = opened.registry.redacted_with()? {
        let (policy, key) = for_snapshot(key, &opened.registry, &fingerprint, opened.policy)?;
        return Ok(Opened { policy, names: Names::Snapshot(key), ..opened });
    }
    if key.is_some() && !place.redact {
        let registry = opened.registry.file().display();
        return Err(Error::other(format!(
            "{registry} is no redacted snapshot, so its chats would be shown as they are"
        ))
        .with_hint("say --redact, too, or leave out --redact-key")
        .into());
    }
    let names = names(place, key, &opened.registry)?;
    Ok(Opened { names, ..opened })
}

/// What the chats of a registry are called that is no snapshot.
pub(crate) fn names(place: &PlaceArgs, key: Option<Redaction>, registry: &RegistryFile) -> Result<Names> {
    Ok(match (place.redact, key) {
        (false, _) => Names::Own,
        (true, Some(key)) => Names::Redacted(key),
        (true, None) => Names::Redacted(registry.redaction_key()?),
    })
}

/// What a command starts from that is about past runs alone.
pub(crate) struct Past {
    pub(crate) registry: RegistryFile,
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) now: Zoned,
    pub(crate) names: Names,
}

/// Opens it. The policy only says where the registry is, if the command line does not, and may have mistakes: what is
/// owed and what was done can be looked at all the same.
pub(crate) fn open_past(terminal: &Terminal, place: &PlaceArgs) -> anyhow::Result<Past> {
    let registry = place.registry().map_or_else(|| registry_of_past(terminal, &place.policy()), Ok)?;
    let registry = RegistryFile::open(&registry)?;
    let names = names(place, place.redaction_key()?, &registry)?;
    Ok(Past { backend: backend::of_registry(registry.clone()), registry, now: Zoned::now(), names })
}

/// The registry of the policy at `path`, also where that has mistakes.
pub(crate) fn registry_of_past(terminal: &Terminal, path: &Path) -> Result<PathBuf> {
    let (recovered, why) = match sources::load(path) {
        Err(error) => (recover(path, Outline::default())?, error),
        Ok(files) => match policy::read(&files.sources) {
            Ok((policy, _)) => return registry_of(policy.registry.as_deref(), path),
            Err(mistakes) => {
                let hint = "fix it (reconcile check shows all mistakes), or pass --registry";
                let why = Error::other(unreadable(path, &mistakes)).with_hint(hint);
                (recover(path, policy::outline(&files.sources))?, why)
            }
        },
    };
    let Some((registry, known_by)) = recovered.registry else { return Err(why) };
    let name = registry.display();
    match known_by {
        KnownBy::Said => {}
        KnownBy::Remembered => {
            terminal.warning(&format!("{why}; the registry is {name}, as it said when it could last be read"));
        }
        KnownBy::Guessed => terminal.warning(&format!("{why}; the registry is {name}: one of its lines names it")),
    }
    Ok(registry)
}

/// Says so where the memory of runs is gone: what they left owed is never noticed again.
pub(crate) fn warn_of_lost_state(terminal: &Terminal, registry: &RegistryFile) -> Result<()> {
    if registry.has_lost_state()? {
        terminal
            .warning("the state of earlier runs is gone, and with it what is still owed: it stood beside the registry");
        terminal.hint(
            "put it back, or restart by hand what may run another model; to forget what is owed on purpose, use reconcile owed --forget-all",
        );
    }
    Ok(())
}

/// A policy for a redacted snapshot, which was made with the key of this fingerprint, and that key.
pub(crate) fn for_snapshot(
    key: Option<Redaction>,
    registry: &RegistryFile,
    fingerprint: &str,
    policy: Policy,
) -> anyhow::Result<(Policy, Redaction)> {
    let registry = registry.file().display();
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
pub(crate) fn under_pseudonyms(key: &Redaction, policy: Policy) -> anyhow::Result<Policy> {
    let redacted = policy.redacted(key).map_err(|because| {
        let rule = format!("{} ({}:{})", because.rule, because.at.file, because.at.line);
        Error::other(format!("{rule} asks for chat ids, and under pseudonyms there are none"))
            .with_hint("write the rule by source, tier or type, or name the chats in [chats]")
    });
    Ok(redacted?)
}

pub(crate) fn open_plain(place: &PlaceArgs) -> anyhow::Result<Opened> {
    let path = place.policy();
    let files = sources::load(&path)?;
    let (policy, mut warnings) = policy::read(&files.sources).map_err(Error::Invalid)?;
    let now = now_for(&policy);
    warnings.extend(zone::warning(&policy, &files.sources, &now));
    let policy_name = leading(&path.display().to_string()).into_owned();
    let registry = place.registry().map_or_else(|| registry_of(policy.registry.as_deref(), &path), Ok)?;
    let registry = RegistryFile::open(&registry)?;
    Ok(Opened { policy, files, path, policy_name, registry, now, names: Names::Own, warnings })
}

/// Who runs this, for the history.
pub(crate) fn author(place: &PlaceArgs) -> Origin {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let user = name("SUDO_USER").or_else(|| name("LOGNAME")).or_else(|| name("USER"));
    let commit = git::head(&place.policy(), GIT_LIMIT);
    Origin {
        user,
        uid: Some(rustix::process::geteuid().as_raw()),
        host: Some(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        policy_modified: commit.as_ref().map(|commit| commit.modified),
        policy_commit: commit.map(|commit| commit.id),
    }
}
