//! Connection strings of a database server: a URI, or keywords with values, as libpq reads both.

use std::collections::BTreeMap;

use crate::suggest;

/// The supported keywords. The others of libpq are about methods of authentication that are not built in.
const KEYWORDS: [&str; 13] = [
    "service",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "application_name",
    "target_session_attrs",
];
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];
const FORM: &str = "write it as \"service=assistant\", \"host=db.example.org dbname=assistant\" or a URI";

/// Why a text is not a connection string. It quotes nothing of the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

impl Unreadable {
    fn new(message: &str) -> Self {
        Self { message: message.to_owned(), advice: FORM.to_owned() }
    }
}

/// A connection string: values by keyword. Of a keyword that is given twice, the last value counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Conninfo(BTreeMap<&'static str, String>);

impl std::fmt::Debug for Conninfo {
    /// Leaves out the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.0.iter().filter(|(keyword, _)| **keyword != "password");
        f.debug_map().entries(shown).finish()
    }
}

impl Conninfo {
    /// Reads a URI, or keywords and values.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        match SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => Self::parse_uri(rest),
            None => Self::parse_keywords(text),
        }
    }

    /// The value of a keyword; `None` where it has none, or an empty one.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Every keyword that has a value.
    pub fn keywords(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(keyword, _)| *keyword)
    }

    /// The connection string in the form of keywords and values, without a password.
    pub(crate) fn as_keywords(&self) -> String {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let said = self.0.iter().filter(|(keyword, value)| **keyword != "password" && !value.is_empty());
        let said: Vec<String> = said.map(|(keyword, value)| format!("{keyword}='{}'", escaped(value))).collect();
        said.join(" ")
    }

    /// Sets the value of a keyword.
    ///
    /// # Errors
    /// Where the keyword is not supported.
    pub fn set(&mut self, keyword: &str, value: String) -> Result<(), Unreadable> {
        let Some(known) = KEYWORDS.iter().find(|known| **known == keyword) else {
            let near = suggest::nearest(keyword, KEYWORDS);
            let advice = near.map_or_else(
                || format!("supported keywords: {}", KEYWORDS.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(Unreadable { message: "it has a keyword that is not supported".to_owned(), advice });
        };
        self.0.insert(known, value);
        Ok(())
    }

    fn parse_keywords(text: &str) -> Result<Self, Unreadable> {
        let mut said = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let Some((keyword, after)) = rest.split_once('=') else {
                return Err(Unreadable::new("it has a keyword without `=`"));
            };
            let (value, after) = value(after.trim_start())?;
            said.set(keyword.trim_end(), value)?;
            rest = after.trim_start();
        }
        if said.0.is_empty() { Err(Unreadable::new("it names no server")) } else { Ok(said) }
    }

    fn parse_uri(rest: &str) -> Result<Self, Unreadable> {
        let mut said = Self::default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let hosts = hosts.split(',').map(host_and_port).collect::<Result<Vec<_>, _>>()?;
        let (hosts, ports): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        said.0.insert("host", decoded(&hosts.join(","))?);
        // A list of empty ports would be a value.
        if ports.iter().any(|port| !port.is_empty()) {
            said.0.insert("port", ports.join(","));
        }
        for (keyword, value) in [("user", user), ("password", password), ("dbname", database)] {
            said.0.insert(keyword, decoded(value)?);
        }
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let Some((keyword, value)) = parameter.split_once('=') else {
                return Err(Unreadable::new("it has a parameter without `=`"));
            };
            said.set(&decoded(keyword)?, decoded(value)?)?;
        }
        Ok(said)
    }
}

/// Parses the value at the start of a text. Returns the value and the rest of the text.
fn value(text: &str) -> Result<(String, &str), Unreadable> {
    let quoted = text.strip_prefix('\'');
    let mut value = String::new();
    let mut letters = quoted.unwrap_or(text).char_indices();
    let rest = quoted.unwrap_or(text);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted.is_some() => return Ok((value, &rest[at + 1..])),
            letter if quoted.is_none() && letter.is_ascii_whitespace() => return Ok((value, &rest[at..])),
            letter => value.push(letter),
        }
    }
    match quoted {
        None => Ok((value, "")),
        Some(_) => Err(Unreadable::new("it has an unclosed quote")),
    }
}

/// The host and the port of one part of a URI. The port may be empty, and an IPv6 address is in brackets.
fn host_and_port(part: &str) -> Result<(&str, &str), Unreadable> {
    let Some(rest) = part.strip_prefix('[') else { return Ok(part.split_once(':').unwrap_or((part, ""))) };
    let closed = rest.split_once(']').ok_or_else(|| Unreadable::new("it has an unclosed bracket"));
    closed.map(|(host, port)| (host, port.strip_prefix(':').unwrap_or(port)))
}

/// A part of a URI with its percent-encoding decoded.
fn decoded(text: &str) -> Result<String, Unreadable> {
    let wrong = || Unreadable::new("it has a `%` that is not followed by two hexadecimal digits");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(wrong)?;
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::new("it is not UTF-8"))
}
