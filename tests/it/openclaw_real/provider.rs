//! A stand-in for the provider of the models, which notes the model that each turn asks for.

use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::openclaw_real::SLOW;
use crate::openclaw_real::http::{Answer, Request, Server};

/// The model and the user's messages of each request, in order.
type Turns = (Mutex<Vec<(String, String)>>, Condvar);

pub struct Provider {
    turns: Arc<Turns>,
    server: Server,
}

impl Provider {
    pub fn start() -> Self {
        let turns = Arc::new(Turns::default());
        let own = Arc::clone(&turns);
        Self { turns, server: Server::start(move |request| answer(&own, &request)) }
    }

    pub fn url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// Waits for the turn in which a text is first said, and returns its model.
    pub fn model_of(&self, text: &str) -> String {
        let (turns, changed) = &*self.turns;
        let is_missing = |turns: &mut Vec<(String, String)>| !turns.iter().any(|(_, said)| said.contains(text));
        let (turns, waited) = changed.wait_timeout_while(turns.lock().unwrap(), SLOW, is_missing).unwrap();
        assert!(!waited.timed_out(), "no turn about {text:?}: {turns:?}");
        turns.iter().find(|(_, said)| said.contains(text)).unwrap().0.clone()
    }
}

fn answer(turns: &Turns, Request { name, body }: &Request) -> Answer {
    if name != "completions" {
        return Answer::json(&json!({ "object": "list", "data": [] }));
    }
    let model = body["model"].as_str().unwrap_or_default();
    let said = body["messages"].as_array().into_iter().flatten().filter(|message| message["role"] == "user");
    let said = said.map(|message| message["content"].to_string()).collect::<Vec<_>>().join("\n");
    turns.0.lock().unwrap().push((model.to_owned(), said));
    turns.1.notify_all();
    let usage = json!({ "prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105 });
    let head = |object: &str| json!({ "id": "c1", "object": object, "created": 0, "model": model });
    let with = |object: &str, choices: Value, usage: &Value| {
        let mut reply = head(object);
        reply["choices"] = choices;
        reply["usage"] = usage.clone();
        reply
    };
    if body["stream"] != true {
        let message =
            json!([{ "index": 0, "message": { "role": "assistant", "content": "ok" }, "finish_reason": "stop" }]);
        return Answer::json(&with("chat.completion", message, &usage));
    }
    let delta = |delta: Value, reason: Value| json!([{ "index": 0, "delta": delta, "finish_reason": reason }]);
    let chunk = "chat.completion.chunk";
    let chunks = [
        with(chunk, delta(json!({ "role": "assistant", "content": "ok" }), Value::Null), &Value::Null),
        with(chunk, delta(json!({}), "stop".into()), &Value::Null),
        with(chunk, json!([]), &usage),
    ];
    let chunks: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    Answer { kind: "text/event-stream", body: format!("{chunks}data: [DONE]\n\n") }
}
