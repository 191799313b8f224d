//! The format of the schema in which runs remember, and how one that an earlier version made is changed.

use crate::database::Database;

/// As the first version made it.
const FORMAT_1: &str = include_str!("format_1.sql");
/// Everything that is in the schema.
const ALL: &str = "
    SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || is_identity || ' '
        || coalesce(column_default, '') || coalesce(collation_name, '')
    FROM information_schema.columns WHERE table_schema = 'reconcile'
    UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'reconcile'::regnamespace ORDER BY 1";

#[test]
fn a_schema_of_an_earlier_version_is_an_error_that_tells_how_it_is_changed_and_nothing_of_it_is_lost() {
    let (old, new) = (Database::with_sessions(&[("+1", "family", "opus")]), Database::with_sessions(&[]));
    new.make_schema();
    old.execute(FORMAT_1);
    old.execute(
        "INSERT INTO reconcile.registry (name) VALUES ('public.sessions');
         INSERT INTO reconcile.memory VALUES ('public.sessions', 'owed', '+1',
             '{\"since\": \"2026-01-01T00:00:00Z\", \"began\": false, \"attempts\": 0}')",
    );
    for command in [&["--dry-run"][..], &[], &["owed"], &["history"]] {
        let run = old.run(command).expect(1);
        assert!(run.stderr.contains("the schema reconcile has the format 1, but this version needs 2"), "{run:?}");
        assert!(run.stderr.contains("reconcile init --postgres --from 1"), "{run:?}");
    }
    old.execute(&old.run(&["init", "--postgres", "--from", "1"]).expect(0).stdout);
    assert_eq!(old.texts(ALL), new.texts(ALL));
    assert!(old.run(&["owed"]).expect(0).stdout.contains("+1"));
    old.run(&[]).expect(0);
}

#[test]
fn a_schema_of_a_later_version_is_an_error() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.make_schema();
    database.execute("ALTER TABLE reconcile.registry ALTER format SET DEFAULT 99");
    let run = database.run(&[]).expect(1);
    assert!(run.stderr.contains("has the format 99") && run.stderr.contains("a newer reconcile"), "{run:?}");
    database.run(&["init", "--postgres", "--from", "99"]).expect(64);
}

#[test]
fn a_schema_that_is_missing_is_told_of_once() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    for (command, code) in [(&["--dry-run"][..], 0), (&[], 1)] {
        let run = database.run(command).expect(code);
        assert_eq!(run.stderr.matches("has no schema `reconcile`").count(), 1, "{run:?}");
        assert!(run.stderr.contains("reconcile init --postgres prints the statements"), "{run:?}");
    }
    let doctor = database.run(&["doctor"]).expect(1);
    assert!(doctor.stdout.contains("has no schema `reconcile`"), "{doctor:?}");
    database.make_schema();
    let doctor = database.run(&["doctor"]);
    assert!(doctor.stdout.contains("the state of earlier runs can be read"), "{doctor:?}");
}
