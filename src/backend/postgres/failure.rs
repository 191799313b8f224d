//! What went wrong with a server, in words. Details of the server's errors show whole rows, and are never repeated.

use std::error::Error as _;

use postgres::error::SqlState;

use crate::backend::postgres::problem::{TableProblem, Why};
use crate::error::{Error, Remedy};
use crate::foreign::{Public, Sentence};

/// An error of the server or of the way to it, met while this was done: `read the table`.
pub(super) fn failed(doing: impl Into<Sentence>, error: &postgres::Error) -> Error {
    let why = match error.as_db_error() {
        None => Why::Connection { words: of_connection(error).into() },
        Some(found) => Why::Server {
            words: found.message().into(),
            code: Public::new(found.code().code().to_owned()),
            hint: hint(found.code()),
            remedy: remedy(found.code()),
        },
    };
    TableProblem::Failed { doing: doing.into(), why }.into()
}

/// Where the server ends a transaction because of others, it may pass when it is made again.
fn remedy(code: &SqlState) -> Remedy {
    let conflicts = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    if conflicts.contains(code) { Remedy::TryAgain } else { Remedy::None }
}

fn hint(code: &SqlState) -> Option<&'static str> {
    let hints: [(&[SqlState], &str); 8] = [
        (
            &[SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED],
            "other transactions keep changing the same rows: run again",
        ),
        (
            &[SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION],
            "check the user, and the password in PGPASSWORD or ~/.pgpass",
        ),
        (&[SqlState::INVALID_CATALOG_NAME], "name a database of that server with dbname"),
        (&[SqlState::TOO_MANY_CONNECTIONS], "run again, or go through a pooler"),
        (
            &[SqlState::INSUFFICIENT_PRIVILEGE],
            "ask for the rights: reconcile init --postgres --grants ROLE prints them",
        ),
        (&[SqlState::READ_ONLY_SQL_TRANSACTION], "the server is read-only: name the primary, or plan with --dry-run"),
        (&[SqlState::QUERY_CANCELED], "a time limit of the server or the role has ended the statement"),
        (&[SqlState::LOCK_NOT_AVAILABLE], "another transaction holds rows of the table: run again"),
    ];
    hints.iter().find(|(codes, _)| codes.contains(code)).map(|(_, hint)| *hint)
}

/// Whether the server cannot encrypt connections. Only the library's own words tell.
pub(super) fn is_without_encryption(error: &postgres::Error) -> bool {
    error.as_db_error().is_none() && of_connection(error).contains("does not support tls")
}

/// What the connection's error is, without the library's own words around it.
fn of_connection(error: &postgres::Error) -> String {
    let mut cause = error.source();
    let mut words = error.to_string();
    while let Some(inner) = cause {
        words = inner.to_string();
        cause = inner.source();
    }
    let end = words.find(" (os error").unwrap_or(words.len());
    words[..end].to_lowercase()
}
