//! Connects to a gateway: looks up its name and opens a TCP connection, within a deadline.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::openclaw::address::{Address, Host};
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::timed::words;

/// The shortest timeout, because the system does not accept a timeout of zero.
const SHORTEST: Duration = Duration::from_millis(1);

/// Connects to the first of the gateway's addresses that answers.
pub(super) fn dial(address: &Address, until: Instant) -> Result<TcpStream, Fault> {
    let unreachable = |error: io::Error| match error.kind() {
        ErrorKind::ConnectionRefused => Fault::Down(address.clone()),
        _ => Fault::Unreachable { address: address.clone(), reason: words(&error) },
    };
    let stream = look_up(address, until).and_then(|found| call(&found, until)).map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

/// Tries one address after the other. The time that is left is divided equally among the addresses that were not tried yet.
fn call(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(ErrorKind::NotFound);
    for (untried, address) in (1..=addresses.len()).rev().zip(addresses) {
        let share = u32::try_from(untried).map_or(SHORTEST, |untried| left(until) / untried);
        match TcpStream::connect_timeout(address, share.max(SHORTEST)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn look_up(address: &Address, until: Instant) -> io::Result<Vec<SocketAddr>> {
    let name = match address.host() {
        Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, address.port())]),
        Host::Name(name) => name.clone(),
    };
    let (port, (sender, receiver)) = (address.port(), mpsc::channel());
    // A look-up has no timeout, so it runs in a thread. One that takes too long is abandoned, and ends by itself.
    thread::Builder::new().spawn(move || {
        let found = (name, port).to_socket_addrs().map(Iterator::collect);
        // This fails only if the caller has stopped waiting.
        drop(sender.send(found));
    })?;
    receiver.recv_timeout(left(until)).map_err(|_| io::Error::from(ErrorKind::TimedOut))?
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
