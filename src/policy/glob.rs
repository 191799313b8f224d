//! Patterns of chat ids.

/// A pattern: `*` stands for any text, `?` for any one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    pattern: String,
}

impl Glob {
    /// The pattern as it was written.
    pub fn new(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned() }
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether it matches the whole text. Chats choose their ids, so this takes time in proportion to the text, also
    /// where the text repeats itself: between two asterisks, the first place that matches is as good as any.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.pattern.split_once('*') else {
            return after_start(text, &self.pattern) == Some("");
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').try_fold(after_start(text, first), |text, part| Some(after_first(text?, part)));
        middle.flatten().is_some_and(|text| ends_with(text, last))
    }
}

/// What follows the part at the start of a text.
fn after_start<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    let mut rest = text.chars();
    let matches = part.chars().all(|symbol| rest.next().is_some_and(|c| takes(symbol, c)));
    matches.then_some(rest.as_str())
}

/// What follows the first place in a text that the part matches.
fn after_first<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    let literal = part.trim_start_matches('?');
    let text = after_start(text, &part[..part.len() - literal.len()])?;
    if literal.contains('?') {
        return text.char_indices().find_map(|(at, _)| after_start(&text[at..], literal));
    }
    text.find(literal).map(|at| &text[at + literal.len()..])
}

fn ends_with(text: &str, part: &str) -> bool {
    let mut rest = text.chars().rev();
    part.chars().rev().all(|symbol| rest.next().is_some_and(|c| takes(symbol, c)))
}

fn takes(symbol: char, c: char) -> bool {
    symbol == '?' || symbol == c
}
