//! `reconcile doctor`: whether a run would work on this host. Nothing is changed for that.

use std::ffi::CStr;

use clap::Args;

use crate::backend::{self, Probe};
use crate::checkup::Check;
use crate::cli::args::{PlaceArgs, TEXT_OR_JSON, one_of};
use crate::cli::exit::Exit;
use crate::cli::run::checks::refuse_exposed;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{home_of, place_of, registry_file, registry_path};
use crate::cli::zone;
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::file_name::FileName;
use crate::foreign::{Public, Sentence, counted, sentence};
use crate::form::Form;
use crate::policy::{self, Policy};
use crate::report::TextOrJson;
use crate::report::doctor::Checkup;
use crate::sources::PolicyFiles;

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Output format: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = one_of(&TEXT_OR_JSON), hide_possible_values = true)]
    format: TextOrJson,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &DoctorArgs) -> anyhow::Result<Exit> {
    let checks = checkup(place);
    let naming = terminal.naming();
    let checkup = Checkup { checks: &checks, naming, width: terminal.width() };
    terminal.to_stdout(|page| checkup.write(args.format, page))?;
    Ok(if checks.iter().any(Check::is_problem) { Exit::Error } else { Exit::Done })
}

fn checkup(place: &PlaceArgs) -> Vec<Check> {
    let policy = read_policy(place);
    let mut checks = vec![version(), zone::checkup(policy.as_ref().ok().map(|read| &read.policy))];
    match policy {
        Ok(ReadPolicy { policy, files, warnings }) => {
            checks.extend([look_at_policy(place, &warnings), look_at_access(&policy, &files)]);
            checks.extend(look_at_backend(place, &policy, &files));
        }
        Err(error) => {
            checks.push(Check::of("policy", Err(error), "list all mistakes with: reconcile check"));
            checks.extend(look_at_registry(place));
            checks.push(Check::unknown("commands", "the policy cannot be used, so its commands are not known"));
        }
    }
    checks
}

fn version() -> Check {
    let system = rustix::system::uname();
    // What the kernel is called says nothing of whose host it is.
    let kernel = |name: &CStr| Public::new(name.to_string_lossy().into_owned());
    let (name, release) = (kernel(system.sysname()), kernel(system.release()));
    Check::good("version", sentence!("reconcile {} on {} {}", env!("CARGO_PKG_VERSION"), name, release))
}

/// A policy without mistakes.
struct ReadPolicy {
    policy: Policy,
    files: PolicyFiles,
    warnings: Vec<Diagnostic>,
}

fn read_policy(place: &PlaceArgs) -> Result<ReadPolicy> {
    let files = place.load()?;
    let (policy, warnings) = policy::read(&files.sources).map_err(Error::Invalid)?;
    Ok(ReadPolicy { policy, files, warnings })
}

fn look_at_policy(place: &PlaceArgs, warnings: &[Diagnostic]) -> Check {
    let warnings = match warnings.len() {
        0 => Sentence::default(),
        count => sentence!(", {}: run reconcile check", counted(count, "warning")),
    };
    let policy = FileName::of_whole(&place.policy(), place.called());
    Check::good("policy", sentence!("{} has no mistakes{}", policy.shown(), warnings))
}

/// Whether the policy's commands may be run.
fn look_at_access(policy: &Policy, files: &PolicyFiles) -> Check {
    let found = if policy.sessions.has_commands() { refuse_exposed(files) } else { Ok(()) };
    let found = found.map(|()| "its commands may be run by this user".into());
    Check::of("policy-access", found, "let only this user and root change the policy")
}

/// The registry, and what the policy names beside it.
fn look_at_backend(place: &PlaceArgs, policy: &Policy, files: &PolicyFiles) -> Vec<Check> {
    let home = match home_of(place, policy, &place.policy()) {
        Ok(home) => home,
        Err(error) => return vec![no_registry(error)],
    };
    let here = place_of(policy, &place.policy(), files, home.clone(), Probe::Nothing);
    match here.and_then(|here| backend::open(policy, here)) {
        Ok(backend) => {
            let mut checks = backend.checkup();
            match backend.advise(policy, &files.sources) {
                Ok(advice) => checks.extend(advice.into_iter().map(|found| Check::warning("configuration", found))),
                Err(_) if checks.iter().any(Check::is_problem) => {}
                Err(error) => checks.push(Check::of("configuration", Err(error), "run: reconcile check")),
            }
            checks
        }
        Err(error) => {
            let mut checks = home.checkup();
            checks.push(Check::of("backend", Err(error), "check [sessions] in the policy"));
            checks
        }
    }
}

/// The registry alone. A policy that cannot be used may still say which it is.
fn look_at_registry(place: &PlaceArgs) -> Vec<Check> {
    let Ok(path) = registry_path(place) else {
        return vec![Check::unknown("registry", "no policy names the registry")];
    };
    registry_file(place, &path, &Form::ANY).map_or_else(|error| vec![no_registry(error)], |registry| registry.checkup())
}

fn no_registry(error: Error) -> Check {
    Check::of("registry", Err(error), "pass --registry PATH")
}
