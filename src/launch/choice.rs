//! The model on which a session is started.

use jiff::Zoned;

use crate::chat::{Chat, Model};
use crate::error::Result;
use crate::plan::capabilities::{Capabilities, TakesEffect};
use crate::plan::ledger::Ledger;
use crate::plan::trial::Trial;
use crate::policy::Policy;
use crate::registry::{Key, Snapshot};
use crate::resolve::{Current, resolve, resolve_default};

/// Why a session is not started on a model that no run has tried.
const UNTRIED: &str = "no session is known to work on it, and the next run tries it";

/// What decides on a start: a policy, what the backend that it names can do, and what runs remember of models.
#[derive(Clone, Copy)]
pub struct Decider<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// What the backend of the policy can do.
    pub capabilities: &'a dyn Capabilities,
    /// What runs remember of chats and models.
    pub ledger: &'a Ledger,
}

/// A decision that a start does not follow, because its model is not known to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The model that the policy decides on.
    pub wanted: Model,
    /// Why the session does not start on that model.
    pub why: String,
}

/// Whether the registry must be told of the model.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    Model,
    Nothing,
}

/// The model to start on.
pub(super) struct Choice {
    /// The model; `None` where no model is known.
    pub(super) model: Option<Model>,
    pub(super) register: Register,
    pub(super) kept: Option<Kept>,
}

impl Choice {
    /// A model that need not be written to the registry.
    fn untold(model: Option<Model>) -> Self {
        Self { model, register: Register::Nothing, kept: None }
    }
}

/// The model to start on.
///
/// # Errors
/// What is wrong with the registry.
pub(super) fn decide(
    decider: Option<Decider>,
    snapshot: &dyn Snapshot,
    chat: &Chat,
    current: Current,
    now: &Zoned,
) -> Result<Choice> {
    let Some(decider) = decider else { return Ok(Choice::untold(current.model.and_then(Model::new))) };
    let Decider { policy, capabilities, ledger } = decider;
    let existing = current.model.map(|model| policy.canonical(model));
    if let Some(model) = resolve(policy, chat, Current { model: existing, ..current }, now).model {
        if existing == Some(model.as_str()) {
            return Ok(Choice::untold(Some(model.clone())));
        }
        let kept = decider.keeps(snapshot, chat, model, existing)?.map(|why| Kept { wanted: model.clone(), why });
        let last_that_worked = || ledger.last_that_worked(&policy.allowed).cloned();
        return Ok(match kept.map(|kept| (existing.and_then(Model::new).or_else(last_that_worked), kept)) {
            Some((Some(runs), kept)) => Choice { kept: Some(kept), ..Choice::untold(Some(runs)) },
            // There is no other model that is known to work.
            Some((None, _)) | None => Choice { model: Some(model.clone()), register: Register::Model, kept: None },
        });
    }
    // The chat is not managed: another program sets its model, and the session must run on some model until then. Where the backend
    // knows on which model a session without a model runs, runs count with that model, and so does the start.
    let unset = || capabilities.unset_runs(chat).and_then(Model::new);
    let default =
        || resolve_default(policy, chat, Current::default()).model.map(|model| policy.in_use(model, now).clone());
    let model =
        existing.and_then(Model::new).or_else(unset).or_else(default).unwrap_or_else(|| policy.fallback.model.clone());
    Ok(Choice::untold(Some(model)))
}

impl Decider<'_> {
    /// Why the session is not started on the decided model; `None` where it is. A run tries a new model on one session first, and a
    /// session that a run has reverted keeps its model until the next trial.
    fn keeps(
        &self,
        snapshot: &dyn Snapshot,
        chat: &Chat,
        model: &Model,
        existing: Option<&str>,
    ) -> Result<Option<String>> {
        let Ledger { failed, trials, .. } = self.ledger;
        if failed.get(chat.id.as_ref()).is_some_and(|failed| failed.model == *model) {
            return Ok(Some("the session did not come up on it".to_owned()));
        }
        Ok(match trials.get(model) {
            Some(Trial::Failed) => Some(match self.ledger.failed_on(model, &|_| false) {
                Some((other, _)) => format!("it did not come up on {other}"),
                None => "it did not come up where it was tried".to_owned(),
            }),
            Some(Trial::Trying(other)) if chat.id != *other => Some(format!("it is being tried on {other}")),
            Some(Trial::Trying(_)) => Some(UNTRIED.to_owned()),
            Some(Trial::Worked(_)) => None,
            // Where runs do not restart sessions, no run will ever try the model. A new chat has no session that could fail.
            None => {
                let restarts = self.capabilities.takes_effect() == TakesEffect::OnRestart;
                let is_tried_by_runs = restarts && self.policy.rollout.canary && existing.is_some();
                let is_unknown = is_tried_by_runs && !self.is_in_use(snapshot, model)?;
                is_unknown.then(|| UNTRIED.to_owned())
            }
        })
    }

    /// Whether another session runs on a model: one that owes no restart, and has come up.
    fn is_in_use(&self, snapshot: &dyn Snapshot, model: &Model) -> Result<bool> {
        let Ledger { owed, failed, .. } = self.ledger;
        let aliases = self.policy.aliases.iter().filter(|(_, meant)| *meant == model).map(|(alias, _)| alias.as_str());
        let spellings = aliases.chain([model.as_str()]).collect();
        let mut is_in_use = false;
        snapshot.find(&[Key::Model], &spellings, &mut |entry| {
            let chat = entry.chat.id.as_ref();
            is_in_use |= !owed.contains_key(chat) && !failed.contains_key(chat);
        })?;
        Ok(is_in_use)
    }
}
