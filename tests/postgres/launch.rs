//! The start of a session whose registry is a table.

use std::net::TcpListener;
use std::thread;

use crate::database::{COLUMNS, Database};
use crate::server::server;
use crate::support::Run;

const SESSIONS: [(&str, &str, &str); 2] = [("+1", "family", "opus"), ("+2", "bots", "haiku")];

/// A database with these sessions and a column for their conversations, in which runs can remember.
fn database() -> Database {
    let database = Database::with_sessions(&SESSIONS);
    database.execute("ALTER TABLE sessions ADD session_id uuid");
    database.make_schema();
    says(&database, "");
    database.sandbox.script("show", r#"printf '%s\n' "$@""#);
    database
}

/// A policy with these sections, and the columns of the table.
fn says(database: &Database, sections: &str) {
    let columns = format!("{COLUMNS}session_id = \"session_id\"\n");
    database.policy(&format!("{sections}{}", database.registry(&columns)));
}

fn launch(database: &Database, arguments: &[&str]) -> Run {
    database.run(&[&["launch"], arguments, &["--", "./show", "{model}"]].concat())
}

fn models(database: &Database) -> Vec<String> {
    database.texts("SELECT id || ' ' || coalesce(model, '-') FROM sessions ORDER BY id")
}

#[test]
fn a_session_starts_on_what_the_policy_decides_and_the_table_and_the_history_say_so() {
    let database = database();
    let run = launch(&database, &["imessage/+1"]).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("sonnet\n", ""));
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku"]);
    assert!(database.run(&["history"]).expect(0).stdout.contains("opus → sonnet"));
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.memory WHERE kind <> 'corrected'"), ["0"]);
    // Nothing is to be done, and nothing is told.
    launch(&database, &["+2"]).expect(0);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["1"]);
}

#[test]
fn a_start_pays_the_restart_that_its_session_owes() {
    let database = database();
    says(&database, "[sessions]\nrestart = [\"false\"]\n");
    database.run(&[]).expect(4);
    assert!(database.run(&["owed"]).expect(0).stdout.contains("+1"));
    assert_eq!(launch(&database, &["+1"]).expect(0).stdout, "sonnet\n");
    assert!(database.run(&["owed"]).expect(0).stdout.contains("No restarts are owed."));
}

#[test]
fn a_session_that_cannot_be_started_on_what_was_written_owes_a_restart() {
    let database = database();
    database.run(&["launch", "+1", "--", "/nowhere/show", "{model}"]).expect(4);
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku"]);
    assert!(database.run(&["owed"]).expect(0).stdout.contains("+1"));
}

#[test]
fn a_chat_that_the_table_does_not_have_starts_and_is_not_added() {
    let database = database();
    let run = launch(&database, &["new", "--tier", "bots"]).expect(0);
    assert_eq!(run.stdout, "haiku\n");
    assert!(run.stderr.contains("new is not in public.sessions, which only its owner adds rows to"), "{run:?}");
    assert_eq!(models(&database), ["+1 opus", "+2 haiku"]);
}

#[test]
fn a_conversation_is_recorded_in_its_column_and_resumed() {
    let database = database();
    std::fs::create_dir(database.sandbox.path("chats")).unwrap();
    let start = || {
        let conversation = ["--conversation", "chats/{session_id}.jsonl"];
        let command = ["--", "./show", "{new_session_id}", "--resume", "{resume_id}"];
        database.run(&[&["launch", "+1"], &conversation[..], &command].concat()).expect(0).stdout
    };
    let first = start();
    let id = first.trim_end();
    assert_eq!(database.texts("SELECT session_id FROM sessions WHERE id = '+1'"), [id]);
    database.sandbox.write(&format!("chats/{id}.jsonl"), "{}\n");
    assert_eq!(start(), format!("--resume\n{id}\n"));
    let other = "0c7e6a52-0000-4000-8000-000000000001";
    database.run(&["record-session", "+2", other]).expect(0);
    assert_eq!(database.texts("SELECT session_id FROM sessions WHERE id = '+2'"), [other]);
    // Only what is a text in its column can be written there.
    let run = database.run(&["record-session", "+2", "other"]).expect(1);
    assert!(run.stderr.contains("invalid input syntax for type uuid"), "{run:?}");
    database.policy(&database.registry(COLUMNS));
    let run = database.run(&["record-session", "+2", other]).expect(1);
    assert!(run.stderr.contains("no column is set for it"), "{run:?}");
}

#[test]
fn without_its_server_a_session_starts_on_what_it_last_had_on_this_host() {
    let database = database();
    assert_eq!(launch(&database, &["+2"]).expect(0).stdout, "haiku\n");
    database.execute("UPDATE sessions SET tier = 'admin'");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for (error, address) in [
        ("error[server-unreachable]", "host=/nowhere user=postgres".to_owned()),
        ("error[server-silent]", format!("host=127.0.0.1 port={port} user=x sslmode=disable")),
    ] {
        let run = launch(&database, &["+2", "--connect", &address]).expect(0);
        assert_eq!(run.stdout, "haiku\n", "{run:?}");
        assert!(run.stderr.starts_with(error), "{run:?}");
        assert!(run.stderr.contains("the model that it last had on this host"), "{run:?}");
        // Of one that never started here, the policy decides with what is said of it.
        let run = launch(&database, &["+1", "--tier", "admin", "--connect", &address]).expect(0);
        assert_eq!(run.stdout, "opus\n", "{run:?}");
    }
    assert_eq!(models(&database), ["+1 opus", "+2 haiku"]);
    let policy = database.sandbox.read("policy.toml");
    database.sandbox.write("policy.toml", "<<<<<<< HEAD");
    assert_eq!(launch(&database, &["+2"]).expect(0).stdout, "haiku\n");
    launch(&database, &["+1"]).expect(1);
    database.sandbox.write("policy.toml", policy);
    assert_eq!(launch(&database, &["+2"]).expect(0).stdout, "opus\n");
}

#[test]
fn a_row_that_changes_while_a_launch_waits_for_it_is_decided_on_again() {
    let database = database();
    let mut other = server().connect(&database.name).unwrap();
    let mut theirs = other.transaction().unwrap();
    theirs.batch_execute("UPDATE sessions SET tier = 'bots' WHERE id = '+1'").unwrap();
    let mut command = database.command(&["launch", "+1", "--", "./show", "{model}"]);
    let run = thread::spawn(move || crate::support::finish(&mut command));
    let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.texts(waits).is_empty() {
        assert!(!run.is_finished(), "the launch did not wait: {:?}", run.join());
    }
    theirs.commit().unwrap();
    assert_eq!(run.join().unwrap().expect(0).stdout, "haiku\n");
    assert_eq!(models(&database), ["+1 haiku", "+2 haiku"]);
}

#[test]
fn a_run_may_wait_for_the_launch_that_it_causes() {
    let database = database();
    let launch =
        format!("{} launch \"$RECONCILE_CHAT_ID\" -- ./show {{model}} >> started", env!("CARGO_BIN_EXE_reconcile"));
    database.sandbox.script("restart", &launch);
    says(&database, "[sessions]\nrestart = [\"./restart\"]\n");
    database.run(&[]).expect(0);
    assert_eq!(database.sandbox.read("started"), "sonnet\n");
    assert_eq!(database.run(&["owed"]).expect(0).stdout, "No restarts are owed.\n");
}

#[test]
fn a_launch_goes_by_a_choice_and_is_remembered() {
    let database = database();
    let columns = format!("{COLUMNS}session_id = \"session_id\"\n");
    let registry = database.registry(&columns).replace("[registry]\n", "[registry]\nexisting = \"keep-manual\"\n");
    database.policy(&registry);
    database.run(&["--take-over-all"]).expect(0);
    database.execute(
        "UPDATE sessions SET model = 'opus' WHERE id = '+1'; UPDATE sessions SET tier = 'admin' WHERE id = '+2'",
    );
    assert_eq!(launch(&database, &["+1"]).expect(0).stdout, "opus\n");
    assert_eq!(launch(&database, &["+2"]).expect(0).stdout, "opus\n");
    // No run has looked at it since.
    database.execute("UPDATE sessions SET tier = 'family' WHERE id = '+2'");
    database.run(&[]).expect(0);
    assert_eq!(models(&database), ["+1 opus", "+2 sonnet"]);
}

#[test]
fn a_launch_has_the_rights_that_are_printed() {
    let database = database();
    let role = format!("launcher_{}", database.name);
    let grants = database.run(&["init", "--postgres", "--grants", &role, "--grants-only"]).expect(0).stdout;
    database.execute(&format!("CREATE ROLE {role} LOGIN"));
    database.execute(&grants);
    let address = database.address().replace("user=postgres", &format!("user={role}"));
    assert_eq!(launch(&database, &["+1", "--connect", &address]).expect(0).stdout, "sonnet\n");
    database.run(&["record-session", "+1", "0c7e6a52-0000-4000-8000-000000000001", "--connect", &address]).expect(0);
}

#[test]
fn a_session_does_not_wait_for_good_where_a_migration_has_locked_the_table() {
    let database = database();
    launch(&database, &["+1"]).expect(0);
    let mut migration = server().connect(&database.name).unwrap();
    for table in ["sessions", "reconcile.registry"] {
        let mut theirs = migration.transaction().unwrap();
        theirs.batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).unwrap();
        let run = launch(&database, &["+1"]).expect(0);
        assert_eq!(run.stdout, "sonnet\n", "{table}: {run:?}");
        assert!(run.stderr.contains("canceling statement due to lock timeout"), "{table}: {run:?}");
        theirs.rollback().unwrap();
    }
}
