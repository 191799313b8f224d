//! With `--redact` no command tells a name, in no format, with no argument and in no state. Each world below is made of secrets:
//! words of letters and digits that neither this program nor a pseudonym has in them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use reconcile::report::Format;
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, finish, write_state};

/// None of these is a hexadecimal digit.
const LETTERS: &str = "QXZKVWHJ";
const DIGITS: &str = "0123456789";
/// So many characters of a name would be worth something.
const FRAGMENT: usize = 5;
/// Of a secret: letters and digits in turn.
const LENGTH: usize = 10;
const SEEDS: [u64; 2] = [1, 2];
const CHATS: usize = 14;
/// What every reader may be told: what the policy declares. The last has been withdrawn.
const MODELS: [&str; 4] = ["opus", "haiku", "sonnet", "opus-4"];

/// Secrets by what they are of, which a failure says.
struct World {
    random: u64,
    secrets: BTreeMap<String, String>,
    sandbox: Sandbox,
    /// What was told that must not be, and by which arguments.
    told: RefCell<BTreeMap<String, String>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world =
            Self { random: seed, secrets: BTreeMap::new(), sandbox: Sandbox::new("", "{}"), told: RefCell::default() };
        for number in 0..CHATS {
            for part in ["id", "session", "contact", "field"] {
                world.secret(&format!("{part} {number}"));
            }
        }
        for what in
            ["directory", "main file", "file of overrides", "place of the registry", "registry", "tier", "other tier"]
        {
            world.secret(what);
        }
        for what in
            ["reason", "comment", "typed", "revision", "program", "user", "said", "gone", "set", "old policy", "key"]
        {
            world.secret(what);
        }
        world.write();
        world
    }

    fn next(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % below
    }

    fn secret(&mut self, what: &str) {
        let mut of = |characters: &str| char::from(characters.as_bytes()[self.next(characters.len())]);
        let text = (0..LENGTH).map(|place| if place % 2 == 0 { of(LETTERS) } else { of(DIGITS) }).collect();
        self.secrets.insert(what.to_owned(), text);
    }

    fn of(&self, what: &str) -> &str {
        &self.secrets[what]
    }

    fn part(&self, part: &str, chat: usize) -> &str {
        self.of(&format!("{part} {chat}"))
    }

    fn id(&self, chat: usize) -> String {
        format!("+{}", self.part("id", chat))
    }

    fn policy(&self) -> String {
        format!("{}/policy.d", self.of("directory"))
    }

    fn file(&self, what: &str) -> String {
        format!("{}/{}.toml", self.policy(), self.of(what))
    }

    fn registry(&self) -> String {
        format!("{}/{}.json", self.of("place of the registry"), self.of("registry"))
    }

    fn state(&self) -> String {
        format!("{}.reconcile", self.registry())
    }

    /// What the main file says. The restart command tells all it knows, and works for some.
    fn main(&self) -> String {
        format!(
            "[models]\nallowed = [\"opus\", \"haiku\", \"sonnet\"]\nfallback = \"sonnet\"\n\
             retired = {{ \"opus-4\" = {{ on = 2020-01-01, use = \"opus\" }} }}\n\
             [tiers]\nfamily = \"opus\"\nbots = \"haiku\"\n\
             [[assign]]\ntier = \"family\" # {comment}\nchat = [\"{assigned}\", \"+{gone}\"]\n\
             [[rules]]\nsource = \"discord\"\nmodel = \"haiku\"\n\
             [[rules]]\nchat = [\"+{gone}*\", \"{}*\"]\nmodel = \"opus\"\n\
             [registry]\npath = \"../../{}\"\n\
             [sessions]\nrestart = [\"./{}\", \"{{session_slug}}\"]\n\
             [rollout]\ncanary = false\nmax_failures = 100\n[limits]\nmax_changes = 100\n",
            &self.id(0)[..4],
            self.registry(),
            self.of("program"),
            comment = self.of("comment"),
            assigned = self.id(1),
            gone = self.of("gone"),
        )
    }

    /// Overrides of every kind, for chats that are registered and for some that are not.
    fn overrides(&self) -> String {
        let reason = self.of("reason");
        let line =
            |id: String, rest: &str| format!("{id:?} = {{ {rest}, reason = \"{reason}\" }} # {}\n", self.of("comment"));
        let expired = |chat| line(self.id(chat), "model = \"opus\", until = 2020-01-01");
        let lines = [
            line(self.id(2), "model = \"haiku\""),
            line(self.id(3), "managed = false"),
            expired(4),
            expired(5),
            expired(6),
            line(self.id(7), "model = \"opus\", until = 2999-01-01, then = \"haiku\""),
            line(format!("+{}", self.of("gone")), "model = \"opus\""),
            line(format!("+{}*", self.of("gone")), "model = \"opus\""),
        ];
        format!("[chats]\n{}", lines.concat())
    }

    fn entries(&self) -> Value {
        let entry = |chat: usize| {
            let tier = ["family", "bots", self.of("tier"), self.of("other tier")][chat % 4];
            let entry = json!({
                "session_name": format!("imessage/_{}", self.part("session", chat)),
                "contact_name": self.part("contact", chat), "tier": tier, "type": "individual", "source": "imessage",
                "model": MODELS[(chat / 2) % MODELS.len()], "cwd": self.part("field", chat), "last": { self.part("field", chat): 1 },
            });
            (self.id(chat), entry)
        };
        Value::Object((0..CHATS).map(entry).collect())
    }

    fn write(&self) {
        for directory in [self.policy(), self.of("place of the registry").to_owned()] {
            fs::create_dir_all(self.sandbox.path(&directory)).unwrap();
        }
        self.restore();
        let program = format!("{}/{}", self.policy(), self.of("program"));
        let fails = [0, 1, 2, 5, 8, 9].map(|chat| self.id(chat)).join("|");
        let keeps = "sed -i s/@/@/ \"$RECONCILE_REGISTRY\" 2>/dev/null";
        self.sandbox.script(
            &program,
            &format!(
                "env >&2; echo {} >&2; {keeps}; case $RECONCILE_CHAT_ID in {fails}) exit 1 ;; esac",
                self.of("said")
            ),
        );
        self.sandbox
            .write(&format!("{}.toml", self.of("old policy")), self.main().replacen("\"sonnet\"\n", "\"haiku\"\n", 1));
    }

    /// Writes policy and registry as they were.
    fn restore(&self) {
        self.sandbox.write(&self.file("main file"), self.main());
        self.sandbox.write(&self.file("file of overrides"), self.overrides());
        self.sandbox.write(&self.registry(), serde_json::to_string_pretty(&self.entries()).unwrap());
    }

    fn command(&self, arguments: &[&str]) -> Run {
        let mut command = self.sandbox.command(&["--policy", &self.policy()]);
        finish(command.args(arguments).env("USER", self.of("user")).env("LOGNAME", self.of("user")))
    }

    /// Runs it with `--redact`, and looks for secrets and orders in all that it says and writes.
    fn run(&self, arguments: &[&str]) -> Run {
        let run = self.command(&[&["--redact"], arguments].concat());
        assert_ne!(run.code, 101, "{run:#?}");
        let files = ["out.txt", "out.json", "out.md", "out.prom"].map(|name| {
            let said = self.sandbox.read(name);
            let _ = fs::remove_file(self.sandbox.path(name));
            said
        });
        for said in files.iter().chain([&run.stdout, &run.stderr]) {
            let found = self.leak(said).into_iter().chain(self.order(said)).chain(order_in_json(said));
            self.told.borrow_mut().extend(found.map(|found| (found, format!("{arguments:?}"))));
        }
        run
    }

    /// A fragment of a secret in a text.
    fn leak(&self, said: &str) -> Option<String> {
        let upper = said.to_ascii_uppercase();
        let is_in =
            |text: &str, secret: &str| (0..=LENGTH - FRAGMENT).any(|at| text.contains(&secret[at..at + FRAGMENT]));
        let (what, secret) = self.secrets.iter().find(|(_, secret)| is_in(&upper, secret))?;
        let line = said.lines().find(|line| is_in(&line.to_ascii_uppercase(), secret)).unwrap_or_default();
        Some(format!("tells of the {what}: {line}"))
    }

    /// Lines of one kind that follow each other and are not sorted by pseudonyms: the order of the names may be seen in them.
    fn order(&self, said: &str) -> Option<String> {
        let chats = self.chats_by_session();
        let mut before: Option<(String, String)> = None;
        for line in said.lines() {
            let Some(name) = pseudonym(line) else {
                before = before.filter(|_| line.starts_with("      | "));
                continue;
            };
            let chat = chats.get(name).map_or(name, String::as_str).to_owned();
            let kind: String = line.split(name).next().unwrap_or_default().to_owned();
            if let Some((kind_before, chat_before)) = &before
                && *kind_before == kind
                && *chat_before > chat
            {
                return Some(format!("is not sorted by pseudonyms at {line:?}"));
            }
            before = Some((kind, chat));
        }
        None
    }

    /// Rows are sorted by the pseudonyms of their chats, and some show those of their sessions.
    fn chats_by_session(&self) -> BTreeMap<String, String> {
        let snapshot: Value = serde_json::from_str(&self.sandbox.read("snapshot.json")).unwrap_or_default();
        let of = |(id, entry): (&String, &Value)| Some((entry["session_name"].as_str()?.to_owned(), id.clone()));
        snapshot.as_object().into_iter().flatten().filter_map(of).collect()
    }

    /// A world in which much has happened: some restarts are owed, and some rows are held.
    fn live(&self) {
        let snapshot = self.run(&["snapshot"]).expect(0);
        self.sandbox.write("snapshot.json", &snapshot.stdout);
        for _ in 0..4 {
            self.command(&["--retry", &self.id(0), "--quiet"]);
            // Another program changes one of them back.
            let registry = self.sandbox.read(&self.registry());
            let mut entries: Value = serde_json::from_str(&registry).unwrap();
            entries[self.id(6)]["model"] = "haiku".into();
            self.sandbox.write(&self.registry(), serde_json::to_string_pretty(&entries).unwrap());
        }
        self.command(&["set-model", &self.id(4), "haiku", "--reason", self.of("set")]);
        // What a run that follows will find.
        let mut entries: Value = serde_json::from_str(&self.sandbox.read(&self.registry())).unwrap();
        for chat in CHATS - 4..CHATS {
            entries[self.id(chat)]["model"] = "opus-4".into();
        }
        self.sandbox.write(&self.registry(), serde_json::to_string_pretty(&entries).unwrap());
        let list = self.command(&["list"]).stdout;
        for state in ["restart owed", "failed", "held", "not managed", "differs"] {
            assert!(list.contains(state), "no chat of this world is {state}: {list}");
        }
    }
}

/// Rows of JSON that are not sorted by the pseudonyms of their chats.
fn order_in_json(said: &str) -> Option<String> {
    let whole = serde_json::from_str(said).ok().into_iter();
    let values: Vec<Value> = whole.chain(said.lines().filter_map(|line| serde_json::from_str(line).ok())).collect();
    let rows = values.iter().flat_map(|value| ["changes", "chats", "owed"].map(|key| value[key].as_array()));
    let is_sorted = |rows: &Vec<Value>| rows.is_sorted_by_key(|row| row["chat_id"].as_str().map(str::to_owned));
    rows.flatten().find(|rows| !is_sorted(rows)).map(|rows| format!("is not sorted by pseudonyms: {rows:?}"))
}

/// The first pseudonym in a line.
fn pseudonym(line: &str) -> Option<&str> {
    let starts =
        ["chat-", "session-"].into_iter().flat_map(|kind| line.match_indices(kind).map(move |(at, _)| (at, kind)));
    let names = starts.filter_map(|(at, kind)| line.get(at..at + kind.len() + 16).map(|name| (at, name, kind)));
    let is_one =
        |(_, name, kind): &(usize, &str, &str)| name[kind.len()..].bytes().all(|digit| digit.is_ascii_hexdigit());
    names.filter(is_one).min_by_key(|(at, ..)| *at).map(|(_, name, _)| name)
}

const EVERYWHERE: [&str; 8] =
    ["--output", "text=out.txt", "--output", "json=out.json", "--output", "markdown=out.md", "--metrics", "out.prom"];

fn formats() -> impl Iterator<Item = &'static str> {
    Format::ALL.into_iter().filter(|(_, format)| !format.quotes_registry()).map(|(name, _)| name)
}

fn every_command(world: &World) {
    let old = format!("{}.toml", world.of("old policy"));
    let revision = format!("git:{}", world.of("revision"));
    let (id, contact) = (world.id(2), world.part("contact", 2));
    let session = format!("imessage/_{}", world.part("session", 2));
    for format in formats() {
        world.run(&[&["--dry-run", "-vv", "--format", format][..], &EVERYWHERE].concat());
        world.run(&["--dry-run", "--format", format, "--chat", contact]);
        world.run(&["diff", "--from", &old, "--format", format, "--output", "markdown=out.md"]).expect(0);
    }
    for format in ["text", "json"] {
        for command in ["list", "history", "owed", "doctor"] {
            world.run(&[command, "--format", format]);
        }
        for chat in [&id, contact, &session, &world.id(3), &world.id(7), world.of("typed")] {
            world.run(&["explain", "--format", format, chat]);
            world.run(&["history", "--format", format, chat]);
            world.run(&["list", "--format", format, "--chat", chat]);
        }
        world.run(&[
            "explain",
            "--format",
            format,
            world.of("typed"),
            "--tier",
            world.of("set"),
            "--contact-name",
            "x",
        ]);
    }
    for format in ["text", "json", "github"] {
        world.run(&["check", "--format", format]);
        world.run(&["check", "--format", format, "--registry", &world.registry()]);
    }
    for from in [revision.as_str(), "git:HEAD:x", world.of("typed")] {
        world.run(&["diff", "--from", from]).expect(1);
    }
}

/// What a mistaken user types.
fn every_mistake(world: &World) {
    let (typed, id) = (world.of("typed"), world.id(2));
    for option in ["--chat", "--tier", "--exclude", "--retry", "--take-over", "--plan", "--at", "--output", "--format"]
    {
        world.run(&["--dry-run", option, typed]);
    }
    for option in ["--policy", "--registry", "--connect", "--redact-key", "--lock-timeout", "--color", "--metrics"] {
        world.run(&["--dry-run", option, typed]);
    }
    let output = format!("json={typed}/{typed}");
    for arguments in [
        &["undo", typed][..],
        &["undo", &id],
        &["set-model", "opus", &id],
        &["set-model", typed, "opus"],
        &["set-model", &id, typed],
        &["set-model", &id, "opus", "--until", typed],
        &["unset-model", typed],
        &["owed", "--forget", typed],
        &["owed", "--forget", &world.id(3)],
        &["explain", &id, "--session-name", typed],
        &["explain", &id, "--at", typed],
        &["history", "--since", typed],
        &["list", "--tier", typed],
        &["check", typed],
        &["check", "--within", typed],
        &["--dry-run", "--output", &output],
        &["--dry-run", "--metrics", &output],
        &[typed],
        &[&format!("--{typed}")],
        &["launch", &id, "--", typed],
    ] {
        assert_ne!(world.run(arguments).code, 0, "{arguments:?}");
    }
    let plan = |plan: Value| world.sandbox.write(&format!("{typed}.json"), plan.to_string());
    for wrong in
        [json!([typed]), json!({ "plan_id": typed, "changes": [] }), json!({ "plan_id": typed, "changes": typed })]
    {
        plan(wrong);
        world.run(&["--dry-run", "--plan", &format!("{typed}.json")]).expect(1);
    }
    // A plan that names chats, and is not the one of now.
    world.command(&["--dry-run", "--chat", &world.id(5), "--output", &format!("json={typed}.json")]);
    world.run(&[&["--dry-run", "--plan", &format!("{typed}.json"), "--format", "markdown"][..], &EVERYWHERE].concat());
    world.run(&[&["--plan", "0123456789abcdef0123456789abcdef"][..], &EVERYWHERE].concat()).expect(3);
}

/// What changes something.
fn every_edit(world: &World) {
    world.run(&[&["--allow-changes", "0"][..], &EVERYWHERE].concat());
    world.run(&[&["--quiet"][..], &EVERYWHERE].concat());
    world.run(&["--retry", &world.id(1), "-vv"]);
    for (format, _) in Format::ALL {
        world.run(&["set-model", &world.id(5), "haiku", "--dry-run", "--format", format]);
        world.run(&["undo", "last", "--dry-run", "--format", format]);
    }
    world.run(&["set-model", &world.id(5), "haiku", "--reason", world.of("set")]);
    world.run(&["set-model", &world.id(1), "haiku", "--no-policy"]);
    world.run(&["unset-model", &world.id(5)]);
    world.run(&["unset-model", &world.id(5)]);
    let history = world.command(&["history", "--format", "json"]).stdout;
    for line in history.lines().rev() {
        let run: Value = serde_json::from_str(line).unwrap();
        world.run(&["undo", run["run"].as_str().unwrap()]);
    }
    world.run(&["owed", "--forget", &world.id(0)]);
    world.run(&["owed", "--forget-all"]);
}

/// A policy, a registry and a state that have mistakes.
fn every_damage(world: &World) {
    let (typed, main, registry) = (world.of("typed"), world.file("main file"), world.registry());
    let mistakes = ["nonsense = 1", "\"", "[tiers]\nx = \"gpt\"", "[[rules]]\ntier = 1", "[chats]\nx = \"opus\""];
    for mistake in mistakes {
        world.sandbox.write(&main, format!("{}\n{mistake} # {typed}\n", world.main()));
        for arguments in
            [&["--dry-run"][..], &["check"], &["check", "--format", "json"], &["check", "--format", "github"]]
        {
            world.run(arguments);
        }
        world.run(&[&["--quiet"][..], &EVERYWHERE].concat());
        for command in ["list", "owed", "history", "doctor"] {
            world.run(&[command]);
        }
    }
    world.sandbox.write(&main, b"\xff");
    world.run(&["check"]);
    world.restore();
    let entry = format!("{:?}: {{\"tier\": 1, \"model\": [\"{typed}\"]}}", world.id(0));
    for damaged in [format!("{{{entry}"), format!("{{{entry}, {entry}}}"), format!("[{typed:?}]"), String::new()] {
        world.sandbox.write(&registry, damaged);
        for arguments in
            [&["--dry-run"][..], &["list"], &["doctor"], &["snapshot"], &["check", "--registry", &registry]]
        {
            world.run(arguments);
        }
    }
    world.restore();
    for name in ["history.jsonl", "ledger.journal", "owed.json"] {
        write_state(&world.sandbox.path(&world.state()), name, format!("{{\"run\": [\"{typed}\"]}}\n"));
        for command in ["history", "owed", "list", "plan", "doctor"] {
            world.run(&[command]);
        }
        fs::remove_file(world.sandbox.path(&world.state()).join(name)).unwrap();
    }
}

/// The snapshot holds no name, and with `--redact` a plan on it tells of no file either.
fn the_snapshot(world: &World) {
    let key = format!("{}/redact.key", world.state());
    let on_snapshot = ["--registry", "snapshot.json", "--redact-key", &key];
    for format in formats() {
        world.run(&[&on_snapshot[..], &["--dry-run", "--format", format], &EVERYWHERE].concat());
    }
    for command in ["list", "check", "doctor"] {
        world.run(&[&[command], &on_snapshot[..]].concat());
    }
    let typed = world.of("typed");
    world.run(&[&["explain", typed, "--tier", typed, "--session-name", typed], &on_snapshot[..]].concat());
    world.run(&[&["list", "--tier", typed], &on_snapshot[..]].concat());
}

#[test]
fn no_command_tells_a_name_or_the_order_of_names() {
    for seed in SEEDS {
        let world = World::new(seed);
        world.live();
        every_command(&world);
        every_mistake(&world);
        every_edit(&world);
        // Without the rule that asks for ids, of which a snapshot has none.
        let main = world.main().replace(&format!("chat = [\"+{}*\"", world.of("gone")), "source = [\"x\"");
        world.sandbox.write(&world.file("main file"), main);
        the_snapshot(&world);
        every_damage(&world);
        let told = world.told.take();
        assert!(told.is_empty(), "{told:#?}");
    }
}
