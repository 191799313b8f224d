//! One WebSocket to a gateway. Nothing waits beyond its deadline, and pings are answered while a reply is waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::backend::openclaw::address::Address;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::frame::{CONNECT, Frame, request};

/// A message is not read beyond this, in bytes. A gateway drops a client for which more than 50 MiB would wait.
const LARGEST: usize = 64 << 20;
/// A gateway reads no more than this of a request, in bytes, before it has said hello.
const BEFORE_HELLO: usize = 64 << 10;
/// How long is looked for what has arrived since the last request.
const GLANCE: Duration = Duration::from_millis(1);

/// A connection over which one request is made after the other.
pub(super) struct Connection {
    socket: WebSocket<Timed>,
    /// How many requests have been made.
    requests: u64,
    /// The largest request that the gateway reads, in bytes.
    limit: usize,
}

impl Connection {
    /// Connects, and waits for the gateway to speak first.
    pub(super) fn open(address: Address, until: Instant) -> Result<Self, Fault> {
        let unreachable = |error: io::Error| Fault::Unreachable { address, reason: words(&error) };
        let left = until.saturating_duration_since(Instant::now()).max(GLANCE);
        let stream = TcpStream::connect_timeout(&address.socket(), left).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Fault::Down(address),
            _ => unreachable(error),
        })?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        let socket =
            tungstenite::client::client_with_config(format!("{address}/"), Timed { stream, until }, Some(config));
        let (socket, _) = socket.map_err(|error| not_upgraded(address, error))?;
        let mut connection = Self { socket, requests: 0, limit: BEFORE_HELLO };
        connection.wait(CONNECT, until, |frame| frame.is_event("connect.challenge").then_some(Ok(())))?;
        Ok(connection)
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
        self.socket.get_mut().until = until;
        self.socket.send(Message::text(text)).map_err(|error| lost(method, &error))?;
        self.wait(method, until, |frame| {
            frame.answers(&id).then(|| {
                let payload = frame.outcome(method)?;
                serde_json::from_str(payload).map_err(|error| Fault::Malformed { method, reason: error.to_string() })
            })
        })
    }

    /// The connection, if the gateway has not closed it. Reads what has arrived since the last request.
    pub(super) fn still_open(mut self) -> Option<Self> {
        self.socket.get_mut().until = Instant::now() + GLANCE;
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
        self.socket.get_mut().until = until;
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
            let frame =
                serde_json::from_str(&text).map_err(|error| Fault::Malformed { method, reason: error.to_string() })?;
            if let Some(taken) = take(frame) {
                return taken;
            }
        }
    }
}

/// Why there is no WebSocket at an address that takes connections.
fn not_upgraded<R: tungstenite::handshake::HandshakeRole>(address: Address, error: HandshakeError<R>) -> Fault {
    let reason = match error {
        HandshakeError::Failure(tungstenite::Error::Http(response)) => match response.status().as_u16() {
            503 => return Fault::Stopping,
            status => format!("it answered with HTTP status {status}"),
        },
        HandshakeError::Failure(error) => failure(&error),
        HandshakeError::Interrupted(_) => TOO_LONG.to_owned(),
    };
    Fault::NotAGateway { address, reason }
}

fn lost(method: &'static str, error: &tungstenite::Error) -> Fault {
    Fault::Lost { method, reason: failure(error) }
}

/// A failed read or write in words.
fn failure(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Io(error) => words(error),
        // Which of these it is, is a matter of when the end comes.
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
        ) => "the connection was cut".to_owned(),
        error => error.to_string(),
    }
}

const TOO_LONG: &str = "it took too long";

fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => TOO_LONG.to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            "the connection was cut".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A stream whose reads and writes end at a deadline, however slowly the bytes come.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// Tries again where a signal interrupted it: the system does not resume a call that has a timeout.
    fn resumed<T>(&mut self, mut attempt: impl FnMut(&mut TcpStream, Duration) -> io::Result<T>) -> io::Result<T> {
        loop {
            let left = self.left()?;
            match attempt(&mut self.stream, left) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                done => return done,
            }
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.resumed(|stream, left| {
            stream.set_read_timeout(Some(left))?;
            stream.read(buffer)
        })
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.resumed(|stream, left| {
            stream.set_write_timeout(Some(left))?;
            stream.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
