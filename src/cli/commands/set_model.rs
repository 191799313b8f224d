//! `reconcile set-model` and `unset-model`: an override by hand, kept where overrides belong.

use std::collections::BTreeMap;

use clap::Args;

use crate::backend::Probe;
use crate::chat::{Chat, Model};
use crate::cli::args::{EditArgs, End, PlaceArgs, until};
use crate::cli::commands::overrides::{Change, Decided, edit_and_run};
use crate::cli::commands::problem::EditProblem;
use crate::cli::exit::Exit;
use crate::cli::run::execute;
use crate::cli::run::options::RunOptions;
use crate::cli::run::signals::Interrupt;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Names, Opened, open};
use crate::error::Result;
use crate::foreign::{Foreign, Public, Sentence, sentence};
use crate::plan::select::{Selector, find_registered};
use crate::policy::{At, Because, Override, Policy, Setting};
use crate::registry::find_entry;
use crate::resolve::resolve;
use crate::suggest;

/// The name of the command in the history.
const SET: &str = "set-model";

#[derive(Clone, Debug, Args)]
pub(crate) struct SetModelArgs {
    /// The chat: its id, session name or contact's name
    #[arg(value_name = "CHAT")]
    chat: String,

    /// One of the models that the policy allows
    #[arg(value_name = "MODEL")]
    model: String,

    /// When the override ends: after a day, 2026-12-31, or at a time, 2026-12-31T18:00, both in the policy's time zone;
    /// at a time with an offset; or after a duration from now, 7d
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<End>,

    /// Why, for the next reader of the policy
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Change only the registry, not the policy: the next run puts the policy's model back. Not for sessions that
    /// `reconcile launch` starts, because the restart itself puts it back: use --until for those
    #[arg(long, conflicts_with_all = ["until", "reason"])]
    no_policy: bool,

    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UnsetModelArgs {
    /// The chat: its id, session name or contact's name
    #[arg(value_name = "CHAT")]
    chat: String,

    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

pub(crate) fn set(terminal: &Terminal, place: &PlaceArgs, args: &SetModelArgs) -> anyhow::Result<Exit> {
    if args.no_policy {
        return set_registry_alone(terminal, place, args);
    }
    edit_and_run(terminal, place, (SET, &args.edit), |opened| {
        let Aim { chat, model, contact, .. } = aim(opened, args)?;
        let until = args.until.as_ref().map(|end| end.from(&opened.now)).transpose()?;
        if let Some(until) = until.as_ref().filter(|until| until.is_past(&opened.now)) {
            return Err(EditProblem::Expired { until: until.to_string().into() }.into());
        }
        let entry = opened.policy.chats.get(&chat).filter(|_| args.until.is_some());
        let then = entry.and_then(Override::permanent).cloned();
        let change = Change::Set { model, until, then, reason: args.reason.clone() };
        let contacts = contact.map(|name| (chat.clone(), name)).into_iter().collect();
        Ok(Decided { changes: BTreeMap::from([(chat, change)]), contacts, ..Decided::default() })
    })
}

pub(crate) fn unset(terminal: &Terminal, place: &PlaceArgs, args: &UnsetModelArgs) -> anyhow::Result<Exit> {
    edit_and_run(terminal, place, ("unset-model", &args.edit), |opened| {
        let overrides = &opened.policy.chats;
        let chat = if overrides.contains_key(&args.chat) {
            args.chat.clone()
        } else {
            find_registered(&args.chat, opened.snapshot()?.as_ref())?
        };
        refuse_former(opened, &chat)?;
        // Not an error: a command that died after the edit is repeated to finish what it began.
        let is_gone = !overrides.contains_key(&chat);
        let note = || (chat.clone(), sentence!("{} has no override for {}", &opened.policy_name, opened.name(&chat)));
        let mut notes: Vec<(String, Sentence)> = is_gone.then(note).into_iter().collect();
        // A temporary override may have replaced a permanent one, which counts again once the temporary one is gone.
        let covered = overrides.get(&chat).filter(|entry| entry.ended(&opened.now).is_none());
        let change = match covered.and_then(|entry| entry.then.clone()) {
            Some(model) => {
                let name = opened.name(&chat);
                let note = sentence!(
                    "the override of {} is {} again, as before; to remove that, too, repeat this",
                    name,
                    Foreign::from(model.as_str())
                );
                notes.push((chat.clone(), note));
                Change::Set { model, until: None, then: None, reason: None }
            }
            None => Change::Remove,
        };
        Ok(Decided { changes: BTreeMap::from([(chat, change)]), notes, ..Decided::default() })
    })
}

/// Sets the model in the registry, and leaves the policy as it is.
fn set_registry_alone(terminal: &Terminal, place: &PlaceArgs, args: &SetModelArgs) -> anyhow::Result<Exit> {
    let interrupt = if args.edit.dry_run { Interrupt::default() } else { Interrupt::listen()? };
    let mut opened = open(terminal, place)?.ended_by(interrupt.give_up());
    let Aim { chat, model, otherwise, .. } = aim(&opened, args)?;
    if let Some((rule, model)) = otherwise {
        let model = Foreign::from(model.as_str());
        terminal.warning(sentence!("the policy says {} ({}): the next run puts that back", model, rule));
    }
    let because = Because { rule: "set-model".to_owned(), at: At::elsewhere("command line") };
    let setting = Setting::Model(model);
    let by_hand = Override { setting, until: None, then: None, reason: None, was: Vec::new(), because };
    opened.policy.chats.insert(chat.clone(), by_hand);
    let selector = Selector { ids: vec![chat], ..Selector::default() };
    let EditArgs { dry_run, allow_changes, report } = args.edit.clone();
    let options = RunOptions { command: SET, selector, dry_run, allow_changes, report, ..RunOptions::default() };
    execute(terminal, place, &opened, &options, interrupt)
}

/// The chat that the user has named, and what the command is about to do.
struct Aim {
    chat: String,
    model: Model,
    /// The name of the contact; `None` where the chat has none or names are hidden.
    contact: Option<String>,
    /// What decides on another model than the one that was asked for, and that other model. With it, the next run would put the policy's
    /// model back into the registry.
    otherwise: Option<(Sentence, Model)>,
}

fn aim(opened: &Opened, args: &SetModelArgs) -> Result<Aim> {
    let policy = &opened.policy;
    let model = allowed(policy, &args.model)?;
    let in_use = policy.in_use(&model, &opened.now);
    if *in_use != model {
        // Both names are in the policy, so every reader may see them.
        let [model, now] = [&model, in_use].map(|model| Public::new(model.as_str().to_owned()));
        return Err(EditProblem::Withdrawn { model, now }.into());
    }
    let backend = opened.backend(Probe::Nothing)?;
    let snapshot = backend.snapshot()?;
    let id = find_registered(&args.chat, snapshot.as_ref())?;
    refuse_former(opened, &id)?;
    let entry = find_entry(snapshot.as_ref(), &id)?;
    let chat = entry.map_or_else(|| Chat { id: id.as_str().into(), ..Chat::default() }, |entry| entry.chat);
    let chat = policy.with_tier(chat);
    let capabilities = backend.capabilities();
    let cannot = capabilities.unmanaged(&chat).map(str::to_owned).or_else(|| capabilities.refuses_model(&model));
    if let Some(why) = cannot {
        let (chat, model) = (opened.name(&id), model.as_str().into());
        return Err(EditProblem::CannotBeSet { chat, model, why: why.into() }.into());
    }
    let decision = resolve(policy, &chat, Some(model.as_str()).into(), &opened.now);
    let otherwise = decision.model.filter(|decided| **decided != model).map(|decided| {
        let Because { rule, at } = decision.because;
        (sentence!("{}:{} {}", at.file.shown(), at.line, opened.names.rule(rule, &id)), decided.clone())
    });
    let named = matches!(opened.names, Names::Own).then_some(chat.contact_name.as_deref()).flatten();
    let contact = named.filter(|name| !name.is_empty()).map(str::to_owned);
    Ok(Aim { chat: id, model, contact, otherwise })
}

/// Refuses a chat that already has an override under another id, one that the chat had before or will have: two overrides of one chat are
/// a mistake of a policy.
fn refuse_former(opened: &Opened, chat: &str) -> Result<()> {
    let Some(id) = opened.policy.former.get(chat) else { return Ok(()) };
    let (chat, id) = (opened.name(chat), opened.name(id));
    Err(EditProblem::FormerId { chat, id }.into())
}

fn allowed(policy: &Policy, name: &str) -> Result<Model> {
    let known = || policy.allowed.iter().map(Model::as_str);
    policy.allowed.iter().find(|model| model.as_str() == name).cloned().ok_or_else(|| {
        let typed = format!("{name:?}").into();
        if let Some(model) = policy.aliases.get(name) {
            return EditProblem::Spelling { typed, model: model.as_str().into() }.into();
        }
        let near = suggest::nearest(name, known()).map(Foreign::from);
        EditProblem::NotAllowed { typed, near, allowed: suggest::list(known()).unwrap_or_default().into() }.into()
    })
}
