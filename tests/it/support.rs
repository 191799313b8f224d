//! A directory with a policy and a registry in it, and the real binary run there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reconcile::error::{Error, Explain, Explanation};
use serde_json::Value;
use tempfile::TempDir;

pub use crate::journal_text::{folded, framed, ledger_in};

/// Three tiers, and the registry beside the policy. Tests add sections of their own.
pub const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "sonnet"

[tiers]
admin  = "opus"
family = "sonnet"
bots   = "haiku"

[registry]
path = "sessions.json"
"#;

/// What a test says itself where it is to count.
const UNSET: [&str; 6] = [
    "RECONCILE_POLICY",
    "RECONCILE_REGISTRY",
    "RECONCILE_GATEWAY_URL",
    "RECONCILE_GATEWAY_FINGERPRINT",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
];

/// A scratch directory with `policy.toml` and `sessions.json`.
pub struct Sandbox {
    dir: TempDir,
}

/// What the binary did.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    pub fn new(policy: &str, registry: &str) -> Self {
        let sandbox = Self { dir: TempDir::new().unwrap() };
        sandbox.write("policy.toml", policy);
        sandbox.write("sessions.json", registry);
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The model of a chat in the registry; `None` where its entry has none.
    pub fn model(&self, chat: &str) -> Option<String> {
        let registry: Value = serde_json::from_str(&self.read("sessions.json")).unwrap();
        registry[chat]["model"].as_str().map(str::to_owned)
    }

    /// The ledger, or null where there is none.
    pub fn ledger(&self) -> Value {
        ledger_in(&self.path("sessions.json.reconcile"))
    }

    /// Changes what the ledger says.
    pub fn amend_ledger(&self, change: &dyn Fn(&mut Value)) {
        let mut ledger = self.ledger();
        change(&mut ledger);
        write_ledger(&self.path("sessions.json.reconcile"), ledger);
    }

    /// Leaves a ledger that remembers a session to have come up on each of these models, so that none is tried first.
    pub fn has_seen(&self, models: &[&str]) {
        let worked = |model: &&str| ((*model).to_owned(), serde_json::json!({ "worked": "2026-01-01T00:00:00Z" }));
        let trials: serde_json::Map<String, Value> = models.iter().map(worked).collect();
        write_ledger(&self.path("sessions.json.reconcile"), serde_json::json!({ "trials": trials }));
    }

    /// Leaves a state directory as version 0.1 did, with this in its `owed.json`.
    pub fn leave_version_1(&self, ledger: &Value) {
        let state = self.path("sessions.json.reconcile");
        fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        fs::write(state.join("owed.json"), ledger.to_string()).unwrap();
        fs::set_permissions(state.join("owed.json"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes an executable shell script.
    pub fn script(&self, name: &str, body: &str) {
        self.write(name, format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The lines that scripts appended to `calls`.
    pub fn calls(&self) -> Vec<String> {
        self.read("calls").lines().map(str::to_owned).collect()
    }

    /// The binary, to be run in the sandbox.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
        command.args(arguments).current_dir(self.dir.path()).env("TZ", "UTC").stdin(Stdio::null());
        for name in UNSET {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        finish(&mut self.command(arguments))
    }

    /// The JSON report of a run.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
    }
}

pub fn finish(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    /// The summary, which is the last line of stdout.
    pub fn summary(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }

    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// Writes a file of a state directory, which is made where there is none.
pub fn write_state(state: &Path, name: &str, text: impl AsRef<[u8]>) {
    if !state.exists() {
        fs::DirBuilder::new().mode(0o700).create(state).unwrap();
    }
    fs::write(state.join(name), text).unwrap();
    fs::set_permissions(state.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Writes a journal of one record: this ledger.
pub fn write_ledger(state: &Path, mut ledger: Value) {
    ledger["version"] = 2.into();
    write_state(state, "ledger.journal", framed(&ledger));
}

/// The row of a chat in a JSON report.
pub fn row<'r>(report: &'r Value, chat: &str) -> &'r Value {
    let rows = report["changes"].as_array().unwrap();
    rows.iter().find(|row| row["chat_id"] == chat).unwrap_or_else(|| panic!("no row for {chat}: {report:#}"))
}

/// A registry as the daemon writes it: id, tier and model (empty for none) of each chat.
pub fn registry(chats: &[(&str, &str, &str)]) -> String {
    let entries = chats.iter().map(|(id, tier, model)| {
        let mut entry = serde_json::json!({
            "chat_id": id,
            "session_name": format!("imessage/{}", id.replace('+', "_")),
            "type": "individual",
            "tier": tier,
            "source": "imessage",
        });
        if !model.is_empty() {
            entry["model"] = Value::from(*model);
        }
        ((*id).to_owned(), entry)
    });
    serde_json::to_string_pretty(&Value::Object(entries.collect())).unwrap()
}

/// The root of this repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of this repository.
pub fn file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Everything below a folder of this repository that is written in Rust.
pub fn rust_below(folder: &str) -> String {
    let files = walkdir::WalkDir::new(root().join(folder)).into_iter().map(|entry| entry.unwrap().into_path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The codes that a source text gives to what these make: the first argument of each.
pub fn codes_of(makers: &[&str], source: &str) -> BTreeSet<String> {
    let calls = makers.iter().flat_map(|maker| source.split(maker).skip(1));
    let literals = calls.filter_map(|arguments| arguments.trim_start().strip_prefix('"')?.split('"').next());
    literals.map(str::to_owned).collect()
}

/// The codes of errors, which are made where a room explains its problems.
pub fn codes_of_errors() -> BTreeSet<String> {
    let source = rust_below("src");
    let made = codes_of(&["Explanation::new("], &source);
    // Those of a gateway are told with their words.
    let faults = file("src/backend/openclaw/fault.rs");
    let pairs = faults.match_indices("(\"").filter_map(|(at, _)| faults[at + 2..].split_once("\", "));
    let is_code = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    made.into_iter().chain(pairs.map(|(code, _)| code.to_owned()).filter(|code| is_code(code))).collect()
}

/// Folders and files directly below a folder of the tests, in order.
pub fn below(folder: &str) -> Vec<PathBuf> {
    let folder = root().join("tests").join(folder);
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Fails where one of these programs is not installed. A test that needs something that not every machine has is ignored
/// unless it is asked for, and begins with what it needs.
#[track_caller]
pub fn needs(programs: &[&str]) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        let is_installed = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
        assert!(is_installed, "{program} is not installed");
    }
}

/// Fails where this is not root, who may do what other users may not.
#[track_caller]
pub fn needs_root() {
    assert!(rustix::process::geteuid().is_root(), "only root can do this");
}

/// Fails where temporary files keep no extended attributes.
#[track_caller]
pub fn needs_attributes() {
    let directory = TempDir::new().unwrap();
    let kept = rustix::fs::setxattr(directory.path(), "user.any", b"", rustix::fs::XattrFlags::empty());
    assert_eq!(kept, Ok(()), "{} keeps no extended attributes", directory.path().display());
}

/// An error that a test makes.
pub fn error(words: &'static str) -> Error {
    #[derive(Debug)]
    struct OfTest(&'static str);

    impl Explain for OfTest {
        fn explain(&self) -> Explanation {
            Explanation::new("test", self.0)
        }
    }

    OfTest(words).into()
}
