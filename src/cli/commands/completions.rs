//! `reconcile completions`: what makes a shell ask this program to complete its arguments.

use clap::Args;

use crate::cli::args::one_of;
use crate::cli::completion::shell::{SHELLS, Shell};
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::error::{Bug, Result};

#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = one_of(&SHELLS))]
    shell: Shell,
}

pub(crate) fn run(terminal: &Terminal, args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    let written = args.shell.write_registration(&mut script);
    let script = written.ok().and_then(|()| String::from_utf8(script).ok());
    let script = script.ok_or(Bug("the completion script cannot be made"))?;
    terminal.to_stdout(|page| page.lines(&script))?;
    Ok(Exit::Done)
}
