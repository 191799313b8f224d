//! Globs, which match chat ids.

/// A pattern in which `*` matches any text, also an empty one, and `?` matches any one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    pattern: String,
}

impl Glob {
    /// The glob of this pattern. Every text is a valid pattern.
    pub fn new(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned() }
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether it matches the whole text. There is no backtracking, because people choose the ids of chats, and one could be made
    /// that takes long: between two asterisks, the first match is as good as a later one.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.pattern.split_once('*') else {
            return after_start(text, &self.pattern) == Some("");
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').try_fold(after_start(text, first), |text, part| Some(after_first(text?, part)));
        middle.flatten().is_some_and(|text| ends_with(text, last))
    }
}

/// The rest of a text that begins with a match of `part`, which has no asterisk.
fn after_start<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    let mut rest = text.chars();
    let matches = part.chars().all(|symbol| rest.next().is_some_and(|c| takes(symbol, c)));
    matches.then_some(rest.as_str())
}

/// The rest of a text after the first match of `part`, which has no asterisk.
fn after_first<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    let literal = part.trim_start_matches('?');
    let text = after_start(text, &part[..part.len() - literal.len()])?;
    if literal.contains('?') {
        return text.char_indices().find_map(|(at, _)| after_start(&text[at..], literal));
    }
    text.find(literal).map(|at| &text[at + literal.len()..])
}

/// Whether a text ends with a match of `part`, which has no asterisk.
fn ends_with(text: &str, part: &str) -> bool {
    let mut rest = text.chars().rev();
    part.chars().rev().all(|symbol| rest.next().is_some_and(|c| takes(symbol, c)))
}

/// Whether a symbol of a pattern, which is not an asterisk, matches a character.
fn takes(symbol: char, c: char) -> bool {
    symbol == '?' || symbol == c
}
