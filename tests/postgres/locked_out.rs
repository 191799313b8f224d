//! What a command says of the run or the session that keeps it from the registry.

use std::process::Command;
use std::thread;

use postgres::Client;

use crate::database::{COLUMNS, Database};
use crate::server::server;

const LOCK: &str = "SELECT FROM reconcile.registry WHERE name = 'public.sessions' FOR UPDATE";
const RUN: &[&str] = &["--lock-timeout", "0s"];
const RECORD: &[&str] = &["record-session", "+1", "0c7e6a52"];

/// A database in which runs can remember, and have done so before.
fn database() -> Database {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.make_schema();
    database.execute("INSERT INTO reconcile.registry (name) VALUES ('public.sessions')");
    database
}

/// A session of an application that has this name, or none.
fn session(database: &Database, application_name: &str) -> Client {
    let mut client = server().connect(&database.name).unwrap();
    client.execute("SELECT set_config('application_name', $1, false)", &[&application_name]).unwrap();
    client
}

/// Sees that a command ends because of this.
#[track_caller]
fn is_locked_out(database: &Database, arguments: &[&str], message: &str) {
    let run = database.run(arguments).expect(75);
    assert!(run.stderr.starts_with(&format!("error[locked]: {message}\n")), "{arguments:?}: {run:?}");
}

/// What a run is told that begins while another one, of this application, restarts a session.
fn told_beside_a_run(application_name: &str) -> String {
    let database = database();
    // It ends as it should, so that the run goes on.
    let other = format!("! PGAPPNAME=other {} --lock-timeout 0s 2> told", env!("CARGO_BIN_EXE_reconcile"));
    database.sandbox.script("restart", &other);
    database.policy(&format!("[sessions]\nrestart = [\"./restart\"]\n{}", database.registry(COLUMNS)));
    let run = crate::support::finish(database.command(&[]).env("PGAPPNAME", application_name)).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.", "{run:?}");
    database.sandbox.read("told")
}

#[test]
fn a_run_that_holds_the_registry_is_named_after_its_application() {
    for (application_name, shown) in [("", "reconcile"), ("deploy of host 2", "deploy of host 2")] {
        let told = told_beside_a_run(application_name);
        let message = format!("error[locked]: another run holds public.sessions (application_name {shown})\n");
        assert!(told.starts_with(&message), "{told}");
    }
}

#[test]
fn a_run_that_has_left_no_name_is_not_named() {
    let database = database();
    let held = "UPDATE reconcile.registry SET held_until = now() + '1 h', holder = ";
    for holder in ["'0c7e6a52-0000-4000-8000-000000000001'", "'0c7e6a52-0000-4000-8000-000000000001 '"] {
        database.execute(&format!("{held}{holder}"));
        is_locked_out(&database, RUN, "another process holds public.sessions");
    }
}

#[test]
fn a_session_that_has_locked_what_runs_remember_is_named_also_to_another_role() {
    let database = database();
    let role = format!("locked_out_{}", database.name);
    database.execute(&format!("CREATE ROLE {role} LOGIN"));
    database.execute(&database.run(&["init", "--postgres", "--grants", &role, "--grants-only"]).expect(0).stdout);
    let address = database.address().replace("user=postgres", &format!("user={role}"));
    let mut bystander = session(&database, "bystander");
    let mut other = session(&database, "their tool");
    bystander.batch_execute("BEGIN; SELECT pg_current_xact_id()").unwrap();
    let mut theirs = other.transaction().unwrap();
    theirs.batch_execute(LOCK).unwrap();
    for arguments in [RUN, RECORD] {
        let arguments = [arguments, &["--connect", &address]].concat();
        is_locked_out(&database, &arguments, "another process holds public.sessions (application_name their tool)");
    }
    assert_eq!(database.texts("SELECT model FROM sessions"), ["opus"]);
    theirs.rollback().unwrap();
    database.run(&[RUN, &["--connect", &address]].concat()).expect(0);
    assert_eq!(database.texts("SELECT model FROM sessions"), ["sonnet"]);
}

#[test]
fn a_session_that_locks_what_runs_remember_in_the_middle_of_a_run_is_named() {
    let database = database();
    assert!(Command::new("mkfifo").arg(database.sandbox.path("gate")).status().unwrap().success());
    database.sandbox.script("restart", "touch started; read go < gate");
    database.policy(&format!("[sessions]\nrestart = [\"./restart\"]\n{}", database.registry(COLUMNS)));
    let mut command = database.command(&[]);
    let run = thread::spawn(move || crate::support::finish(&mut command));
    while !database.sandbox.path("started").exists() {
        assert!(!run.is_finished(), "the run restarted nothing: {:?}", run.join());
    }
    let mut other = session(&database, "their tool");
    let mut theirs = other.transaction().unwrap();
    theirs.batch_execute(LOCK).unwrap();
    database.sandbox.write("gate", "go\n");
    let run = run.join().unwrap().expect(4);
    let message = "another process holds public.sessions (application_name their tool)";
    assert!(run.stderr.contains(message), "{run:?}");
}

#[test]
fn what_has_no_name_or_no_session_or_has_locked_all_registries_is_not_named() {
    let database = database();
    let message = "another process holds public.sessions";
    let mut nameless = session(&database, "");
    let mut theirs = nameless.transaction().unwrap();
    theirs.batch_execute(LOCK).unwrap();
    is_locked_out(&database, RUN, message);
    theirs.rollback().unwrap();

    let mut gone = session(&database, "their tool");
    let prepared = format!("{}_prepared", database.name);
    gone.batch_execute(&format!("BEGIN; {LOCK}; PREPARE TRANSACTION '{prepared}'")).unwrap();
    is_locked_out(&database, RUN, message);
    gone.batch_execute(&format!("ROLLBACK PREPARED '{prepared}'")).unwrap();

    let mut theirs = gone.transaction().unwrap();
    theirs.batch_execute("LOCK TABLE reconcile.registry IN SHARE MODE").unwrap();
    is_locked_out(&database, RUN, message);
    theirs.rollback().unwrap();
    database.run(RUN).expect(0);
}

#[test]
fn a_command_that_reads_does_not_wait_for_good_where_a_whole_table_is_locked() {
    let database = database();
    let mut migration = session(&database, "a migration");
    for table in ["sessions", "reconcile.registry"] {
        let mut theirs = migration.transaction().unwrap();
        theirs.batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).unwrap();
        for arguments in [&["--dry-run"], RUN] {
            let run = database.run(arguments).expect(1);
            assert!(run.stderr.contains("canceling statement due to lock timeout (error 55P03)"), "{table}: {run:?}");
            assert!(run.stderr.contains("another transaction has locked the table or rows of it"), "{table}: {run:?}");
        }
        theirs.rollback().unwrap();
    }
}
