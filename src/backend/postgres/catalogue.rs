//! Looks at the table before it is read: everything about it that would keep a run from working, in words, at once.

use std::collections::BTreeSet;

use postgres::types::Type;
use postgres::{Row, Transaction};

use crate::backend::postgres::failure::failed;
use crate::backend::postgres::sql::{identifier, one, value};
use crate::chat::Model;
use crate::diagnostic::{Diagnostic, Place};
use crate::error::{Error, Result};
use crate::policy::{Column, Table};
use crate::suggest;

const RELATION: &str = "
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.oid::pg_catalog.int8, c.relkind::pg_catalog.text,
           pg_catalog.row_security_active(c.oid), pg_catalog.current_setting('server_encoding'),
           pg_catalog.pg_is_in_recovery(),
           -- Bit 2 of what can be done to it, by itself or by a trigger.
           pg_catalog.pg_relation_is_updatable(c.oid, true) & 4 <> 0,
           c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid),
           c.relkind = 'r' AND NOT c.relhasrules
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = pg_catalog.to_regclass($1)";

/// A domain is looked through: what counts is the type below it.
const COLUMNS: &str = "
    WITH RECURSIVE type AS (
        SELECT attnum, atttypid AS oid, atttypmod AS modifier FROM pg_catalog.pg_attribute
        WHERE attrelid = $1::pg_catalog.int8::pg_catalog.oid AND attnum > 0 AND NOT attisdropped
      UNION ALL
        SELECT type.attnum, t.typbasetype, CASE type.modifier WHEN -1 THEN t.typtypmod ELSE type.modifier END
        FROM type JOIN pg_catalog.pg_type t ON t.oid = type.oid WHERE t.typtype = 'd')
    SELECT a.attname::pg_catalog.text, t.typname::pg_catalog.text,
           pg_catalog.format('%s.%I', t.typnamespace::pg_catalog.regnamespace, t.typname), t.typtype = 'e', t.typcategory = 'S',
           CASE WHEN t.typname IN ('varchar', 'bpchar') AND type.modifier > 4 THEN type.modifier - 4 END,
           a.attgenerated <> '',
           pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
           pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE'),
           EXISTS (SELECT FROM pg_catalog.pg_index i
                   WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1
                     AND i.indkey[0] = a.attnum AND i.indpred IS NULL AND i.indexprs IS NULL),
           (SELECT pg_catalog.array_agg(e.enumlabel::pg_catalog.text) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
    FROM type JOIN pg_catalog.pg_type t ON t.oid = type.oid AND t.typtype <> 'd'
         JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::pg_catalog.int8::pg_catalog.oid AND a.attnum = type.attnum
    ORDER BY a.attnum";

/// Whether an index of a table has a column.
const INDEXED: &str = "
    SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                   WHERE i.indrelid = pg_catalog.to_regclass($1) AND a.attname = $2)";

/// A table that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// Its name as SQL, with its schema.
    pub(super) name: String,
    /// The type of the chats' ids as SQL, without a length.
    pub(super) id_type: String,
    /// Whether any text can be an id.
    pub(super) id_is_text: bool,
    /// The type of the models as SQL, without a length.
    pub(super) model_type: String,
    /// The type of the ids of conversations as SQL, without a length, where there is a column for them.
    pub(super) session_id_type: Option<String>,
    /// What keeps this role from writing models: the first reason.
    pub(super) unwritable: Option<String>,
    /// Whether each row that an UPDATE counts has the model that was set: no trigger, rule or type makes another of it.
    pub(super) keeps_models: bool,
}

/// A column, as the catalogue describes it.
#[allow(clippy::struct_excessive_bools, reason = "each is a column of the catalogue's answer")]
struct Found {
    name: String,
    /// The name of its type.
    kind: String,
    /// The name of its type as SQL, with its schema.
    type_name: String,
    is_enum: bool,
    is_text: bool,
    longest: Option<i32>,
    is_generated: bool,
    is_readable: bool,
    is_writable: bool,
    is_unique: bool,
    labels: Option<Vec<String>>,
}

impl Found {
    fn of(row: &Row) -> std::result::Result<Self, postgres::Error> {
        Ok(Self {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            type_name: row.try_get(2)?,
            is_enum: row.try_get(3)?,
            is_text: row.try_get(4)?,
            longest: row.try_get(5)?,
            is_generated: row.try_get(6)?,
            is_readable: row.try_get(7)?,
            is_writable: row.try_get(8)?,
            is_unique: row.try_get(9)?,
            labels: row.try_get(10)?,
        })
    }
}

/// Looks at the table that a policy names, whose models can be these.
///
/// # Errors
/// Everything that is wrong with it, each at its place in the policy.
pub(super) fn look(transaction: &mut Transaction, table: &Table, models: &BTreeSet<Model>) -> Result<Relation> {
    let doing = |error: postgres::Error| failed("look up the table", &error);
    let schema = table.schema.as_deref().map(identifier).into_iter();
    let name = schema.chain([identifier(&table.name)]).collect::<Vec<_>>().join(".");
    let relation = transaction.query_typed_opt(RELATION, &[(&name, Type::TEXT)]).map_err(doing)?;
    let Some(relation) = relation else {
        return Err(Error::Invalid(vec![
            mistake("no-table", format!("the database has no table {name} that this role can see"), &table.place)
                .help("check the name, which is taken literally, and the database and role of the connection"),
        ]));
    };
    let (name, oid): (String, i64) = (relation.try_get(0).map_err(doing)?, relation.try_get(1).map_err(doing)?);
    let kind: String = relation.try_get(2).map_err(doing)?;
    let mut mistakes = of_table(&relation, &name, table).map_err(doing)?;
    let rows = transaction.query_typed(COLUMNS, &[(&oid, Type::INT8)]).map_err(doing)?;
    let found = rows.iter().map(Found::of).collect::<Result<Vec<_>, _>>().map_err(doing)?;
    mistakes.extend(table.columns.all().filter_map(|column| of_column(column, &found, &name)));
    mistakes.extend(of_id(&table.columns.chat_id, &found, &kind, &name));
    mistakes.extend(of_model(&table.columns.model, &found, models));
    // A unique index of a table says nothing of those that inherit from it.
    let has_heirs: bool = relation.try_get(7).map_err(doing)?;
    if mistakes.is_empty() && (has_heirs || is_view(&kind)) {
        mistakes.extend(duplicate(transaction, &table.columns.chat_id, &name)?);
    }
    let column = |column: &Column| found.iter().find(|found| found.name == column.name);
    let known = column(&table.columns.chat_id).zip(column(&table.columns.model));
    if let Some((id, model)) = known.filter(|_| mistakes.is_empty()) {
        let unwritable = unwritable(&relation, &name, model).map_err(doing)?;
        let (id_type, model_type) = (id.type_name.clone(), model.type_name.clone());
        let session_id = table.columns.session_id.as_ref().and_then(column);
        let session_id_type = session_id.map(|found| found.type_name.clone());
        let is_plain: bool = relation.try_get(8).map_err(doing)?;
        let keeps_models = is_plain && !has_heirs && model.kind == "text" && table.columns.model.path.is_empty();
        let id_is_text = id.is_text;
        return Ok(Relation { name, id_type, id_is_text, model_type, session_id_type, unwritable, keeps_models });
    }
    mistakes.sort_by(|a, b| a.order().cmp(&b.order()));
    Err(Error::Invalid(mistakes))
}

/// Whether an index has the column of models. Each change of a model is a change of all indexes then.
///
/// # Errors
/// Where that cannot be asked.
pub(super) fn is_model_indexed(transaction: &mut Transaction, relation: &str, model: &Column) -> Result<bool> {
    let doing = |error: postgres::Error| failed("look up the indexes of the table", &error);
    let asked = [one(&relation), one(&model.name)];
    transaction.query_typed_one(INDEXED, &asked).and_then(|row| row.try_get(0)).map_err(doing)
}

/// Why models cannot be written, if so. A plan does not need that.
fn unwritable(relation: &Row, name: &str, model: &Found) -> std::result::Result<Option<String>, postgres::Error> {
    let (is_standby, is_updatable): (bool, bool) = (relation.try_get(5)?, relation.try_get(6)?);
    let column = identifier(&model.name);
    Ok(match () {
        () if is_standby => Some("the server is a standby, which only reads".to_owned()),
        () if !is_updatable => Some(format!("{name} cannot be updated")),
        () if !model.is_writable => Some(format!("this role may not update {column} of {name}")),
        () => None,
    })
}

fn mistake(code: &'static str, message: String, place: &Place) -> Diagnostic {
    Diagnostic::error(code, message, place.clone(), "")
}

fn is_view(kind: &str) -> bool {
    ["v", "m", "f"].contains(&kind)
}

fn of_table(relation: &Row, name: &str, table: &Table) -> std::result::Result<Vec<Diagnostic>, postgres::Error> {
    let (kind, is_hiding, encoding): (String, bool, String) =
        (relation.try_get(2)?, relation.try_get(3)?, relation.try_get(4)?);
    let mut mistakes = Vec::new();
    if kind != "r" && kind != "p" && !is_view(&kind) {
        let help = "name a table, or a view that can be updated";
        mistakes.push(mistake("no-table", format!("{name} is not a table or view"), &table.place).help(help));
    }
    if is_hiding {
        let message = format!("row security hides rows of {name} from this role");
        let help = "use a role with BYPASSRLS, or make a view of the intended rows";
        mistakes.push(mistake("row-security", message, &table.place).help(help));
    }
    if encoding != "UTF8" {
        let message = format!("the database is encoded in {encoding}");
        let help = "models and chat ids are UTF-8: use a database of that encoding";
        mistakes.push(mistake("encoding", message, &table.place).help(help));
    }
    Ok(mistakes)
}

/// What is wrong with any column that is read.
fn of_column(column: &Column, found: &[Found], table: &str) -> Option<Diagnostic> {
    let Some(known) = found.iter().find(|found| found.name == column.name) else {
        let message = format!("{table} has no column {}", identifier(&column.name));
        let names = found.iter().map(|found| found.name.as_str());
        return Some(mistake("no-column", message, &column.place).help(suggest::advice(&column.name, names)));
    };
    if !known.is_readable {
        let message = format!("this role may not read the column {}", identifier(&column.name));
        let help = format!("ask for it: GRANT SELECT ON {table} TO the role of the connection");
        return Some(mistake("not-readable", message, &column.place).help(help));
    }
    match (column.path.is_empty(), known.kind.as_str()) {
        (false, "jsonb") => None,
        (false, kind) => {
            let message = format!("the column {} is of type {kind}, but a path needs jsonb", identifier(&column.name));
            let help = "make a view that has the value as a column of its own";
            Some(mistake("column-type", message, &column.place).help(help))
        }
        (true, "json" | "jsonb" | "bytea") => {
            let message = format!("the column {} is of type {}", identifier(&column.name), known.kind);
            let help =
                r#"name the text itself; if it is in jsonb, as in { column = "settings", path = ["llm", "model"] }"#;
            Some(mistake("column-type", message, &column.place).help(help))
        }
        (true, _) => None,
    }
}

/// Two rows of one id could not be told apart.
fn of_id(column: &Column, found: &[Found], kind: &str, table: &str) -> Option<Diagnostic> {
    let known = found.iter().find(|found| found.name == column.name)?;
    if known.is_unique || is_view(kind) {
        return None;
    }
    let message =
        format!("no unique index keeps two rows of {table} from having the same {}", identifier(&column.name));
    let help = "name its primary key, or a column with a unique index of its own";
    Some(mistake("id-not-unique", message, &column.place).help(help))
}

/// A column of models must be able to hold each that the policy can choose.
fn of_model(column: &Column, found: &[Found], models: &BTreeSet<Model>) -> Option<Diagnostic> {
    let known = found.iter().find(|found| found.name == column.name)?;
    let name = identifier(&column.name);
    if known.is_generated {
        let message = format!("the column {name} is generated, so it cannot be written");
        return Some(mistake("column-type", message, &column.place).help("name the column that it is computed from"));
    }
    if !column.path.is_empty() || ["json", "jsonb", "bytea"].contains(&known.kind.as_str()) {
        return None;
    }
    if !known.is_text && !known.is_enum {
        let message = format!("the column {name} is of type {}, which cannot hold a model", known.kind);
        return Some(
            mistake("column-type", message, &column.place).help("name a column of type text, varchar or an enum"),
        );
    }
    let longest = known.longest.and_then(|longest| usize::try_from(longest).ok());
    let does_not_fit = |model: &&Model| {
        let is_unknown = known.labels.as_ref().is_some_and(|labels| labels.iter().all(|label| label != model.as_str()));
        is_unknown || longest.is_some_and(|longest| model.as_str().chars().count() > longest)
    };
    let model = models.iter().find(does_not_fit)?;
    let message = format!("the column {name} cannot hold the allowed model `{model}`");
    let help = if known.is_enum { "add it to the enum: ALTER TYPE … ADD VALUE" } else { "make the column longer" };
    Some(mistake("model-does-not-fit", message, &column.place).help(help))
}

/// A view has no index that rules duplicates out, nor have tables that inherit a common one: so they are looked for.
fn duplicate(transaction: &mut Transaction, id: &Column, table: &str) -> Result<Option<Diagnostic>> {
    let id_text = value(id);
    let sql = format!(
        "SELECT pg_catalog.count({id_text}) > pg_catalog.count(DISTINCT {id_text} COLLATE pg_catalog.\"C\") FROM {table}"
    );
    let doing = |error: postgres::Error| failed("check for duplicate chat ids", &error);
    let is_shared: bool = transaction.query_typed_one(&sql, &[]).and_then(|row| row.try_get(0)).map_err(doing)?;
    Ok(is_shared.then(|| {
        let message = format!("{table} has more than one row for a chat id");
        let help =
            "name a view that has one row for each chat; a table's own index does not count for tables that inherit it";
        mistake("id-not-unique", message, &id.place).help(help)
    }))
}
