//! The two files of libpq: services and passwords.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::backend::postgres::problem::ConnectionProblem;
use crate::error::{Error, Result};

/// The settings of a service: keywords and values, in the order of the file. `None` where the file does not have it, or is
/// not there.
///
/// # Errors
/// Where the file cannot be read, or has a line that is no setting.
pub(super) fn service(file: &Path, name: &str) -> Result<Option<Vec<(String, String)>>> {
    let Some(text) = read(file)? else { return Ok(None) };
    let header = format!("[{name}]");
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    if !lines.any(|(_, line)| line == header) {
        return Ok(None);
    }
    let said = lines.take_while(|(_, line)| !line.starts_with('['));
    let settings = said.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let setting = |(number, line): (usize, &str)| match line.split_once('=') {
        Some((keyword, value)) => Ok((keyword.trim_end().to_owned(), value.trim_start().to_owned())),
        None => Err(ConnectionProblem::ServiceLine { file: file.to_owned(), line: number }.into()),
    };
    settings.map(setting).collect::<Result<_>>().map(Some)
}

/// The login that a password is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    pub(super) host: &'a str,
    pub(super) port: &'a str,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password that a password file has for a login; `None` where it has none, or is not there.
///
/// # Errors
/// Where the file cannot be read, or others can read it.
pub(super) fn password(file: &Path, login: Login) -> Result<Option<String>> {
    let Some(text) = read(file)? else { return Ok(None) };
    let mode = fs::metadata(file).map_err(Error::io("access", file))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(ConnectionProblem::OpenPasswords { file: file.to_owned() }.into());
    }
    let wanted = [login.host, login.port, login.database, login.user];
    let fits = |fields: &[String]| wanted.iter().zip(fields).all(|(wanted, field)| field == "*" || field == wanted);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(fields);
    Ok(lines.filter(|fields| fields.len() == 5 && fits(fields)).find_map(|mut fields| fields.pop()))
}

/// The fields of a line, between colons. A backslash makes the next character stand for itself.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => field.extend(letters.next()),
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    fields
}

fn read(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", file)(error)),
    }
}
