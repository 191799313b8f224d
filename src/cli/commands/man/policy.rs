//! The manual page of the policy, reconcile.toml(5), made from its schema.

use clap_mangen::roff::{Roff, bold, roman};
use serde_json::Value;

use crate::error::{Bug, Result};

const SCHEMA: &str = include_str!("../../../../policy.schema.json");

/// What stands in a key for a name that the user chooses.
const CHOSEN: &str = "NAME";

/// A key of a section.
struct Key<'s> {
    name: String,
    description: &'s str,
    default: Option<&'s Value>,
}

pub(super) fn page() -> Result<Roff> {
    let schema: Value = serde_json::from_str(SCHEMA).map_err(|_| Bug("the schema of policies cannot be read"))?;
    let mut roff = Roff::new();
    roff.control("TH", ["reconcile.toml", "5", "", concat!("reconcile ", env!("CARGO_PKG_VERSION")), ""]);
    roff.control("SH", ["NAME"]).text([roman("reconcile.toml - the policy of reconcile(1)")]);
    roff.control("SH", ["DESCRIPTION"]);
    paragraph(&mut roff, description(&schema, &schema));
    roff.control("PP", []);
    paragraph(&mut roff, "It is a TOML file, policy.toml by default, or a directory of them.");
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        let items = &part["items"];
        let heading = if items.is_null() { format!("[{name}]") } else { format!("[[{name}]]") };
        roff.control("SH", [heading.as_str()]);
        section(&mut roff, &schema, if items.is_null() { part } else { items });
    }
    roff.control("SH", ["SEE ALSO"]).text([roman("reconcile(1), reconcile-check(1)")]);
    Ok(roff)
}

/// A section, each of whose forms has keys of its own.
fn section(roff: &mut Roff, schema: &Value, part: &Value) {
    let parts = same(schema, part);
    let with_keys =
        parts.iter().filter(|part| part["properties"].is_object() || part["additionalProperties"].is_object());
    for form in with_keys {
        if let Some(backend) = form["properties"]["backend"]["const"].as_str() {
            roff.control("SS", [format!("backend = \"{backend}\"").as_str()]);
        }
        // Not a part of the last key of the form before it.
        roff.control("PP", []);
        paragraph(roff, form["description"].as_str().unwrap_or_default());
        let mut keys = Vec::new();
        collect(schema, form, "", &mut keys);
        for Key { name, description, default } in keys {
            roff.control("TP", []).text([bold(name)]);
            paragraph(roff, description);
            if let Some(default) = default {
                roff.text([roman(format!("Default: {default}."))]);
            }
        }
    }
}

/// The keys below a part of the schema. Of forms that share a key, the first says what it is.
fn collect<'s>(schema: &'s Value, part: &'s Value, path: &str, keys: &mut Vec<Key<'s>>) {
    for part in same(schema, part) {
        let properties = part["properties"].as_object().into_iter().flatten();
        let chosen = Some(&part["additionalProperties"]).filter(|part| part.is_object());
        let chosen = chosen.map(|part| (CHOSEN, part));
        for (name, part) in properties.map(|(name, part)| (name.as_str(), part)).chain(chosen) {
            let name = format!("{path}{name}");
            if keys.iter().all(|key| key.name != name) {
                let default = same(schema, part).iter().find_map(|part| part.get("default"));
                keys.push(Key { name: name.clone(), description: description(schema, part), default });
            }
            collect(schema, part, &format!("{name}."), keys);
        }
    }
}

fn description<'s>(schema: &'s Value, part: &'s Value) -> &'s str {
    same(schema, part).iter().find_map(|part| part["description"].as_str()).unwrap_or_default()
}

/// The parts of the schema that describe the same value: a part, what it refers to, and its alternatives.
fn same<'s>(schema: &'s Value, part: &'s Value) -> Vec<&'s Value> {
    let definition = |target: &str| &schema["definitions"][target.trim_start_matches("#/definitions/")];
    let lists = ["allOf", "anyOf"].into_iter().filter_map(|list| part[list].as_array()).flatten();
    let others = lists.chain(part["$ref"].as_str().map(definition));
    [part].into_iter().chain(others.flat_map(|other| same(schema, other))).collect()
}

fn paragraph(roff: &mut Roff, text: &str) {
    text.lines().for_each(|line| _ = roff.text([roman(line)]));
}
