//! Makes text that this program did not write itself safe to show: names, stderr of commands, replies, arguments.

use std::borrow::Cow;

/// Whether a character can move the cursor, reorder the line or end it.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with every such character written out: `\n`, `\u{1b}`, `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    written_out(text, |c| if c == '[' { c.escape_unicode().to_string() } else { c.escape_default().to_string() })
}

/// The text with every such character written out in the form that JSON strings have: `\u001b`.
pub(super) fn escape_json(text: &str) -> Cow<'_, str> {
    written_out(text, |c| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect())
}

/// The text with every such character written out, except for tabs.
pub(super) fn escape_but_tabs(text: &str) -> Cow<'_, str> {
    if !text.contains('\t') {
        return escape(text);
    }
    let parts: Vec<_> = text.split('\t').map(escape).collect();
    Cow::Owned(parts.join("\t"))
}

/// The text with another character for every such character: as many characters as before.
pub(super) fn blank_out(text: &str) -> Cow<'_, str> {
    written_out(text, |c| if c == '[' { "(".to_owned() } else { char::REPLACEMENT_CHARACTER.to_string() })
}

/// A text that begins a line, blanks aside: it must not be an instruction to the program that reads the output either.
pub(super) fn beginning(text: &str) -> Cow<'_, str> {
    let is_command = ["::", "##"].iter().any(|command| text.trim_start().starts_with(command));
    if is_command { Cow::Owned(format!("./{}", escape(text))) } else { escape(text) }
}

/// Whether a `[` after this would make it a command to a workflow runner: they look for `##[`, `##vso[` and `##teamcity[`
/// anywhere in a line.
fn begins_command(before: &str) -> bool {
    before.trim_end_matches(|c: char| c.is_ascii_alphanumeric()).ends_with("##")
}

/// Whether each line of a text is of such bytes alone that no character can be dangerous. Most are, and a report may have a million.
pub(super) fn has_plain_lines(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) && !text.contains("##")
}

/// Whether a text is one such line.
fn is_plain(text: &str) -> bool {
    has_plain_lines(text) && !text.contains('\n')
}

fn written_out(text: &str, write: impl Fn(char) -> String) -> Cow<'_, str> {
    let dangerous = |(at, c): (usize, char)| is_dangerous(c) || (c == '[' && begins_command(&text[..at]));
    if is_plain(text) || !text.char_indices().any(dangerous) {
        return Cow::Borrowed(text);
    }
    let piece = |(at, c)| if dangerous((at, c)) { write(c) } else { c.to_string() };
    Cow::Owned(text.char_indices().map(piece).collect())
}
