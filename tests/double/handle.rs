//! How tests start the double of the daemon, and talk to it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Once;
use std::{env, fs};

use serde_json::{Value, json};

/// A running double: a process of its own, which ends with the test.
pub struct Double {
    pub process: Child,
    registry: PathBuf,
    pub socket: PathBuf,
    pub control: PathBuf,
    /// Held here because a wait for the process would close it, and the double ends when it is closed.
    _stdin: Option<ChildStdin>,
}

impl Double {
    /// Starts it on `sessions.json` in a directory, with more arguments such as `--live CHAT`.
    pub fn start(directory: &Path, arguments: &[&str]) -> Self {
        let (registry, socket) = (directory.join("sessions.json"), directory.join("daemon.sock"));
        let control = directory.join("control.sock");
        let mut process = Command::new(program())
            .arg("--until-stdin-closes")
            .args([Path::new("--registry"), &registry, Path::new("--socket"), &socket])
            .args([Path::new("--control"), &control])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let stdin = process.stdin.take();
        Self { process, registry, socket, control, _stdin: stdin }
    }

    /// Sends a control line, which must be accepted, and returns the answer.
    pub fn tell(&self, line: &str) -> Value {
        let answer = self.try_to_tell(line);
        assert!(answer.get("error").is_none(), "{line}: {answer}");
        answer
    }

    /// Sends a control line, and returns the answer, which may be an error.
    pub fn try_to_tell(&self, line: &str) -> Value {
        serde_json::from_str(&exchange(&self.control, &format!("{line}\n")).unwrap()).unwrap()
    }

    /// It dies, as by SIGKILL.
    pub fn die(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Sends a request as a client of the daemon does.
    #[track_caller]
    pub fn ask(&self, request: &Value) -> Value {
        let reply = exchange(&self.socket, &format!("{request}\n")).unwrap();
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply:?}"))
    }

    /// The row of a live session in `status`; null where it is not live.
    pub fn status(&self, chat: &str) -> Value {
        let reply = self.ask(&json!({ "cmd": "status" }));
        let rows = reply["sessions"].as_array().unwrap();
        rows.iter().find(|row| row["chat_id"] == chat).cloned().unwrap_or_default()
    }

    /// What no client can see of a chat: `model`, `starts`, `conversation_lost`, `replies_cut`.
    pub fn truth(&self, chat: &str) -> Value {
        self.tell("sessions")[chat].clone()
    }

    pub fn requests(&self) -> Vec<Value> {
        self.tell("requests").as_array().unwrap().clone()
    }

    pub fn set_model(&self, chat: &str, model: &str) -> Value {
        self.ask(&json!({ "cmd": "set_model", "chat_id": chat, "model": model }))
    }

    /// The chat's entry in the file.
    pub fn entry(&self, chat: &str) -> Value {
        let registry: Value = serde_json::from_str(&fs::read_to_string(&self.registry).unwrap()).unwrap();
        registry[chat].clone()
    }

    /// Both halves of a clean shutdown.
    pub fn shut_down(&mut self) {
        self.tell("shutdown");
        self.tell("finish-shutdown");
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The double, which is an example because Cargo ships none. It is built with `cargo test`, but not with a part of it.
fn program() -> PathBuf {
    static BUILT: Once = Once::new();
    let binary = Path::new(env!("CARGO_BIN_EXE_reconcile"));
    let program = binary.with_file_name("examples").join(format!("dispatch-double{}", env::consts::EXE_SUFFIX));
    BUILT.call_once(|| {
        if !program.exists() {
            let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--example", "dispatch-double"]).args(profile);
            assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        }
    });
    program
}

pub fn exchange(socket: &Path, line: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(line.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}
