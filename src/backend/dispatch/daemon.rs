//! Requests to the dispatch daemon.
//!
//! A plan sends only `status` and `get_global_model`. Changes are made by `set_model` alone: `restart_session` would
//! start the model that the daemon has in memory, which may not be the one in the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::apply::{Attempt, Turn};
use crate::backend::dispatch::problem::DaemonProblem;
use crate::backend::dispatch::socket::{Answer, Socket};
use crate::backend::listener::{Deaf, Listener};
use crate::chat::Model;
use crate::error::{Error, Result};
use crate::foreign::sentence;
use crate::plan::Row;
use crate::registry::json::raw::Lossy;

/// The time between two looks at a session for which the run waits.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A dispatch daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    socket: Socket,
    pub(super) times: Times,
    /// When the run stops waiting for busy sessions. Set when the first busy session is met.
    drained: OnceLock<Instant>,
    /// Told of each request.
    listener: Arc<dyn Listener>,
}

/// A global override: every session that is started while the override is set runs its model.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Override {
    pub(super) model: Option<Lossy>,
    /// When it was set.
    pub(super) set_at: Option<Lossy>,
}

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How long one request may take, and how long a session may take to start.
    pub(super) timeout: Duration,
    /// How long one run waits for all busy sessions together.
    pub(super) drain: Duration,
    /// How long a session must be healthy after its start.
    pub(super) min_healthy: Duration,
}

/// A live session, from the answer to `status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Live {
    chat_id: Lossy,
    is_alive: bool,
    /// Whether it works, according to the daemon.
    #[serde(default)]
    pub is_healthy: bool,
    #[serde(default)]
    pub(super) health_reason: Option<Lossy>,
    is_busy: bool,
    #[serde(default)]
    queue_size: u64,
    /// How many turns have ended since it was started.
    #[serde(default)]
    turn_count: u64,
    /// The id of its conversation. Missing until its first turn has ended.
    session_id: Option<Lossy>,
    tier: Option<Lossy>,
    /// Identifies the run of the session: each start has another value.
    pub created_at: String,
}

impl Live {
    /// Whether it is in the middle of an answer, or has messages that wait for one.
    pub fn is_busy(&self) -> bool {
        self.is_busy || self.queue_size > 0
    }

    /// Whether it is known to work, because a turn has ended since its start. The daemon calls a session healthy from
    /// its start on.
    pub fn works(&self) -> bool {
        self.is_healthy && self.turn_count > 0
    }

    /// Its tier, where it has one.
    pub(super) fn into_tier(self) -> Option<String> {
        self.tier.map(|Lossy(tier)| tier)
    }

    /// The id by which its conversation can be resumed, if it is known.
    pub(super) fn conversation(&self) -> Option<&str> {
        self.session_id.as_ref().map(|Lossy(id)| id.as_str())
    }

    /// Whether its first turn has not ended yet. A restart would lose the conversation then.
    pub(crate) fn is_starting(&self) -> bool {
        self.session_id.is_none()
    }
}

impl Daemon {
    /// The daemon that listens at `socket`, which must belong to the user `owner`.
    pub(super) fn new(socket: PathBuf, owner: u32, times: Times) -> Self {
        let socket = Socket::new(socket, owner, times.timeout);
        Self { socket, times, drained: OnceLock::new(), listener: Arc::new(Deaf) }
    }

    /// Sets the listener, which is told of each request.
    pub(super) fn heard_by(self, listener: Arc<dyn Listener>) -> Self {
        Self { listener, ..self }
    }

    /// Sends a request, which is about this chat, if any.
    fn ask(&self, command: &'static str, chat: Option<&str>, request: &Value, until: Instant) -> Result<Answer> {
        self.listener.hear(&sentence!("the request {} begins", command), chat);
        let answer = self.socket.ask(request, until);
        let what = match &answer {
            Ok(Answer::Down) => "no daemon listens",
            Ok(Answer::Lost(_)) => "the answer cannot be read",
            Ok(Answer::Reply(_)) => "answered",
            Err(_) => "the daemon cannot be reached",
        };
        self.listener.hear(&sentence!("the request {} has ended: {}", command, what), chat);
        answer
    }

    /// Whether it is down.
    pub(super) fn is_down(&self) -> Result<bool> {
        self.socket.is_down()
    }

    /// The live sessions by chat id; `None` where the daemon is down.
    pub(super) fn sessions(&self) -> Result<Option<BTreeMap<String, Live>>> {
        self.status(self.deadline())
    }

    /// The deadline of a request that begins now.
    pub(super) fn deadline(&self) -> Instant {
        self.socket.deadline()
    }

    /// The live sessions by chat id; `None` where the daemon is down. Waits until `until` at most.
    pub(super) fn status(&self, until: Instant) -> Result<Option<BTreeMap<String, Live>>> {
        #[derive(Deserialize)]
        struct Status {
            sessions: Vec<Live>,
        }
        let Some(status) = self.read::<Status>("status", until)? else { return Ok(None) };
        let live = status.sessions.into_iter().filter(|session| session.is_alive);
        Ok(Some(live.map(|session| (session.chat_id.0.clone(), session)).collect()))
    }

    /// The global override; `None` where none is set, or the daemon is down.
    pub(super) fn global(&self) -> Result<Option<Override>> {
        #[derive(Deserialize)]
        struct Global {
            state: Option<Lossy>,
            r#override: Option<Override>,
        }
        let Some(global) = self.read::<Global>("get_global_model", self.deadline())? else { return Ok(None) };
        Ok(match global.r#override {
            None if global.state.is_some_and(|Lossy(state)| state == "normal") => None,
            set => Some(set.unwrap_or_default()),
        })
    }

    /// Why a restart would not change the model; `None` where it would, or the daemon is down.
    pub(super) fn hold(&self) -> Result<Option<String>> {
        let hold = |global: Override| {
            let model = global.model.map_or_else(|| "another model".to_owned(), |Lossy(model)| model);
            format!("the daemon's global override is on ({model}): a restart would change nothing")
        };
        Ok(self.global()?.map(hold))
    }

    /// Sends a request that changes nothing, and returns the answer. `None` where the daemon is down.
    fn read<T: DeserializeOwned>(&self, command: &'static str, until: Instant) -> Result<Option<T>> {
        let path = || self.socket.path().to_owned();
        let failed = |why: String| DaemonProblem::NoAnswer { path: path(), command, why: why.into() };
        let reply = match self.ask(command, None, &json!({ "cmd": command }), until)? {
            Answer::Down => return Ok(None),
            Answer::Reply(reply) => reply,
            Answer::Lost(why) => return Err(failed(why).into()),
        };
        if let Err(Complaint { text, .. }) = verdict(&reply) {
            return Err(failed(text).into());
        }
        serde_json::from_slice(&reply)
            .map(Some)
            .map_err(|error| DaemonProblem::OtherAnswer { path: path(), command, why: error.to_string().into() }.into())
    }

    /// Waits until the session of a row can be restarted, and returns it. `None` where the session is not live because
    /// of an earlier attempt, and can be started.
    ///
    /// # Errors
    /// The result of the attempt where the session cannot be restarted.
    pub(super) fn ready(&self, row: &Row, turn: &dyn Turn) -> Result<Option<Live>, Attempt> {
        let unclear = |error: Error| Attempt::Deferred(error.text());
        loop {
            let sessions = self.status(self.deadline()).map_err(unclear)?;
            let mut sessions = sessions.ok_or_else(|| Attempt::Deferred("the daemon went down".to_owned()))?;
            let live = sessions.remove(row.chat.id.as_ref());
            match &live {
                None if row.was_tried() => {}
                None => return Err(Attempt::Deferred("its session is no longer live".to_owned())),
                Some(live) if live.is_busy() => {
                    if turn.is_over() {
                        return Err(Attempt::NotBegun);
                    }
                    if Instant::now() >= self.drained() {
                        return Err(Attempt::Deferred("still busy when the run stopped waiting".to_owned()));
                    }
                    sleep(PAUSE);
                    continue;
                }
                Some(live) if live.is_starting() => {
                    return Err(Attempt::Deferred(
                        "starting: a restart before its first turn has ended would lose the conversation".to_owned(),
                    ));
                }
                Some(_) => {}
            }
            return match self.hold().map_err(unclear)? {
                Some(why) => Err(Attempt::Deferred(why)),
                None => Ok(live),
            };
        }
    }

    /// When the run stops waiting for busy sessions. All of them have this one deadline.
    fn drained(&self) -> Instant {
        *self.drained.get_or_init(|| Instant::now() + self.times.drain)
    }

    /// Sets the model of a chat, which restarts its session.
    pub(super) fn set_model(&self, chat: &str, model: &Model) -> Said {
        let request = json!({ "cmd": "set_model", "chat_id": chat, "model": model.as_str() });
        match self.ask("set_model", Some(chat), &request, self.deadline()) {
            Ok(Answer::Down) => Said::Nothing("the daemon went down".to_owned()),
            Err(error) => Said::Nothing(error.text()),
            Ok(Answer::Lost(why)) => Said::Lost(why),
            Ok(Answer::Reply(reply)) => match verdict(&reply) {
                Ok(()) => Said::Ok,
                Err(Complaint { kind: Kind::Error, text }) => Said::Error(text),
                Err(Complaint { kind: Kind::Message, .. }) => Said::Refused,
            },
        }
    }
}

/// The daemon's answer to `set_model`.
#[derive(Debug)]
pub(super) enum Said {
    /// It has made the change.
    Ok,
    /// The change failed, for this reason.
    Error(String),
    /// It refuses to restart the session.
    Refused,
    /// The answer was lost or cannot be read, for this reason. The change may have been made.
    Lost(String),
    /// The request was never sent, for this reason.
    Nothing(String),
}

/// An answer of the daemon that is not ok.
struct Complaint {
    kind: Kind,
    text: String,
}

/// The form of an answer that is not ok.
#[derive(PartialEq, Eq)]
enum Kind {
    /// An error, as when a session did not start.
    Error,
    /// A message, as when the daemon refuses a restart.
    Message,
}

/// Checks that an answer of the daemon is ok.
fn verdict(reply: &[u8]) -> Result<(), Complaint> {
    #[derive(Deserialize)]
    struct Reply {
        #[serde(default)]
        ok: bool,
        error: Option<Lossy>,
        message: Option<Lossy>,
    }
    let complaint = |kind, text| Err(Complaint { kind, text });
    match serde_json::from_slice(reply) {
        Ok(Reply { ok: true, .. }) => Ok(()),
        Ok(Reply { error: Some(Lossy(why)), .. }) => complaint(Kind::Error, why),
        Ok(Reply { message: Some(Lossy(why)), .. }) => complaint(Kind::Message, why),
        Ok(Reply { .. }) => complaint(Kind::Error, "it gives no reason".to_owned()),
        Err(error) => complaint(Kind::Error, format!("its answer has an unexpected form: {error}")),
    }
}
