//! Policies with mistakes in them: a file or folder per kind, and what the binary says of it.
//!
//! After an intended change, `SNAPSHOTS=overwrite cargo test` writes what it says now; review it by eye.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use snapbox::data::DataFormat;
use snapbox::{Assert, Data, IntoData};
use tempfile::TempDir;

use crate::support::{Run, below, finish};

const VALID: &str = r#"
[models]
allowed  = ["opus", "haiku"]
fallback = "opus"

[registry]
path = "sessions.json"
"#;

fn dry_run(directory: &Path, policy: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.args(["--dry-run", "--policy", policy]).current_dir(directory).stdin(Stdio::null());
    command.env_remove("RECONCILE_REGISTRY").env_remove("CLICOLOR_FORCE").env_remove("FORCE_COLOR");
    finish(&mut command)
}

/// The policies: files and folders, but not their snapshots.
fn cases() -> Vec<PathBuf> {
    let is_policy = |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|extension| extension == "toml");
    let cases: Vec<PathBuf> = below("invalid").into_iter().filter(is_policy).collect();
    assert!(cases.len() > 50, "where are the policies?");
    cases
}

fn snapshot(case: &Path) -> PathBuf {
    case.with_extension("txt")
}

#[test]
fn every_mistake_is_shown_as_it_was_reviewed() {
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let run = dry_run(case.parent().unwrap(), name).expect(1);
        assert_eq!(run.stdout, "", "{name}: mistakes belong on stderr");
        // Raw, so that what is in brackets stands for nothing but itself.
        let expected = Data::read_from(&snapshot(&case), Some(DataFormat::Text)).raw();
        Assert::new().action_env("SNAPSHOTS").eq(run.stderr.into_data().raw(), expected);
    }
}

#[test]
fn every_snapshot_has_a_policy() {
    let known: BTreeSet<PathBuf> = cases().iter().map(|case| snapshot(case)).collect();
    let snapshots = below("invalid").into_iter().filter(|path| path.extension().is_some_and(|end| end == "txt"));
    for path in snapshots {
        assert!(known.contains(&path), "{} is of no policy", path.display());
    }
}

#[test]
fn no_snapshot_holds_what_moves_a_cursor_or_reorders_a_line() {
    for case in cases() {
        let text = fs::read_to_string(snapshot(&case)).unwrap();
        let hostile = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert_eq!(text.chars().find(|c| hostile(*c)), None, "{}", case.display());
        for line in text.lines() {
            // `::: file` is how a further place is shown.
            let start = line.trim().strip_prefix("::: ").unwrap_or(line.trim());
            assert!(!start.starts_with("::") && !start.starts_with("##["), "{}: {line}", case.display());
        }
    }
}

/// The codes in a source text: the first argument of each function that makes a diagnostic.
fn codes(source: &str) -> BTreeSet<String> {
    let makers = ["Diagnostic::error(", "Diagnostic::warning(", "mistake("];
    let calls = makers.iter().flat_map(|maker| source.match_indices(maker).map(|(at, _)| &source[at + maker.len()..]));
    let literals = calls.filter_map(|arguments| arguments.trim_start().strip_prefix('"')?.split('"').next());
    literals.map(str::to_owned).collect()
}

#[test]
fn every_diagnostic_of_a_policy_has_a_case() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy");
    let files = walkdir::WalkDir::new(source).into_iter().map(|entry| entry.unwrap().into_path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let codes: BTreeSet<String> = rust.flat_map(|path| codes(&fs::read_to_string(path).unwrap())).collect();
    assert!(codes.len() > 15, "found only {codes:?}");

    let shown: String = cases().iter().map(|case| fs::read_to_string(snapshot(case)).unwrap()).collect();
    let untold: Vec<&String> = codes.iter().filter(|code| !shown.contains(&format!("[{code}]"))).collect();
    assert!(untold.is_empty(), "no policy below tests/invalid has these mistakes: {untold:?}");
}

/// Duplicates that must be told with both of their places, and the line of the first and of the second.
#[test]
fn whatever_stands_twice_is_shown_at_both_places() {
    let cases = [
        ("duplicate-chat.toml", vec![(9, 11)]),
        ("duplicate-chat-written-differently.toml", vec![(9, 10), (9, 11), (9, 12)]),
        ("duplicate-chat-escaped-quote.toml", vec![(9, 10)]),
        ("duplicate-tier.toml", vec![(9, 11)]),
        ("duplicate-in-inline-table.toml", vec![(9, 9)]),
        ("duplicate-in-root.toml", vec![(1, 2)]),
        ("duplicate-header.toml", vec![(8, 14)]),
        ("duplicate-header-dotted.toml", vec![(8, 11)]),
        ("duplicate-header-and-key.toml", vec![(12, 17)]),
        ("duplicate-dotted.toml", vec![(9, 10)]),
        ("duplicate-in-rule.toml", vec![(13, 15)]),
        ("crlf.toml", vec![(10, 11)]),
    ];
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid");
    let mut silent = Vec::new();
    for (name, pairs) in cases {
        let run = dry_run(&directory, name).expect(1);
        let blocks: Vec<&str> = run.stderr.split("\n\n").filter(|block| block.contains("[duplicate]")).collect();
        for (first, again) in pairs {
            let lines = |block: &str| {
                let numbered = block.lines().filter_map(|line| line.split_once('|'));
                numbered.filter_map(|(number, _)| number.trim().parse().ok()).collect::<BTreeSet<usize>>()
            };
            let told = blocks.iter().any(|block| {
                block.contains("first here") && block.contains("again here") && lines(block) == [first, again].into()
            });
            if !told {
                silent.push(format!("{name}: lines {first} and {again}\n{}", run.stderr));
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn of_very_many_mistakes_the_rest_is_counted() {
    let wrong_models: String = (0..120).map(|n| format!("tier{n} = \"gpt\"\n")).collect();
    let broken_lines: String = (0..120).map(|n| format!("tier{n} = gpt\n")).collect();
    for tiers in [wrong_models, broken_lines] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("policy.toml"), format!("{VALID}\n[tiers]\n{tiers}")).unwrap();
        let run = dry_run(folder.path(), "policy.toml").expect(1);
        assert_eq!(run.stderr.matches("error[").count(), 100);
        assert!(run.stderr.ends_with("20 more not shown\n"), "{}", &run.stderr[run.stderr.len() - 300..]);
    }
}

/// A folder of policy files, and a valid one in it.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("policy.toml"), VALID).unwrap();
    fs::write(folder.path().join("sessions.json"), r#"{"a": {"tier": "bots", "model": "haiku"}}"#).unwrap();
    folder
}

#[test]
fn hidden_files_and_linked_directories_are_no_part_of_a_policy() {
    let folder = folder();
    let elsewhere = TempDir::new().unwrap();
    let broken = "this is no policy";
    fs::write(elsewhere.path().join("broken.toml"), broken).unwrap();
    fs::create_dir(folder.path().join(".git")).unwrap();
    for name in [".hidden.toml", ".git/broken.toml", "notes.txt", "policy.toml.orig"] {
        fs::write(folder.path().join(name), broken).unwrap();
    }
    symlink(elsewhere.path(), folder.path().join("linked")).unwrap();
    let run = dry_run(folder.path(), ".").expect(0);
    assert!(run.stdout.contains("haiku → opus"), "{run:#?}");

    // The same file, once it is neither hidden nor behind a link.
    fs::write(folder.path().join("broken.toml"), broken).unwrap();
    dry_run(folder.path(), ".").expect(1);
}

#[test]
fn a_linked_file_is_part_of_a_policy() {
    let folder = folder();
    let elsewhere = TempDir::new().unwrap();
    fs::write(elsewhere.path().join("chats"), "[chats]\na = \"haiku\"\n").unwrap();
    assert!(dry_run(folder.path(), ".").expect(0).stdout.contains("haiku → opus"));
    symlink(elsewhere.path().join("chats"), folder.path().join("chats.toml")).unwrap();
    assert!(dry_run(folder.path(), ".").expect(0).stdout.contains("No changes"));
}

#[test]
fn the_files_of_a_folder_are_one_policy() {
    let folder = folder();
    fs::create_dir(folder.path().join("deep")).unwrap();
    fs::write(folder.path().join("deep/limits.toml"), "[limits]\nmax_changes = 0\n").unwrap();
    let run = dry_run(folder.path(), ".").expect(3);
    assert!(run.stderr.contains("the limit is 0"), "{run:#?}");
}

#[test]
fn a_folder_without_policies_is_an_error_that_names_it() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/.hidden.toml"), VALID).unwrap();
    let run = dry_run(folder.path(), "policies").expect(1);
    assert!(run.stderr.contains("there is no *.toml below policies"), "{run:#?}");
}
