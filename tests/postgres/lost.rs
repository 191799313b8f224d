//! Connections that are lost: a proxy cuts one at a chosen message, and the next one goes through.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::database::{COLUMNS, Database};
use crate::server::server;
use crate::support::Run;

/// When a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Before the server is sent the message.
    Before,
    /// When the server has answered it, before the client is told.
    After,
    /// Before the server is sent the message, with an error on a connection that stays open, as a pooler may do it.
    ErrorBefore,
    /// When the server has answered, with an error instead of the answer on a connection that stays open.
    ErrorAfter,
    /// Before the server is sent the message, and no further connection is taken.
    GoneBefore,
    /// When the server has answered it, and no further connection is taken.
    GoneAfter,
    /// Before the server is sent the message, which reaches it when it has refused a lock to other connections so many times.
    Late(usize),
}

impl Cut {
    fn is_committed(self) -> bool {
        matches!(self, Self::After | Self::ErrorAfter | Self::GoneAfter | Self::Late(_))
    }

    fn is_last(self) -> bool {
        matches!(self, Self::GoneBefore | Self::GoneAfter)
    }

    fn stays_open(self) -> bool {
        matches!(self, Self::ErrorBefore | Self::ErrorAfter)
    }
}

/// What a pooler says of a connection behind it that is gone.
const FATAL: &[u8] = b"E\0\0\0\x30SFATAL\0VFATAL\0C08P01\0Mserver conn crashed?\0\0";

/// The code in an answer of the server that refuses a lock.
const REFUSED: &[u8] = b"C55P03\0";

/// What a proxy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Commits of transactions that write.
    Commits,
    /// Everything that the client sends.
    Requests,
}

/// A proxy before the server that cuts the connection at the commit, or the request, of this number. Returns its port, and how
/// many of them it has seen.
pub fn proxy(counted: Counted, number: usize, cut: Cut) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&seen);
    let refused = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for client in listener.incoming() {
            if cut.is_last() && seen.load(Ordering::SeqCst) >= number {
                continue;
            }
            let socket = server().socket().join(format!(".s.PGSQL.{}", server().port));
            let (client, behind, seen) = (client.unwrap(), UnixStream::connect(socket).unwrap(), Arc::clone(&seen));
            let refused = Arc::clone(&refused);
            thread::spawn(move || forward(&client, &behind, (counted, number), cut, &seen, &refused));
        }
    });
    (port, told)
}

fn forward(
    client: &TcpStream,
    behind: &UnixStream,
    at: (Counted, usize),
    cut: Cut,
    seen: &AtomicUsize,
    refused: &Arc<AtomicUsize>,
) {
    let (counted, number) = at;
    let (mut requests, mut answers) = (client.try_clone().unwrap(), client.try_clone().unwrap());
    let (mut to, mut from) = (behind.try_clone().unwrap(), behind.try_clone().unwrap());
    let mut to_client = client.try_clone().unwrap();
    let is_cut = Arc::new(AtomicUsize::new(0));
    let (told, refusals) = (Arc::clone(&is_cut), Arc::clone(refused));
    let back = thread::spawn(move || {
        let mut bytes = [0; 1 << 14];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if bytes[..count].windows(REFUSED.len()).any(|window| window == REFUSED) {
                refusals.fetch_add(1, Ordering::SeqCst);
            }
            if told.load(Ordering::SeqCst) == 1 {
                if cut == Cut::ErrorAfter {
                    let _ = answers.write_all(FATAL);
                    return;
                }
                break;
            }
            if answers.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        if told.load(Ordering::SeqCst) == 0 || !cut.stays_open() {
            let _ = answers.shutdown(Shutdown::Both);
        }
    });
    let (mut bytes, mut writes) = ([0; 1 << 14], false);
    while let Ok(count @ 1..) = requests.read(&mut bytes) {
        let has = |text: &str| bytes[..count].windows(text.len()).any(|window| window == text.as_bytes());
        writes = !has("REPEATABLE READ") && (writes || has("READ COMMITTED"));
        let counts = counted == Counted::Requests || (writes && has("COMMIT\0"));
        if counts && seen.fetch_add(1, Ordering::SeqCst) + 1 == number {
            match cut {
                Cut::Before | Cut::GoneBefore => break,
                Cut::ErrorBefore => {
                    is_cut.store(1, Ordering::SeqCst);
                    behind.shutdown(Shutdown::Both).unwrap();
                    let _ = to_client.write_all(FATAL);
                    // Nothing more is answered.
                    while let Ok(1..) = requests.read(&mut bytes) {}
                    return;
                }
                Cut::After | Cut::ErrorAfter | Cut::GoneAfter => is_cut.store(1, Ordering::SeqCst),
                Cut::Late(times) => {
                    let _ = client.shutdown(Shutdown::Both);
                    while refused.load(Ordering::SeqCst) < times {
                        thread::yield_now();
                    }
                }
            }
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = behind.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    back.join().unwrap();
}

/// More commits than a run here has.
const COMMITS: usize = 60;
/// More requests than a run here sends.
const REQUESTS: usize = 1000;
/// Every so many requests one is cut. It has no divisor in common with the length of a transaction.
const STEP: usize = 7;

/// The edits that the history tells of.
fn told(database: &Database) -> Vec<String> {
    database.texts(
        "SELECT row ->> 'chat_id' FROM reconcile.run, json_array_elements(run -> 'changes') AS row
         WHERE (row ->> 'edit')::boolean ORDER BY 1",
    )
}

/// Runs where this is cut, and once more. Returns how the first run ended; `None` where nothing was cut.
fn cut_once(counted: Counted, number: usize, cut: Cut) -> Option<i32> {
    let database = Database::with_sessions(&[("+1", "family", "opus"), ("+2", "bots", "opus")]);
    database.make_schema();
    database.sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID $RECONCILE_MODEL\" >> calls");
    database.execute(
        "CREATE TABLE log (id text, model text);
         CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO log VALUES (NEW.id, NEW.model); RETURN NEW; END';
         CREATE TRIGGER t AFTER UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION log()",
    );
    let restart =
        "[sessions]\nrestart = [\"./restart\"]\nparallel = 1\n[rollout]\ncanary = false\n[limits]\nmax_changes = 100\n";
    database.policy(&format!("{restart}{}", database.registry(COLUMNS)));
    let (port, seen) = proxy(counted, number, cut);
    let address = format!("host=127.0.0.1 port={port} dbname={} user=postgres sslmode=disable", database.name);
    let run = database.run(&["--connect", &address]);
    if seen.load(Ordering::SeqCst) < number {
        return None;
    }
    let story = format!("{counted:?} {cut:?} {number}: {run:?}");
    // The next run finishes it, committed or not. What holds the registry may be a run that is gone.
    database.execute("UPDATE reconcile.registry SET held_until = now() - interval '1 s'");
    database.run(&["--lock-timeout", "5s"]).expect(0);
    assert_eq!(database.texts("SELECT id || model FROM log ORDER BY 1"), ["+1sonnet", "+2haiku"], "{story}");
    assert_eq!(database.texts("SELECT key FROM reconcile.memory WHERE kind = 'owed'"), [] as [&str; 0], "{story}");
    assert_eq!(told(&database), ["+1", "+2"], "{story}");
    // A restart whose success could not be noted is made again.
    let calls: std::collections::BTreeSet<String> = database.sandbox.calls().into_iter().collect();
    assert_eq!(calls, ["+1 sonnet".to_owned(), "+2 haiku".to_owned()].into(), "{story}");
    Some(run.code)
}

#[test]
fn whichever_commit_is_lost_every_row_is_changed_once_owed_once_and_in_the_history_once() {
    for cut in [Cut::Before, Cut::After, Cut::ErrorBefore, Cut::ErrorAfter] {
        let codes: Vec<i32> = (1..COMMITS).map_while(|number| cut_once(Counted::Commits, number, cut)).collect();
        assert!(codes.len() > 5, "only {} commits were lost", codes.len());
        // The answer is asked for.
        let allowed: &[i32] = if cut.is_committed() { &[0] } else { &[0, 1, 4] };
        assert!(codes.iter().all(|code| allowed.contains(code)), "{cut:?}: {codes:?}");
    }
}

#[test]
fn wherever_a_connection_is_cut_every_row_is_changed_once_owed_once_and_in_the_history_once() {
    for cut in [Cut::Before, Cut::After] {
        let numbers = (1..REQUESTS).step_by(STEP);
        let codes: Vec<i32> = numbers.map_while(|number| cut_once(Counted::Requests, number, cut)).collect();
        assert!(codes.len() > 5, "only {} connections were cut", codes.len());
        assert!(codes.iter().all(|code| [0, 1, 4].contains(code)), "{cut:?}: {codes:?}");
    }
}

/// Starts a session over a connection that is cut there, and once more over a whole one. Returns the first start; `None` where
/// nothing was cut.
fn cut_a_launch(number: usize, cut: Cut) -> Option<Run> {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.make_schema();
    let (port, seen) = proxy(Counted::Commits, number, cut);
    let address = format!("host=127.0.0.1 port={port} dbname={} user=postgres sslmode=disable", database.name);
    let launch = ["launch", "+1", "--", "echo", "{model}"];
    let run = crate::support::finish(database.command(&launch).env("RECONCILE_POSTGRES", address));
    if seen.load(Ordering::SeqCst) < number {
        return None;
    }
    // A lost transaction has ended by then.
    database.execute("SELECT FROM reconcile.registry FOR UPDATE");
    let is_changed = database.texts("SELECT model FROM sessions") == ["sonnet"];
    assert_eq!(is_changed, cut.is_committed() || !cut.is_last(), "{cut:?} {number}: {run:?}");
    let again = database.run(&launch).expect(0);
    let story = format!("{cut:?} {number}: {run:?}, then {again:?}");
    assert_eq!(again.stdout, "sonnet\n", "{story}");
    assert_eq!(database.texts("SELECT model FROM sessions"), ["sonnet"], "{story}");
    assert_eq!(database.texts("SELECT key FROM reconcile.memory WHERE kind = 'owed'"), [] as [&str; 0], "{story}");
    assert_eq!(told(&database), ["+1"], "{story}");
    Some(run)
}

#[test]
fn a_launch_whose_commit_is_lost_asks_what_became_of_it_and_starts_the_session() {
    for cut in [Cut::Before, Cut::After, Cut::ErrorBefore, Cut::ErrorAfter, Cut::Late(1)] {
        let runs: Vec<Run> = (1..COMMITS).map_while(|number| cut_a_launch(number, cut)).collect();
        assert!(!runs.is_empty(), "{cut:?}: nothing was cut");
        for run in runs {
            assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "sonnet\n", ""), "{cut:?}: {run:?}");
        }
    }
}

#[test]
fn a_launch_that_cannot_ask_starts_the_session_on_what_it_decided_and_says_so() {
    for cut in [Cut::GoneBefore, Cut::GoneAfter, Cut::Late(3)] {
        let run = cut_a_launch(1, cut).unwrap();
        assert_eq!((run.code, run.stdout.as_str()), (0, "sonnet\n"), "{cut:?}: {run:?}");
        assert!(run.stderr.starts_with("warning: it is not known whether the changes were committed: "), "{run:?}");
    }
}

#[test]
fn a_launch_whose_commit_is_lost_owes_a_restart_where_its_session_does_not_start() {
    for cut in [Cut::Before, Cut::After, Cut::Late(1)] {
        let database = Database::with_sessions(&[("+1", "family", "opus")]);
        database.make_schema();
        let (port, _) = proxy(Counted::Commits, 1, cut);
        let address = format!("host=127.0.0.1 port={port} dbname={} user=postgres sslmode=disable", database.name);
        let run = database.run(&["launch", "+1", "--connect", &address, "--", "/nowhere/session"]);
        assert_eq!(run.code, 4, "{cut:?}: {run:?}");
        let owed = database.texts("SELECT key FROM reconcile.memory WHERE kind = 'owed'");
        assert_eq!(owed, ["+1"], "{cut:?}: {run:?}");
        assert_eq!(database.texts("SELECT model FROM sessions"), ["sonnet"], "{cut:?}: {run:?}");
    }
}

/// Records the conversation of a session over a connection whose commit is cut like this.
fn cut_a_record(cut: Cut) -> Run {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.execute("ALTER TABLE sessions ADD session_id text");
    database.make_schema();
    database.policy(&database.registry(&format!("{COLUMNS}session_id = \"session_id\"\n")));
    let (port, _) = proxy(Counted::Commits, 1, cut);
    let address = format!("host=127.0.0.1 port={port} dbname={} user=postgres sslmode=disable", database.name);
    let run = database.run(&["record-session", "+1", "0c7e6a52", "--connect", &address]);
    assert_eq!(database.texts("SELECT session_id FROM sessions"), ["0c7e6a52"], "{cut:?}: {run:?}");
    run
}

#[test]
fn a_conversation_whose_commit_is_lost_is_recorded() {
    for cut in [Cut::Before, Cut::After, Cut::Late(1)] {
        let run = cut_a_record(cut).expect(0);
        assert_eq!(run.stderr, "note: +1 resumes 0c7e6a52 when it next starts\n", "{cut:?}: {run:?}");
    }
}

#[test]
fn a_conversation_whose_commit_cannot_be_asked_about_may_not_be_recorded() {
    let run = cut_a_record(Cut::GoneAfter).expect(4);
    assert!(run.stderr.contains("error[commit-unknown]: "), "{run:?}");
}
