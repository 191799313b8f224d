//! A double of an OpenClaw gateway on the loopback address, which ends with the test. It speaks as those do whose frames
//! are in `tests/recordings/openclaw`, with which `openclaw_recordings::` compares it, and it can be told to misbehave.

mod client;
#[cfg(feature = "remote")]
mod encrypted;
mod serve;
mod world;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use reconcile::policy::fingerprint::Fingerprint;
use serde_json::Value;

pub use client::Client;
#[cfg(feature = "remote")]
pub use encrypted::{file as certificate_file, fingerprint as fingerprint_of};
pub use world::{Model, World};

/// What goes wrong with a request.
#[derive(Clone)]
pub enum Trouble {
    /// The connection is refused with this HTTP status. Only for `upgrade`, which is no request.
    Http(u16),
    /// It is answered with this error.
    Refuse(Value),
    /// It is answered with this text, for any request.
    Say(String),
    /// Its payload is changed.
    Alter(fn(&mut Value)),
    /// The connection is closed with this code instead of an answer. It was not carried out.
    Close(u16),
    /// The connection is cut instead of an answer. It was not carried out.
    Cut,
    /// It is carried out, and the connection cut instead of an answer.
    CutAfter,
    /// It is never answered.
    Silence,
    /// Its answer comes after a ping that was answered, an event, and a reply to another request.
    Overtake,
    /// It is answered, and then the connection is closed with this code.
    CloseAfter(u16),
}

/// How often something goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    Always,
}

struct Shared {
    world: Mutex<World>,
    troubles: Mutex<Vec<(&'static str, Times, Trouble)>>,
    requests: Mutex<Vec<(String, Value)>>,
    closed: Mutex<usize>,
    is_over: Mutex<bool>,
}

impl Shared {
    /// What goes wrong with a request of this method, if anything does.
    fn trouble(&self, method: &str) -> Option<Trouble> {
        let mut troubles = self.troubles.lock().unwrap();
        let at = troubles.iter().position(|(of, _, _)| *of == method)?;
        let (_, times, trouble) = troubles[at].clone();
        if times == Times::Once {
            troubles.remove(at);
        }
        Some(trouble)
    }
}

/// What carries the frames of a connection.
trait Carrier: Read + Write + Send {}

impl<T: Read + Write + Send> Carrier for T {}

/// What a double makes of an accepted connection.
type Accept = Box<dyn Fn(TcpStream) -> Box<dyn Carrier> + Send>;

/// A running double.
pub struct Double {
    address: SocketAddr,
    /// That of its certificate, if it encrypts.
    fingerprint: Option<Fingerprint>,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Double {
    pub fn start(world: World) -> Self {
        Self::accepting(world, None, Box::new(|stream| Box::new(stream)))
    }

    /// One that encrypts with the certificate of this name in `certificates/`.
    #[cfg(feature = "remote")]
    pub fn encrypted(world: World, certificate: &str) -> Self {
        let (fingerprint, accept) = encrypted::with(certificate);
        Self::accepting(world, Some(fingerprint), accept)
    }

    fn accepting(world: World, fingerprint: Option<Fingerprint>, accept: Accept) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            troubles: Mutex::default(),
            requests: Mutex::default(),
            closed: Mutex::default(),
            is_over: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let server = thread::spawn(move || {
            for stream in listener.incoming() {
                if *own.is_over.lock().unwrap() {
                    return;
                }
                let (stream, own) = (accept(stream.unwrap()), Arc::clone(&own));
                // A client that goes away ends its connection.
                thread::spawn(move || drop(serve::serve(stream, &own)));
            }
        });
        Self { address, fingerprint, shared, server: Some(server) }
    }

    /// Where it listens, as a policy says it.
    pub fn url(&self) -> String {
        let scheme = if self.fingerprint.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}", self.address)
    }

    /// The fingerprint of its certificate, if it encrypts.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    /// The method and parameters of each request, in order.
    pub fn requests(&self) -> Vec<(String, Value)> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests of a method there were.
    pub fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|(of, _)| of == method).count()
    }

    /// How many connections have met [`Trouble::CloseAfter`]: their clients can see it.
    pub fn closed(&self) -> usize {
        *self.shared.closed.lock().unwrap()
    }

    /// The next request of this method meets trouble. `upgrade` is the start of a connection.
    pub fn once(&self, method: &'static str, trouble: Trouble) {
        self.shared.troubles.lock().unwrap().push((method, Times::Once, trouble));
    }

    /// Every request of this method meets trouble from now on.
    pub fn always(&self, method: &'static str, trouble: Trouble) {
        self.shared.troubles.lock().unwrap().push((method, Times::Always, trouble));
    }

    /// All is well again.
    pub fn calm(&self) {
        self.shared.troubles.lock().unwrap().clear();
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        *self.shared.is_over.lock().unwrap() = true;
        if TcpStream::connect(self.address).is_ok() {
            drop(self.server.take().map(JoinHandle::join));
        }
    }
}
