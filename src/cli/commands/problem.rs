//! Why a command cannot do what it is asked to.

use std::io;
use std::path::PathBuf;

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Public, Sentence, sentence};

const SEE_HISTORY: &str = "see: reconcile history";

/// Why an override cannot be set, or a run not be taken back.
#[derive(Debug)]
pub(super) enum EditProblem {
    /// A policy is not edited for a snapshot.
    EditOfSnapshot,
    /// The policy changes each time that it was read.
    PolicyUnsteady,
    /// An override cannot be edited without a loss.
    NotEditable { chat: Public },
    /// The end of an override has passed.
    Expired { until: Foreign },
    /// A model that is to be set is withdrawn.
    Withdrawn { model: Public, now: Public },
    /// The backend does not take a model for a chat.
    CannotBeSet { chat: Public, model: Foreign, why: Foreign },
    /// The override of a chat stands under its former id.
    FormerId { chat: Public, id: Public },
    /// A model is another spelling of one that the policy allows.
    Spelling { typed: Foreign, model: Foreign },
    /// A model is not allowed.
    NotAllowed { typed: Foreign, near: Option<Foreign>, allowed: Foreign },
    /// A run did nothing that could be taken back.
    NothingToUndo { run: Foreign },
    /// The history has only the end of a run.
    RunCutOff { run: Foreign },
    /// No run has changed anything.
    NoRunToUndo,
    /// The history has no such run.
    NoSuchRun { typed: Foreign },
    /// Several runs begin with what was typed.
    AmbiguousRun { typed: Foreign, runs: Vec<Public> },
}

impl Explain for EditProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::EditOfSnapshot => {
                Explanation::new("edit-of-snapshot", "a policy cannot be edited from a redacted snapshot")
                    .hint("edit it on the host of the registry")
            }
            Self::PolicyUnsteady => Explanation::new("policy-unsteady", "the policy kept changing while it was read")
                .hint("find out which program edits it, and run again"),
            Self::NotEditable { chat } => {
                let message = sentence!("the override for {} is written in a way that cannot be edited safely", chat);
                Explanation::new("not-editable", message)
                    .hint("nothing was changed: edit the policy by hand, and run reconcile")
            }
            Self::Expired { until } => {
                Explanation::new("already-expired", sentence!("--until {} has already expired", until))
                    .hint("an override that has expired does not count; nothing was changed")
            }
            Self::Withdrawn { model, now } => {
                let message = sentence!("{} is retired, and {} takes its place", model, now);
                Explanation::new("withdrawn", message).hint(sentence!("set {} instead; nothing was changed", now))
            }
            Self::CannotBeSet { chat, model, why } => {
                Explanation::new("cannot-be-set", sentence!("{} cannot be set to {}: {}", chat, model, why))
                    .hint("nothing was changed")
            }
            Self::FormerId { chat, id } => {
                let message = sentence!("the override for {} is written under {}, with `was`", chat, id);
                Explanation::new("former-id", message).hint("nothing was changed: edit it there by hand")
            }
            Self::Spelling { typed, model } => {
                Explanation::new("model-not-allowed", sentence!("{} is not an allowed model", typed))
                    .hint(sentence!("in the policy it is another spelling of {}: set {}", model, model))
                    .nameless_hint("in the policy it is another spelling of an allowed model: set that")
            }
            Self::NotAllowed { typed, near, allowed } => {
                let near = near.as_ref().map(|near| sentence!("did you mean `{}`? ", near)).unwrap_or_default();
                Explanation::new("model-not-allowed", sentence!("{} is not an allowed model", typed))
                    .hint(sentence!("{}the policy allows: {}", near, allowed))
                    .nameless_hint("set a model that models.allowed of the policy lists")
            }
            Self::NothingToUndo { run } => {
                let message = sentence!("the run {} has nothing to undo", run);
                Explanation::new("nothing-to-undo", message).hint("see what it did with: reconcile history")
            }
            Self::RunCutOff { run } => {
                let message = sentence!("the history no longer has all of the run {}: it was too long", run);
                Explanation::new("run-cut-off", message)
                    .hint("nothing was changed; see what it still has with: reconcile history")
            }
            Self::NoRunToUndo => {
                Explanation::new("no-run-to-undo", "no run in the history has changed a model or an override")
                    .hint(SEE_HISTORY)
            }
            Self::NoSuchRun { typed } => {
                Explanation::new("no-such-run", sentence!("no such run: {}", typed)).hint(SEE_HISTORY)
            }
            Self::AmbiguousRun { typed, runs } => {
                let names = Sentence::joined(runs.iter().map(Sentence::from), ", ");
                let message = sentence!("{} is the beginning of the names of {} runs", typed, runs.len());
                Explanation::new("ambiguous-run", message).hint(sentence!("pass one of them: {}", names))
            }
        }
    }
}

/// Why a command cannot do what it is asked to.
#[derive(Debug)]
pub(super) enum CommandProblem {
    /// `adopt` is not told of which registry.
    NothingToAdopt { policy: Foreign },
    /// A path cannot stand in a policy.
    PathNotUtf8 { path: PathBuf },
    /// `diff --from` names nothing that is there.
    NoSuchFrom { typed: Foreign },
    /// An option says of a chat what the registry says otherwise.
    OtherField { name: &'static str, said: Foreign, given: Foreign },
    /// No restart is owed to a chat.
    NotOwed { chat: Public },
    /// What a hook was given is not on standard input.
    NoHook { why: Sentence },
    /// A text cannot be the id of a session.
    NoSessionId { typed: Foreign, form: &'static str },
    /// A snapshot is to be made of a snapshot.
    AlreadyRedacted { registry: Foreign },
    /// A launch is not told in which registry.
    LaunchWithoutRegistry,
    /// The policy cannot be used, and nothing else names the registry.
    UnusablePolicy,
    /// No file tells what a session last ran.
    LastModelUnknown,
    /// The registry that a damaged policy names does not have the chat.
    GuessedRegistry { registry: PathBuf, chat: Foreign },
    /// Sessions of this backend are started by another program.
    NoLaunch { message: &'static str, hint: &'static str },
    /// A program cannot be started.
    NotStarted { program: Foreign, error: io::Error },
    /// There is no such manual page.
    NoManualPage { typed: Foreign, advice: Foreign },
}

impl Explain for CommandProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NothingToAdopt { policy } => {
                let message = sentence!("no registry given, and there is no policy {} that could name one", policy);
                Explanation::new("nothing-to-adopt", message)
                    .hint("pass --registry PATH, or set RECONCILE_REGISTRY; for a gateway, pass --connect URL")
            }
            Self::PathNotUtf8 { path } => {
                let message = sentence!("no policy can name the registry {}: it is not UTF-8", path);
                Explanation::new("path-not-utf8", message)
                    .hint("make a link to it with a name that is UTF-8, and pass that")
            }
            Self::NoSuchFrom { typed } => {
                Explanation::new("no-such-from", sentence!("--from {}: there is no such file or directory", typed))
                    .hint(sentence!("for the policy in git, pass --from git:{}", typed))
            }
            Self::OtherField { name, said, given } => {
                let message = sentence!("in the registry this chat has {} {}, not {}", *name, said, given);
                Explanation::new("other-field", message).hint("pass only what the registry does not have")
            }
            Self::NotOwed { chat } => Explanation::new("not-owed", sentence!("no restart is owed to {}", chat))
                .hint("list what is owed with: reconcile owed"),
            Self::NoHook { why } => {
                let message = sentence!("standard input is not the input of a SessionStart hook: {}", why);
                Explanation::new("no-hook", message)
                    .hint("it must be a JSON object with a session_id; or pass the id as an argument")
            }
            Self::NoSessionId { typed, form } => {
                Explanation::new("no-session-id", sentence!("{} is not a valid session id", typed)).hint(*form)
            }
            Self::AlreadyRedacted { registry } => {
                Explanation::new("already-redacted", sentence!("{} is a redacted snapshot already", registry))
                    .hint("make a snapshot of the registry itself")
            }
            Self::LaunchWithoutRegistry => Explanation::new("launch-without-registry", "no registry given")
                .hint("set registry.path in the policy, or pass --registry"),
            Self::UnusablePolicy => {
                let message = "no registry given, and the policy that could name one cannot be used";
                Explanation::new("unusable-policy", message).hint("fix it (reconcile check shows all mistakes)")
            }
            Self::LastModelUnknown => {
                let message = "what the session last ran is not known: no file can be kept beside the policy";
                Explanation::new("last-model-unknown", message).hint("run again when the database answers")
            }
            Self::GuessedRegistry { registry, chat } => {
                let message = sentence!("{}, which a line of the policy names, does not have {}", registry, chat);
                Explanation::new("guessed-registry", message).hint("fix the policy, or pass --registry")
            }
            Self::NoLaunch { message, hint } => Explanation::new("no-launch", *message).hint(*hint),
            Self::NotStarted { program, error } => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => "check that it is a program, and that this user may execute it",
                    _ => "check that it is installed, and in PATH",
                };
                Explanation::new("not-started", sentence!("cannot start {}: {}", program, error)).hint(hint)
            }
            Self::NoManualPage { typed, advice } => {
                Explanation::new("no-manual-page", sentence!("no such manual page: {}", typed)).hint(advice)
            }
        }
    }
}
