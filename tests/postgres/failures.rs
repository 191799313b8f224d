//! What a server says where something cannot be done, with the exit code and what to do about it.

use std::thread;

use crate::database::{COLUMNS, Database};
use crate::server::server;

/// Something that keeps a command from working.
struct Failure {
    /// What brings it about. DATABASE and ROLE are names of the test's own.
    statements: &'static str,
    /// What the connection has of its own, in front of the usual keywords.
    connection: &'static str,
    arguments: &'static [&'static str],
    says: &'static str,
    /// What to do about it.
    help: &'static str,
}

const DRY: &[&str] = &["--dry-run"];
const APPLY: &[&str] = &[];
const ROLE: &str = "user=ROLE";

fn failures() -> Vec<Failure> {
    let failure =
        |statements, connection, arguments, says, help| Failure { statements, connection, arguments, says, help };
    vec![
        failure("", "host=/nowhere", DRY, "cannot connect to /nowhere:", "check that the server runs"),
        failure("", "user=ROLE", DRY, "does not exist (error 28000)", "check the user"),
        failure(
            "",
            "dbname=nowhere",
            DRY,
            "does not exist (error 3D000)",
            "name a database of that server with dbname",
        ),
        failure(
            "CREATE ROLE ROLE LOGIN CONNECTION LIMIT 0",
            ROLE,
            DRY,
            "too many connections for role",
            "go through a pooler",
        ),
        failure("DROP TABLE sessions", "", DRY, "has no table \"public\".\"sessions\"", "check the name"),
        failure("ALTER TABLE sessions DROP tier", "", DRY, "has no column \"tier\"", "help: "),
        failure(
            "ALTER TABLE sessions ALTER model TYPE int USING 1",
            "",
            DRY,
            "is of type int4, which cannot hold a model",
            "name a column of type text",
        ),
        failure(
            "ALTER TABLE sessions DROP CONSTRAINT sessions_pkey",
            "",
            DRY,
            "no unique index keeps two rows of public.sessions from having the same \"id\"",
            "name its primary key",
        ),
        failure(
            "CREATE ROLE ROLE LOGIN",
            ROLE,
            DRY,
            "this role may not read the column \"model\"",
            "GRANT SELECT ON public.sessions",
        ),
        failure(
            "CREATE ROLE ROLE LOGIN; GRANT SELECT ON sessions TO ROLE",
            ROLE,
            APPLY,
            "this role may not update \"model\" of public.sessions",
            "reconcile init --postgres --grants ROLE prints the rights",
        ),
        failure(
            "CREATE ROLE ROLE LOGIN; ALTER TABLE sessions RENAME TO hidden;
             CREATE VIEW sessions AS SELECT * FROM hidden; ALTER VIEW sessions OWNER TO ROLE",
            ROLE,
            DRY,
            "permission denied for table hidden (error 42501)",
            "reconcile init --postgres --grants ROLE prints them",
        ),
        failure(
            "CREATE ROLE ROLE LOGIN; GRANT SELECT ON sessions TO ROLE; ALTER TABLE sessions ENABLE ROW LEVEL SECURITY",
            ROLE,
            DRY,
            "row security hides rows of public.sessions from this role",
            "use a role with BYPASSRLS",
        ),
        failure(
            "ALTER DATABASE DATABASE SET default_transaction_read_only = on",
            "",
            APPLY,
            "in a read-only transaction (error 25006)",
            "name the primary",
        ),
        failure(
            "ALTER TABLE reconcile.registry ALTER format SET DEFAULT 99",
            "",
            DRY,
            "the schema reconcile has the format 99",
            "it was made for a newer reconcile",
        ),
        failure(
            "ALTER DATABASE DATABASE SET statement_timeout = '100ms'; ALTER TABLE sessions RENAME TO slow;
             CREATE VIEW sessions AS SELECT * FROM slow WHERE pg_sleep(60) IS NOT NULL",
            "",
            DRY,
            "canceling statement due to statement timeout (error 57014)",
            "a time limit of the server or the role",
        ),
    ]
}

#[test]
fn each_failure_ends_with_1_changes_nothing_and_says_what_to_do() {
    for Failure { statements, connection, arguments, says, help } in failures() {
        let database = Database::with_sessions(&[("+1", "family", "opus")]);
        database.make_schema();
        let role = format!("failing_{}", database.name);
        let named = |text: &str| {
            text.replace("DATABASE DATABASE", &format!("DATABASE {}", database.name))
                .replace("ROLE ROLE", &format!("ROLE {role}"))
                .replace("TO ROLE", &format!("TO {role}"))
                .replace("user=ROLE", &format!("user={role}"))
        };
        database.execute(&named(statements));
        let address = with(&database.address(), &named(connection));
        let run = database.run(&[arguments, &["--connect", &address]].concat()).expect(1);
        assert!(run.stderr.contains(says), "{statements} {connection}: {run:?}");
        assert!(run.stderr.contains(help), "{statements} {connection}: {run:?}");
        assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["0"], "{run:?}");
    }
}

/// Connection keywords, one of which is another.
fn with(address: &str, keyword: &str) -> String {
    let (name, _) = keyword.split_once('=').unwrap_or_default();
    let kept = address.split(' ').filter(|word| word.split_once('=').is_some_and(|(other, _)| other != name));
    kept.chain([keyword]).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = format!("{}_{}", database.name, encoding.to_lowercase());
        database.execute(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"));
        server().connect(&name).unwrap().batch_execute(crate::database::TABLE).unwrap();
        let address = with(&database.address(), &format!("dbname={name}"));
        let run = database.run(&["--dry-run", "--connect", &address]).expect(1);
        assert!(run.stderr.contains(&format!("the database is encoded in {encoding}")), "{run:?}");
        assert!(run.stderr.contains("use a database of that encoding"), "{run:?}");
    }
}

const DRIFTED: [(&str, &str, &str); 2] = [("+1", "family", "opus"), ("+2", "bots", "opus")];

fn models(database: &Database) -> Vec<String> {
    database.texts("SELECT id || ' ' || model FROM sessions ORDER BY id")
}

#[test]
fn rows_that_another_transaction_holds_are_deferred_with_those_that_are_left() {
    let database = Database::with_sessions(&[("+1", "family", "opus"), ("+2", "bots", "opus"), ("+3", "bots", "opus")]);
    database.make_schema();
    database.policy(&format!("[limits]\nbatch = 1\n{}", database.registry(COLUMNS)));
    let mut other = server().connect(&database.name).unwrap();
    let mut theirs = other.transaction().unwrap();
    theirs.batch_execute("SELECT FROM sessions WHERE id = '+2' FOR UPDATE").unwrap();
    let run = database.run(&[]).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 2 deferred, 0 failed.", "{run:?}");
    assert!(run.stdout.contains("canceling statement due to lock timeout (error 55P03)"), "{run:?}");
    // What is in the way of one is not waited for once more.
    assert_eq!(models(&database), ["+1 sonnet", "+2 opus", "+3 opus"]);
    theirs.rollback().unwrap();
    database.run(&[]).expect(0);
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku", "+3 haiku"]);
}

#[test]
fn after_a_deadlock_the_transaction_is_made_again() {
    let database = Database::with_sessions(&DRIFTED);
    database.make_schema();
    // The first change of the run waits until the other transaction waits for it, and then for what that holds: the server finds
    // the circle where the last one began to wait.
    database.execute(&format!(
        "ALTER DATABASE {} SET deadlock_timeout = '10ms';
         CREATE SEQUENCE tries; CREATE TABLE guard (); INSERT INTO guard DEFAULT VALUES;
         CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') = 1 THEN
                 PERFORM pg_advisory_xact_lock(1);
                 WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid') LOOP END LOOP;
                 PERFORM FROM guard FOR UPDATE;
             END IF;
             RETURN NULL; END $$;
         CREATE TRIGGER t AFTER UPDATE OF model ON sessions FOR EACH STATEMENT EXECUTE FUNCTION meet()",
        database.name
    ));
    let mut other = server().connect(&database.name).unwrap();
    other.batch_execute("SET deadlock_timeout = '600s'").unwrap();
    let mut theirs = other.transaction().unwrap();
    theirs.batch_execute("SELECT FROM guard FOR UPDATE").unwrap();
    let mut command = database.command(&[]);
    let run = thread::spawn(move || crate::support::finish(&mut command));
    let meets = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while database.texts(meets).is_empty() {
        assert!(!run.is_finished(), "{:?}", run.join());
    }
    theirs.batch_execute("UPDATE sessions SET name = 'theirs' WHERE id = '+1'").unwrap();
    theirs.commit().unwrap();
    run.join().unwrap().expect(0);
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku"]);
    assert_eq!(database.texts("SELECT name FROM sessions WHERE id = '+1'"), ["theirs"]);
    assert!(database.texts("SELECT last_value > 1 FROM tries") == ["t"], "nothing was made again");
}

#[test]
fn a_connection_that_the_server_ends_leaves_nothing_half_done() {
    let database = Database::with_sessions(&DRIFTED);
    database.make_schema();
    database.execute(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$;
         CREATE TRIGGER t AFTER UPDATE OF model ON sessions FOR EACH STATEMENT EXECUTE FUNCTION end_it()",
    );
    let run = database.run(&[]).expect(1);
    assert!(run.stderr.contains("terminating connection due to administrator command (error 57P01)"), "{run:?}");
    assert_eq!(models(&database), ["+1 opus", "+2 opus"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["0"]);
    database.run(&[]).expect(0);
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku"]);
}
