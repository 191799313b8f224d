//! What is wrong with a table is told at once, and in words.

use crate::database::Database;
use crate::server::server;

/// What a dry run says that cannot be done, with these columns.
fn complaint(statements: &str, columns: &str) -> String {
    let database = Database::new(statements);
    database.policy(&database.registry(columns));
    database.run(&["--dry-run"]).expect(1).stderr
}

#[test]
fn everything_is_told_at_once() {
    let said = complaint(
        "CREATE TABLE sessions (id text, settings json, tier int)",
        "chat_id = \"id\"\nmodel = { column = \"settings\", path = [\"model\"] }\ntier = \"teir\"\n",
    );
    for part in [
        "no unique index keeps two rows of public.sessions from having the same \"id\"",
        "the column \"settings\" is of type json, but a path needs jsonb",
        "has no column \"teir\"",
        "did you mean `tier`?",
        "policy.toml:",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn each_thing_that_would_keep_a_run_from_working_has_its_words() {
    let usual = "chat_id = \"id\"\nmodel = \"model\"\n";
    for (statements, part) in [
        ("", "the database has no table \"public\".\"sessions\" that this role can see"),
        ("CREATE TABLE sessions (id text PRIMARY KEY, model int)", "is of type int4, which cannot hold a model"),
        ("CREATE TABLE sessions (id text PRIMARY KEY, model varchar(4))", "cannot hold the allowed model `haiku`"),
        ("CREATE TABLE sessions (id text PRIMARY KEY, model char(4))", "cannot hold the allowed model `haiku`"),
        (
            "CREATE TYPE model AS ENUM ('opus', 'haiku'); CREATE TABLE sessions (id text PRIMARY KEY, model model)",
            "cannot hold the allowed model `sonnet`",
        ),
        (
            "CREATE DOMAIN short AS varchar(5); CREATE TABLE sessions (id text PRIMARY KEY, model short)",
            "cannot hold the allowed model `sonnet`",
        ),
        (
            "CREATE TABLE sessions (id text PRIMARY KEY, model text GENERATED ALWAYS AS ('opus') STORED)",
            "is generated, so it cannot be written",
        ),
        ("CREATE TABLE sessions (id text PRIMARY KEY, model jsonb)", "is of type jsonb"),
        ("CREATE TABLE sessions (id text, model text, UNIQUE (id, model))", "from having the same \"id\""),
        (
            "CREATE TABLE sessions (id text, model text); CREATE UNIQUE INDEX ON sessions (id) WHERE model <> ''",
            "from having the same \"id\"",
        ),
        (
            "CREATE TABLE rows (id text, model text); INSERT INTO rows VALUES ('+1', 'opus'), ('+1', 'haiku');
             CREATE VIEW sessions AS SELECT * FROM rows",
            "public.sessions has more than one row for a chat id",
        ),
        (
            "CREATE TABLE sessions (id text PRIMARY KEY, model text); CREATE TABLE old () INHERITS (sessions);
             INSERT INTO sessions VALUES ('+1', 'opus'); INSERT INTO old VALUES ('+1', 'haiku')",
            "public.sessions has more than one row for a chat id",
        ),
        ("CREATE SEQUENCE sessions", "is not a table or view"),
    ] {
        let said = complaint(statements, usual);
        assert!(said.contains(part), "{statements}: {part}: {said}");
    }
}

#[test]
fn tables_that_inherit_one_are_read_and_written_where_no_id_is_in_two_of_them() {
    let database = Database::new(
        "CREATE TABLE sessions (id text PRIMARY KEY, model text); CREATE TABLE old () INHERITS (sessions);
         INSERT INTO sessions VALUES ('+1', 'opus'); INSERT INTO old VALUES ('+2', 'opus')",
    );
    database.make_schema();
    database.policy(&database.registry("chat_id = \"id\"\nmodel = \"model\"\n"));
    database.run(&[]).expect(0);
    assert_eq!(database.texts("SELECT id || model FROM sessions ORDER BY id"), ["+1sonnet", "+2sonnet"]);
}

#[test]
fn rows_that_row_security_hides_are_an_error_and_not_missing() {
    let database = Database::with_sessions(&[("+1", "family", "opus"), ("+2", "family", "opus")]);
    let role = format!("reader_{}", database.name);
    database.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT ON sessions TO {role}; ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
         CREATE POLICY theirs ON sessions USING (id = '+1')"
    ));
    let address = format!("{} dbname={} user={role}", server().address(), database.name);
    let run = database.run(&["--dry-run", "--connect", &address]).expect(1);
    assert!(run.stderr.contains("row security hides rows of public.sessions from this role"), "{run:?}");
    database.execute("ALTER TABLE sessions DISABLE ROW LEVEL SECURITY");
    database.run(&["--dry-run", "--connect", &address]).expect(0);
}

#[test]
fn a_role_that_may_not_read_is_told_what_to_ask_for() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    let role = format!("stranger_{}", database.name);
    database.execute(&format!("CREATE ROLE {role} LOGIN"));
    let address = format!("{} dbname={} user={role}", server().address(), database.name);
    let run = database.run(&["--dry-run", "--connect", &address]).expect(1);
    assert!(run.stderr.contains("this role may not read the column \"model\""), "{run:?}");
    assert!(run.stderr.contains("GRANT SELECT ON public.sessions"), "{run:?}");
}

/// A role that may read the table, and nothing else; and how it connects.
fn planner(database: &Database) -> (String, String) {
    let role = format!("planner_{}", database.name);
    database.execute(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON sessions TO {role}"));
    let address = database.address().replace("user=postgres", &format!("user={role}"));
    (role, address)
}

#[test]
fn a_checkup_tells_which_rights_a_run_would_miss() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.make_schema();
    let (role, address) = planner(&database);
    let doctor = || database.run(&["doctor", "--connect", &address]);
    let said = doctor().expect(1).stdout;
    assert!(said.contains("this role may not read the schema `reconcile`"), "{said}");
    assert!(said.contains("this role may not update \"model\" of public.sessions"), "{said}");
    database.execute(&format!(
        "GRANT UPDATE (model) ON sessions TO {role}; GRANT USAGE ON SCHEMA reconcile TO {role};
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA reconcile TO {role}"
    ));
    let said = doctor().expect(1).stdout;
    assert!(said.contains("this role may not write to the schema reconcile"), "{said}");
    let run = database.run(&["--connect", &address]).expect(1);
    assert!(run.stderr.contains("this role may not write to the schema reconcile"), "{run:?}");
    database.execute(&format!("GRANT DELETE ON ALL TABLES IN SCHEMA reconcile TO {role}"));
    let said = doctor().stdout;
    assert!(said.contains("this role may change models, and record what it does"), "{said}");
    database.run(&["--connect", &address]).expect(0);
}

#[test]
fn a_checkup_tells_of_the_run_that_holds_the_registry_and_until_when() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.make_schema();
    let said = database.run(&["doctor"]).stdout;
    assert!(said.contains("no run holds the registry"), "{said}");
    database.execute(
        "INSERT INTO reconcile.registry (name, holder, held_until)
         VALUES ('public.sessions', 'another', '2999-12-31 23:00:00+00')",
    );
    let said = database.run(&["doctor"]).stdout;
    assert!(said.contains("a run holds the registry until 2999-12-31T23:00:00Z"), "{said}");
    database.execute("UPDATE reconcile.registry SET held_until = '2000-01-01'");
    let said = database.run(&["doctor"]).stdout;
    assert!(said.contains("no run holds the registry"), "{said}");
}

#[test]
fn what_runs_remember_is_never_nothing_for_a_role_that_may_not_read_it() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.make_schema();
    let changed = database.run(&[]).expect(0);
    assert!(changed.stdout.contains("1 changed"), "{changed:?}");
    let (_, address) = planner(&database);
    for command in [&["history"][..], &["history", "+1"], &["owed"], &["undo", "latest", "--dry-run"]] {
        let run = database.run(&[command, &["--connect", &address]].concat()).expect(1);
        assert!(run.stderr.contains("this role may not read the schema `reconcile`"), "{command:?}: {run:?}");
        assert!(run.stderr.contains("reconcile init --postgres --grants"), "{command:?}: {run:?}");
        assert_eq!(run.stdout, "", "{command:?}");
    }
    let explained = database.run(&["explain", "+1", "--connect", &address]).expect(0);
    assert!(explained.stderr.contains("what earlier runs did and left owed is not known"), "{explained:?}");
}
