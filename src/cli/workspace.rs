//! What a command works on: the policy, the registry with its state, the time, and what chats are called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Zoned;

use crate::apply::{Backend, LostState};
use crate::backend::file::RegistryFile;
use crate::backend::{self, GiveUp, Home, Listener, Place, Probe};
use crate::cli::args::PlaceArgs;
use crate::cli::gateway::gateway_of;
use crate::cli::paths::{beside_policy, registry_of};
use crate::cli::postgres::home_of_table;
use crate::cli::problem::PlaceProblem;
use crate::cli::recovered::{KnownBy, recover, unreadable};
use crate::cli::terminal::Terminal;
use crate::cli::trace::Trace;
use crate::cli::zone::{self, now_for};
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::file_name::FileName;
use crate::foreign::{Public, sentence};
use crate::form::Form;
use crate::plan::Plan;
use crate::plan::json::Origin;
use crate::policy::{self, BackendSettings, Outline, Policy};
use crate::redact::{Redaction, Shown};
use crate::registry::Snapshot;
use crate::report::shown::Naming;
use crate::sources::{PolicyFiles, git};

/// Until then git may tell the commit of the policy for the history. The run holds its lock meanwhile, and does without
/// the commit then.
const GIT_LIMIT: Duration = Duration::from_secs(5);

/// What the registry is called where names are hidden.
const REGISTRY: &str = "registry";

/// What every command starts from.
pub(crate) struct Opened {
    pub(crate) policy: Policy,
    pub(crate) files: PolicyFiles,
    /// The policy's path.
    pub(crate) path: PathBuf,
    /// The policy's name, as it may be shown.
    pub(crate) policy_name: Public,
    /// Where the registry is kept.
    pub(crate) home: Home,
    /// The time, in the policy's time zone.
    pub(crate) now: Zoned,
    pub(crate) names: Names,
    /// The warnings of the policy.
    pub(crate) warnings: Vec<Diagnostic>,
    /// What hears of the commands and requests of its backend.
    pub(crate) trace: Arc<Trace>,
    /// Ends the waits of its backend.
    pub(crate) give_up: GiveUp,
}

/// By which names chats are shown.
pub(crate) enum Names {
    /// By those that the registry has.
    Own,
    /// Pseudonyms, wherever they are shown.
    Redacted(Redaction),
    /// Pseudonyms everywhere: the registry is a redacted snapshot, on which a run can only plan. With its key.
    Snapshot(Redaction, Naming),
}

impl Names {
    /// What a chat is called where it is shown.
    pub(crate) fn of(&self, chat: &str) -> Public {
        // Without a key, names may be told, or are pseudonyms.
        Public::new(self.redaction().map_or_else(|| chat.to_owned(), |redaction| redaction.chat(chat)))
    }

    /// What decided on a chat, as it may be shown.
    pub(crate) fn rule(&self, rule: &str, chat: &str) -> Public {
        // Without a key, names may be told, or are pseudonyms.
        Public::new(self.redaction().map_or_else(|| rule.to_owned(), |redaction| redaction.rule(rule, chat)))
    }

    /// These with what their chats are called where they are shown, and sorted by that: the order of the ids would tell
    /// something of what pseudonyms stand for.
    pub(crate) fn named<'c, T>(&self, of_chats: impl IntoIterator<Item = (&'c str, T)>) -> Vec<(Public, T)> {
        let mut named: Vec<(Public, T)> = of_chats.into_iter().map(|(chat, of)| (self.of(chat), of)).collect();
        named.sort_by(|(name, _), (other, _)| name.cmp(other));
        named
    }

    /// What makes pseudonyms of the registry's names, if they are to have any.
    pub(crate) fn redaction(&self) -> Option<&Redaction> {
        match self {
            // What is typed has no pseudonym yet.
            Self::Redacted(redaction) | Self::Snapshot(redaction, Naming::Hidden) => Some(redaction),
            Self::Own | Self::Snapshot(_, Naming::Plain) => None,
        }
    }

    pub(crate) fn is_snapshot(&self) -> bool {
        matches!(self, Self::Snapshot(..))
    }

    /// A plan as it may be shown. What is known of a snapshot's chats is no more than what a redacted plan says.
    pub(crate) fn shown(&self, plan: Plan) -> Shown<Plan> {
        let plan = if self.is_snapshot() { plan.without_details() } else { plan };
        Shown::under(self.redaction(), plan)
    }
}

impl Opened {
    /// What the registry is called where it is shown: its path or its address may name a person.
    pub(crate) fn registry_name<'s>(&self, snapshot: &'s dyn Snapshot) -> &'s str {
        if self.names.redaction().is_some() { REGISTRY } else { snapshot.name() }
    }

    /// What tells the metrics of this registry from those of others on this host.
    pub(crate) fn metrics_label(&self, snapshot: &dyn Snapshot) -> String {
        self.names.redaction().map_or_else(|| snapshot.name().to_owned(), |key| key.registry(&self.home.name()))
    }

    /// What a chat is called where it is shown.
    pub(crate) fn name(&self, chat: &str) -> Public {
        self.names.of(chat)
    }

    /// These with what their chats are called where they are shown, and sorted by that.
    pub(crate) fn named<'c, T>(&self, of_chats: impl IntoIterator<Item = (&'c str, T)>) -> Vec<(Public, T)> {
        self.names.named(of_chats)
    }

    /// This, with a backend whose waits end when `give_up` says so.
    pub(crate) fn ended_by(self, give_up: GiveUp) -> Self {
        Self { give_up, ..self }
    }

    /// The backend that the policy names.
    pub(crate) fn backend(&self, probe: Probe) -> Result<Box<dyn Backend>> {
        self.backend_of(self.home.clone(), probe)
    }

    fn backend_of(&self, home: Home, probe: Probe) -> Result<Box<dyn Backend>> {
        let listener = Arc::clone(&self.trace) as Arc<dyn Listener>;
        let place = place_of(&self.policy, &self.path, &self.files, home, probe)?;
        backend::open_heard(&self.policy, place, listener, self.give_up.clone())
    }

    /// The backend as a plan sees it: without what runs remember where only another user may see that, which is said.
    pub(crate) fn backend_to_plan_on(
        &self,
        terminal: &Terminal,
        backend: Box<dyn Backend>,
        probe: Probe,
    ) -> Result<Box<dyn Backend>> {
        let Some(owner) = backend.hidden_state_of()? else { return Ok(backend) };
        terminal.warning(sentence!(
            "only user {} may read the state of earlier runs: the plan lacks the restarts that are owed, and what is \
             held or has failed",
            owner
        ));
        terminal.hint("for the whole plan, run as that user, or as root");
        self.backend_of(self.home.clone().without_state(), probe)
    }

    /// The registry, every entry of it.
    pub(crate) fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.backend(Probe::Nothing)?.snapshot()
    }

    /// The files that no report may take the place of, because they are read or hold the state.
    pub(crate) fn needed(&self) -> Vec<PathBuf> {
        self.files.sources.iter().map(|source| source.name.path().to_owned()).chain(self.home.needed()).collect()
    }
}

/// Where the policy at `path` and its registry are.
pub(crate) fn place_of(policy: &Policy, path: &Path, files: &PolicyFiles, home: Home, probe: Probe) -> Result<Place> {
    let socket = policy.sessions.socket().map(|socket| beside_policy(path, socket)).transpose()?;
    Ok(Place { home, directory: files.directory.clone(), socket, probe })
}

/// The files that no report may take the place of, where one of them is missing or cannot be read.
pub(crate) fn needed_to_open(place: &PlaceArgs) -> Vec<PathBuf> {
    let path = place.policy();
    let of_policy = || {
        let (policy, _) = policy::read(&place.load().ok()?.sources).ok()?;
        registry_of(policy.registry.as_deref(), &path).ok()
    };
    let registry = place.registry().or_else(of_policy);
    // A policy directory may well hold other files.
    registry.into_iter().chain(Some(path).filter(|path| !path.is_dir())).collect()
}

/// Opens what a command needs, and shows what there is to warn of.
pub(crate) fn open(terminal: &Terminal, place: &PlaceArgs) -> anyhow::Result<Opened> {
    let opened = open_quietly(place)?;
    terminal.trace().step(sentence!("read the policy {}", &opened.policy_name));
    terminal.diagnostics(&opened.warnings);
    Ok(opened)
}

/// Opens what a command needs. On a redacted snapshot the policy speaks in pseudonyms.
pub(crate) fn open_quietly(place: &PlaceArgs) -> anyhow::Result<Opened> {
    let opened = open_plain(place)?;
    let key = place.redaction_key()?;
    if let Some(fingerprint) = opened.home.redacted_with()? {
        let (policy, key) = for_snapshot(key, &opened.home, &fingerprint, opened.policy)?;
        let key = key.telling(policy.tier_names());
        return Ok(Opened { policy, names: Names::Snapshot(key, place.naming()), ..opened });
    }
    if key.is_some() && !place.redact {
        return Err(Error::from(PlaceProblem::NotRedacted { registry: opened.home.name().into() }).into());
    }
    let names = names(place, key, &opened.home, || opened.policy.tier_names())?;
    Ok(Opened { names, ..opened })
}

/// What the chats of a registry are called that is no snapshot. `tiers` tells those that the policy declares.
fn names(
    place: &PlaceArgs,
    key: Option<Redaction>,
    home: &Home,
    tiers: impl FnOnce() -> BTreeSet<String>,
) -> Result<Names> {
    if place.naming() == Naming::Plain {
        return Ok(Names::Own);
    }
    let key = key.map_or_else(|| backend::of_home(home.clone()).redaction_key(), Ok)?;
    Ok(Names::Redacted(key.telling(tiers())))
}

/// What a command starts from that is about past runs alone.
pub(crate) struct Past {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) now: Zoned,
    pub(crate) names: Names,
}

/// Opens what a command about past runs starts from. The policy only says where the registry is, if the command line does
/// not, and may have mistakes: what is owed and what was done can be looked at all the same.
pub(crate) fn open_past(terminal: &Terminal, place: &PlaceArgs) -> anyhow::Result<Past> {
    let home = home_of_past(terminal, place)?;
    let policy = || policy::read(&place.load().ok()?.sources).ok();
    let tiers = || policy().map(|(policy, _)| policy.tier_names()).unwrap_or_default();
    let names = names(place, place.redaction_key()?, &home, tiers)?;
    Ok(Past { backend: backend::of_home(home), now: Zoned::now(), names })
}

/// Where the registry is, also where the policy has mistakes.
pub(crate) fn home_of_past(terminal: &Terminal, place: &PlaceArgs) -> Result<Home> {
    let path = place.policy();
    let policy = place.load().ok().and_then(|files| policy::read(&files.sources).ok());
    match policy {
        Some((policy, _)) if !policy.sessions.backend.has_file() || policy.table.is_some() => {
            home_of(place, &policy, &path)
        }
        _ => {
            let (registry, form) = registry_of_past(terminal, place)?;
            Ok(Home::File(registry_file(place, &registry, &form)?))
        }
    }
}

/// The path of the registry. The policy may have mistakes.
pub(crate) fn registry_path(place: &PlaceArgs) -> Result<PathBuf> {
    let of_policy = || {
        let path = place.policy();
        registry_of(policy::outline(&place.load()?.sources).registry.as_deref(), &path)
    };
    place.registry().map_or_else(of_policy, Ok)
}

/// The registry that the command line names, or the policy, also where that has mistakes; and its form.
fn registry_of_past(terminal: &Terminal, place: &PlaceArgs) -> Result<(PathBuf, Form)> {
    let path = &place.policy();
    let files = place.load();
    if let Some(registry) = place.registry() {
        // What runs remember can be looked at without a policy.
        return Ok((registry, files.map(|files| policy::outline(&files.sources).form).unwrap_or_default()));
    }
    let (recovered, why) = match files {
        Err(error) => (recover(path, Outline::default())?, error),
        Ok(files) => match policy::read(&files.sources) {
            Ok((policy, _)) => {
                return Ok((registry_of(policy.registry.as_deref(), path)?, policy.form));
            }
            Err(mistakes) => {
                let why = PlaceProblem::PolicyUnreadable { message: unreadable(path, &mistakes) }.into();
                (recover(path, policy::outline(&files.sources))?, why)
            }
        },
    };
    let Some((registry, known_by)) = recovered.registry else { return Err(why) };
    match known_by {
        KnownBy::Said => {}
        KnownBy::Remembered => terminal.warning(sentence!(
            "{}; using the registry {}, which the policy named when it could last be read",
            why.sentence(),
            &registry
        )),
        KnownBy::Guessed => {
            terminal.warning(sentence!(
                "{}; using the registry {}, which a line of the policy names",
                why.sentence(),
                &registry
            ));
        }
    }
    Ok((registry, recovered.form))
}

/// Says so where the memory of runs is gone: what they left owed is never noticed again.
pub(crate) fn warn_of_lost_state(terminal: &Terminal, backend: &dyn Backend) -> Result<()> {
    if let Some(LostState { message, hint }) = backend.lost_state()? {
        terminal.warning(message);
        terminal.hint(hint);
    }
    Ok(())
}

/// A policy for a redacted snapshot, which was made with the key of this fingerprint, and that key.
pub(crate) fn for_snapshot(
    key: Option<Redaction>,
    home: &Home,
    fingerprint: &str,
    policy: Policy,
) -> anyhow::Result<(Policy, Redaction)> {
    let registry = home.name().into();
    let Some(key) = key else { return Err(Error::from(PlaceProblem::RedactedWithoutKey { registry }).into()) };
    if key.fingerprint() != fingerprint {
        return Err(Error::from(PlaceProblem::OtherKey { registry }).into());
    }
    Ok((under_pseudonyms(&key, policy)?, key))
}

/// A policy as it is where chats have pseudonyms.
pub(crate) fn under_pseudonyms(key: &Redaction, policy: Policy) -> anyhow::Result<Policy> {
    let redacted = policy.redacted(key).map_err(|because| {
        let (rule, file) = (because.rule.into(), because.at.file.shown().clone());
        Error::from(PlaceProblem::RuleOnNames { rule, file, line: because.at.line })
    });
    Ok(redacted?)
}

pub(crate) fn open_plain(place: &PlaceArgs) -> anyhow::Result<Opened> {
    let path = place.policy();
    let files = place.load()?;
    let (policy, mut warnings) = policy::read(&files.sources).map_err(Error::Invalid)?;
    let now = now_for(&policy);
    warnings.extend(zone::warning(&policy, &files.sources, &now));
    let policy_name = FileName::of_whole(&path, place.called()).shown().clone();
    let trace = Arc::new(place.trace());
    let home = home_of(place, &policy, &path)?;
    Ok(Opened {
        policy,
        files,
        path,
        policy_name,
        home,
        now,
        names: Names::Own,
        warnings,
        trace,
        give_up: GiveUp::default(),
    })
}

/// Where the registry is of the policy at `path`: as the command line says, else as the policy does.
pub(crate) fn home_of(place: &PlaceArgs, policy: &Policy, path: &Path) -> Result<Home> {
    let sessions = &policy.sessions;
    let registry = match (place.registry(), &sessions.backend, &policy.table) {
        (Some(registry), ..) => registry,
        (None, _, Some(table)) => return home_of_table(place, policy, table, None),
        (None, BackendSettings::Openclaw(settings), None) => {
            return Ok(Home::Gateway(gateway_of(place, settings, sessions.timeout, path)?));
        }
        (None, BackendSettings::File(_) | BackendSettings::Dispatch(_), None) => {
            registry_of(policy.registry.as_deref(), path)?
        }
    };
    Ok(Home::File(registry_file(place, &registry, &policy.form)?))
}

/// The registry in a file of this form.
pub(crate) fn registry_file(place: &PlaceArgs, path: &Path, form: &Form) -> Result<RegistryFile> {
    let registry = RegistryFile::open(path)?.in_form(form);
    Ok(match place.naming() {
        Naming::Plain => registry,
        Naming::Hidden => registry.called(REGISTRY),
    })
}

/// Who runs this command, and by which commit of the policy, for the history.
pub(crate) fn author(place: &PlaceArgs, command: &str) -> Origin {
    let commit = git::head(&place.policy(), GIT_LIMIT);
    Origin {
        policy_modified: commit.as_ref().map(|commit| commit.modified),
        policy_at: commit.as_ref().and_then(|commit| commit.at),
        policy_commit: commit.map(|commit| commit.id),
        ..user(command)
    }
}

/// Who runs this command, for the history of what does not wait for git.
pub(crate) fn user(command: &str) -> Origin {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    Origin {
        command: Some(command.to_owned()),
        user: name("SUDO_USER").or_else(|| name("LOGNAME")).or_else(|| name("USER")),
        uid: Some(rustix::process::geteuid().as_raw()),
        host: Some(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ..Origin::default()
    }
}
