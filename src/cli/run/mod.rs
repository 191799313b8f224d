//! The main job: plan, and apply unless it is a dry run.

mod metrics;
pub(crate) mod options;
mod outcome;
pub(crate) mod policy_edit;
mod progress;
pub(crate) mod signals;

use std::path::Path;

use jiff::Timestamp;

use crate::apply::{self, Backend, Planned};
use crate::backend::file::Store;
use crate::backend::{DispatchBackend, FileBackend};
use crate::cli::args::{PlaceArgs, RunArgs};
use crate::cli::exit::Exit;
use crate::cli::outputs::{Outputs, refuse_needed};
use crate::cli::run::options::RunOptions;
use crate::cli::run::outcome::Ended;
use crate::cli::run::progress::Progress;
use crate::cli::run::signals::Interrupt;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Opened, author, beside_policy, needed_to_open, open, open_quietly};
use crate::error::{Error, Result};
use crate::plan::Goal;
use crate::policy::template::CommandLine;
use crate::policy::{Commands, Policy, Sessions};
use crate::report::Mode;
use crate::sources::{self, PolicyFiles};

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &RunArgs) -> anyhow::Result<Exit> {
    let interrupt = if args.dry_run { Interrupt::default() } else { Interrupt::listen()? };
    let options = RunOptions::of(args);
    let opened = open(terminal, place);
    if let Some(path) = options.metrics {
        let needed = opened.as_ref().map_or_else(|_| needed_to_open(place), Opened::needed);
        refuse_needed("--metrics", path, &options.needed(needed, place))?;
        metrics::check(path)?;
    }
    let result = opened.and_then(|opened| execute(terminal, place, opened, &options, interrupt));
    if let (Err(error), Some(path)) = (&result, options.metrics) {
        let registry = place.registry().unwrap_or_default();
        let (registry, exit) = (registry.display().to_string(), Exit::of_error(error));
        if let Err(another) = metrics::write(path, &registry, Timestamp::now(), exit, None) {
            terminal.release();
            terminal.failure(&another.into());
        }
    }
    result
}

/// Plans, and applies unless it is a dry run.
pub(crate) fn execute(
    terminal: &Terminal,
    place: &PlaceArgs,
    opened: Opened,
    options: &RunOptions,
    interrupt: Interrupt,
) -> anyhow::Result<Exit> {
    let needed = options.needed(opened.needed(), place).into_iter().chain(options.metrics.map(Path::to_owned));
    let outputs = Outputs::open(&options.report.output, &needed.collect::<Vec<_>>())?;
    let file = opened.store.file().display();
    if opened.names.is_snapshot() && !options.dry_run {
        return Err(Error::other(format!("{file} is a redacted snapshot, not a registry"))
            .with_hint("plan on it with --dry-run; apply the plan where the registry is, with --plan and --redact")
            .into());
    }
    let now = match options.at {
        Some(moment) => moment.in_zone(opened.now.time_zone().clone())?,
        None => opened.now.clone(),
    };
    let expected = options.expected()?.map(|expected| expected.redacted(opened.names.redaction().cloned()));
    let Opened { policy, files, policy_name, store, names, warnings, .. } = opened;
    let backend = backend(terminal, &policy, &files, &store, place, options)?;
    let goal = Goal {
        policy: &policy,
        now: &now,
        request: &options.request,
        allow_changes: options.allow_changes,
        expected: expected.as_ref(),
    };

    let warn = || {
        for (chat, entry, until) in policy.expired(&now) {
            let (chat, at) = (names.of(chat), &entry.because.at);
            terminal.warning(&format!("the override for {chat} ended with {until} ({}:{})", at.file, at.line));
        }
    };

    // Sessions outlive this run: a lock that our caller left open must not live on in them.
    close_fds::set_fds_cloexec(3, &[]);
    let (mode, Planned { plan, snapshot }, exit, error) = if options.dry_run {
        warn();
        let planned = apply::plan(&goal, &store, backend.as_ref())?;
        let exit = Exit::of_dry_run(&planned.plan, options.detailed_exitcode);
        (Mode::DryRun, planned, exit, None)
    } else {
        let locked = store.lock(place.lock_timeout, now.timestamp(), &|| interrupt.is_asked())?;
        let sources = sources::load(&place.policy())?.sources;
        if options.follows_policy && sources != files.sources {
            // What was set while it waited must not be set back.
            drop((locked, outputs));
            let again = open_quietly(place)?;
            if again.warnings != warnings {
                terminal.diagnostics(&again.warnings);
            }
            return execute(terminal, place, again, options, interrupt);
        }
        if options.edits.are_outdated(&files.sources, &sources) {
            return Err(Error::other(format!("{policy_name} was changed by somebody else meanwhile"))
                .with_hint("nothing of theirs was lost, and nothing was done: run again")
                .into());
        }
        warn();
        let locked = locked.on_behalf_of(author(place));
        let progress = Progress::new(interrupt, names.redaction().is_none());
        let apply = || match options.edits.make(&goal, &locked, backend.as_ref())? {
            Some(refused) => Ok(apply::refuse(refused)),
            None => progress.during(|| apply::apply(&goal, &locked, backend.as_ref(), &progress)),
        };
        let applied = match apply() {
            Err(error) if options.edits.any_made() => {
                terminal.failure(&error.into());
                options.edits.tell_alone(terminal);
                return Ok(Exit::Partly);
            }
            applied => applied?,
        };
        let exit = Exit::of_apply(&applied.planned.plan, applied.interrupted || applied.error.is_some());
        (Mode::Apply, applied.planned, exit, applied.error)
    };

    let plan = names.shown(plan);
    let ended = Ended { policy: &policy, policy_name: &policy_name, snapshot: &snapshot, plan: &plan, mode, now: &now };
    Ok(ended.show(terminal, options, outputs, exit, error))
}

fn backend<'a>(
    terminal: &Terminal,
    policy: &'a Policy,
    files: &PolicyFiles,
    store: &Store,
    place: &PlaceArgs,
    options: &RunOptions,
) -> anyhow::Result<Box<dyn Backend + 'a>> {
    Ok(match &policy.sessions {
        Sessions::File(commands) => {
            let asks = !options.dry_run || options.probe;
            refuse_exposed(commands, files, asks)?;
            if let Some(program) = commands.running.as_ref().map(CommandLine::program).filter(|_| asks)
                && !is_there(&program, &files.directory)
            {
                terminal.warning(&format!("there is no {program} to ask which sessions run: all count as running"));
            }
            Box::new(FileBackend::new(commands, files.directory.clone(), options.dry_run && options.probe))
        }
        Sessions::Dispatch(daemon) => {
            let socket = beside_policy(&place.policy(), &daemon.socket)?;
            Box::new(DispatchBackend::new(daemon, socket, store.owner()?))
        }
    })
}

/// Whether a command's program can be found.
fn is_there(program: &str, directory: &Path) -> bool {
    if program.contains('/') {
        return directory.join(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A user who can write the policy can run commands as the user who runs it. As root, only root may do that.
fn refuse_exposed(commands: &Commands, files: &PolicyFiles, runs_commands: bool) -> Result<()> {
    let has_commands = commands.restart.is_some() || commands.running.is_some();
    match &files.exposed {
        Some(path) if runs_commands && has_commands && rustix::process::geteuid().is_root() => {
            let message = format!("others can write {}, and its commands would run as root", path.display());
            Err(Error::other(message).with_hint("chown it to root and chmod go-w it, or run as the sessions' own user"))
        }
        _ => Ok(()),
    }
}
