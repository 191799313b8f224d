//! The registry is edited without loss: all that is not a `model` stays as it is, to the byte.

use std::fs;
use std::os::unix::fs::MetadataExt;

use reconcile::chat::Model;
use reconcile::form::Form;
use reconcile::registry::json::JsonText;
use reconcile::registry::json::edit::set_model;
use reconcile::registry::json::scan::scan;
use reconcile::splice::{Splice, spliced};

use crate::support::Sandbox;

/// Every chat is to run on opus.
const POLICY: &str = r#"
[models]
allowed  = ["opus"]
fallback = "opus"

[registry]
path  = "sessions.json"
shape = "any"

[limits]
max_changes = 1000
"#;

pub fn snapshot(text: &str) -> JsonText {
    JsonText::new("sessions.json".to_owned(), text.into()).unwrap()
}

/// The edits that make every entry say opus, in order.
pub fn splices(text: &str) -> Vec<Splice> {
    let snapshot = snapshot(text);
    let opus = Model::new("opus").unwrap();
    let mut places = Vec::new();
    let wrong = |entry: reconcile::registry::Entry| {
        if entry.model.as_deref() != Some("opus") {
            places.push(entry.at);
        }
    };
    scan(&snapshot, wrong).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}"));
    places.into_iter().map(|at| set_model(text, &Form::ANY, at, Some(&opus)).unwrap()).collect()
}

/// What the library makes of a registry, and the binary.
#[track_caller]
fn becomes(before: &str, after: &str) {
    let edited: String = spliced(before, &splices(before)).collect();
    assert_eq!(edited, after, "by the library");

    let sandbox = Sandbox::new(POLICY, before);
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("sessions.json"), after, "by the binary");
    let again = sandbox.run(&[]).expect(0);
    assert!(again.summary().starts_with("No changes."), "{again:#?}");
}

#[test]
fn a_replaced_value_is_all_that_changes_in_any_layout() {
    for (before, after) in [
        ("{\n  \"a\": {\n    \"model\": \"haiku\"\n  }\n}\n", "{\n  \"a\": {\n    \"model\": \"opus\"\n  }\n}\n"),
        ("{\n  \"a\": {\n    \"model\": \"haiku\"\n  }\n}", "{\n  \"a\": {\n    \"model\": \"opus\"\n  }\n}"),
        (r#"{"a":{"model":"haiku"}}"#, r#"{"a":{"model":"opus"}}"#),
        (r#"{"a": {"model": "haiku"}}"#, r#"{"a": {"model": "opus"}}"#),
        ("{\n\t\"a\": {\n\t\t\"model\": \"haiku\"\n\t}\n}", "{\n\t\"a\": {\n\t\t\"model\": \"opus\"\n\t}\n}"),
        (
            "{\r\n  \"a\": {\r\n    \"model\": \"haiku\"\r\n  }\r\n}\r\n",
            "{\r\n  \"a\": {\r\n    \"model\": \"opus\"\r\n  }\r\n}\r\n",
        ),
        (
            "\n \t{ \"a\" : { \"model\" : \"haiku\" , \"x\" : 1 } } \n\n",
            "\n \t{ \"a\" : { \"model\" : \"opus\" , \"x\" : 1 } } \n\n",
        ),
        ("{\"a\":\n{\"model\"\n:\n\"haiku\"\n}\n}", "{\"a\":\n{\"model\"\n:\n\"opus\"\n}\n}"),
    ] {
        becomes(before, after);
    }
}

#[test]
fn null_and_the_empty_string_are_replaced_where_they_stand() {
    becomes(r#"{"a": {"model": null, "x": 1}}"#, r#"{"a": {"model": "opus", "x": 1}}"#);
    becomes(r#"{"a": {"x": 1, "model": ""}}"#, r#"{"a": {"x": 1, "model": "opus"}}"#);
    becomes(r#"{"a":{"model":null},"b":{"model":""}}"#, r#"{"a":{"model":"opus"},"b":{"model":"opus"}}"#);
}

#[test]
fn the_model_is_found_as_first_middle_and_last_member() {
    becomes(
        r#"{"a": {"model": "x", "b": 1, "c": 2}, "b": {"b": 1, "model": "x", "c": 2}, "c": {"b": 1, "c": 2, "model": "x"}}"#,
        r#"{"a": {"model": "opus", "b": 1, "c": 2}, "b": {"b": 1, "model": "opus", "c": 2}, "c": {"b": 1, "c": 2, "model": "opus"}}"#,
    );
}

#[test]
fn only_the_models_of_entries_are_models() {
    // Not those of nested objects, of keys that only look alike, or in strings.
    let decoys = r#""x": {"model": "haiku", "y": [{"model": null}]}, "Model": "haiku", "model ": "haiku", "z": "\"model\": \"haiku\"""#;
    becomes(
        &format!(r#"{{"a": {{{decoys}, "model": "haiku"}}}}"#),
        &format!(r#"{{"a": {{{decoys}, "model": "opus"}}}}"#),
    );
    becomes(
        &format!(r#"{{"a": {{"model": "haiku", {decoys}}}}}"#),
        &format!(r#"{{"a": {{"model": "opus", {decoys}}}}}"#),
    );
    becomes(&format!(r#"{{"a": {{{decoys}}}}}"#), &format!(r#"{{"a": {{{decoys}, "model": "opus"}}}}"#));
    becomes(r#"{"model": {"model": "haiku"}}"#, r#"{"model": {"model": "opus"}}"#);
}

#[test]
fn escaped_keys_and_values_mean_what_they_say() {
    becomes(r#"{"a": {"mod\u0065l": "haiku"}}"#, r#"{"a": {"mod\u0065l": "opus"}}"#);
    becomes(r#"{"a": {"\u006D\u006fdel": null, "x": 1}}"#, r#"{"a": {"\u006D\u006fdel": "opus", "x": 1}}"#);
    // Spelt differently, and the same.
    let same = r#"{"a": {"model": "\u006fpus"}}"#;
    becomes(same, same);
}

#[test]
fn whatever_else_json_can_hold_is_passed_through() {
    let digits = "1234567890".repeat(40);
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for other in [
        digits.as_str(),
        &format!("-{digits}.{digits}e+{digits}"),
        "1E400",
        "-0.0",
        r#""\ud83d""#,
        r#""\udc00\ud83d x""#,
        r#"{"\ud83d": "\ude00"}"#,
        r#""\/\b\f\n\r\t\"\\""#,
        "\"日本語 é é \u{7f}\u{202e}\u{2028}\"",
        "[ ]",
        "{\t}",
        "[1 ,\n2,{} ,[null , true,false]]",
        &deep,
    ] {
        for key in ["x", r"\ud83d", "contact_name", "session_name", "type", "ключ"] {
            let chat = format!(r#""{key}" : {other}"#);
            becomes(
                &format!(r#"{{"a": {{{chat}, "model": "x"}}, "b": {{"model": "x", {chat}}}}}"#),
                &format!(r#"{{"a": {{{chat}, "model": "opus"}}, "b": {{"model": "opus", {chat}}}}}"#),
            );
        }
    }
}

#[test]
fn names_and_ids_with_lone_surrogates_are_no_obstacle() {
    becomes(
        r#"{"\ud83d": {"contact_name": "Ann \ud83d", "session_name": "\udc00", "tier": "\ud83d", "model": "\ud83d"}}"#,
        r#"{"\ud83d": {"contact_name": "Ann \ud83d", "session_name": "\udc00", "tier": "\ud83d", "model": "opus"}}"#,
    );
}

#[test]
fn a_missing_model_is_added_last_in_the_layout_of_its_entry() {
    for (before, after) in [
        (r#"{"a": {"b": 1, "c": 2}}"#, r#"{"a": {"b": 1, "c": 2, "model": "opus"}}"#),
        (r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":1,"c":2,"model":"opus"}}"#),
        (
            "{\n  \"a\": {\n    \"b\": 1,\n    \"c\": {}\n  }\n}",
            "{\n  \"a\": {\n    \"b\": 1,\n    \"c\": {},\n    \"model\": \"opus\"\n  }\n}",
        ),
        (
            "{\r\n\t\"a\":{\r\n\t\t\"b\":1,\r\n\t\t\"c\":[]\r\n\t}\r\n}\r\n",
            "{\r\n\t\"a\":{\r\n\t\t\"b\":1,\r\n\t\t\"c\":[],\r\n\t\t\"model\":\"opus\"\r\n\t}\r\n}\r\n",
        ),
        (r#"{ "a" : { "b" : 1 , "c" : 2 } }"#, r#"{ "a" : { "b" : 1 , "c" : 2 , "model" : "opus" } }"#),
        ("{\"a\":{\"b\":1\n,\"c\":2\n}}", "{\"a\":{\"b\":1\n,\"c\":2\n,\"model\":\"opus\"\n}}"),
        // Each entry has its own.
        (
            "{\"a\":{\"b\":1,\"c\":2},\n \"b\": {\"b\": 1, \"c\": 2}}",
            "{\"a\":{\"b\":1,\"c\":2,\"model\":\"opus\"},\n \"b\": {\"b\": 1, \"c\": 2, \"model\": \"opus\"}}",
        ),
    ] {
        becomes(before, after);
    }
}

#[test]
fn an_entry_of_one_member_is_layout_enough() {
    for (before, after) in [
        (r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 1, "model": "opus"}}"#),
        (r#"{"a":{"b":1}}"#, r#"{"a":{"b":1,"model":"opus"}}"#),
        (r#"{"a": { "b": 1 }}"#, r#"{"a": { "b": 1, "model": "opus" }}"#),
        ("{\n  \"a\": {\n    \"b\": 1\n  }\n}\n", "{\n  \"a\": {\n    \"b\": 1,\n    \"model\": \"opus\"\n  }\n}\n"),
        (
            "{\r\n\t\"a\": {\r\n\t\t\"b\": 1\r\n\t}\r\n}",
            "{\r\n\t\"a\": {\r\n\t\t\"b\": 1,\r\n\t\t\"model\": \"opus\"\r\n\t}\r\n}",
        ),
    ] {
        becomes(before, after);
    }
}

#[test]
fn an_entry_of_no_members_takes_the_layout_around_it() {
    for (before, after) in [
        (r#"{"a":{}}"#, r#"{"a":{"model":"opus"}}"#),
        (r#"{"a": {}, "b": {}}"#, r#"{"a": {"model": "opus"}, "b": {"model": "opus"}}"#),
        (r#"{"a": { }}"#, r#"{"a": { "model": "opus" }}"#),
        ("{\n  \"a\": {}\n}\n", "{\n  \"a\": {\n    \"model\": \"opus\"\n  }\n}\n"),
        (
            "{\n\t\"a\": {},\n\t\"b\": {}\n}",
            "{\n\t\"a\": {\n\t\t\"model\": \"opus\"\n\t},\n\t\"b\": {\n\t\t\"model\": \"opus\"\n\t}\n}",
        ),
        ("{\r\n    \"a\": {}\r\n}\r\n", "{\r\n    \"a\": {\r\n        \"model\": \"opus\"\r\n    }\r\n}\r\n"),
    ] {
        becomes(before, after);
    }
}

#[test]
fn a_registry_of_no_sessions_is_valid_and_said_to_be_one() {
    for registry in ["{}", "{}\n", " { } ", "{\r\n}"] {
        let sandbox = Sandbox::new(POLICY, registry);
        for arguments in [&[][..], &["--dry-run"][..]] {
            let run = sandbox.run(arguments).expect(0);
            assert_eq!(run.summary(), "No changes. There are no sessions.");
        }
        assert_eq!(sandbox.read("sessions.json"), registry);
    }
}

#[test]
fn a_registry_in_sync_is_not_even_replaced() {
    let sandbox = Sandbox::new(POLICY, r#"{"a": {"model": "opus"}}"#);
    let inode = || fs::metadata(sandbox.path("sessions.json")).unwrap().ino();
    let before = inode();
    sandbox.run(&[]).expect(0);
    assert_eq!(inode(), before);
}
