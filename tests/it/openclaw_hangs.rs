//! Gateways that never come to an end: a request has a deadline, however much they send, and however slowly.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use reconcile::backend::openclaw::{Access, Fault, Gateway, Scope};
use serde_json::json;
use tungstenite::{Message, WebSocket, accept};

const TIMEOUT: Duration = Duration::from_millis(500);
/// How often something is sent, so that a client without a deadline fails the test instead of keeping it from its end.
const ENOUGH: usize = 1_000;
/// Between two bytes that drip. All of them together take twenty times as long as the deadline.
const DRIP: Duration = Duration::from_millis(10);
/// The header of a frame with a text of 32 MiB.
const LARGE: [u8; 10] = [0x81, 127, 0, 0, 0, 0, 2, 0, 0, 0];

/// What becomes of a client whose connection is served like this.
fn fault(serve: impl FnOnce(TcpStream) + Send + 'static) -> Fault {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = thread::spawn(move || serve(listener.accept().unwrap().0));
    let fault = Gateway::connect(Access::with_token(address, None), Scope::Read, TIMEOUT).err().unwrap();
    server.join().unwrap();
    fault
}

/// Sends one byte after the other, until the client has gone.
fn drip(stream: &mut TcpStream, byte: u8) {
    for _ in 0..ENOUGH {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(DRIP);
    }
}

/// Waits until the client has gone.
fn wait(mut stream: &TcpStream) {
    // What it sent before, or the end of the connection, in which way ever.
    while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
}

fn said(stream: TcpStream, frame: &serde_json::Value) -> WebSocket<TcpStream> {
    let mut socket = accept(stream).unwrap();
    socket.send(Message::text(frame.to_string())).unwrap();
    socket
}

fn challenged(stream: TcpStream) -> WebSocket<TcpStream> {
    said(stream, &json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "once", "ts": 1 } }))
}

fn lost() -> Fault {
    Fault::Lost { method: "connect", reason: "it took too long".to_owned() }
}

#[test]
fn a_connection_that_is_never_upgraded_has_a_deadline() {
    let silent = fault(|stream| wait(&stream));
    assert!(matches!(&silent, Fault::NotAGateway { reason, .. } if reason == "it took too long"), "{silent:?}");
    let dripping = fault(|mut stream| {
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nx: ").unwrap();
        drip(&mut stream, b'x');
    });
    assert!(matches!(&dripping, Fault::NotAGateway { reason, .. } if reason == "it took too long"), "{dripping:?}");
}

#[test]
fn a_gateway_that_never_speaks_first_has_a_deadline() {
    assert_eq!(fault(|stream| wait(accept(stream).unwrap().get_ref())), lost());
    assert_eq!(fault(|stream| wait(said(stream, &json!({ "type": "event", "event": "tick" })).get_ref())), lost());
}

#[test]
fn a_frame_that_never_ends_has_a_deadline() {
    let dripping = fault(|stream| {
        let mut socket = challenged(stream);
        socket.get_mut().write_all(&LARGE).unwrap();
        drip(socket.get_mut(), b' ');
    });
    assert_eq!(dripping, lost());
}

#[test]
fn pings_and_events_without_an_end_have_a_deadline() {
    for message in [Message::Ping("are you there".into()), Message::text(r#"{"type":"event","event":"tick"}"#)] {
        let flooded = fault(move |stream| {
            let mut socket = challenged(stream);
            let mut sent = 0;
            while sent < ENOUGH * ENOUGH && socket.send(message.clone()).is_ok() {
                sent += 1;
            }
        });
        assert_eq!(flooded, lost());
    }
}

#[test]
fn a_message_beyond_what_a_gateway_sends_is_not_waited_for() {
    let huge = fault(|stream| {
        let mut socket = challenged(stream);
        socket.get_mut().write_all(&[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0]).unwrap();
        wait(socket.get_ref());
    });
    assert!(matches!(&huge, Fault::Lost { reason, .. } if reason.contains("too long")), "{huge:?}");
}
