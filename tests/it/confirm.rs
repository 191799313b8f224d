//! `reconcile plan` and `reconcile apply`, and the question of `--confirm`. Python, which the checks need anyway, lends the
//! terminal.

use std::process::Command;

use crate::support::{POLICY, Run, Sandbox, finish, registry};

/// Runs the arguments on a terminal of their own, with stdout in the file `out`. When the question appears, the command
/// `meanwhile` is run, and then `typed` is typed.
const TERMINAL: &str = r#"
import os, pty, signal, subprocess, sys
typed, meanwhile, command = sys.argv[1].encode().decode("unicode_escape"), sys.argv[2], sys.argv[3:]
pid, ours = pty.fork()
if pid == 0:
    # Where the tests run in the background, it is ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.execv(command[0], command)
shown, waiting = b"", True
while True:
    try:
        part = os.read(ours, 4096)
    except OSError:
        part = b""
    if not part:
        break
    shown += part
    if waiting and b"is accepted: " in shown:
        waiting = False
        subprocess.run(["sh", "-c", meanwhile], check=True)
        os.write(ours, typed.encode())
sys.stderr.write(shown.decode().replace("\r\n", "\n"))
sys.stdout.write(open("out").read())
status = os.waitpid(pid, 0)[1]
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
"#;

fn sandbox() -> Sandbox {
    Sandbox::new(POLICY, &registry(&[("+1", "family", "opus"), ("+2", "bots", "haiku")]))
}

fn asked(sandbox: &Sandbox, arguments: &[&str], typed: &str, meanwhile: &str) -> Run {
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL, typed, meanwhile, env!("CARGO_BIN_EXE_reconcile")]).args(arguments);
    finish(python.current_dir(sandbox.path("")).env("TERM", "xterm").env("TZ", "UTC").env("NO_COLOR", "1"))
}

#[test]
fn plan_and_apply_are_a_run_by_other_names() {
    for (by_name, otherwise) in [
        (&["plan"][..], &["--dry-run"][..]),
        (&["plan", "--detailed-exitcode", "--at", "7d"], &["--dry-run", "--detailed-exitcode", "--at", "7d"]),
        (&["plan", "--format", "json", "--chat", "+1"], &["-n", "--format", "json", "--chat", "+1"]),
        (&["plan", "--allow-changes", "0"], &["-n", "--allow-changes", "0"]),
        (&["apply", "--dry-run"], &["--dry-run"]),
        (&["apply", "--quiet", "--exclude", "+1"], &["--quiet", "--exclude", "+1"]),
        (&["apply", "--format", "json"], &["--format", "json"]),
        (&["apply", "--format", "diff", "--redact"], &["--format", "diff", "--redact"]),
    ] {
        let (one, other) = (sandbox(), sandbox());
        let (named, plain) = (one.run(by_name), other.run(otherwise));
        assert_eq!((named.code, &named.stdout), (plain.code, &plain.stdout), "{by_name:?}: {named:#?}");
        assert_eq!(one.read("sessions.json"), other.read("sessions.json"), "{by_name:?}");
    }
    let sandbox = sandbox();
    // What only a dry run takes is taken by no other.
    for probed in [&["--probe"][..], &["apply", "--at", "7d"], &["apply", "--detailed-exitcode"]] {
        assert!(sandbox.run(probed).expect(64).stderr.contains("--dry-run"), "{probed:?}");
    }
    sandbox.run(&["plan", "--dry-run", "--confirm"]).expect(64);
    sandbox.run(&["--chat", "+1", "plan"]).expect(64);
    assert_eq!(sandbox.model("+1").as_deref(), Some("opus"));
    sandbox.run(&["apply"]).expect(0);
    assert_eq!(sandbox.model("+1").as_deref(), Some("sonnet"));
}

#[test]
fn a_run_that_asks_applies_what_it_showed_after_a_yes_and_after_nothing_else() {
    for (typed, code) in [(r"yes\n", 0), (r"y\n", 3), (r"no\n", 3), (r"\n", 3), (r"\x04", 3), (r"\x03", 130)] {
        let sandbox = sandbox();
        let run = asked(&sandbox, &["--confirm", "--format", "json"], typed, "").expect(code);
        let plan = "  ~ imessage/_1   family   opus → sonnet   edit   policy.toml:8 tiers.family\n";
        assert!(run.stderr.contains(plan), "{run:#?}");
        assert!(run.stderr.contains("\nApply this plan? Only `yes` is accepted: "), "{run:#?}");
        let is_applied = code == 0;
        assert_eq!(sandbox.model("+1").as_deref() == Some("sonnet"), is_applied, "{typed}: {run:#?}");
        // The report is of the run alone.
        assert_eq!(run.stdout.contains(r#""mode": "apply""#), is_applied, "{run:#?}");
        assert_eq!(run.stderr.contains("note: nothing was done: the plan was not confirmed"), code == 3, "{run:#?}");
    }
}

#[test]
fn what_changes_while_the_question_waits_is_not_applied() {
    let sandbox = sandbox();
    let meanwhile = r#"sed -i s/sonnet\"$/haiku\"/ policy.toml"#;
    let run = asked(&sandbox, &["apply", "--confirm"], r"yes\n", meanwhile).expect(3);
    assert!(run.stderr.contains("note: ~ +1: opus → haiku, was opus → sonnet"), "{run:#?}");
    assert_eq!(sandbox.model("+1").as_deref(), Some("opus"));
}

#[test]
fn nothing_is_asked_where_nothing_would_be_done() {
    let sandbox = sandbox();
    let refused = asked(&sandbox, &["--confirm", "--allow-changes", "0"], r"no\n", "").expect(3);
    assert!(refused.stderr.contains("the limit is 0") && !refused.stderr.contains("Only `yes`"), "{refused:#?}");
    sandbox.run(&[]).expect(0);
    let run = asked(&sandbox, &["--confirm"], r"no\n", "").expect(0);
    assert!(run.stdout.ends_with("No changes. 2 in sync.\n") && run.stderr.is_empty(), "{run:#?}");
}

#[test]
fn a_question_shows_pseudonyms_where_names_are_hidden() {
    let sandbox = sandbox();
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    let run = asked(&sandbox, &["--confirm", "--redact"], r"yes\n", "").expect(0);
    assert!(run.stderr.contains("opus → sonnet") && !run.stderr.contains("imessage/_1"), "{run:#?}");
    assert_eq!(sandbox.model("+1").as_deref(), Some("sonnet"));
}

#[test]
fn without_a_terminal_to_ask_on_nothing_is_done() {
    let sandbox = sandbox();
    for arguments in [&["--confirm"][..], &["apply", "--confirm"]] {
        let run = sandbox.run(arguments).expect(64);
        let lines: Vec<&str> = run.stderr.lines().collect();
        assert_eq!(lines[0], "error: --confirm asks on a terminal, and stdin or stderr is not one");
        assert!(lines[1].starts_with("hint: leave it out, or review a plan"), "{run:#?}");
    }
    assert_eq!(sandbox.model("+1").as_deref(), Some("opus"));
    assert!(!sandbox.path("sessions.json.reconcile").exists(), "not even the state directory is made");
    sandbox.run(&["--confirm", "--dry-run"]).expect(64);
    sandbox.run(&["--confirm", "--quiet"]).expect(64);
}
