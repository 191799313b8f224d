//! What a launch knows of its policy. A mistake in a policy must not keep a session from starting.

use std::path::{Path, PathBuf};

use crate::backend::file::RegistryFile;
use crate::cli::args::PlaceArgs;
use crate::cli::commands::problem::CommandProblem;
use crate::cli::paths::beside_policy;
use crate::cli::recovered::{KnownBy, Recovered, recover};
use crate::cli::terminal::Terminal;
use crate::cli::zone::{self, now_for};
use crate::error::Result;
use crate::foreign::sentence;
use crate::policy::{self, Outline, Policy, Source};
use crate::registry::{Key, Snapshot};
use crate::sources::Last;

/// A policy, as far as it could be read.
pub(super) struct Known {
    /// The policy; `None` where it has mistakes.
    pub(super) policy: Option<Policy>,
    /// The files that were read, also those with mistakes.
    pub(super) sources: Vec<Source>,
    /// The registry, and what else could be found out of a policy with mistakes.
    pub(super) rest: Recovered,
}

impl Known {
    /// Reads the policy, and shows its mistakes.
    pub(super) fn read(terminal: &Terminal, place: &PlaceArgs) -> Result<Self> {
        let path = place.policy();
        let unusable = || terminal.warning("the policy cannot be used: the session starts on the registry's model");
        let files = match place.load() {
            Ok(files) => files,
            Err(error) => {
                terminal.failure(&error);
                unusable();
                return Ok(Self { policy: None, sources: Vec::new(), rest: recover(&path, Outline::default())? });
            }
        };
        match policy::read(&files.sources) {
            Ok((policy, warnings)) => {
                terminal.diagnostics(&warnings);
                terminal.diagnostics(zone::warning(&policy, &files.sources, &now_for(&policy)).as_slice());
                let registry = policy.registry.as_deref().map(|named| beside_policy(&path, named)).transpose()?;
                let rest = Recovered {
                    registry: registry.map(|registry| (registry, KnownBy::Said)),
                    form: policy.form.clone(),
                    conversation: policy.sessions.conversation().map(|path| path.as_str().to_owned()),
                    backend: Some(policy.sessions.backend.name().to_owned()),
                };
                Ok(Self { policy: Some(policy), sources: files.sources, rest })
            }
            Err(mistakes) => {
                terminal.diagnostics(&mistakes);
                unusable();
                let rest = recover(&path, policy::outline(&files.sources))?;
                Ok(Self { policy: None, sources: files.sources, rest })
            }
        }
    }

    /// The registry of this chat's session, with the registry's name. A registry that does not exist is created only where the policy has
    /// no mistakes.
    pub(super) fn registry(
        &self,
        terminal: &Terminal,
        place: &PlaceArgs,
        chat: &str,
    ) -> Result<(PathBuf, RegistryFile)> {
        let named = place.registry().map(|registry| (registry, KnownBy::Said));
        let Some((path, known_by)) = named.or_else(|| self.rest.registry.clone()) else {
            return Err(CommandProblem::LaunchWithoutRegistry.into());
        };
        let file = match self.policy {
            Some(_) => RegistryFile::open_or_new(&path)?,
            None => RegistryFile::open(&path)?,
        }
        .in_form(&self.rest.form);
        match known_by {
            KnownBy::Said => {}
            KnownBy::Remembered => {
                terminal
                    .note(sentence!("using the registry {}, which the policy named when it could last be read", &path));
            }
            KnownBy::Guessed if !holds(&file.snapshot()?, chat)? => {
                return Err(CommandProblem::GuessedRegistry { registry: path, chat: chat.into() }.into());
            }
            KnownBy::Guessed => {
                terminal.note(sentence!("using the registry {}, which a line of the policy names", &path));
            }
        }
        Ok((path, file))
    }

    /// Saves what the policy at `path` says, for a launch that cannot read it. `used` is the registry where the policy names none.
    pub(super) fn remember(&self, path: &Path, used: &Path) {
        let registry = self.rest.registry.as_ref().map_or(used, |(registry, _)| registry);
        if let (Some(_), Ok(registry)) = (&self.policy, std::path::absolute(registry)) {
            Last::new(registry, self.rest.form.clone(), self.rest.conversation.clone()).remember(path);
        }
    }
}

/// Whether a registry has an entry of this chat, or of a session with this name.
fn holds(registry: &dyn Snapshot, chat: &str) -> Result<bool> {
    let mut holds = false;
    registry.find(&[Key::Id, Key::SessionName], &[chat].into(), &mut |_| holds = true)?;
    Ok(holds)
}
