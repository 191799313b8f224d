//! `reconcile undo`: the old models of one run, as overrides, as if each had been set by hand.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use crate::apply::Backend;
use crate::backend::Probe;
use crate::chat::Model;
use crate::cli::args::{EditArgs, End, PlaceArgs, until};
use crate::cli::commands::overrides::{Change, Decided, edit_and_run};
use crate::cli::commands::problem::EditProblem;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::Opened;
use crate::error::Result;
use crate::foreign::{Foreign, Public, Sentence, sentence};
use crate::plan::history_lines::JsonOverride;
use crate::plan::json::{JsonRow, JsonRun};
use crate::policy::{Setting, Until};
use crate::registry::Key;

/// What stands for the name of the newest run that changed something. The name of a run begins with a digit.
pub(crate) const LAST: &str = "last";

#[derive(Clone, Debug, Args)]
pub(crate) struct UndoArgs {
    /// The run, as the history names it; the beginning of its name is enough, and `last` is the newest that changed a model
    /// or an override
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &UndoArgs) -> anyhow::Result<Exit> {
    edit_and_run(terminal, place, ("undo", &args.edit), |opened| {
        let decided = take_back(opened, &args.run)?;
        if !decided.changes.is_empty() {
            return Ok(decided);
        }
        decided.tell(terminal, opened);
        Err(EditProblem::NothingToUndo { run: args.run.as_str().into() }.into())
    })
}

/// The overrides that bring back what the rows of a run had before, and why some of them are left as they are.
fn take_back(opened: &Opened, name: &str) -> Result<Decided> {
    let backend = opened.backend(Probe::Nothing)?;
    let Found { run, touched_since } = find(backend.as_ref(), name)?;
    if run.part > 1 {
        return Err(EditProblem::RunCutOff { run: run.run.into() }.into());
    }
    if !run.by.overrides.is_empty() {
        return Ok(restored(opened, &run));
    }
    let mut now = BTreeMap::new();
    let edited = run.changes.iter().filter(|row| row.is_edit());
    let edited: BTreeSet<&str> = edited.map(|row| row.chat_id.as_ref()).collect();
    backend.snapshot()?.find(&[Key::Id], &edited, &mut |entry| {
        let model = entry.model.as_deref().map(|model| opened.policy.canonical(model).to_owned());
        now.insert(entry.chat.id.into_owned(), model);
    })?;
    let mut decided = Decided::default();
    for row in run.changes.iter().filter(|row| row.is_edit()) {
        let chat = row.chat_id.as_ref();
        let reason = format!("undo of {}", run.run);
        let begun = begun(opened, chat, &reason).cloned();
        let present = Present { model: now.get(chat), is_touched: touched_since.contains(chat) };
        match begun.map_or_else(|| old_model(opened, row, present), Ok) {
            Ok(model) => {
                decided
                    .changes
                    .insert(chat.to_owned(), Change::Set { model, until: None, then: None, reason: Some(reason) });
            }
            Err(why) => decided.notes.push(left(opened, chat, &why)),
        }
    }
    Ok(decided)
}

/// The overrides as they were before a command changed them, and why some are left as they are.
fn restored(opened: &Opened, run: &JsonRun) -> Decided {
    let mut decided = Decided::default();
    for edit in &run.by.overrides {
        let now = opened.policy.chats.get(&edit.chat_id).map(JsonOverride::from);
        // One that is back already is reconciled once more: a command may have died before it was finished.
        let is_as_left = now == edit.after || now == edit.before;
        let change = match &edit.before {
            _ if !is_as_left => Err("its override was changed since".into()),
            None => Ok(Change::Remove),
            Some(before) => set_again(opened, before),
        };
        match change {
            Ok(change) => _ = decided.changes.insert(edit.chat_id.clone(), change),
            Err(why) => decided.notes.push(left(opened, &edit.chat_id, &why)),
        }
    }
    decided
}

/// That a chat is left as it is, and why.
fn left(opened: &Opened, chat: &str, why: &Sentence) -> (String, Sentence) {
    (chat.to_owned(), sentence!("{} is left as it is: {}", opened.name(chat), why))
}

/// A model that is to be set again.
fn allowed(opened: &Opened, name: &str) -> Result<Model, Sentence> {
    let model = opened.policy.allowed.iter().find(|model| model.as_str() == name).cloned();
    model.ok_or_else(|| sentence!("the policy does not allow {}", Foreign::from(name)))
}

fn set_again(opened: &Opened, before: &JsonOverride) -> Result<Change, Sentence> {
    let JsonOverride { model, until: ended, then, reason } = before;
    let model = model.as_ref().ok_or("it was not managed: write managed = false by hand")?;
    Ok(Change::Set {
        model: allowed(opened, model)?,
        until: ended.as_deref().map(ended_at).transpose()?,
        then: then.as_ref().map(|then| allowed(opened, then)).transpose()?,
        reason: reason.clone(),
    })
}

/// The end of an override, as the history tells of it.
fn ended_at(text: &str) -> Result<Until, Sentence> {
    match until(text).map_err(Foreign::from)? {
        End::At(until) => Ok(until),
        End::In(_) => {
            let text = Foreign::from(format!("{text:?}"));
            Err(sentence!("the history has an end of the override that is not a time: {}", text))
        }
    }
}

/// The model that this undo has set already: then it is repeated, because it died before it was finished.
fn begun<'o>(opened: &'o Opened, chat: &str, reason: &str) -> Option<&'o Model> {
    let entry = opened.policy.chats.get(chat).filter(|entry| entry.until.is_none())?;
    match &entry.setting {
        Setting::Model(model) if entry.reason.as_deref() == Some(reason) => Some(model),
        Setting::Model(_) | Setting::Unmanaged => None,
    }
}

/// What has become of a chat since a run.
#[derive(Clone, Copy)]
struct Present<'a> {
    /// Its model in the registry, if it has one; `None` where the chat is no longer registered.
    model: Option<&'a Option<String>>,
    /// Whether a later run has changed its model.
    is_touched: bool,
}

/// The model that a chat had before a run, or why it cannot be brought back.
fn old_model(opened: &Opened, row: &JsonRow, present: Present) -> Result<Model, Sentence> {
    let Some(now) = present.model else { return Err("it is no longer registered".into()) };
    let before = row.before.as_deref().map(|model| opened.policy.canonical(model));
    if !present.is_touched && before.is_some() && now.as_deref() == before {
        return Err("it has its old model".into());
    }
    if present.is_touched || now.as_deref() != row.after.as_deref() {
        return Err("its model was changed since".into());
    }
    let before = before.ok_or("it had no model before, which no override can restore")?;
    allowed(opened, before)
}

/// A run that is to be taken back.
struct Found {
    run: JsonRun<'static>,
    /// The chats that later runs have changed.
    touched_since: BTreeSet<String>,
}

/// The run of that name.
fn find(backend: &dyn Backend, name: &str) -> Result<Found> {
    let mut found: Vec<JsonRun> = Vec::new();
    let mut touched_since = BTreeSet::new();
    for run in backend.history()? {
        let run = run?;
        if name == LAST && run.is_change() {
            found.push(run);
            break;
        }
        if !name.is_empty() && run.run.starts_with(name) {
            found.push(run);
        } else if found.is_empty() {
            touched_since.extend(run.changes.iter().filter(|row| row.is_edit()).map(|row| row.chat_id.to_string()));
        }
    }
    match <[JsonRun; 1]>::try_from(found) {
        Ok([run]) => Ok(Found { run, touched_since }),
        Err(none) if none.is_empty() && name == LAST => Err(EditProblem::NoRunToUndo.into()),
        Err(none) if none.is_empty() => Err(EditProblem::NoSuchRun { typed: format!("{name:?}").into() }.into()),
        Err(several) => {
            let runs = several.into_iter().map(|run| Public::new(run.run.into_owned())).collect();
            Err(EditProblem::AmbiguousRun { typed: format!("{name:?}").into(), runs }.into())
        }
    }
}
