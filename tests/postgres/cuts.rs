//! Connections that are cut anywhere: a proxy counts the bytes of a run, and cuts at one of them. The seed of the moments is
//! shown; to have the same ones again, set SEED to it. CUTS says how many there are of each kind.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::database::{COLUMNS, Database};
use crate::server::{Server, server};
use crate::stopped::{Stop, restart};
use crate::support::Run;

/// What the client sends, and what the server answers.
const DIRECTIONS: usize = 2;
/// So many cuts of each kind, where CUTS does not say it.
const FEW: usize = 20;

/// What went through at once: so many bytes of a direction, after those.
#[derive(Clone, Copy, Debug)]
struct Part {
    direction: usize,
    before: usize,
    length: usize,
}

/// A moment of a run: so many bytes of a direction have gone through.
#[derive(Clone, Copy, Debug)]
struct Moment {
    direction: usize,
    bytes: usize,
}

/// What happens at a moment, beside that the connection is cut there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: the next connection goes through.
    Cut,
    /// No further connection is taken.
    Gone,
    /// The server is stopped at once, and started again.
    Stopped,
}

/// A proxy before a server.
struct Proxy {
    socket: PathBuf,
    cut: Option<(Moment, Kind)>,
    seen: [AtomicUsize; DIRECTIONS],
    parts: Mutex<Vec<Part>>,
    is_gone: AtomicBool,
    /// Whether the run is over, so that nothing may happen any more.
    is_over: Mutex<bool>,
    /// Stops the server, and starts it again.
    restart: Box<dyn Fn() + Send + Sync>,
}

impl Proxy {
    fn new(server: &Server, cut: Option<(Moment, Kind)>) -> Arc<Self> {
        let socket = server.socket().join(format!(".s.PGSQL.{}", server.port));
        let restart = Box::new(restart(server));
        Arc::new(Self {
            socket,
            cut,
            seen: Default::default(),
            parts: Mutex::default(),
            is_gone: false.into(),
            is_over: false.into(),
            restart,
        })
    }

    /// Takes connections, and returns at which port.
    fn start(self: &Arc<Self>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Arc::clone(self);
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(behind) = UnixStream::connect(&proxy.socket) else { continue };
                if proxy.is_gone.load(Ordering::SeqCst) {
                    continue;
                }
                let (requests, answers) = (client.try_clone().unwrap(), behind.try_clone().unwrap());
                proxy.forward(0, requests, behind.try_clone().unwrap(), ends(&client, &behind));
                proxy.forward(1, answers, client.try_clone().unwrap(), ends(&client, &behind));
            }
        });
        port
    }

    fn forward(
        self: &Arc<Self>,
        direction: usize,
        mut from: impl Read + Send + 'static,
        mut to: impl Write + Send + 'static,
        end: impl Fn() + Send + 'static,
    ) {
        let proxy = Arc::clone(self);
        thread::spawn(move || {
            let mut bytes = [0; 1 << 14];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let before = proxy.seen[direction].fetch_add(count, Ordering::SeqCst);
                proxy.parts.lock().unwrap().push(Part { direction, before, length: count });
                let here = proxy.cut.filter(|(at, _)| at.direction == direction);
                let here = here.filter(|(at, _)| (before..before + count).contains(&at.bytes));
                let length = here.map_or(count, |(at, _)| at.bytes - before);
                if to.write_all(&bytes[..length]).is_err() {
                    break;
                }
                if let Some((_, kind)) = here {
                    proxy.is_gone.store(kind == Kind::Gone, Ordering::SeqCst);
                    let is_over = proxy.is_over.lock().unwrap();
                    if kind == Kind::Stopped && !*is_over {
                        (proxy.restart)();
                    }
                    break;
                }
            }
            end();
        });
    }

    /// What has gone through it.
    fn parts(&self) -> Vec<Part> {
        self.parts.lock().unwrap().clone()
    }
}

/// Ends a connection, and the one behind it.
fn ends(client: &TcpStream, behind: &UnixStream) -> impl Fn() + Send + 'static {
    let (client, behind) = (client.try_clone().unwrap(), behind.try_clone().unwrap());
    move || {
        let _ = client.shutdown(Shutdown::Both);
        let _ = behind.shutdown(Shutdown::Both);
    }
}

/// Numbers that only a seed decides.
struct Moments {
    state: u64,
}

impl Moments {
    fn new() -> Self {
        let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
        let _ = writeln!(std::io::stderr(), "the moments are those of SEED={seed}");
        Self { state: seed }
    }

    /// A number below this one.
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    /// A moment of one of these, long or short: a COMMIT and its answer have a few bytes.
    fn within(&mut self, parts: &[Part]) -> Moment {
        let Part { direction, before, length } = parts[self.below(parts.len())];
        Moment { direction, bytes: before + self.below(length) }
    }
}

fn cuts() -> usize {
    std::env::var("CUTS").map_or(FEW, |cuts| cuts.parse().unwrap())
}

/// A table in a database, on which runs are cut.
struct Trials<'s> {
    server: &'s Server,
    database: Database,
}

impl<'s> Trials<'s> {
    fn on(server: &'s Server) -> Self {
        let database = Database::on(server, crate::database::TABLE);
        database.make_schema();
        database.execute(
            "CREATE TABLE log (id text, model text);
             CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO log VALUES (NEW.id, NEW.model); RETURN NEW; END';
             CREATE TRIGGER t AFTER UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION log()",
        );
        database.sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID $RECONCILE_MODEL\" >> calls");
        database.sandbox.script("show", r#"printf '%s\n' "$@""#);
        let sections = "[sessions]\nrestart = [\"./restart\"]\nparallel = 1\n[limits]\nmax_changes = 100\nbatch = 2\n";
        database.policy(&format!("{sections}{}", database.registry(COLUMNS)));
        Self { server, database }
    }

    /// Makes everything as it was before the first of them.
    fn begin_again(&self) {
        let _ = std::fs::remove_file(self.database.sandbox.path("calls"));
        self.database.reconnect(self.server);
        self.database.execute(
            "TRUNCATE sessions, log, reconcile.registry, reconcile.memory, reconcile.run, reconcile.chat;
             INSERT INTO sessions (id, tier, model) VALUES ('+1', 'family', 'opus'), ('+2', 'family', 'opus'),
                 ('+3', 'bots', 'opus'), ('+4', 'family', 'opus'), ('+5', 'bots', NULL)",
        );
    }

    /// Runs a command through a proxy that cuts there. Returns what has gone through.
    fn run(&self, cut: Option<(Moment, Kind)>, arguments: &[&str]) -> (Run, Vec<Part>) {
        self.begin_again();
        let proxy = Proxy::new(self.server, cut);
        let port = proxy.start();
        let address = format!("host=127.0.0.1 port={port} dbname={} user=postgres sslmode=disable", self.database.name);
        let mut command = self.database.command(arguments);
        let run = crate::support::finish(command.env("RECONCILE_POSTGRES", address));
        *proxy.is_over.lock().unwrap() = true;
        self.database.reconnect(self.server);
        (run, proxy.parts())
    }

    fn log(&self) -> Vec<String> {
        self.database.texts("SELECT id || ' ' || model FROM log ORDER BY 1")
    }

    fn owed(&self) -> Vec<String> {
        self.database.texts("SELECT key FROM reconcile.memory WHERE kind = 'owed'")
    }

    /// The edits that the history tells of.
    fn told(&self) -> Vec<String> {
        self.database.texts(
            "SELECT row ->> 'chat_id' FROM reconcile.run, json_array_elements(run -> 'changes') AS row
             WHERE (row ->> 'edit')::boolean ORDER BY 1",
        )
    }

    /// Applies the policy where this is cut, and once more. Returns how the first run ended.
    fn apply(&self, cut: (Moment, Kind)) -> i32 {
        let (run, _) = self.run(Some(cut), &[]);
        let story = format!("{cut:?}: {run:?}");
        match run.code {
            0 => assert_eq!(self.log(), CHANGED, "{story}"),
            1 => assert_eq!((self.log().len(), self.owed().len(), self.told().len()), (0, 0, 0), "{story}"),
            4 => {}
            _ => panic!("{story}"),
        }
        // What holds the registry may be a run that is gone.
        self.database.execute("UPDATE reconcile.registry SET held_until = now() - interval '1 s'");
        let again = self.database.run(&["--lock-timeout", "5s", "--retry-failed"]).expect(0);
        let story = format!("{story}, then {again:?}");
        assert_eq!(self.log(), CHANGED, "{story}");
        assert_eq!(self.owed(), [] as [&str; 0], "{story}");
        assert_eq!(self.told(), ["+1", "+2", "+3", "+4", "+5"], "{story}");
        // A restart whose success could not be noted is made again.
        let calls: BTreeSet<String> = self.database.sandbox.calls().into_iter().collect();
        assert_eq!(calls.into_iter().collect::<Vec<_>>(), CHANGED, "{story}");
        run.code
    }

    /// Starts a session where this is cut, and once more.
    fn launch(&self, cut: (Moment, Kind)) {
        let arguments = ["launch", "+1", "--", "./show", "{model}"];
        let (run, _) = self.run(Some(cut), &arguments);
        let story = format!("{cut:?}: {run:?}");
        assert!([0, 1, 4].contains(&run.code), "{story}");
        let again = self.database.run(&arguments).expect(0);
        let story = format!("{story}, then {again:?}");
        assert_eq!(again.stdout, "sonnet\n", "{story}");
        assert_eq!(self.log(), ["+1 sonnet"], "{story}");
        assert_eq!(self.owed(), [] as [&str; 0], "{story}");
        assert_eq!(self.told(), ["+1"], "{story}");
    }
}

const CHANGED: [&str; 5] = ["+1 sonnet", "+2 sonnet", "+3 haiku", "+4 sonnet", "+5 haiku"];

#[test]
fn wherever_a_run_is_cut_every_row_is_changed_once_and_in_the_history_once() {
    let (trials, mut moments) = (Trials::on(server()), Moments::new());
    let (run, whole) = trials.run(None, &[]);
    assert_eq!((run.code, trials.log()), (0, CHANGED.map(str::to_owned).into()), "{run:?}");
    for kind in [Kind::Cut, Kind::Gone] {
        let codes: BTreeSet<i32> = (0..cuts()).map(|_| trials.apply((moments.within(&whole), kind))).collect();
        assert!(codes.len() > 1, "{kind:?}: all of them ended with {codes:?}");
    }
}

#[test]
fn wherever_a_launch_is_cut_its_row_is_changed_once_and_in_the_history_once() {
    let (trials, mut moments) = (Trials::on(server()), Moments::new());
    trials.database.policy(&trials.database.registry(COLUMNS));
    let (run, whole) = trials.run(None, &["launch", "+1", "--", "./show", "{model}"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "sonnet\n"), "{run:?}");
    for kind in [Kind::Cut, Kind::Gone] {
        for _ in 0..cuts() {
            trials.launch((moments.within(&whole), kind));
        }
    }
}

#[test]
fn whenever_the_server_is_stopped_every_row_is_changed_once_and_in_the_history_once() {
    let server = Server::start();
    let _stop = Stop::of(&server);
    server.connect("postgres").unwrap().batch_execute("ALTER SYSTEM SET synchronous_commit = on").unwrap();
    restart(&server)();
    let (trials, mut moments) = (Trials::on(&server), Moments::new());
    let (_, whole) = trials.run(None, &[]);
    for _ in 0..cuts() / 3 {
        trials.apply((moments.within(&whole), Kind::Stopped));
    }
}
