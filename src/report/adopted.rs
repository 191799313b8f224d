//! An adopted policy as TOML, laid out as one would write it.

use crate::adopt::{Adopted, Exception, Kind};
use crate::chat::Model;
use crate::form::{Form, Shape};
use crate::policy::{Column, SUGGESTED, Table};
use crate::report::page::{Key, Toml, Value};

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
    /// With a server that these settings of `[sessions]` describe.
    Server(&'a [(Key, Value)]),
}

/// The policy.
pub fn policy(adopted: &Adopted, registry: Named<'_>) -> Toml {
    let Adopted { allowed, fallback, tiers, chats } = adopted;
    let fallback = fallback.as_ref().map_or(USUAL_FALLBACK, Model::as_str);
    let mut toml = Toml::default();
    toml.own("# Which model each chat's session runs on: the registry as `reconcile adopt` found it.\n\n[models]");
    let found = || Value::array(allowed.iter().map(|model| Value::text(model.as_str())));
    let models = if allowed.is_empty() { Value::array(USUAL.map(Value::text)) } else { found() };
    let guess = if allowed.is_empty() { "the registry names no model, so this is a guess" } else { "" };
    toml.set(&Key::own("allowed "), &models, guess);
    toml.set(&Key::own("fallback"), &Value::text(fallback), "no tier, or a tier that is not listed");

    if !tiers.is_empty() {
        toml.own("");
        toml.own_with("[tiers]", "what most of each tier run on");
        let tiers: Vec<(Key, &Model)> = tiers.iter().map(|(tier, model)| (Key::named(tier), model)).collect();
        let width = widest(tiers.iter().map(|(tier, _)| tier.width()));
        for (tier, model) in tiers {
            toml.set(&tier.padded(width), &Value::text(model.as_str()), "");
        }
    }
    if !chats.is_empty() {
        add_chats(&mut toml, adopted, fallback);
    }
    match registry {
        Named::File(path, form) => add_file(&mut toml, path, form),
        Named::Table(table) => add_table(&mut toml, table),
        Named::Server(settings) => {
            toml.own("\n[sessions]");
            for (key, value) in settings {
                toml.set(key, value, "");
            }
        }
    }
    toml
}

fn add_file(toml: &mut Toml, path: &str, form: &Form) {
    toml.own("\n[registry]");
    toml.set(&Key::own("path"), &Value::text(path), "");
    if let Some(key) = &form.key {
        toml.set(&Key::own("key"), &Value::text(key), "what holds the sessions in it");
    }
    if form.shape == Shape::Any {
        toml.set(&Key::own("shape"), &Value::own("\"any\""), "its entries need no fields of sessions");
    }
    suggest_commands(toml);
}

fn add_table(toml: &mut Toml, table: &Table) {
    let name = table.schema.as_ref().map_or_else(|| table.name.clone(), |schema| format!("{schema}.{}", table.name));
    toml.own("\n[registry]");
    toml.set(&Key::own(Table::SERVER), &Value::text(&table.server.as_keywords()), "");
    toml.set(&Key::own("table"), &Value::text(&name), "");
    toml.own("\n[registry.columns]");
    for Column { field, name, path, .. } in table.columns.all() {
        let path: Vec<Value> = path.iter().map(|key| Value::text(key)).collect();
        let name = Value::text(name);
        let column =
            if path.is_empty() { name } else { Value::table([("column", name), ("path", Value::array(path))]) };
        toml.set(&Key::own(field), &column, "");
    }
    suggest_commands(toml);
}

fn suggest_commands(toml: &mut Toml) {
    toml.own("");
    toml.own_with("[sessions]", "without a restart command, only the registry is changed");
    for suggested in SUGGESTED {
        toml.suggest_own(suggested.line, suggested.purpose);
    }
}

fn add_chats(toml: &mut Toml, adopted: &Adopted, fallback: &str) {
    toml.own("");
    toml.own_with("[chats]", "overrides");
    let width = widest(adopted.chats.keys().map(|id| Key::quoted(id).width()));
    let key = |id: &str| Key::quoted(id).padded(width);
    for (id, Exception { name, kind }) in &adopted.chats {
        let name = name.as_deref().unwrap_or_default();
        match kind {
            Kind::Differs(model) => toml.set(&key(id), &Value::text(model.as_str()), name),
            Kind::Undeclarable => {
                let reason = Value::own("\"its model has a name that no policy can hold\"");
                toml.set(&key(id), &Value::table([("managed", Value::own("false")), ("reason", reason)]), name);
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
            toml.own("# These have no model. The next reconcile gives them the one that is named on their line.");
            toml.own("# To leave one as it is, remove the # before it.");
        }
        let given = model.as_ref().map_or(fallback, Model::as_str);
        let comment = if name.is_empty() { given.to_owned() } else { format!("{given}: {name}") };
        toml.suggest(&key(id), &Value::table([("managed", Value::own("false"))]), &comment);
    }
}

fn widest(keys: impl IntoIterator<Item = usize>) -> usize {
    keys.into_iter().filter(|width| *width <= WIDEST_KEY).max().unwrap_or_default()
}
