//! `reconcile check`: what is wrong with the policy, and what in it is legal and probably not meant.

use std::path::PathBuf;

use clap::Args;
use jiff::Span;

use crate::backend::{self, Home, file::RegistryFile};
use crate::cli::args::{PlaceArgs, one_of};
use crate::cli::exit::Exit;
use crate::cli::paths::registry_of;
use crate::cli::problem::OptionProblem;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{for_snapshot, home_of, registry_file};
use crate::cli::zone::{self, now_for};
use crate::diagnostic::{Diagnostic, Level};
use crate::error::Error;
use crate::file_name::FileName;
use crate::foreign::sentence;
use crate::lint::Lint;
use crate::policy::{self, Policy, Source};
use crate::report::check::{Check, CheckFormat};

#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    /// The policy, instead of --policy
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,

    /// Output format: text, json for editors, or github for annotations of a workflow
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = one_of(&FORMATS), hide_possible_values = true)]
    format: CheckFormat,

    /// Warn of overrides that end within this time: a number of days, or as in 36h
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = time_ahead)]
    within: Span,

    /// Exit with 1 also for warnings
    #[arg(long, value_name = "warnings", value_parser = ["warnings"])]
    deny: Option<String>,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &CheckArgs) -> anyhow::Result<Exit> {
    let place = &place.clone().with_policy(args.path.clone());
    let read = place.load().and_then(|files| {
        let (policy, warnings) = policy::read(&files.sources).map_err(Error::Invalid)?;
        Ok((files.sources, policy, warnings))
    });
    let diagnostics = match read {
        Ok((sources, policy, warnings)) => warnings_of(terminal, place, args, &sources, (policy, warnings))?,
        Err(Error::Invalid(found)) => found,
        Err(error) => return Err(error.into()),
    };
    let policy = FileName::of_whole(&place.policy(), place.called());
    let check = Check { policy: policy.shown().raw(), diagnostics: &diagnostics, naming: place.naming() };
    terminal.to_stdout(|page| check.write(args.format, page))?;
    let denied = check.count(Level::Error) > 0 || (args.deny.is_some() && check.count(Level::Warning) > 0);
    Ok(if denied { Exit::Error } else { Exit::Done })
}

/// Those that reading it gave, and those of a closer look.
fn warnings_of(
    terminal: &Terminal,
    place: &PlaceArgs,
    args: &CheckArgs,
    sources: &[Source],
    (policy, mut warnings): (Policy, Vec<Diagnostic>),
) -> anyhow::Result<Vec<Diagnostic>> {
    let now = now_for(&policy);
    warnings.extend(zone::warning(&policy, sources, &now));
    warnings.extend(refused_models(&policy, sources));
    let is_named = place.registry().is_some() || place.is_told_to_connect();
    let home = if is_named {
        Some(home_of(place, &policy, &place.policy())?)
    } else {
        of_this_host(place, &policy).map(Home::File)
    };
    if let Some(home) = home.clone().filter(|_| place.is_told_to_connect()) {
        warnings.extend(backend::of_home(home).advise(&policy, sources)?);
    }
    let snapshot = home.clone().map(|home| backend::of_home(home).snapshot()).transpose();
    let snapshot = if is_named { snapshot? } else { snapshot.unwrap_or_default() };
    let policy = match &home {
        None => policy,
        Some(home) => match home.redacted_with()? {
            None => policy,
            Some(fingerprint) => for_snapshot(place.redaction_key()?, home, &fingerprint, policy)?.0,
        },
    };
    let horizon = now.checked_add(args.within).map_err(|_| Error::from(OptionProblem::WithinTooLate))?;
    let lint = Lint { policy: &policy, sources, registry: snapshot.as_deref(), now: &now, horizon: &horizon };
    warnings.extend(match lint.warnings() {
        Err(error) if !is_named => {
            terminal.warning(sentence!("the registry was not checked: {}", error.sentence()));
            Lint { registry: None, ..lint }.warnings()?
        }
        found => found?,
    });
    warnings.sort_by(|a, b| a.order().cmp(&b.order()));
    Ok(warnings)
}

/// The registry that the policy names, where runs have kept state beside it: then it is the policy's on this host.
fn of_this_host(place: &PlaceArgs, policy: &Policy) -> Option<RegistryFile> {
    let registry = registry_of(policy.registry.as_deref(), &place.policy()).ok()?;
    let registry = registry_file(place, &registry, &policy.form).ok()?;
    matches!(registry.state_dir(), Ok(Some(_))).then_some(registry)
}

/// What names a model that the backend cannot give to any session. A run refuses those rows alone.
fn refused_models(policy: &Policy, sources: &[Source]) -> Vec<Diagnostic> {
    let capabilities = backend::capabilities(policy);
    let refused = policy.named_models().filter_map(|(model, because)| {
        let why = capabilities.refuses_model(model)?;
        let message = format!("no session can have the model of `{}`: {why}", because.rule);
        Some(Diagnostic::error("model-refused-by-backend", message, because.at.place(sources), ""))
    });
    refused.collect()
}

const FORMATS: [(&str, CheckFormat); 3] =
    [("text", CheckFormat::Text), ("json", CheckFormat::Json), ("github", CheckFormat::Github)];

fn time_ahead(text: &str) -> Result<Span, String> {
    let days = || Span::new().try_days(text.parse::<i64>().ok()?).ok();
    let span = days().or_else(|| text.parse().ok()).filter(|span| !span.is_negative());
    span.ok_or_else(|| "a number of days, or a number and a unit, as in 14d or 36h".to_owned())
}
