//! The `dispatch` backend: a daemon owns the registry, and is asked to change it.
//!
//! Only `status` and `get_global_model` are asked when planning, and only `set_model` ever changes anything:
//! `restart_session` would start what the daemon remembers, which need not be what the file says.

#![allow(clippy::disallowed_methods, reason = "waiting for busy sessions is counted on the clock")]

mod socket;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::{Attempt, Backend, Turn};
use crate::backend::dispatch::socket::{Answer, Socket};
use crate::error::{Error, Result};
use crate::plan::ledger::Debt;
use crate::plan::{Observed, Presence, Row, Session, Writer};
use crate::policy::Daemon;
use crate::registry::Lossy;

pub use socket::{Meaning, System, meaning};

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
    chat_id: Lossy,
    is_alive: bool,
    #[serde(default)]
    is_healthy: bool,
    #[serde(default)]
    health_reason: Option<Lossy>,
    is_busy: bool,
    #[serde(default)]
    queue_size: u64,
    session_id: Option<Lossy>,
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
    fn status(&self, until: Instant) -> Result<Option<BTreeMap<String, Live>>> {
        #[derive(Deserialize)]
        struct Status {
            sessions: Vec<Live>,
        }
        let Some(status) = self.read::<Status>("status", until)? else { return Ok(None) };
        let live = status.sessions.into_iter().filter(|session| session.is_alive);
        Ok(Some(live.map(|session| (session.chat_id.0.clone(), session)).collect()))
    }

    /// Why a restart would change nothing, if so. `None` also where the daemon is down.
    fn hold(&self) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Global {
            state: Option<Lossy>,
            r#override: Option<Override>,
        }
        #[derive(Deserialize)]
        struct Override {
            model: Option<Lossy>,
        }
        let Some(global) = self.read::<Global>("get_global_model", self.socket.deadline())? else { return Ok(None) };
        let model = match global.r#override {
            None if global.state.is_some_and(|Lossy(state)| state == "normal") => return Ok(None),
            set => set.and_then(|set| set.model).map_or_else(|| "another model".to_owned(), |Lossy(model)| model),
        };
        Ok(Some(format!("the daemon's global override is on ({model}): a restart would change nothing")))
    }

    /// Asks for something that changes nothing. `None` where the daemon is down.
    fn read<T: DeserializeOwned>(&self, command: &str, until: Instant) -> Result<Option<T>> {
        let path = self.socket.path().display();
        let failed = |why: String| {
            Error::other(format!("the daemon at {path} did not answer {command}: {why}"))
                .with_hint("while it is up, only it can change the registry; nothing was changed")
                .or_nameless(format!("the daemon at {path} did not answer {command} as it should"))
        };
        let reply = match self.socket.ask(&json!({ "cmd": command }), until)? {
            Answer::Down => return Ok(None),
            Answer::Reply(reply) => reply,
            Answer::Lost(why) => return Err(failed(why)),
        };
        if let Err(complaint) = verdict(&reply) {
            return Err(failed(complaint));
        }
        serde_json::from_slice(&reply).map(Some).map_err(|error| {
            Error::other(format!("the daemon at {path} answered {command} in another form: {error}"))
                .with_hint("is it a dispatch daemon, and of a version that this one knows?")
                .or_nameless(format!("the daemon at {path} answered {command} in another form"))
        })
    }

    /// The session of a row when it can be restarted, waited for if it is busy; else what to say of the row.
    fn ready(&self, row: &Row, turn: &dyn Turn) -> Result<Live, Attempt> {
        let unclear = |error: Error| Attempt::Deferred(error.to_string());
        loop {
            let sessions = self.status(self.socket.deadline()).map_err(unclear)?;
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

    /// Waits until `status` shows what became of the session that began at `old`. `asked`: whether the daemon said that
    /// it would start it anew; else, what is known instead.
    fn arrival(&self, chat: &str, old: &str, asked: &Result<(), String>) -> Attempt {
        let until = self.socket.deadline();
        let mut last = None;
        loop {
            if let Ok(Some(mut sessions)) = self.status(until) {
                last = Some(sessions.remove(chat));
            }
            match &last {
                Some(Some(live)) if live.created_at != old && live.is_healthy => {
                    return Attempt::Restarted(Some(live.created_at.clone()));
                }
                _ if Instant::now() < until => sleep(PAUSE),
                _ => break,
            }
        }
        match (last, asked) {
            (Some(Some(live)), _) if live.created_at != old => {
                let reason =
                    live.health_reason.map_or_else(|| "it does not say why".to_owned(), |Lossy(reason)| reason);
                Attempt::Broken(format!("the new session is not healthy: {reason}"))
            }
            (_, Err(why)) => Attempt::Unknown(why.clone()),
            (None, Ok(())) => Attempt::Unknown("the daemon said ok, and has not answered since".to_owned()),
            (Some(None), Ok(())) => Attempt::Broken("the daemon said ok, and no session is alive".to_owned()),
            (Some(Some(_)), Ok(())) => {
                Attempt::Failed("the daemon said ok, and did not start the session anew".to_owned())
            }
        }
    }
}

impl Backend for DispatchBackend<'_> {
    fn observe(&self, _: &[&Row]) -> Result<Observed> {
        let Some(sessions) = self.status(self.socket.deadline())? else {
            return Ok(Observed { writer: Writer::UsMeanwhile, ..Observed::default() });
        };
        let session = |live: Live| {
            let presence = live.presence();
            (live.chat_id.0, Session { presence, healthy: live.is_healthy, run: Some(live.created_at) })
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
        let another = |debt: &Debt| debt.session.as_ref().is_some_and(|session| *session != live.created_at);
        if !row.edit && row.owed.as_ref().is_some_and(another) {
            return Attempt::NotNeeded("it was started anew meanwhile".to_owned());
        }
        if !turn.begin(Some(&live.created_at)) {
            return Attempt::NotBegun;
        }
        let chat = row.chat.id.as_ref();
        let request = json!({ "cmd": "set_model", "chat_id": chat, "model": model.as_str() });
        match self.socket.ask(&request, self.socket.deadline()) {
            Ok(Answer::Down) => Attempt::Withdrawn("the daemon went down".to_owned()),
            Err(error) => Attempt::Withdrawn(error.to_string()),
            Ok(Answer::Reply(reply)) => match verdict(&reply) {
                Ok(()) => self.arrival(chat, &live.created_at, &Ok(())),
                Err(complaint) => Attempt::Failed(format!("the daemon refused: {complaint}")),
            },
            Ok(Answer::Lost(why)) => self.arrival(chat, &live.created_at, &Err(why)),
        }
    }

    fn settle(&self, arrived: &dyn Fn() -> bool) {
        let until = Instant::now() + SAVED;
        while !arrived() && Instant::now() < until {
            sleep(PAUSE);
        }
    }
}

/// Whether the daemon says ok, else what it says is wrong. A refused restart has a message and no error.
fn verdict(reply: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Reply {
        #[serde(default)]
        ok: bool,
        error: Option<Lossy>,
        message: Option<Lossy>,
    }
    match serde_json::from_slice(reply) {
        Ok(Reply { ok: true, .. }) => Ok(()),
        Ok(Reply { error, message, .. }) => {
            Err(error.or(message).map_or_else(|| "it does not say why".to_owned(), |Lossy(why)| why))
        }
        Err(error) => Err(format!("it answers in another form: {error}")),
    }
}
