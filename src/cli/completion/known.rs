//! What is known where the words of a command line lead: in the files of the policy, the registry and its state. Nothing is
//! connected to, written, or said, and what cannot be read is not known.

use std::collections::BTreeSet;

use clap_complete::CompletionCandidate;
use jiff::Zoned;

use crate::backend::{self, Home, file::RegistryFile};
use crate::chat::{Chat, Model};
use crate::cli::args::PlaceArgs;
use crate::cli::commands::undo::LAST;
use crate::cli::completion::names::{CalledBy, MOST, Names, is_offered};
use crate::cli::workspace::home_of;
use crate::plan::json::JsonRun;
use crate::policy::{self, Policy};
use crate::registry::Snapshot;
use crate::report::time;

/// Whether chats may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privacy {
    Plain,
    Redacted,
}

pub(super) struct Known {
    place: PlaceArgs,
    privacy: Privacy,
}

impl Known {
    pub(super) fn new(place: PlaceArgs, privacy: Privacy) -> Self {
        Self { place, privacy }
    }

    /// The chats of the registry, and those that the policy names.
    pub(super) fn chats(&self, typed: &str, called_by: CalledBy) -> Vec<CompletionCandidate> {
        if self.privacy == Privacy::Redacted {
            return Vec::new();
        }
        let mut names = Names::new(typed, called_by);
        let policy = self.policy();
        let registry = self.registry(policy.as_ref());
        each(registry.as_ref(), &mut |chat| names.add(&chat));
        // A redacted snapshot knows the policy's chats by other names.
        let is_redacted = registry.is_some_and(|registry| !matches!(registry.redacted_with(), Ok(None)));
        let overrides = policy.iter().filter(|_| !is_redacted).flat_map(|policy| policy.chats.keys());
        overrides.for_each(|id| names.add(&Chat { id: id.into(), ..Chat::default() }));
        names.into_candidates()
    }

    /// The tiers of the policy and the registry.
    pub(super) fn tiers(&self, typed: &str) -> Vec<CompletionCandidate> {
        let policy = self.policy();
        let mut tiers = BTreeSet::new();
        let mut add = |tier: &str| {
            if is_offered(tier, typed) && !tiers.contains(tier) && tiers.len() < MOST {
                tiers.insert(tier.to_owned());
            }
        };
        if let Some(policy) = &policy {
            policy.tiers.keys().for_each(|tier| add(tier));
            policy.assignments.iter().for_each(|assignment| add(&assignment.tier));
        }
        each(self.registry(policy.as_ref()).as_ref(), &mut |chat| chat.tier.iter().for_each(|tier| add(tier)));
        tiers.into_iter().map(CompletionCandidate::new).collect()
    }

    /// The models that the policy allows.
    pub(super) fn models(&self, typed: &str) -> Vec<CompletionCandidate> {
        let allowed = self.policy().map(|policy| policy.allowed).unwrap_or_default();
        let names = allowed.iter().map(Model::as_str).filter(|name| is_offered(name, typed));
        names.map(CompletionCandidate::new).collect()
    }

    /// The runs that changed something, the newest first.
    pub(super) fn runs(&self, typed: &str) -> Vec<CompletionCandidate> {
        let last = CompletionCandidate::new(LAST).help(Some("the newest that changed something".into()));
        let last = Some(last).filter(|_| is_offered(LAST, typed));
        let now = &Zoned::now();
        let backend = self.registry(self.policy().as_ref()).map(|registry| backend::of_home(Home::File(registry)));
        let history = backend.as_ref().and_then(|backend| backend.history().ok());
        let runs = history.into_iter().flatten().map_while(Result::ok);
        let runs = runs.filter(|run| run.part == 1 && run.is_change() && is_offered(&run.run, typed)).take(MOST);
        last.into_iter().chain(runs.map(|run| of_run(&run, now))).collect()
    }

    fn policy(&self) -> Option<Policy> {
        let files = self.place.load().ok()?;
        policy::read(&files.sources).ok().map(|(policy, _)| policy)
    }

    /// The registry, where it is a file.
    fn registry(&self, policy: Option<&Policy>) -> Option<RegistryFile> {
        let home = match policy {
            Some(policy) => home_of(&self.place, policy, &self.place.policy()),
            None => RegistryFile::open(&self.place.registry()?).map(Home::File),
        };
        match home {
            Ok(Home::File(registry)) => Some(registry),
            _ => None,
        }
    }
}

/// Hands over the chats of a registry, those before a mistake where it has one.
fn each(registry: Option<&RegistryFile>, take: &mut dyn FnMut(Chat)) {
    if let Some(snapshot) = registry.and_then(|registry| registry.snapshot().ok()) {
        _ = snapshot.each(&mut |entry| take(entry.chat));
    }
}

fn of_run(run: &JsonRun, now: &Zoned) -> CompletionCandidate {
    let command = run.by.command.as_deref().unwrap_or("run");
    let about = format!("{} {command}", time(run.at, now));
    CompletionCandidate::new(&*run.run).help(Some(about.into()))
}
