//! Warnings about a policy that follow from the configuration of the gateway.

use std::collections::BTreeMap;

use crate::backend::openclaw::capabilities::{DEFAULT, pin};
use crate::backend::openclaw::catalog::{Configuration, ModelRow, named};
use crate::diagnostic::Diagnostic;
use crate::policy::{Because, Condition, Policy, Rule, Source};
use crate::suggest;

/// The part of a key that stands before a person of whom the gateway tells the messages apart.
const PERSON: &str = ":direct:";

/// The gateway's answers that the warnings depend on.
pub(super) struct Told<'g> {
    /// The models to which the sessions of each agent can be pinned.
    pub(super) models: &'g BTreeMap<String, Vec<ModelRow>>,
    /// The model of sessions that are not pinned.
    pub(super) default_model: Option<&'g str>,
    pub(super) configuration: &'g Configuration,
}

/// The warnings about a policy.
pub(super) fn advice(policy: &Policy, sources: &[Source], told: &Told) -> Vec<Diagnostic> {
    let adviser = Adviser { policy, sources, told };
    let mut found: Vec<Diagnostic> =
        policy.named_models().filter_map(|(model, why)| adviser.of_model(model.as_str(), why)).collect();
    found.extend(adviser.of_channels());
    found.extend(adviser.of_people());
    found.extend(adviser.of_new_chats());
    found
}

struct Adviser<'a> {
    policy: &'a Policy,
    sources: &'a [Source],
    told: &'a Told<'a>,
}

impl Adviser<'_> {
    fn warning(&self, code: &'static str, message: String, at: &Because, label: &str) -> Diagnostic {
        Diagnostic::warning(code, message, at.at.place(self.sources), label)
    }

    /// A model that an agent does not have, or that its sessions run on anyway.
    fn of_model(&self, model: &str, because: &Because) -> Option<Diagnostic> {
        if model == DEFAULT {
            return None;
        }
        let rule = &because.rule;
        if self.told.default_model.is_some_and(|default| self.policy.canonical(default) == model) {
            let message = format!("`{rule}` pins sessions to {model}, which OpenClaw runs them on anyway");
            let label = "a session that is pinned loses the configured fallbacks";
            return Some(self.warning("pins-the-default", message, because, label).help("write \"default\""));
        }
        let aliases = &self.policy.aliases;
        let has_it = |models: &[ModelRow]| named(models, model).is_some_and(|known| known.is_meant_by(model, aliases));
        let lacking = self.told.models.iter().filter(|(_, models)| !has_it(models));
        let agents: Vec<&str> = lacking.map(|(agent, _)| agent.as_str()).collect();
        let agents = suggest::list(agents)?;
        let message = format!("`{rule}` names {model}, which OpenClaw does not list for {agents}");
        let found = self.warning("model-not-listed", message, because, "a run refuses the change there");
        Some(found.help(self.instead_of(model)))
    }

    /// What to write instead of a model that is not listed.
    fn instead_of(&self, model: &str) -> String {
        let mut listed = self.told.models.values();
        if let Some(full) = listed.find_map(|models| named(models, model)).map(ModelRow::name) {
            return format!(
                "it is OpenClaw's alias of {full}: write that, or add \"{full}\" = \"{model}\" to models.aliases"
            );
        }
        let known: Vec<String> = self.told.models.values().flatten().map(ModelRow::name).collect();
        suggest::advice(model, known.iter().map(String::as_str))
    }

    fn of_channels(&self) -> Option<Diagnostic> {
        let channels = suggest::list(self.told.configuration.channels_with_models.iter().map(String::as_str))?;
        let message = format!("OpenClaw's channels.modelByChannel chooses models for {channels}");
        let label = "a session that is not pinned runs on those, and the list of sessions does not show it";
        let found = self.warning("model-by-channel", message, &self.policy.fallback.because, label);
        Some(found.help("write rules with `source` instead, and remove channels.modelByChannel"))
    }

    /// A warning about a rule or override for one person, where all direct messages share one session.
    fn of_people(&self) -> Option<Diagnostic> {
        let scope = self.told.configuration.dm_scope.as_deref().unwrap_or("main");
        let of_people = |rule: &&Rule| {
            let by_type = rule.values.get(&Condition::Type).into_iter().flatten().any(|kind| kind == "direct");
            by_type || rule.globs().iter().any(|glob| glob.pattern().contains(PERSON))
        };
        let rule = self.policy.rules.iter().find(of_people).map(|rule| &rule.choice.because);
        let chats = self.policy.chats.iter();
        let chat = || chats.clone().find(|(chat, _)| chat.contains(PERSON)).map(|(_, entry)| &entry.because);
        let because = rule.or_else(chat).filter(|_| scope == "main")?;
        let message = format!("`{}` names one person, but all direct messages share one session", because.rule);
        let found =
            self.warning("shared-session", message, because, "new direct messages do not go to a session of its own");
        Some(found.help("set session.dmScope to \"per-channel-peer\" in OpenClaw's configuration"))
    }

    /// A note that new chats run on another default model than the policy's fallback.
    fn of_new_chats(&self) -> Option<Diagnostic> {
        let fallback = &self.policy.fallback;
        let pinned = pin(&fallback.model)?;
        let default = self.told.default_model.filter(|default| self.policy.canonical(default) != pinned)?;
        let message = format!("a new chat runs on {default} until a run has seen it, and then on {}", fallback.model);
        let place = fallback.because.at.place(self.sources);
        let help = format!(
            "set agents.defaults.model to {} in OpenClaw's configuration, or write \"default\"",
            fallback.model
        );
        Some(Diagnostic::note("new-chats", message, place, "").help(help))
    }
}
