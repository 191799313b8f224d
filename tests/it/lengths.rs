//! Lengths of time and times from now: one way to write them, in policies and on the command line.

use jiff::{SignedDuration, Timestamp};
use reconcile::length::duration;

use crate::support::{POLICY, Sandbox};

#[test]
fn a_length_has_a_number_and_a_unit_or_is_in_seconds() {
    let milliseconds = |text| duration(text).map(|length| length.as_millis());
    for (text, expected) in [
        ("30s", 30_000),
        ("5", 5_000),
        ("0", 0),
        ("250ms", 250),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("7d", 604_800_000),
        ("1d12h", 129_600_000),
    ] {
        assert_eq!(milliseconds(text), Some(expected), "{text}");
    }
    for text in
        ["", " ", "s", "-5s", "+5s", "5x", "soon", "1y", "2mo", "5 ", "99999999999999999999", "1e3", "PT5S", "5s ago"]
    {
        assert_eq!(duration(text), None, "{text:?}");
    }
}

#[test]
fn a_policy_and_an_option_read_it_the_same() {
    let sandbox = Sandbox::new(&format!("{POLICY}[sessions]\nrestart = [\"true\"]\ntimeout = \"5\"\n"), "{}");
    sandbox.run(&["--lock-timeout", "5"]).expect(0);
    sandbox.run(&["--lock-timeout", "1d"]).expect(0);
    let run = sandbox.run(&["--lock-timeout", "soon"]).expect(64);
    assert!(run.stderr.contains("or seconds alone"), "{}", run.stderr);
    sandbox.write("policy.toml", format!("{POLICY}[sessions]\nrestart = [\"true\"]\ntimeout = \"soon\"\n"));
    let run = sandbox.run(&["check"]).expect(1);
    assert!(run.stdout.contains("or seconds alone"), "{}", run.stdout);
}

#[test]
fn an_override_can_end_so_long_from_now() {
    for written in ["7d", "+7d", "168h"] {
        let sandbox = Sandbox::new(POLICY, r#"{"ada": {"tier": "family", "model": "sonnet"}}"#);
        let before = Timestamp::now();
        sandbox.run(&["set-model", "ada", "haiku", "--until", written]).expect(0);
        let policy: toml::Table = sandbox.read("policy.toml").parse().unwrap();
        let until: Timestamp = policy["chats"]["ada"]["until"].to_string().parse().unwrap();
        let week = SignedDuration::from_hours(168);
        // A clock may be set forward or back within the week.
        let hour = SignedDuration::from_hours(1);
        assert!(until >= before + week - hour, "{written}: {until}");
        assert!(until <= Timestamp::now() + week + hour, "{written}: {until}");
        assert_eq!(until.subsec_nanosecond(), 0);
    }
}

#[test]
fn a_dry_run_can_look_so_far_ahead() {
    let sandbox = Sandbox::new(POLICY, r#"{"ada": {"tier": "family", "model": "sonnet"}}"#);
    sandbox.run(&["set-model", "ada", "haiku", "--until", "2d"]).expect(0);
    let plan = |at| sandbox.run(&["--dry-run", "--at", at]).expect(0).stdout;
    assert!(plan("1d").contains("No changes."), "{}", plan("1d"));
    assert!(plan("+3d").contains("haiku → sonnet"), "{}", plan("+3d"));
}

#[test]
fn the_calendar_has_an_end() {
    let sandbox = Sandbox::new(POLICY, r#"{"ada": {"tier": "family", "model": "sonnet"}}"#);
    let run = sandbox.run(&["set-model", "ada", "haiku", "--until", "4000000d"]).expect(1);
    assert!(run.stderr.contains("the calendar ends"), "{}", run.stderr);
    sandbox.run(&["--dry-run", "--at", "4000000d"]).expect(1);
}
