//! Which rows of a table a plan reads: those that the database finds to differ, where the policy can be asked of it.

use std::fs;

use crate::database::{COLUMNS, Database};

/// A database whose statements are logged.
fn logged() -> Database {
    let database = Database::with_sessions(&[("+1", "family", "opus"), ("+2", "bots", "haiku")]);
    database.execute(&format!("ALTER DATABASE {} SET log_statement = 'all'", database.name));
    database
}

/// Writes a policy for its table, which ends like this.
fn policy(database: &Database, end: &str) {
    database.policy(&format!("{}{end}", database.registry(COLUMNS)));
}

/// The statements on the table that a dry run with these arguments causes, without what goes beside them.
fn statements(database: &Database, arguments: &[&str]) -> Vec<String> {
    statements_of(database, &[&["--dry-run"], arguments].concat())
}

/// The statements on the table that a command causes.
fn statements_of(database: &Database, arguments: &[&str]) -> Vec<String> {
    let mut entries = database.logged(|| _ = database.run(arguments).expect(0));
    let is_on_table = |entry: &String| entry.contains("execute <unnamed>") && entry.contains("FROM public.sessions");
    entries.retain(is_on_table);
    entries
}

/// Whether one of these hands over every row.
fn is_whole(statements: &[String]) -> bool {
    let is_whole = |statement: &String| !statement.contains(" WHERE ") && !statement.contains("pg_catalog.count(*)");
    statements.iter().any(is_whole)
}

/// Whether the database was asked which rows differ.
fn is_asked(statements: &[String]) -> bool {
    statements.iter().any(|statement| statement.contains("IS DISTINCT FROM"))
}

/// A policy with so many words in its rules.
fn with_words(database: &Database, words: usize) {
    let words: Vec<String> = (0..words).map(|number| format!("\"word {number}\"")).collect();
    let rule = format!("[[rules]]\nmodel = \"opus\"\nsource = [{}]\n", words.join(", "));
    policy(database, &rule);
}

#[test]
fn the_database_is_asked_which_rows_differ_unless_the_policy_compares_much_or_the_run_is_about_some_chats() {
    let database = logged();
    // Three tiers are compared as well.
    with_words(&database, 37);
    assert!(is_asked(&statements(&database, &[])));
    assert!(!is_asked(&statements(&database, &["--tier", "bots"])));
    with_words(&database, 38);
    assert!(!is_asked(&statements(&database, &[])));
}

#[test]
fn a_dry_run_asks_which_rows_differ_where_models_set_by_hand_are_kept_unless_a_model_is_withdrawn() {
    let database = logged();
    database.make_schema();
    let keeping = |withdrawn: &str| {
        policy(&database, &format!("[models.retired]\n{withdrawn}\n"));
        let text = fs::read_to_string(database.sandbox.path("policy.toml")).unwrap();
        let text = text.replace("[models]", "[models]\ntime_zone = \"UTC\"");
        database.sandbox.write("policy.toml", text.replace("[registry]", "[registry]\nexisting = \"keep-manual\""));
    };
    keeping("");
    assert!(is_asked(&statements(&database, &[])));
    keeping("haiku = { on = 2020-01-01, use = \"opus\" }");
    assert!(!is_asked(&statements(&database, &[])));
}

#[test]
fn a_later_wave_reads_its_own_rows_and_does_not_ask_again_which_differ() {
    let database = logged();
    database.make_schema();
    database.sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    database.execute(
        "INSERT INTO sessions SELECT '+' || n, 'opus', 'family', 'imessage', 'individual', 'imessage/+' || n
         FROM generate_series(3, 6) AS n",
    );
    let sessions =
        "[limits]\nmax_changes = 10\n[rollout]\npause = \"1ms\"\n[sessions]\nrestart = [\"./restart\"]\nparallel = 2\n";
    policy(&database, sessions);
    let statements = statements_of(&database, &[]);
    // The canary, and two portions of the other four.
    assert_eq!(database.sandbox.calls().len(), 5);
    assert_eq!(
        statements.iter().filter(|statement| statement.contains("IS DISTINCT FROM")).count(),
        1,
        "{statements:#?}"
    );
}

#[test]
fn no_word_of_a_policy_is_in_the_text_of_a_statement() {
    let database = logged();
    let end = "[chats]\n\"word 1\" = \"opus\"\n[[rules]]\nmodel = \"opus\"\nchat = \"word 2*\"\nsource = \"word 3\"\n\
                  [[assign]]\ntier = \"word 4\"\ncontact = \"word 5\"\n";
    policy(&database, end);
    let statements = statements(&database, &[]);
    assert!(is_asked(&statements));
    for word in ["word", "haiku", "opus", "family"] {
        assert!(!statements.iter().any(|statement| statement.contains(word)), "{word}: {statements:#?}");
    }
}

#[test]
fn a_row_of_which_the_database_says_one_thing_and_then_another_is_an_error() {
    // Each time that it is asked for a model, it has another one.
    let database = Database::new(
        "CREATE TABLE rows (id text PRIMARY KEY);
         CREATE FUNCTION other(id text) RETURNS text STABLE LANGUAGE plpgsql AS $$
             DECLARE turn int := coalesce(nullif(current_setting('test.turn', true), ''), '0')::int + 1;
             BEGIN
                 PERFORM set_config('test.turn', turn::text, true);
                 RETURN CASE turn % 2 WHEN 1 THEN 'opus' ELSE 'sonnet' END;
             END $$;
         CREATE VIEW sessions AS SELECT id, other(id) AS model FROM rows;
         INSERT INTO rows VALUES ('+1')",
    );
    database.policy(&database.registry("chat_id = \"id\"\nmodel = \"model\"\n"));
    let run = database.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("error[disputed]: public.sessions and this program do not agree"), "{run:?}");
    assert!(run.stderr.contains("chat +1"), "{run:?}");
}

#[test]
fn a_command_about_one_chat_reads_the_row_of_that_chat() {
    let database = logged();
    database.execute("ALTER TABLE sessions ADD session_id text");
    database.make_schema();
    let columns = format!("{COLUMNS}session_id = \"session_id\"\n");
    let sections = "[sessions]\nrestart = [\"true\", \"{session_slug}\"]\nrunning = [\"true\"]\n";
    database.policy(&format!("{sections}{}", database.registry(&columns)));
    let reads_some = |arguments: &[&str]| {
        let statements = statements_of(&database, arguments);
        assert!(!statements.is_empty() && !is_whole(&statements), "{arguments:?}: {statements:#?}");
    };
    reads_some(&["plan", "--chat", "imessage/+1"]);
    reads_some(&["list", "--chat", "+1"]);
    reads_some(&["list", "--chat", "+1", "--exclude", "+2"]);
    reads_some(&["explain", "imessage/+1"]);
    reads_some(&["launch", "+1", "--", "true"]);
    reads_some(&["record-session", "imessage/+1", "0c7e6a52"]);
    reads_some(&["set-model", "+1", "haiku"]);
    let newest = database.texts("SELECT max(name) FROM reconcile.run").concat();
    reads_some(&["undo", &newest]);
    // Other sessions may have the slugs of those that are restarted, and may show that a model works.
    database.execute("UPDATE sessions SET model = 'opus'");
    reads_some(&[]);
    assert!(is_whole(&statements_of(&database, &["list"])));
}
