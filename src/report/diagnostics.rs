//! Mistakes in files, as people read them: what, where, and what to do.

use annotate_snippets::{AnnotationKind, Group, Level as Severity, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Level, Place};
use crate::report::escape::{blank_out, escape};

/// All of them, with ANSI colours; an empty line between two.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    let renderer = Renderer::styled().term_width(usize::from(u16::MAX));
    let texts = diagnostics.iter().map(|found| renderer.render(&[group(found)]) + "\n");
    texts.collect::<Vec<_>>().join("\n")
}

fn group(found: &Diagnostic) -> Group<'static> {
    let severity = match found.level {
        Level::Error => Severity::ERROR,
        Level::Warning => Severity::WARNING,
        Level::Note => Severity::NOTE,
    };
    let title = severity.primary_title(escape(&found.message).into_owned()).id(found.code);
    let mut group = Group::with_title(title);
    for (index, (place, label)) in found.labels.iter().enumerate() {
        let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        group = group.element(snippet(place, label, kind));
        if place.cut > 0 {
            let note = format!("the line is long: this is column {} of it", place.column);
            group = group.element(Severity::NOTE.message(note));
        }
    }
    match found.advice() {
        Some(help) => group.element(Severity::HELP.message(escape(help).into_owned())),
        None => group,
    }
}

fn snippet(
    place: &Place,
    label: &str,
    kind: AnnotationKind,
) -> Snippet<'static, annotate_snippets::Annotation<'static>> {
    // Blanked out, not written out, so that the columns stay right. A tab is one, too.
    let plain = place.excerpt.replace('\t', " ");
    let before = blank_out(&plain[..place.caret.start]);
    let marked = blank_out(&plain[place.caret.clone()]);
    let after = blank_out(&plain[place.caret.end..]);
    let caret = before.len()..before.len() + marked.len();
    let annotation = kind.span(caret).label((!label.is_empty()).then(|| escape(label).into_owned()));
    // The caret may stand in the middle of a runner's command; of the same length, so that the columns stay right.
    let line = format!("{before}{marked}{after}").replace("##[", "##(").replace("##vso[", "##vso(");
    Snippet::source(line).path(escape(&place.file).into_owned()).line_start(place.line).annotation(annotation)
}
