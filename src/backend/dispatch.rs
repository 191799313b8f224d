//! The `dispatch` backend: a daemon owns the registry, and is asked to change it.
//!
//! Only `status` and `get_global_model` are asked when planning, and only `set_model` ever changes anything:
//! `restart_session` would start what the daemon remembers, which need not be what the file says.

#![allow(clippy::disallowed_methods, reason = "waiting for busy sessions is counted on the clock")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::apply::{Attempt, Backend, Turn};
use crate::backend::socket::{Answer, Socket};
use crate::error::{Error, Result};
use crate::plan::{Observed, Presence, Row, Session, Writer};
use crate::policy::Daemon;

/// Between two looks at a session that is waited for.
const PAUSE: Duration = Duration::from_millis(100);
/// The daemon saves a second after a change; so long its file is waited for.
const SAVED: Duration = Duration::from_secs(2);

/// Asks a dispatch daemon to change models.
#[derive(Debug)]
pub struct DispatchBackend<'a> {
    daemon: &'a Daemon,
    socket: Socket,
    /// Until then the run waits for busy sessions. Set when the first one is met.
    drained: OnceLock<Instant>,
}

/// A live session, as `status` shows it.
#[derive(Clone, Debug, Deserialize)]
struct Live {
    chat_id: String,
    is_alive: bool,
    #[serde(default)]
    is_healthy: bool,
    #[serde(default)]
    health_reason: Option<String>,
    is_busy: bool,
    #[serde(default)]
    queue_size: u64,
    session_id: Option<String>,
    created_at: String,
}

impl Live {
    fn presence(&self) -> Presence {
        if self.is_busy || self.queue_size > 0 {
            Presence::Busy
        } else if self.session_id.is_none() {
            Presence::Young
        } else {
            Presence::Running
        }
    }
}

impl<'a> DispatchBackend<'a> {
    /// `socket`: where the daemon listens. `owner`: whose registry it is.
    pub fn new(daemon: &'a Daemon, socket: PathBuf, owner: u32) -> Self {
        Self { daemon, socket: Socket::new(socket, owner, daemon.timeout), drained: OnceLock::new() }
    }

    /// The live sessions by chat id; `None` where the daemon is down.
    fn status(&self) -> Result<Option<BTreeMap<String, Live>>> {
        #[derive(Deserialize)]
        struct Status {
            sessions: Vec<Live>,
        }
        let Some(reply) = self.read("status")? else { return Ok(None) };
        let status: Status = serde_json::from_value(reply).map_err(|error| self.misunderstood("status", &error))?;
        let live = status.sessions.into_iter().filter(|session| session.is_alive);
        Ok(Some(live.map(|session| (session.chat_id.clone(), session)).collect()))
    }

    /// Why a restart would change nothing, if so. `None` also where the daemon is down.
    fn hold(&self) -> Result<Option<String>> {
        let Some(reply) = self.read("get_global_model")? else { return Ok(None) };
        let model = match &reply["override"] {
            Value::Null if reply["state"] == "normal" => return Ok(None),
            set => set["model"].as_str().unwrap_or("another model").to_owned(),
        };
        Ok(Some(format!("the daemon's global override is on ({model}): a restart would change nothing")))
    }

    /// Asks for something that changes nothing. `None` where the daemon is down.
    fn read(&self, command: &str) -> Result<Option<Value>> {
        let failed = |why: String| {
            Error::other(format!("the daemon at {} did not answer {command}: {why}", self.socket.path().display()))
                .with_hint("while it is up, only it can change the registry; nothing was changed")
        };
        match self.socket.ask(&json!({ "cmd": command }))? {
            Answer::Down => Ok(None),
            Answer::Reply(reply) if reply["ok"] == true => Ok(Some(reply)),
            Answer::Reply(reply) => Err(failed(complaint(&reply))),
            Answer::Lost(why) => Err(failed(why)),
        }
    }

    fn misunderstood(&self, command: &str, error: &serde_json::Error) -> Error {
        let path = self.socket.path().display();
        Error::other(format!("the daemon at {path} answered {command} in another form: {error}"))
            .with_hint("is it a dispatch daemon, and of a version that this one knows?")
    }

    /// The session of a row when it can be restarted, waited for if it is busy; else what to say of the row.
    fn ready(&self, row: &Row, turn: &dyn Turn) -> Result<Live, Attempt> {
        let unclear = |error: Error| Attempt::Deferred(error.to_string());
        loop {
            let sessions = self.status().map_err(unclear)?;
            let sessions = sessions.ok_or_else(|| Attempt::Deferred("the daemon went down".to_owned()))?;
            let Some(live) = sessions.get(row.chat.id.as_ref()) else {
                return Err(Attempt::Deferred("its session is no longer live".to_owned()));
            };
            match live.presence() {
                Presence::Young => {
                    return Err(Attempt::Deferred("young: its first turn has not ended".to_owned()));
                }
                Presence::Busy if turn.is_over() => return Err(Attempt::NotBegun),
                Presence::Busy if Instant::now() >= self.drained() => {
                    return Err(Attempt::Deferred("busy for as long as the run waits".to_owned()));
                }
                Presence::Busy => sleep(PAUSE),
                _ => {
                    if let Some(why) = self.hold().map_err(unclear)? {
                        return Err(Attempt::Deferred(why));
                    }
                    return Ok(live.clone());
                }
            }
        }
    }

    /// When the run stops waiting for busy sessions: one deadline for all of them.
    fn drained(&self) -> Instant {
        *self.drained.get_or_init(|| Instant::now() + self.daemon.drain)
    }

    /// Waits until `status` shows a session of the chat that is not `old`. `why`: what to say if it never does.
    fn arrival(&self, chat: &str, old: &str, why: impl FnOnce() -> Attempt) -> Attempt {
        let until = Instant::now() + self.daemon.timeout;
        loop {
            let live = self.status().ok().flatten().and_then(|mut sessions| sessions.remove(chat));
            match live.filter(|live| live.created_at != old) {
                Some(live) if live.is_healthy => return Attempt::Restarted(Some(live.created_at)),
                Some(live) if Instant::now() >= until => {
                    let reason = live.health_reason.unwrap_or_default();
                    return Attempt::Failed(format!("the new session is not healthy: {reason}"));
                }
                None if Instant::now() >= until => return why(),
                _ => sleep(PAUSE),
            }
        }
    }
}

impl Backend for DispatchBackend<'_> {
    fn observe(&self, _: &[&Row]) -> Result<Observed> {
        let Some(sessions) = self.status()? else {
            return Ok(Observed { writer: Writer::UsMeanwhile, ..Observed::default() });
        };
        let session = |live: Live| {
            let presence = live.presence();
            (live.chat_id, Session { presence, run: Some(live.created_at) })
        };
        let sessions = sessions.into_values().map(session).collect();
        Ok(Observed { writer: Writer::Daemon, hold: self.hold()?, sessions })
    }

    fn may_write(&self) -> Result<bool> {
        self.socket.is_down()
    }

    fn restart(&self, row: &Row, turn: &dyn Turn) -> Attempt {
        let Some(model) = &row.after else { return Attempt::NotBegun };
        let live = match self.ready(row, turn) {
            Ok(live) => live,
            Err(attempt) => return attempt,
        };
        if !turn.begin(Some(&live.created_at)) {
            return Attempt::NotBegun;
        }
        let chat = row.chat.id.as_ref();
        let request = json!({ "cmd": "set_model", "chat_id": chat, "model": model.as_str() });
        match self.socket.ask(&request) {
            Ok(Answer::Down) => Attempt::Withdrawn("the daemon went down".to_owned()),
            Err(error) => Attempt::Withdrawn(error.to_string()),
            Ok(Answer::Reply(reply)) if reply["ok"] == true => self.arrival(chat, &live.created_at, || {
                Attempt::Failed("the daemon said ok, and no new session came up".to_owned())
            }),
            Ok(Answer::Reply(reply)) => Attempt::Failed(format!("the daemon refused: {}", complaint(&reply))),
            Ok(Answer::Lost(why)) => self.arrival(chat, &live.created_at, || Attempt::Unknown(why)),
        }
    }

    fn settle(&self, arrived: &dyn Fn() -> bool) {
        let until = Instant::now() + SAVED;
        while !arrived() && Instant::now() < until {
            sleep(PAUSE);
        }
    }
}

/// What the daemon says is wrong. A refused restart has a message and no error.
fn complaint(reply: &Value) -> String {
    let said = reply["error"].as_str().or(reply["message"].as_str());
    said.unwrap_or("it does not say why").to_owned()
}
