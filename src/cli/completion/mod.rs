//! What a shell is offered while an argument is typed. What `reconcile completions` prints makes the shell ask for it.

mod bash;
mod known;
mod names;
pub(crate) mod shell;
mod words;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::sync::Arc;

use clap::builder::Str;
use clap::{Arg, Command, FromArgMatches};
use clap_complete::{ArgValueCompleter, CompletionCandidate};

use crate::cli::args::PlaceArgs;
use crate::cli::completion::known::{Known, Privacy};
use crate::cli::completion::names::CalledBy;
use crate::cli::completion::shell::{Question, Shell, VARIABLE};

/// These commands take no contact's name for a chat. A launch would register a chat of that id.
const WITHOUT_CONTACTS: [&str; 2] = ["launch", "record-session"];

/// Answers a shell that asks, and says whether one did. Where there is no answer, nothing is printed: a message would stand
/// in the line that is being typed.
pub(crate) fn answer(command: impl Fn() -> Command) -> bool {
    let Some(shell) = std::env::var(VARIABLE).ok().and_then(|name| Shell::named(&name)) else { return false };
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|argument| argument != "--") {
        return false;
    }
    let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let question = shell.question(&arguments);
    let mut offered = Vec::new();
    if let Some(known) = known(command(), &question)
        && shell.answer(with_values(command(), &Arc::new(known)), &question, &mut offered).is_ok()
    {
        // A shell that is gone needs no answer.
        _ = io::stdout().write_all(&offered);
    }
    true
}

/// What is known where the words lead, which are read as a run reads them. Where reading stops at one of them, those before
/// it count.
fn known(command: Command, question: &Question) -> Option<Known> {
    let no_words = command.clone().try_get_matches_from([""]).ok()?;
    let mut place = PlaceArgs::from_arg_matches(&no_words).ok()?;
    place.update_from_arg_matches(&command.ignore_errors(true).try_get_matches_from(&question.words).ok()?).ok()?;
    let is_redacted = question.words.iter().any(|word| word == "--redact");
    Some(Known::new(place, if is_redacted { Privacy::Redacted } else { Privacy::Plain }))
}

/// The command, with what is known for each argument that is a chat, a tier, a model or a run.
fn with_values(command: Command, known: &Arc<Known>) -> Command {
    let is_without = WITHOUT_CONTACTS.contains(&command.get_name());
    let called_by = if is_without { CalledBy::Session } else { CalledBy::Contact };
    command.mut_args(|arg| with_value(arg, called_by, known)).mut_subcommands(|command| with_values(command, known))
}

fn with_value(arg: Arg, called_by: CalledBy, known: &Arc<Known>) -> Arg {
    let known = Arc::clone(known);
    let name = arg.get_value_names().and_then(<[Str]>::first).map(Str::as_str).unwrap_or_default();
    match name {
        "CHAT" => arg.add(completer(move |typed| known.chats(typed, called_by))),
        "TIER" => arg.add(completer(move |typed| known.tiers(typed))),
        "MODEL" => arg.add(completer(move |typed| known.models(typed))),
        "RUN" => arg.add(completer(move |typed| known.runs(typed))),
        _ => arg,
    }
}

/// Completes what is typed, which is no name where it is not UTF-8.
fn completer(values: impl Fn(&str) -> Vec<CompletionCandidate> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| typed.to_str().map(&values).unwrap_or_default())
}
