//! The commands, and which of their arguments do not go together.

mod adopt;
mod check;
mod completions;
mod diff;
mod doctor;
mod explain;
mod history;
mod init;
mod init_postgres;
mod launch;
mod list;
mod man;
mod overrides;
mod owed;
mod problem;
mod record_session;
mod set_model;
mod snapshot;
pub(crate) mod undo;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::args::{CommonArgs, PlaceArgs, PlanArgs, RunArgs};
use crate::cli::commands::adopt::AdoptArgs;
use crate::cli::commands::check::CheckArgs;
use crate::cli::commands::completions::CompletionsArgs;
use crate::cli::commands::diff::DiffArgs;
use crate::cli::commands::doctor::DoctorArgs;
use crate::cli::commands::explain::ExplainArgs;
use crate::cli::commands::history::HistoryArgs;
use crate::cli::commands::init::InitArgs;
use crate::cli::commands::launch::LaunchArgs;
use crate::cli::commands::list::ListArgs;
use crate::cli::commands::man::ManArgs;
use crate::cli::commands::owed::OwedArgs;
use crate::cli::commands::record_session::RecordSessionArgs;
use crate::cli::commands::set_model::{SetModelArgs, UnsetModelArgs};
use crate::cli::commands::undo::UndoArgs;
use crate::cli::exit::Exit;
use crate::cli::run;
use crate::cli::terminal::Terminal;
use crate::report::Format;

const EXAMPLES: &str = "\
Minimal policy (policy.toml):
  [models]
  allowed  = [\"opus\", \"sonnet\", \"haiku\"]
  fallback = \"sonnet\"
  [tiers]
  bots     = \"haiku\"
  [registry]
  path     = \"sessions.json\"
  [sessions]
  restart  = [\"supervisorctl\", \"restart\", \"{session_slug}\"]

Examples:
  reconcile plan                             show what would change; writes and runs nothing
  reconcile apply                            apply it, and restart only what drifted
  reconcile apply --confirm                  show it, ask, and then apply it
  reconcile plan --output json=plan.json
  reconcile apply --plan plan.json           do exactly what that plan showed, or nothing
  reconcile plan --chat \"Cal Ortiz\"          look at one chat
  reconcile list --tier family               chats, their models and their states
  reconcile doctor                           check whether a run would work on this host
  reconcile init                             a first policy, with comments
  reconcile adopt --registry sessions.json --write policy.toml
  reconcile diff --from git:main             what a change of the policy does
  reconcile owed                             restarts that are still to be done

Exit codes:
  0   in sync, or all that could be done was done
  1   error; nothing was changed
  2   plan --detailed-exitcode: a run would do something
  3   refused as a whole: over the limit, not the plan named by --plan, or not confirmed
  4   partly done; run again (a failed restart waits for its next try)
  64  wrong usage
  75  another run holds the lock";

/// Make the model that every chat's session runs on match a TOML policy.
///
/// Reads the policy, compares it with the registry of sessions, writes what differs, and restarts only the sessions
/// that drifted. A run that dies anywhere is finished by the next one.
#[derive(Debug, Parser)]
#[command(name = "reconcile", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    // Before what every command takes: in this order they stand in the help.
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Each command's own arguments stand in its file.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what a run would do: `reconcile --dry-run` by another name
    Plan(Box<PlanArgs>),
    /// Plan and apply: `reconcile` by another name
    Apply(Box<RunArgs>),
    /// Check the policy for mistakes
    Check(CheckArgs),
    /// Check whether a run would work on this host, without changing anything
    Doctor(DoctorArgs),
    /// List every chat with its model, what decided on it, and its state
    #[command(visible_alias = "status")]
    List(ListArgs),
    /// Show what decides the model of a chat, and every rule that lost
    Explain(ExplainArgs),
    /// Show what a change of the policy does, apart from drift that exists anyway
    Diff(DiffArgs),
    /// Write an override for a chat into the policy, then reconcile that chat
    SetModel(SetModelArgs),
    /// Remove the override for a chat from the policy, then reconcile that chat
    UnsetModel(UnsetModelArgs),
    /// Write overrides that undo what a run changed, then reconcile those chats
    Undo(UndoArgs),
    /// Register a session, decide on its model, and become the command that starts it
    Launch(LaunchArgs),
    /// Record the id of a conversation, for the next launch to resume
    RecordSession(RecordSessionArgs),

    /// Write a first policy, with comments
    ///
    /// The policy is --policy, `RECONCILE_POLICY` or policy.toml, which must not be there yet. With --registry, or
    /// `RECONCILE_REGISTRY`, it describes that registry as it is, as `reconcile adopt` does; with --connect, that gateway.
    Init(InitArgs),

    /// Print a policy that describes the registry as it is
    ///
    /// Most chats of a tier decide on the tier's model, and the others become overrides. Reconciling with that policy
    /// changes no session that has a model. The registry is --registry, `RECONCILE_REGISTRY`, or what a policy that
    /// is already there names; the printed policy finds it when it is saved in the current directory. A shell's >
    /// empties the file before it is read: use --write, which never overwrites one. With --connect, where there is no
    /// policy yet, it describes the sessions of that gateway, whose token is in `OPENCLAW_GATEWAY_TOKEN`.
    Adopt(AdoptArgs),

    /// Show what past runs did, the newest first
    History(HistoryArgs),
    /// Show the restarts that are still owed
    Owed(OwedArgs),
    /// Print the registry with pseudonyms for chats, for continuous integration; the key stays on this host
    Snapshot,

    /// Print the script with which a shell completes this program's arguments
    ///
    /// The shell then asks this program, which offers chats, tiers, models and runs of the policy, the registry and the
    /// history. For bash: source <(reconcile completions bash). For zsh: source <(reconcile completions zsh) after compinit,
    /// or save it as _reconcile in a directory of $fpath. For fish: reconcile completions fish | source.
    Completions(CompletionsArgs),

    /// Print a manual page; read it with: reconcile man | man -l -
    Man(ManArgs),
}

impl Command {
    /// Whether what it shows can be redacted.
    fn takes_redaction(&self) -> bool {
        match self {
            Self::Plan(_)
            | Self::Apply(_)
            | Self::Check(_)
            | Self::Doctor(_)
            | Self::List(_)
            | Self::Explain(_)
            | Self::Diff(_)
            | Self::SetModel(_)
            | Self::UnsetModel(_)
            | Self::Undo(_)
            | Self::History(_)
            | Self::Owed(_)
            | Self::Snapshot => true,
            Self::Launch(_)
            | Self::RecordSession(_)
            | Self::Init(_)
            | Self::Adopt(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        match self.command {
            None => run::run(terminal, &self.place, &self.run),
            Some(Command::Plan(args)) => run::run(terminal, &self.place, &RunArgs::from(*args)),
            Some(Command::Apply(args)) => run::run(terminal, &self.place, &args),
            Some(Command::Check(args)) => check::run(terminal, &self.place, &args),
            Some(Command::Doctor(args)) => doctor::run(terminal, &self.place, &args),
            Some(Command::List(args)) => list::run(terminal, &self.place, &args),
            Some(Command::Explain(args)) => explain::run(terminal, &self.place, &args),
            Some(Command::Launch(args)) => launch::run(terminal, &self.place, &args),
            Some(Command::RecordSession(args)) => record_session::run(terminal, &self.place, &args),
            Some(Command::Init(args)) => init::run(terminal, &self.place, &args),
            Some(Command::Snapshot) => snapshot::run(terminal, &self.place),
            Some(Command::SetModel(args)) => set_model::set(terminal, &self.place, &args),
            Some(Command::UnsetModel(args)) => set_model::unset(terminal, &self.place, &args),
            Some(Command::Adopt(args)) => adopt::run(terminal, &self.place, &args),
            Some(Command::Completions(args)) => Ok(completions::run(terminal, &args)?),
            Some(Command::Man(args)) => Ok(man::run(terminal, Self::command(), &args)?),
            Some(Command::Diff(args)) => diff::run(terminal, &self.place, &args),
            Some(Command::History(args)) => history::run(terminal, &self.place, &args),
            Some(Command::Undo(args)) => undo::run(terminal, &self.place, &args),
            Some(Command::Owed(args)) => owed::run(terminal, &self.place, &args),
        }
    }

    /// What a run takes, by each of the names that it has.
    pub(crate) fn common(&self) -> &CommonArgs {
        match &self.command {
            Some(Command::Plan(args)) => &args.common,
            Some(Command::Apply(args)) => &args.common,
            _ => &self.run.common,
        }
    }

    /// What of the command line does not go together: why, and what to do about it.
    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let report = match &self.command {
            None | Some(Command::Plan(_) | Command::Apply(_)) => Some(&self.common().report),
            Some(Command::SetModel(args)) => Some(&args.edit.report),
            Some(Command::UnsetModel(args)) => Some(&args.edit.report),
            Some(Command::Undo(args)) => Some(&args.edit.report),
            Some(_) => None,
        };
        if self.place.redact && !self.command.as_ref().is_none_or(Command::takes_redaction) {
            return Err(("the output of that command cannot be redacted", "leave out --redact"));
        }
        if self.command.is_some() && self.run != RunArgs::default() {
            let hint = "put it after the subcommand, if that has it too: reconcile help SUBCOMMAND";
            return Err(("an option before a subcommand belongs to a run", hint));
        }
        if let Some(Command::Check(CheckArgs { path: Some(_), .. })) = &self.command
            && self.place.names_policy()
        {
            return Err(("the policy is named twice", "leave out --policy, or the path after check"));
        }
        if self.place.redact && report.is_some_and(|report| report.formats().any(Format::quotes_registry)) {
            let why = "a diff of the registry cannot be redacted: it is the registry's own text";
            return Err((why, "show text, json or markdown instead"));
        }
        Ok(())
    }
}
