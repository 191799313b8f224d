//! A run on a table: what it changes, what it remembers, and what keeps it from both.

use std::thread;

use crate::database::{COLUMNS, Database};
use crate::server::program;
use crate::support::row;

const RESTART: &str =
    "[sessions]\nrestart = [\"./restart\", \"{session_slug}\"]\nparallel = 1\n[limits]\nmax_changes = 100\n";

/// A database with these sessions, in which runs can remember, and a restart command that notes what it is called for.
fn database(rows: &[(&str, &str, &str)]) -> Database {
    let database = Database::with_sessions(rows);
    database.make_schema();
    database.sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID $RECONCILE_MODEL\" >> calls; test ! -e broken");
    database.policy(&format!("{RESTART}{}", database.registry(COLUMNS)));
    database
}

fn models(database: &Database) -> Vec<String> {
    database.texts("SELECT id || ' ' || coalesce(model, '-') FROM sessions ORDER BY id COLLATE \"C\"")
}

const DRIFTED: [(&str, &str, &str); 3] = [("+1", "family", "opus"), ("+2", "bots", "haiku"), ("+3", "admin", "")];

#[test]
fn a_run_changes_what_differs_restarts_those_sessions_and_tells_the_history() {
    let database = database(&DRIFTED);
    let run = database.run(&[]).expect(0);
    assert_eq!(run.summary(), "Applied: 2 changed, 2 restarted, 0 deferred, 0 failed.", "{run:?}");
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku", "+3 opus"]);
    assert_eq!(database.sandbox.calls(), ["+1 sonnet", "+3 opus"]);
    let history = database.run(&["history"]).expect(0);
    assert!(history.stdout.contains("imessage/+1") && history.stdout.contains("opus → sonnet"), "{history:?}");
    assert_eq!(database.run(&["owed"]).expect(0).stdout, "No restarts are owed.\n");
    let again = database.run(&[]).expect(0);
    assert!(again.summary().starts_with("No changes."), "{again:?}");
    assert_eq!(database.sandbox.calls().len(), 2);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.memory WHERE kind = 'unrecorded'"), ["0"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.registry WHERE holder IS NOT NULL"), ["0"]);
}

#[test]
fn a_restart_that_fails_stays_owed_until_a_later_run_pays_it() {
    let database = database(&[("+1", "family", "opus")]);
    database.sandbox.write("broken", "");
    database.run(&[]).expect(4);
    assert_eq!(models(&database), ["+1 sonnet"]);
    let owed = database.run(&["owed"]).expect(0);
    assert!(owed.stdout.contains("+1"), "{owed:?}");
    let report = database.plan();
    assert_eq!(
        (&row(&report, "+1")["edit"], &row(&report, "+1")["restart"]),
        (&false.into(), &true.into()),
        "{report}"
    );
    std::fs::remove_file(database.sandbox.path("broken")).unwrap();
    database.run(&["--retry", "+1"]).expect(0);
    assert_eq!(database.sandbox.calls(), ["+1 sonnet", "+1 sonnet"]);
    assert_eq!(database.run(&["owed"]).expect(0).stdout, "No restarts are owed.\n");
}

#[test]
fn an_override_can_be_set_and_a_run_be_taken_back() {
    let database = database(&[("+1", "family", "sonnet"), ("+2", "family", "sonnet")]);
    database.run(&["set-model", "+1", "haiku"]).expect(0);
    assert_eq!(models(&database), ["+1 haiku", "+2 sonnet"]);
    let newest = database.texts("SELECT max(name) FROM reconcile.run").concat();
    database.run(&["undo", &newest]).expect(0);
    assert_eq!(models(&database), ["+1 sonnet", "+2 sonnet"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["2"]);
}

#[test]
fn only_the_plan_that_was_reviewed_is_applied_and_no_more_than_the_limit_allows() {
    let database = database(&DRIFTED);
    let plan = database.plan()["plan_id"].as_str().unwrap().to_owned();
    database.execute("UPDATE sessions SET model = 'opus' WHERE id = '+2'");
    database.run(&["--plan", &plan]).expect(3);
    database.execute("UPDATE sessions SET model = 'haiku' WHERE id = '+2'");
    database.policy(&format!("[limits]\nmax_changes = 0\n{}", database.registry(COLUMNS)));
    database.run(&[]).expect(3);
    assert_eq!(models(&database), ["+1 opus", "+2 haiku", "+3 -"]);
    database.run(&["--plan", &plan, "--allow-changes", "5"]).expect(0);
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku", "+3 opus"]);
}

#[test]
fn one_run_holds_the_registry_until_it_ends_or_its_time_is_over() {
    let database = database(&DRIFTED);
    database.execute(
        "INSERT INTO reconcile.registry (name, holder, held_until) VALUES ('public.sessions', 'another', now() + '1 h')",
    );
    let run = database.run(&["--lock-timeout", "0s"]).expect(75);
    assert!(run.stderr.contains("another process holds public.sessions"), "{run:?}");
    assert_eq!(models(&database), ["+1 opus", "+2 haiku", "+3 -"]);
    database.execute("UPDATE reconcile.registry SET held_until = now() - interval '1 s'");
    database.run(&["--lock-timeout", "0s"]).expect(0);
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku", "+3 opus"]);
}

#[test]
fn without_the_schema_a_run_changes_nothing_and_says_what_makes_it() {
    let database = Database::with_sessions(&DRIFTED);
    let run = database.run(&[]).expect(1);
    assert!(run.stderr.contains("the database has no schema `reconcile`"), "{run:?}");
    assert!(run.stderr.contains("reconcile init --postgres"), "{run:?}");
    assert_eq!(models(&database), ["+1 opus", "+2 haiku", "+3 -"]);
    let run = database.run(&["--dry-run"]).expect(0);
    assert!(run.stderr.contains("what earlier runs left owed is not known"), "{run:?}");
}

#[test]
fn what_the_server_ends_because_of_other_transactions_is_made_again_and_deferred_in_the_end() {
    for code in ["40001", "40P01", "55P03"] {
        for (ends, is_changed) in [(4, true), (5, false)] {
            let database = database(&DRIFTED);
            database.execute(&format!(
                "CREATE SEQUENCE ended;
                 CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
                     IF nextval(''ended'') <= {ends} THEN RAISE ''in the way'' USING ERRCODE = ''{code}''; END IF; RETURN NULL; END';
                 CREATE TRIGGER t AFTER UPDATE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION ends()"
            ));
            let run = database.run(&[]).expect(0);
            let as_before = ["+1 opus", "+2 haiku", "+3 -"];
            let changed = ["+1 sonnet", "+2 haiku", "+3 opus"];
            assert_eq!(models(&database), if is_changed { changed } else { as_before }, "{run:?}");
            assert_eq!(run.stdout.contains("2 deferred"), !is_changed, "{run:?}");
            assert_eq!(run.stdout.contains(&format!("in the way (error {code})")), !is_changed, "{run:?}");
        }
    }
}

#[test]
fn no_transaction_changes_more_rows_than_the_policy_says() {
    let rows: Vec<String> = (1..8).map(|number| format!("+{number}")).collect();
    let rows: Vec<(&str, &str, &str)> = rows.iter().map(|id| (id.as_str(), "family", "opus")).collect();
    let database = database(&rows);
    database.execute(
        "CREATE TABLE log (id text, at bigint);
         CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO log VALUES (NEW.id, txid_current()); RETURN NEW; END';
         CREATE TRIGGER t AFTER UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION log()",
    );
    let sections = RESTART.replace("[limits]", "[rollout]\ncanary = false\n[limits]\nbatch = 3");
    database.policy(&format!("{sections}{}", database.registry(COLUMNS)));
    let run = database.run(&[]).expect(0);
    assert_eq!(run.summary(), "Applied: 7 changed, 7 restarted, 0 deferred, 0 failed.", "{run:?}");
    assert_eq!(database.texts("SELECT count(*) FROM log GROUP BY at ORDER BY at"), ["3", "3", "1"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["1"]);
}

#[test]
fn what_a_run_has_done_is_remembered_once_and_not_again_with_each_restart() {
    let rows: Vec<String> = (1..5).map(|number| format!("+{number}")).collect();
    let rows: Vec<(&str, &str, &str)> = rows.iter().map(|id| (id.as_str(), "family", "opus")).collect();
    let database = database(&rows);
    database.execute(
        "CREATE TABLE log (chat text);
         CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO log SELECT json_object_keys(NEW.value -> ''rows''); RETURN NEW; END';
         CREATE TRIGGER t AFTER INSERT OR UPDATE ON reconcile.memory FOR EACH ROW WHEN (NEW.kind = 'unrecorded')
             EXECUTE FUNCTION log()",
    );
    database.run(&[]).expect(0);
    // With its edit, when its restart begins, and when that has ended.
    let times = "SELECT chat || ' ' || count(*) FROM log GROUP BY chat ORDER BY chat";
    assert_eq!(database.texts(times), ["+1 3", "+2 3", "+3 3", "+4 3"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.memory WHERE kind = 'unrecorded'"), ["0"]);
}

#[test]
fn corrections_of_other_chats_that_have_lasted_are_forgotten_when_new_ones_are_confirmed() {
    let database = database(&[("+1", "family", "opus")]);
    let correction = |chat: &str, after: &str, held: bool| {
        format!(
            "INSERT INTO reconcile.memory SELECT 'public.sessions', 'corrected', '{chat}',
                 json_build_object('model', 'sonnet', 'confirmed', true, 'changed_back', '[]'::json, 'held', {held},
                     'at', to_char((now() + '{after}') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'));"
        )
    };
    database.execute("INSERT INTO reconcile.registry (name) VALUES ('public.sessions')");
    for (chat, after, held) in [
        ("two days", "-48:00", false),
        ("two days and held", "-48:00", true),
        ("a day, soon", "-23:30", false),
        ("now", "0:00", false),
        ("by a clock that was wrong", "48:00", false),
    ] {
        database.execute(&correction(chat, after, held));
    }
    database.run(&[]).expect(0);
    let known = "SELECT key FROM reconcile.memory WHERE kind = 'corrected' ORDER BY key";
    assert_eq!(database.texts(known), ["+1", "a day, soon", "now", "two days and held"]);
}

#[test]
fn a_role_that_may_not_write_is_told_so_before_anything_is_changed() {
    let database = database(&DRIFTED);
    let role = format!("planner_{}", database.name);
    database.execute(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON sessions TO {role}"));
    let address = database.address().replace("user=postgres", &format!("user={role}"));
    let run = database.run(&["--connect", &address]).expect(1);
    assert!(run.stderr.contains("this role may not update \"model\" of public.sessions"), "{run:?}");
    let run = database.run(&["--dry-run", "--connect", &address]).expect(0);
    assert!(run.stderr.contains("this role may not read the schema `reconcile`"), "{run:?}");
}

#[test]
fn the_grants_that_are_printed_are_the_ones_that_a_run_needs() {
    let database = database(&DRIFTED);
    let role = format!("runner_{}", database.name);
    let grants = database.run(&["init", "--postgres", "--grants", &role, "--grants-only"]).expect(0).stdout;
    database.execute(&format!("CREATE ROLE {role} LOGIN"));
    database.execute(&grants);
    let address = database.address().replace("user=postgres", &format!("user={role}"));
    database.run(&["--connect", &address]).expect(0);
    assert_eq!(models(&database), ["+1 sonnet", "+2 haiku", "+3 opus"]);
}

#[test]
fn a_model_inside_json_is_set_and_everything_else_of_the_document_stays() {
    let database = Database::new(
        r#"CREATE TABLE sessions (id text PRIMARY KEY, settings jsonb, tier text);
           INSERT INTO sessions VALUES ('deep', '{"llm": {"model": "haiku", "heat": 7}, "x": [1]}', 'family'),
               ('null', NULL, 'family'), ('empty', '{"x": null}', 'family'), ('none', '{"llm": null, "y": {}}', 'family')"#,
    );
    database.make_schema();
    let columns = "chat_id = \"id\"\nmodel = { column = \"settings\", path = [\"llm\", \"model\"] }\ntier = \"tier\"\n";
    database.policy(&database.registry(columns));
    database.run(&[]).expect(0);
    assert_eq!(
        database.texts("SELECT settings FROM sessions ORDER BY id"),
        [
            r#"{"x": [1], "llm": {"heat": 7, "model": "sonnet"}}"#,
            r#"{"x": null, "llm": {"model": "sonnet"}}"#,
            r#"{"y": {}, "llm": {"model": "sonnet"}}"#,
            r#"{"llm": {"model": "sonnet"}}"#,
        ]
    );
}

#[test]
fn a_row_that_changes_while_a_run_waits_for_it_is_planned_again() {
    let database = database(&[("+1", "family", "opus"), ("+2", "family", "opus")]);
    let mut other = crate::server::server().connect(&database.name).unwrap();
    let mut theirs = other.transaction().unwrap();
    // One is another tier's by the time that the run may touch it, the other has a model that nothing planned on.
    theirs.batch_execute("UPDATE sessions SET tier = 'bots' WHERE id = '+1'").unwrap();
    theirs.batch_execute("UPDATE sessions SET model = 'sonnet' WHERE id = '+2'").unwrap();
    let mut command = database.command(&[]);
    let run = thread::spawn(move || crate::support::finish(&mut command));
    let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.texts(waits).is_empty() {
        assert!(!run.is_finished(), "the run did not wait: {:?}", run.join());
    }
    theirs.commit().unwrap();
    run.join().unwrap().expect(0);
    assert_eq!(models(&database), ["+1 haiku", "+2 sonnet"]);
    assert_eq!(database.sandbox.calls(), ["+1 haiku"]);
}

#[test]
fn a_chat_whose_id_is_the_same_in_the_columns_collation_alone_is_left_as_it_is() {
    let database = Database::new(
        "CREATE COLLATION fold (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE sessions (id text COLLATE fold, model text, tier text);
         CREATE UNIQUE INDEX ON sessions (id COLLATE \"C\");
         INSERT INTO sessions VALUES ('a', 'opus', 'family'), ('A', 'opus', 'admin')",
    );
    database.make_schema();
    database.policy(&database.registry("chat_id = \"id\"\nmodel = \"model\"\ntier = \"tier\"\n"));
    database.run(&[]).expect(0);
    assert_eq!(models(&database), ["A opus", "a sonnet"]);
}

#[test]
fn a_type_whose_schema_needs_quotes_is_written_as_any_other() {
    let database = Database::new(
        "CREATE SCHEMA \"My App\"; CREATE TYPE \"My App\".\"Model\" AS ENUM ('opus', 'sonnet', 'haiku');
         CREATE DOMAIN \"My App\".\"Id\" AS text; CREATE TABLE sessions (id \"My App\".\"Id\" PRIMARY KEY, model \"My App\".\"Model\", tier text);
         INSERT INTO sessions VALUES ('+1', 'opus', 'family')",
    );
    database.make_schema();
    database.policy(&database.registry("chat_id = \"id\"\nmodel = \"model\"\ntier = \"tier\"\n"));
    database.run(&[]).expect(0);
    assert_eq!(database.texts("SELECT model FROM sessions"), ["sonnet"]);
}

#[test]
fn a_role_that_is_not_there_leaves_nothing_behind_that_a_second_try_would_meet() {
    let database = Database::with_sessions(&DRIFTED);
    let role = format!("later_{}", database.name);
    let statements = database.run(&["init", "--postgres", "--grants", &role]).expect(0).stdout;
    let error = database.try_to_execute(&statements).unwrap_err();
    assert!(error.contains("does not exist"), "{error}");
    database.execute(&format!("ROLLBACK; CREATE ROLE {role} LOGIN"));
    database.execute(&statements);
    let address = database.address().replace("user=postgres", &format!("user={role}"));
    database.run(&["--connect", &address]).expect(0);
}

#[test]
fn a_quiet_run_tells_of_what_stays_wrong_once_and_when_it_is_over() {
    let database = database(&DRIFTED);
    database.execute("UPDATE sessions SET name = NULL WHERE id = '+1'");
    let quiet = |code| {
        let run = database.run(&["--quiet"]).expect(code);
        run.stdout + &run.stderr
    };
    assert!(quiet(4).contains("1 refused"));
    assert_eq!((quiet(4), quiet(4)), (String::new(), String::new()));
    // A run that is not quiet leaves alone what was told.
    database.run(&[]).expect(4);
    assert_eq!(quiet(4), "");
    database.execute("UPDATE sessions SET name = 'imessage/+1' WHERE id = '+1'");
    assert_ne!(quiet(0), "");
    assert_eq!(quiet(0), "");
}

#[test]
fn a_session_that_writes_another_model_when_it_is_restarted_fails_and_is_not_held_for_that() {
    let database = database(&[("+1", "family", "opus")]);
    let psql = program("psql");
    let writes = format!("{psql:?} '{}' -qc \"UPDATE sessions SET model = 'opus'\"", database.address());
    database.sandbox.script("restart", &format!("echo restarted >> calls; {writes}"));
    for _ in 0..4 {
        let run = database.run(&[]).expect(4);
        assert!(run.stdout.contains("| the registry has opus again"), "{run:?}");
    }
    assert_eq!(database.sandbox.calls().len(), 4);
}
