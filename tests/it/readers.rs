//! The fast reader against the slow one: what it accepts, the slow one accepts, and finds the same.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use reconcile::backend::file::{FileSnapshot, RegistryFile};
use reconcile::chat::Model;
use reconcile::diagnostic::Diagnostic;
use reconcile::error::{Error, Result};
use reconcile::form::{Form, Shape};
use reconcile::registry::json::edit::set_model;
use reconcile::registry::json::scan::{scan, scan_fast, scan_slowly};
use reconcile::registry::json::{Bytes, JsonText, JsonWindows};
use reconcile::registry::{Entry, Position, Snapshot, collect};
use reconcile::splice::{Splice, spliced};

use crate::lossless::snapshot;
use crate::lossless_laws::{regular, sessions, wild, write};
use crate::support::Sandbox;

type Found<'a> = std::result::Result<Vec<Entry<'a>>, Vec<Diagnostic>>;

fn fast(snapshot: &JsonText) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let sessions = scan_fast(snapshot, |entry| entries.push(entry))?;
    assert_eq!(sessions, entries.len());
    Some(entries)
}

fn slow(snapshot: &JsonText) -> Found<'_> {
    let mut entries = Vec::new();
    scan_slowly(snapshot, |entry| entries.push(entry)).map(|_| entries)
}

fn either(snapshot: &JsonText) -> Found<'_> {
    let mut entries = Vec::new();
    scan(snapshot, |entry| entries.push(entry)).map(|_| entries)
}

fn mistakes(error: Error) -> Vec<Diagnostic> {
    match error {
        Error::Invalid(mistakes) => mistakes,
        other => panic!("{other}"),
    }
}

fn in_order(snapshot: &dyn Snapshot) -> Found<'static> {
    let mut entries = Vec::new();
    let counts = snapshot.each(&mut |entry| entries.push(entry.into_owned())).map_err(mistakes)?;
    assert_eq!(counts.sessions, entries.len());
    Ok(entries)
}

fn in_parts(snapshot: &dyn Snapshot) -> Found<'static> {
    let kept = |entries: &mut Vec<Entry<'static>>, entry: Entry<'_>| entries.push(entry.into_owned());
    let (counts, parts) = collect(|make| snapshot.in_parts(make), Vec::new, kept).map_err(mistakes)?;
    let entries: Vec<Entry> = parts.into_iter().flatten().collect();
    assert_eq!(counts.sessions, entries.len());
    Ok(entries)
}

/// Bytes that nothing changes.
#[derive(Debug)]
struct Still(Vec<u8>);

impl Bytes for Still {
    fn read_at(&self, room: &mut [u8], offset: usize) -> std::io::Result<usize> {
        let rest = self.0.get(offset..).unwrap_or_default();
        let length = rest.len().min(room.len());
        room[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn are_intact(&self) -> bool {
        true
    }
}

/// Bytes on a disk that is broken.
#[derive(Debug)]
struct Broken;

impl Bytes for Broken {
    fn read_at(&self, _: &mut [u8], _: usize) -> std::io::Result<usize> {
        Err(rustix::io::Errno::IO.into())
    }
    fn are_intact(&self) -> bool {
        true
    }
}

fn windows(text: &str, form: &Form, window: usize) -> JsonWindows {
    let bytes = Box::new(Still(text.as_bytes().to_vec()));
    JsonWindows::new("sessions.json".to_owned(), bytes, text.len(), 3).by_windows_of(window).in_form(form.clone())
}

/// The same registry as one member among others, and its form.
fn one_level_deeper(text: &str) -> (String, Form) {
    let text = format!("{{\"v\": [1, {{}}],\n  \"s\\u0065ssions\": {text},\n  \"a\": {{\"sessions\": 1}} }}\n");
    (text, Form { key: Some("sessions".to_owned()), shape: Shape::Any })
}

/// Every way to read it finds the same, at the top and one level deeper. Whether the fast reader accepted it.
#[track_caller]
fn agrees(text: &str) -> bool {
    let is_fast = agrees_in(&Form::ANY, text);
    let (deeper, form) = one_level_deeper(text);
    let is_fast_deeper = agrees_in(&form, &deeper);
    assert!(is_fast_deeper || !is_fast, "{deeper}");
    is_fast
}

#[track_caller]
fn agrees_in(form: &Form, text: &str) -> bool {
    let snapshot = |text: &str| snapshot(text).in_form(form.clone());
    let one = snapshot(text);
    let wanted = slow(&one);
    let fast = fast(&one);
    if let Some(entries) = &fast {
        assert_eq!(wanted.as_ref(), Ok(entries), "{text}");
    }
    assert_eq!(wanted, either(&one), "{text}");
    for threads in 1..6 {
        assert_eq!(wanted, in_parts(&snapshot(text).read_by(threads)), "by {threads}: {text}");
    }
    for window in [1, 5, 64, 300] {
        assert_eq!(wanted, in_order(&windows(text, form, window)), "in windows of {window}: {text}");
        assert_eq!(wanted, in_parts(&windows(text, form, window)), "at once in windows of {window}: {text}");
    }
    fast.is_some()
}

#[test]
fn what_the_fast_reader_gives_up_in_the_middle_is_found_once() {
    for (open, close) in [("[", "]"), (r#"{"k":"#, "}")] {
        let deep = format!("{}1{}", open.repeat(40), close.repeat(40));
        let text = format!(r#"{{"a":{{"tier":"x"}},"b":{{"model":"m"}},"c":{{"deep":{deep}}},"d":{{}}}}"#);
        assert!(!agrees(&text));
        assert_eq!(either(&snapshot(&text)).unwrap().len(), 4);
    }
}

#[test]
fn what_is_not_quite_json_is_left_to_the_slow_reader() {
    for text in [
        "",
        " ",
        "{",
        "[]",
        "null",
        "{}x",
        "{}}",
        "{} {}",
        "\u{feff}{}",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":{},}"#,
        r#"{"a":{}"#,
        r#"{"a":{}]"#,
        r#"{"a" {}}"#,
        r#"{"a":{}"b":{}}"#,
        "{a:{}}",
        r#"{"a":1}"#,
        r#"{"a":[]}"#,
        r#"{"a":null}"#,
        r#"{"a":{},"a":{}}"#,
        r#"{"a":{},"\u0061":{}}"#,
        "{\"a\n\":{}}",
        "{\"a\u{1}\":{}}",
        "{\"a\":{\"b\":\"\t\"}}",
        "{\"a\":{\"b\u{0}\":1}}",
        "{\"a\":{\u{a0}}}",
        "{\"a\":{\u{c}}}",
    ] {
        assert!(!agrees(text), "{text}");
    }
    for value in [
        "",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "1_0",
        "NaN",
        "nul",
        "nulll",
        "True",
        "tru",
        "\"",
        r#""\""#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        "[",
        "]",
        "[1",
        "[1,]",
        "[,]",
        "[1 2]",
        "{",
        "{]",
        "[}",
        r#"{"x"}"#,
        r#"{"x":1,}"#,
        "{1:1}",
        "1,",
        "1}",
        "'x'",
        "// x",
        "1 1",
    ] {
        assert!(!agrees(&format!(r#"{{"a":{{"b":{value}}}}}"#)), "{value}");
    }
    for members in [
        r#""model":1"#,
        r#""tier":[]"#,
        r#""model":true"#,
        r#""model":"x","model":"x""#,
        r#""tier":null,"ti\u0065r":"x""#,
    ] {
        assert!(!agrees(&format!(r#"{{"a":{{{members}}}}}"#)), "{members}");
    }
}

#[test]
fn what_is_usual_is_left_to_the_fast_reader() {
    for text in ["{}", " \r\n\t{ } \n", r#"{"a":{}}"#, "{\"\":{ }}", include_str!("../../examples/sessions.json")] {
        assert!(agrees(text), "{text}");
    }
    for value in [
        "0",
        "-0",
        "10",
        "-1.50",
        "1e3",
        "0E-0",
        "12345678901234567890.0e+400",
        "true",
        "false",
        "null",
        "[]",
        "{ }",
        r#"[1, [2, {"model": 3}], "]"]"#,
        r#"{"model": {}, "model": [[[]]]}"#,
        r#""\ud83d""#,
        r#""\"\\\/\b\f\n\r\t\u00e9""#,
        "\"\u{7f}é\u{2028}\"",
    ] {
        assert!(agrees(&format!(r#"{{"a": {{"b": {value} , "model" :"x"}}, "b":{{"b": {value}}} }}"#)), "{value}");
    }
    for members in [
        r#""model":null,"tier":null"#,
        r#""mod\u0065l":"\u006fpus""#,
        r#""type":1,"type":"group","source":"x","source":2"#,
        r#""contact_name":null,"display_name":"x\ty""#,
        r#""session_id":"","resume_id":"x""#,
    ] {
        assert!(agrees(&format!(r#"{{"a":{{{members}}},"b\n":{{{members}}}}}"#)), "{members}");
    }
}

#[test]
fn what_only_seems_to_be_the_start_of_an_entry_misleads_nobody() {
    let inside = "  \"n\": 1,\n  \"c\": {\"model\": \"haiku\"},\n".repeat(20);
    let entry = |id: usize| format!("  \"{id}\": {{\n{inside}  \"model\": \"opus\"}}");
    let entries: Vec<String> = (0..9).map(entry).collect();
    assert!(agrees(&format!("{{\n{}\n}}", entries.join(",\n"))));
    // The last part is whole; what stands before it is not.
    let end = ",\n  \"x\": {}".repeat(50);
    assert!(!agrees(&format!("{{\n  \"a\": {{\"b\": [1{end}\n}}")));
    assert!(!agrees(&format!("{{\n  \"a\": 1{end}\n}}")));
    assert!(!agrees(&format!("{{\n  \"a\": {{}}{end}{end}\n}}")));
}

#[test]
fn a_registry_that_is_too_large_for_memory_is_edited_like_any_other() {
    let entry = |id: usize| {
        let model = if id.is_multiple_of(5_000) { "haiku" } else { "opus" };
        format!("  \"{id}é\": {{\n    \"field\": \"{}\",\n    \"model\": \"{model}\"\n  }}", "x".repeat(1_000))
    };
    let entries: Vec<String> = (0..17_500).map(entry).collect();
    let text = format!("{{\n{}\n}}\n", entries.join(",\n"));
    let policy =
        "models = { allowed = ['opus'], fallback = 'opus' }\nregistry = { path = 'sessions.json', shape = 'any' }\n";
    let sandbox = Sandbox::new(policy, &text);

    let registry = RegistryFile::open(&sandbox.path("sessions.json")).unwrap();
    let count = |read: &FileSnapshot| -> Result<usize> { Ok(read.each(&mut |_| {})?.sessions) };
    let read = registry.snapshot().unwrap();
    assert!(read.text().unwrap() == text);
    assert_eq!(count(&read).unwrap(), 17_500);
    let run = sandbox.run(&[]).expect(0);
    assert_eq!(run.summary(), "Applied: 4 changed, 0 restarted, 0 deferred, 0 failed.");
    assert!(sandbox.read("sessions.json") == text.replace("haiku", "opus"));
    assert_eq!(count(&read).unwrap(), 17_500, "a replacement leaves what was read as it was");

    let large = registry.snapshot().unwrap();
    let mut file = fs::File::options().write(true).open(sandbox.path("sessions.json")).unwrap();
    file.write_all(b"{\n").unwrap();
    let error = count(&large).unwrap_err().text();
    assert!(error.contains("changes while it is read"), "a write into the file does not: {error}");
}

/// A registry of more than 16 MiB, whose fast reader gives up at the end: the deepest value is too deep for it.
fn large_and_deep() -> String {
    let entry = |id: usize| format!("  \"{id}\": {{\n    \"field\": \"{}\"\n  }}", "é".repeat(500));
    let entries: Vec<String> = (0..17_500).map(entry).collect();
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    format!("{{\n{},\n  \"deep\": {{\"field\": {deep}}}\n}}\n", entries.join(",\n"))
}

/// What a reader says of a large registry into which a program writes at the moment that the first entry is handed over.
fn read_while(write: impl Fn(&fs::File)) -> Result<usize> {
    let sandbox = Sandbox::new("models = { allowed = ['opus'], fallback = 'opus' }\n", &large_and_deep());
    let path = sandbox.path("sessions.json");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let mut written = false;
    let read = RegistryFile::open(&path).unwrap().snapshot().unwrap();
    let counts = read.each(&mut |entry| {
        if !written {
            write(&file);
            written = true;
        }
        assert!(std::str::from_utf8(entry.chat.id.as_bytes()).is_ok());
    })?;
    Ok(counts.sessions)
}

#[test]
fn a_large_registry_that_is_overwritten_in_place_while_it_is_read_is_an_error() {
    let size = large_and_deep().len();
    let broken = [0xFF, 0xC3, 0x80, b'x'];
    for start in ["", "{\n  \"0\": {}", "{\n  \"0\": {},\n  \"a\u{fffd}"] {
        for filling in broken {
            let mut bytes = start.as_bytes().to_vec();
            bytes.resize(size, filling);
            let error = read_while(|file| file.write_all_at(&bytes, 0).unwrap()).unwrap_err().text();
            assert!(error.contains("changes while it is read"), "{start:?}, {filling:#x}: {error}");
        }
    }
}

#[test]
fn a_large_registry_that_is_cut_short_in_place_while_it_is_read_is_an_error() {
    for length in [0, 1, 5_000] {
        let error = read_while(|file| file.set_len(length).unwrap()).unwrap_err();
        assert_eq!(error.code(), "registry-changing", "{length}: {error:?}");
    }
}

#[test]
fn a_large_registry_that_is_no_text_is_an_error_with_its_place() {
    let sandbox = Sandbox::new("models = { allowed = ['opus'], fallback = 'opus' }\n", "");
    let mut bytes = b"{\n \"a\": {}".to_vec();
    bytes.resize(17 << 20, b' ');
    bytes.extend(b"\n\n \xFF }");
    fs::write(sandbox.path("sessions.json"), bytes).unwrap();
    let run = sandbox.run(&["--registry", "sessions.json"]).expect(1);
    assert!(run.stderr.contains("not UTF-8") && run.stderr.contains("sessions.json:4:2"), "{run:#?}");
}

#[test]
fn a_large_registry_that_begins_within_a_character_is_the_same_error_as_a_small_one() {
    let sandbox = Sandbox::new("models = { allowed = ['opus'], fallback = 'opus' }\n", "");
    let said = [2, 17 << 20].map(|size| {
        fs::write(sandbox.path("sessions.json"), b"\x80\x80").unwrap();
        fs::File::options().append(true).open(sandbox.path("sessions.json")).unwrap().set_len(size).unwrap();
        let run = sandbox.run(&["--registry", "sessions.json"]).expect(1);
        assert!(run.stderr.contains("not UTF-8") && run.stderr.contains("sessions.json:1:1"), "{run:#?}");
        run.stderr.lines().next().unwrap_or_default().to_owned()
    });
    assert_eq!(said[0], said[1]);
}

/// Something to put into a text where it may or may not belong.
fn scraps() -> impl Strategy<Value = &'static str> {
    select(vec![
        "", "", "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", " ", "\n", ",\n  \"", "0", "-", ".", "e", "null",
        "\u{0}", "\t", "é", "\u{1f}", "/", "model", "tier", "\"x\"", "{}",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_readers_find_the_same(sessions in sessions(), layout in prop_oneof![regular(), wild()]) {
        prop_assert!(agrees(&write(&sessions, &layout).text));
    }

    #[test]
    fn an_edit_is_the_same_in_windows_of_any_size(
        sessions in sessions(),
        layout in prop_oneof![regular(), wild()],
        window in 1..2_000_usize,
    ) {
        let text = write(&sessions, &layout).text;
        for (text, form) in [(text.clone(), Form::ANY), one_level_deeper(&text)] {
            let opus = Model::new("opus").unwrap();
            let places: Vec<Position> = slow(&snapshot(&text).in_form(form.clone())).unwrap().iter().map(|entry| entry.at).collect();
            let wanted: Vec<Splice> = places.iter().map(|at| set_model(&text, &form, *at, Some(&opus)).unwrap()).collect();
            let windows = windows(&text, &form, window);
            let edit = |at: &Position| windows.edit(*at, &|text, at| set_model(text, &form, at, Some(&opus))).unwrap().unwrap();
            let found: Vec<Splice> = places.iter().map(edit).collect();
            prop_assert_eq!(&found, &wanted);
            let mut written = Vec::new();
            windows.write_edited(&found, &mut written).unwrap();
            prop_assert_eq!(String::from_utf8(written).unwrap(), spliced(&text, &wanted).collect::<String>());
        }
    }

    #[test]
    fn both_readers_think_the_same_of_a_damaged_registry(
        sessions in sessions(),
        layout in prop_oneof![regular(), wild()],
        damage in prop::collection::vec((any::<Index>(), 0..3_usize, scraps()), 1..4),
    ) {
        let mut text = write(&sessions, &layout).text;
        for (at, length, scrap) in damage {
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let start = at.index(starts.len());
            let end = (start + length).min(starts.len() - 1);
            text.replace_range(starts[start]..starts[end], scrap);
        }
        agrees(&text);
    }
}

#[test]
fn a_large_registry_that_the_disk_cannot_read_is_an_error() {
    let registry = JsonWindows::new("sessions.json".to_owned(), Box::new(Broken), 2, 1);
    assert_eq!(registry.whole().unwrap_err().code(), "registry-unreadable");
    assert_eq!(registry.each(&mut |_| {}).unwrap_err().code(), "registry-unreadable");
}
