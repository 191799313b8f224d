//! TOML text to a tree, with every syntax error as a diagnostic.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::policy::source::Source;

/// The largest file, in bytes, in which the first definition of a duplicate key is looked for. It takes a pass over the file.
const LARGEST_SEARCHED: usize = 1 << 20;

/// A file, parsed as far as that was possible.
pub(super) struct Parsed<'s> {
    /// The content. After a syntax error, it is a guess of the parser.
    pub(super) tree: Spanned<DeTable<'s>>,
    /// The syntax errors, in no order.
    pub(super) mistakes: Vec<Diagnostic>,
    /// How many syntax errors there are beyond those in `mistakes`.
    pub(super) unread: usize,
    /// Whether the whole tree is a guess, so that mistakes in it must not be reported.
    pub(super) astray: bool,
}

/// Parses a file as far as that is possible.
pub(super) fn parse(source: &Source) -> Parsed<'_> {
    let (tree, mut errors) = DeTable::parse_recoverable(&source.text);
    if let Some(conflict) = conflict(source).filter(|_| !errors.is_empty()) {
        // All other errors follow from the conflict.
        return Parsed { mistakes: vec![conflict], unread: 0, astray: true, tree };
    }
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    // After a bracket or a quote that is never closed, every line is read as part of it, and none is what it seems.
    let unclosed = errors.iter().position(|error| error.message().starts_with("unclosed") && runs_on(source, error));
    if let Some(unclosed) = unclosed {
        errors.swap(unclosed.min(1), unclosed);
        errors.truncate(2);
    }
    let unread = errors.len().saturating_sub(super::fields::MISTAKES_SHOWN);
    let shown = errors.iter().take(super::fields::MISTAKES_SHOWN).map(|error| {
        let span = error.span().unwrap_or_default();
        // The parser's own `Display` would show the text unescaped.
        match error.message() {
            "duplicate key" => duplicate(source, &tree, span),
            message => syntax(source, message, span),
        }
    });
    Parsed { mistakes: shown.collect(), unread, astray: unread > 0 || unclosed.is_some(), tree }
}

/// The diagnostic for a file with an unresolved merge conflict.
fn conflict(source: &Source) -> Option<Diagnostic> {
    let marker = |mark: &str| {
        let is_mark = |(at, _): &(usize, &str)| *at == 0 || source.text[..*at].ends_with('\n');
        source.text.match_indices(mark).find(is_mark).map(|(at, mark)| at..at + mark.len())
    };
    let (ours, theirs) = (marker("<<<<<<< ")?, marker(">>>>>>> ")?);
    let place = |span: Range<usize>| source.place(span.start..span.end - 1);
    Some(
        Diagnostic::error(
            "merge-conflict",
            "this file has an unresolved merge conflict",
            place(ours),
            "it begins here",
        )
        .and(place(theirs), "and ends here")
        .help("resolve the conflict and remove its markers; git status lists the files with conflicts"),
    )
}

/// Whether an error reaches to the end of the file: the parser found no closing bracket or quote.
fn runs_on(source: &Source, error: &toml::de::Error) -> bool {
    error.span().is_some_and(|span| source.text[span.end..].trim_ascii().is_empty())
}

/// The diagnostic for an error of the parser, whose message has the form `WHAT, expected …`.
fn syntax(source: &Source, message: &str, span: Range<usize>) -> Diagnostic {
    let (message, expected) = message.split_once(", ").unwrap_or((message, ""));
    let (message, expected, help) = match message {
        "string values must be quoted" if span.is_empty() => ("a value is missing", "", "write one after the `=`"),
        "string values must be quoted" => (message, "", "put the value between double quotes"),
        "invalid unquoted key" => (message, expected, "put the key between double quotes"),
        "invalid basic string" if expected == "expected `\"`" => {
            ("the string is not closed", expected, "close it with a double quote")
        }
        "unclosed array" => {
            ("a list is not closed", expected, "the first error is near where it should have been closed")
        }
        "invalid date" | "invalid time" | "invalid datetime" => (message, expected, "write a date and time that exist"),
        _ => (message, expected, "the syntax of TOML is described at https://toml.io"),
    };
    Diagnostic::error("syntax", message, source.place(span), expected).help(help)
}

fn duplicate(source: &Source, tree: &Spanned<DeTable>, span: Range<usize>) -> Diagnostic {
    let key = source.text.get(span.clone()).unwrap_or_default();
    let diagnostic =
        Diagnostic::error("duplicate", format!("`{key}` is defined twice"), source.place(span.clone()), "again here")
            .help("remove one of them");
    match first_place(source, tree, key, &span) {
        Some(first) => diagnostic.and(source.place(first), "first here"),
        None => diagnostic,
    }
}

/// The first definition of the key that is defined again at `again`: it is in the innermost table around `again`. The tree has
/// only the first of two definitions. A `[header]` is an exception: the tree has the place of its last definition.
fn first_place(source: &Source, tree: &Spanned<DeTable>, key: &str, again: &Range<usize>) -> Option<Range<usize>> {
    if source.text.len() > LARGEST_SEARCHED {
        return None;
    }
    let line_start = source.text[..again.start].rfind('\n').map_or(0, |newline| newline + 1);
    let header = source.text[line_start..again.end].trim_start();
    if let Some(path) = header.strip_prefix('[').and_then(|rest| keys(rest.trim_start_matches('['))) {
        return written_before(&source.text[..line_start], &path);
    }
    let name = keys(key)?.pop()?;
    let mut innermost = tree.get_ref();
    while let Some(inner) = table_around(innermost, again.start) {
        innermost = inner;
    }
    let (first, _) = innermost.iter().find(|(known, _)| *known.get_ref() == name)?;
    (first.span().start < again.start).then(|| first.span())
}

/// The names in a dotted key, without quotes and escapes.
fn keys(text: &str) -> Option<Vec<String>> {
    let line = format!("{text} = 0");
    let tree = DeTable::parse(&line).ok()?;
    let mut table = tree.get_ref();
    let mut names = Vec::new();
    while let Some((name, value)) = table.iter().next() {
        names.push(name.get_ref().to_string());
        let Some(inner) = value.get_ref().as_table() else { return Some(names) };
        table = inner;
    }
    None
}

/// The first line of a text that begins with a header or a key of this full name: the range of that header or key.
fn written_before(text: &str, path: &[String]) -> Option<Range<usize>> {
    let mut table = Vec::new();
    let mut line_start = 0;
    text.split_inclusive('\n').find_map(|line| {
        let code = line.trim_start();
        let start = line_start + line.len() - code.len();
        line_start += line.len();
        let header = code.strip_prefix('[').map(|rest| rest.trim_start_matches('['));
        let (from, end) = header.map_or((code, '='), |inside| (inside, ']'));
        let mut ends = from.match_indices(end).take(4).map(|(at, _)| &from[..at]);
        let (name, found) = ends.find_map(|name| Some((name, keys(name)?)))?;
        if header.is_none() {
            return (path.strip_prefix(table.as_slice()) == Some(&found)).then(|| start..start + name.trim_end().len());
        }
        let end = start + code.len() - from.len() + name.len() + 1;
        let is_first = found == path;
        table = found;
        is_first.then_some(start..end)
    })
}

/// The table among the values of `table` in which an offset is: the inline table around it, or else the last table whose header is
/// before it.
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
