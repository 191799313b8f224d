//! Hosts that share a table, and do not have the same commit of the policy.

use std::process::Command;

use crate::database::{COLUMNS, Database};
use crate::support::finish;

/// A command of git in the policy's directory, by a committer whose clock says this.
fn git(database: &Database, second: u32, arguments: &[&str]) {
    let time = format!("{second} +0000");
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(arguments);
    command.env("GIT_COMMITTER_DATE", &time).env("GIT_AUTHOR_DATE", &time).current_dir(database.sandbox.path(""));
    finish(&mut command).expect(0);
}

/// Commits a policy that wants this of families.
fn commit(database: &Database, second: u32, model: &str) {
    let rule = format!("[[rules]]\ntier = \"family\"\nmodel = {model:?}\n");
    database.policy(&format!("{rule}{}", database.registry(COLUMNS)));
    git(database, second, &["add", "policy.toml"]);
    git(database, second, &["commit", "-q", "-m", model]);
}

#[test]
fn an_older_policy_never_overrules_a_newer_one_and_a_revert_is_newer() {
    let database = Database::with_sessions(&[("+1", "family", "sonnet")]);
    database.make_schema();
    git(&database, 1_700_000_000, &["init", "-q"]);
    commit(&database, 1_700_000_000, "opus");
    commit(&database, 1_700_000_100, "haiku");
    database.run(&[]).expect(0);
    assert_eq!(database.texts("SELECT model FROM sessions"), ["haiku"]);
    git(&database, 1_700_000_200, &["checkout", "-q", "HEAD~1"]);
    for arguments in [&[][..], &["--plan", database.plan()["plan_id"].as_str().unwrap()]] {
        let run = database.run(arguments).expect(3);
        assert!(run.stderr.contains("the registry was last changed by a newer policy, of commit"), "{run:?}");
        assert!(run.stderr.contains("commit a revert, which is newer"), "{run:?}");
    }
    assert_eq!(database.texts("SELECT model FROM sessions"), ["haiku"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["1"]);
    // What it agrees with needs no change, and is no error.
    database.execute("UPDATE sessions SET model = 'opus'");
    database.run(&[]).expect(0);
    database.execute("UPDATE sessions SET model = 'haiku'");
    git(&database, 1_700_000_200, &["checkout", "-q", "-"]);
    git(&database, 1_700_000_300, &["revert", "--no-edit", "HEAD"]);
    database.run(&[]).expect(0);
    assert_eq!(database.texts("SELECT model FROM sessions"), ["opus"]);
}

#[test]
fn a_policy_that_is_in_no_repository_has_no_age() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.make_schema();
    database.execute(
        "INSERT INTO reconcile.registry (name, policy, policy_at) VALUES ('public.sessions', 'abc', now() + '1 day')",
    );
    database.run(&[]).expect(0);
    assert_eq!(database.texts("SELECT model FROM sessions"), ["sonnet"]);
}
