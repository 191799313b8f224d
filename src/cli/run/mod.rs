//! The main job: plan, and apply unless it is a dry run.

pub(crate) mod checks;
mod confirm;
mod metrics;
pub(crate) mod options;
mod outcome;
pub(crate) mod policy_edit;
mod progress;
mod quiet;
pub(crate) mod signals;
mod unshared;

use std::path::Path;
use std::sync::Arc;

use jiff::{Timestamp, Zoned};

use crate::apply::{self, Applied, Backend, RunContext, Step};
use crate::backend::Probe;
use crate::cli::args::{PlaceArgs, RunArgs};
use crate::cli::exit::{Course, Exit};
use crate::cli::outputs::{Outputs, refuse_needed};
use crate::cli::problem::OptionProblem;
use crate::cli::run::checks::check;
use crate::cli::run::options::RunOptions;
use crate::cli::run::outcome::End;
use crate::cli::run::progress::Progress;
use crate::cli::run::quiet::Quiet;
use crate::cli::run::signals::Interrupt;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Opened, author, needed_to_open, open, open_quietly, warn_of_lost_state};
use crate::cli::zone::now_for;
use crate::error::{Error, Result};
use crate::foreign::sentence;
use crate::plan::json::Origin;
use crate::plan::{Limits, Plan};
use crate::policy::Expired;
use crate::report::shown::Naming;
use crate::report::{Format, Mode};
use crate::sources::{Last, PolicyFile, PolicyFiles};

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &RunArgs) -> anyhow::Result<Exit> {
    if args.confirm && !Terminal::can_ask() {
        let hint =
            "leave it out, or review a plan and apply exactly that: reconcile plan, then reconcile apply --plan ID";
        terminal.refused("--confirm asks on a terminal, and stdin or stderr is not one", hint);
        return Ok(Exit::Usage);
    }
    // At a question, a signal ends the program as it ends any other.
    let interrupt = if args.dry_run || args.confirm { Interrupt::default() } else { Interrupt::listen()? };
    let mut options = RunOptions::of(args);
    let opened = open(terminal, place).map(|opened| opened.ended_by(interrupt.give_up()));
    if let Some(path) = options.metrics {
        let needed = opened.as_ref().map_or_else(|_| needed_to_open(place), Opened::needed);
        refuse_needed("--metrics", path, &options.needed(needed, place))?;
        metrics::check(path)?;
    }
    let metrics = options.metrics;
    let result = opened.and_then(|opened| {
        if !args.confirm {
            return execute(terminal, place, &opened, &options, interrupt);
        }
        let Some(confirmed) = confirm::confirmed(terminal, &opened, &options)? else {
            terminal.note("nothing was done: the plan was not confirmed");
            return Ok(Exit::Refused);
        };
        options.confirmed = Some(confirmed);
        let interrupt = Interrupt::listen()?;
        let opened = opened.ended_by(interrupt.give_up());
        execute(terminal, place, &opened, &options, interrupt)
    });
    if let (Err(error), Some(path)) = (&result, metrics) {
        // Without a key there is no pseudonym of it, and the label that was there before stays.
        let registry = place.registry().filter(|_| place.naming() == Naming::Plain).unwrap_or_default();
        let (registry, exit) = (registry.display().to_string(), Exit::of_error(error));
        if let Err(another) = metrics::write(path, &registry, Timestamp::now(), exit, None) {
            terminal.release();
            terminal.failure(&another);
        }
    }
    result
}

/// Plans, and applies unless it is a dry run.
pub(crate) fn execute(
    terminal: &Terminal,
    place: &PlaceArgs,
    opened: &Opened,
    options: &RunOptions,
    interrupt: Interrupt,
) -> anyhow::Result<Exit> {
    if options.report.formats().any(Format::quotes_registry) && !opened.home.is_file() {
        let text = "the format diff compares the text of a registry, and this registry is not a file";
        terminal.refused(text, "leave it out, or choose text or markdown");
        return Ok(Exit::Usage);
    }
    let needed = options.needed(opened.needed(), place).into_iter().chain(options.metrics.map(Path::to_owned));
    let outputs = Outputs::open(&options.report.output, &needed.collect::<Vec<_>>())?;
    check(opened, options)?;
    let expected = options.expected(&opened.names)?;
    let limits = Limits { allow_changes: options.allow_changes, expected: expected.as_ref() };
    let probe = match (options.dry_run, options.probe) {
        (false, _) => Probe::Needed,
        (true, true) => Probe::Rows,
        (true, false) => Probe::Nothing,
    };
    let backend = opened.backend(probe)?;
    warn_of_lost_state(terminal, backend.as_ref())?;
    let backend = if options.dry_run { opened.backend_to_plan_on(terminal, backend, probe)? } else { backend };

    let ready = Ready { terminal, place, opened, options, outputs, backend: backend.as_ref(), limits };
    // Sessions outlive this run: a lock that our caller left open must not live on in them.
    close_fds::set_fds_cloexec(3, &[]);
    if options.dry_run { ready.plan() } else { ready.apply(interrupt) }
}

/// A run that has opened all it needs.
struct Ready<'r> {
    terminal: &'r Terminal,
    place: &'r PlaceArgs,
    opened: &'r Opened,
    options: &'r RunOptions<'r>,
    outputs: Outputs,
    backend: &'r dyn Backend,
    limits: Limits<'r>,
}

impl Ready<'_> {
    /// Plans, and shows what an apply would do.
    fn plan(self) -> anyhow::Result<Exit> {
        let Self { terminal, place: _, opened, options, outputs, backend, limits } = self;
        let now = match options.at {
            Some(moment) => moment.from(&opened.now)?,
            None => opened.now.clone(),
        };
        warn_of_expired(terminal, opened, &now);
        if let Some(delay) = backend.delay()? {
            terminal.note(delay);
        }
        let input = options.input(opened, backend, &now, limits);
        let planned = apply::plan(&input, backend)?;
        terminal.trace().step(Step::Planned(&planned.plan));
        warn_of_obstacles(terminal, opened, options, backend, &planned.plan);
        let exit = match Exit::of_dry_run(&planned.plan) {
            Exit::Planned if !options.detailed_exitcode => Exit::Done,
            exit => exit,
        };
        let end = End { mode: Mode::DryRun, planned, exit, error: None, interrupted: false, quiet: None };
        Ok(end.show(terminal, options, outputs, opened, &now))
    }

    /// Takes the lock of runs, and applies what is then planned.
    fn apply(self, interrupt: Interrupt) -> anyhow::Result<Exit> {
        let Self { terminal, place, opened, options, outputs, backend, limits } = self;
        let locked = backend.lock(place.lock_timeout, &|| interrupt.is_asked())?;
        terminal.trace().step("took the lock of runs");
        let told = options.quiet.then(|| locked.told()).transpose()?;
        tidy(terminal, &opened.path, &opened.files);
        // Not earlier: a run that has waited must not go by an override that has ended meanwhile.
        let now = now_for(&opened.policy);
        let sources = place.load()?.sources;
        if options.follows_policy && sources != opened.files.sources {
            // What was set while it waited must not be set back.
            drop((locked, outputs));
            let again = open_quietly(place)?.ended_by(interrupt.give_up());
            if again.warnings != opened.warnings {
                terminal.diagnostics(&again.warnings);
            }
            return execute(terminal, place, &again, options, interrupt);
        }
        if options.edits.are_outdated(&opened.files.sources, &sources) {
            return Err(Error::from(OptionProblem::PolicyChanged { policy: opened.policy_name.clone() }).into());
        }
        warn_of_expired(terminal, opened, &now);
        let input = options.input(opened, backend, &now, limits);
        let naming = if opened.names.redaction().is_some() { Naming::Hidden } else { Naming::Plain };
        let progress = Progress::new(interrupt, naming, Arc::clone(terminal.trace()));
        let author = || {
            let by = author(place, options.command);
            terminal.trace().step("asked git for the commit of the policy");
            Origin { overrides: options.overrides.clone(), ..by }
        };
        let context = RunContext { backend, locked: locked.as_ref(), watch: &progress, author: &author };
        let apply = || match options.edits.make(&input, backend)? {
            Some(refused) => Ok(apply::refuse(refused)),
            None => progress.during(|| apply::apply(&input, context)),
        };
        let applied = match apply() {
            Err(error) if options.edits.any_made() => {
                terminal.failure(&error);
                options.edits.tell_alone(terminal);
                return Ok(Exit::Partly);
            }
            applied => applied?,
        };
        let Applied { planned, interrupted, error } = applied;
        let course = if interrupted || error.is_some() { Course::CutShort } else { Course::ToTheEnd };
        let exit = Exit::of_apply(&planned.plan, course);
        // Other runs need not wait while the report is read, as in a pager. But what this run has yet to write must not take the
        // place of what a later one has written.
        let has_to_write = options.quiet || options.metrics.is_some() || !outputs.is_empty();
        let locked = has_to_write.then_some(locked);
        let quiet = told.zip(locked.as_deref()).map(|(told, locked)| Quiet { told, locked });
        let end = End { mode: Mode::Apply, planned, exit, error, interrupted, quiet };
        Ok(end.show(terminal, options, outputs, opened, &now))
    }
}

/// Removes what edits of the policy left that died. What they displaced is put back before the policy is read again.
fn tidy(terminal: &Terminal, path: &Path, files: &PolicyFiles) {
    Last::tidy(path);
    for source in &files.sources {
        // The run does not need it; the user should know.
        if let Err(error) = PolicyFile::tidy(source.name.path()) {
            terminal.obstacle(&error);
        }
    }
}

fn warn_of_expired(terminal: &Terminal, opened: &Opened, now: &Zoned) {
    for (chat, Expired { entry, until }) in opened.named(opened.policy.expired(now)) {
        let at = &entry.because.at;
        terminal.warning(sentence!(
            "the override for {} ended {} {} ({}:{})",
            chat,
            until.preposition(),
            until,
            at.file.shown(),
            at.line
        ));
    }
}

/// Says that a run of this plan would not begin, because of how a file is mounted or because a program is missing. Programs
/// only on a host where runs have been: others, such as those of CI, restart nothing.
fn warn_of_obstacles(terminal: &Terminal, opened: &Opened, options: &RunOptions, backend: &dyn Backend, plan: &Plan) {
    let is_host = matches!(backend.has_state(), Ok(true));
    let of_plan = match () {
        () if opened.names.is_snapshot() => Ok(()),
        () if is_host => apply::preflight(plan, backend),
        () => apply::check_edits(plan, backend),
    };
    for error in [options.edits.check(), of_plan].into_iter().filter_map(Result::err) {
        terminal.obstacle(&error);
    }
}
