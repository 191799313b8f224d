//! What PostgreSQL does in silence where a statement is written otherwise than it is here.

use std::thread;

use crate::database::{COLUMNS, Database};
use crate::server::server;
use crate::support::finish;

/// A session of a family, on a model that the policy changes.
const SESSION: [(&str, &str, &str); 1] = [("+1", "family", "opus")];

#[test]
fn rows_that_row_security_hides_behind_a_view_are_an_error_and_not_missing() {
    let database = Database::with_sessions(&[("+1", "family", "opus"), ("+2", "family", "opus")]);
    let role = format!("viewer_{}", database.name);
    database.execute(&format!(
        "CREATE ROLE {role} LOGIN; ALTER TABLE sessions RENAME TO rows; GRANT SELECT ON rows TO {role};
         ALTER TABLE rows ENABLE ROW LEVEL SECURITY; CREATE POLICY theirs ON rows USING (id = '+1');
         CREATE VIEW sessions AS SELECT * FROM rows; ALTER VIEW sessions OWNER TO {role}"
    ));
    let address = database.address().replace("user=postgres", &format!("user={role}"));
    let run = database.run(&["--dry-run", "--connect", &address]).expect(1);
    assert!(run.stderr.contains("affected by row-level security policy for table \"rows\" (error 42501)"), "{run:?}");
}

#[test]
fn what_a_column_is_too_short_for_is_an_error_and_is_not_cut() {
    let too_long = "value too long for type character";
    for (kind, message) in [
        ("varchar(5)", format!("{too_long} varying(5) (error 22001)")),
        ("char(5)", format!("{too_long}(5) (error 22001)")),
        // A domain has the length of the type below it.
        ("short", format!("{too_long} varying(5) (error 22001)")),
        ("shorter", format!("{too_long} varying(5) (error 22001)")),
        // The type name holds 63 bytes. Even an assignment cuts what is longer.
        ("name", "the database did not keep the new session_id of chat +1".to_owned()),
    ] {
        let database = Database::with_sessions(&SESSION);
        database.execute(&format!(
            "CREATE DOMAIN short AS varchar(5); CREATE DOMAIN shorter AS short; ALTER TABLE sessions ADD conversation {kind}"
        ));
        database.make_schema();
        database.policy(&database.registry(&format!("{COLUMNS}session_id = \"conversation\"\n")));
        let run = database.run(&["record-session", "+1", &"0c7e6a52".repeat(8)]).expect(1);
        assert!(run.stderr.contains(&message), "{kind}: {run:?}");
        assert_eq!(database.texts("SELECT conversation FROM sessions"), [""], "{kind}");
        database.run(&["record-session", "+1", "0c7e6"]).expect(0);
        assert_eq!(database.texts("SELECT conversation FROM sessions"), ["0c7e6"], "{kind}");
    }
}

#[test]
fn a_message_of_a_session_does_not_wait_for_a_run_that_changes_its_model() {
    let database = Database::with_sessions(&SESSION);
    database.make_schema();
    database.execute(
        "CREATE TABLE messages (session text REFERENCES sessions);
         CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
         CREATE TRIGGER t AFTER UPDATE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION wait()",
    );
    database.execute(&format!("ALTER DATABASE {} SET lock_timeout = '10s'", database.name));
    let mut other = server().connect(&database.name).unwrap();
    let mut theirs = other.transaction().unwrap();
    theirs.batch_execute("SELECT pg_advisory_xact_lock(1)").unwrap();
    let mut command = database.command(&[]);
    let run = thread::spawn(move || finish(&mut command));
    let waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while database.texts(waits).is_empty() {
        assert!(!run.is_finished(), "the run did not wait: {:?}", run.join());
    }
    database.execute("SET lock_timeout = '100ms'; INSERT INTO messages VALUES ('+1')");
    theirs.rollback().unwrap();
    run.join().unwrap().expect(0);
    assert_eq!(database.texts("SELECT model FROM sessions"), ["sonnet"]);
}

#[test]
fn a_row_is_found_by_the_index_of_its_id_whatever_the_type_of_that_is() {
    for (kind, id) in [
        ("text", "number::text"),
        ("bigint", "number"),
        ("uuid", "('00000000-0000-4000-8000-' || lpad(number::text, 12, '0'))::uuid"),
    ] {
        let database = Database::new(&format!(
            "CREATE TABLE sessions (id {kind} PRIMARY KEY, model text);
             INSERT INTO sessions SELECT {id}, CASE number WHEN 7 THEN 'opus' ELSE 'sonnet' END
                 FROM generate_series(1, 10000) AS number;
             ANALYZE sessions"
        ));
        database.make_schema();
        database.policy(&database.registry("chat_id = \"id\"\nmodel = \"model\"\n"));
        database.execute(&format!(
            "ALTER DATABASE {name} SET session_preload_libraries = 'auto_explain';
             ALTER DATABASE {name} SET auto_explain.log_min_duration = 0",
            name = database.name
        ));
        let entries = database.logged(|| _ = database.run(&[]).expect(0));
        let is_plan = |entry: &&String| entry.contains("Query Text") && entry.contains("UPDATE public.sessions SET");
        let plan = entries.iter().find(is_plan);
        let plan = plan.unwrap_or_else(|| panic!("{kind}: no plan: {entries:#?}"));
        assert!(plan.contains("Index Scan using sessions_pkey on sessions"), "{kind}: {plan}");
    }
}

#[test]
fn a_checkup_says_that_an_index_makes_changes_of_models_slower() {
    let database = Database::with_sessions(&SESSION);
    let says_so = || database.run(&["doctor"]).stdout.contains("an index of public.sessions has the column \"model\"");
    database.execute("CREATE INDEX ON sessions (tier)");
    assert!(!says_so());
    database.execute("CREATE INDEX ON sessions (tier, model)");
    assert!(says_so());
}

#[test]
fn a_table_that_is_partitioned_by_the_model_is_refused() {
    let database =
        Database::new("CREATE TABLE sessions (id text, model text, UNIQUE (id, model)) PARTITION BY LIST (model)");
    database.policy(&database.registry("chat_id = \"id\"\nmodel = \"model\"\n"));
    let run = database.run(&["--dry-run"]).expect(1);
    assert!(
        run.stderr.contains("no unique index keeps two rows of public.sessions from having the same \"id\""),
        "{run:?}"
    );
}
