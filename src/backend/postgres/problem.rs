//! Why a table cannot be used, or a server not be reached.

use std::cmp::Ordering;
use std::path::PathBuf;

use crate::error::{Explain, Explanation, Remedy};
use crate::foreign::{Foreign, Public, Sentence, sentence};

/// Why a table, or what runs remember of it, cannot be used.
#[derive(Debug)]
pub(super) enum TableProblem {
    /// The server refused, or the connection failed, while this was done: `read the table`.
    Failed { doing: Sentence, why: Why },
    /// A server could not be reached, nor one that stands in for it.
    Unreachable { failures: Vec<Explanation> },
    /// A server takes connections and says nothing.
    Silent { seconds: u64 },
    /// The schema has another version.
    Format { found: i32, needed: i32 },
    /// The schema holds what cannot be read.
    Damaged { why: Foreign },
    /// The answer to a COMMIT was lost, and the server cannot be asked what became of it.
    Unanswered { why: Sentence },
    /// The table was changed each time that a session was to be registered.
    Unsteady { registry: Foreign, times: usize },
    /// After an edit a row does not say what was written.
    NotTaken { name: &'static str, chat: Foreign },
    /// The policy has no column for the ids of conversations.
    NoColumn,
    /// A row has no chat id.
    NoChatId { table: Foreign },
    /// A JSON value in a row has another form than the policy says.
    OtherForm { field: Foreign, chat: Foreign },
    /// Another run has the registry by now.
    TakenOver { registry: Foreign },
    /// This role may not change the table.
    NotWritable { why: Foreign },
    /// What is done could not be remembered.
    NoMemory { hint: &'static str },
    /// What runs remember is not known.
    StateUnknown { message: &'static str, hint: &'static str },
}

/// What went wrong with a statement or a connection. Details of the server's errors show whole rows, and are never repeated.
#[derive(Debug)]
pub(super) enum Why {
    /// The server says so, with a code of SQL.
    Server { words: Foreign, code: Public, hint: Option<&'static str>, remedy: Remedy },
    /// The connection fails.
    Connection { words: Foreign },
    /// The certificate of the server does not count.
    Certificate { why: Foreign },
}

const LOOK_AT_SERVER: &str = "check that the server runs, and that its address is right";

impl Explain for TableProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::Failed { doing, why: Why::Server { words, code, hint, .. } } => {
                let message = sentence!("cannot {}: the server says: {} (error {})", doing, words, code);
                Explanation { hint: hint.map(Sentence::from), ..Explanation::new("server", message) }
            }
            Self::Failed { doing, why: Why::Connection { words } } => {
                Explanation::new("connection", sentence!("cannot {}: {}", doing, words)).hint(LOOK_AT_SERVER)
            }
            Self::Failed { doing, why: Why::Certificate { why } } => {
                let message = sentence!("cannot {}: the certificate of the server is not trusted: {}", doing, why);
                Explanation::new("connection", message).hint(
                    "connect by a name that is in the certificate, and name the certificate of its authority with sslrootcert",
                )
            }
            Self::Unreachable { failures } => {
                let message = Sentence::joined(failures.iter().map(|failure| failure.message.clone()), "; ");
                // Of several, the last is the one that the others stood in for.
                let hint = failures.last().and_then(|failure| failure.hint.clone());
                Explanation { hint, ..Explanation::new("server-unreachable", message) }
            }
            Self::Silent { seconds } => {
                Explanation::new("server-silent", sentence!("the server did not answer within {} s", *seconds))
                    .hint("check that the server runs")
            }
            Self::Format { found, needed } => {
                let message =
                    sentence!("the schema reconcile has the format {}, but this version needs {}", *found, *needed);
                Explanation::new("schema-format", message).hint(match found.cmp(needed) {
                    Ordering::Less => sentence!(
                        "run the statements that change it: reconcile init --postgres --from {} prints them",
                        *found
                    ),
                    Ordering::Equal | Ordering::Greater => {
                        "it was made for a newer reconcile: use that version, or a newer one".into()
                    }
                })
            }
            Self::Damaged { why } => {
                let message =
                    sentence!("the schema reconcile contains data that this version does not support: {}", why);
                Explanation::new("schema-damaged", message)
                    .hint("it was written by a newer reconcile, or changed by hand")
            }
            Self::Unanswered { why } => {
                let message = sentence!("it is not known whether the changes were committed: {}", why.clone());
                Explanation::new("commit-unknown", message).hint("the next run makes those that were not")
            }
            Self::Unsteady { registry, times } => {
                let message =
                    sentence!("{} was changed {} times while a session was being registered", registry, *times);
                Explanation::new("table-unsteady", message).hint("nothing was changed: run the same command again")
            }
            Self::NotTaken { name, chat } => {
                let message = sentence!("the database did not keep the new {} of chat {}", *name, chat);
                Explanation::new("not-taken", message)
                    .hint("a trigger, a rule or the view undoes it: change that, or leave the chat out with --exclude")
            }
            Self::NoColumn => {
                Explanation::new("no-column", "the id of a conversation cannot be recorded: no column is set for it")
                    .hint("name one in registry.columns: session_id = \"…\"")
            }
            Self::NoChatId { table } => Explanation::new("no-chat-id", sentence!("a row of {} has no chat id", table))
                .hint("make a view without such rows, and name the view in registry.table"),
            Self::OtherForm { field, chat } => {
                let message =
                    sentence!("the {} of chat {} cannot be read: its JSON has an unexpected form", field, chat);
                Explanation::new("other-form", message)
                    .hint("the path in registry.columns must lead through objects to a string, to null or to nothing")
            }
            Self::TakenOver { registry } => {
                Explanation::new("taken-over", sentence!("another run has taken over {}", registry))
                    .hint("this run was idle for too long: run again")
            }
            Self::NotWritable { why } => {
                Explanation::new("not-writable", sentence!("models cannot be written: {}", why))
                    .hint("name the primary server; reconcile init --postgres --grants ROLE prints the rights")
            }
            Self::NoMemory { hint } => {
                Explanation::new("no-memory", "a run changes nothing that it cannot record").hint(*hint)
            }
            Self::StateUnknown { message, hint } => Explanation::new("state-lost", *message).hint(*hint),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Failed { why: Why::Server { remedy, .. }, .. } => *remedy,
            Self::NotTaken { .. } => Remedy::LeaveOut,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Unanswered { .. } => Remedy::GoWithout,
            _ => Remedy::None,
        }
    }
}

/// Why the connection that a policy or this host names cannot be made.
#[derive(Debug)]
pub(super) enum ConnectionProblem {
    /// A service has a setting that is none.
    Service { name: Foreign, message: Foreign, advice: Foreign },
    /// No file defines the service.
    NoService { name: Foreign, files: Vec<PathBuf> },
    /// There are not as many ports or addresses as hosts.
    Counts { hosts: usize, count: usize, what: &'static str },
    /// An address is none.
    NotAnAddress,
    /// A policy's connection leads to another host, and would take a secret along.
    Unconsented { keyword: Foreign },
    /// No user is named.
    NoUser,
    /// A keyword has a value that is none.
    Value { keyword: &'static str, write: &'static str },
    /// A keyword has a value that is no number, or too large.
    NotANumber { keyword: &'static str },
    /// A line of a service file is no setting.
    ServiceLine { file: PathBuf, line: usize },
    /// Other users can read the passwords.
    OpenPasswords { file: PathBuf },
    /// No certificate is trusted.
    NoRoots,
    /// A file does not hold certificates.
    NotRoots { file: PathBuf },
}

impl Explain for ConnectionProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::Service { name, message, advice } => {
                Explanation::new("service", sentence!("the service `{}` cannot be used: {}", name, message))
                    .hint(advice)
            }
            Self::NoService { name, files } => {
                let files = Sentence::joined(files.iter().map(Sentence::from), " or ");
                Explanation::new("no-service", sentence!("there is no service `{}` on this host", name))
                    .hint(sentence!("define it in {}, below a line [{}]", files, name))
            }
            Self::Counts { hosts, count, what } => {
                let message = sentence!("there are {} hosts and {} {} for them", *hosts, *count, *what);
                Explanation::new("host-counts", message).hint("name as many of each, with commas between them")
            }
            Self::NotAnAddress => Explanation::new("not-an-address", "`hostaddr` is not an IP address"),
            Self::Unconsented { keyword } => {
                let message =
                    sentence!("the policy's connection sets `{}`, and its server is not on this host", keyword);
                Explanation::new("server-elsewhere", message).hint(
                    "to allow it, set RECONCILE_POSTGRES or pass --connect, or define a service on this host and name \
                     only that in the policy",
                )
            }
            Self::NoUser => {
                Explanation::new("no-user", "the connection names no user").hint("add user=NAME, or set PGUSER")
            }
            Self::Value { keyword, write } => {
                let message = sentence!("`{}` has a value that is not supported", *keyword);
                Explanation::new("connection-value", message).hint(sentence!("use {}", *write))
            }
            Self::NotANumber { keyword } => {
                let message = sentence!("`{}` of the connection is not a valid number", *keyword);
                Explanation::new("connection-number", message)
            }
            Self::ServiceLine { file, line } => {
                Explanation::new("service-line", sentence!("{}:{}: this is not a setting of a service", file, *line))
                    .hint("write settings as keyword=value")
            }
            Self::OpenPasswords { file } => {
                Explanation::new("open-passwords", sentence!("others can read the password file {}", file))
                    .hint(sentence!("chmod 600 {}", file))
            }
            Self::NoRoots => {
                let message = "there is no root certificate to verify the server's certificate with";
                Explanation::new("no-roots", message).hint("set sslrootcert to a file of root certificates")
            }
            Self::NotRoots { file } => {
                Explanation::new("not-roots", sentence!("{} is not a file of root certificates", file))
                    .hint("sslrootcert names a file of certificates in PEM form, or `system`")
            }
        }
    }
}
