//! The README and the pages that it points to show what the program does.

use std::fs;
use std::path::Path;
use std::process::Command;

use reconcile::policy::{Source, read};

use crate::support::{Sandbox, finish};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The blocks of one language on a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let page = file(page);
    let parts = page.split("```").skip(1).step_by(2);
    parts.filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n').map(str::to_owned)).collect()
}

#[test]
fn its_transcript_is_what_the_program_prints() {
    replay("README.md", 3);
}

#[test]
fn the_json_that_is_documented_is_what_the_program_prints() {
    replay("docs/json-report.md", 1);
}

fn replay(page: &str, least: usize) {
    let sandbox = Sandbox::new(&file("policy.toml"), "");
    fs::create_dir(sandbox.path("examples")).unwrap();
    sandbox.write("examples/sessions.json", file("examples/sessions.json"));
    let program = Path::new(env!("CARGO_BIN_EXE_reconcile"));
    let commands: Vec<String> = blocks(page, "console").concat().split("$ ").skip(1).map(str::to_owned).collect();
    assert!(commands.len() >= least, "where is the transcript?");
    for command in commands {
        let (line, expected) = command.split_once('\n').unwrap();
        let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
        let mut shell = Command::new("sh");
        let run = finish(shell.args(["-c", line]).current_dir(sandbox.path("")).env("PATH", path).env("TZ", "UTC"));
        assert_eq!(format!("{}{}", run.stdout, run.stderr), expected, "$ {line}");
    }
}

/// Its policies. A part of one goes with what every policy needs.
pub fn policies() -> Vec<String> {
    const NEEDED: &str = "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n";
    let whole = |block: String| if block.contains("[models]") { block } else { format!("{NEEDED}{block}") };
    blocks("README.md", "toml").into_iter().map(whole).collect()
}

#[test]
fn its_policy_is_valid() {
    for policy in policies() {
        let (_, warnings) = read(&[Source::new("README.md", policy)]).unwrap();
        assert_eq!(warnings, []);
    }
}

#[test]
fn the_policies_that_it_points_to_are_valid() {
    for name in ["policy.toml", "examples/dispatch.toml"] {
        let (_, warnings) = read(&[Source::new(name, file(name))]).unwrap();
        assert_eq!(warnings, [], "{name}");
    }
}

#[test]
fn its_test_command_is_what_the_checks_run() {
    let commands = blocks("README.md", "sh").first().unwrap().clone();
    let mut commands = commands.lines().map(|line| line.split('#').next().unwrap().trim());
    assert_eq!(commands.next(), Some("cargo run --release -- --dry-run"));
    let test = commands.next().unwrap();
    assert!(file(".ci/run").lines().any(|line| line == format!("step {test}")), ".ci/run does not run {test:?}");
}

#[test]
fn its_exit_codes_are_those_of_the_help() {
    let help = finish(Command::new(env!("CARGO_BIN_EXE_reconcile")).arg("--help")).stdout;
    let readme = file("README.md");
    let codes = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
    let codes: Vec<u8> = codes.collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 64, 75]);
    for code in codes {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))),
            "{code} is not in the help"
        );
    }
}
