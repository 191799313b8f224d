//! The path of the file in which an assistant keeps a conversation, with a placeholder for the session's id.

use std::ops::Range;

use crate::policy::template::braces;
use crate::suggest;

const SESSION_ID: &str = "session_id";
const CWD_SLUG: &str = "cwd_slug";
/// The longest slug of a directory without a hash, in UTF-16 units.
const LONGEST_SLUG: usize = 200;

/// The path of a conversation's file, with the placeholder `{session_id}` and, optionally, `{cwd_slug}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationPath(String);

/// A mistake in the path of a conversation's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMistake {
    /// The part of the path that is wrong, in bytes; `None` where the whole path is.
    pub range: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

impl ConversationPath {
    /// Parses a path. A `~/` or `$HOME/` at its beginning is kept as it is.
    ///
    /// # Errors
    /// Every unknown placeholder, or that `{session_id}` is missing.
    pub fn parse(text: &str) -> Result<Self, Vec<PathMistake>> {
        let mut mistakes = Vec::new();
        let mut holds_id = false;
        for range in braces(text) {
            let name = &text[range.start + 1..range.end - 1];
            holds_id |= name == SESSION_ID;
            if ![SESSION_ID, CWD_SLUG].contains(&name) {
                mistakes.push(PathMistake {
                    message: format!("unknown placeholder `{{{name}}}` in this path"),
                    advice: suggest::advice(name, [SESSION_ID, CWD_SLUG]),
                    range: Some(range),
                });
            }
        }
        if !holds_id && mistakes.is_empty() {
            mistakes.push(PathMistake {
                range: None,
                message: "the path has no `{session_id}`, so all conversations would share one file".to_owned(),
                advice: "put {session_id} where the file's name has the session id".to_owned(),
            });
        }
        if mistakes.is_empty() { Ok(Self(text.to_owned())) } else { Err(mistakes) }
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of the conversation of this id. `cwd_slug` is the slug of the directory in which the program is started.
    pub fn fill(&self, session_id: &str, cwd_slug: &str) -> String {
        let mut filled = String::new();
        let mut text_from = 0;
        for range in braces(&self.0) {
            filled.push_str(&self.0[text_from..range.start]);
            let is_id = self.0[range.clone()].contains(SESSION_ID);
            filled.push_str(if is_id { session_id } else { cwd_slug });
            text_from = range.end;
        }
        filled + &self.0[text_from..]
    }
}

/// The name of the directory in which Claude Code keeps the conversations of a working directory: the path of that directory, with
/// `-` for each UTF-16 unit outside `[A-Za-z0-9]`. A slug of more than 200 units is cut off there, and a hash of the path is
/// appended. `directory` must have no links in it.
pub fn cwd_slug(directory: &str) -> String {
    let plain = |unit: u16| u8::try_from(unit).ok().filter(u8::is_ascii_alphanumeric).map_or('-', char::from);
    let mut slug: String = directory.encode_utf16().map(plain).collect();
    if slug.len() > LONGEST_SLUG {
        slug.truncate(LONGEST_SLUG);
        slug.push('-');
        slug.push_str(&hash(directory));
    }
    slug
}

/// The absolute value of Java's hash of a string, in base 36.
fn hash(text: &str) -> String {
    let hash = text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let mut left = hash.unsigned_abs();
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit(left % 36, 36));
        left /= 36;
        if left == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}
