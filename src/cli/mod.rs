//! The edge: arguments, environment, clock and signals go in, text and an exit code come out.

#![allow(clippy::disallowed_methods, reason = "the edge reads the environment and the clock for everybody else")]

mod args;
mod commands;
mod exit;
mod outputs;
mod paths;
mod recovered;
mod run;
mod terminal;
mod workspace;
mod zone;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::commands::Cli;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::report::escape::escape;

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = harmless(error);
            let printed = error.print();
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
    let terminal = Terminal::new(&cli.place, &cli.run);
    run::signals::survive_file_size_limit();
    if let Err((why, hint)) = cli.check() {
        terminal.release();
        terminal.error(why, Some(hint));
        return Exit::Usage.into();
    }
    match cli.run(&terminal) {
        Ok(exit) => exit.into(),
        Err(error) => {
            terminal.release();
            terminal.failure(&error);
            Exit::of_error(&error).into()
        }
    }
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
