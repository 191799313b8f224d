//! The edge: arguments, environment, clock and signals go in, text and an exit code come out.

#![allow(clippy::disallowed_methods, reason = "the edge reads the environment and the clock for all other rooms")]

mod args;
mod color;
mod commands;
mod completion;
mod contacts;
mod exit;
mod gateway;
mod outputs;
mod paths;
mod postgres;
mod problem;
mod recovered;
mod run;
mod terminal;
mod trace;
mod workspace;
mod zone;

use std::io::{self, Write};
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::cli::color::Color;
use crate::cli::commands::Cli;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::error::{Bug, Error};
use crate::report::escape::escape;

/// The whole program.
pub fn main() -> ExitCode {
    if completion::answer(Cli::command) {
        return Exit::Done.into();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = harmless(with_its_name_here(error));
            let printed = print(&error);
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed pipe ends the printing.
            let failed = printed.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
            return match (asked_for, failed) {
                (true, false) => Exit::Done,
                (true, true) => Exit::Error,
                (false, _) => Exit::Usage,
            }
            .into();
        }
    };
    let terminal = Terminal::new(&cli.place, cli.common());
    run::signals::survive_file_size_limit();
    if let Err((why, hint)) = cli.check() {
        terminal.release();
        terminal.refused(why, hint);
        return Exit::Usage.into();
    }
    match cli.run(&terminal) {
        Ok(exit) => exit.into(),
        Err(error) => {
            terminal.release();
            let exit = Exit::of_error(&error);
            terminal.failure(&ours(error));
            exit.into()
        }
    }
}

/// The error of a command, all of which are errors of this library.
fn ours(error: anyhow::Error) -> Error {
    error.downcast().unwrap_or_else(|_| Bug("a command failed with an error that is none of its own").into())
}

/// Prints the help, the version, or what is wrong with the arguments.
fn print(error: &clap::Error) -> io::Result<()> {
    let color = Color::of_arguments();
    let (mut out, choice): (Box<dyn Write>, ColorChoice) = if error.use_stderr() {
        (Box::new(io::stderr()), color.on(&io::stderr()))
    } else {
        (Box::new(io::stdout()), color.on(&io::stdout()))
    };
    let text = error.render();
    let text = if choice == ColorChoice::Never { text.to_string() } else { text.ansi().to_string() };
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Commands of other tools, and what does the same here.
const ELSEWHERE: [(&str, &str); 2] = [("validate", "reconcile check"), ("lint", "reconcile check")];

/// The error with what a command of another tool is called here, in the place of commands that are spelled alike.
fn with_its_name_here(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let Some((_, here)) = ELSEWHERE.iter().find(|(name, _)| name == typed) else { return error };
    let tip = StyledStr::from(format!("here it is `{here}`"));
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    error
}

/// The error with what the user typed made safe to show: with `--redact` that may be the name of a chat.
fn harmless(mut error: clap::Error) -> clap::Error {
    let redact = std::env::args_os().any(|argument| argument == "--redact");
    let told: Vec<(ContextKind, ContextValue)> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in told {
        let typed = match kind {
            ContextKind::InvalidValue | ContextKind::InvalidSubcommand => true,
            ContextKind::InvalidArg => error.kind() == ErrorKind::UnknownArgument,
            _ => false,
        };
        if let ContextValue::String(text) = value {
            let text = if typed && redact { "…".into() } else { escape(&text) };
            error.insert(kind, ContextValue::String(text.into_owned()));
        }
    }
    error
}
