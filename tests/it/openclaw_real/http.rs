//! A small HTTP server on the loopback address, one request a connection, which ends with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use serde_json::Value;

/// A request: the last part of its path, and its body, which is JSON or a form.
pub struct Request {
    pub name: String,
    pub body: Value,
}

/// What is answered.
pub struct Answer {
    pub kind: &'static str,
    pub body: String,
}

impl Answer {
    pub fn json(body: &Value) -> Self {
        Self { kind: "application/json", body: body.to_string() }
    }
}

pub struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (is_over, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let own = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if own.load(Ordering::Acquire) {
                    return;
                }
                let (stream, answer) = (stream.unwrap(), Arc::clone(&answer));
                // A connection that breaks is asked again.
                thread::spawn(move || serve(&stream, &*answer));
            }
        });
        Self { address, is_over, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if TcpStream::connect(self.address).is_ok() {
            drop(self.thread.take().map(JoinHandle::join));
        }
    }
}

fn serve(mut stream: &TcpStream, answer: &dyn Fn(Request) -> Answer) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.split('?').next()?;
    let name = path.rsplit('/').next()?.to_owned();
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
    let Answer { kind, body } = answer(Request { name, body: serde_json::from_slice(&body).unwrap_or_default() });
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()
}
