//! Values as long as others like to make them: what is written stays in proportion to what was read.

use std::fs;

use crate::sizes::limited;
use crate::support::{POLICY, Run, Sandbox};

const LONG: usize = 100_000;
const ROWS: usize = 500;
const UNLIMITED: &str = "[limits]\nmax_changes = 1000000\n";
const LARGEST_POLICY: usize = 16 << 20;

/// So many chats on the wrong model, and one more entry.
fn registry(one: &str) -> String {
    let chats: String = (0..ROWS).map(|n| format!(r#""+1{n:04}": {{"tier": "bots", "model": "opus"}},"#)).collect();
    format!("{{{chats}{one}}}")
}

/// That stdout is at most a few times as long as what was read, and nothing like rows times their longest cell.
fn in_proportion(what: &str, sandbox: &Sandbox, run: &Run) {
    let read = sandbox.read("policy.toml").len() + sandbox.read("sessions.json").len();
    let most = 3 * read + 1_000 * ROWS;
    assert!(run.stdout.len() < most, "{what}: {} bytes written, {read} read", run.stdout.len());
}

#[test]
fn one_long_value_does_not_make_every_row_long() {
    let long = "x".repeat(LONG);
    let reason = format!("[chats]\n\"+2\" = {{ managed = false, reason = \"{long}\" }}\n");
    let rule = format!("[chats]\n\"{long}\" = \"sonnet\"\n");
    for (what, policy, one) in [
        ("model", "", format!(r#""+2": {{"tier": "bots", "model": "{long}"}}"#)),
        ("tier", "", format!(r#""+2": {{"tier": "{long}", "model": "opus"}}"#)),
        ("session name", "", format!(r#""+2": {{"session_name": "{long}", "model": "opus"}}"#)),
        ("rule", rule.as_str(), format!(r#""{long}": {{"model": "opus"}}"#)),
        ("reason", reason.as_str(), r#""+2": {"model": "opus"}"#.to_owned()),
    ] {
        let sandbox = Sandbox::new(&format!("{POLICY}{policy}{UNLIMITED}"), &registry(&one));
        for format in ["text", "markdown", "json"] {
            let run = sandbox.run(&["--dry-run", "--format", format]).expect(0);
            in_proportion(&format!("{what}, {format}"), &sandbox, &run);
        }
    }
}

/// It would stand in every row, of every report and of the history.
#[test]
fn a_model_of_a_policy_has_a_name_of_a_sensible_length() {
    let policy = |length: usize| POLICY.replace("sonnet", &"x".repeat(length));
    let sandbox = Sandbox::new(&policy(4_096), r#"{"a": {"tier": "family", "model": "opus"}}"#);
    sandbox.run(&["--dry-run"]).expect(0);
    sandbox.write("policy.toml", policy(4_097));
    let run = sandbox.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("use 1 to 4096 bytes"), "{}", run.stderr);
}

#[test]
fn a_cell_that_is_cut_says_so() {
    let long = "x".repeat(LONG);
    let one = format!(r#""+2": {{"tier": "bots", "model": "{long}"}}"#);
    let run = Sandbox::new(&format!("{POLICY}{UNLIMITED}"), &registry(&one)).run(&["--dry-run"]).expect(0);
    let widest = run.stdout.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    assert!(widest < 1_000 && run.stdout.contains("xxx…"), "{widest}");
}

#[test]
fn an_explanation_is_no_longer_than_what_it_explains() {
    let id = "+".repeat(LONG);
    let rules = "[[rules]]\nchat = \"x*\"\nmodel = \"opus\"\n".repeat(ROWS);
    let chats = format!(r#"{{"{id}": {{"tier": "bots", "session_name": "a", "model": "opus"}}}}"#);
    let sandbox = Sandbox::new(&format!("{POLICY}{rules}"), &chats);
    for format in ["text", "json"] {
        in_proportion(format, &sandbox, &sandbox.run(&["explain", "a", "--format", format]).expect(0));
    }
    sandbox.write("policy.toml", format!("{POLICY}{rules}[chats]\n\"{id}\" = \"opus\"\n"));
    in_proportion("an override", &sandbox, &sandbox.run(&["explain", "a"]).expect(0));
}

#[test]
fn a_pattern_takes_time_in_proportion_to_an_id_that_repeats_its_beginning() {
    let repeated = "a".repeat(LONG);
    for pattern in ["*LONGb", "*LONGb*", "*?LONGb*", "a*LONGb"].map(|pattern| pattern.replace("LONG", &repeated)) {
        let rule = format!("[[rules]]\nchat = \"{pattern}\"\nmodel = \"opus\"\n");
        let chats = format!(r#"{{"{repeated}{repeated}": {{"tier": "bots", "model": "haiku"}}}}"#);
        let run = limited(&Sandbox::new(&format!("{POLICY}{rule}"), &chats), &["--dry-run"]);
        assert_eq!((run.code, run.summary()), (0, "No changes. 1 in sync."), "-1: out of time");
    }
}

#[test]
fn a_policy_is_never_made_larger_than_what_can_be_read() {
    let sandbox = Sandbox::new("", r#"{"+1": {"tier": "bots", "model": "haiku"}}"#);
    let policy = format!("# {}\n{POLICY}", "x".repeat(LARGEST_POLICY - POLICY.len() - "# \n".len()));
    sandbox.write("policy.toml", &policy);
    sandbox.run(&["--dry-run"]).expect(0);
    for more in [&["--dry-run"][..], &[]] {
        let run = sandbox.run(&[&["set-model", "+1", "opus"], more].concat()).expect(1);
        assert!(run.stderr.contains("error[policy-would-be-too-large]: policy.toml would be larger"), "{}", run.stderr);
        assert!(sandbox.read("policy.toml") == policy, "nothing is written");
        assert_eq!(sandbox.model("+1").as_deref(), Some("haiku"));
    }
}

#[test]
fn what_is_adopted_can_be_read() {
    let id = "x".repeat(LARGEST_POLICY);
    let chats = format!(r#"{{"+1": {{"tier": "a", "model": "haiku"}}, "{id}": {{"tier": "a", "model": "opus"}}}}"#);
    let sandbox = Sandbox::new("", &chats);
    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    let run = sandbox.run(&["adopt", "--registry", "sessions.json"]).expect(1);
    assert!(run.stderr.contains("would be larger than 16 MiB"), "{}", run.stderr);
    assert_eq!(run.stdout, "");
}
