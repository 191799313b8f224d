//! The codes under which a table, a server or a connection that cannot be used is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::database::{COLUMNS, Database, MODELS, TABLE};
use crate::lost::{Counted, Cut, proxy};
use crate::support::{Run, Sandbox, finish};

const LAUNCH: &[&str] = &["launch", "+1", "--", "true"];
const RECORD: &[&str] = &["record-session", "+1", "0c7e6a52"];

/// What each mistake in a connection is called.
const CONNECTIONS: &[(&str, &str)] = &[
    ("error[connection-number]", "host=/a port=many"),
    ("error[connection-value]", "host=127.0.0.1 sslmode=off"),
    ("error[host-counts]", "host=/a port=1,2"),
    ("error[no-roots]", "host=127.0.0.1 sslrootcert=empty.crt"),
    ("error[no-service]", "service=nowhere"),
    ("error[not-roots]", "host=127.0.0.1 sslrootcert=nothing.crt"),
    ("error[open-passwords]", "host=127.0.0.1 passfile=passwords"),
    ("error[server-elsewhere]", "host=elsewhere.example"),
    ("error[server-unreachable]", "host=/nowhere"),
    ("error[service-line]", "service=broken"),
    ("error[service]", "service=misspelt"),
];

/// A policy whose registry is a table of this server. No server is needed for it.
fn sandbox(address: &str) -> Sandbox {
    let columns = "columns = { chat_id = \"id\", model = \"model\" }";
    let registry = format!("[registry]\npostgres = \"{address}\"\ntable = \"sessions\"\n{columns}\n");
    let sandbox = Sandbox::new(&format!("{MODELS}{registry}"), "{}");
    sandbox.write("empty.crt", "");
    sandbox.write("passwords", "*:*:*:*:hidden\n");
    fs::set_permissions(sandbox.path("passwords"), fs::Permissions::from_mode(0o644)).unwrap();
    sandbox.write("services", "[misspelt]\nhots=/a\n[broken]\nhost\n");
    sandbox
}

/// A run that finds its services in the sandbox, and has nothing else from the environment but these variables.
fn run(sandbox: &Sandbox, variables: &[(&str, &str)]) -> Run {
    let mut command = sandbox.command(&["--dry-run"]);
    command.env_clear().env("PGSERVICEFILE", sandbox.path("services")).env("PGSYSCONFDIR", sandbox.path(""));
    finish(command.envs(variables.iter().copied()))
}

/// Sees that a run failed with this error.
#[track_caller]
fn fails(run: Run, error: &str) {
    let run = run.expect(1);
    assert!(run.stderr.starts_with(&format!("{error}: ")), "{error}: {run:?}");
}

#[test]
fn each_mistake_in_a_connection_has_a_code() {
    for (error, address) in CONNECTIONS {
        fails(run(&sandbox(address), &[("USER", "nobody")]), error);
    }
}

#[test]
fn what_the_environment_says_of_a_connection_is_looked_at_as_well() {
    let sandbox = sandbox("host=127.0.0.1");
    fails(run(&sandbox, &[]), "error[no-user]");
    fails(run(&sandbox, &[("USER", "nobody"), ("PGHOSTADDR", "nowhere")]), "error[not-an-address]");
}

/// The table of most tests with one session, in which runs can remember, and these statements after that.
fn database(statements: &str) -> Database {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.make_schema();
    database.execute(statements);
    database
}

/// A trigger before each update of a session, which does this.
fn trigger(body: &str) -> String {
    format!(
        "CREATE FUNCTION does() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
         CREATE TRIGGER t BEFORE UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION does()"
    )
}

/// The table under another name, and a view of this query in its place.
fn view(query: &str) -> String {
    format!("ALTER TABLE sessions RENAME TO rows; CREATE VIEW sessions AS {query}")
}

#[test]
fn each_failure_of_a_table_has_a_code() {
    let without_id = "ALTER TABLE rows DROP CONSTRAINT sessions_pkey; ALTER TABLE rows ALTER id DROP NOT NULL; \
                      UPDATE rows SET id = NULL";
    let unsteady = "SELECT id, pg_catalog.clock_timestamp()::text AS model, tier, source, kind, name FROM rows";
    for (error, statements, arguments) in [
        (
            "error[server]",
            view("SELECT id, (1 / (2 - length(id)))::text AS model, tier, source, kind, name FROM rows"),
            &["--dry-run"][..],
        ),
        ("error[no-chat-id]", format!("{}; {without_id}", view("SELECT * FROM rows")), &["--dry-run"]),
        ("error[no-column]", String::new(), RECORD),
        ("error[no-key-kept]", String::new(), &["snapshot", "--redact"]),
        ("error[no-memory]", "DROP SCHEMA reconcile CASCADE".to_owned(), &[]),
        ("error[not-taken]", trigger("NEW.model = OLD.model; RETURN NEW;"), LAUNCH),
        ("error[not-writable]", view("SELECT DISTINCT * FROM rows"), &[]),
        ("error[schema-damaged]", remembers("owed", "+1", "7"), &["owed"]),
        ("error[schema-format]", "ALTER TABLE reconcile.registry ALTER format SET DEFAULT 99".to_owned(), &[]),
        ("error[table-unsteady]", view(unsteady), LAUNCH),
        (
            "error[taken-over]",
            trigger("UPDATE reconcile.registry SET holder = 'another'; RETURN NEW;"),
            &["--allow-changes", "9"],
        ),
    ] {
        let run = database(&statements).run(arguments);
        assert!(run.stderr.contains(&format!("{error}: ")), "{error}: {run:?}");
    }
}

/// What runs would have remembered under this key.
fn remembers(kind: &str, key: &str, value: &str) -> String {
    format!(
        "INSERT INTO reconcile.registry (name) VALUES ('public.sessions');
         INSERT INTO reconcile.memory VALUES ('public.sessions', '{kind}', '{key}', '{value}')"
    )
}

#[test]
fn json_of_another_form_keeps_a_session_from_being_started() {
    let database = Database::new(&TABLE.replace("model text", "model jsonb"));
    database.execute("INSERT INTO sessions VALUES ('+1', '[]', 'family', 'imessage', 'individual', 'imessage/+1')");
    database.make_schema();
    let columns = COLUMNS.replace("\"model\"", "{ column = \"model\", path = [\"llm\"] }");
    database.policy(&database.registry(&columns));
    fails(database.run(LAUNCH), "error[other-form]");
}

#[test]
fn a_connection_that_is_lost_is_told_as_one() {
    let database = database("");
    let lost = (1..40).any(|number| {
        let (port, _) = proxy(Counted::Requests, number, Cut::Before);
        let address = format!("host=127.0.0.1 port={port} sslmode=disable dbname={} user=postgres", database.name);
        database.run(&["--dry-run", "--connect", &address]).stderr.contains("error[connection]: ")
    });
    assert!(lost, "none of its requests is missed");
}

#[test]
fn without_its_server_a_session_starts_only_where_this_host_can_know_what_it_ran() {
    let database = database("");
    database.sandbox.write("policy.toml.reconcile-sessions", "where a directory would be");
    let run = database.run(&["launch", "+1", "--connect", "host=/nowhere user=postgres", "--", "true"]).expect(1);
    assert!(run.stderr.contains("error[last-model-unknown]: "), "{run:?}");
}
