//! `reconcile launch`: the start of a session. It registers the chat, decides on the model, and becomes the command.

use std::io::ErrorKind;

use clap::Args;
use jiff::{Timestamp, Zoned};

use crate::apply::{Backend, Registered};
use crate::backend::{self, file::RegistryFile};
use crate::cli::args::{FieldArgs, PlaceArgs};
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{beside_policy, warn_of_lost_state};
use crate::cli::zone::{self, now_for};
use crate::error::{Error, Result, reason};
use crate::launch::{Decider, Kept, Start, Wanted, start};
use crate::os::process::turn_into;
use crate::plan::ledger::Ledger;
use crate::policy::placeholder::shortened;
use crate::policy::scope::Scope;
use crate::policy::template::{CommandLine, Invocation};
use crate::policy::{self, Outline, Policy, Source};
use crate::registry::Snapshot;
use crate::sources;

const FORM: &str = "\
Arguments of the command can be {model}, {session_slug}, {chat_id}, {session_name} and {resume_id}; the first two may \
stand beside letters, digits and @ . _ / : = - as well. Where there is nothing to resume, the argument {resume_id} is \
left out, and so is the option right before it. Everything is in the environment, too: RECONCILE_CHAT_ID, \
RECONCILE_CONTACT_NAME and so on.

  reconcile launch +16175550142 --tier family -- claude --model {model} --resume {resume_id}

starts `claude --model sonnet --resume 0c7e6a52` or, the first time, `claude --model sonnet`.";

#[derive(Clone, Debug, Args)]
#[command(after_help = FORM)]
pub(crate) struct LaunchArgs {
    /// The chat: its id, or its session's name; one that is not registered yet is a new id
    #[arg(value_name = "CHAT")]
    chat: String,

    #[command(flatten)]
    fields: FieldArgs,

    /// What starts the session
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &LaunchArgs) -> anyhow::Result<Exit> {
    let words: Vec<&str> = args.command.iter().map(String::as_str).collect();
    let command = match CommandLine::parse(&words, Scope::Launch) {
        Ok(command) => command,
        Err(mistakes) => {
            for mistake in &mistakes {
                let argument = words.get(mistake.argument).copied().unwrap_or_default();
                let [message, advice] = mistake.fault.words(Scope::Launch);
                terminal.error(&format!("{argument}: {message}"), Some(&advice));
            }
            return Ok(Exit::Usage);
        }
    };
    if args.chat.is_empty() {
        terminal.error("the chat's id is empty", Some("see: reconcile launch --help"));
        return Ok(Exit::Usage);
    }
    let (policy, outline, sources) = usable_policy(terminal, place);
    refuse_foreign(outline.backend.as_deref())?;
    let registry = match (place.registry(), &outline.registry) {
        (Some(registry), _) => registry,
        (None, Some(registry)) => beside_policy(&place.policy(), registry)?,
        (None, None) => {
            return Err(Error::other("no registry given: set registry.path in the policy, or pass --registry").into());
        }
    };
    let file = RegistryFile::open_or_new(&registry)?.in_form(&outline.form);
    warn_of_lost_state(terminal, &file)?;
    let backend = backend::of_registry(file);
    let fields = args.fields.chat();
    let wanted = Wanted { chat: &args.chat, fields: &fields, command: &command };
    let mut decided = None;
    let mut decide = |snapshot: &dyn Snapshot, ledger: &Ledger| {
        // An override that was set while this launch waited counts. A policy that cannot be used meanwhile does not.
        let changed = sources::load(&place.policy()).ok().filter(|files| files.sources != sources);
        let changed = changed.and_then(|files| policy::read(&files.sources).ok()).map(|(policy, _)| policy);
        refuse_foreign(changed.as_ref().map(|policy| policy.sessions.backend.name()))?;
        let policy = changed.as_ref().or(policy.as_ref());
        let capabilities = policy.map(backend::capabilities);
        let both = policy.zip(capabilities.as_deref());
        let by = both.map(|(policy, capabilities)| Decider { policy, capabilities, ledger });
        let now = policy.map_or_else(Zoned::now, now_for);
        let start = start(by, snapshot, &wanted, &now)?;
        let registration = start.registration.clone();
        decided = Some(start);
        Ok(registration)
    };
    let registered = backend.register(place.lock_timeout, Timestamp::now(), &mut decide)?;
    let Some(start) = decided else { return Err(Error::other("no start was decided on").into()) };
    tell(terminal, &start, &registry.display().to_string());
    let Registered { changed, paid, error } = registered;
    let is_partly = changed || error.is_some();
    match error {
        Some(error) => {
            terminal.failure(&error.into());
            terminal.note("the session was not started: run the same command again");
        }
        None => cannot_start(terminal, &start),
    }
    let code = if is_partly { Exit::Partly } else { Exit::Error };
    // A session from before may still run, on another model.
    if !paid && (!is_partly || start.is_new) {
        return Ok(code);
    }
    Ok(owe(terminal, backend.as_ref(), &start.chat.id).unwrap_or(code))
}

/// Becomes the command. Returns only where it cannot, and says so.
fn cannot_start(terminal: &Terminal, start: &Start) {
    let Invocation { arguments, environment } = start.command.clone();
    let failed = turn_into(&arguments, environment);
    let program = arguments.first().map(String::as_str).unwrap_or_default();
    let hint = match failed.kind() {
        ErrorKind::PermissionDenied => "is it a program, and may this user execute it?",
        _ => "is it installed, and in the PATH?",
    };
    terminal.error(&format!("cannot start {program}: {}", reason(&failed)), Some(hint));
}

/// Notes that a restart of the session is owed. Returns an exit code of its own where that is not certain.
fn owe(terminal: &Terminal, backend: &dyn Backend, chat: &str) -> Option<Exit> {
    let noted = backend.not_started(chat, Timestamp::now());
    let failed = noted.is_err();
    if let Err(error) = noted {
        terminal.failure(&error.into());
    }
    // It may have been noted before the registry was changed.
    if !failed || backend.ledger().is_ok_and(|ledger| ledger.owed.contains_key(chat)) {
        terminal.note(&format!("a restart of {chat} is owed"));
        return None;
    }
    let advice = "restart it by hand if a session from before still runs";
    terminal.warning(&format!("that a restart of {chat} is owed could not be noted: {advice}"));
    Some(Exit::Partly)
}

/// Refuses a backend whose sessions are started by the owner of its registry.
fn refuse_foreign(backend: Option<&str>) -> Result<()> {
    match backend.and_then(backend::refuses_launch) {
        Some((message, hint)) => Err(Error::other(message).with_hint(hint)),
        None => Ok(()),
    }
}

/// The policy, where it can be used, what can be told of it otherwise, and what was read. A mistake in it must not keep a
/// session from starting.
fn usable_policy(terminal: &Terminal, place: &PlaceArgs) -> (Option<Policy>, Outline, Vec<Source>) {
    let unusable = || terminal.warning("the policy cannot be used: only the registry's own model counts");
    let files = match sources::load(&place.policy()) {
        Ok(files) => files,
        Err(error) => {
            terminal.failure(&error.into());
            unusable();
            return (None, Outline::default(), Vec::new());
        }
    };
    match policy::read(&files.sources) {
        Ok((policy, warnings)) => {
            terminal.diagnostics(&warnings);
            terminal.diagnostics(zone::warning(&policy, &files.sources, &now_for(&policy)).as_slice());
            let outline = Outline::from(&policy);
            (Some(policy), outline, files.sources)
        }
        Err(mistakes) => {
            terminal.diagnostics(&mistakes);
            unusable();
            (None, policy::outline(&files.sources), files.sources)
        }
    }
}

fn tell(terminal: &Terminal, start: &Start, registry: &str) {
    let chat = &start.chat.id;
    if start.is_new {
        terminal.note(&format!("{chat} is new in {registry}"));
    }
    if let Some(Kept { wanted, why }) = &start.kept {
        terminal.note(&format!("{chat} starts on {}, not on {wanted}: {why}", start.model));
    }
    if let Some(other) = &start.contact_of {
        terminal.warning(&format!("the contact of {other} has that name, too: a launch goes by ids and session names"));
    }
    if let Some(other) = &start.same_slug {
        terminal.warning(&format!(
            "the session of {other} has the same slug: a restart command with {{session_slug}} is refused for both"
        ));
    }
    if start.is_shortened {
        terminal.warning(&shortened(chat));
    }
    for field in &start.left_empty {
        terminal.warning(&format!(
            "the entry of {chat} has `{}` without a value: that is left as it is, and the option does not count",
            field.name()
        ));
    }
}
