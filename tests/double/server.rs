//! The daemon's socket: one request line in, one reply line out, then it is closed.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::{fs, thread};

use crate::control;
use crate::json::Json;
use crate::sessions::{Cause, Sessions};

const MODELS: [&str; 3] = ["opus", "sonnet", "haiku"];

/// What the reply says of a session that did not start.
const NOT_STARTED: &str = "The session did not start";

/// What became of a restart.
enum Restart {
    Done,
    /// By the breaker, or because there is no such chat: nothing was stopped.
    Refused,
    /// The session was stopped, and another one did not start.
    Failed,
}

/// How the reply to a request goes wrong.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nothing is done, and the reply says so.
    Fail,
    /// Nothing is done, and the connection is closed without a reply.
    Ignore,
    /// It is done, and the connection stays open without a reply.
    Never,
    /// It is done, and only so many bytes of the reply are sent.
    Cut(usize),
}

/// A control line that is obeyed when so many more requests of a kind have been carried out, before the last of them
/// is answered.
pub struct Hook {
    pub command: String,
    pub count: usize,
    pub line: String,
}

/// Everything the threads share.
pub struct State {
    pub sessions: Sessions,
    /// Requests as they came; what is no JSON is a string.
    pub requests: Vec<Json>,
    /// Each is used once, by the first request that has its name, or by any if it has none.
    pub faults: Vec<(Option<String>, Fault)>,
    pub hooks: Vec<Hook>,
    /// Connections are accepted and never answered.
    pub hang: bool,
    /// Connections are not accepted, and these fill the queue of those that wait for it.
    pub backlog: Option<Vec<UnixStream>>,
    pub open: bool,
    pub finished: bool,
    /// Connections that are never answered.
    held: Vec<UnixStream>,
}

pub struct Daemon {
    pub socket: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

impl Daemon {
    pub fn new(socket: PathBuf, sessions: Sessions) -> Self {
        let state = State {
            sessions,
            requests: Vec::new(),
            faults: Vec::new(),
            hooks: Vec::new(),
            hang: false,
            backlog: None,
            open: false,
            finished: false,
            held: Vec::new(),
        };
        Self { socket, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the state until `ready` finds it as it should be.
    fn wait<'s>(&self, state: MutexGuard<'s, State>, ready: impl Fn(&State) -> bool) -> MutexGuard<'s, State> {
        self.changed.wait_while(state, |state| !ready(state)).unwrap_or_else(PoisonError::into_inner)
    }

    pub fn announce_change(&self) {
        self.changed.notify_all();
    }

    fn handle(&self, command: Option<&str>, request: &Json) -> Json {
        let chat = request.text("chat_id");
        match (command, chat) {
            (Some("status"), _) => Json::object([("ok", true.into()), ("sessions", self.lock().sessions.status())]),
            (Some("get_global_model"), _) => {
                let [state, global] = self.lock().sessions.override_fields();
                Json::object([
                    ("ok", true.into()),
                    state,
                    global,
                    ("circuit_breaker", "closed".into()),
                    ("quota_5h_pct", Json::Null),
                    ("quota_7d_opus_pct", Json::Null),
                    ("quota_updated_at", Json::Null),
                ])
            }
            (Some("set_global_model"), _) => self.set_global_model(request),
            (Some("set_model" | "restart_session" | "kill_session"), None) => error("Missing chat_id"),
            (Some("set_model"), Some(chat)) => match request.text("model") {
                Some(model) if MODELS.contains(&model) => self.set_model(chat, model),
                Some(model) => error(&format!("Invalid model: {model}")),
                None => error("Missing model"),
            },
            (Some("restart_session"), Some(chat)) => match self.restart(chat) {
                Restart::Done => message(true, format!("Restarted {chat}")),
                Restart::Refused => message(false, "Failed to restart".to_owned()),
                Restart::Failed => error(NOT_STARTED),
            },
            (Some("kill_session"), Some(chat)) => {
                if self.lock().sessions.stop(chat) {
                    message(true, format!("Killed {chat}"))
                } else {
                    message(false, "Session not found".to_owned())
                }
            }
            (Some(command), _) => error(&format!("Unknown command: {command}")),
            (None, _) => error("Unknown command: None"),
        }
    }

    /// The registry changes first, whether the restart is then granted or not. Of a chat that is not registered yet only
    /// the model is stored. The entry that this makes is bare, and another request starts a session of it.
    fn set_model(&self, chat: &str, model: &str) -> Json {
        let is_registered = {
            let sessions = &mut self.lock().sessions;
            let is_registered = sessions.is_registered(chat);
            sessions.write_model(chat, model);
            is_registered
        };
        if !is_registered {
            return message(true, format!("Stored model preference {model} for {chat} (session not yet active)"));
        }
        let text = format!("Set model to {model} for {chat}");
        match self.restart(chat) {
            Restart::Done => message(true, text),
            Restart::Refused => message(false, text),
            Restart::Failed => error(NOT_STARTED),
        }
    }

    fn restart(&self, chat: &str) -> Restart {
        let mut state = self.lock();
        if !state.sessions.begin_restart(chat) {
            return Restart::Refused;
        }
        let mut state = self.wait(state, |state| !state.sessions.is_slow(chat));
        if state.sessions.start(chat, Cause::Request) { Restart::Done } else { Restart::Failed }
    }

    fn set_global_model(&self, request: &Json) -> Json {
        let model = request.text("model").unwrap_or_default();
        let (model, text) = match model {
            "--clear" => (None, "Global model override cleared".to_owned()),
            model if MODELS.contains(&model) => (Some(model), format!("Global model set to {model}")),
            model => return error(&format!("Invalid model: {model}")),
        };
        let sessions = &mut self.lock().sessions;
        sessions.set_override(model, request.text("trigger").unwrap_or("manual"));
        let [state, global] = sessions.override_fields();
        Json::object([("ok", true.into()), state, global, ("message", text.into())])
    }

    /// What is to be sent in reply to a line, if anything; and whether to keep the connection open after it.
    fn answer(&self, line: &str) -> (Option<String>, bool) {
        let request = Json::parse(line);
        let command = request.as_ref().and_then(|request| request.text("cmd"));
        let fault = {
            let mut state = self.lock();
            state.requests.push(request.clone().unwrap_or_else(|| line.into()));
            let fits = |(name, _): &(Option<String>, Fault)| name.is_none() || name.as_deref() == command;
            state.faults.iter().position(fits).map(|index| state.faults.remove(index).1)
        };
        let reply = match &request {
            _ if fault == Some(Fault::Ignore) => return (None, false),
            _ if fault == Some(Fault::Fail) => error("Told to fail"),
            None => error("Expecting value: line 1 column 1 (char 0)"),
            Some(request @ Json::Object(_)) => self.handle(command, request),
            Some(other) => error(&format!("'{}' object has no attribute 'get'", other.python_type())),
        };
        self.run_hooks(command.unwrap_or_default());
        let mut reply = reply.on_one_line() + "\n";
        match fault {
            Some(Fault::Never) => return (None, true),
            Some(Fault::Cut(bytes)) => reply.truncate(bytes),
            _ => {}
        }
        (Some(reply), false)
    }

    fn run_hooks(&self, command: &str) {
        let mut due = Vec::new();
        self.lock().hooks.retain_mut(|hook| {
            if hook.command == command {
                hook.count = hook.count.saturating_sub(1);
            }
            let keep = hook.count > 0;
            if !keep {
                due.push(hook.line.clone());
            }
            keep
        });
        for line in due {
            // The test that set the hook sees what comes of it.
            drop(control::obey(self, &line));
        }
    }

    fn serve(&self, stream: UnixStream) -> io::Result<()> {
        if self.lock().hang {
            self.lock().held.push(stream);
            return Ok(());
        }
        let mut line = String::new();
        if BufReader::new(&stream).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (reply, keep) = self.answer(&line);
        if keep {
            self.lock().held.push(stream);
            return Ok(());
        }
        (&stream).write_all(reply.unwrap_or_default().as_bytes())
    }

    fn accept(&'static self, listener: &UnixListener) {
        for stream in listener.incoming().flatten() {
            let state = self.wait(self.lock(), |state| state.backlog.is_none() || !state.open);
            if !state.open {
                return;
            }
            drop(state);
            // A client that is gone by the time of the reply is nothing to a daemon.
            thread::spawn(move || drop(self.serve(stream)));
        }
    }

    /// Opens the socket and serves it from a thread of its own.
    pub fn open(&'static self) -> io::Result<()> {
        remove_socket(&self.socket)?;
        let listener = UnixListener::bind(&self.socket)?;
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o600))?;
        self.lock().open = true;
        thread::spawn(move || self.accept(&listener));
        Ok(())
    }

    /// Removes the socket. What was asked before goes on.
    pub fn close(&self) -> io::Result<()> {
        self.lock().open = false;
        self.announce_change();
        // Wakes the thread that accepts, so that it sees that it is to end.
        drop(UnixStream::connect(&self.socket));
        remove_socket(&self.socket)
    }
}

pub fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn message(ok: bool, text: String) -> Json {
    Json::object([("ok", ok.into()), ("message", text.into())])
}

fn error(text: &str) -> Json {
    Json::object([("ok", false.into()), ("error", text.into())])
}
