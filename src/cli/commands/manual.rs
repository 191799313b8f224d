//! `reconcile completions` and `reconcile man`: both made from the arguments that the program takes.

use std::io::{self, Write};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, Args, Command};
use clap_complete::{Generator, Shell};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::error::Result;

#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<Shell>()))]
    shell: Shell,
}

pub(crate) fn completions(terminal: &Terminal, mut command: Command, args: &CompletionsArgs) -> Result<Exit> {
    command.set_bin_name(command.get_name().to_owned());
    command.build();
    terminal.to_stdout(|out| args.shell.try_generate(&command, out))?;
    Ok(Exit::Done)
}

pub(crate) fn man(terminal: &Terminal, command: Command) -> Result<Exit> {
    terminal.to_stdout(|out| page(command.disable_help_subcommand(true), out))?;
    Ok(Exit::Done)
}

/// One page with everything: it can be read without being installed, as pages that point to each other cannot.
fn page(mut command: Command, out: &mut dyn Write) -> io::Result<()> {
    command.build();
    let whole = Man::new(command.clone());
    whole.render_title(out)?;
    whole.render_name_section(out)?;
    whole.render_synopsis_section(out)?;
    whole.render_description_section(out)?;
    whole.render_options_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    for subcommand in command.get_subcommands() {
        // What every command takes is told above.
        let told = |arg: &Arg| arg.is_global_set() || arg.get_id() == "help";
        let own = subcommand.clone().mut_args(|arg| if told(&arg) { arg.hide(true) } else { arg });
        section(&own, out)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    for paragraph in after.split("\n\n") {
        let (heading, body) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        roff.control("SH", [heading.trim_end_matches(':').to_uppercase().as_str()]).control("nf", []);
        for line in body.lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []);
    }
    roff.to_writer(out)
}

/// A subcommand as a part of the page: what would be sections of a page of its own are paragraphs.
fn section(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    writeln!(out, ".SS {}", command.get_name())?;
    let usage = command.clone().render_usage().to_string();
    Roff::new().text([roman(usage.trim_start_matches("Usage: "))]).to_writer(out)?;
    for line in String::from_utf8_lossy(&text).lines() {
        writeln!(out, "{}", if line.starts_with(".SH ") { ".PP" } else { line })?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("PP", []).control("nf", []);
    after.lines().for_each(|line| _ = roff.text([roman(line)]));
    roff.control("fi", []).to_writer(out)
}
