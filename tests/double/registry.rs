//! The registry: memory is the truth, and the file is a copy of it that may lag.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::clock::{Clock, SECOND};
use crate::json::Json;

/// A save that is asked for sooner than this after another one is left to the next.
const DEBOUNCE: u64 = SECOND;

/// What a session's start writes into its entry, in this order. Everything else is dropped: among it
/// `session_id`, `last_message_time` and `was_active`.
const REGISTERED: [&str; 11] = [
    "chat_id",
    "session_name",
    "created_at",
    "updated_at",
    "transcript_dir",
    "type",
    "contact_name",
    "display_name",
    "tier",
    "participants",
    "source",
];

pub struct Registry {
    path: PathBuf,
    entries: Json,
    saved_at: Option<u64>,
    /// Saves stay in memory, however old they are.
    pub held: bool,
    /// Chats that are in memory and not yet in the file.
    pub unlisted: BTreeSet<String>,
}

impl Registry {
    /// A file that is missing or does not parse is an empty registry.
    pub fn read(path: PathBuf) -> Self {
        let entries = fs::read_to_string(&path).ok().and_then(|text| Json::parse(&text));
        let entries = entries.filter(|entries| matches!(entries, Json::Object(_)));
        Self {
            path,
            entries: entries.unwrap_or_else(|| Json::object([])),
            saved_at: None,
            held: false,
            unlisted: BTreeSet::new(),
        }
    }

    pub fn entry(&self, chat: &str) -> Option<&Json> {
        self.entries.get(chat)
    }

    /// Sets a field of an entry, creating a bare entry for a chat that has none.
    pub fn set(&mut self, clock: &mut Clock, chat: &str, field: &str, value: impl Into<Json>) {
        let mut entry = self.entry(chat).cloned().unwrap_or_else(|| {
            Json::object([
                ("chat_id", chat.into()),
                ("session_name", chat.into()),
                ("created_at", clock.local_time().into()),
                ("updated_at", Json::Null),
            ])
        });
        entry.set("updated_at", clock.local_time());
        entry.set(field, value);
        self.entries.set(chat, entry);
    }

    /// Registers a chat that writes for the first time. Where it has a bare entry, that stays.
    pub fn register_new(&mut self, clock: &mut Clock, chat: &str, tier: &str) {
        for (field, value) in [("type", "individual"), ("contact_name", chat), ("tier", tier), ("source", "imessage")] {
            self.set(clock, chat, field, value);
        }
    }

    /// What every start does: the entry is made anew from the chat's own facts and `model`. A bare entry, which
    /// `set_model` made, is taken for one of the owner's chats.
    pub fn register(&mut self, clock: &mut Clock, chat: &str, model: Option<String>) {
        if self.entry(chat).is_some_and(|entry| entry.text("type").is_none()) {
            self.register_new(clock, chat, "admin");
            self.set(clock, chat, "contact_name", "Unknown");
        }
        let Some(old) = self.entry(chat) else { return };
        let mut entry = Json::object([]);
        for field in REGISTERED {
            if let Some(value) = old.get(field) {
                entry.set(field, value.clone());
            }
        }
        entry.set("updated_at", clock.local_time());
        if entry.get("participants").is_some() {
            entry.set("participants", Json::List(Vec::new()));
        }
        if let Some(model) = model {
            entry.set("model", model);
        }
        self.entries.set(chat, entry);
    }

    /// Writes the file, unless it has just been written. Nothing comes back to it later: the change stays in memory
    /// until something else is saved.
    pub fn save(&mut self, clock: &Clock) {
        if self.saved_at.is_none_or(|saved_at| clock.now() - saved_at >= DEBOUNCE) {
            self.save_now(clock);
        }
    }

    pub fn save_now(&mut self, clock: &Clock) {
        if !self.held && self.write().is_ok() {
            self.saved_at = Some(clock.now());
        }
    }

    fn write(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        // It excludes no process: each one that opens this file is about to replace it.
        file.lock()?;
        file.write_all(self.entries.without(&self.unlisted).indented().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }
}
