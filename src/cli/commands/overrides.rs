//! Edits of overrides in the policy, followed by a run for their chats. The edit is planned on the policy in memory, and
//! written only when it is clear that the run is not refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chat::Model;
use crate::cli::args::{EditArgs, PlaceArgs};
use crate::cli::commands::problem::EditProblem;
use crate::cli::exit::Exit;
use crate::cli::run::execute;
use crate::cli::run::options::RunOptions;
use crate::cli::run::policy_edit::{PolicyEdit, PolicyEdits};
use crate::cli::run::signals::Interrupt;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Opened, open_quietly};
use crate::error::{Bug, Error, Result};
use crate::foreign::{Foreign, Public, Sentence, sentence};
use crate::plan::history_lines::{JsonEdit, JsonOverride};
use crate::plan::select::Selector;
use crate::policy::edit::{Wanted, set_all, unset, with_comment};
use crate::policy::{self, Override, Policy, Setting, Source, Until};
use crate::report::escape::escape;
use crate::sources::{PolicyFile, check_size};

/// How often a policy is read again that other programs edit at the same time.
const TRIES: usize = 20;

/// A change of one chat's override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Set { model: Model, until: Option<Until>, then: Option<Model>, reason: Option<String> },
    Remove,
}

/// The changes that a command makes to a policy.
#[derive(Default)]
pub(crate) struct Decided {
    pub(crate) changes: BTreeMap<String, Change>,
    /// The names of the chats' contacts, by chat id, for comments behind new overrides.
    pub(crate) contacts: BTreeMap<String, String>,
    /// Notes about what is left unchanged, each with the id of its chat.
    pub(crate) notes: Vec<(String, Sentence)>,
}

impl Decided {
    /// Shows the notes.
    pub(crate) fn tell(&self, terminal: &Terminal, opened: &Opened) {
        let notes = self.notes.iter().map(|(chat, note)| (chat.as_str(), note));
        for (_, note) in opened.named(notes) {
            terminal.note(note);
        }
    }
}

/// Makes the changes that `decide` returns for the policy, and reconciles the chats that they are about.
pub(crate) fn edit_and_run(
    terminal: &Terminal,
    place: &PlaceArgs,
    (command, args): (&str, &EditArgs),
    decide: impl Fn(&Opened) -> Result<Decided>,
) -> anyhow::Result<Exit> {
    if place.redact && args.dry_run && args.report.format.shows_policy() {
        let why = "the edit of a policy cannot be redacted: it is the policy's own text";
        terminal.refused(why, "show json or markdown instead");
        return Ok(Exit::Usage);
    }
    let interrupt = if args.dry_run { Interrupt::default() } else { Interrupt::listen()? };
    let Prepared { mut opened, decided, edits } = prepare(terminal, place, args, &interrupt, decide)?;
    decided.tell(terminal, &opened);
    let Decided { changes, .. } = decided;
    let sources = opened.files.sources.iter().map(|source| {
        let edit = edits.iter().find(|edit| edit.name == source.name);
        Source::named(Arc::clone(&source.name), edit.map_or(&source.text, |edit| &edit.after).clone())
    });
    opened.files.sources = sources.collect();
    let lost = changes.iter().filter_map(|(chat, change)| {
        let lost = lost(opened.policy.chats.get(chat)?, change);
        Some(lost.map(|lost| (chat.as_str(), lost)).collect::<Vec<_>>())
    });
    let lost = opened.named(lost.flatten());
    let edited = policy::read(&opened.files.sources);
    for (chat, change) in &changes {
        if !edited.as_ref().is_ok_and(|(policy, _)| is_made(policy, chat, change)) {
            return Err(cannot_edit(opened.name(chat)).into());
        }
    }
    let (edited, _) = edited.map_err(Error::Invalid)?;
    let overrides = changes.keys().map(|chat| {
        let entry = |policy: &Policy| policy.chats.get(chat).map(JsonOverride::from);
        JsonEdit { chat_id: chat.clone(), before: entry(&opened.policy), after: entry(&edited) }
    });
    let overrides = overrides.filter(|edit| edit.before != edit.after).collect();
    opened.policy = edited;
    let selector = Selector { ids: changes.into_keys().collect(), ..Selector::default() };
    let (allow_changes, report) = (args.allow_changes, args.report.clone());
    let edits = PolicyEdits::new(edits);
    let options = RunOptions {
        command,
        overrides,
        selector,
        dry_run: args.dry_run,
        allow_changes,
        report,
        edits,
        ..RunOptions::default()
    };
    let exit = execute(terminal, place, &opened, &options, interrupt)?;
    if args.dry_run || options.edits.any_made() {
        for (chat, lost) in lost {
            terminal.note(sentence!("{}: {}", chat, lost));
        }
    }
    for file in options.edits.edited_files() {
        let is_tracked = in_work_tree(file.path());
        let file = file.shown();
        if is_tracked {
            terminal.note(sentence!("{} is in a git work tree: commit the change", file));
        } else {
            terminal.note(sentence!("{} was edited", file));
        }
    }
    Ok(exit)
}

/// A policy whose files are locked, and the edits to be made in them.
struct Prepared {
    opened: Opened,
    decided: Decided,
    /// The files that change. Each is locked, except for a dry run.
    edits: Vec<PolicyEdit>,
}

/// Reads the policy, locks the files to be edited and reads the policy again, until both readings are equal.
fn prepare(
    terminal: &Terminal,
    place: &PlaceArgs,
    args: &EditArgs,
    interrupt: &Interrupt,
    decide: impl Fn(&Opened) -> Result<Decided>,
) -> anyhow::Result<Prepared> {
    let mut locked: BTreeMap<PathBuf, PolicyFile> = BTreeMap::new();
    for tried in 0..TRIES {
        let opened = open_quietly(place)?.ended_by(interrupt.give_up());
        if tried == 0 {
            terminal.diagnostics(&opened.warnings);
        }
        if opened.names.is_snapshot() {
            return Err(Error::from(EditProblem::EditOfSnapshot).into());
        }
        let decided = decide(&opened)?;
        let mut edits = edits(&opened, &decided)?;
        let paths: BTreeSet<&Path> = edits.iter().map(|edit| edit.name.path()).collect();
        if args.dry_run || paths.iter().copied().eq(locked.keys().map(PathBuf::as_path)) {
            for edit in &mut edits {
                edit.file = locked.remove(edit.name.path());
            }
            return Ok(Prepared { opened, decided, edits });
        }
        locked.clear();
        let give_up = || interrupt.is_asked();
        for path in paths {
            locked.insert(path.to_owned(), PolicyFile::lock(path, place.lock_timeout, &give_up)?);
        }
    }
    Err(Error::from(EditProblem::PolicyUnsteady).into())
}

/// The files that change, each with its text before and after.
fn edits(opened: &Opened, Decided { changes, contacts, .. }: &Decided) -> Result<Vec<PolicyEdit>> {
    let mut files: BTreeMap<&Path, (&Source, BTreeMap<&str, &Change>)> = BTreeMap::new();
    for (chat, change) in changes {
        let source = file_of(opened, chat).ok_or(Bug("an override is in none of the policy's files"))?;
        let (_, changes) = files.entry(source.name.path()).or_insert_with(|| (source, BTreeMap::new()));
        if is_made(&opened.policy, chat, change) {
            continue;
        }
        changes.insert(chat, change);
    }
    let edit = |(source, changes): (&Source, BTreeMap<&str, &Change>)| {
        let mut after = edited(&source.text, &changes).map_err(|chat| cannot_edit(opened.name(chat)))?;
        let is_new = |chat: &&str| !opened.policy.chats.contains_key(*chat);
        for chat in changes.into_keys().filter(is_new) {
            let commented = contacts.get(chat).and_then(|name| with_comment(&after, chat, &escape(name)));
            after = commented.unwrap_or(after);
        }
        check_size(source.name.shown(), after.as_bytes())?;
        Ok(PolicyEdit { name: Arc::clone(&source.name), before: source.text.clone(), after, file: None })
    };
    files.into_values().map(edit).collect()
}

/// The text of a file after the changes.
///
/// # Errors
/// The chat whose override cannot be edited without risk.
fn edited<'c>(text: &str, changes: &BTreeMap<&'c str, &Change>) -> Result<String, &'c str> {
    let mut text = text.to_owned();
    let mut overrides = BTreeMap::new();
    for (chat, change) in changes {
        match change {
            Change::Set { model, until, then, reason } => {
                let (until, then, reason) = (until.as_ref(), then.as_ref(), reason.as_deref());
                let wanted = Wanted { model, until, then, reason };
                overrides.insert(*chat, wanted);
            }
            // The text is parsed for each, but no command removes more than one.
            Change::Remove => text = unset(&text, chat).ok_or(*chat)?,
        }
    }
    set_all(&text, &overrides)
}

fn cannot_edit(chat: Public) -> Error {
    EditProblem::NotEditable { chat }.into()
}

/// The file that has the chat's override, else the main file of the policy.
fn file_of<'o>(opened: &'o Opened, chat: &str) -> Option<&'o Source> {
    let main = &opened.policy.fallback.because.at.file;
    let name = opened.policy.chats.get(chat).map_or(main, |entry| &entry.because.at.file);
    opened.files.sources.iter().find(|source| source.name == *name)
}

/// The settings of the previous override that the change removes without replacing them, one sentence each.
fn lost(entry: &Override, change: &Change) -> impl Iterator<Item = Sentence> {
    let new = match change {
        Change::Set { until, reason, .. } => Some((until, reason)),
        Change::Remove => None,
    };
    let managed = (entry.setting == Setting::Unmanaged).then(|| "the chat was not managed, and now is".into());
    let until = entry.until.as_ref().filter(|_| new.is_some_and(|(until, _)| until.is_none()));
    let until = until.map(|until| {
        let preposition = until.preposition();
        sentence!("the override ended {} {}, and now has no end", preposition, until)
    });
    let keeps = |then: &Model| match change {
        Change::Set { model, then: kept, .. } => model == then || kept.as_ref() == Some(then),
        Change::Remove => false,
    };
    let then = entry.then.as_ref().filter(|then| !keeps(then));
    let then = then.map(|then| sentence!("its `then`, {}, was removed", Foreign::from(then.as_str())));
    // A reason is about its override, so it is lost only where a new override takes the place of that one.
    let reason = entry.reason.as_ref().filter(|_| new.is_some_and(|(_, reason)| reason.is_none()));
    let reason = reason.map(|_| "the reason of the earlier override was removed".into());
    managed.into_iter().chain(until).chain(then).chain(reason)
}

fn is_made(policy: &Policy, chat: &str, change: &Change) -> bool {
    match (policy.chats.get(chat), change) {
        (None, Change::Remove) => true,
        (Some(entry), Change::Set { model, until, then, reason }) => {
            entry.setting == Setting::Model(model.clone())
                && (&entry.until, &entry.then, &entry.reason) == (until, then, reason)
        }
        _ => false,
    }
}

fn in_work_tree(path: &Path) -> bool {
    let real: Option<PathBuf> = std::fs::canonicalize(path).ok();
    real.is_some_and(|real| real.ancestors().any(|above| above.join(".git").exists()))
}
