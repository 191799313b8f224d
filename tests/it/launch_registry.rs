//! What a launch adds to a registry looks like what stands there already, and nothing else changes.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use reconcile::backend::capabilities;
use reconcile::backend::file::registration_edits;
use reconcile::chat::{Chat, Model};
use reconcile::error::Result;
use reconcile::form::Form;
use reconcile::launch::{Decider, Start, Wanted, start};
use reconcile::plan::ledger::Ledger;
use reconcile::policy::scope::Scope;
use reconcile::policy::template::CommandLine;
use reconcile::policy::{Source, read};
use reconcile::registry::json::JsonText;
use reconcile::registry::{Counts, Entry, Snapshot};
use reconcile::splice::{Splice, spliced};
use serde_json::{Value, json};

use crate::lossless::snapshot;
use crate::lossless_laws::{Writer, regular, sessions, wild, write};
use crate::support::POLICY;

fn decided(registry: &str, chat: &str, fields: &Chat<'static>) -> Start {
    decided_on(&snapshot(registry), chat, fields)
}

fn decided_on(registry: &dyn Snapshot, chat: &str, fields: &Chat<'static>) -> Start {
    let (policy, _) = read(&[Source::new("policy.toml", POLICY.to_owned())]).unwrap();
    let command = CommandLine::parse(&["assistant"], Scope::Launch).unwrap();
    let now = "2026-01-01T00:00:00[UTC]".parse().unwrap();
    let capabilities = capabilities(&policy);
    let ledger = Ledger::default();
    let decider = Decider { policy: &policy, capabilities: capabilities.as_ref(), ledger: &ledger };
    start(
        Some(decider),
        registry,
        &Wanted { chat, fields, command: &command, conversations: None, new_session_id: None },
        &now,
    )
    .unwrap()
}

/// A registry that counts how often it is read.
#[derive(Debug)]
struct Counted {
    registry: JsonText,
    reads: AtomicUsize,
}

impl Snapshot for Counted {
    fn name(&self) -> &str {
        self.registry.name()
    }
    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.registry.each(take)
    }
}

#[test]
fn the_registry_is_read_once() {
    let text = r#"{"+1": {"session_name": "im/1"}, "+2": {"tier": "bots"}, "+3": {"contact_name": "+4"}}"#;
    for (chat, name, same_slug, contact_of) in [
        ("+2", "im-1", Some("+1"), None),
        ("im/1", "", None, None),
        ("+4", "im-1", Some("+1"), Some("+3")),
        ("+5", "", None, None),
    ] {
        let counted = Counted { registry: snapshot(text), reads: AtomicUsize::new(0) };
        let start = decided_on(&counted, chat, &given(name, ""));
        assert_eq!(counted.reads.into_inner(), 1, "{chat}");
        assert_eq!((start.same_slug.as_deref(), start.contact_of.as_deref()), (same_slug, contact_of), "{chat}");
    }
}

/// The edits that register a session.
fn edits(registry: &str, start: &Start) -> Vec<Splice> {
    registration_edits(registry, &Form::ANY, &start.registration).unwrap()
}

fn given(session_name: &'static str, tier: &'static str) -> Chat<'static> {
    let field = |text: &'static str| Some(Cow::Borrowed(text)).filter(|text| !text.is_empty());
    Chat { session_name: field(session_name), tier: field(tier), ..Chat::default() }
}

/// What a launch makes of a registry.
fn launched(registry: &str, chat: &str, fields: &Chat<'static>) -> String {
    spliced(registry, &edits(registry, &decided(registry, chat, fields))).collect()
}

#[test]
fn a_new_entry_is_laid_out_as_the_last_one_is() {
    for (before, after) in [
        // Nothing to go by: as Python writes it.
        ("{}", "{\n  \"n\": {\n    \"chat_id\": \"n\",\n    \"tier\": \"bots\",\n    \"model\": \"haiku\"\n  }\n}"),
        (
            " {\n}\n",
            " {\n  \"n\": {\n    \"chat_id\": \"n\",\n    \"tier\": \"bots\",\n    \"model\": \"haiku\"\n  }\n}\n",
        ),
        (r#"{"a":{"x":1}}"#, r#"{"a":{"x":1},"n":{"chat_id":"n","tier":"bots","model":"haiku"}}"#),
        (r#"{"a": {"x": 1}}"#, r#"{"a": {"x": 1}, "n": {"chat_id": "n", "tier": "bots", "model": "haiku"}}"#),
        (
            r#"{"a": {"x": 1, "y": 2}, "b": {"x": 1}}"#,
            r#"{"a": {"x": 1, "y": 2}, "b": {"x": 1}, "n": {"chat_id": "n", "tier": "bots", "model": "haiku"}}"#,
        ),
        (r#"{"a":{}}"#, r#"{"a":{},"n":{"chat_id":"n","tier":"bots","model":"haiku"}}"#),
        (r#"{"a": {}}"#, r#"{"a": {}, "n": {"chat_id": "n", "tier": "bots", "model": "haiku"}}"#),
        (
            "{\n\t\"a\": {\n\t\t\"x\": 1\n\t}\n}\n",
            "{\n\t\"a\": {\n\t\t\"x\": 1\n\t},\n\t\"n\": {\n\t\t\"chat_id\": \"n\",\n\t\t\"tier\": \"bots\",\n\t\t\"model\": \"haiku\"\n\t}\n}\n",
        ),
        (
            "{\r\n  \"a\": {\r\n    \"x\": 1\r\n  }\r\n}\r\n",
            "{\r\n  \"a\": {\r\n    \"x\": 1\r\n  },\r\n  \"n\": {\r\n    \"chat_id\": \"n\",\r\n    \"tier\": \"bots\",\r\n    \"model\": \"haiku\"\r\n  }\r\n}\r\n",
        ),
        // An entry in a line each.
        (
            "{\n  \"a\": {\"x\": 1},\n  \"b\": {\"x\": 2}\n}\n",
            "{\n  \"a\": {\"x\": 1},\n  \"b\": {\"x\": 2},\n  \"n\": {\"chat_id\": \"n\", \"tier\": \"bots\", \"model\": \"haiku\"}\n}\n",
        ),
        (
            "{ \"a\" : { \"x\" : 1 } }",
            "{ \"a\" : { \"x\" : 1 }, \"n\" : { \"chat_id\" : \"n\", \"tier\" : \"bots\", \"model\" : \"haiku\" } }",
        ),
    ] {
        assert_eq!(launched(before, "n", &given("", "bots")), after, "{before}");
    }
}

#[test]
fn an_entry_is_completed_as_it_is_laid_out() {
    for (before, after) in [
        (r#"{"n":{"tier":"bots"}}"#, r#"{"n":{"tier":"bots","session_name":"s","model":"haiku"}}"#),
        (r#"{"n": {"tier": "bots"}}"#, r#"{"n": {"tier": "bots", "session_name": "s", "model": "haiku"}}"#),
        (
            "{\n\t\"n\": {\n\t\t\"tier\": \"bots\"\n\t}\n}",
            "{\n\t\"n\": {\n\t\t\"tier\": \"bots\",\n\t\t\"session_name\": \"s\",\n\t\t\"model\": \"haiku\"\n\t}\n}",
        ),
        (
            "{\r\n \"n\": {\r\n  \"tier\": \"bots\"\r\n }\r\n}",
            "{\r\n \"n\": {\r\n  \"tier\": \"bots\",\r\n  \"session_name\": \"s\",\r\n  \"model\": \"haiku\"\r\n }\r\n}",
        ),
        // A model that is there stays where it stands, also as the last member.
        (
            r#"{"n": {"model": "opus", "tier": "bots"}}"#,
            r#"{"n": {"model": "haiku", "tier": "bots", "session_name": "s"}}"#,
        ),
        (
            r#"{"n": {"tier": "bots", "model": null}, "z": {}}"#,
            r#"{"n": {"tier": "bots", "model": "haiku", "session_name": "s"}, "z": {}}"#,
        ),
        (r#"{"n": {"tier": "bots", "model": "haiku", "session_name": ""}}"#, ""),
        (r#"{"n": {"tier": "bots", "mod\u0065l": "haiku", "session_n\u0061me": null}}"#, ""),
        // An entry that says nothing yet is laid out as the registry is.
        (r#"{"n":{}}"#, r#"{"n":{"session_name":"s","tier":"bots","model":"haiku"}}"#),
        (r#"{"n": {}}"#, r#"{"n": {"session_name": "s", "tier": "bots", "model": "haiku"}}"#),
        (
            "{\n  \"n\": {}\n}",
            "{\n  \"n\": {\n    \"session_name\": \"s\",\n    \"tier\": \"bots\",\n    \"model\": \"haiku\"\n  }\n}",
        ),
        (
            "{\r\n\t\"n\": {}\r\n}",
            "{\r\n\t\"n\": {\r\n\t\t\"session_name\": \"s\",\r\n\t\t\"tier\": \"bots\",\r\n\t\t\"model\": \"haiku\"\r\n\t}\r\n}",
        ),
    ] {
        let expected = if after.is_empty() { before } else { after };
        assert_eq!(launched(before, "n", &given("s", "bots")), expected, "{before}");
    }
}

/// What is left of `after` without what was put in, and of `before` without what was taken out.
fn without(before: &str, splices: &[Splice]) -> (String, String) {
    let after: String = spliced(before, splices).collect();
    let (mut old, mut new, mut grown) = (before.to_owned(), after, 0_isize);
    for splice in splices.iter().rev() {
        old.replace_range(splice.range.clone(), "");
    }
    for splice in splices {
        let at = splice.range.start.checked_add_signed(grown).unwrap();
        assert!(new[at..].starts_with(&splice.text), "{splice:?}");
        new.replace_range(at..at + splice.text.len(), "");
        grown -= isize::try_from(splice.range.len()).unwrap();
    }
    (old, new)
}

/// What a launch may have made of an entry: each field that was given and that it lacked, and a model.
fn completed(entry: &Value, fields: &Chat) -> Value {
    let mut entry = entry.clone();
    for (key, given) in [("session_name", &fields.session_name), ("tier", &fields.tier)] {
        let entry = entry.as_object_mut().unwrap();
        if let (Some(given), false) = (given, entry.contains_key(key)) {
            entry.insert(key.to_owned(), given.as_ref().into());
        }
    }
    entry["model"] = match entry["tier"].as_str() {
        Some("admin") => "opus",
        Some("bots") => "haiku",
        _ => "sonnet",
    }
    .into();
    entry
}

fn fields() -> impl Strategy<Value = Chat<'static>> {
    let name = proptest::sample::select(vec!["", "s/1", "\"}\\", "\u{1f600}\u{7f}"]);
    let tier = proptest::sample::select(vec!["", "admin", "bots", "no such"]);
    (name, tier).prop_map(|(name, tier)| given(name, tier))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_layout_a_launch_changes_the_entry_of_its_chat_alone(
        (sessions, at) in sessions().prop_flat_map(|all| { let count = all.len(); (Just(all), 0..=count) }),
        layout in prop_oneof![regular(), wild()],
        fields in fields(),
    ) {
        let Writer { text: before, entries, models, .. } = write(&sessions, &layout);
        let mut wanted: Value = serde_json::from_str(&before).unwrap();
        let chat = sessions.get(at).map_or("new \"chat\"\n".to_owned(), |session| {
            serde_json::from_str(&session.id).unwrap()
        });
        let start = decided(&before, &chat, &fields);
        prop_assert_eq!(start.is_new, at == sessions.len());
        let splices = edits(&before, &start);
        for splice in &splices {
            let inside = entries.get(at).is_none_or(|entry| entry.start < splice.range.start && splice.range.end < entry.end);
            prop_assert!(inside && (splice.range.is_empty() || models.contains(&splice.range) || before.trim_ascii() == "{}"
                || sessions.is_empty()), "{splice:?} in {before}");
        }
        let (old, new) = without(&before, &splices);
        prop_assert_eq!(old, new);

        let entry = wanted.get(&chat).cloned().unwrap_or_else(|| json!({ "chat_id": chat }));
        wanted[&chat] = completed(&entry, &fields);
        let after: String = spliced(&before, &splices).collect();
        prop_assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), wanted.clone());
        // Then nothing is lacking any more.
        let again = decided(&after, &chat, &fields);
        prop_assert!(!again.registration.is_edit() && edits(&after, &again).is_empty());
        prop_assert_eq!(start.model.as_ref().map(Model::as_str), wanted[&chat]["model"].as_str());
    }
}
