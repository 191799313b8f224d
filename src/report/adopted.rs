//! An adopted policy as TOML, laid out as one would write it.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::adopt::{Adopted, Exception, Kind};
use crate::chat::Model;
use crate::form::{Form, Shape};
use crate::policy::{Column, SUGGESTED, Table};
use crate::report::escape::{escape, escape_json};
use crate::report::text::pad;

/// The column at which comments begin, where what stands before them leaves room.
const COMMENT: usize = 46;

/// Longer keys stand out of line, rather than push all others away.
const WIDEST_KEY: usize = 40;

/// What a policy starts from whose registry names no model.
const USUAL: [&str; 3] = ["opus", "sonnet", "haiku"];
const USUAL_FALLBACK: &str = "sonnet";

/// Where the registry of an adopted policy is, as that names it.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// In the file at this path, which has this form.
    File(&'a str, &'a Form),
    /// In this table.
    Table(&'a Table),
    /// With a server that these lines of `[sessions]` describe: each a key and a value, as TOML.
    Server(&'a [String]),
}

/// Writes the policy.
///
/// # Errors
/// Those of `out`.
pub fn write(adopted: &Adopted, registry: Named<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Adopted { allowed, fallback, tiers, chats } = adopted;
    let fallback = fallback.as_ref().map_or(USUAL_FALLBACK, Model::as_str);
    writeln!(
        out,
        "# Which model each chat's session runs on: the registry as `reconcile adopt` found it.\n\n[models]"
    )?;
    let found = || allowed.iter().map(|model| quoted(model.as_str())).collect();
    let models: Vec<String> = if allowed.is_empty() { USUAL.map(quoted).into() } else { found() };
    let guess = if allowed.is_empty() { "the registry names no model, so this is a guess" } else { "" };
    line(out, &format!("allowed  = [{}]", models.join(", ")), guess)?;
    line(out, &format!("fallback = {}", quoted(fallback)), "no tier, or a tier that is not listed")?;

    if !tiers.is_empty() {
        writeln!(out)?;
        line(out, "[tiers]", "what most of each tier run on")?;
        let tiers: Vec<(String, &Model)> = tiers.iter().map(|(tier, model)| (key(tier), model)).collect();
        let width = widest(tiers.iter().map(|(tier, _)| tier));
        for (tier, model) in &tiers {
            writeln!(out, "{} = {}", pad(tier, width), quoted(model.as_str()))?;
        }
    }
    if !chats.is_empty() {
        write_chats(out, adopted, fallback)?;
    }
    match registry {
        Named::File(path, form) => write_file(out, path, form),
        Named::Table(table) => write_table(out, table),
        Named::Server(settings) => {
            writeln!(out, "\n[sessions]")?;
            settings.iter().try_for_each(|setting| writeln!(out, "{setting}"))
        }
    }
}

fn write_file(out: &mut dyn Write, path: &str, form: &Form) -> io::Result<()> {
    writeln!(out, "\n[registry]\npath = {}", quoted(path))?;
    if let Some(key) = &form.key {
        line(out, &format!("key = {}", quoted(key)), "what holds the sessions in it")?;
    }
    if form.shape == Shape::Any {
        line(out, "shape = \"any\"", "its entries need no fields of sessions")?;
    }

    suggest_commands(out)
}

fn write_table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    let name = table.schema.as_ref().map_or_else(|| table.name.clone(), |schema| format!("{schema}.{}", table.name));
    writeln!(out, "\n[registry]\npostgres = {}\ntable = {}", quoted(&table.server.as_keywords()), quoted(&name))?;
    writeln!(out, "\n[registry.columns]")?;
    for Column { field, name, path, .. } in table.columns.all() {
        let path: Vec<String> = path.iter().map(|key| quoted(key)).collect();
        match path.as_slice() {
            [] => writeln!(out, "{field} = {}", quoted(name))?,
            path => writeln!(out, "{field} = {{ column = {}, path = [{}] }}", quoted(name), path.join(", "))?,
        }
    }
    suggest_commands(out)
}

fn suggest_commands(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    line(out, "[sessions]", "without a restart command, only the registry is changed")?;
    SUGGESTED.iter().try_for_each(|suggested| line(out, &format!("# {}", suggested.line), suggested.purpose))
}

fn write_chats(out: &mut dyn Write, adopted: &Adopted, fallback: &str) -> io::Result<()> {
    writeln!(out)?;
    line(out, "[chats]", "overrides")?;
    let width = widest(adopted.chats.keys().map(|id| quoted(id)));
    let entry = |id: &str, value: &str| format!("{} = {value}", pad(&quoted(id), width));
    for (id, Exception { name, kind }) in &adopted.chats {
        let name = name.as_deref().unwrap_or_default();
        match kind {
            Kind::Differs(model) => line(out, &entry(id, &quoted(model.as_str())), name)?,
            Kind::Undeclarable => {
                let reason = quoted("its model has a name that no policy can hold");
                line(out, &entry(id, &format!("{{ managed = false, reason = {reason} }}")), name)?;
            }
            Kind::Unset(_) => {}
        }
    }
    let unset = adopted.chats.iter().filter_map(|(id, Exception { name, kind })| match kind {
        Kind::Unset(model) => Some((id, name.as_deref().unwrap_or_default(), model)),
        Kind::Differs(_) | Kind::Undeclarable => None,
    });
    for (index, (id, name, model)) in unset.enumerate() {
        if index == 0 {
            writeln!(out, "# These have no model. The next reconcile gives them the one that is named on their line.")?;
            writeln!(out, "# To leave one as it is, remove the # before it.")?;
        }
        let given = model.as_ref().map_or(fallback, Model::as_str);
        let comment = if name.is_empty() { given.to_owned() } else { format!("{given}: {name}") };
        line(out, &format!("# {}", entry(id, "{ managed = false }")), &comment)?;
    }
    Ok(())
}

/// A line with a comment behind it, unless that is empty.
fn line(out: &mut dyn Write, text: &str, comment: &str) -> io::Result<()> {
    match comment.trim() {
        "" => writeln!(out, "{text}"),
        comment => writeln!(out, "{}# {}", pad(&format!("{text} "), COMMENT), escape(comment)),
    }
}

fn widest(keys: impl IntoIterator<Item = impl AsRef<str>>) -> usize {
    keys.into_iter().map(|key| key.as_ref().width()).filter(|width| *width <= WIDEST_KEY).max().unwrap_or_default()
}

/// A TOML string. JSON's escapes are TOML's, too, and what JSON leaves raw and TOML does not is written out here.
pub fn quoted(text: &str) -> String {
    escape_json(&serde_json::Value::from(text).to_string()).into_owned()
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_owned() } else { quoted(name) }
}
