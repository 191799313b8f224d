//! A stand-in for the Bot API of Telegram, over which chats are written to.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::openclaw_real::http::{Answer, Request, Server};

/// The longest that a bot waits for an update before it asks again.
const POLL: Duration = Duration::from_secs(5);

type Updates = (Mutex<Vec<Value>>, Condvar);

pub struct Telegram {
    updates: Arc<Updates>,
    server: Server,
}

impl Telegram {
    pub fn start() -> Self {
        let updates = Arc::new(Updates::default());
        let own = Arc::clone(&updates);
        Self { updates, server: Server::start(move |request| Answer::json(&answer(&own, &request))) }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// A person writes to the bot.
    pub fn say(&self, person: i64, text: &str) {
        let from = json!({ "id": person, "is_bot": false, "first_name": format!("Person {person}") });
        let chat = json!({ "id": person, "type": "private", "first_name": format!("Person {person}") });
        self.update(&from, &chat, text);
    }

    /// A person writes into a group in which the bot is.
    pub fn say_in(&self, group: i64, person: i64, text: &str) {
        let from = json!({ "id": person, "is_bot": false, "first_name": format!("Person {person}") });
        let chat = json!({ "id": group, "type": "supergroup", "title": format!("Group {group}") });
        self.update(&from, &chat, text);
    }

    fn update(&self, from: &Value, chat: &Value, text: &str) {
        let (updates, changed) = &*self.updates;
        let mut updates = updates.lock().unwrap();
        let number = 1000 + updates.len();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let message =
            json!({ "message_id": number, "date": since.as_secs(), "from": from, "chat": chat, "text": text });
        updates.push(json!({ "update_id": number, "message": message }));
        changed.notify_all();
    }
}

fn answer((updates, changed): &Updates, Request { name, body }: &Request) -> Value {
    let result = match name.as_str() {
        "getMe" => json!({
            "id": 4242, "is_bot": true, "first_name": "Bot", "username": "testbot", "can_join_groups": true,
            "can_read_all_group_messages": true, "supports_inline_queries": false,
        }),
        "getUpdates" => {
            let first = body["offset"].as_u64().unwrap_or_default();
            let is_new = |update: &&Value| update["update_id"].as_u64() >= Some(first);
            let nothing = |updates: &mut Vec<Value>| !updates.iter().any(|update| is_new(&update));
            let (updates, _) = changed.wait_timeout_while(updates.lock().unwrap(), POLL, nothing).unwrap();
            updates.iter().filter(is_new).cloned().collect()
        }
        "getWebhookInfo" => json!({ "url": "", "has_custom_certificate": false, "pending_update_count": 0 }),
        name if name.starts_with("send") || name.starts_with("edit") => {
            json!({ "message_id": 1, "date": 0, "chat": { "id": body["chat_id"], "type": "private" }, "text": body["text"] })
        }
        _ => json!(true),
    };
    json!({ "ok": true, "result": result })
}
