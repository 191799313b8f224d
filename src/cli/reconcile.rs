//! The main job: plan, and apply unless it is a dry run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apply::{self, Backend, Planned};
use crate::backend::{DispatchBackend, FileBackend};
use crate::cli::args::{PlaceArgs, RunArgs};
use crate::cli::exit::Exit;
use crate::cli::output::{self, Outputs};
use crate::cli::progress::Progress;
use crate::cli::signals::Interrupt;
use crate::cli::{Opened, beside_policy, open};
use crate::error::{Error, Result};
use crate::plan::select::Request;
use crate::plan::{Expected, Goal, Plan, Refusal, Writer};
use crate::policy::{Commands, Policy, Sessions};
use crate::report::{Mode, Report, counted};
use crate::store::Store;
use crate::store::sources::PolicyFiles;

pub(super) fn run(place: &PlaceArgs, args: &RunArgs) -> anyhow::Result<Exit> {
    let interrupt = if args.dry_run { Interrupt::default() } else { Interrupt::listen()? };
    let Opened { policy, files, policy_name, store, now } = open(place)?;
    let now = match args.at {
        Some(moment) => moment.in_zone(now.time_zone().clone())?,
        None => now,
    };
    let request = Request {
        chats: args.chat.clone(),
        tiers: args.tier.clone(),
        exclude: args.exclude.clone(),
        retry: args.retry.clone(),
    };
    let expected = args.plan.as_deref().map(expected).transpose()?;
    let outputs = {
        let policies = files.sources.iter().map(|source| PathBuf::from(source.name.as_ref()));
        let needed = policies.chain([store.file().to_owned(), store.state()]);
        Outputs::open(&args.report.output, &needed.collect::<Vec<_>>())?
    };
    let backend = backend(&policy, &files, &store, place, args)?;
    for (chat, entry, until) in policy.expired(&now) {
        let at = &entry.because.at;
        output::warning(&format!("the override for {chat} ended with {until} ({}:{})", at.file, at.line));
    }
    let goal = Goal {
        policy: &policy,
        now: &now,
        request: &request,
        allow_changes: args.allow_changes,
        expected: expected.as_ref(),
    };

    // Sessions outlive this run: a lock that our caller left open must not live on in them.
    close_fds::set_fds_cloexec(3, &[]);
    let (mode, Planned { plan, snapshot }, exit, error) = if args.dry_run {
        let planned = apply::plan(&goal, &store, backend.as_ref())?;
        let exit = Exit::of_dry_run(&planned.plan, args.detailed_exitcode);
        (Mode::DryRun, planned, exit, None)
    } else {
        let locked = store.lock(place.lock_timeout, now.timestamp(), &|| interrupt.is_asked())?;
        let progress = Progress::new(interrupt);
        let applied = progress.during(|| apply::apply(&goal, &locked, backend.as_ref(), &progress))?;
        let exit = Exit::of_apply(&applied.planned.plan, applied.interrupted || applied.error.is_some());
        (Mode::Apply, applied.planned, exit, applied.error)
    };

    let report = Report { policy: &policy_name, snapshot: &snapshot, plan: &plan, mode, now: &now };
    let shown = output::to_stdout(|out| report.write(args.report.format, out)).and_then(|()| outputs.write(&report));
    tell(&plan, &policy, mode);
    let failed = error.into_iter().chain(shown.err()).map(anyhow::Error::from);
    let failures = failed.inspect(output::failure).count();
    Ok(match exit {
        // Nothing was changed, unless the plan says so.
        _ if failures > 0 && !plan.has_effects() => Exit::Error,
        Exit::Done | Exit::Planned if failures > 0 => Exit::Partly,
        exit => exit,
    })
}

fn backend<'a>(
    policy: &'a Policy,
    files: &PolicyFiles,
    store: &Store,
    place: &PlaceArgs,
    args: &RunArgs,
) -> anyhow::Result<Box<dyn Backend + 'a>> {
    Ok(match &policy.sessions {
        Sessions::File(commands) => {
            refuse_exposed(commands, files, !args.dry_run || args.probe)?;
            Box::new(FileBackend::new(commands, files.directory.clone(), args.dry_run && args.probe))
        }
        Sessions::Dispatch(daemon) => {
            let socket = beside_policy(&place.policy(), &daemon.socket)?;
            Box::new(DispatchBackend::new(daemon, socket, store.owner()?))
        }
    })
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
        Error::other(format!("--plan {text}: neither a plan id (16 hex digits) nor a file that can be read: {error}"))
            .with_hint("a plan id stands in the first line of a report")
    })?;
    Expected::from_report(&Path::new(text).display().to_string(), &json)
}

/// What a user should know beyond the rows.
fn tell(plan: &Plan, policy: &Policy, mode: Mode) {
    for (chat, why) in plan.cancelled.iter().filter(|_| plan.refused.is_none()) {
        output::note(&format!("the restart owed to {chat} is void: {why}"));
    }
    let edited = plan.rows.iter().any(|row| row.effects.edited);
    if mode == Mode::Apply && edited && !policy.sessions.restarts() {
        output::note(
            "nothing was restarted: the policy has no restart command, so the new models count from the next start",
        );
    }
    let edits = plan.rows.iter().any(|row| row.edit && (row.is_planned() || row.effects.edited));
    if let (Writer::UsMeanwhile, true, Sessions::Dispatch(daemon)) = (plan.writer, edits, &policy.sessions) {
        output::note(&format!(
            "nobody listens at {}: the registry itself is edited, and sessions read it when the daemon starts",
            daemon.socket
        ));
    }
    match &plan.refused {
        None => {}
        Some(Refusal::Limit { changes, limit }) => output::error(
            &format!("the plan has {}, and the limit is {limit}: nothing was done", counted(*changes, "change")),
            Some(&format!("if this is what you want, consent with: {} --allow-changes {changes}", same_command())),
        ),
        Some(Refusal::OtherPlan { expected, differences }) => {
            let message = format!("this is plan {}, not {expected}: nothing was done", plan.id);
            output::error(&message, Some("review the plan as it is now: reconcile --dry-run"));
            for difference in differences {
                output::note(difference);
            }
        }
    }
}

/// The command that the user typed, so that consent is to that and not to more.
fn same_command() -> String {
    let mut words = vec!["reconcile".to_owned()];
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        if argument == "--allow-changes" {
            arguments.next();
        } else if !argument.starts_with("--allow-changes=") {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,/:@%".contains(c);
            let quoted = || format!("'{}'", argument.replace('\'', r"'\''"));
            words.push(if argument.chars().all(plain) { argument } else { quoted() });
        }
    }
    words.join(" ")
}
