//! What a session that is about to be started runs on, and what the registry lacks for that.

mod choice;
mod conversation;
mod problem;
mod record;
mod seen;

use std::borrow::Cow;

use jiff::Zoned;

use crate::chat::{Chat, Model};
use crate::error::Result;
use crate::launch::choice::{Choice, Register, decide};
use crate::launch::conversation::choose;
use crate::launch::problem::LaunchProblem;
use crate::launch::seen::{Found, look_for};
use crate::plan::Verdict;
use crate::plan::json::{JsonBecause, JsonRow};
use crate::plan::last_applied::{Hint, Origin};
use crate::plan::ledger::Note;
use crate::policy::placeholder::{Conversation, Session};
use crate::policy::template::{CommandLine, Invocation};
use crate::policy::{At, Because};
use crate::registry::{Entry, Field, Position, Snapshot};
use crate::resolve::{Current, resolve};

pub use choice::{Decider, Kept};
pub use conversation::{Conversations, Remark};
pub(crate) use record::record;

/// The member of an entry in which the id of a conversation is recorded.
pub(crate) const SESSION_ID: &str = "session_id";

/// A session to be started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The session's chat. Fields that the registry lacks have the values that the user gave.
    pub chat: Chat<'static>,
    /// The model that the session runs on; `None` where no model is known, and the session's program chooses.
    pub model: Option<Model>,
    /// The decision of the policy that the start does not follow, with the reason; `None` where it follows the policy.
    pub kept: Option<Kept>,
    /// The conversation that the session resumes or begins.
    pub conversation: Conversation,
    /// Why a recorded conversation is not simply resumed, if so.
    pub remark: Option<Remark>,
    /// Whether the chat was not registered yet.
    pub is_new: bool,
    /// The chat of a contact whose name is the id of the new chat.
    pub contact_of: Option<String>,
    /// Another chat whose session has the slug of this session's new name. Commands cannot tell two such sessions apart.
    pub same_slug: Option<String>,
    /// Fields that the user gave and that the entry has with an empty value. They stay empty, and the given values do not count.
    pub left_empty: Vec<Field>,
    /// Whether the command is given only the beginning of a field.
    pub is_shortened: bool,
    /// What is to be written to the registry.
    pub registration: Registration,
    /// The command, filled in.
    pub command: Invocation,
}

/// What is to be registered of a session that is about to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The chat. Fields that the registry lacks have the values that the user gave.
    pub chat: Chat<'static>,
    /// The place of the chat's entry; `None` where the chat has no entry yet.
    pub entry: Option<Position>,
    /// The fields to be written, with their values: those that the entry lacks or has with another value.
    pub fields: Vec<(&'static str, String)>,
    /// The model to be written; `None` where the entry has it already.
    pub model: Option<Model>,
    /// The model that the entry has, where the policy keeps models that were set by hand. To tell those from the models that this
    /// program wrote, what it writes is remembered.
    pub remembers: Option<Before>,
    /// The row of the history, which is written where a model is changed or a restart is paid.
    pub told: JsonRow<'static>,
}

/// The model that an entry has before a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before(pub Option<Model>);

impl Registration {
    /// Whether the registration changes the registry.
    pub fn is_edit(&self) -> bool {
        self.entry.is_none() || !self.fields.is_empty() || self.model.is_some()
    }

    /// The note to be saved about the written model; `None` where no model is written, or the policy does not keep models that were
    /// set by hand.
    pub(crate) fn wrote(&self) -> Option<Note<'_>> {
        let (model, Before(before)) = (self.model.as_ref()?, self.remembers.as_ref()?);
        Some(Note::Wrote { chat: self.chat.id.as_ref(), model, before: before.as_ref() })
    }
}

/// What the user says of a session that is to be started.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The id of the chat, or the name of its session. A word that the registry does not have is the id of a new chat.
    pub chat: &'a str,
    /// The values of fields that the registry lacks. The id in it is not used.
    pub fields: &'a Chat<'static>,
    /// The command that starts the session.
    pub command: &'a CommandLine,
    /// Where the session's program keeps its conversations. Without that, a recorded conversation is taken to exist.
    pub conversations: Option<&'a Conversations>,
    /// An id that no conversation has yet, if the command can begin one under a known id.
    pub new_session_id: Option<&'a str>,
}

/// Decides on a start. Without a policy the registry's own model counts.
///
/// # Errors
/// What is wrong with the registry; a word that several sessions have; a command that cannot be filled.
pub fn start(decider: Option<Decider>, snapshot: &dyn Snapshot, wanted: &Wanted, now: &Zoned) -> Result<Start> {
    let given = wanted.fields;
    let Found { entry: found, contact_of, same_slug } = look_for(snapshot, wanted.chat, given.slug().as_deref())?;
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
        agent: registered.agent,
        account: registered.account,
    }
    .into_owned();

    let current = current(decider, found.as_ref());
    // A tier that the policy assigns is not written to the registry: the policy may assign another one tomorrow.
    let seen =
        decider.map_or_else(|| chat.clone(), |Decider { policy, .. }| policy.with_tier(chat.clone()).into_owned());
    let Choice { model, register, kept } = decide(decider, snapshot, &seen, current, now)?;
    let recorded = found.as_ref().and_then(|entry| entry.resume.as_deref());
    let (conversation, remark) = choose(recorded, wanted.conversations, wanted.new_session_id);
    let session = Session { chat: &seen, model: model.as_ref(), conversation: &conversation };
    let command = wanted
        .command
        .fill(&session)
        .map_err(|why| LaunchProblem::NoCommand { chat: chat.id.as_ref().into(), why: why.into() })?;
    let is_shortened = session.is_shortened();
    let is_named = found.as_ref().is_some_and(|entry| entry.chat.session_name.is_some());
    let same_slug = same_slug.filter(|_| !is_named && chat.session_name.is_some());
    let model_to_write = model.clone().filter(|_| register == Register::Model);
    let remembers = decider.is_some_and(|decider| decider.policy.existing.keeps_manual());
    let remembers = remembers.then(|| Before(current.model.and_then(Model::new)));
    let by_policy = decider.map(|Decider { policy, .. }| resolve(policy, &seen, current, now).because.clone());
    let because = by_policy.unwrap_or_else(|| Because { rule: "launch".to_owned(), at: At::elsewhere("command line") });
    let told = told(&because, &seen, current, model.as_ref(), register);
    let registration = registration(&chat, found.as_ref(), model_to_write, told);
    let mut registration = Registration { remembers, ..registration };
    if let Conversation::New(id) = &conversation
        && recorded != Some(id)
    {
        registration.fields.push((SESSION_ID, id.clone()));
    }
    Ok(Start {
        chat,
        model,
        kept,
        conversation,
        remark,
        is_new: found.is_none(),
        contact_of,
        same_slug,
        left_empty,
        is_shortened,
        registration,
        command,
    })
}

/// The model that the registry has, and whether it was set by hand.
fn current<'e>(decider: Option<Decider>, found: Option<&'e Entry>) -> Current<'e> {
    let origin = decider
        .zip(found)
        .and_then(|(decider, entry)| decider.ledger.origin(decider.policy, entry, &mut Hint::default()));
    Current { model: found.and_then(|entry| entry.model.as_deref()), by_hand: origin.is_some_and(Origin::is_by_hand) }
}

/// The row of the history for a start on this model.
fn told(
    because: &Because,
    chat: &Chat,
    current: Current,
    model: Option<&Model>,
    register: Register,
) -> JsonRow<'static> {
    let told = JsonRow {
        chat_id: chat.id.as_ref().into(),
        session_name: chat.session_name.as_deref().map(Cow::Borrowed),
        tier: chat.tier.as_deref().map(Cow::Borrowed),
        before: current.model.map(Cow::Borrowed),
        after: model.map(|model| model.as_str().into()),
        because: JsonBecause::recorded(because),
        edit: register == Register::Model,
        restart: false,
        owed: false,
        canary: false,
        outcome: Verdict::Done.name().into(),
        detail: None,
    };
    told.into_owned()
}

/// The given fields that the entry has with an empty value. The empty value belongs to the program that wrote the entry, so it is not
/// changed. If the given value counted nevertheless, runs and launches would decide differently and undo each other's changes.
fn left_empty(entry: &Entry, given: &Chat) -> Vec<Field> {
    let is_left =
        |field: &Field| field.of(&entry.chat).is_none() && field.of(given).is_some() && entry.blank.has(*field);
    Field::ALL.into_iter().filter(is_left).collect()
}

/// What is to be written to the registry for a chat.
fn registration(
    chat: &Chat<'static>,
    entry: Option<&Entry>,
    model: Option<Model>,
    told: JsonRow<'static>,
) -> Registration {
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
    Registration { chat: chat.clone(), entry: entry.map(|entry| entry.at), fields, model, remembers: None, told }
}
