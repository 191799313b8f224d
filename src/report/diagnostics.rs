//! Mistakes in files, as people read them: what, where, and what to do.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level as Severity, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Level, Place};
use crate::report::escape::{blank_out, escape};
use crate::report::shown::Naming;

/// All of them, with ANSI colours; an empty line between two.
pub fn render(diagnostics: &[Diagnostic], naming: Naming) -> String {
    let renderer = Renderer::styled().term_width(usize::from(u16::MAX));
    let safe = diagnostics.iter().map(|found| match naming {
        Naming::Plain => Safe::of(found),
        Naming::Hidden => Safe::of(&found.nameless()),
    });
    let texts = safe.map(|safe| renderer.render(&[safe.group()]) + "\n");
    texts.collect::<Vec<_>>().join("\n")
}

/// A mistake of which nothing moves the cursor, ends a line, or passes for a command to a workflow runner. Only this is rendered.
struct Safe {
    level: Level,
    code: &'static str,
    message: String,
    labels: Vec<SafeLabel>,
    help: Option<String>,
}

/// One of its places, and what is said there.
struct SafeLabel {
    file: String,
    line: SourceLine,
    text: String,
}

/// A line of a file with as many characters as that has, so that what is marked stands below it.
struct SourceLine {
    text: String,
    /// The bytes of the text that are marked.
    caret: Range<usize>,
    /// Counted from 1.
    number: usize,
    /// The column at which the mark begins, where the text begins later than the line.
    cut_at_column: Option<usize>,
}

impl Safe {
    fn of(found: &Diagnostic) -> Self {
        let Diagnostic { level, code, message, labels, help: _, private_help: _ } = found;
        Self {
            level: *level,
            code,
            message: escape(message).into_owned(),
            labels: labels.iter().map(|(place, text)| SafeLabel::of(place, text)).collect(),
            help: found.advice().map(|help| escape(help).into_owned()),
        }
    }

    fn group(self) -> Group<'static> {
        let Self { level, code, message, labels, help } = self;
        let severity = match level {
            Level::Error => Severity::ERROR,
            Level::Warning => Severity::WARNING,
            Level::Note => Severity::NOTE,
        };
        let mut group = Group::with_title(severity.primary_title(message).id(code));
        for (index, SafeLabel { file, line, text }) in labels.into_iter().enumerate() {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let cut_at = line.cut_at_column;
            group = group.element(line.snippet(file, text, kind));
            if let Some(column) = cut_at {
                let note = format!("the line is long: this is column {column} of it");
                group = group.element(Severity::NOTE.message(note));
            }
        }
        match help {
            Some(help) => group.element(Severity::HELP.message(help)),
            None => group,
        }
    }
}

impl SafeLabel {
    fn of(place: &Place, text: &str) -> Self {
        let (file, text) = (escape(&place.file).into_owned(), escape(text).into_owned());
        Self { file, line: SourceLine::of(place), text }
    }
}

impl SourceLine {
    fn of(place: &Place) -> Self {
        let Place { file: _, line, column, excerpt, caret, cut } = place;
        // A tab is one character, too.
        let text = blank_out(&excerpt.replace('\t', " ")).into_owned();
        let characters = |bytes: usize| excerpt[..bytes].chars().count();
        let bytes = |characters: usize| text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
        let caret = bytes(characters(caret.start))..bytes(characters(caret.end));
        Self { text, caret, number: *line, cut_at_column: (*cut > 0).then_some(*column) }
    }

    fn snippet(self, file: String, label: String, kind: AnnotationKind) -> Snippet<'static, Annotation<'static>> {
        let annotation = kind.span(self.caret).label((!label.is_empty()).then_some(label));
        Snippet::source(self.text).path(file).line_start(self.number).annotation(annotation)
    }
}
