//! How many rows one transaction changes, and what there is when a run dies between two of them.

use std::process::Stdio;

use crate::database::{COLUMNS, Database};
use crate::server::server;

const RESTART: &str = "[sessions]\nrestart = [\"./restart\"]\nparallel = 1\n[rollout]\ncanary = false\n";
/// Each change, with the transaction that made it.
const LOG: &str = "
    CREATE TABLE log (id text, at bigint);
    CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO log VALUES (NEW.id, txid_current()); RETURN NEW; END';
    CREATE TRIGGER t AFTER UPDATE OF model ON sessions FOR EACH ROW EXECUTE FUNCTION log()";
/// How many rows each transaction has changed.
const BY_TRANSACTION: &str = "SELECT count(*) FROM log GROUP BY at ORDER BY at";

/// A database with so many sessions that are to be changed, and a log of their changes.
fn drifted(sessions: usize) -> Database {
    let database = Database::with_sessions(&[]);
    database.execute(&format!(
        "INSERT INTO sessions SELECT '+' || n, 'opus', 'family', 'imessage', 'individual', 'imessage/+' || n
         FROM generate_series(1, {sessions}) AS n"
    ));
    database.make_schema();
    database.execute(LOG);
    database.sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID $RECONCILE_MODEL\" >> calls; test ! -e broken");
    database
}

fn policy(database: &Database, sections: &str, limits: &str) {
    let limits = format!("[limits]\nmax_changes = 10000\n{limits}\n");
    database.policy(&format!("{sections}{limits}{}", database.registry(COLUMNS)));
}

fn told(database: &Database) -> Vec<String> {
    database.texts(
        "SELECT row ->> 'chat_id' FROM reconcile.run, json_array_elements(run -> 'changes') AS row
         WHERE (row ->> 'edit')::boolean ORDER BY 1",
    )
}

fn owed(database: &Database) -> Vec<String> {
    database.texts("SELECT key FROM reconcile.memory WHERE kind = 'owed' ORDER BY 1")
}

#[test]
fn that_the_table_has_taken_an_edit_is_saved_with_the_edit() {
    let database = drifted(501);
    database.execute(
        "CREATE TABLE saved (at bigint);
         CREATE FUNCTION saved() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO saved VALUES (txid_current()); RETURN NEW; END';
         CREATE TRIGGER t AFTER INSERT ON reconcile.memory FOR EACH ROW WHEN (NEW.kind = 'corrected') EXECUTE FUNCTION saved()",
    );
    policy(&database, "", "batch = 400");
    database.run(&[]).expect(0);
    assert_eq!(database.texts("SELECT count(*) FROM saved GROUP BY at ORDER BY at"), ["400", "101"]);
    assert_eq!(database.texts("SELECT at FROM log EXCEPT SELECT at FROM saved"), [""; 0]);
}

#[test]
fn a_transaction_changes_five_hundred_rows_unless_the_policy_says_otherwise() {
    for (limits, batches) in
        [("", ["500", "1"].as_slice()), ("batch = 501", &["501"]), ("batch = 400", &["400", "101"])]
    {
        let database = drifted(501);
        policy(&database, "", limits);
        let run = database.run(&[]).expect(0);
        assert_eq!(run.summary(), "Applied: 501 changed, 0 restarted, 0 deferred, 0 failed.", "{run:?}");
        assert_eq!(database.texts(BY_TRANSACTION), batches, "{limits}");
        assert_eq!(told(&database).len(), 501, "{limits}");
        assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["1"], "{limits}");
    }
}

#[test]
fn a_plan_that_was_named_is_one_transaction_unless_the_policy_says_otherwise() {
    for (limits, batches) in [("", ["501"].as_slice()), ("batch = 500", &["500", "1"])] {
        let database = drifted(501);
        policy(&database, "", limits);
        let plan = database.plan()["plan_id"].as_str().unwrap().to_owned();
        database.run(&["--plan", &plan]).expect(0);
        assert_eq!(database.texts(BY_TRANSACTION), batches, "{limits}");
    }
}

#[test]
fn all_rows_of_a_wave_are_changed_before_the_first_of_their_sessions_is_restarted() {
    let database = drifted(3);
    database.sandbox.write("broken", "");
    policy(&database, &RESTART.replace("[rollout]", "[rollout]\nauto_revert = false\nmax_failures = 1"), "batch = 2");
    database.run(&[]).expect(4);
    assert_eq!(database.sandbox.calls(), ["+1 sonnet"]);
    assert_eq!(database.texts(BY_TRANSACTION)[..2], ["2", "1"]);
    assert_eq!(owed(&database), ["+1", "+2", "+3"]);
}

#[test]
fn the_edits_of_a_rollout_that_has_stopped_are_taken_back_in_batches_too() {
    let database = drifted(5);
    database.sandbox.write("broken", "");
    policy(&database, RESTART, "batch = 2");
    let run = database.run(&[]).expect(4);
    assert_eq!(database.texts(BY_TRANSACTION), ["2", "2", "1", "2", "2"], "{run:?}");
    let left = database.texts("SELECT id || ' ' || model FROM sessions ORDER BY id");
    assert_eq!(left, ["+1 sonnet", "+2 opus", "+3 opus", "+4 opus", "+5 opus"], "{run:?}");
    // Something else may have started them meanwhile.
    assert_eq!(owed(&database), ["+1", "+2", "+3", "+4", "+5"], "{run:?}");
}

#[test]
fn a_run_that_is_killed_between_two_batches_owes_and_has_told_what_the_first_has_changed() {
    let database = drifted(5);
    policy(&database, RESTART, "batch = 2");
    let mut other = server().connect(&database.name).unwrap();
    let mut theirs = other.transaction().unwrap();
    theirs.batch_execute("SELECT FROM sessions WHERE id = '+4' FOR UPDATE").unwrap();
    let mut run = database.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.texts(waits).is_empty() {
        assert!(run.try_wait().unwrap().is_none(), "the run did not wait");
    }
    run.kill().unwrap();
    run.wait().unwrap();
    theirs.rollback().unwrap();
    assert_eq!(database.texts("SELECT id FROM log ORDER BY id"), ["+1", "+2"]);
    assert_eq!(owed(&database), ["+1", "+2"]);
    assert_eq!(database.sandbox.calls(), [] as [&str; 0]);
    database.execute("UPDATE reconcile.registry SET held_until = now() - interval '1 s'");
    database.run(&[]).expect(0);
    assert_eq!(database.texts("SELECT id FROM log ORDER BY id"), ["+1", "+2", "+3", "+4", "+5"]);
    assert_eq!(database.sandbox.calls(), ["+1 sonnet", "+2 sonnet", "+3 sonnet", "+4 sonnet", "+5 sonnet"]);
    assert_eq!(owed(&database), [] as [&str; 0]);
    assert_eq!(told(&database), ["+1", "+2", "+3", "+4", "+5"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["2"]);
}

#[test]
fn a_row_that_changes_after_the_first_batch_is_planned_again_with_the_rest() {
    let database = drifted(5);
    policy(&database, RESTART, "batch = 2");
    let mut other = server().connect(&database.name).unwrap();
    let mut theirs = other.transaction().unwrap();
    theirs.batch_execute("UPDATE sessions SET tier = 'admin' WHERE id = '+4'").unwrap();
    let mut command = database.command(&[]);
    let run = std::thread::spawn(move || crate::support::finish(&mut command));
    let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.texts(waits).is_empty() {
        assert!(!run.is_finished(), "the run did not wait: {:?}", run.join());
    }
    theirs.commit().unwrap();
    let run = run.join().unwrap().expect(0);
    assert_eq!(database.texts("SELECT id FROM log ORDER BY id"), ["+1", "+2", "+3", "+5"], "{run:?}");
    assert_eq!(database.sandbox.calls(), ["+1 sonnet", "+2 sonnet", "+3 sonnet", "+5 sonnet"], "{run:?}");
    assert_eq!(owed(&database), [] as [&str; 0], "{run:?}");
    assert!(run.stdout.contains("its entry was changed meanwhile"), "{run:?}");
}
