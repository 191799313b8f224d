//! The main job: plan, and apply unless it is a dry run.

pub(crate) mod metrics;
mod outcome;
mod progress;
pub(crate) mod signals;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::apply::{self, Backend, Locked, Planned};
use crate::backend::file::Store;
use crate::backend::{DispatchBackend, FileBackend};
use crate::cli::args::{Moment, PlaceArgs, ReportArgs, RunArgs};
use crate::cli::exit::Exit;
use crate::cli::outputs::{Outputs, refuse_needed};
use crate::cli::run::outcome::Ended;
use crate::cli::run::progress::Progress;
use crate::cli::run::signals::Interrupt;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Opened, author, beside_policy, needed_to_open, open, open_quietly};
use crate::error::{Error, Result, reason};
use crate::plan::select::Request;
use crate::plan::{Expected, Goal};
use crate::policy::template::CommandLine;
use crate::policy::{Commands, Policy, Sessions, Source};
use crate::report::{Mode, counted};
use crate::sources::PolicyFile;
use crate::sources::{self, PolicyFiles};

/// A run for some chats, with what the command line says of it.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Job<'a> {
    pub(crate) request: Request,
    pub(crate) dry_run: bool,
    pub(crate) probe: bool,
    pub(crate) detailed_exitcode: bool,
    pub(crate) at: Option<Moment>,
    pub(crate) plan: Option<&'a str>,
    pub(crate) allow_changes: Option<usize>,
    pub(crate) report: ReportArgs,
    pub(crate) quiet: bool,
    pub(crate) metrics: Option<&'a Path>,
    /// What the policy's files looked like before, and will look like, where the run begins with an edit of them.
    pub(crate) edits: Vec<PolicyEdit>,
    /// How many of them were made, of those that change anything.
    pub(crate) edited: Cell<usize>,
    /// Whether the run is for whatever the policy says, also where that changes while it waits for another run.
    pub(crate) follows_policy: bool,
}

/// An edit of a policy's file. Done once it is clear that the run is not refused.
pub(crate) struct PolicyEdit {
    pub(crate) name: String,
    pub(crate) before: String,
    pub(crate) after: String,
    /// `None` in a dry run.
    pub(crate) file: Option<PolicyFile>,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &RunArgs) -> anyhow::Result<Exit> {
    let interrupt = if args.dry_run { Interrupt::default() } else { Interrupt::listen()? };
    let job = Job {
        request: Request {
            chats: args.chat.clone(),
            tiers: args.tier.clone(),
            exclude: args.exclude.clone(),
            retry: args.retry.clone(),
            ids: Vec::new(),
        },
        dry_run: args.dry_run,
        probe: args.probe,
        detailed_exitcode: args.detailed_exitcode,
        at: args.at,
        plan: args.plan.as_deref(),
        allow_changes: args.allow_changes,
        report: args.report.clone(),
        quiet: args.quiet,
        metrics: args.metrics.as_deref(),
        follows_policy: true,
        ..Job::default()
    };
    let opened = open(terminal, place);
    if let Some(path) = job.metrics {
        let needed = opened.as_ref().map_or_else(|_| needed_to_open(place), Opened::needed);
        refuse_needed("--metrics", path, &job.needed(needed, place))?;
        metrics::check(path)?;
    }
    let result = opened.and_then(|opened| execute(terminal, place, opened, &job, interrupt));
    if let (Err(error), Some(path)) = (&result, job.metrics) {
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
    job: &Job,
    interrupt: Interrupt,
) -> anyhow::Result<Exit> {
    let needed = job.needed(opened.needed(), place).into_iter().chain(job.metrics.map(Path::to_owned));
    let outputs = Outputs::open(&job.report.output, &needed.collect::<Vec<_>>())?;
    let file = opened.store.file().display();
    if opened.names.is_snapshot() && !job.dry_run {
        return Err(Error::other(format!("{file} is a redacted snapshot, not a registry"))
            .with_hint("plan on it with --dry-run; apply the plan where the registry is, with --plan and --redact")
            .into());
    }
    let now = match job.at {
        Some(moment) => moment.in_zone(opened.now.time_zone().clone())?,
        None => opened.now.clone(),
    };
    let expected = job.plan.map(expected).transpose()?;
    let expected = expected.map(|expected| expected.redacted(opened.names.redaction().cloned()));
    let Opened { policy, files, policy_name, store, names, warnings, .. } = opened;
    let backend = backend(terminal, &policy, &files, &store, place, job)?;
    let goal = Goal {
        policy: &policy,
        now: &now,
        request: &job.request,
        allow_changes: job.allow_changes,
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
    let (mode, Planned { plan, snapshot }, exit, error) = if job.dry_run {
        warn();
        let planned = apply::plan(&goal, &store, backend.as_ref())?;
        let exit = Exit::of_dry_run(&planned.plan, job.detailed_exitcode);
        (Mode::DryRun, planned, exit, None)
    } else {
        let locked = store.lock(place.lock_timeout, now.timestamp(), &|| interrupt.is_asked())?;
        let sources = sources::load(&place.policy())?.sources;
        if job.follows_policy && sources != files.sources {
            // What was set while it waited must not be set back.
            drop((locked, outputs));
            let again = open_quietly(place)?;
            if again.warnings != warnings {
                terminal.diagnostics(&again.warnings);
            }
            return execute(terminal, place, again, job, interrupt);
        }
        if job.is_outdated(&files.sources, &sources) {
            return Err(Error::other(format!("{policy_name} was changed by somebody else meanwhile"))
                .with_hint("nothing of theirs was lost, and nothing was done: run again")
                .into());
        }
        warn();
        let locked = locked.on_behalf_of(author(place));
        let progress = Progress::new(interrupt, names.redaction().is_none());
        let apply = || match job.edit_policy(&goal, &locked, backend.as_ref())? {
            Some(refused) => Ok(apply::refuse(refused)),
            None => progress.during(|| apply::apply(&goal, &locked, backend.as_ref(), &progress)),
        };
        let applied = match apply() {
            Err(error) if job.edited.get() > 0 => {
                terminal.failure(&error.into());
                job.tell_edited(terminal);
                return Ok(Exit::Partly);
            }
            applied => applied?,
        };
        let exit = Exit::of_apply(&applied.planned.plan, applied.interrupted || applied.error.is_some());
        (Mode::Apply, applied.planned, exit, applied.error)
    };

    let plan = names.shown(plan);
    let ended = Ended { policy: &policy, policy_name: &policy_name, snapshot: &snapshot, plan: &plan, mode, now: &now };
    Ok(ended.show(terminal, job, outputs, exit, error))
}

impl Job<'_> {
    /// The files that this run needs, with `others`.
    fn needed(&self, others: Vec<PathBuf>, place: &PlaceArgs) -> Vec<PathBuf> {
        others.into_iter().chain(place.redact_key.clone()).chain(self.plan.map(PathBuf::from)).collect()
    }

    /// Whether the policy that was edited in memory is no longer what the files hold.
    fn is_outdated(&self, edited: &[Source], now: &[Source]) -> bool {
        let edit = |source: &Source| self.edits.iter().find(|edit| *edit.name == *source.name);
        let before = |source| edit(source).map_or(source.text.as_str(), |edit| edit.before.as_str());
        let same = edited.iter().map(|source| (&source.name, before(source)));
        !self.edits.is_empty() && !same.eq(now.iter().map(|source| (&source.name, source.text.as_str())))
    }

    /// The edits that change anything.
    fn changes(&self) -> impl Iterator<Item = &PolicyEdit> {
        self.edits.iter().filter(|edit| edit.before != edit.after)
    }

    /// The files of the policy that were edited.
    pub(crate) fn edited_files(&self) -> impl Iterator<Item = &str> {
        self.changes().take(self.edited.get()).map(|edit| edit.name.as_str())
    }

    /// Edits the policy, unless a run with it would be refused: then it returns that run's plan.
    fn edit_policy(&self, goal: &Goal, files: &dyn Locked, backend: &dyn Backend) -> Result<Option<Planned>> {
        if self.changes().next().is_none() {
            return Ok(None);
        }
        let planned = apply::plan(goal, files, backend)?;
        if planned.plan.refused.is_some() {
            return Ok(Some(planned));
        }
        for edit in self.changes() {
            let Some(file) = &edit.file else { continue };
            let went_wrong = file.replace(&edit.before, &edit.after)?;
            self.edited.set(self.edited.get() + 1);
            went_wrong.map_or(Ok(()), Err)?;
        }
        Ok(None)
    }

    /// Says that the policy was edited and the run then came to nothing.
    pub(crate) fn tell_edited(&self, terminal: &Terminal) {
        let files = counted(self.edited.get(), "file");
        terminal.note(&format!("{files} of the policy edited, nothing else was changed: run reconcile again"));
    }
}

fn backend<'a>(
    terminal: &Terminal,
    policy: &'a Policy,
    files: &PolicyFiles,
    store: &Store,
    place: &PlaceArgs,
    job: &Job,
) -> anyhow::Result<Box<dyn Backend + 'a>> {
    Ok(match &policy.sessions {
        Sessions::File(commands) => {
            let asks = !job.dry_run || job.probe;
            refuse_exposed(commands, files, asks)?;
            if let Some(program) = commands.running.as_ref().map(CommandLine::program).filter(|_| asks)
                && !is_there(&program, &files.directory)
            {
                terminal.warning(&format!("there is no {program} to ask which sessions run: all count as running"));
            }
            Box::new(FileBackend::new(commands, files.directory.clone(), job.dry_run && job.probe))
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

/// Whoever can write the policy can run commands as whoever runs it. Nobody else may do that as root.
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

fn expected(text: &str) -> Result<Expected> {
    if let Some(expected) = Expected::from_id(text) {
        return Ok(expected);
    }
    let json = fs::read_to_string(text).map_err(|error| {
        Error::other(format!(
            "--plan {text}: neither a plan id (16 hex digits) nor a file that can be read: {}",
            reason(&error)
        ))
        .with_hint("a plan id stands in the first line of a report")
    })?;
    Expected::from_report(&Path::new(text).display().to_string(), &json)
}
