//! TOML text to a tree, with every syntax error as a diagnostic.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::policy::read::Source;

/// Parses as much as can be made sense of. The diagnostics are in no order.
pub(super) fn parse(source: &Source) -> (Spanned<DeTable<'_>>, Vec<Diagnostic>) {
    let (tree, errors) = DeTable::parse_recoverable(&source.text);
    let diagnostics = errors
        .iter()
        .take(super::fields::MISTAKES_SHOWN)
        .map(|error| {
            let span = error.span().unwrap_or_default();
            // The parser's own `Display` would show the text raw.
            match error.message() {
                "duplicate key" => duplicate(source, &tree, span),
                message => syntax(source, message, span),
            }
        })
        .collect();
    (tree, diagnostics)
}

fn syntax(source: &Source, message: &str, span: Range<usize>) -> Diagnostic {
    let (message, expected) = message.split_once(", ").unwrap_or((message, ""));
    let help = if message.contains("must be quoted") {
        "put the value between double quotes"
    } else {
        "the line is not TOML: see https://toml.io for its form"
    };
    Diagnostic::error("syntax", message, source.place(span), expected).help(help)
}

fn duplicate(source: &Source, tree: &Spanned<DeTable>, span: Range<usize>) -> Diagnostic {
    let key = source.text.get(span.clone()).unwrap_or_default();
    let diagnostic =
        Diagnostic::error("duplicate", format!("{key} stands twice"), source.place(span.clone()), "again here")
            .help("remove one of them");
    match first_place(source, tree, key, &span) {
        Some(first) => diagnostic.and(source.place(first), "first here"),
        None => diagnostic,
    }
}

/// Where the key at `again` stood first: in the innermost table that `again` lies in. The tree has only the first of
/// the two, except for a `[header]`, whose place in the tree is its last.
fn first_place(source: &Source, tree: &Spanned<DeTable>, key: &str, again: &Range<usize>) -> Option<Range<usize>> {
    let name = key.trim_matches(['"', '\'']);
    let line_start = source.text[..again.start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = source.text[line_start..].lines().next()?.trim();
    if line.starts_with('[') {
        let header = line.split_inclusive(']').next()?;
        let mut offset = 0;
        return source.text[..line_start].split_inclusive('\n').find_map(|earlier| {
            let at = offset + earlier.len() - earlier.trim_start().len();
            offset += earlier.len();
            earlier.trim_start().starts_with(header).then(|| at..at + header.len())
        });
    }
    let mut innermost = tree.get_ref();
    while let Some(inner) = table_around(innermost, again.start) {
        innermost = inner;
    }
    let (first, _) = innermost.iter().find(|(known, _)| known.get_ref() == name)?;
    (first.span().start < again.start).then(|| first.span())
}

/// The table among the values of `table` that the offset lies in: the inline one around it, or the last whose header
/// stands before it.
fn table_around<'t, 'i>(table: &'t DeTable<'i>, offset: usize) -> Option<&'t DeTable<'i>> {
    let mut tables: Vec<(Range<usize>, &DeTable)> = Vec::new();
    for value in table.values() {
        match value.get_ref() {
            DeValue::Table(inner) => tables.push((value.span(), inner)),
            DeValue::Array(items) => {
                tables.extend(items.iter().filter_map(|item| Some((item.span(), item.get_ref().as_table()?))));
            }
            _ => {}
        }
    }
    let inline = |span: &Range<usize>, inner: &DeTable| inner.keys().any(|key| span.contains(&key.span().start));
    tables
        .into_iter()
        .filter(|(span, inner)| if inline(span, inner) { span.contains(&offset) } else { span.start <= offset })
        .max_by_key(|(span, _)| span.start)
        .map(|(_, inner)| inner)
}
