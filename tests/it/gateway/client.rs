//! A bare client of a gateway, or of its double: it sends what it is told to, and reads what comes.

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

pub struct Client {
    socket: WebSocket<TcpStream>,
    requests: usize,
}

impl Client {
    /// Opens a connection, and says nothing yet.
    pub fn open(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
        let (socket, _) = tungstenite::client::client(format!("{url}/"), stream).unwrap();
        Self { socket, requests: 0 }
    }

    /// Connects with these scopes.
    pub fn connect(url: &str, token: &str, scopes: &[&str]) -> Self {
        let mut client = Self::open(url);
        let program = json!({ "id": "gateway-client", "version": "1", "platform": "linux", "mode": "backend" });
        let hello = client.call(
            "connect",
            &json!({
                "minProtocol": 4, "maxProtocol": 4, "client": program, "role": "operator", "scopes": scopes,
                "auth": { "token": token },
            }),
        );
        assert_eq!(hello["ok"], true, "{hello}");
        client
    }

    /// Makes a request, and waits for its reply.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.requests += 1;
        let id = self.requests.to_string();
        let request = json!({ "type": "req", "id": id, "method": method, "params": params });
        self.socket.send(Message::text(request.to_string())).unwrap();
        loop {
            let message = self.socket.read().unwrap();
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == "res" && frame["id"] == *id {
                return frame;
            }
        }
    }
}
