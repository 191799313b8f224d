//! Names, texts and columns of a policy as SQL. No word of a policy gets into a statement but through this file.

use crate::policy::Column;

/// A name, taken literally.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text. In this form a backslash means the same, however the server is set.
pub(super) fn text(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A path in a document, as the operators of jsonb take it.
fn path(keys: &[String]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| text(key)).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", keys.join(", "))
}

/// What a row says of a field, as text: NULL where it says nothing. The cast is to the bare type, and comes first: a
/// comparison in the column's own type may ignore case, blanks and accents.
pub(super) fn value(column: &Column) -> String {
    let name = identifier(&column.name);
    if column.path.is_empty() {
        return format!("{name}::pg_catalog.text");
    }
    let path = path(&column.path);
    let leaf = format!("({name} #> {path})");
    format!("CASE WHEN pg_catalog.jsonb_typeof{leaf} = 'string' THEN {name} #>> {path} END")
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
