//! The backends under test, and what a test can do to their registries and sessions from outside.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use reconcile::apply::{Backend, Locked};
use reconcile::backend::file::RegistryFile;
use reconcile::backend::openclaw::{GatewayHome, Token, TokenAt};
use reconcile::backend::{Home, Place, Probe, open};
use reconcile::plan::ledger::Note;
use reconcile::policy::{Policy, Source, read};
use reconcile::state::apart::StateHome;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dispatch::daemon;
use crate::gateway::{Double as Gateway, Model, World as GatewayWorld};
use crate::handle::Double;
use crate::openclaw::pinned;
use crate::support::{Sandbox, registry};
use crate::world::{Manner, World, policy};

/// Two chats that drift from haiku, one that has no model, and one that is in sync.
fn entries() -> String {
    registry(&[("ada", "x", "opus"), ("ben", "x", "sonnet"), ("cal", "x", "haiku"), ("dan", "x", "")])
}

pub const DRIFTED: [&str; 3] = ["ada", "ben", "dan"];

/// A backend under test.
pub trait Subject {
    fn backend(&self) -> &dyn Backend;

    /// A policy by which every chat runs on haiku.
    fn policy(&self) -> &Policy;

    /// What the registry says of each chat, read without the backend.
    fn models(&self) -> Vec<(String, Option<String>)>;

    /// A model as a policy names it, where the registry has another spelling.
    fn plain(&self, model: &str) -> String {
        model.to_owned()
    }

    /// Another program adds a chat to the registry.
    fn replace(&self);

    /// The registry is no longer there; `false` where that cannot be.
    fn remove(&self) -> bool;

    /// How often the program has changed or restarted sessions.
    fn changes(&self) -> usize;

    /// Whether it makes the edits of a batch itself.
    fn commits(&self) -> bool {
        true
    }

    /// Whether a second run can ask for the lock.
    fn locks(&self) -> bool {
        true
    }

    fn lock(&self) -> Box<dyn Locked + '_> {
        self.backend().lock(Duration::ZERO, &|| false).unwrap()
    }

    /// A launch pays what a chat owes.
    fn pay(&self, chat: &str) {
        self.lock().note(&[Note::Settled { chat }], Timestamp::UNIX_EPOCH).unwrap();
    }
}

struct Memory {
    world: World,
    policy: Policy,
    manner: Manner,
}

fn memory(manner: Manner) -> Box<dyn Subject> {
    Box::new(Memory { world: World::of(manner, &entries()), policy: policy(&[]), manner })
}

pub fn memory_batch() -> Box<dyn Subject> {
    memory(Manner::Batch)
}

pub fn memory_per_row() -> Box<dyn Subject> {
    memory(Manner::PerRow)
}

pub fn memory_at_once() -> Box<dyn Subject> {
    memory(Manner::AtOnce)
}

impl Subject for Memory {
    fn backend(&self) -> &dyn Backend {
        &self.world
    }
    fn policy(&self) -> &Policy {
        &self.policy
    }
    fn models(&self) -> Vec<(String, Option<String>)> {
        self.world.state().entries.clone().into_iter().collect()
    }
    fn replace(&self) {
        self.world.state().set("foreign-1", Some("sonnet"));
    }
    fn remove(&self) -> bool {
        false
    }
    fn changes(&self) -> usize {
        self.world.state().changed.len()
    }
    fn commits(&self) -> bool {
        self.manner == Manner::Batch
    }
    fn locks(&self) -> bool {
        false
    }
}

/// A backend whose registry is a file.
struct InFile {
    backend: Box<dyn Backend>,
    policy: Policy,
    sandbox: Sandbox,
    daemon: Option<Double>,
}

const MODELS: &str = "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"haiku\"\n\
                      [limits]\nmax_changes = 100\n\
                      [[rules]]\nchat = \"foreign-*\"\nmodel = \"sonnet\"\n[sessions]\n";

fn in_file(sessions: &str, start: impl Fn(&Sandbox) -> Option<Double>) -> Box<dyn Subject> {
    let sandbox = Sandbox::new(&format!("{MODELS}{sessions}"), &entries());
    sandbox.script("restart", "cd \"$(dirname \"$0\")\"; echo restart >> calls");
    let daemon = start(&sandbox);
    let (policy, _) = read(&[Source::new("policy.toml", sandbox.read("policy.toml"))]).unwrap();
    let registry = RegistryFile::open(&sandbox.path("sessions.json")).unwrap();
    let (directory, socket) = (sandbox.path(""), Some(sandbox.path("daemon.sock")));
    let backend =
        open(&policy, Place { home: Home::File(registry), directory, socket, probe: Probe::Nothing }).unwrap();
    Box::new(InFile { backend, policy, sandbox, daemon })
}

pub fn file() -> Box<dyn Subject> {
    in_file("restart = [\"./restart\"]\nparallel = 1\n", |_| None)
}

const DISPATCH: &str = "backend = \"dispatch\"\nsocket = \"daemon.sock\"\ntimeout = \"5s\"\ndrain = \"1s\"\n";

pub fn dispatch_down() -> Box<dyn Subject> {
    in_file(DISPATCH, |_| None)
}

pub fn dispatch_up() -> Box<dyn Subject> {
    in_file(DISPATCH, |sandbox| {
        let daemon = daemon(sandbox, &["ada", "ben", "cal", "dan"]);
        for chat in ["ada", "ben", "cal", "dan"] {
            daemon.tell(&format!("turn-ends {chat}"));
        }
        Some(daemon)
    })
}

impl Subject for InFile {
    fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }
    fn policy(&self) -> &Policy {
        &self.policy
    }
    fn models(&self) -> Vec<(String, Option<String>)> {
        if let Some(daemon) = &self.daemon {
            daemon.tell("flush");
        }
        let registry: Value = serde_json::from_str(&self.sandbox.read("sessions.json")).unwrap();
        let model = |entry: &Value| entry["model"].as_str().map(str::to_owned);
        registry.as_object().unwrap().iter().map(|(chat, entry)| (chat.clone(), model(entry))).collect()
    }
    fn replace(&self) {
        let theirs = self.sandbox.read("sessions.json").replacen('{', r#"{"foreign-1": {"model": "sonnet"}, "#, 1);
        let (file, temporary) = (self.sandbox.path("sessions.json"), self.sandbox.path("theirs"));
        fs::write(&temporary, theirs).unwrap();
        fs::rename(temporary, file).unwrap();
    }
    fn remove(&self) -> bool {
        fs::remove_file(self.sandbox.path("sessions.json")).unwrap();
        true
    }
    fn changes(&self) -> usize {
        match &self.daemon {
            Some(daemon) => crate::dispatch::changes(daemon).len(),
            None => self.sandbox.calls().len(),
        }
    }
    fn commits(&self) -> bool {
        self.daemon.is_none()
    }
}

/// A gateway, and a policy that calls its models by their aliases.
struct Asked {
    gateway: Gateway,
    backend: Box<dyn Backend>,
    policy: Policy,
    _state: TempDir,
}

pub fn openclaw() -> Box<dyn Subject> {
    asked(Gateway::start)
}

#[cfg(feature = "remote")]
pub fn openclaw_encrypted() -> Box<dyn Subject> {
    asked(|world| Gateway::encrypted(world, "self-signed"))
}

fn asked(start: impl Fn(GatewayWorld) -> Gateway) -> Box<dyn Subject> {
    let model = |id| Model { id, alias: Some(id), reasoning: false };
    let names = ["opus", "sonnet", "haiku"];
    let mut world = GatewayWorld {
        models: names.map(model).to_vec(),
        allowed: names.map(|name| format!("fake/{name}")).to_vec(),
        default_model: "fake/sonnet".to_owned(),
        ..GatewayWorld::default()
    };
    for (chat, model) in [("ada", "opus"), ("ben", "sonnet"), ("cal", "haiku")] {
        world.add(chat, &pinned(&format!("fake/{model}"), &json!({})));
    }
    world.add("dan", &json!({}));
    let gateway = start(world);
    let aliases = names.map(|name| format!("\"fake/{name}\" = {name:?}")).join(", ");
    let models = MODELS.replace("[limits]", &format!("aliases = {{ {aliases} }}\n[limits]"));
    let text = format!("{models}backend = \"openclaw\"\n");
    let (policy, _) = read(&[Source::new("policy.toml", text)]).unwrap();
    let state = TempDir::new().unwrap();
    let home = GatewayHome {
        address: gateway.url().parse().unwrap(),
        fingerprint: gateway.fingerprint(),
        token: TokenAt::Env("TOKEN".to_owned(), Some(Token::new("TOKEN-FOR-TESTS"))),
        device_key: None,
        timeout: Duration::from_secs(20),
        background: false,
        state: StateHome::new(state.path().join("state")),
    };
    let place = Place { home: Home::Gateway(home), directory: PathBuf::new(), socket: None, probe: Probe::Nothing };
    Box::new(Asked { backend: open(&policy, place).unwrap(), gateway, policy, _state: state })
}

impl Subject for Asked {
    fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }
    fn policy(&self) -> &Policy {
        &self.policy
    }
    fn models(&self) -> Vec<(String, Option<String>)> {
        let world = self.gateway.world();
        let keys = world.sessions.iter().map(|row| row["key"].as_str().unwrap().to_owned());
        let model = |key: &str| world.pinned(key).map_or("default".to_owned(), |model| self.plain(&model));
        let mut models: Vec<_> = keys.map(|key| (key.clone(), Some(model(&key)))).collect();
        models.sort();
        models
    }
    fn plain(&self, model: &str) -> String {
        model.trim_start_matches("fake/").to_owned()
    }
    fn replace(&self) {
        self.gateway.world().add("foreign-1", &pinned("fake/sonnet", &json!({})));
    }
    fn remove(&self) -> bool {
        false
    }
    fn changes(&self) -> usize {
        self.gateway.count("sessions.patchMany")
    }
    fn commits(&self) -> bool {
        false
    }
}

/// A table of a database of its own.
#[cfg(feature = "postgres")]
struct InTable {
    backend: Box<dyn Backend>,
    policy: Policy,
    sandbox: Sandbox,
    client: std::sync::Mutex<postgres::Client>,
}

#[cfg(feature = "postgres")]
pub fn postgres() -> Box<dyn Subject> {
    use reconcile::backend::postgres::{Environment, RegistryTable, Said};

    let (name, mut client) = crate::server::server().new_database();
    client.batch_execute(include_str!("../../../src/backend/postgres/schema.sql")).unwrap();
    let rows = "CREATE TABLE sessions (id text PRIMARY KEY, model text, name text, tier text);
                INSERT INTO sessions SELECT id, nullif(model, ''), 'imessage/' || id, 'x'
                FROM (VALUES ('ada', 'opus'), ('ben', 'sonnet'), ('cal', 'haiku'), ('dan', '')) AS chat(id, model)";
    client.batch_execute(rows).unwrap();
    let address = format!("{} dbname={name} user=postgres", crate::server::server().address());
    let registry = format!(
        "[registry]\npostgres = \"{address}\"\ntable = \"sessions\"\n\
         columns = {{ chat_id = \"id\", model = \"model\", session_name = \"name\", tier = \"tier\" }}\n"
    );
    let policy = format!("{MODELS}restart = [\"./restart\"]\nparallel = 1\n{registry}");
    let sandbox = Sandbox::new(&policy, "{}");
    sandbox.script("restart", "cd \"$(dirname \"$0\")\"; echo restart >> calls");
    let (policy, _) = read(&[Source::new("policy.toml", policy)]).unwrap();
    let table = policy.table.clone().unwrap();
    let home = RegistryTable::new(&policy, &table, Said::ByPolicy(&table.server), &Environment::default()).unwrap();
    let place = Place { home: Home::Table(home), directory: sandbox.path(""), socket: None, probe: Probe::Nothing };
    let backend = open(&policy, place).unwrap();
    Box::new(InTable { backend, policy, sandbox, client: client.into() })
}

#[cfg(feature = "postgres")]
impl Subject for InTable {
    fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }
    fn policy(&self) -> &Policy {
        &self.policy
    }
    fn models(&self) -> Vec<(String, Option<String>)> {
        let rows = self.client.lock().unwrap().query("SELECT id, model FROM sessions ORDER BY id", &[]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
    /// A new chat makes no plan of others stale: so a row that is planned on changes, too.
    fn replace(&self) {
        let theirs =
            "INSERT INTO sessions VALUES ('foreign-1', 'sonnet'); UPDATE sessions SET tier = 'y' WHERE id = 'ada'";
        self.client.lock().unwrap().batch_execute(theirs).unwrap();
    }
    fn remove(&self) -> bool {
        self.client.lock().unwrap().batch_execute("DROP TABLE sessions").unwrap();
        true
    }
    /// A second run waits for a row that tells of no process: `apply::one_run_holds_the_registry_…` in `tests/postgres`.
    fn locks(&self) -> bool {
        false
    }
    fn changes(&self) -> usize {
        self.sandbox.calls().len()
    }
}
