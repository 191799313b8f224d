//! A standby: it can be planned on, and says how old what it shows is.

use crate::database::{COLUMNS, Database, TABLE};
use crate::server::Server;

#[test]
fn a_standby_is_planned_on_says_how_old_it_is_and_is_never_written_to() {
    let primary = Server::start();
    let database = Database::on(&primary, TABLE);
    database.execute("INSERT INTO sessions (id, tier, model) VALUES ('+1', 'family', 'opus'), ('+2', 'bots', 'opus')");
    database.make_schema();
    database.policy(&database.registry(COLUMNS));
    let standby = primary.start_standby();
    let address = format!("{} dbname={} user=postgres", standby.address(), database.name);

    let run = database.run(&["--dry-run", "--connect", &address]).expect(0);
    assert!(run.summary().starts_with("Plan: 2 to change"), "{run:?}");
    assert!(run.stderr.contains("note: the server is a standby: the newest transaction that it shows "), "{run:?}");

    // What it has seen of the primary is old from then on.
    let mut behind = standby.connect(&database.name).unwrap();
    database.execute("UPDATE sessions SET model = 'haiku' WHERE id = '+2'");
    while behind.query_one("SELECT model FROM sessions WHERE id = '+2'", &[]).unwrap().get::<_, &str>(0) != "haiku" {}
    behind.execute("SELECT pg_wal_replay_pause()", &[]).unwrap();
    while behind.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).unwrap().get::<_, &str>(0) != "paused" {}
    database.execute("UPDATE sessions SET model = 'sonnet' WHERE id = '+1'");
    let run = database.run(&["--dry-run", "--connect", &address]).expect(0);
    assert!(run.summary().starts_with("Plan: 1 to change"), "{run:?}");
    let (_, said) = run.stderr.split_once("the newest transaction that it shows was committed ").unwrap();
    let (seconds, _) = said.split_once(" s ago\n").unwrap();
    assert!(seconds.parse::<u64>().is_ok(), "{run:?}");

    let doctor = database.run(&["doctor", "--connect", &address]).expect(1);
    assert!(doctor.stdout.contains("the newest transaction that it shows was committed "), "{doctor:?}");
    let run = database.run(&["--connect", &address]).expect(1);
    assert!(run.stderr.contains("models cannot be written: the server is a standby, which only reads"), "{run:?}");
    assert!(run.stderr.contains("hint: name the primary server"), "{run:?}");
    let run = database.run(&["--dry-run"]).expect(0);
    assert!(!run.stderr.contains("standby"), "{run:?}");
}
