//! What a session that is about to be started runs on, and what the registry lacks for that.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Zoned;

use crate::chat::{Chat, Model};
use crate::error::{Error, Result};
use crate::plan::capabilities::{Capabilities, TakesEffect};
use crate::plan::ledger::Ledger;
use crate::plan::select::ambiguous;
use crate::plan::trial::Trial;
use crate::policy::Policy;
use crate::policy::placeholder::Session;
use crate::policy::template::{CommandLine, Invocation};
use crate::registry::{Entry, Field, Position, Snapshot};
use crate::resolve::{resolve, resolve_default};

/// A session to be started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its chat, with what the registry lacked filled in.
    pub chat: Chat<'static>,
    /// What it runs on.
    pub model: Model,
    /// Why it does not run on what the policy decides, if so.
    pub kept: Option<Kept>,
    /// What its conversation is resumed by; `None` for a new one.
    pub resume: Option<String>,
    /// Whether the chat was not registered yet.
    pub is_new: bool,
    /// The chat of a contact that has the new chat's id for a name.
    pub contact_of: Option<String>,
    /// Another chat of a session with the same slug, which commands cannot tell from this one, where the name is new.
    pub same_slug: Option<String>,
    /// Fields that the user gave and the entry has without a value: they are left so, and what was given does not count.
    pub left_empty: Vec<Field>,
    /// Whether the command is given only the beginning of a field.
    pub is_shortened: bool,
    /// What the registry lacks.
    pub registration: Registration,
    /// The command, filled in.
    pub command: Invocation,
}

/// A decision that a start does not follow, because its model is not known to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The model that the policy decides on.
    pub wanted: Model,
    /// What is known of it.
    pub why: String,
}

/// What is to be registered of a session that is about to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The chat, with what the registry lacks filled in.
    pub chat: Chat<'static>,
    /// Its entry; `None` where it has none yet.
    pub entry: Option<Position>,
    /// The fields that its entry lacks.
    pub fields: Vec<(&'static str, String)>,
    /// The model that its entry lacks, or has another one of.
    pub model: Option<Model>,
}

impl Registration {
    /// Whether the registry must be changed for it.
    pub fn is_edit(&self) -> bool {
        self.entry.is_none() || !self.fields.is_empty() || self.model.is_some()
    }
}

/// What the user says of a session that is to be started.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The chat: its id, or its session's name. One that the registry does not know is a new id.
    pub chat: &'a str,
    /// What fills fields that the registry does not have. Its id is not looked at.
    pub fields: &'a Chat<'static>,
    /// What starts it.
    pub command: &'a CommandLine,
}

/// What decides on a start: a policy, what the backend that it names can do, and what runs remember of models.
#[derive(Clone, Copy)]
pub struct Decider<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its backend.
    pub capabilities: &'a dyn Capabilities,
    /// What runs remember.
    pub ledger: &'a Ledger,
}

/// Decides on a start. Without a policy the registry's own model counts.
///
/// # Errors
/// What is wrong with the registry; a word that several sessions have; no model to run on; a command that cannot be
/// filled.
pub fn start(decider: Option<Decider>, snapshot: &dyn Snapshot, wanted: &Wanted, now: &Zoned) -> Result<Start> {
    let given = wanted.fields;
    let mut seen = Seen { word: wanted.chat, slug: given.slug(), ..Seen::default() };
    snapshot.each(&mut |entry| seen.take(entry, decider))?;
    let in_use = std::mem::take(&mut seen.in_use);
    let (found, contact_of, same_slug) = seen.sort_out()?;
    let new = || Chat { id: Cow::Borrowed(wanted.chat), ..Chat::default() };
    let registered = found.as_ref().map_or_else(new, |entry| entry.chat.clone());
    let left_empty = found.as_ref().map(|entry| left_empty(entry, given)).unwrap_or_default();
    let fill = |field: Field, registered: Option<_>, given: &Option<_>| {
        registered.or_else(|| given.clone().filter(|_| !left_empty.contains(&field)))
    };
    let chat = Chat {
        id: registered.id,
        session_name: fill(Field::SessionName, registered.session_name, &given.session_name),
        contact_name: fill(Field::ContactName, registered.contact_name, &given.contact_name),
        tier: fill(Field::Tier, registered.tier, &given.tier),
        kind: fill(Field::Type, registered.kind, &given.kind),
        source: fill(Field::Source, registered.source, &given.source),
    }
    .into_owned();

    let existing = found.as_ref().and_then(|entry| entry.model.as_deref());
    let Choice { model, register, kept } = decide(decider, &chat, existing, &in_use, now)?;
    let resume = found.as_ref().and_then(|entry| entry.resume.clone()).map(Cow::into_owned);
    let session = Session { chat: &chat, model: &model, resume: resume.as_deref() };
    let command = wanted.command.fill(&session).map_err(|why| {
        Error::other(format!("the session of {} cannot be started: {why}", chat.id))
            .with_hint("nothing was changed; fix its entry in the registry, or the command")
    })?;
    let is_shortened = session.is_shortened();
    let is_named = found.as_ref().is_some_and(|entry| entry.chat.session_name.is_some());
    let same_slug = same_slug.filter(|_| !is_named && chat.session_name.is_some());
    let model_to_write = (register == Register::Model).then(|| model.clone());
    let registration = registration(&chat, found.as_ref(), model_to_write);
    Ok(Start {
        chat,
        model,
        kept,
        resume,
        is_new: found.is_none(),
        contact_of,
        same_slug,
        left_empty,
        is_shortened,
        registration,
        command,
    })
}

/// What one pass over the registry finds for a start.
#[derive(Default)]
struct Seen<'w> {
    word: &'w str,
    /// The slug of the session's name that the user gave.
    slug: Option<String>,
    /// The entry whose chat id the word is.
    by_id: Option<Entry<'static>>,
    /// The entries whose session name the word is.
    by_name: Vec<Entry<'static>>,
    /// The first chat whose contact's name the word is.
    contact_of: Option<String>,
    /// The first chat whose session has that slug.
    same_slug: Option<String>,
    /// The models of the other entries that owe no restart.
    in_use: BTreeSet<String>,
}

/// The entry that is meant, the chat of a contact that has the new chat's id for a name, and another chat of a session
/// with the same slug.
type Found = (Option<Entry<'static>>, Option<String>, Option<String>);

impl Seen<'_> {
    fn take(&mut self, entry: Entry<'_>, decider: Option<Decider>) {
        let id = || entry.chat.id.clone().into_owned();
        if let (Some(Decider { policy, ledger, .. }), Some(model)) = (decider, entry.model.as_deref()) {
            let model = policy.canonical(model);
            let is_settled = |chat| !ledger.owed.contains_key(chat) && !ledger.failed.contains_key(chat);
            if entry.chat.id != self.word && !self.in_use.contains(model) && is_settled(entry.chat.id.as_ref()) {
                self.in_use.insert(model.to_owned());
            }
        }
        if self.same_slug.is_none() && self.slug.is_some() && entry.chat.slug() == self.slug {
            self.same_slug = Some(id());
        }
        if self.contact_of.is_none() && entry.chat.contact_name.as_deref() == Some(self.word) {
            self.contact_of = Some(id());
        }
        if entry.chat.id == self.word {
            self.by_id = Some(entry.into_owned());
        } else if entry.chat.session_name.as_deref() == Some(self.word) {
            self.by_name.push(entry.into_owned());
        }
    }

    /// Contacts choose their names, and one may be another chat's number: it must not get that chat's session.
    fn sort_out(mut self) -> Result<Found> {
        if self.by_id.is_none() && self.by_name.len() > 1 {
            let chats: Vec<String> = self.by_name.iter().map(|entry| entry.chat.id.clone().into_owned()).collect();
            return Err(ambiguous(self.word, &chats));
        }
        let entry = self.by_id.or_else(|| self.by_name.pop());
        let contact_of = self.contact_of.filter(|_| entry.is_none());
        Ok((entry, contact_of, self.same_slug))
    }
}

/// Whether the registry must be told of the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Register {
    Model,
    Nothing,
}

/// The model to start on.
struct Choice {
    model: Model,
    register: Register,
    kept: Option<Kept>,
}

impl Choice {
    /// A model that the registry needs not be told of.
    fn untold(model: Model) -> Self {
        Self { model, register: Register::Nothing, kept: None }
    }
}

/// The model to start on. `in_use` are the models of other entries.
fn decide(
    decider: Option<Decider>,
    chat: &Chat,
    existing: Option<&str>,
    in_use: &BTreeSet<String>,
    now: &Zoned,
) -> Result<Choice> {
    let Some(decider) = decider else {
        return existing.and_then(Model::new).map(Choice::untold).ok_or_else(|| {
            Error::other(format!("without a policy there is no model for {}: the registry has none", chat.id))
                .with_hint("fix the policy, then start the session again")
        });
    };
    let Decider { policy, capabilities, .. } = decider;
    let existing = existing.map(|model| policy.canonical(model));
    if let Some(model) = resolve(policy, chat, existing, now).model {
        if existing == Some(model.as_str()) {
            return Ok(Choice::untold(model.clone()));
        }
        let kept = decider.keeps(chat, model, existing, in_use).map(|why| Kept { wanted: model.clone(), why });
        return Ok(
            match kept.map(|kept| (existing.and_then(Model::new).or_else(|| decider.last_that_worked()), kept)) {
                Some((Some(runs), kept)) => Choice { kept: Some(kept), ..Choice::untold(runs) },
                // Nothing is known to work better.
                Some((None, _)) | None => Choice { model: model.clone(), register: Register::Model, kept: None },
            },
        );
    }
    // Not managed: its model is set by something else, and the session must run on something until that happens. Where the
    // backend knows what a session without a model runs on, its runs take it for that.
    let unset = || capabilities.unset_runs(chat).and_then(Model::new);
    let default = || resolve_default(policy, chat, None).model.map(|model| policy.in_use(model, now).clone());
    let model =
        existing.and_then(Model::new).or_else(unset).or_else(default).unwrap_or_else(|| policy.fallback.model.clone());
    Ok(Choice::untold(model))
}

impl Decider<'_> {
    /// Why a session is not started on the model that is decided, if so. A run tries it first, on one session, and what a
    /// run has put back stays so until it is tried again.
    fn keeps(&self, chat: &Chat, model: &Model, existing: Option<&str>, in_use: &BTreeSet<String>) -> Option<String> {
        let Ledger { failed, trials, .. } = self.ledger;
        if failed.get(chat.id.as_ref()).is_some_and(|failed| failed.model == *model) {
            return Some("the session did not come up on it".to_owned());
        }
        match trials.get(model) {
            Some(Trial::Failed) => Some(match self.ledger.failed_on(model, &|_| false) {
                Some((other, _)) => format!("it did not come up on {other}"),
                None => "it did not come up where it was tried".to_owned(),
            }),
            Some(Trial::Trying(other)) if chat.id != *other => Some(format!("it is being tried on {other}")),
            Some(Trial::Trying(_) | Trial::Worked(_)) => None,
            // Where no run restarts sessions, none ever tries it. A new chat takes down no session.
            None => {
                let is_tried_by_runs = self.capabilities.takes_effect() == TakesEffect::OnRestart && existing.is_some();
                let is_unknown = is_tried_by_runs && !in_use.contains(model.as_str());
                is_unknown.then(|| "no session is known to work on it, and the next run tries it".to_owned())
            }
        }
    }

    /// The model on which a session was last seen to come up.
    fn last_that_worked(&self) -> Option<Model> {
        let mut last = None;
        for (model, trial) in &self.ledger.trials {
            if let Trial::Worked(at) = trial
                && self.policy.allowed.contains(model)
            {
                last = last.max(Some((*at, model)));
            }
        }
        last.map(|(_, model)| model.clone())
    }
}

/// The fields that are given and stand in the entry without a value. That is not ours to change; and where what is given
/// counted all the same, the next run would decide otherwise, and the next launch back again.
fn left_empty(entry: &Entry, given: &Chat) -> Vec<Field> {
    let is_left =
        |field: &Field| field.of(&entry.chat).is_none() && field.of(given).is_some() && entry.blank.has(*field);
    Field::ALL.into_iter().filter(is_left).collect()
}

/// What the registry lacks of a chat.
fn registration(chat: &Chat<'static>, entry: Option<&Entry>, model: Option<Model>) -> Registration {
    let mut fields = Vec::new();
    if entry.is_none() {
        fields.push(("chat_id", chat.id.clone().into_owned()));
    }
    for field in Field::ALL {
        let is_registered = entry.is_some_and(|entry| field.of(&entry.chat).is_some());
        if let (Some(value), false) = (field.of(chat), is_registered) {
            fields.push((field.name(), value.to_owned()));
        }
    }
    Registration { chat: chat.clone(), entry: entry.map(|entry| entry.at), fields, model }
}
