//! The sessions: what each runs on, and what a start, a stop and a restart do to its entry.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{Clock, SECOND};
use crate::json::Json;
use crate::registry::Registry;

/// The breaker: so many restarts of one chat within this time, and no more.
const RESTARTS: usize = 3;
const WINDOW: u64 = 20 * 60 * SECOND;

/// A session that fails so many turns in a row is no longer healthy.
const FAILED_TURNS: u64 = 3;

/// How a start of a chat goes wrong.
#[derive(Clone, Copy, PartialEq)]
pub enum Mishap {
    /// The start is refused and nothing runs. Its entry stays as it was, with the conversation's id.
    Fails,
    /// The session is listed, but dead.
    Dies,
    /// The session is listed and alive, but not healthy.
    Unhealthy,
    /// The start is reported as done, but nothing is listed.
    Vanishes,
    /// The session is not healthy when it is first looked at, and is later.
    Late,
}

struct Session {
    chat: String,
    model: String,
    resumed: Option<String>,
    /// What `status` shows as `session_id`.
    conversation: Option<String>,
    created_at: String,
    last_activity: String,
    turns: u64,
    busy: bool,
    queue: u64,
    mishap: Option<Mishap>,
    /// The tier that it runs with, where the entry says another one until the next health check.
    tier: Option<String>,
    failed_turns: u64,
}

/// What starts a session.
#[derive(Clone, Copy, PartialEq)]
pub enum Cause {
    /// A request, or the start of the daemon.
    Request,
    /// A message to a chat whose session is not live.
    Message,
}

/// What became of a chat since the double was started.
#[derive(Default)]
struct History {
    starts: u64,
    restarts: Vec<u64>,
    lost: bool,
    cut: u64,
}

pub struct Override {
    pub model: String,
    set_at: String,
    trigger: String,
}

pub struct Sessions {
    pub clock: Clock,
    pub registry: Registry,
    pub global: Option<Override>,
    /// How the next start of a chat goes wrong.
    mishaps: BTreeMap<String, Mishap>,
    /// How every start on a model goes wrong, of one chat or, without one, of all.
    broken: BTreeMap<(String, Option<String>), Mishap>,
    /// Chats whose starts wait until they are released.
    slow: BTreeSet<String>,
    /// Control lines that start the sessions which were live before the daemon was.
    pub to_recreate: Vec<String>,
    /// In the order in which they were started.
    live: Vec<Session>,
    histories: BTreeMap<String, History>,
    conversations: u64,
}

impl Sessions {
    pub fn new(registry: Registry) -> Self {
        Self {
            clock: Clock::default(),
            registry,
            global: None,
            mishaps: BTreeMap::new(),
            broken: BTreeMap::new(),
            slow: BTreeSet::new(),
            to_recreate: Vec::new(),
            live: Vec::new(),
            histories: BTreeMap::new(),
            conversations: 0,
        }
    }

    pub fn is_registered(&self, chat: &str) -> bool {
        self.registry.entry(chat).is_some()
    }

    pub fn write_model(&mut self, chat: &str, model: &str) {
        self.registry.set(&mut self.clock, chat, "model", model);
        self.registry.save(&self.clock);
    }

    pub fn touch(&mut self, chat: &str) -> bool {
        if self.registry.entry(chat).is_none() {
            return false;
        }
        let now = self.clock.local_time();
        self.registry.set(&mut self.clock, chat, "last_message_time", now);
        self.registry.save(&self.clock);
        true
    }

    /// Asks the breaker, which counts the starts of idle chats too, and stops the session if there is one. Never asks
    /// whether it is busy.
    pub fn begin_restart(&mut self, chat: &str) -> bool {
        if !self.is_registered(chat) {
            return false;
        }
        let now = self.clock.now();
        let restarts = &mut self.histories.entry(chat.to_owned()).or_default().restarts;
        restarts.retain(|then| now - then < WINDOW);
        if restarts.len() >= RESTARTS {
            return false;
        }
        restarts.push(now);
        self.stop(chat);
        true
    }

    pub fn trip_breaker(&mut self, chat: &str) -> bool {
        let now = self.clock.now();
        self.histories.entry(chat.to_owned()).or_default().restarts = vec![now; RESTARTS];
        self.is_registered(chat)
    }

    pub fn slow_down(&mut self, chat: &str) {
        self.slow.insert(chat.to_owned());
    }

    pub fn release(&mut self, chat: &str) -> bool {
        self.slow.remove(chat)
    }

    pub fn is_slow(&self, chat: &str) -> bool {
        self.slow.contains(chat)
    }

    pub fn next_start_goes_wrong(&mut self, chat: &str, mishap: Mishap) {
        self.mishaps.insert(chat.to_owned(), mishap);
    }

    /// How every start on a model ends from now on.
    pub fn starts_on(&mut self, model: &str, chat: Option<&str>, mishap: Option<Mishap>) {
        let key = (model.to_owned(), chat.map(str::to_owned));
        match mishap {
            Some(mishap) => _ = self.broken.insert(key, mishap),
            None => _ = self.broken.remove(&key),
        }
    }

    /// How a start goes wrong that is made now, if it does.
    fn mishap(&mut self, chat: &str, model: &str) -> Option<Mishap> {
        let of = |chat: Option<&str>| self.broken.get(&(model.to_owned(), chat.map(str::to_owned))).copied();
        let lasting = of(Some(chat)).or_else(|| of(None));
        self.mishaps.remove(chat).or(lasting)
    }

    /// Starts the session of a chat that is registered, or says that it did not start.
    pub fn start(&mut self, chat: &str, cause: Cause) -> bool {
        let Some(entry) = self.registry.entry(chat) else { return false };
        let group = entry.text("type") == Some("group");
        let default = if entry.text("source") == Some("discord") { "sonnet" } else { "opus" };
        let preferred = entry.text("model").filter(|_| !group).map(str::to_owned);
        let resumed = entry.text("session_id").map(str::to_owned);

        let model = match (&self.global, &preferred) {
            (Some(global), _) => global.model.clone(),
            (None, Some(preferred)) => preferred.clone(),
            (None, None) => default.to_owned(),
        };
        let mishap = self.mishap(chat, &model);
        if mishap == Some(Mishap::Fails) {
            return false;
        }
        // A group's entry loses its model. Another one keeps what it was started on where it had none, or where a message
        // woke it under an override, which then takes the place of what it had.
        let overridden = cause == Cause::Message && self.global.is_some();
        let kept = preferred.filter(|_| !overridden).unwrap_or_else(|| model.clone());
        self.registry.register(&mut self.clock, chat, (!group).then_some(kept));
        self.registry.save(&self.clock);

        self.live.retain(|session| session.chat != chat);
        self.histories.entry(chat.to_owned()).or_default().starts += 1;
        if mishap == Some(Mishap::Vanishes) {
            return true;
        }
        self.live.push(Session {
            chat: chat.to_owned(),
            model,
            resumed,
            conversation: None,
            created_at: self.clock.local_time(),
            last_activity: self.clock.local_time(),
            turns: 0,
            busy: false,
            queue: 0,
            mishap,
            tier: None,
            failed_turns: 0,
        });
        true
    }

    /// A chat writes for the first time: it is registered, and its session started. Until the next health check the file
    /// may say nothing of it.
    pub fn start_new(&mut self, chat: &str, tier: &str, listed: bool) -> bool {
        self.registry.register_new(&mut self.clock, chat, tier);
        if !listed {
            self.registry.unlisted.insert(chat.to_owned());
        }
        self.start(chat, Cause::Message)
    }

    /// What the daemon does once a minute: what it learnt of live sessions reaches their entries, and the file.
    pub fn check_health(&mut self) {
        for session in &self.live {
            let tier = session.tier.as_deref().map(|tier| ("tier", tier));
            let id = session.conversation.as_deref().map(|id| ("session_id", id));
            for (field, value) in tier.into_iter().chain(id) {
                self.registry.set(&mut self.clock, &session.chat, field, value);
            }
        }
        self.registry.unlisted.clear();
        self.registry.save_now(&self.clock);
    }

    /// Stops a live session. Its conversation goes on only if its id is known by now: the start took it from the entry.
    pub fn stop(&mut self, chat: &str) -> bool {
        let Some(index) = self.live.iter().position(|session| session.chat == chat) else { return false };
        let session = self.live.remove(index);
        let history = self.histories.entry(chat.to_owned()).or_default();
        history.cut += u64::from(session.busy);
        match session.conversation {
            Some(id) => self.registry.set(&mut self.clock, chat, "session_id", id),
            None => history.lost |= session.resumed.is_some(),
        }
        // The recording shows no delay here: after every stop the file held what memory held.
        self.registry.save_now(&self.clock);
        true
    }

    /// The end of a turn is when a session learns its conversation's id.
    pub fn end_turn(&mut self, chat: &str, id: Option<&str>) -> bool {
        let now = self.clock.local_time();
        let Some(session) = self.live.iter_mut().find(|session| session.chat == chat) else { return false };
        let known = id.map(str::to_owned).or_else(|| session.conversation.take()).or_else(|| session.resumed.clone());
        session.conversation = Some(known.unwrap_or_else(|| {
            self.conversations += 1;
            format!("conversation-{}", self.conversations)
        }));
        session.turns += 1;
        session.failed_turns = 0;
        session.last_activity = now;
        session.busy = false;
        session.queue = 0;
        true
    }

    /// A turn ends with an error of the model. Only after several of them the session is no longer healthy.
    pub fn fail_turn(&mut self, chat: &str) -> bool {
        let Some(session) = self.session(chat) else { return false };
        session.failed_turns += 1;
        session.busy = false;
        true
    }

    /// What was wrong with a session that had come up is over.
    pub fn recover(&mut self, chat: &str) -> bool {
        let Some(session) = self.session(chat) else { return false };
        session.mishap = None;
        true
    }

    /// The first message can tell the conversation's id before it is answered.
    pub fn begin_turn(&mut self, chat: &str, id: &str) -> bool {
        let Some(session) = self.session(chat) else { return false };
        session.conversation = Some(id.to_owned());
        session.busy = true;
        true
    }

    /// A live session is given another tier. Its entry has it after the next health check.
    pub fn set_tier(&mut self, chat: &str, tier: &str) -> bool {
        let Some(session) = self.session(chat) else { return false };
        session.tier = Some(tier.to_owned());
        true
    }

    fn session(&mut self, chat: &str) -> Option<&mut Session> {
        self.live.iter_mut().find(|session| session.chat == chat)
    }

    pub fn set_busy(&mut self, chat: &str, busy: bool, queue: u64) -> bool {
        let Some(session) = self.session(chat) else { return false };
        (session.busy, session.queue) = (busy, queue);
        true
    }

    pub fn set_override(&mut self, model: Option<&str>, trigger: &str) {
        let set_at = self.clock.universal_time();
        self.global = model.map(|model| Override { model: model.to_owned(), set_at, trigger: trigger.to_owned() });
    }

    pub fn override_fields(&self) -> [(&'static str, Json); 2] {
        let state = if self.global.is_some() { "degraded" } else { "normal" };
        let global = self.global.as_ref().map(|global| {
            Json::object([
                ("model", global.model.as_str().into()),
                ("set_at", global.set_at.as_str().into()),
                ("trigger", global.trigger.as_str().into()),
            ])
        });
        [("state", state.into()), ("override", global.into())]
    }

    /// A clean end: everything is marked and stopped, and the file is written a last time.
    pub fn shut_down(&mut self) {
        let chats: Vec<String> = self.live.iter().map(|session| session.chat.clone()).collect();
        for chat in &chats {
            self.registry.set(&mut self.clock, chat, "was_active", true);
        }
        for chat in &chats {
            self.stop(chat);
        }
        self.registry.held = false;
        self.registry.save_now(&self.clock);
    }

    /// The live sessions as `status` lists them: without the model.
    pub fn status(&mut self) -> Json {
        let rows = self.rows();
        // A session that is late has come up by the next look.
        for session in self.live.iter_mut().filter(|session| session.mishap == Some(Mishap::Late)) {
            session.mishap = None;
        }
        rows
    }

    fn rows(&self) -> Json {
        let rows = self.live.iter().map(|session| {
            let entry = self.registry.entry(&session.chat);
            let text = |field| entry.and_then(|entry| entry.text(field));
            let group = text("type") == Some("group");
            let (alive, healthy, reason) = match session.mishap {
                Some(Mishap::Dies) => (false, false, "not alive"),
                Some(Mishap::Unhealthy | Mishap::Late) => (true, false, "unhealthy"),
                _ if session.failed_turns >= FAILED_TURNS => (true, false, "too many failed turns"),
                _ => (true, true, "ok"),
            };
            Json::object([
                ("chat_id", session.chat.as_str().into()),
                ("contact_name", text("contact_name").or(text("display_name")).into()),
                ("tier", session.tier.as_deref().or_else(|| text("tier")).or(group.then_some("admin")).into()),
                ("session_type", text("type").into()),
                ("source", text("source").into()),
                ("is_alive", alive.into()),
                ("is_healthy", healthy.into()),
                ("health_reason", reason.into()),
                ("is_busy", session.busy.into()),
                ("turn_count", session.turns.into()),
                ("session_id", session.conversation.as_deref().into()),
                ("created_at", session.created_at.as_str().into()),
                ("last_activity", session.last_activity.as_str().into()),
                ("queue_size", session.queue.into()),
                ("session_name", text("session_name").into()),
            ])
        });
        Json::List(rows.collect())
    }

    /// What no client of the daemon can see: the truth about every chat that has been started or stopped.
    pub fn truth(&self) -> Json {
        let chats = self.histories.iter().map(|(chat, history)| {
            let session = self.live.iter().find(|session| session.chat == *chat);
            let row = Json::object([
                ("live", session.is_some().into()),
                ("model", session.map(|session| session.model.as_str()).into()),
                ("resumed", session.and_then(|session| session.resumed.as_deref()).into()),
                ("session_id", session.and_then(|session| session.conversation.as_deref()).into()),
                ("starts", history.starts.into()),
                ("conversation_lost", history.lost.into()),
                ("replies_cut", history.cut.into()),
            ]);
            (chat.clone(), row)
        });
        Json::Object(chats.collect())
    }
}
