//! Through `PgBouncer` in transaction mode: each transaction may go over another connection to the server.

use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::database::{COLUMNS, Database};
use crate::server::{as_unprivileged, free_port, program, server, watched};

#[test]
fn runs_at_once_through_two_connections_of_a_pooler_change_each_row_once() {
    let directory = server().socket().join("pooler");
    fs::create_dir(&directory).unwrap();
    let (port, behind) = (free_port(), server());
    let users = directory.join("users");
    fs::write(&users, "\"postgres\" \"\"\n").unwrap();
    let settings = format!(
        "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 2\n",
        behind.socket().display(),
        behind.port,
        users.display()
    );
    fs::write(directory.join("pgbouncer.ini"), settings).unwrap();
    let mut pooler = as_unprivileged(rustix::process::geteuid().is_root(), &program("pgbouncer"));
    let mut pooler = watched(pooler.arg(directory.join("pgbouncer.ini")), &directory);
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        assert!(begun.elapsed() < Duration::from_secs(60), "{log}");
        thread::yield_now();
    }

    let database = Database::with_sessions(&[]);
    database.make_schema();
    database.execute(
        "INSERT INTO sessions SELECT id::text, 'opus', 'family' FROM generate_series(1, 500) AS id;
         CREATE TABLE log (id text);
         CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END';
         CREATE TRIGGER t AFTER UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION log()",
    );
    database.policy(&format!("[limits]\nmax_changes = 1000\n{}", database.registry(COLUMNS)));
    let address = format!("host=127.0.0.1 port={port} dbname={} user=postgres sslmode=disable", database.name);
    let run = || {
        let mut command = database.command(&["--connect", &address, "--lock-timeout", "60s"]);
        thread::spawn(move || crate::support::finish(&mut command))
    };
    let runs: Vec<_> = (0..8).map(|_| run()).collect();
    for run in runs {
        run.join().unwrap().expect(0);
    }
    assert_eq!(database.texts("SELECT count(*) || ' ' || count(DISTINCT id) FROM log"), ["500 500"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.run"), ["1"]);
    assert_eq!(database.texts("SELECT count(*) FROM reconcile.registry WHERE holder IS NOT NULL"), ["0"]);
    drop(pooler.stdin.take());
    pooler.wait().unwrap();
}
