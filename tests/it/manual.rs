//! What shells and `man` are told of the program.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::pages::policy_keys;
use crate::support::{Sandbox, finish, needs};

fn sandbox() -> Sandbox {
    Sandbox::new("", "")
}

/// The commands and the long options that a help names, each where it is explained.
fn explained(help: &str) -> BTreeSet<String> {
    let commands = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    let commands = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let options = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let options = options.flat_map(|line| line.split([' ', ',', '.']).filter(|word| word.starts_with("--")));
    commands.chain(options).filter(|word| !["", "help"].contains(word)).map(str::to_owned).collect()
}

#[test]
fn the_manual_page_explains_every_command_and_every_option() {
    let sandbox = sandbox();
    let page = sandbox.run(&["man"]).expect(0).stdout.replace("\\-", "-");
    let starts: BTreeSet<&str> =
        page.lines().map(|line| line.trim_start_matches("\\fB").trim_start_matches(".SS ")).collect();
    let told = |word: &str| {
        let begins = |rest: &str| rest.is_empty() || rest.starts_with("\\fR");
        starts.iter().any(|line| line.split(", \\fB").any(|part| part.strip_prefix(word).is_some_and(begins)))
    };
    let whole = explained(&sandbox.run(&["--help"]).stdout);
    let commands: Vec<&String> = whole.iter().filter(|word| !word.starts_with('-')).collect();
    assert!(commands.len() >= 4 && whole.contains("--dry-run"), "{whole:?}");
    for command in commands {
        for word in explained(&sandbox.run(&[command, "--help"]).stdout) {
            assert!(told(&word), "{command} {word} is not in the page");
        }
    }
    for word in &whole {
        assert!(told(word), "{word} is not in the page");
    }
}

#[test]
fn the_manual_page_has_the_usual_sections() {
    let page = sandbox().run(&["man"]).expect(0).stdout;
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "EXAMPLES",
        "ENVIRONMENT",
        "FILES",
        "\"EXIT STATUS\"",
    ] {
        assert!(page.lines().any(|line| line == format!(".SH {section}")), "there is no section {section}");
    }
}

/// A page as groff shows it.
fn shown(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let page = sandbox.run(&[&["man"], arguments].concat()).expect(0).stdout;
    sandbox.write("page", &page);
    let mut groff = Command::new("groff");
    groff.args(["-ww", "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "page"]).current_dir(sandbox.path(""));
    let groff = finish(&mut groff);
    assert_eq!(groff.stderr, "", "groff complains of {page}");
    groff.stdout
}

#[test]
#[ignore = "needs groff"]
fn the_manual_page_is_one_that_can_be_read() {
    needs(&["groff"]);
    let text = shown(&sandbox(), &[]);
    let usage = "reconcile launch [OPTIONS] <CHAT> -- <COMMAND>...";
    assert!(
        text.contains(usage)
            && text.contains("claude --model {model} --session-id {new_session_id} --resume {resume_id}")
    );
    let exit = "\n       75  another run holds the lock\n";
    assert!(text.contains(exit) && text.contains("\n   owed\n"), "{}", text);
}

#[test]
#[ignore = "needs groff"]
fn the_other_pages_are_ones_that_can_be_read() {
    needs(&["groff"]);
    let sandbox = sandbox();
    for command in commands(&sandbox) {
        let text = shown(&sandbox, &[&command]);
        assert!(text.contains("\n       75  another run holds the lock"), "{text}");
    }
    let text = shown(&sandbox, &["reconcile.toml"]);
    assert!(text.contains("min_healthy") && text.contains("Default: \"2s\"."), "{text}");
}

fn commands(sandbox: &Sandbox) -> impl Iterator<Item = String> {
    let words = explained(&sandbox.run(&["--help"]).stdout);
    words.into_iter().filter(|word| !word.starts_with('-'))
}

#[test]
fn every_command_has_a_page_of_its_own() {
    let sandbox = sandbox();
    for command in commands(&sandbox) {
        let page = sandbox.run(&["man", &command]).expect(0).stdout;
        for section in
            ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "FILES", "\"EXIT STATUS\"", "EXAMPLES"]
        {
            assert!(page.lines().any(|line| line == format!(".SH {section}")), "{command} has no section {section}");
        }
        let plain = page.replace("\\-", "-");
        assert!(plain.contains(&format!("\nreconcile-{command} - ")), "{plain}");
        let examples = plain.split(".SH EXAMPLES\n").nth(1).unwrap().split("\n.SH ").next().unwrap();
        assert!(examples.contains(&format!("reconcile {command}")), "{command}: {examples}");
        let calls = examples.lines().filter_map(|line| line.strip_prefix("reconcile ")?.split(['|', '>']).next());
        // What stands behind the command of a launch is that command's.
        for call in calls.filter(|call| !call.contains(" -- ")) {
            let words = "eval \"set -- $1\"; exec \"$0\" \"$@\" --help";
            let run = finish(Command::new("sh").args(["-c", words, env!("CARGO_BIN_EXE_reconcile"), call]));
            assert_eq!(run.code, 0, "{call}: {run:?}");
        }
    }
}

#[test]
fn the_synopsis_of_a_launch_has_what_separates_its_command() {
    let page = Sandbox::new("", "").run(&["man", "launch"]).expect(0).stdout.replace('\\', "");
    let synopsis = page.split(".SH ").find(|section| section.starts_with("SYNOPSIS")).unwrap();
    assert!(synopsis.lines().any(|line| line == "reconcile launch [OPTIONS] <CHAT> -- <COMMAND>..."), "{synopsis}");
}

#[test]
fn the_page_of_the_policy_has_every_key() {
    let sandbox = sandbox();
    let page = sandbox.run(&["man", "reconcile.toml"]).expect(0).stdout.replace("\\-", "-");
    for key in policy_keys() {
        let (section, key) = key.split_once('.').unwrap();
        assert!(
            [format!(".SH [{section}]"), format!(".SH [[{section}]]")].iter().any(|line| page.contains(line)),
            "{section}"
        );
        let bold = format!("\\fB{}\\fR", key.replace('*', "NAME"));
        assert!(page.contains(&bold), "{key} of {section} is not in the page");
    }
}

#[test]
fn a_page_that_does_not_exist_is_told_with_one_that_is_meant() {
    let run = sandbox().run(&["man", "chek"]).expect(1);
    assert_eq!(run.stderr, "error[no-manual-page]: no such manual page: \"chek\"\nhint: did you mean `check`?\n");
}

#[test]
fn they_are_the_same_each_time_and_need_no_policy_and_no_registry() {
    for arguments in [&["man"][..], &["man", "check"], &["man", "reconcile.toml"]] {
        let (once, again) = (sandbox().run(arguments).expect(0), sandbox().run(arguments).expect(0));
        assert!(once.stdout.len() > 1000 && once.stderr.is_empty(), "{once:#?}");
        assert_eq!(once.stdout, again.stdout);
    }
}

#[test]
fn a_closed_pipe_ends_them_quietly() {
    for arguments in [&["man"][..], &["completions", "bash"]] {
        let closed = Stdio::from(std::io::pipe().unwrap().1);
        let output = sandbox().command(arguments).stdout(closed).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    }
}
