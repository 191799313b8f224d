//! Starts real processes as sessions, lets some of them drift, reconciles, and shows who has a new process.
//!
//! Run it with `cargo run --example demo`. Everything happens in a temporary directory.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a demonstration sets its own scene, and shows it on stdout"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Chat, contact, tier, and the model that it was started on, by hand and long ago.
const CHATS: [(&str, &str, &str, &str); 6] = [
    ("+16175550101", "Ada Quinn", "admin", "opus"),
    ("+16175550103", "Cal Ortiz", "family", "opus"),
    ("+16175550107", "Weather Bot", "bots", "opus"),
    ("+16175550109", "Gus Harlan", "family", "sonnet"),
    ("+16175550112", "Joan Pell", "family", "sonnet"),
    ("+16175550113", "Parcel Bot", "bots", "haiku"),
];

const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "sonnet"

[tiers]
admin  = "opus"
family = "sonnet"
bots   = "haiku"

[chats]
"+16175550112" = { model = "opus", reason = "thesis season" }

[registry]
path = "sessions.json"

[sessions]
restart = ["./restart", "{session_slug}", "{model}"]
running = ["./running", "{session_slug}"]
"#;

/// A session: says who it is and on which model, then lives on.
const SESSION: &str = r#"echo "$$ $2" > "$1.session"; echo > "$1.ready"; exec sleep 600 2> /dev/null"#;

/// Ends a session and starts it anew, in the background. It returns when the new one says that it is up.
const RESTART: &str = r#"
if [ -f "$1.session" ]; then read -r pid model < "$1.session"; kill "$pid"; fi
[ -p "$1.ready" ] || mkfifo "$1.ready"
./session "$1" "$2" &
read -r up < "$1.ready"
"#;

const RUNNING: &str = r#"read -r pid model < "$1.session" && kill -0 "$pid" || exit 3"#;

type Sessions = BTreeMap<String, (String, String)>;

fn main() -> Result<ExitCode> {
    // With arguments, this is the program itself: so the demonstration needs nothing but what Cargo built for it.
    if std::env::args_os().len() > 1 {
        return Ok(reconcile::cli::main());
    }
    let directory = tempfile::tempdir()?;
    let shown = demonstrate(directory.path());
    for (pid, _) in sessions(directory.path())?.values() {
        Command::new("kill").arg(pid).status()?;
    }
    shown.map(|()| ExitCode::SUCCESS)
}

fn demonstrate(directory: &Path) -> Result<()> {
    for (name, body) in [("session", SESSION), ("restart", RESTART), ("running", RUNNING)] {
        fs::write(directory.join(name), format!("#!/bin/sh\n{body}\n"))?;
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755))?;
    }
    fs::write(directory.join("policy.toml"), POLICY)?;
    let mut registry = serde_json::Map::new();
    for (chat, contact, tier, model) in CHATS {
        let entry = json!({ "session_name": slug(chat), "contact_name": contact, "tier": tier, "model": model });
        registry.insert(chat.to_owned(), entry);
        run(Command::new("./restart").args([&slug(chat), model]).current_dir(directory))?;
    }
    fs::write(directory.join("sessions.json"), serde_json::to_string_pretty(&Value::Object(registry))?)?;

    println!("Six sessions are running. Three of them are not what the policy says.\n");
    let before = sessions(directory)?;
    reconcile(directory, &["--dry-run"])?;
    reconcile(directory, &[])?;
    let after = sessions(directory)?;

    println!("contact       before            after");
    for (chat, contact, ..) in CHATS {
        let name = slug(chat);
        let ((old_pid, old_model), (pid, model)) = (&before[&name], &after[&name]);
        let told = if old_pid == pid { "the same process" } else { "a new process" };
        println!("{contact:<12}  {old_pid:>7} {old_model:<8}  {pid:>7} {model:<8}  {told}");
        ensure!((old_pid == pid) == (old_model == model), "{contact}: exactly those that drifted must be restarted");
    }
    println!("\nOnce more: there is nothing left to do.\n");
    reconcile(directory, &[])
}

fn reconcile(directory: &Path, arguments: &[&str]) -> Result<()> {
    println!("$ reconcile {}", arguments.join(" "));
    let program = std::env::current_exe()?;
    // `--policy` marks it as the program; see `main`.
    run(Command::new(program).args(["--policy", "policy.toml"]).args(arguments).current_dir(directory))?;
    println!();
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn slug(chat: &str) -> String {
    chat.replace('+', "_")
}

/// What the sessions themselves said when they started: their process and their model.
fn sessions(directory: &Path) -> Result<Sessions> {
    let mut sessions = Sessions::new();
    for (chat, ..) in CHATS {
        let name = slug(chat);
        let said = fs::read_to_string(directory.join(format!("{name}.session"))).unwrap_or_default();
        if said.is_empty() {
            continue;
        }
        let (pid, model) = said.trim().split_once(' ').context("a session said something else")?;
        sessions.insert(name, (pid.to_owned(), model.to_owned()));
    }
    Ok(sessions)
}
