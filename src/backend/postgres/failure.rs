//! What went wrong with a server, in words. Details of the server's errors show whole rows, and are never repeated.

use std::error::Error as _;
use std::io;

use postgres::error::SqlState;
use rustls::CertificateError;

use crate::backend::postgres::problem::{TableProblem, Why};
use crate::backend::tls::mistrust;
use crate::error::{Error, Holder, Remedy};
use crate::foreign::{Public, Sentence};

/// An error of the server or of the way to it, met while this was done: `read the table`.
pub(super) fn failed(doing: impl Into<Sentence>, error: &postgres::Error) -> Error {
    let why = match error.as_db_error() {
        None => match mistrusted(error) {
            Some(why) => Why::Certificate { why: mistrust(why).into() },
            None => Why::Connection { words: of_connection(error).into() },
        },
        Some(found) => Why::Server {
            words: found.message().into(),
            // One of the codes that the SQL standard and PostgreSQL define.
            code: Public::new(found.code().code().to_owned()),
            hint: hint(found.code()),
            remedy: remedy(found.code()),
        },
    };
    TableProblem::Failed { doing: doing.into(), why }.into()
}

/// Other transactions are in the way.
const CONFLICTS: [SqlState; 3] =
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
/// The classes of codes by which the database refuses a value or a row: the column cannot hold it, a constraint or the check of
/// a view forbids it.
const REFUSALS: [&str; 3] = ["22", "23", "44"];
/// The codes of refusals outside of those classes: of a generated column, and of a trigger that raises an exception.
const REFUSED: [SqlState; 2] = [SqlState::GENERATED_ALWAYS, SqlState::RAISE_EXCEPTION];

/// A conflict may pass when the transaction is made again. A refusal is of one row, and the others can be changed.
fn remedy(code: &SqlState) -> Remedy {
    let class = code.code().get(..2).unwrap_or_default();
    match code {
        code if CONFLICTS.contains(code) => Remedy::TryAgain,
        code if REFUSED.contains(code) || REFUSALS.contains(&class) => Remedy::LeaveOut,
        _ => Remedy::None,
    }
}

/// An error met while the lock of a registry was taken. Where another transaction holds it, that is told as of any other lock.
pub(super) fn not_held(registry: &str, error: &postgres::Error) -> Error {
    if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
        return Error::Locked { path: registry.into(), holder: Holder::Another(None) };
    }
    failed("take the lock of the registry", error)
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
        (&[SqlState::LOCK_NOT_AVAILABLE], "another transaction has locked the table or rows of it: run again"),
    ];
    hints.iter().find(|(codes, _)| codes.contains(code)).map(|(_, hint)| *hint)
}

/// Whether the server cannot encrypt connections. Only the library's own words tell.
pub(super) fn is_without_encryption(error: &postgres::Error) -> bool {
    error.as_db_error().is_none() && of_connection(error).contains("does not support tls")
}

/// Why the certificate of the server does not count, where that is what is wrong with a connection.
fn mistrusted(error: &postgres::Error) -> Option<&CertificateError> {
    let broken = error.source()?.downcast_ref::<io::Error>()?;
    match broken.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(why) => Some(why),
        _ => None,
    }
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
