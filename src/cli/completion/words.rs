//! The words of a command line that is being typed. A shell hands them over as they stand there: in quotes, which may still
//! be open.

/// A word as it was typed so far.
#[derive(Debug, Default)]
pub(super) struct Word {
    /// With its quotes.
    pub(super) raw: String,
    /// Without them.
    pub(super) text: String,
    /// The quote in which it ends, where it ends in one.
    pub(super) quote: Option<char>,
}

/// The words before the last one, and the last, which is empty where a blank stands before it.
pub(super) fn split(line: &str) -> (Vec<Word>, Word) {
    let mut words = Vec::new();
    let mut word = Word::default();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c.is_ascii_whitespace() && word.quote.is_none() {
            if !word.raw.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        word.raw.push(c);
        match (word.quote, c) {
            (None, '\'' | '"') => word.quote = Some(c),
            (Some(quote), c) if quote == c => word.quote = None,
            (None | Some('"'), '\\') => {
                let next = rest.next();
                word.raw.extend(next);
                // Between double quotes it is itself before most characters.
                let is_itself = word.quote.is_some() && next.is_none_or(|next| !"\\\"$`".contains(next));
                word.text.extend(is_itself.then_some('\\').into_iter().chain(next));
            }
            (_, c) => word.text.push(c),
        }
    }
    (words, word)
}

/// One word without its quotes.
pub(super) fn unquoted(raw: &str) -> String {
    split(raw).1.text
}
