//! What a session that is about to be started runs on, and what the registry lacks for that.

use std::borrow::Cow;

use jiff::Zoned;

use crate::chat::{Chat, Model};
use crate::error::{Error, Result};
use crate::plan::select::{Named, find_session};
use crate::policy::Policy;
use crate::policy::template::CommandLine;
use crate::registry::json::edit::{Splice, add_entry, add_members, keys, splice};
use crate::registry::redacted::marker;
use crate::registry::{Entry, Snapshot, find_entry, scan};
use crate::resolve::{resolve, resolve_default};

/// A session to be started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its chat, with what the registry lacked filled in.
    pub chat: Chat<'static>,
    /// What it runs on.
    pub model: Model,
    /// What its conversation is resumed by; `None` for a new one.
    pub resume: Option<String>,
    /// Whether the chat was not registered yet.
    pub is_new: bool,
    /// The chat of a contact that has the new chat's id for a name.
    pub contact_of: Option<String>,
    /// Another chat of a session with the same slug, which commands cannot tell from this one, where the name is new.
    pub same_slug: Option<String>,
    /// Fields that the user gave and the entry has without a value: they are left so, and what was given does not count.
    pub left_empty: Vec<&'static str>,
    /// What the registry lacks, in its order.
    pub splices: Vec<Splice>,
    /// The command, filled in.
    pub arguments: Vec<String>,
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

/// Decides on a start. Without a policy the registry's own model counts.
///
/// # Errors
/// What is wrong with the registry, or that it is a redacted one; a word that several chats have; no model to run on; a
/// command that cannot be filled.
pub fn start(policy: Option<&Policy>, snapshot: &Snapshot, wanted: &Wanted, now: &Zoned) -> Result<Start> {
    if marker(snapshot.text()).is_some() {
        return Err(Error::other(format!("{} is a redacted snapshot, not a registry", snapshot.name))
            .with_hint("start the session where the registry is"));
    }
    // Contacts choose their names, and one may be another chat's number: it must not get that chat's session.
    let (found, contact_of) = match find_session(wanted.chat, snapshot)? {
        Named::Session(chat) => (find_entry(snapshot, &chat).map_err(Error::Invalid)?, None),
        Named::Contact(chat) => (None, Some(chat)),
        Named::Nothing => (None, None),
    };
    let given = wanted.fields;
    let new = || Chat { id: Cow::Borrowed(wanted.chat), ..Chat::default() };
    let registered = found.as_ref().map_or_else(new, |entry| entry.chat.clone());
    let left_empty = found.as_ref().map(|entry| left_empty(snapshot, entry, given)).unwrap_or_default();
    let fill = |key, registered: Option<_>, given: &Option<_>| {
        registered.or_else(|| given.clone().filter(|_| !left_empty.contains(&key)))
    };
    let chat = Chat {
        id: registered.id,
        session_name: fill("session_name", registered.session_name, &given.session_name),
        contact_name: fill("contact_name", registered.contact_name, &given.contact_name),
        tier: fill("tier", registered.tier, &given.tier),
        kind: fill("type", registered.kind, &given.kind),
        source: fill("source", registered.source, &given.source),
    }
    .into_owned();

    let existing = found.as_ref().and_then(|entry| entry.model.as_deref());
    let (model, register) = decide(policy, &chat, existing, now)?;
    let resume = found.as_ref().and_then(|entry| entry.resume.clone()).map(Cow::into_owned);
    let arguments = wanted.command.fill_launch(&chat, &model, resume.as_deref()).map_err(|why| {
        Error::other(format!("the session of {} cannot be started: {why}", chat.id))
            .with_hint("nothing was changed; mend its entry in the registry, or the command")
    })?;
    let is_named = found.as_ref().is_some_and(|entry| entry.chat.session_name.is_some());
    let same_slug = if is_named { None } else { same_slug(&chat, snapshot)? };
    let model_to_write = Some(&model).filter(|_| register);
    let splices = match &found {
        Some(entry) => complete(snapshot, entry, &chat, model_to_write),
        None => vec![register_new(snapshot, &chat, model_to_write)],
    };
    Ok(Start { chat, model, resume, is_new: found.is_none(), contact_of, same_slug, left_empty, splices, arguments })
}

fn same_slug(chat: &Chat, snapshot: &Snapshot) -> Result<Option<String>> {
    let mut same = None;
    let Some(slug) = chat.slug() else { return Ok(None) };
    scan(snapshot, |entry| {
        if same.is_none() && entry.chat.slug().is_some_and(|other| other == slug) {
            same = Some(entry.chat.id.into_owned());
        }
    })
    .map_err(Error::Invalid)?;
    Ok(same)
}

/// The model to start on, and whether the registry must be told.
fn decide(policy: Option<&Policy>, chat: &Chat, existing: Option<&str>, now: &Zoned) -> Result<(Model, bool)> {
    let Some(policy) = policy else {
        let model = existing.and_then(Model::new).map(|model| (model, false));
        return model.ok_or_else(|| {
            Error::other(format!("without a policy nobody knows a model for {}: the registry has none", chat.id))
                .with_hint("mend the policy, then start the session again")
        });
    };
    let existing = existing.map(|model| policy.canonical(model));
    if let Some(model) = resolve(policy, chat, existing, now).model {
        return Ok((model.clone(), existing != Some(model.as_str())));
    }
    // Not managed: its model is somebody else's to set, and it must run on something until they do.
    // Where the policy knows what a session without a model runs on, its runs take it for that.
    let unset = || policy.sessions.unset_runs(chat).and_then(Model::new);
    let default = || resolve_default(policy, chat, None).model.cloned();
    let model =
        existing.and_then(Model::new).or_else(unset).or_else(default).unwrap_or_else(|| policy.fallback.model.clone());
    Ok((model, false))
}

/// The names that the fields of a chat have in an entry.
fn fields<'c>(chat: &'c Chat) -> [(&'static str, Option<&'c str>); 5] {
    [
        ("session_name", chat.session_name.as_deref()),
        ("type", chat.kind.as_deref()),
        ("contact_name", chat.contact_name.as_deref()),
        ("tier", chat.tier.as_deref()),
        ("source", chat.source.as_deref()),
    ]
}

fn register_new(snapshot: &Snapshot, chat: &Chat, model: Option<&Model>) -> Splice {
    let id = ("chat_id", Some(chat.id.as_ref()));
    let model = ("model", model.map(Model::as_str));
    let all = [id].into_iter().chain(fields(chat)).chain([model]);
    let present: Vec<(&str, &str)> = all.filter_map(|(key, value)| Some((key, value?))).collect();
    add_entry(snapshot, &chat.id, &present)
}

/// The fields that are given and stand in the entry without a value. That is not ours to change; and where what is given
/// counted all the same, the next run would decide otherwise, and the next launch back again.
fn left_empty(snapshot: &Snapshot, entry: &Entry, given: &Chat) -> Vec<&'static str> {
    let written = keys(snapshot, &entry.site);
    let both = fields(&entry.chat).into_iter().zip(fields(given));
    let empty = both
        .filter(|((key, registered), (_, given))| registered.is_none() && given.is_some() && written.contains(*key));
    empty.map(|((key, _), _)| key).collect()
}

/// What an entry lacks.
fn complete(snapshot: &Snapshot, entry: &Entry, chat: &Chat, model: Option<&Model>) -> Vec<Splice> {
    let lacking = fields(chat).into_iter().zip(fields(&entry.chat)).filter(|(_, (_, registered))| registered.is_none());
    let mut new: Vec<(&str, &str)> = lacking.filter_map(|((key, value), _)| Some((key, value?))).collect();
    let mut splices = Vec::new();
    match model {
        Some(model) if entry.site.model.is_some() => splices.push(splice(snapshot, &entry.site, model)),
        Some(model) => new.push(("model", model.as_str())),
        None => {}
    }
    if !new.is_empty() {
        splices.push(add_members(snapshot, &entry.site, &new));
    }
    splices
}
