//! How long plans and applies on tables take, beside what the server itself takes, and how long others wait for them: the figures
//! of `docs/performance.md`, as a table. Nothing is asserted of them.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fallible_iterator::FallibleIterator;
use jiff::Zoned;
use postgres::Client;
use postgres::binary_copy::BinaryCopyOutIter;
use postgres::types::Type;
use reconcile::chat::{Chat, Model};
use reconcile::policy::{self, Source};
use reconcile::resolve::{Current, resolve};

use crate::database::{COLUMNS, Database};
use crate::server::{program, server};

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
/// A run that is interrupted when its first restart is under way: all are owed by then, and one is made.
const RESTART: &str = "[sessions]\nrestart = [\"./restart\"]\nparallel = 1\n[rollout]\ncanary = false\n";
/// Such a run looks through the names of all sessions, too.
const RESTART_BY_SLUG: &str =
    "[sessions]\nrestart = [\"./restart\", \"{session_slug}\"]\nparallel = 1\n[rollout]\ncanary = false\n";
const FIELDS: &str = "SELECT id, model, tier, source, kind, name, NULL::text, NULL::text FROM sessions";
const AS_JSON: &str =
    "COPY (SELECT to_json(id)::text || ': ' || json_build_object('model', model, 'tier', tier, 'source', source,
    'type', kind, 'session_name', name, 'notes', notes)::text FROM sessions) TO STDOUT";

/// Figures of which others are told as so many times as long.
const COUNT: &str = "`SELECT count(*)`";
const UPDATE: &str = "a bare `UPDATE` of 1 % by `psql`";

#[test]
#[ignore = "needs a machine at rest: just postgres-figures"]
fn plans_and_applies_beside_what_the_server_takes() {
    let sizes = std::env::var("SESSIONS").unwrap_or_else(|_| SESSIONS.to_owned());
    let sizes: Vec<usize> = sizes.split(',').map(|sessions| sessions.parse().unwrap()).collect();
    let columns: Vec<Vec<Figure>> = sizes.iter().map(|sessions| Figures::new(*sessions).measured()).collect();
    let mut names = Vec::new();
    for figure in columns.iter().flatten() {
        if !names.contains(&figure.name) {
            names.push(figure.name);
        }
    }
    let sizes: String = sizes.iter().map(|sessions| format!(" {} rows |", grouped(*sessions))).collect();
    tell(&format!("\n| medians of {ROUNDS} rounds |{sizes}\n|---|{}", "---:|".repeat(columns.len())));
    for name in names {
        let cells: String = columns.iter().map(|figures| format!(" {} |", cell(figures, name))).collect();
        tell(&format!("| {name} |{cells}"));
    }
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let is_before_comma = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    digits
        .char_indices()
        .flat_map(|(at, digit)| is_before_comma(at).then_some(',').into_iter().chain([digit]))
        .collect()
}

/// What was measured of one thing.
struct Figure {
    name: &'static str,
    /// The figure that it is compared with.
    base: Option<&'static str>,
    values: Values,
}

enum Values {
    Times(Vec<Duration>),
    Megabytes(f64),
}

/// A figure as a cell of the table.
fn cell(figures: &[Figure], name: &str) -> String {
    let find = |name: &str| figures.iter().find(|figure| figure.name == name);
    let Some(figure) = find(name) else { return "–".to_owned() };
    let times = match &figure.values {
        Values::Times(times) => times,
        Values::Megabytes(size) => return format!("{size:.1} MB"),
    };
    let middle = median(times);
    let base = figure.base.and_then(find);
    let compared = match base.map(|base| (base.name, &base.values)) {
        Some((base, Values::Times(times))) => {
            let word = if base == COUNT { "`count`" } else { "`UPDATE`" };
            format!(", {:.1} × {word}", middle.as_secs_f64() / median(times).as_secs_f64())
        }
        _ => String::new(),
    };
    let [least, most] = [times.iter().min().unwrap(), times.iter().max().unwrap()];
    format!("{}{compared} ({} to {})", shown(middle), shown(*least), shown(*most))
}

fn shown(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds => format!("{:.1} ms", seconds * 1000.0),
    }
}

struct Figures {
    database: Database,
    client: Client,
    sessions: usize,
    known: Vec<Figure>,
}

impl Figures {
    fn new(sessions: usize) -> Self {
        let database = Database::new(&TABLE.replace("NUMBER", &sessions.to_string()));
        database.make_schema();
        database.sandbox.script("restart", "kill -TERM $PPID");
        // A VACUUM must be a statement of its own.
        for statement in [VACUUM].into_iter().chain(REMEMBER.split(';')) {
            database.execute(statement);
        }
        let client = server().connect(&database.name).unwrap();
        Self { database, client, sessions, known: Vec::new() }
    }

    fn measured(mut self) -> Vec<Figure> {
        let has_file = self.sessions <= LARGEST_FILE;
        if has_file {
            self.write_file();
        }
        for _ in 0..ROUNDS {
            self.time(COUNT, None, |figures| figures.database.execute("SELECT count(*) FROM sessions"));
            self.time("dry run, nothing to do", Some(COUNT), |figures| figures.plan(REPLACE, &[]));
            self.time("dry run, nothing to do, with `keep-manual`", Some(COUNT), |figures| {
                figures.plan(KEEP_MANUAL, &[]);
            });
            self.time("dry run that reads every row (`--exclude` of one chat)", Some(COUNT), |figures| {
                figures.plan(REPLACE, &["--exclude", "+161700000051"]);
            });
            self.time("`COPY` of the fields, and nothing decided", Some(COUNT), Self::copy);
            self.time("`COPY` of the fields, each row decided by one thread", Some(COUNT), Self::copy_and_decide);
            if has_file {
                self.time("dry run on a JSON file of the same sessions", Some(COUNT), |figures| {
                    figures.plan(REPLACE, &["--registry", "sessions.json"]);
                });
            }
        }
        self.memory("private memory of a dry run, nothing to do");
        self.database.execute(DRIFT);
        self.database.execute(VACUUM);
        for _ in 0..ROUNDS {
            self.time("dry run, 1 % differs", Some(COUNT), |figures| figures.plan(REPLACE, &[]));
            self.time("dry run, 1 % differs, with `keep-manual`", Some(COUNT), |figures| {
                figures.plan(KEEP_MANUAL, &[]);
            });
        }
        self.memory("private memory of a dry run, 1 % differs");
        self.apply();
        for _ in 0..ROUNDS {
            self.forget();
            self.time(UPDATE, None, Self::update);
            self.time("apply, 1 % differs", Some(UPDATE), |figures| figures.apply());
            self.owing("apply, 1 % differs, each owes a restart", RESTART);
            self.owing("apply, 1 % differs, each owes a restart that names `{session_slug}`", RESTART_BY_SLUG);
            self.forget();
            self.waits("longest update of one row, beside nothing", None, |_| {
                thread::sleep(Duration::from_secs(1));
            });
            self.waits("longest update of one row, beside the bare `UPDATE`", None, |figures| {
                figures.database.execute(DRIFT);
            });
            self.waits(
                "longest update of one row, beside the apply",
                Some("the 99th of 100 updates of one row, beside the apply"),
                Self::apply,
            );
        }
        self.known
    }

    fn time(&mut self, name: &'static str, base: Option<&'static str>, work: impl FnOnce(&mut Self)) {
        let since = Instant::now();
        work(self);
        self.add(name, base, since.elapsed());
    }

    fn add(&mut self, name: &'static str, base: Option<&'static str>, time: Duration) {
        match self.known.iter_mut().find(|figure| figure.name == name) {
            Some(Figure { values: Values::Times(times), .. }) => times.push(time),
            _ => self.known.push(Figure { name, base, values: Values::Times(vec![time]) }),
        }
    }

    /// How long the updates of single rows take another connection meanwhile: the longest, and the 99th of a hundred.
    fn waits(&mut self, longest: &'static str, most: Option<&'static str>, work: impl FnOnce(&Self)) {
        let mut waits = waits(&self.database, self.sessions, || work(self));
        waits.sort();
        self.add(longest, None, *waits.last().unwrap());
        if let Some(most) = most {
            self.add(most, None, waits[waits.len() * 99 / 100]);
        }
    }

    /// What is changed back again and again would be held. The server does now what it would do while something is measured.
    fn forget(&self) {
        for statement in ["DELETE FROM reconcile.memory", "VACUUM ANALYZE", "CHECKPOINT"] {
            self.database.execute(statement);
        }
    }

    fn write_policy(&self, existing: &str, sections: &str) {
        let overrides: String = (1..=50).map(|number| format!("\"+1617{number:08}\" = \"opus\"\n")).collect();
        let registry = self.database.registry(COLUMNS).replace("[registry]", &format!("[registry]\n{existing}"));
        self.database.sandbox.write("policy.toml", format!("{POLICY}{sections}[chats]\n{overrides}{registry}"));
    }

    fn plan(&self, existing: &str, arguments: &[&str]) {
        self.write_policy(existing, "");
        self.database.run(&[&["--dry-run", "--output", "json=plan.json"], arguments].concat()).expect(0);
    }

    fn apply(&self) {
        self.write_policy(REPLACE, "");
        self.database.run(&[]).expect(0);
    }

    /// How long an apply takes whose changes owe restarts by this command.
    fn owing(&mut self, name: &'static str, restart: &str) {
        self.forget();
        self.database.execute(DRIFT);
        self.write_policy(REPLACE, restart);
        self.time(name, Some(UPDATE), |figures| _ = figures.database.run(&[]).expect(4));
    }

    /// What an operator would do without this program.
    fn update(&mut self) {
        let mut psql = Command::new(program("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--command", DRIFT, &self.database.address()]);
        assert!(psql.status().unwrap().success());
    }

    fn copy(&mut self) {
        let mut reader = self.client.copy_out(&format!("COPY ({FIELDS}) TO STDOUT (FORMAT binary)")).unwrap();
        let mut buffer = vec![0; 1 << 16];
        while reader.read(&mut buffer).unwrap() > 0 {}
    }

    /// What a plan would be that asks the database for all rows, and decides them here.
    fn copy_and_decide(&mut self) {
        let text = fs::read_to_string(self.database.sandbox.path("policy.toml")).unwrap();
        let (policy, _) = policy::read(&[Source::new("policy.toml", text)]).unwrap();
        let now = Zoned::now();
        let reader = self.client.copy_out(&format!("COPY ({FIELDS}) TO STDOUT (FORMAT binary)")).unwrap();
        let mut rows = BinaryCopyOutIter::new(reader, &[const { Type::TEXT }; 8]);
        let mut differ = 0;
        while let Some(row) = rows.next().unwrap() {
            let field = |at| row.get::<Option<&str>>(at).map(Cow::Borrowed);
            let chat = Chat {
                id: field(0).unwrap(),
                tier: field(2),
                source: field(3),
                kind: field(4),
                session_name: field(5),
                ..Chat::default()
            };
            let model = field(1);
            let decision = resolve(&policy, &chat, Current::from(model.as_deref()), &now);
            let says = model.as_deref().map(|model| policy.canonical(model));
            differ += usize::from(says != decision.model.map(Model::as_str));
        }
        assert_eq!(differ, 0);
    }

    fn write_file(&mut self) {
        let mut rows = String::new();
        self.client.copy_out(AS_JSON).unwrap().read_to_string(&mut rows).unwrap();
        let mut file = BufWriter::new(File::create(self.database.sandbox.path("sessions.json")).unwrap());
        write!(file, "{{{}}}", rows.trim_end().replace('\n', ",\n")).unwrap();
    }

    /// The most private memory that a plan was seen to have.
    fn memory(&mut self, name: &'static str) {
        self.write_policy(REPLACE, "");
        let mut command = self.database.command(&["--dry-run", "--output", "json=plan.json"]);
        let size = f64::from(private_memory(&mut command)) / 1024.0;
        self.known.push(Figure { name, base: None, values: Values::Megabytes(size) });
    }
}

/// How long each update of one row takes another connection meanwhile. It updates the rows that are changed, one after the other,
/// in an order in which neighbours are far apart.
fn waits(database: &Database, sessions: usize, work: impl FnOnce()) -> Vec<Duration> {
    /// A prime number: steps of this length come to every row before they come to one again.
    const STEP: usize = 7919;
    let is_over = AtomicBool::new(false);
    let mut client = server().connect(&database.name).unwrap();
    thread::scope(|scope| {
        let updates = scope.spawn(|| {
            let mut waits = Vec::new();
            let statement = client.prepare("UPDATE sessions SET notes = $2 WHERE id = $1").unwrap();
            for number in (0_usize..).step_by(STEP) {
                let id = format!("+1617{:08}", number % (sessions / 100) * 100 + 51);
                let since = Instant::now();
                client.execute(&statement, &[&id, &id]).unwrap();
                waits.push(since.elapsed());
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            waits
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
