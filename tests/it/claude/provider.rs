//! A stand-in for the provider of the models: a small HTTP server on the loopback address that writes down what it is asked
//! for, and answers "ok".

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::slow::HANGS;

/// A request for a turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The model that is to answer.
    pub model: String,
    /// All that the user has said in the conversation, in order.
    pub said: Vec<String>,
}

impl Turn {
    /// Whether the user has said this in the conversation, now or before.
    pub fn knows(&self, text: &str) -> bool {
        self.said.iter().any(|said| said.contains(text))
    }

    fn is_about(&self, text: &str) -> bool {
        self.said.last().is_some_and(|said| said.contains(text))
    }
}

#[derive(Default)]
struct Seen {
    turns: Vec<Turn>,
    /// Part of the name of a model that is refused.
    refused: Option<String>,
    is_over: bool,
}

/// The server, which ends with it.
pub struct Provider {
    address: SocketAddr,
    shared: Arc<(Mutex<Seen>, Condvar)>,
    server: Option<JoinHandle<()>>,
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let own = Arc::clone(&shared);
        let server = thread::spawn(move || {
            for stream in listener.incoming() {
                if own.0.lock().unwrap().is_over {
                    return;
                }
                let (stream, own) = (stream.unwrap(), Arc::clone(&own));
                // A connection that breaks is asked again.
                thread::spawn(move || serve(&stream, &own));
            }
        });
        Self { address, shared, server: Some(server) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the turn in which the user says this.
    pub fn turn(&self, text: &str) -> Turn {
        let (seen, changed) = &*self.shared;
        let is_missing = |seen: &mut Seen| !seen.turns.iter().any(|turn| turn.is_about(text));
        let (seen, waited) = changed.wait_timeout_while(seen.lock().unwrap(), HANGS * 2, is_missing).unwrap();
        assert!(!waited.timed_out(), "nothing asked for a turn about {text:?}: {:?}", seen.turns);
        seen.turns.iter().rfind(|turn| turn.is_about(text)).unwrap().clone()
    }

    /// From now on models with this in their names are refused, and no others.
    pub fn refuse(&self, model: Option<&str>) {
        self.seen().refused = model.map(str::to_owned);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.0.lock().unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.seen().is_over = true;
        if TcpStream::connect(self.address).is_ok() {
            let _ = self.server.take().map(JoinHandle::join);
        }
    }
}

/// Answers the one request of a connection.
fn serve(mut stream: &TcpStream, shared: &(Mutex<Seen>, Condvar)) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let is_turn = line.starts_with("POST /v1/messages") && !line.contains("count_tokens");
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let model = request["model"].as_str().unwrap_or_default().to_owned();
    if !is_turn {
        return answer(&mut stream, "404 Not Found", "application/json", "{}");
    }
    let said = request["messages"].as_array().into_iter().flatten().filter(|message| message["role"] == "user");
    let turn = Turn { model: model.clone(), said: said.map(|message| text(&message["content"])).collect() };
    let (seen, changed) = shared;
    let mut seen = seen.lock().unwrap();
    let is_refused = seen.refused.as_ref().is_some_and(|refused| model.contains(refused.as_str()));
    seen.turns.push(turn);
    drop(seen);
    changed.notify_all();
    if is_refused {
        let error =
            json!({ "type": "error", "error": { "type": "not_found_error", "message": format!("model: {model}") } });
        return answer(&mut stream, "404 Not Found", "application/json", &error.to_string());
    }
    answer(&mut stream, "200 OK", "text/event-stream", &events(&model))
}

/// The text of a message, which is a string or a list of blocks.
fn text(content: &Value) -> String {
    let blocks = content.as_array().into_iter().flatten().filter_map(|block| block["text"].as_str());
    content.as_str().map_or_else(|| blocks.collect::<Vec<_>>().join("\n"), str::to_owned)
}

fn events(model: &str) -> String {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": { "input_tokens": 5, "output_tokens": 1 },
    });
    let events = [
        json!({ "type": "message_start", "message": message }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "ok" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({
            "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
            "usage": { "output_tokens": 2 },
        }),
        json!({ "type": "message_stop" }),
    ];
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn answer(stream: &mut &TcpStream, status: &str, kind: &str, body: &str) -> Option<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()
}
