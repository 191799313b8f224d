//! `reconcile completions`: what makes a shell ask this program to complete its arguments.

use clap::Args;

use crate::cli::args::one_of;
use crate::cli::completion::shell::{SHELLS, Shell};
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::error::Result;

#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = one_of(&SHELLS))]
    shell: Shell,
}

pub(crate) fn run(terminal: &Terminal, args: &CompletionsArgs) -> Result<Exit> {
    terminal.to_stdout(|out| args.shell.write_registration(out))?;
    Ok(Exit::Done)
}
