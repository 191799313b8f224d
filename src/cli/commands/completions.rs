//! `reconcile completions`: made from the arguments that the program takes.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Command};
use clap_complete::{Generator, Shell};

use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::error::Result;

#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<Shell>()))]
    shell: Shell,
}

pub(crate) fn run(terminal: &Terminal, mut command: Command, args: &CompletionsArgs) -> Result<Exit> {
    command.set_bin_name(command.get_name().to_owned());
    command.build();
    terminal.to_stdout(|out| args.shell.try_generate(&command, out))?;
    Ok(Exit::Done)
}
