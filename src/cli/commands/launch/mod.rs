//! `reconcile launch`: the start of a session. It registers the chat, decides on the model, and becomes the command.

mod conversations;
mod entries;
mod known;
mod tell;

use clap::Args;
use jiff::{Timestamp, Zoned};
use uuid::Uuid;

use crate::apply::{Backend, Registered};
use crate::backend::{self, LaunchRefusal};
use crate::cli::args::{FieldArgs, PlaceArgs};
use crate::cli::commands::launch::entries::{Entries, PATIENCE};
use crate::cli::commands::launch::known::Known;
use crate::cli::commands::launch::tell::tell;
use crate::cli::commands::problem::CommandProblem;
use crate::cli::exit::Exit;
use crate::cli::postgres::home_of_table;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{user, warn_of_lost_state};
use crate::cli::zone::now_for;
use crate::error::{Bug, Error, Remedy, Result};
use crate::foreign::{Foreign, Sentence, sentence};
use crate::launch::{Decider, Start, Wanted, start};
use crate::os::process::turn_into;
use crate::plan::ledger::Ledger;
use crate::policy;
use crate::policy::conversation::ConversationPath;
use crate::policy::placeholder::{Conversation, Placeholder};
use crate::policy::scope::{Complaint, Scope};
use crate::policy::template::{CommandLine, Invocation};
use crate::registry::Snapshot;

const FORM: &str = "\
Arguments of the command can be {model}, {session_slug}, {chat_id}, {session_name}, {new_session_id}, {resume_id} and \
{session_id}; the first two may stand beside letters, digits and @ . _ / : = - as well. Everything is in the environment, \
too: RECONCILE_CHAT_ID, RECONCILE_CONTACT_NAME and so on.

{resume_id} is the id of the conversation to resume. {new_session_id} is a new id where there is none to resume; it is \
recorded in the registry for the next start. {session_id} is the one that there is. An argument for which there is \
no value is left out, and so is the option right before it.

  reconcile launch +16175550142 --tier family -- \\
      claude --model {model} --session-id {new_session_id} --resume {resume_id}

starts this the first time, and then that:

  claude --model sonnet --session-id 0c7e6a52
  claude --model sonnet --resume 0c7e6a52

So that a conversation which is not there is never resumed, {new_session_id} needs --conversation, or \
sessions.conversation in the policy.";

#[derive(Clone, Debug, Args)]
#[command(after_help = FORM)]
pub(crate) struct LaunchArgs {
    /// The chat: its id or session name; for a chat that is not registered yet, a new id
    #[arg(value_name = "CHAT")]
    chat: String,

    #[command(flatten)]
    fields: FieldArgs,

    /// The file in which the program keeps a conversation, with `{session_id}` and, optionally, `{cwd_slug}`; ~ is the
    /// home directory (default: sessions.conversation of the policy)
    #[arg(long, value_name = "PATH")]
    conversation: Option<String>,

    /// The command that starts the session
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
                let Complaint { message, help } = mistake.fault.complaint(Scope::Launch);
                let message = sentence!("{}: {}", Foreign::from(argument), Foreign::from(message));
                terminal.refused(message, Foreign::from(help));
            }
            return Ok(Exit::Usage);
        }
    };
    if args.chat.is_empty() {
        terminal.refused("the chat's id is empty", "see: reconcile launch --help");
        return Ok(Exit::Usage);
    }
    let named = match args.conversation.as_deref().map(ConversationPath::parse).transpose() {
        Ok(path) => path.map(conversations::named),
        Err(mistakes) => {
            for mistake in mistakes {
                let (message, advice) = (Foreign::from(mistake.message), Foreign::from(mistake.advice));
                terminal.refused(sentence!("--conversation: {}", message), advice);
            }
            return Ok(Exit::Usage);
        }
    };
    let known = Known::read(terminal, place)?;
    refuse_foreign(known.rest.backend.as_deref())?;
    let begins = command.holds(Placeholder::NewSessionId);
    let of_policy = || known.rest.conversation.as_deref().and_then(|path| ConversationPath::parse(path).ok());
    let conversations = named.or_else(|| Some(conversations::of_policy(of_policy()?, &place.policy())));
    if begins && conversations.is_none() && known.policy.is_some() {
        let hint = "add conversation = \"~/.claude/projects/{cwd_slug}/{session_id}.jsonl\" to [sessions], or pass \
                    --conversation";
        terminal.refused("{new_session_id} needs to know where the program keeps its conversations", hint);
        return Ok(Exit::Usage);
    }
    let new_session_id = begins.then(|| Uuid::new_v4().to_string());
    let (registry, entries) = entries(terminal, place, &known, &args.chat)?;
    let fields = args.fields.chat();
    let wanted = Wanted {
        chat: &args.chat,
        fields: &fields,
        command: &command,
        conversations: conversations.as_ref(),
        new_session_id: new_session_id.as_deref(),
    };
    let is_new = entries.is_new(&registry);
    Launch { terminal, place, known: &known, wanted, entries: &entries, is_new }.register_and_start()
}

/// The place of the entry of this chat's session, with the name of the registry for messages.
fn entries(terminal: &Terminal, place: &PlaceArgs, known: &Known, chat: &str) -> Result<(String, Entries)> {
    let table = known.policy.as_ref().and_then(|policy| Some((policy, policy.table.as_ref()?)));
    if let Some((policy, table)) = table.filter(|_| place.registry().is_none()) {
        let home = home_of_table(place, policy, table, Some(PATIENCE))?;
        return Ok((home.name(), Entries::of_table(home, &place.policy(), chat)));
    }
    let is_unknown = known.policy.is_none() && known.rest.registry.is_none() && place.registry().is_none();
    if let Some(last) = Entries::last(&place.policy(), chat).filter(|_| is_unknown) {
        return Ok((String::new(), last));
    }
    let (path, file) = known.registry(terminal, place, chat)?;
    let entries = Entries::File(file);
    warn_of_lost_state(terminal, entries.backend().as_ref())?;
    known.remember(&place.policy(), &path);
    Ok((path.display().to_string(), entries))
}

/// A launch whose command line, policy and registry are known.
struct Launch<'a> {
    terminal: &'a Terminal,
    place: &'a PlaceArgs,
    known: &'a Known,
    wanted: Wanted<'a>,
    entries: &'a Entries,
    /// The message about a chat that has no entry.
    is_new: Sentence,
}

impl Launch<'_> {
    /// Registers the session and replaces this program by the session's command. Returns only where that fails.
    fn register_and_start(&self) -> anyhow::Result<Exit> {
        let backend = self.entries.backend();
        if let Entries::Last(_) = self.entries {
            let why = Error::from(CommandProblem::UnusablePolicy);
            return self.start_unregistered(backend.as_ref(), &why);
        }
        let mut decided = None;
        let mut decide = |snapshot: &dyn Snapshot, ledger: &Ledger| {
            let start = self.decide(snapshot, ledger)?;
            let registration = start.registration.clone();
            decided = Some(start);
            Ok(registration)
        };
        let registered = match backend.register(self.place.lock_timeout, Timestamp::now(), &user("launch"), &mut decide)
        {
            Err(error) if error.is_no_room() || is_out_of_reach(&error) => {
                return self.start_unregistered(backend.as_ref(), &error);
            }
            Ok(Registered { changed: false, error: Some(error), .. }) if error.is_no_room() => {
                return self.start_unregistered(backend.as_ref(), &error);
            }
            registered => registered?,
        };
        let terminal = self.terminal;
        let Some(start) = decided else { return Err(Error::from(Bug("no start was decided on")).into()) };
        tell(terminal, &start, &self.is_new);
        let Registered { changed, paid, error } = registered;
        let is_partly = changed || error.is_some();
        match error {
            Some(error) if !error.is_no_room() && error.remedy() != Remedy::GoWithout => {
                terminal.failure(&error);
                terminal.note("the session was not started: run the same command again");
            }
            error => {
                if let Some(error) = error {
                    // Where the debt could not be settled, the next run restarts the session once more, in vain. Where it is not
                    // known whether anything was written, the next run changes the entry to this model, too.
                    terminal.obstacle(&error);
                }
                self.entries.remember(&start);
                cannot_start(terminal, &start);
            }
        }
        let code = if is_partly { Exit::Partly } else { Exit::Error };
        // An earlier process of this session may still run on another model.
        if !paid && (!is_partly || start.is_new) {
            return Ok(code);
        }
        Ok(owe(terminal, backend.as_ref(), &start.chat.id).unwrap_or(code))
    }

    /// Replaces this program by the session's command where nothing can be written. The session runs on the model that the registry has,
    /// or last had, because the next run would notice such a session and change it. Without such a model the policy decides. Returns
    /// only where the start fails.
    fn start_unregistered(&self, backend: &dyn Backend, why: &Error) -> anyhow::Result<Exit> {
        let is_unreachable = is_out_of_reach(why);
        self.terminal.failure(why);
        self.terminal.warning(self.entries.goes_by());
        let Some(snapshot) = self.entries.standby()? else {
            return Err(Error::from(CommandProblem::LastModelUnknown).into());
        };
        let of_registry = start(None, snapshot.as_ref(), &self.wanted, &Zoned::now())?;
        let start = match of_registry.model {
            Some(_) => of_registry,
            None if is_unreachable => self.decide(snapshot.as_ref(), &Ledger::default())?,
            None => self.decide(snapshot.as_ref(), &backend.ledger().unwrap_or_default())?,
        };
        tell(self.terminal, &start, &self.is_new);
        if let (Conversation::New(id), true) = (&start.conversation, start.registration.is_edit()) {
            let id = Foreign::from(id.as_str());
            self.terminal.warning(sentence!("the id of its conversation may not be recorded: {}", id));
        }
        cannot_start(self.terminal, &start);
        Ok(Exit::Error)
    }

    /// Decides on the start, given the registry and the ledger as they are.
    fn decide(&self, snapshot: &dyn Snapshot, ledger: &Ledger) -> Result<Start> {
        // An override that was set while this launch waited counts. A policy that has got mistakes meanwhile does not.
        let changed = self.place.load().ok().filter(|files| files.sources != self.known.sources);
        let changed = changed.and_then(|files| policy::read(&files.sources).ok()).map(|(policy, _)| policy);
        refuse_foreign(changed.as_ref().map(|policy| policy.sessions.backend.name()))?;
        let policy = changed.as_ref().or(self.known.policy.as_ref());
        let capabilities = policy.map(backend::capabilities);
        let both = policy.zip(capabilities.as_deref());
        let by = both.map(|(policy, capabilities)| Decider { policy, capabilities, ledger });
        let now = policy.map_or_else(Zoned::now, now_for);
        start(by, snapshot, &self.wanted, &now)
    }
}

/// Whether the registry cannot be asked for now: its server does not answer, or others hold what is asked for, as a migration does.
/// Nothing has happened then, and a session must not wait for that.
fn is_out_of_reach(error: &Error) -> bool {
    matches!(error.remedy(), Remedy::GoWithout | Remedy::TryAgain)
}

/// Replaces this program by the session's command. Returns only where that fails, after the message.
fn cannot_start(terminal: &Terminal, start: &Start) {
    let Invocation { arguments, environment } = start.command.clone();
    let failed = turn_into(&arguments, environment);
    let program = arguments.first().map(String::as_str).unwrap_or_default();
    terminal.failure(&CommandProblem::NotStarted { program: program.into(), error: failed }.into());
}

/// Notes that a restart of the session is owed. Returns the exit code for the case that the note may be missing.
fn owe(terminal: &Terminal, backend: &dyn Backend, chat: &str) -> Option<Exit> {
    let noted = backend.not_started(chat, Timestamp::now());
    let failed = noted.is_err();
    if let Err(error) = noted {
        terminal.failure(&error);
    }
    // The debt may have been noted already, before the registry was changed.
    if !failed || backend.ledger().is_ok_and(|ledger| ledger.owed.contains_key(chat)) {
        terminal.note(sentence!("a restart of {} is owed", Foreign::from(chat)));
        return None;
    }
    terminal.warning(sentence!(
        "the restart owed to {} could not be recorded: restart it by hand if an older session still runs",
        Foreign::from(chat)
    ));
    Some(Exit::Partly)
}

/// Refuses a backend whose sessions are started by the owner of its registry.
pub(super) fn refuse_foreign(backend: Option<&str>) -> Result<()> {
    match backend.and_then(backend::refuses_launch) {
        Some(LaunchRefusal { message, hint }) => Err(CommandProblem::NoLaunch { message, hint }.into()),
        None => Ok(()),
    }
}
