//! A row that the database does not take is refused, and the others are changed.

use serde_json::Value;

use crate::database::{COLUMNS, Database};
use crate::support::row;

const SECTIONS: &str = "[sessions]\nrestart = [\"./restart\"]\nparallel = 1\n[limits]\nmax_changes = 100\n";

/// A database with these sessions and statements, in which runs can remember.
fn database(rows: &[(&str, &str, &str)], statements: &str) -> Database {
    let database = Database::with_sessions(rows);
    database.execute(statements);
    database.make_schema();
    database.sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID $RECONCILE_MODEL\" >> calls");
    database.policy(&format!("{SECTIONS}{}", database.registry(COLUMNS)));
    database
}

fn models(database: &Database) -> Vec<String> {
    database.texts("SELECT id || ' ' || coalesce(model, '-') FROM sessions ORDER BY length(id), id")
}

/// What the history says was edited.
fn told(database: &Database) -> Vec<String> {
    database
        .texts("SELECT row ->> 'chat_id' FROM reconcile.run, json_array_elements(run -> 'changes') AS row ORDER BY 1")
}

/// A view named as the table was, whose updates go by this function to the table, now `rows`.
fn view_over(rows: &str, update: &str) -> String {
    format!(
        "ALTER TABLE sessions RENAME TO rows; {rows};
         CREATE VIEW sessions AS SELECT id, model::text, tier, source, kind, name FROM rows;
         CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {update}; RETURN NEW; END $$;
         CREATE TRIGGER t INSTEAD OF UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION change()"
    )
}

/// A trigger with this body, which fires as this says.
fn trigger(fires: &str, body: &str) -> String {
    format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
         CREATE {fires} FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
}

/// The chat `+3` gets opus, which these statements keep its row from.
fn refusals() -> Vec<(String, &'static str)> {
    let put_back = "IF NEW.id = '+3' THEN NEW.model = OLD.model; END IF; RETURN NEW;";
    let skip = "IF NEW.id = '+3' THEN RETURN NULL; END IF; RETURN NEW;";
    let after = "IF pg_trigger_depth() = 1 THEN UPDATE sessions SET model = NULL WHERE id = '+3'; END IF; RETURN NULL;";
    let raise = "IF NEW.id = '+3' THEN RAISE 'not this one' USING DETAIL = 'hidden'; END IF; RETURN NEW;";
    let set_models = "CREATE TABLE models (name text PRIMARY KEY); INSERT INTO models VALUES ('sonnet'), ('haiku')";
    vec![
        (
            "ALTER TABLE sessions ADD CONSTRAINT no_opus CHECK (model <> 'opus')".to_owned(),
            "violates check constraint \"no_opus\" (error 23514)",
        ),
        (
            format!("{set_models}; ALTER TABLE sessions ADD CONSTRAINT known FOREIGN KEY (model) REFERENCES models"),
            "violates foreign key constraint \"known\" (error 23503)",
        ),
        (
            format!(
                "{set_models}; ALTER TABLE sessions ADD CONSTRAINT known FOREIGN KEY (model) REFERENCES models
                 DEFERRABLE INITIALLY DEFERRED"
            ),
            "violates foreign key constraint \"known\" (error 23503)",
        ),
        (
            "CREATE UNIQUE INDEX alone ON sessions (model) WHERE id = '+3' OR id = '+4';
             INSERT INTO sessions (id, tier, model) VALUES ('+4', 'admin', 'opus')"
                .to_owned(),
            "violates unique constraint \"alone\" (error 23505)",
        ),
        (
            "CREATE DOMAIN cheap AS text CONSTRAINT is_cheap CHECK (VALUE <> 'opus');
             ALTER TABLE sessions ALTER model TYPE cheap"
                .to_owned(),
            "violates check constraint \"is_cheap\" (error 23514)",
        ),
        (
            view_over(
                "ALTER TABLE rows ADD short char(3)",
                "UPDATE rows SET model = NEW.model, short = CASE NEW.model WHEN 'opus' THEN 'opus' END WHERE id = NEW.id",
            ),
            "value too long for type character(3) (error 22001)",
        ),
        (
            view_over(
                "CREATE TYPE cheap AS ENUM ('sonnet', 'haiku'); ALTER TABLE rows ALTER model TYPE cheap USING model::cheap",
                "UPDATE rows SET model = NEW.model::cheap WHERE id = NEW.id",
            ),
            "invalid input value for enum cheap: \"opus\" (error 22P02)",
        ),
        (
            view_over(
                "ALTER TABLE rows ADD made text GENERATED ALWAYS AS (upper(id)) STORED",
                "IF NEW.model = 'opus' THEN UPDATE rows SET made = NEW.model WHERE id = NEW.id;
                 ELSE UPDATE rows SET model = NEW.model WHERE id = NEW.id; END IF",
            ),
            "column \"made\" can only be updated to DEFAULT (error 428C9)",
        ),
        (
            "ALTER TABLE sessions RENAME TO rows;
             CREATE VIEW sessions AS SELECT * FROM rows WHERE model IS DISTINCT FROM 'opus' WITH CHECK OPTION"
                .to_owned(),
            "violates check option for view \"sessions\" (error 44000)",
        ),
        (trigger("TRIGGER t BEFORE UPDATE ON sessions", raise), "the server says: not this one (error P0001)"),
        (trigger("TRIGGER t BEFORE UPDATE ON sessions", put_back), "did not keep the new model of chat +3"),
        (trigger("TRIGGER t BEFORE UPDATE ON sessions", skip), "did not keep the new model of chat +3"),
        (trigger("TRIGGER t AFTER UPDATE ON sessions", after), "did not keep the new model of chat +3"),
        (
            trigger("CONSTRAINT TRIGGER t AFTER UPDATE ON sessions DEFERRABLE INITIALLY DEFERRED", after),
            "did not keep the new model of chat +3",
        ),
    ]
}

const SESSIONS: [(&str, &str, &str); 3] = [("+1", "family", "haiku"), ("+2", "bots", "haiku"), ("+3", "admin", "")];

#[test]
fn a_row_that_the_database_does_not_take_is_refused_and_the_others_are_changed() {
    for (statements, part) in refusals() {
        let database = database(&SESSIONS, &statements);
        let run = database.run(&[]).expect(4);
        assert!(run.summary().starts_with("Applied: 1 changed, 1 restarted,"), "{run:?}");
        assert!(run.stdout.contains(part), "{part}: {run:?}");
        for hidden in ["Failing row contains", "is not present", "hidden"] {
            assert!(!format!("{run:?}").contains(hidden), "a detail shows the row: {run:?}");
        }
        assert_eq!(models(&database)[..3], ["+1 sonnet", "+2 haiku", "+3 -"], "{part}");
        assert_eq!(database.sandbox.calls(), ["+1 sonnet"], "{part}");
        assert_eq!(database.texts("SELECT key FROM reconcile.memory WHERE kind = 'owed'"), [] as [&str; 0], "{part}");
        assert_eq!(told(&database), ["+1"], "{part}");
    }
}

#[test]
fn under_redaction_a_refused_row_has_a_pseudonym_and_no_word_of_the_database() {
    let database = database(&SESSIONS, "ALTER TABLE sessions ADD CONSTRAINT no_opus CHECK (model <> 'opus')");
    database.sandbox.write("redact.key", "01".repeat(32));
    std::fs::set_permissions(database.sandbox.path("redact.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let run = database.run(&["--redact", "--redact-key", "redact.key", "--format", "json"]).expect(4);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["summary"]["refused"], 1, "{report}");
    for hidden in ["+1", "+3", "no_opus", "Failing row contains"] {
        assert!(!format!("{run:?}").contains(hidden), "{hidden}: {run:?}");
    }
}

#[test]
fn of_many_rows_exactly_those_are_refused_that_the_database_does_not_take() {
    let ids: Vec<String> = (1..=40).map(|number| format!("+{number}")).collect();
    let rows: Vec<(&str, &str, &str)> = ids.iter().map(|id| (id.as_str(), "family", "haiku")).collect();
    let statements = "ALTER TABLE sessions ADD CHECK (model <> 'sonnet' OR id NOT IN ('+1', '+7', '+8', '+40'));
        CREATE TABLE log (id text, at bigint);
        CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO log VALUES (NEW.id, txid_current()); RETURN NEW; END';
        CREATE TRIGGER t AFTER UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION log()";
    let database = database(&rows, statements);
    let sections = SECTIONS.replace("[limits]", "[rollout]\ncanary = false\n[limits]");
    database.policy(&format!("{sections}{}", database.registry(COLUMNS)));
    let run = database.run(&["--format", "json"]).expect(4);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    for id in &ids {
        let is_refused = ["+1", "+7", "+8", "+40"].contains(&id.as_str());
        assert_eq!(row(&report, id)["outcome"], if is_refused { "refused" } else { "done" }, "{report}");
    }
    assert_eq!(database.texts("SELECT count(*) || ' ' || count(DISTINCT id) FROM log"), ["36 36"]);
    assert_eq!(told(&database).len(), 36);
}

#[test]
fn where_a_canary_is_refused_another_session_is_the_canary() {
    let statements = "ALTER TABLE sessions ADD CHECK (id <> '+1' OR model <> 'sonnet')";
    let rows = [("+1", "family", "haiku"), ("+2", "family", "haiku"), ("+3", "family", "haiku")];
    let database = database(&rows, statements);
    database.sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID $RECONCILE_MODEL\" >> calls; false");
    let run = database.run(&[]).expect(4);
    assert!(run.stdout.contains("canary failed: sonnet did not come up on +2"), "{run:?}");
    assert_eq!(database.sandbox.calls(), ["+2 sonnet"]);
    assert!(models(&database).contains(&"+3 haiku".to_owned()), "{run:?}");
}

#[test]
fn a_database_that_takes_few_rows_of_a_statement_gets_all_of_them() {
    let statements = "CREATE FUNCTION few() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT count(*) FROM rows) > 1 THEN RAISE 'one at a time'; END IF; RETURN NULL; END $$;
        CREATE TRIGGER t AFTER UPDATE ON sessions REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION few()";
    let database = database(&[("+1", "family", "haiku"), ("+2", "bots", "opus"), ("+3", "admin", "")], statements);
    database.run(&[]).expect(0);
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku", "+3 opus"]);
}

#[test]
fn what_cannot_be_put_back_stays_and_the_run_says_so() {
    let statements = trigger(
        "TRIGGER t BEFORE UPDATE ON sessions",
        "IF NEW.model = 'haiku' THEN RAISE 'never again'; END IF; RETURN NEW;",
    );
    let database = database(&[("+1", "family", "haiku")], &statements);
    database.sandbox.script("restart", "touch down");
    database.sandbox.script("running", "test ! -e down");
    let sections = SECTIONS.replace("parallel = 1\n", "parallel = 1\nrunning = [\"./running\"]\ntimeout = \"1s\"\n");
    database.policy(&format!("{sections}{}", database.registry(COLUMNS)));
    let run = database.run(&[]).expect(4);
    assert!(run.stdout.contains("not reverted to haiku: "), "{run:?}");
    assert!(run.stdout.contains("never again (error P0001)"), "{run:?}");
    assert_eq!(models(&database), ["+1 sonnet"]);
    assert_eq!(database.texts("SELECT key FROM reconcile.memory WHERE kind = 'owed'"), ["+1"]);
}

#[test]
fn a_refused_row_that_was_corrected_before_stays_refused_and_is_never_held() {
    let put_back = "NEW.model = OLD.model; RETURN NEW;";
    for statements in [
        "ALTER TABLE sessions ADD CHECK (model <> 'sonnet') NOT VALID".to_owned(),
        trigger("TRIGGER t BEFORE UPDATE ON sessions", put_back),
    ] {
        let database = database(&[("+1", "family", "haiku")], "");
        database.run(&[]).expect(0);
        database.execute("UPDATE sessions SET model = 'haiku'");
        database.execute(&statements);
        for _ in 0..5 {
            let report = database.run(&["--format", "json"]).expect(4);
            let report: Value = serde_json::from_str(&report.stdout).unwrap();
            assert_eq!(row(&report, "+1")["outcome"], "refused", "{statements}: {report}");
        }
        // That was before the first of them. What was never written cannot be changed back.
        let changed_back =
            "SELECT json_array_length(value -> 'changed_back') FROM reconcile.memory WHERE kind = 'corrected'";
        assert_eq!(database.texts(changed_back), ["1"], "{statements}");
    }
}
