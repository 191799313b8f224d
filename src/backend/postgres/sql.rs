//! Names, texts and columns of a policy as SQL. No word of a policy gets into a statement but through this file.

use postgres::types::{ToSql, Type};

use crate::policy::Column;

/// A value that goes beside a statement, with its type.
pub(super) type Parameter<'p> = (&'p (dyn ToSql + Sync), Type);

/// A parameter that is a text.
pub(super) fn one<T: ToSql + Sync>(text: &T) -> Parameter<'_> {
    (text, Type::TEXT)
}

/// A parameter that is a list of texts.
pub(super) fn many<T: ToSql + Sync>(texts: &T) -> Parameter<'_> {
    (texts, Type::TEXT_ARRAY)
}

/// A name, taken literally.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, in the form in which a backslash does not depend on the settings of the server.
pub(super) fn text(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A path in a document, as the operators of jsonb take it.
fn path(keys: &[String]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| text(key)).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", keys.join(", "))
}

/// The value of a field as text; NULL where the row has no value, or has something else than a text at the field's path. The cast to text
/// comes before any comparison, because a comparison in the column's own type may ignore case, blanks and accents.
pub(super) fn value(column: &Column) -> String {
    let name = identifier(&column.name);
    if column.path.is_empty() {
        return format!("{name}::pg_catalog.text");
    }
    let path = path(&column.path);
    let leaf = format!("({name} #> {path})");
    format!("CASE WHEN pg_catalog.jsonb_typeof{leaf} = 'string' THEN {name} #>> {path} END")
}

/// NULL, as a text.
pub(super) fn nothing() -> String {
    "NULL::pg_catalog.text".to_owned()
}

/// A text that is compared byte by byte.
pub(super) fn exactly(text: &str) -> String {
    format!("({text}) COLLATE pg_catalog.\"C\"")
}

/// Whether a row can be read there: what stands at the path is a text or nothing, and all above it objects or nothing.
/// `None` where the column itself is meant.
pub(super) fn is_sound(column: &Column) -> Option<String> {
    let (_, above) = column.path.split_last()?;
    let name = identifier(&column.name);
    let kind = |keys: &[String], kind: &str| {
        let path = path(keys);
        format!("coalesce(pg_catalog.jsonb_typeof({name} #> {path}), 'null') IN ('null', '{kind}')")
    };
    let objects = (0..=above.len()).map(|depth| kind(&above[..depth], "object"));
    let all: Vec<String> = objects.chain([kind(&column.path, "string")]).collect();
    Some(format!("({})", all.join(" AND ")))
}

/// Sets a field to `reconcile_value`. The cast is to the bare type: one with a length would cut what is too long, in silence.
pub(super) fn assignment(column: &Column, bare_type: &str) -> String {
    let name = identifier(&column.name);
    match column.path.as_slice() {
        [] => format!("{name} = reconcile_value::{bare_type}"),
        path => format!("{name} = {}", with_value(&name, path)),
    }
}

/// A document in which `reconcile_value` stands at a path. What is missing on the way is made, which `jsonb_set` would not do.
fn with_value(document: &str, path: &[String]) -> String {
    let Some((key, rest)) = path.split_first() else {
        return "pg_catalog.to_jsonb(reconcile_value)".to_owned();
    };
    let key = text(key);
    let inner = with_value(&format!("({document} -> {key})"), rest);
    format!(
        "(coalesce(nullif({document}, 'null'::pg_catalog.jsonb), '{{}}') || pg_catalog.jsonb_build_object({key}, {inner}))"
    )
}
