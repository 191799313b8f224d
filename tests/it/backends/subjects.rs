//! The backends under test, and what a test can do to their registries and sessions from outside.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use reconcile::apply::{Backend, Locked};
use reconcile::backend::file::RegistryFile;
use reconcile::backend::{Home, Place, Probe, open};
use reconcile::plan::ledger::Note;
use reconcile::policy::{Policy, Source, read};
use serde_json::Value;

use crate::dispatch::daemon;
use crate::handle::Double;
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
