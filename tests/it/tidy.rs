//! The house keeps its order: imports go down the floors, and only the edge writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::imports::Imports;

/// Which floor each room is on. A file imports from its own room and from lower floors only.
const FLOORS: &[(&str, u32)] = &[
    ("chat", 0),
    ("crash", 0),
    ("diagnostic", 0),
    ("foreign", 0),
    ("form", 0),
    ("redact", 0),
    ("splice", 0),
    ("suggest", 0),
    ("length", 0),
    ("error", 1),
    ("file_name", 1),
    ("checkup", 2),
    ("json", 2),
    ("policy", 2),
    ("registry", 2),
    ("adopt", 3),
    ("names", 3),
    ("os", 3),
    ("resolve", 3),
    ("withdrawn", 3),
    ("lint", 4),
    ("plan", 4),
    ("launch", 5),
    ("sources", 5),
    ("state", 5),
    ("apply", 6),
    ("report", 6),
    ("backend", 7),
    ("cli", 8),
    ("lib", 9),
    ("main", 9),
];

/// Floors that do no I/O and know no clock…
const PURE: u32 = 4;
/// …but for these rooms, which are there for that. Crash points exist in test builds only.
const IMPURE: [&str; 2] = ["crash", "os"];
/// Rooms that never import an impure one, though it stands on a lower floor: what they say follows from values alone.
const VALUES_ONLY: [&str; 5] = ["adopt", "lint", "plan", "report", "resolve"];

/// Rooms in which files may still import each other in a circle.
const CIRCLES_UNCHECKED: &[&str] = &[];

fn sources() -> Vec<(PathBuf, String)> {
    rust_files("src")
}

fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = walkdir::WalkDir::new(&root).into_iter().map(|entry| entry.unwrap().into_path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| (path.strip_prefix(&root).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

fn room(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a file names: `crate::room`, and each of a group `crate::{one, two}`.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(group.split('}').next().unwrap().split(',').map(|part| word(part.trim()))),
            None => rooms.push(word(rest)),
        }
    }
    rooms
}

#[test]
fn imports_go_down_the_floors() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    for (path, text) in sources() {
        let from = room(&path);
        let floor = floors.get(from.as_str()).unwrap_or_else(|| panic!("{} stands on no floor", path.display()));
        // A macro stands at the root of the library, whichever room it is of.
        let rooms = imports(&text).into_iter().map(|to| if to == "sentence" { "foreign".to_owned() } else { to });
        for to in rooms.filter(|to| *to != from) {
            let below = floors.get(to.as_str()).unwrap_or_else(|| panic!("{}: what is crate::{to}?", path.display()));
            assert!(below < floor, "{}: {from} (floor {floor}) imports {to} (floor {below})", path.display());
        }
    }
}

#[test]
fn what_follows_from_values_imports_no_room_that_does_io() {
    for (path, text) in sources().into_iter().filter(|(path, _)| VALUES_ONLY.contains(&room(path).as_str())) {
        for to in imports(&text) {
            assert!(!["os", "sources", "state"].contains(&to.as_str()), "{} imports {to}", path.display());
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let is_unchecked = |file: &str| CIRCLES_UNCHECKED.contains(&room(Path::new(file)).as_str());
    let imports = Imports::of(&sources()).without(|from, to| is_unchecked(from) && is_unchecked(to));
    let circles = imports.circles();
    assert!(circles.is_empty(), "files import each other in a circle:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_of_imports_is_found_however_it_is_written() {
    // What stands in `a/mod.rs`, `a/b.rs` and `c.rs`, and the circles in that.
    for (parent, child, other, circles) in [
        ("mod b;", "use crate::a::B;", "", &[][..]),
        ("mod b;\npub use b::{\n    B,\n    b,\n};", "use crate::a::A;", "use crate::a::{A, B};", &[]),
        ("use crate::a::b::B;", "// crate::a::A", "/// crate::c", &[]),
        ("use crate::c::C;", "", "fn c() { crate::a::a() }", &["a/mod.rs → c.rs → a/mod.rs"]),
        ("use crate::a::b::B as Other;", "use crate::{a, c::C};", "", &["a/b.rs → a/mod.rs → a/b.rs"]),
        ("mod b;\nfn a() { b::b() }", "use super::A;", "", &["a/b.rs → a/mod.rs → a/b.rs"]),
        ("pub(crate) use b::B;", "use crate::c::C;", "use crate::a::{A, B};", &["a/b.rs → c.rs → a/b.rs"]),
        ("use crate::a::b;", "use crate::c;", "use crate::a::A;", &["a/b.rs → c.rs → a/mod.rs → a/b.rs"]),
    ] {
        let files = [("lib.rs", "pub mod a;\nmod c;"), ("a/mod.rs", parent), ("a/b.rs", child), ("c.rs", other)];
        let files = files.map(|(path, text)| (PathBuf::from(path), text.to_owned()));
        assert_eq!(Imports::of(&files).circles(), circles, "{files:#?}");
    }
}

/// Files that may name backends: their settings stand in the policy.
const SETTINGS: [&str; 4] = ["policy/conninfo.rs", "policy/registry.rs", "policy/sessions.rs", "policy/table.rs"];

/// The text of a file without its comments.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_the_same_for_every_backend_names_none_of_them() {
    let backends = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend");
    let folders = fs::read_dir(backends).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["dispatch", "file", "openclaw", "postgres"], "a folder for each backend");
    // "file" is also what every registry, policy and report may be called.
    let names = names.iter().map(String::as_str).filter(|name| *name != "file");
    let words: Vec<&str> = names.chain(["Dispatch", "FileBackend", "FileSettings", "daemon", "Writer"]).collect();
    for (path, text) in sources() {
        let name = path.display().to_string();
        if !["apply", "plan", "policy", "report"].contains(&room(&path).as_str()) || SETTINGS.contains(&name.as_str()) {
            continue;
        }
        let text = code(&text);
        for word in &words {
            // A path in an example is no backend.
            let is_part = |c: char| c.is_alphanumeric() || c == '/';
            let found = text.match_indices(word).find(|(at, _)| !text[..*at].ends_with(is_part));
            // Re-exporting the settings is not knowing them.
            let line = found.map(|(at, _)| text[..at].matches('\n').count());
            let is_export = line.is_some_and(|line| text.lines().nth(line).unwrap_or_default().starts_with("pub use"));
            assert!(found.is_none() || is_export, "{name} names {word}");
        }
    }
}

#[test]
fn no_plan_knows_where_a_registry_lives() {
    for (path, text) in sources() {
        let knows_the_registry = ["apply", "plan", "report"].contains(&room(&path).as_str());
        let text = code(&text);
        for word in ["Stamp", "Splice", "Site", "json::edit", "JsonText", "FileSnapshot"] {
            assert!(!knows_the_registry || !text.contains(word), "{} knows {word}", path.display());
        }
    }
}

#[test]
fn the_lower_floors_do_no_io() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let pure = |path: &PathBuf| floors[room(path).as_str()] <= PURE && !IMPURE.contains(&room(path).as_str());
    for (path, text) in sources().into_iter().filter(|(path, _)| pure(path)) {
        // Threads that end with the call that began them are no I/O; how many there may be comes in as a value.
        let text = text.replace("std::thread::{Builder, scope}", "");
        for forbidden in ["std::fs", "std::env", "std::process", "std::net", "std::thread", "::now()", "rustix::"] {
            assert!(!text.contains(forbidden), "{} uses {forbidden}", path.display());
        }
    }
}

/// The files that open what others wrote, and what for.
const RAW: [(&str, &str); 18] = [
    ("backend/openclaw/fault.rs", "a row of a plan"),
    ("cli/commands/check.rs", "a report"),
    ("cli/commands/diff.rs", "a report"),
    ("cli/commands/launch/tell.rs", "a sentence that is foreign as a whole"),
    ("cli/commands/list.rs", "a report"),
    ("cli/commands/owed.rs", "a report"),
    ("cli/run/confirm.rs", "a report"),
    ("cli/run/outcome.rs", "a report"),
    ("error.rs", "a row of a plan"),
    ("os/process.rs", "a row of a plan"),
    ("plan/history_lines.rs", "the history"),
    ("policy/mod.rs", "the place of a diagnostic"),
    ("policy/source.rs", "the place of a diagnostic"),
    ("report/explain.rs", "a line of a page"),
    ("report/page/comment.rs", "code of a comment, which is escaped there"),
    ("report/shown.rs", "the text of a sentence, which is escaped there"),
    ("report/text.rs", "a line of a page"),
    ("sources/load.rs", "the place of a diagnostic"),
];

/// The files that decide that a text may be told to every reader, and of what.
const PUBLIC: [(&str, &str); 11] = [
    ("backend/commands.rs", "numbers"),
    ("backend/postgres/failure.rs", "the code of a server's error"),
    ("cli/commands/doctor.rs", "what the kernel says of itself"),
    ("cli/commands/set_model.rs", "models of the policy"),
    ("cli/commands/undo.rs", "the names of runs, which are times"),
    ("cli/run/outcome.rs", "a plan that has pseudonyms where names are hidden, and what was typed where they are not"),
    ("cli/workspace.rs", "pseudonyms where names are hidden"),
    ("cli/zone.rs", "a known time zone"),
    ("file_name.rs", "the position of a file where names are hidden"),
    ("foreign.rs", "a single character"),
    ("state/problem.rs", "files that this program names"),
];

/// The files that write to a stream, and what.
const STREAMS: [(&str, &str); 5] = [
    ("cli/completion/mod.rs", "names that are harmless as they are"),
    ("cli/mod.rs", "the help, and mistakes of the command line, which are escaped there"),
    ("cli/run/progress.rs", "a line that is escaped there"),
    ("cli/terminal.rs", "pages and sentences"),
    ("cli/trace.rs", "sentences"),
];

/// The files that begin a page, and where it ends up.
const PAGES: [(&str, &str); 2] = [("cli/outputs.rs", "in a report's file"), ("cli/terminal.rs", "on a stream")];

#[test]
fn what_others_wrote_is_opened_and_told_and_written_in_few_files() {
    let uses = |words: &[&str]| -> BTreeSet<String> {
        let found = sources().into_iter().filter(|(_, text)| words.iter().any(|word| code(text).contains(word)));
        found.map(|(path, _)| path.display().to_string()).collect()
    };
    let known = |files: &[(&str, &str)]| files.iter().map(|(file, _)| (*file).to_owned()).collect::<BTreeSet<_>>();
    let own = |file: &str| !["foreign.rs", "report/page/mod.rs"].contains(&file);
    let raw: BTreeSet<String> = uses(&[".raw()"]).into_iter().filter(|file| own(file)).collect();
    assert_eq!(raw, known(&RAW));
    assert_eq!(uses(&["Public::new("]), known(&PUBLIC));
    assert_eq!(uses(&["stdout()", "stderr()"]), known(&STREAMS));
    assert_eq!(uses(&["Page::onto("]), known(&PAGES));
}

#[test]
fn exceptions_to_the_ban_on_io_are_few() {
    let exempt = sources().into_iter().filter(|(_, text)| text.contains("allow(clippy::disallowed_methods"));
    let exempt: BTreeSet<String> = exempt.map(|(path, _)| path.display().to_string()).collect();
    let expected = [
        "backend/dispatch/mod.rs",
        "backend/dispatch/socket.rs",
        "backend/file/mod.rs",
        "backend/openclaw/mod.rs",
        "backend/postgres/mod.rs",
        "cli/mod.rs",
        "crash.rs",
        "os/mod.rs",
        "sources/mod.rs",
        "state/mod.rs",
    ];
    assert_eq!(exempt, expected.map(str::to_owned).into());
}

/// The name and the type of each `static` item: what stands between `static` and its value.
fn statics(text: &str) -> impl Iterator<Item = &str> {
    let code = |at: usize| !text[..at].rsplit('\n').next().unwrap().contains("//");
    let item = move |(at, _)| code(at).then(|| text[at..].split(['=', ';']).next().unwrap().trim());
    // `'static` is a lifetime.
    text.match_indices("static ").filter(|(at, _)| !text[..*at].ends_with('\'')).filter_map(item)
}

#[test]
fn no_state_is_global() {
    let mutable = ["static mut ", "Atomic", "Cell", "Lazy", "Mutex", "Once", "RwLock"];
    // The counter of crash points exists in test builds only.
    for (path, text) in sources().into_iter().filter(|(path, _)| path != Path::new("crash.rs")) {
        assert!(!text.contains("thread_local!"), "{} has a state for each thread", path.display());
        for item in statics(&text) {
            let found = mutable.iter().find(|word| item.contains(**word));
            assert_eq!(found, None, "{}: `{item}` can change: hand it down from main", path.display());
        }
    }
}

#[test]
fn every_file_is_one_job() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines: is it one job?", path.display());
        assert!(text.starts_with("//! "), "{} does not say what it is for", path.display());
    }
}

/// The beginning of each function of a file: from its visibility to the brace that opens its body.
fn signatures(text: &str) -> impl Iterator<Item = &str> {
    let at = text.match_indices("fn ").map(|(at, _)| at);
    let begins_a_line = |at: &usize| {
        let before = text[..*at].rsplit('\n').next().unwrap().trim_start();
        before.is_empty() || before.starts_with("pub") || before.starts_with("const")
    };
    at.filter(begins_a_line).map(|at| text[at..].split('{').next().unwrap())
}

#[test]
fn no_call_says_true_or_false_without_a_name() {
    for (path, text) in sources() {
        let found = signatures(&text).find(|signature| signature.contains(": bool"));
        assert_eq!(found, None, "{}: an enum or a struct says at the call what is meant", path.display());
    }
}

/// Words that leave open who does what, and beginnings that only a reader of the lines before understands.
const VAGUE: [&str; 6] = ["mend", "nobody", "somebody", "the same but", "whatever", "whoever"];

#[test]
fn comments_say_who_does_what() {
    for folder in ["benches", "fuzz", "src", "tests"] {
        for (path, text) in rust_files(folder) {
            for (_, comment) in text.lines().filter_map(|line| line.split_once("//")) {
                let words = comment.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
                let words = format!(" {} ", words.collect::<Vec<_>>().join(" ").to_lowercase());
                let found = VAGUE.iter().find(|vague| words.contains(&format!(" {vague} ")));
                assert_eq!(found, None, "{folder}/{}: //{comment}", path.display());
            }
        }
    }
}

/// Of each test of a file, the attributes and the body.
fn tests(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("#[test]\n").skip(1).filter_map(|part| {
        let (attributes, rest) = part.split_once("fn ")?;
        let (_, body) = rest.split_once("{\n")?;
        Some((attributes, body.trim_start()))
    })
}

/// A test that returns early where it lacks a program counts as passed. One that is ignored is counted as that.
#[test]
fn a_test_that_not_every_machine_can_run_is_ignored_and_fails_where_it_lacks_what_it_needs() {
    let skips = ["skipped", ":"].concat();
    let files = rust_files("tests/it");
    assert!(files.iter().any(|(_, text)| tests(text).any(|(_, body)| body.starts_with("needs"))), "no test was found");
    for (path, text) in files {
        assert!(!text.contains(&skips), "{} has a test that passes where it is skipped", path.display());
        for (attributes, body) in tests(&text) {
            let is_ignored = attributes.contains("#[ignore = \"needs ");
            let line = body.lines().next().unwrap_or_default();
            assert_eq!(is_ignored, line.starts_with("needs"), "{}: a test begins with `{line}`", path.display());
        }
    }
}
