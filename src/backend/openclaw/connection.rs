//! One WebSocket connection to a gateway. Every operation has a deadline, and pings are answered while it waits for a reply.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::backend::openclaw::address::{Address, Scheme};
use crate::backend::openclaw::dial::dial;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::frame::{CONNECT, Frame, request};
use crate::backend::openclaw::remote::encrypt;
use crate::backend::openclaw::stream::Stream;
use crate::backend::openclaw::timed::{TOO_LONG, Timed, words};
use crate::policy::fingerprint::Fingerprint;

/// The largest message that is read, in bytes. A gateway closes the connection of a client for which more than 50 MiB
/// are queued.
const LARGEST: usize = 64 << 20;
/// The largest request that a gateway accepts before its hello, in bytes.
const BEFORE_HELLO: usize = 64 << 10;
/// How long `still_open` waits for messages that have arrived since the last request.
const GLANCE: Duration = Duration::from_millis(1);

/// A connection, with one request at a time.
pub(super) struct Connection {
    socket: WebSocket<Stream>,
    /// How many requests have been made.
    requests: u64,
    /// The largest request that the gateway reads, in bytes.
    limit: usize,
}

impl Connection {
    /// Connects, and waits for the gateway's challenge. With TLS, nothing is sent before the certificate of the gateway
    /// is verified, which must have the given fingerprint, if there is one.
    pub(super) fn open(
        address: &Address,
        fingerprint: Option<Fingerprint>,
        until: Instant,
    ) -> Result<(Self, Challenge), Fault> {
        let carrier = Timed::new(dial(address, until)?, until);
        let stream = match address.scheme() {
            Scheme::Ws => Stream::Plain(carrier),
            Scheme::Wss => Stream::Encrypted(Box::new(encrypt(carrier, address, fingerprint)?)),
        };
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        let socket = tungstenite::client::client_with_config(format!("{address}/"), stream, Some(config));
        let (socket, _) = socket.map_err(|error| not_upgraded(address, error))?;
        let mut connection = Self { socket, requests: 0, limit: BEFORE_HELLO };
        let challenge = connection.wait(CONNECT, until, |frame| {
            let payload = frame.event("connect.challenge")?;
            Some(parsed(CONNECT, payload))
        })?;
        Ok((connection, challenge))
    }

    /// Sets the largest request that the gateway reads, in bytes.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Makes a request and waits for its reply.
    pub(super) fn call<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        params: &Value,
        until: Instant,
    ) -> Result<T, Fault> {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        let text = request(&id, method, params);
        if text.len() > self.limit {
            return Err(Fault::TooLarge { method, bytes: text.len(), limit: self.limit });
        }
        self.socket.get_mut().set_deadline(until);
        self.socket.send(Message::text(text)).map_err(|error| lost(method, &error))?;
        self.wait(method, until, |frame| {
            frame.answers(&id).then(|| {
                let payload = frame.outcome(method)?;
                parsed(method, payload)
            })
        })
    }

    /// The connection, if the gateway has not closed it. Reads what has arrived since the last request.
    pub(super) fn still_open(mut self) -> Option<Self> {
        self.socket.get_mut().set_deadline(Instant::now() + GLANCE);
        loop {
            match self.socket.read() {
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::TimedOut => return Some(self),
                Err(_) => return None,
            }
        }
    }

    /// Reads frames until `take` accepts one.
    fn wait<T>(
        &mut self,
        method: &'static str,
        until: Instant,
        take: impl Fn(Frame) -> Option<Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.socket.get_mut().set_deadline(until);
        loop {
            let text = match self.socket.read().map_err(|error| lost(method, &error))? {
                Message::Text(text) => text,
                Message::Close(frame) => {
                    let reason = frame
                        .map_or_else(String::new, |frame| format!(" ({} {})", u16::from(frame.code), frame.reason));
                    return Err(Fault::Lost { method, reason: format!("it closed the connection{reason}") });
                }
                // The socket answers pings by itself as soon as it is read again.
                _ => continue,
            };
            if let Some(taken) = take(parsed(method, &text)?) {
                return taken;
            }
        }
    }
}

/// The first message of a gateway. A device signs it, so that the signature is valid only for this connection.
#[derive(Debug, Deserialize)]
pub(super) struct Challenge {
    pub(super) nonce: String,
    /// The gateway's clock, in milliseconds since 1970.
    pub(super) ts: u64,
}

fn parsed<'a, T: Deserialize<'a>>(method: &'static str, json: &'a str) -> Result<T, Fault> {
    serde_json::from_str(json).map_err(|error| Fault::Malformed { method, reason: error.to_string() })
}

/// The fault where an address accepts connections, but does not open a WebSocket.
fn not_upgraded<R: tungstenite::handshake::HandshakeRole>(address: &Address, error: HandshakeError<R>) -> Fault {
    let reason = match error {
        HandshakeError::Failure(tungstenite::Error::Http(response)) => match response.status().as_u16() {
            503 => return Fault::Stopping,
            status => format!("it answered with HTTP status {status}"),
        },
        HandshakeError::Failure(error) => failure(&error),
        HandshakeError::Interrupted(_) => TOO_LONG.to_owned(),
    };
    Fault::NotAGateway { address: address.clone(), reason }
}

fn lost(method: &'static str, error: &tungstenite::Error) -> Fault {
    Fault::Lost { method, reason: failure(error) }
}

/// The reason of a failed read or write.
fn failure(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Io(error) => words(error),
        // Which of these errors occurs depends on when the connection is cut.
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
        ) => "the connection was cut".to_owned(),
        error => error.to_string(),
    }
}
