//! `reconcile record-session`: the id of a conversation, told by an assistant that makes its own.

use std::io::{self, Read};

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::apply::Registered;
use crate::backend;
use crate::chat::is_session_id;
use crate::cli::args::PlaceArgs;
use crate::cli::commands::launch::refuse_foreign;
use crate::cli::commands::problem::CommandProblem;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::home_of_past;
use crate::error::Result;
use crate::foreign::{Foreign, Sentence};
use crate::launch::record;
use crate::policy;
use crate::registry::Snapshot;

/// In bytes. What a hook is given is much shorter.
const LONGEST_INPUT: u64 = 1 << 20;
const FORM: &str = "an id consists of at most 128 characters of A-Z a-z 0-9 _ -";

const READ_INPUT: &str = "to read the id from standard input, pass --stdin";

const HOOK: &str = "\
As a hook of Claude Code, in the settings of its sessions:

  { \"hooks\": { \"SessionStart\": [ { \"hooks\": [ { \"type\": \"command\",
    \"command\": \"reconcile record-session \\\"$RECONCILE_CHAT_ID\\\" --stdin --policy /srv/chats/policy.toml\" } ] } ] } }";

#[derive(Clone, Debug, Args)]
#[command(after_help = HOOK)]
pub(crate) struct RecordSessionArgs {
    /// The chat: its id or session name
    #[arg(value_name = "CHAT")]
    chat: String,

    /// The id of its conversation
    #[arg(value_name = "ID", required_unless_present = "stdin", conflicts_with = "stdin")]
    id: Option<String>,

    /// Read the id from standard input: the `session_id` of the JSON that a `SessionStart` hook of Claude Code is given
    #[arg(long)]
    stdin: bool,
}

/// Prints nothing on stdout: what a hook prints there becomes part of the conversation.
pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &RecordSessionArgs) -> anyhow::Result<Exit> {
    let id = match &args.id {
        Some(id) => match valid(id) {
            Ok(id) => id,
            Err(error) => {
                terminal.failure(&error);
                return Ok(Exit::Usage);
            }
        },
        None => id_of_input()?,
    };
    let backend = place.load().ok().and_then(|files| policy::outline(&files.sources).backend);
    refuse_foreign(backend.as_deref())?;
    let backend = backend::of_home(home_of_past(terminal, place)?);
    let mut record = |snapshot: &dyn Snapshot, _: &_| record(snapshot, &args.chat, &id);
    let Registered { changed, error, .. } =
        backend.record_session(place.lock_timeout, Timestamp::now(), &mut record)?;
    let done = format!("{} resumes {id} when it next starts", args.chat);
    Ok(match error {
        Some(error) => terminal.failure_after(&error, Foreign::from(done)),
        None if changed => {
            terminal.note(Foreign::from(done));
            Exit::Done
        }
        None => Exit::Done,
    })
}

/// The id in the JSON on standard input.
fn id_of_input() -> Result<String> {
    let wrong = |why| CommandProblem::NoHook { why };
    let mut text = Vec::new();
    let read = io::stdin().lock().take(LONGEST_INPUT).read_to_end(&mut text);
    read.map_err(|error| wrong(Sentence::from(&error)))?;
    let hook: Value = serde_json::from_slice(&text).map_err(|error| wrong(Foreign::from(error.to_string()).into()))?;
    let id = hook.get("session_id").and_then(Value::as_str).ok_or_else(|| wrong("it has no session_id".into()))?;
    valid(id)
}

/// What may be recorded as an id. A hyphen alone is how a user asks other programs to read standard input.
fn valid(id: &str) -> Result<String> {
    match id {
        "-" => Err(CommandProblem::NoSessionId { typed: format!("{id:?}").into(), form: READ_INPUT }.into()),
        id if is_session_id(id) => Ok(id.to_owned()),
        id => Err(CommandProblem::NoSessionId { typed: format!("{id:?}").into(), form: FORM }.into()),
    }
}
