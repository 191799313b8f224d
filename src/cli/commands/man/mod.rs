//! `reconcile man`: the manual pages. Those of commands are made from the arguments that they take, that of the policy from
//! its schema.

mod policy;
mod sections;

use std::io::{self, Write};

use clap::{Arg, Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::commands::man::sections::{ENVIRONMENT, FILES, examples, list, verbatim};
use crate::cli::commands::problem::CommandProblem;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::error::{Bug, Result};
use crate::suggest;

/// The page of the policy.
const POLICY: &str = "reconcile.toml";

/// What the help calls them, and manual pages by custom.
const EXIT_CODES: &str = "Exit codes";
const EXIT_STATUS: &str = "Exit status";

#[derive(Clone, Debug, Args)]
pub(crate) struct ManArgs {
    /// Which page: a command, or reconcile.toml for the keys of the policy; without it, one page with every command
    page: Option<String>,
}

pub(crate) fn run(terminal: &Terminal, command: Command, args: &ManArgs) -> Result<Exit> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    let written = match args.page.as_deref() {
        None => of_all(&command, &mut page),
        Some(POLICY) => return policy::page().and_then(|page| print(terminal, &page.render())),
        Some(name) => of_one(&command, named(&command, name)?, &mut page),
    };
    written.map_err(|_| Bug("the manual page cannot be made"))?;
    print(terminal, &String::from_utf8_lossy(&page))
}

fn print(terminal: &Terminal, manual: &str) -> Result<Exit> {
    terminal.to_stdout(|page| page.lines(manual))?;
    Ok(Exit::Done)
}

/// The command of that name.
fn named<'c>(command: &'c Command, name: &str) -> Result<&'c Command> {
    command.find_subcommand(name).ok_or_else(|| {
        let known: Vec<&str> = command.get_subcommands().map(Command::get_name).chain([POLICY]).collect();
        let advice = suggest::advice(name, known.iter().copied()).into();
        CommandProblem::NoManualPage { typed: format!("{name:?}").into(), advice }.into()
    })
}

/// One page with everything: it can be read without being installed, as pages that point to each other cannot.
fn of_all(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    begin(command, out)?;
    writeln!(out, ".SH COMMANDS")?;
    for subcommand in command.get_subcommands() {
        paragraphs(subcommand, out)?;
    }
    let mut roff = Roff::new();
    for (heading, body) in after_help(command).split("\n\n").filter_map(|part| part.split_once(":\n")) {
        verbatim(&mut roff, if heading == EXIT_CODES { EXIT_STATUS } else { heading }, body);
    }
    list(&mut roff, "ENVIRONMENT", &ENVIRONMENT);
    list(&mut roff, "FILES", &FILES);
    roff.to_writer(out)
}

/// The page of one command.
fn of_one(whole: &Command, command: &Command, out: &mut dyn Write) -> io::Result<()> {
    begin(command, out)?;
    let mut roff = Roff::new();
    let notes = after_help(command);
    if !notes.is_empty() {
        verbatim(&mut roff, "NOTES", &notes);
    }
    list(&mut roff, "ENVIRONMENT", &ENVIRONMENT);
    list(&mut roff, "FILES", &FILES);
    let whole = after_help(whole);
    let codes =
        whole.split("\n\n").filter_map(|part| part.split_once(":\n")).find(|(heading, _)| *heading == EXIT_CODES);
    verbatim(&mut roff, EXIT_STATUS, codes.map_or("", |(_, codes)| codes));
    verbatim(&mut roff, "EXAMPLES", examples(command.get_name()));
    verbatim(&mut roff, "SEE ALSO", "reconcile(1), reconcile.toml(5)");
    roff.to_writer(out)
}

fn begin(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let man = Man::new(command.clone()).source(concat!("reconcile ", env!("CARGO_PKG_VERSION")));
    man.render_title(out)?;
    man.render_name_section(out)?;
    writeln!(out, ".SH SYNOPSIS")?;
    usage(command).to_writer(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)
}

/// A command as a part of the page of all: what are sections in a page of its own are paragraphs.
fn paragraphs(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    // What every command takes is told above.
    let told = |arg: &Arg| arg.is_global_set() || arg.get_id() == "help";
    let man = Man::new(command.clone().mut_args(|arg| if told(&arg) { arg.hide(true) } else { arg }));
    let mut text = Vec::new();
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    writeln!(out, ".SS {}", command.get_name())?;
    usage(command).to_writer(out)?;
    for line in String::from_utf8_lossy(&text).lines() {
        writeln!(out, "{}", if line.starts_with(".SH ") { ".PP" } else { line })?;
    }
    let mut roff = Roff::new();
    roff.control("PP", []).control("nf", []);
    after_help(command).lines().for_each(|line| _ = roff.text([roman(line)]));
    roff.control("fi", []).to_writer(out)
}

/// How the command is written: unlike the synopsis of `clap_mangen`, with the `--` before a command that is run.
fn usage(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.text([roman(usage.trim_start_matches("Usage: "))]);
    roff
}

fn after_help(command: &Command) -> String {
    command.get_after_help().map(ToString::to_string).unwrap_or_default()
}
