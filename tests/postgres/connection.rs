//! How a server is found and reached, and what is never sent to it.

use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::database::Database;
use crate::server::server;

/// `[registry]` that names this server.
fn registry(address: &str) -> String {
    format!(
        "[registry]\npostgres = \"{address}\"\ntable = \"sessions\"\ncolumns = {{ chat_id = \"id\", model = \"model\" }}\n"
    )
}

fn database() -> Database {
    Database::with_sessions(&[("+1", "family", "opus")])
}

#[test]
fn a_service_is_read_from_the_users_file_then_from_the_hosts() {
    let database = database();
    database.policy(&registry("service=assistant"));
    let run = database.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("there is no service `assistant` on this host"), "{run:?}");
    let (directory, port, name) = (server().socket().display(), server().port, &database.name);
    let service = format!(
        "# ours\n[other]\nhost=/nowhere\n\n[assistant]\nhost = {directory}\nport={port}\ndbname={name}\nuser=postgres\n[last]\nhost=/nowhere\n"
    );
    std::fs::create_dir(database.sandbox.path("etc")).unwrap();
    database.sandbox.write("etc/pg_service.conf", &service);
    let etc = database.sandbox.path("etc");
    assert_eq!(crate::support::finish(database.command(&["--dry-run"]).env("PGSYSCONFDIR", &etc)).code, 0);
    database.sandbox.write(".pg_service.conf", service.replace("/nowhere", "/elsewhere"));
    database.run(&["--dry-run"]).expect(0);
    database.sandbox.write(".pg_service.conf", "[assistant]\nhots=x\n");
    let run = database.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("the service `assistant` cannot be used: its keyword `hots` is not"), "{run:?}");
    assert!(run.stderr.contains("did you mean `host`?"), "{run:?}");
    database.sandbox.write(".pg_service.conf", "[assistant]\nsslkey=hidden\n");
    let run = database.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("its keyword `sslkey` is not supported") && !run.stderr.contains("hidden"), "{run:?}");
}

#[test]
fn the_environment_says_what_nothing_else_does() {
    let database = database();
    database.policy(&registry("application_name=plans"));
    let mut command = database.command(&["--dry-run"]);
    command.env("PGHOST", server().socket()).env("PGPORT", server().port.to_string());
    command.env("PGDATABASE", &database.name).env("PGUSER", "postgres");
    assert_eq!(crate::support::finish(&mut command).code, 0);
    // What is said in words wins.
    database.policy(&registry("dbname=nowhere"));
    let run = crate::support::finish(&mut command).expect(1);
    assert!(run.stderr.contains("database \"nowhere\" does not exist"), "{run:?}");
}

/// A role with a password, for which the server asks on the loopback interface.
fn role_with_password(database: &Database) -> String {
    let role = format!("login_{}", database.name);
    database
        .execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'it''s: \\secret'; GRANT SELECT ON sessions TO {role}"));
    let rules = server().data().join("pg_hba.conf");
    let said = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(rules, format!("host {} {role} 127.0.0.1/32 scram-sha-256\n{said}", database.name)).unwrap();
    database.execute("SELECT pg_reload_conf()");
    role
}

#[test]
fn a_password_comes_from_the_password_file_or_the_environment_and_is_in_no_message() {
    let database = database();
    let role = role_with_password(&database);
    let (port, name) = (server().port, &database.name);
    database.policy(&registry(&format!("host=127.0.0.1 port={port} dbname={name} user={role} sslmode=disable")));
    // The server reads its rules anew when it sees fit.
    let refused = || database.run(&["--dry-run"]).code == 1;
    while !refused() {
        thread::yield_now();
    }
    database
        .sandbox
        .write(".pgpass", format!("127.0.0.1:1:{name}:{role}:wrong\n127.0.0.1:*:{name}:{role}:it's\\: \\\\secret\n"));
    let run = database.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("others can read the password file"), "{run:?}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(database.sandbox.path(".pgpass"), mode).unwrap();
    database.run(&["--dry-run"]).expect(0);
    let run = crate::support::finish(database.command(&["--dry-run"]).env("PGPASSWORD", "hunter2")).expect(1);
    assert!(run.stderr.contains("password authentication failed"), "{run:?}");
    assert!(run.stderr.contains("PGPASSWORD or ~/.pgpass") && !run.stderr.contains("hunter2"), "{run:?}");
    let uri = format!("postgresql://{role}:it's%3A%20%5Csecret@127.0.0.1:{port}/{name}?sslmode=disable");
    let run = crate::support::finish(database.command(&["--dry-run"]).env("RECONCILE_POSTGRES", uri));
    assert_eq!(run.code, 0, "{run:?}");
}

/// What a server is sent that the policy chose, by the time that the program has ended.
fn sent(policy: impl Fn(u16) -> String, arguments: &[&str]) -> (Vec<u8>, crate::support::Run) {
    let database = database();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    database.policy(&registry(&policy(port)));
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut bytes = Vec::new();
        let _ = connection.read_to_end(&mut bytes);
        let _ = tell.send(bytes);
    });
    let run = crate::support::finish(database.command(arguments).env("PGPASSWORD", "hunter2").env("PGUSER", "alice"));
    (told.try_recv().unwrap_or_default(), run)
}

#[test]
fn nothing_is_sent_to_a_server_that_a_policy_names_elsewhere() {
    // The name leads to this host, which the program must not find out by asking for it.
    for address in [
        "host=elsewhere.example hostaddr=127.0.0.1 sslmode=disable",
        "host=elsewhere.example hostaddr=192.0.2.1",
        "host=elsewhere.example",
        "host=localhost,192.0.2.1",
    ] {
        let (bytes, run) = sent(|port| format!("{address} port={port}"), &["--dry-run"]);
        assert_eq!((bytes, run.code), (Vec::new(), 1), "{address}: {run:?}");
        assert!(run.stderr.contains("its server is not on this host"), "{run:?}");
        assert!(run.stderr.contains("RECONCILE_POSTGRES"), "{run:?}");
    }
    let (bytes, run) = sent(|port| format!("host=127.0.0.1 port={port} sslmode=disable"), &["--dry-run"]);
    assert!(!bytes.is_empty(), "the listener hears nothing at all: {run:?}");
}

#[test]
fn without_a_host_nothing_is_sent_to_a_socket_that_any_user_may_have_made() {
    let database = database();
    let port = crate::server::free_port();
    let path = format!("/tmp/.s.PGSQL.{port}");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    database.policy(&registry(&format!("port={port}")));
    let run = database.run(&["--dry-run"]);
    let heard = listener.accept().map(drop).map_err(|error| error.kind());
    std::fs::remove_file(path).unwrap();
    assert_eq!((heard, run.code), (Err(std::io::ErrorKind::WouldBlock), 1), "{run:?}");
    assert!(run.stderr.contains(&format!("cannot connect to /var/run/postgresql:{port}")), "{run:?}");
}

#[test]
fn a_policy_does_not_weaken_a_connection_that_a_host_describes() {
    let database = database();
    database.sandbox.write(".pg_service.conf", "[assistant]\nhost=192.0.2.1\n");
    for weaker in ["sslmode=disable", "sslrootcert=mine.crt", "passfile=mine", "port=1"] {
        database.policy(&registry(&format!("service=assistant {weaker}")));
        let run = database.run(&["--dry-run"]).expect(1);
        assert!(run.stderr.contains("its server is not on this host"), "{weaker}: {run:?}");
    }
}

#[test]
fn a_connection_that_is_no_socket_is_encrypted_unless_that_is_ruled_out_in_words() {
    let (port, database) = (server().port, database());
    let name = &database.name;
    for mode in ["", "sslmode=prefer", "sslmode=allow", "sslmode=require", "sslmode=verify-full"] {
        database.policy(&registry(&format!("host=127.0.0.1 port={port} dbname={name} user=postgres {mode}")));
        let run = database.run(&["--dry-run"]).expect(1);
        assert!(run.stderr.contains("does not support tls"), "{mode}: {run:?}");
        assert!(run.stderr.contains("hint: the server is on this host: sslmode=disable"), "{mode}: {run:?}");
    }
    database.policy(&registry(&format!("host=127.0.0.1 port={port} dbname={name} user=postgres sslmode=disable")));
    database.run(&["--dry-run"]).expect(0);
}

#[test]
fn what_is_wrong_with_a_connection_is_told_in_words() {
    let database = database();
    for (address, part) in [
        ("host=/nowhere", "cannot connect to /nowhere:5432: no such file or directory"),
        ("host=/a,/b", "cannot connect to /a:5432: no such file or directory; cannot connect to /b:5432"),
        ("host=/a port=1,2", "there are 1 hosts and 2 ports for them"),
        ("host=/a port=many", "`port` of the connection is not a valid number"),
        ("host=127.0.0.1 sslmode=off", "`sslmode` has a value that is not supported"),
        ("host=127.0.0.1 sslrootcert=nothing.crt", "nothing.crt is not a file of root certificates"),
    ] {
        database.policy(&registry(address));
        let run = database.run(&["--dry-run"]).expect(1);
        assert!(run.stderr.contains(part), "{address}: {run:?}");
    }
}

#[test]
fn a_password_is_shown_by_no_mistake_of_the_policy_and_by_no_advice() {
    let database = database();
    database.make_schema();
    let columns = "columns = { chat_id = \"id\", model = \"model\" }";
    for sections in [
        "[registry]\npostgres = \"host=/x password=hunter2\ntable = \"t\"\n".to_owned(),
        "[registry]\npostgres = [\"host=/x password=hunter2\"]\ntable = \"t\"\n".to_owned(),
        "[registry]\npostgress = \"postgres://alice:hunter2@db/x\"\n".to_owned(),
        "[registry]\npostgres = { password = \"hunter2\" }\n".to_owned(),
        format!("[a]\n[registry]\npostgres = \"password=hunter2\"\ntable = 5\n{columns}\n"),
    ] {
        database.policy(&sections);
        let run = database.run(&["--dry-run"]).expect(1);
        assert!(!run.stderr.contains("hunter2"), "{run:?}");
        assert!(run.stderr.contains("it may hold a password"), "{run:?}");
    }
    let inline = format!("registry = {{ postgres = \"host=/x password=hunter2\", tabel = \"t\", {columns} }}\n");
    database.sandbox.write("policy.toml", format!("{inline}{}", crate::database::MODELS));
    let run = database.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("did you mean `table`?") && !run.stderr.contains("hunter2"), "{run:?}");

    database.policy(&format!("[limits]\nmax_changes = 0\n{}", registry("service=assistant")));
    let address = format!("{} password=hunter2", database.address());
    let run = database.run(&["--connect", &address]).expect(3);
    assert!(
        run.stderr.contains("to allow so many changes, pass: --allow-changes 1") && !run.stderr.contains("hunter2"),
        "{run:?}"
    );
}
