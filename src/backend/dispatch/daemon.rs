//! The dispatch daemon, as it is asked over its socket.
//!
//! Only `status` and `get_global_model` are asked when planning, and only `set_model` ever changes anything:
//! `restart_session` would start what the daemon remembers, which need not be what the file says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::{Attempt, Turn};
use crate::backend::dispatch::socket::{Answer, Socket};
use crate::error::{Error, Result};
use crate::plan::Row;
use crate::plan::ledger::{Begin, Debt};
use crate::registry::json::raw::Lossy;

/// Between two looks at a session that is waited for.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A dispatch daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    socket: Socket,
    /// How long one run waits for busy sessions in all.
    drain: Duration,
    /// Until then the run waits for busy sessions. Set when the first one is met.
    drained: OnceLock<Instant>,
}

/// A live session, as `status` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Live {
    chat_id: Lossy,
    is_alive: bool,
    /// Whether it works, as far as the daemon can tell.
    #[serde(default)]
    pub is_healthy: bool,
    #[serde(default)]
    health_reason: Option<Lossy>,
    is_busy: bool,
    #[serde(default)]
    queue_size: u64,
    session_id: Option<Lossy>,
    /// Which run of the session it is: another value, another run.
    pub created_at: String,
}

impl Live {
    /// Whether it is in the middle of an answer, or has messages that wait for one.
    pub fn is_busy(&self) -> bool {
        self.is_busy || self.queue_size > 0
    }

    /// Whether its first turn has not ended: a restart would lose the conversation.
    pub fn is_starting(&self) -> bool {
        self.session_id.is_none()
    }
}

impl Daemon {
    /// The one that listens at `socket`, and must belong to `owner`.
    pub(super) fn new(socket: PathBuf, owner: u32, timeout: Duration, drain: Duration) -> Self {
        Self { socket: Socket::new(socket, owner, timeout), drain, drained: OnceLock::new() }
    }

    /// Whether it is down.
    pub(super) fn is_down(&self) -> Result<bool> {
        self.socket.is_down()
    }

    /// The live sessions by chat id; `None` where the daemon is down.
    pub(super) fn sessions(&self) -> Result<Option<BTreeMap<String, Live>>> {
        self.status(self.socket.deadline())
    }

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
    pub(super) fn hold(&self) -> Result<Option<String>> {
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
            if live.is_busy() {
                if turn.is_over() {
                    return Err(Attempt::NotBegun);
                }
                if Instant::now() >= self.drained() {
                    return Err(Attempt::Deferred("busy for as long as the run waits".to_owned()));
                }
                sleep(PAUSE);
                continue;
            }
            if live.is_starting() {
                return Err(Attempt::Deferred("starting: its first turn has not ended".to_owned()));
            }
            if let Some(why) = self.hold().map_err(unclear)? {
                return Err(Attempt::Deferred(why));
            }
            return Ok(live.clone());
        }
    }

    /// When the run stops waiting for busy sessions: one deadline for all of them.
    fn drained(&self) -> Instant {
        *self.drained.get_or_init(|| Instant::now() + self.drain)
    }

    /// Waits until `status` shows what became of the session that began at `old`. `asked`: whether the daemon said that
    /// it would start it anew; else, what is known instead.
    fn arrival(&self, chat: &str, old: &str, asked: &Result<(), String>) -> Arrival {
        let until = self.socket.deadline();
        let mut last = None;
        loop {
            if let Ok(Some(mut sessions)) = self.status(until) {
                last = Some(sessions.remove(chat));
            }
            match &last {
                Some(Some(live)) if live.created_at != old && live.is_healthy => {
                    return Arrival { attempt: Attempt::Changed, run: Some(live.created_at.clone()) };
                }
                _ if Instant::now() < until => sleep(PAUSE),
                _ => break,
            }
        }
        let attempt = match (last, asked) {
            (Some(Some(live)), _) if live.created_at != old => {
                let reason =
                    live.health_reason.map_or_else(|| "it does not say why".to_owned(), |Lossy(reason)| reason);
                Attempt::Unhealthy(format!("the new session is not healthy: {reason}"))
            }
            (_, Err(why)) => Attempt::Unknown(why.clone()),
            (None, Ok(())) => Attempt::Unknown("the daemon said ok, and has not answered since".to_owned()),
            (Some(None), Ok(())) => Attempt::Unhealthy("the daemon said ok, and no session is alive".to_owned()),
            (Some(Some(_)), Ok(())) => {
                Attempt::Failed("the daemon said ok, and did not start the session anew".to_owned())
            }
        };
        Arrival { attempt, run: None }
    }

    /// Asks for the model of a row, which restarts its session.
    pub(super) fn set_model(&self, row: &Row, turn: &dyn Turn) -> Arrival {
        let only = |attempt| Arrival { attempt, run: None };
        let Some(model) = &row.after else { return only(Attempt::NotBegun) };
        let live = match self.ready(row, turn) {
            Ok(live) => live,
            Err(attempt) => return only(attempt),
        };
        let another = |debt: &Debt| debt.run.as_ref().is_some_and(|run| *run != live.created_at);
        if !row.edit && row.owed.as_ref().is_some_and(another) {
            return only(Attempt::NotNeeded("it was started anew meanwhile".to_owned()));
        }
        if !turn.begin(row, Begin::Owing(&live.created_at)) {
            return only(Attempt::NotBegun);
        }
        let chat = row.chat.id.as_ref();
        let request = json!({ "cmd": "set_model", "chat_id": chat, "model": model.as_str() });
        match self.socket.ask(&request, self.socket.deadline()) {
            Ok(Answer::Down) => only(Attempt::NotSent("the daemon went down".to_owned())),
            Err(error) => only(Attempt::NotSent(error.to_string())),
            Ok(Answer::Reply(reply)) => match verdict(&reply) {
                Ok(()) => self.arrival(chat, &live.created_at, &Ok(())),
                Err(complaint) => only(Attempt::Failed(format!("the daemon refused: {complaint}"))),
            },
            Ok(Answer::Lost(why)) => self.arrival(chat, &live.created_at, &Err(why)),
        }
    }
}

/// What became of a request for a model.
pub(super) struct Arrival {
    pub(super) attempt: Attempt,
    /// The run of the session that it has started, where that is known.
    pub(super) run: Option<String>,
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
