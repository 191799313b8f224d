//! A comment on a pull request, in the markdown of GitHub. Nothing that others wrote comes alive in it.

use std::io;

use crate::foreign::{Piece, Sentence, counted, sentence};
use crate::report::escape::escape;
use crate::report::page::Page;

/// Markdown: words of this program as they are, and in `<code>` what they quote.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Markup(String);

impl Markup {
    /// A sentence, of which each quoted value is cut to so many characters.
    pub(in crate::report) fn of(sentence: &Sentence, longest: usize) -> Self {
        let pieces = sentence.pieces().iter().map(|piece| match piece {
            Piece::Own(text) => text.to_string(),
            Piece::Foreign(text) => code(text.raw(), longest),
            Piece::Public(text) => code(text.raw(), longest),
        });
        Self(pieces.collect())
    }

    /// This with more after it.
    #[must_use]
    pub(in crate::report) fn and(self, more: &Self) -> Self {
        Self(self.0 + &more.0)
    }

    /// In characters.
    fn length(&self) -> usize {
        self.0.chars().count()
    }
}

/// What is written so far. All that quotes a value is one line, which begins with words of this program.
#[derive(Default)]
pub(in crate::report) struct Comment {
    text: String,
    /// In characters.
    length: usize,
}

/// A list that a reader can open.
pub(in crate::report) struct Details<Parts> {
    /// The singular of what the parts are, such as `row`.
    pub(in crate::report) thing: &'static str,
    /// How many parts there are, also of those for which there is no room.
    pub(in crate::report) count: usize,
    /// The markdown before the first part.
    pub(in crate::report) head: &'static str,
    pub(in crate::report) parts: Parts,
    /// How long the comment may be after the last part, in characters.
    pub(in crate::report) room: usize,
}

impl Comment {
    pub(in crate::report) fn add(&mut self, markup: &Markup) {
        self.text.push_str(&markup.0);
        self.length += markup.length();
    }

    fn own(&mut self, sentence: &Sentence) {
        self.add(&Markup::of(sentence, 0));
    }

    /// As many whole parts as there is room for, and how many are left out.
    pub(in crate::report) fn details(&mut self, details: Details<impl Iterator<Item = Markup>>) {
        let Details { thing, count, head, parts, room } = details;
        if count == 0 {
            return;
        }
        let things = counted(count, thing);
        // Markdown begins behind an empty line.
        self.own(&sentence!("\n<details><summary>{}</summary>\n\n{}", &things, head));
        let mut shown = 0;
        for part in parts {
            if self.length + part.length() > room {
                break;
            }
            self.add(&part);
            shown += 1;
        }
        self.own(&"\n</details>\n".into());
        if shown < count {
            let left = count - shown;
            self.own(&sentence!("\n**{} of {} not shown: there is no room in a comment.**\n", left, &things));
        }
    }
}

impl Page<'_> {
    /// Writes a comment.
    pub(in crate::report) fn comment(&mut self, comment: &Comment) -> io::Result<()> {
        self.0.write_all(comment.text.as_bytes())
    }
}

/// A value. GitHub makes no mention and no reference of what stands in `<code>`; and all that could mean something to
/// markdown, to HTML or to a workflow runner is an entity, so it does not end a cell of a table either.
fn code(text: &str, longest: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    let text = escape(text);
    let mut shown = String::new();
    let mut before = '@';
    for c in cut(&text, longest).chars() {
        // An address of e-mail is looked for after entities are decoded, and not across an element.
        if c == '@' && before != '@' {
            shown += "<wbr>";
        }
        shown += &entity(c);
        before = c;
    }
    format!("<code>{shown}</code>")
}

/// Of `www.` GitHub would make a link, so a full stop is none of the plain ones.
fn entity(c: char) -> String {
    let is_plain = c.is_alphanumeric() || matches!(c, ' ' | '/' | '-');
    if is_plain { c.to_string() } else { format!("&#{};", u32::from(c)) }
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
