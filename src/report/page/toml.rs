//! TOML that is written for a user to edit. A name comes into it as a string, as a key or behind a `#`, and never as anything
//! else.

use std::io;

use unicode_width::UnicodeWidthStr;

use crate::report::escape::{escape, escape_json};
use crate::report::page::Page;

/// The column at which comments begin, where what stands before them leaves room.
const COMMENT: usize = 46;

/// The text of a file.
#[derive(Clone, Debug, Default)]
pub struct Toml(String);

/// What is assigned to a key.
#[derive(Clone, Debug)]
pub struct Value(String);

/// A key, and the blanks behind it.
#[derive(Clone, Debug)]
pub struct Key(String);

impl Value {
    /// Text that this program made, as TOML.
    pub fn own(toml: &'static str) -> Self {
        Self(toml.to_owned())
    }

    /// A string. JSON's escapes are TOML's, too, and what JSON leaves raw and TOML does not is written out here.
    pub fn text(text: &str) -> Self {
        Self(escape_json(&serde_json::Value::from(text).to_string()).into_owned())
    }

    /// An array on one line.
    pub fn array(values: impl IntoIterator<Item = Self>) -> Self {
        let values: Vec<String> = values.into_iter().map(|Self(value)| value).collect();
        Self(format!("[{}]", values.join(", ")))
    }

    /// An inline table.
    pub fn table(members: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let members: Vec<String> = members.into_iter().map(|(key, Self(value))| format!("{key} = {value}")).collect();
        Self(format!("{{ {} }}", members.join(", ")))
    }
}

impl Key {
    /// One of this program's own, with the blanks that its place in a column needs.
    pub fn own(key: &'static str) -> Self {
        Self(key.to_owned())
    }

    /// A name, in quotes where TOML needs them.
    pub fn named(name: &str) -> Self {
        let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if is_bare { Self(name.to_owned()) } else { Self::quoted(name) }
    }

    /// A name in quotes.
    pub fn quoted(name: &str) -> Self {
        Self(Value::text(name).0)
    }

    /// How many columns of a terminal the key takes.
    pub fn width(&self) -> usize {
        self.0.width()
    }

    /// The key, padded to so many columns.
    #[must_use]
    pub fn padded(self, width: usize) -> Self {
        Self(padded(self.0, width))
    }
}

impl Toml {
    /// Lines of this program's own: sections, comments, and what lies between them.
    pub fn own(&mut self, lines: &'static str) {
        self.line(lines, "");
    }

    /// A line of this program's own, with a comment behind it.
    pub fn own_with(&mut self, line: &'static str, comment: &'static str) {
        self.line(line, comment);
    }

    /// An assignment, with a comment behind it unless that is empty.
    pub fn set(&mut self, Key(key): &Key, Value(value): &Value, comment: &str) {
        self.line(&format!("{key} = {value}"), comment);
    }

    /// An assignment that counts once a user removes the `#` before it.
    pub fn suggest(&mut self, Key(key): &Key, Value(value): &Value, comment: &str) {
        self.line(&format!("# {key} = {value}"), comment);
    }

    /// A line of this program's own that counts once a user removes the `#` before it.
    pub fn suggest_own(&mut self, line: &'static str, comment: &'static str) {
        self.line(&format!("# {line}"), comment);
    }

    /// The text, as a file holds it.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn line(&mut self, toml: &str, comment: &str) {
        let comment = escape(comment.trim());
        let before = if comment.is_empty() { toml.to_owned() } else { padded(format!("{toml} "), COMMENT) + "# " };
        self.0.extend([&before, &*comment, "\n"]);
    }
}

impl From<&'static str> for Toml {
    /// A whole file of this program's own.
    fn from(text: &'static str) -> Self {
        Self(text.to_owned())
    }
}

impl Page<'_> {
    /// Writes the text.
    ///
    /// # Errors
    /// Of writing.
    pub fn toml(&mut self, Toml(text): &Toml) -> io::Result<()> {
        self.0.write_all(text.as_bytes())
    }
}

fn padded(text: String, width: usize) -> String {
    let blanks = width.saturating_sub(text.width());
    text + &" ".repeat(blanks)
}
