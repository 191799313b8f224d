//! What `--help` says first, and what a command that other tools have is called here.

use crate::support::Sandbox;

/// The parts of a help, each with its heading and its text.
fn parts(help: &str) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        let heading = line.strip_suffix(':').filter(|heading| !heading.starts_with(' '));
        match (heading, parts.last_mut()) {
            (Some(heading), _) => parts.push((heading.to_owned(), String::new())),
            (None, Some((_, text))) => text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    parts
}

/// The options that a part of a help explains, in order.
fn options(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.trim_start().starts_with('-'));
    lines.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--"))).collect()
}

fn help(arguments: &[&str]) -> Vec<(String, String)> {
    parts(&Sandbox::new("", "").run(arguments).expect(0).stdout)
}

/// The headings of options, in order.
fn headings(help: &[(String, String)]) -> Vec<&str> {
    let with_options = help.iter().filter(|(_, text)| !options(text).is_empty());
    with_options.map(|(heading, _)| heading.as_str()).collect()
}

#[test]
fn a_dry_run_comes_first_and_what_every_command_takes_comes_last() {
    for flag in ["--help", "-h"] {
        let help = help(&[flag]);
        let expected = ["Options", "Selection", "Limits", "Output", "Shared options", "Privacy"];
        assert_eq!(headings(&help), expected, "{flag}");
        let of = |heading: &str| options(&help.iter().find(|(name, _)| name == heading).unwrap().1);
        assert_eq!(of("Options")[..3], ["--dry-run", "--confirm", "--probe"]);
        assert_eq!(
            of("Selection"),
            ["--chat", "--tier", "--exclude", "--retry", "--retry-failed", "--take-over", "--take-over-all"]
        );
        assert_eq!(of("Limits"), ["--plan", "--allow-changes"]);
        assert_eq!(of("Output"), ["--format", "--output", "--quiet", "--metrics"]);
        assert_eq!(of("Shared options"), ["--policy", "--registry", "--lock-timeout", "--color", "--verbose..."]);
        assert_eq!(of("Privacy"), ["--redact", "--redact-key"]);
    }
}

#[test]
fn the_own_options_of_a_command_come_before_those_that_every_command_takes() {
    let whole = help(&["--help"]);
    let commands = whole.iter().find(|(heading, _)| heading == "Commands").unwrap().1.clone();
    let commands: Vec<&str> = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let commands = commands.into_iter().filter(|command| !["", "help"].contains(command));
    for command in commands {
        let help = help(&[command, "--help"]);
        let found = headings(&help);
        assert_eq!(found.last_chunk(), Some(&["Shared options", "Privacy"]), "{command}: {found:?}");
        let own = help.iter().filter(|(heading, _)| !["Shared options", "Privacy"].contains(&heading.as_str()));
        let shared =
            ["--policy", "--registry", "--lock-timeout", "--color", "--verbose...", "--redact", "--redact-key"];
        for (heading, text) in own {
            assert!(options(text).iter().all(|option| !shared.contains(option)), "{command}, {heading}: {text}");
        }
    }
    let set_model = help(&["set-model", "--help"]);
    assert_eq!(headings(&set_model), ["Options", "Limits", "Output", "Shared options", "Privacy"]);
}

#[test]
fn a_command_of_other_tools_is_told_by_its_name_here() {
    let sandbox = Sandbox::new("", "");
    for (typed, here) in [("validate", "reconcile check"), ("lint", "reconcile check")] {
        let run = sandbox.run(&[typed]).expect(64);
        let tip = format!("error: unrecognized subcommand '{typed}'\n\n  tip: here it is `{here}`\n");
        assert!(run.stderr.starts_with(&tip), "{run:#?}");
    }
    // What is only mistyped is still found.
    assert!(sandbox.run(&["chek"]).expect(64).stderr.contains("'check'"));
    let redacted = sandbox.run(&["lint", "--redact"]).expect(64).stderr;
    assert!(redacted.contains("tip: here it is `reconcile check`"), "{redacted}");
}
