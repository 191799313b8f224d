//! How long plans and applies on tables take, beside what the server itself takes: the figures of `docs/performance.md`. Nothing
//! is asserted of them.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::database::{COLUMNS, Database};
use crate::server::server;

/// So many sessions, unless the variable `SESSIONS` says how many: numbers with commas between them.
const SESSIONS: &str = "10000,1000000";
const ROUNDS: usize = 5;
/// A registry of more is not written as a file as well.
const LARGEST_FILE: usize = 1_000_000;

/// Six tiers, three rules, an alias and fifty overrides.
const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "sonnet"
aliases  = { claude-opus = "opus" }
[limits]
max_changes = 1000000
[tiers]
admin   = "opus"
work    = "opus"
family  = "sonnet"
friends = "sonnet"
bots    = "haiku"
guests  = "haiku"
[[rules]]
chat   = "+16170*"
source = "discord"
model  = "haiku"
[[rules]]
tier   = "work"
source = "signal"
model  = "sonnet"
[[rules]]
chat   = "*77"
type   = "group"
model  = "haiku"
"#;

/// Sessions with as much text besides as those of an assistant have, on the models that the policy decides.
const TABLE: &str = "
    CREATE TABLE sessions (id text PRIMARY KEY, model text, tier text, source text, kind text, name text, notes text);
    INSERT INTO sessions
        SELECT id, CASE WHEN n <= 50 THEN 'opus'
                        WHEN source = 'discord' AND id LIKE '+16170%' THEN 'haiku'
                        WHEN source = 'signal' AND tier = 'work' THEN 'sonnet'
                        WHEN kind = 'group' AND id LIKE '%77' THEN 'haiku'
                        WHEN tier IN ('admin', 'work') THEN 'opus'
                        WHEN tier IN ('bots', 'guests') THEN 'haiku'
                        ELSE 'sonnet' END,
               tier, source, kind, 'imessage/_' || n, repeat('x', 180)
        FROM (SELECT n, '+1617' || lpad(n::text, 8, '0') AS id,
                     (ARRAY['admin', 'work', 'family', 'friends', 'bots', 'guests'])[n % 6 + 1] AS tier,
                     (ARRAY['imessage', 'discord', 'slack', 'signal'])[n % 4 + 1] AS source,
                     CASE n % 3 WHEN 0 THEN 'group' ELSE 'individual' END AS kind
              FROM generate_series(1, NUMBER) AS n) AS made";
const VACUUM: &str = "VACUUM ANALYZE sessions";
/// Every hundredth session has another model, those with overrides excepted.
const DRIFT: &str = "UPDATE sessions SET model = CASE model WHEN 'opus' THEN 'haiku' ELSE 'opus' END
    WHERE right(id, 8)::int % 100 = 51";
const REMEMBER: &str = "INSERT INTO reconcile.registry (name, reach) VALUES ('public.sessions', 'all');
    INSERT INTO reconcile.chat SELECT (SELECT id FROM reconcile.registry), id, model FROM sessions;
    VACUUM ANALYZE reconcile.chat";
/// What becomes of models that are there already.
const REPLACE: &str = "existing = \"replace\"";
const KEEP_MANUAL: &str = "existing = \"keep-manual\"";
const FIELDS: &str = "SELECT id, model, tier, source, kind, name, NULL::text, NULL::text FROM sessions";
const AS_JSON: &str =
    "COPY (SELECT to_json(id)::text || ': ' || json_build_object('model', model, 'tier', tier, 'source', source,
    'type', kind, 'session_name', name, 'notes', notes)::text FROM sessions) TO STDOUT";

#[test]
#[ignore = "needs a machine at rest: just postgres-figures"]
fn plans_and_applies_beside_what_the_server_takes() {
    let sizes = std::env::var("SESSIONS").unwrap_or_else(|_| SESSIONS.to_owned());
    for sessions in sizes.split(',') {
        Figures::new(sessions.parse().unwrap()).tell();
    }
}

struct Figures {
    database: Database,
    client: Client,
    sessions: usize,
    rows: Vec<(&'static str, Vec<Duration>)>,
}

impl Figures {
    fn new(sessions: usize) -> Self {
        let database = Database::new(&TABLE.replace("NUMBER", &sessions.to_string()));
        database.make_schema();
        // A VACUUM must be a statement of its own.
        for statement in [VACUUM].into_iter().chain(REMEMBER.split(';')) {
            database.execute(statement);
        }
        let client = server().connect(&database.name).unwrap();
        Self { database, client, sessions, rows: Vec::new() }
    }

    fn tell(mut self) {
        tell(&format!("\n{} sessions\n", self.sessions));
        let has_file = self.sessions <= LARGEST_FILE;
        if has_file {
            self.write_file();
        }
        for _ in 0..ROUNDS {
            self.time("`SELECT count(*)`", |figures| figures.database.execute("SELECT count(*) FROM sessions"));
            self.time("plan, nothing to do", |figures| figures.plan(REPLACE, &[]));
            self.time("the same, every row read", |figures| figures.plan(REPLACE, &["--exclude", "+161700000051"]));
            self.time("`COPY`, and nothing decided", Self::copy);
            if has_file {
                self.time("plan on a file of them", |figures| figures.plan(REPLACE, &["--registry", "sessions.json"]));
            }
            self.time("plan with `keep-manual`, nothing to do", |figures| figures.plan(KEEP_MANUAL, &[]));
        }
        tell(&format!("private memory of a plan, nothing to do: {:.1} MB", self.memory()));
        self.database.execute(DRIFT);
        self.database.execute(VACUUM);
        for _ in 0..ROUNDS {
            self.time("plan, 1 % differs", |figures| figures.plan(REPLACE, &[]));
            self.time("plan with `keep-manual`, 1 % differs", |figures| figures.plan(KEEP_MANUAL, &[]));
        }
        tell(&format!("private memory of a plan, 1 % differs: {:.1} MB", self.memory()));
        self.apply("");
        let (mut alone, mut beside) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            // What is changed back again and again would be held.
            self.database.execute("DELETE FROM reconcile.memory");
            self.database.execute(VACUUM);
            self.time("a bare UPDATE of 1 %", |figures| figures.database.execute(DRIFT));
            self.time("apply, 1 % differs", |figures| figures.apply(""));
            self.database.execute("DELETE FROM reconcile.memory");
            self.database.execute(DRIFT);
            alone = alone.max(longest_wait(&self.database, || thread::sleep(Duration::from_secs(1))));
            beside = beside.max(longest_wait(&self.database, || self.apply("batch = 500")));
        }
        tell(&format!(
            "longest wait of another connection: {alone:.1?}, beside an apply in batches of 500 {beside:.1?}"
        ));
        for (name, times) in std::mem::take(&mut self.rows) {
            let (median, least) = (median(&times), times.iter().min().unwrap());
            tell(&format!(
                "| {} | {name} | {:.3} s | {:.3} s |",
                self.sessions,
                median.as_secs_f64(),
                least.as_secs_f64()
            ));
        }
    }

    fn time(&mut self, name: &'static str, work: impl FnOnce(&mut Self)) {
        let since = Instant::now();
        work(self);
        let time = since.elapsed();
        match self.rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => times.push(time),
            None => self.rows.push((name, vec![time])),
        }
    }

    fn write_policy(&self, existing: &str, limits: &str) {
        let overrides: String = (1..=50).map(|number| format!("\"+1617{number:08}\" = \"opus\"\n")).collect();
        let registry = self.database.registry(COLUMNS).replace("[registry]", &format!("[registry]\n{existing}"));
        let policy = POLICY.replace("[limits]", &format!("[limits]\n{limits}"));
        self.database.sandbox.write("policy.toml", format!("{policy}[chats]\n{overrides}{registry}"));
    }

    fn plan(&self, existing: &str, arguments: &[&str]) {
        self.write_policy(existing, "");
        self.database.run(&[&["--dry-run", "--output", "json=plan.json"], arguments].concat()).expect(0);
    }

    fn apply(&self, limits: &str) {
        self.write_policy(REPLACE, limits);
        self.database.run(&["--output", "json=plan.json"]).expect(0);
    }

    fn copy(&mut self) {
        let mut reader = self.client.copy_out(&format!("COPY ({FIELDS}) TO STDOUT (FORMAT binary)")).unwrap();
        let mut buffer = vec![0; 1 << 16];
        while reader.read(&mut buffer).unwrap() > 0 {}
    }

    fn write_file(&mut self) {
        let mut rows = String::new();
        self.client.copy_out(AS_JSON).unwrap().read_to_string(&mut rows).unwrap();
        let mut file = BufWriter::new(File::create(self.database.sandbox.path("sessions.json")).unwrap());
        write!(file, "{{{}}}", rows.trim_end().replace('\n', ",\n")).unwrap();
    }

    /// The most private memory that a plan was seen to have, in megabytes.
    fn memory(&self) -> f64 {
        self.write_policy(REPLACE, "");
        let mut command = self.database.command(&["--dry-run", "--output", "json=plan.json"]);
        f64::from(private_memory(&mut command)) / 1024.0
    }
}

/// The longest time that an update of one row took another connection meanwhile.
fn longest_wait(database: &Database, work: impl FnOnce()) -> Duration {
    let is_over = AtomicBool::new(false);
    let mut client = server().connect(&database.name).unwrap();
    thread::scope(|scope| {
        let updates = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            let statement = client.prepare("UPDATE sessions SET notes = $2 WHERE id = $1").unwrap();
            for number in (51_usize..).step_by(100).cycle() {
                let since = Instant::now();
                let id = format!("+1617{:08}", number % 10_000);
                client.execute(&statement, &[&id, &id]).unwrap();
                longest = longest.max(since.elapsed());
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            longest
        });
        work();
        is_over.store(true, Ordering::Relaxed);
        updates.join().unwrap()
    })
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

/// The most private memory that a command was seen to have, in KiB.
fn private_memory(command: &mut Command) -> u32 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id())).unwrap_or_default();
        let private = rollup.lines().filter(|line| line.starts_with("Private_"));
        let kibibytes = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
        most = most.max(kibibytes.sum());
        thread::sleep(Duration::from_millis(1));
    }
    most
}

/// Shows a figure: not by a macro, whose output the test harness would keep to itself.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
