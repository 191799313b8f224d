//! One request to a daemon: a line of JSON over a Unix socket, and a line of JSON as the reply. The timeout covers everything:
//! waiting for a place in the queue, sending the request, and waiting for the reply.

#![allow(clippy::disallowed_methods, reason = "timeouts of sockets are counted on the clock")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::backend::dispatch::problem::{DaemonProblem, Does};
use crate::error::{Error, Result};

/// The largest reply that is read, in bytes: that of about 100,000 sessions.
const LARGEST: u64 = 64 << 20;
/// The time between two tries to connect while the queue is full, or may be.
const PAUSE: Duration = Duration::from_millis(20);

/// The socket of a daemon.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// The user who must own the socket and run the daemon: the owner of the registry.
    owner: u32,
    timeout: Duration,
}

/// The result of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is certain that no process listens: see [`meaning`].
    Down,
    /// The daemon's reply, which is JSON. It is not parsed here, because Python writes lone surrogates, which a parsed
    /// value cannot have in it.
    Reply(Vec<u8>),
    /// The request may have been sent, and there is no valid reply, for this reason.
    Lost(String),
}

/// The systems that differ in how `connect` answers for a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Linux answers EAGAIN for a full queue, and ECONNREFUSED only where no process listens.
    Linux,
    /// macOS and the BSDs answer ECONNREFUSED for both.
    Bsd,
}

impl System {
    /// The system that this program was built for.
    const HERE: Self = if cfg!(target_os = "linux") { Self::Linux } else { Self::Bsd };
}

/// What an error of `connect` says about the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// No process listens on the socket.
    Down,
    /// A process listens on the socket, and its queue is full.
    Full,
    /// Either the queue is full or no process listens.
    FullOrDown,
    /// `connect` failed for a reason that has nothing to do with the queue.
    Failed,
}

/// What an error of `connect` says about the daemon.
///
/// While the daemon is down, its registry is edited as a file. A daemon that is up would overwrite that edit with what it
/// has in memory, so only what is certain may be called down.
pub fn meaning(error: Errno, system: System) -> Meaning {
    match (error, system) {
        // Without the file, no process can reach the daemon. Linux refuses where no socket is bound to the file, as after a
        // crash, or where the one that is does not listen.
        (Errno::NOENT, _) | (Errno::CONNREFUSED, System::Linux) => Meaning::Down,
        (Errno::CONNREFUSED, System::Bsd) => Meaning::FullOrDown,
        (Errno::AGAIN, _) => Meaning::Full,
        _ => Meaning::Failed,
    }
}

impl Socket {
    pub(super) fn new(path: PathBuf, owner: u32, timeout: Duration) -> Self {
        Self { path, owner, timeout }
    }

    /// The deadline of a request that begins now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Whether no process listens.
    pub(super) fn is_down(&self) -> Result<bool> {
        self.connect(self.deadline()).map(|stream| stream.is_none())
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Where there is no connection, and the daemon is not down.
    pub(super) fn ask(&self, request: &Value, until: Instant) -> Result<Answer> {
        let Some(mut stream) = self.connect(until)? else { return Ok(Answer::Down) };
        let sent = limit(&stream, until).and_then(|()| stream.write_all(format!("{request}\n").as_bytes()));
        if let Err(error) = sent {
            return Ok(Answer::Lost(format!("the request could not be sent: {}", words(&error))));
        }
        Ok(match read_line(&stream, until) {
            Err(error) => Answer::Lost(format!("no reply: {}", words(&error))),
            Ok(line) => match serde_json::from_slice::<IgnoredAny>(&line) {
                Ok(_) => Answer::Reply(line),
                Err(_) if line.is_empty() => {
                    Answer::Lost("the daemon closed the connection without a reply".to_owned())
                }
                Err(_) => Answer::Lost("the reply is cut off, or is not JSON".to_owned()),
            },
        })
    }

    /// Whether there is a socket file, which must be the owner's.
    fn is_there(&self) -> Result<bool> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("access the socket", &self.path)(error)),
        };
        if !metadata.file_type().is_socket() {
            return Err(DaemonProblem::NotASocket { path: self.path.clone() }.into());
        }
        self.check_owner(metadata.uid(), Does::Owns)?;
        Ok(true)
    }

    /// A connection; `None` where no process listens.
    fn connect(&self, until: Instant) -> Result<Option<UnixStream>> {
        if !self.is_there()? {
            return Ok(None);
        }
        let address =
            SocketAddrUnix::new(&self.path).map_err(|_| DaemonProblem::LongPath { path: self.path.clone() })?;
        let socket = loop {
            // A new one for every try: POSIX does not say what state a failed `connect` leaves a socket in.
            let socket = open_socket().map_err(Error::io("open a socket for", &self.path))?;
            let Err(error) = rustix::net::connect(&socket, &address) else { break socket };
            match meaning(error, System::HERE) {
                Meaning::Down => return Ok(None),
                Meaning::Failed => return Err(Error::io("connect to", &self.path)(error)),
                Meaning::Full | Meaning::FullOrDown if Instant::now() < until => sleep(PAUSE),
                Meaning::Full => return Err(DaemonProblem::Hangs { path: self.path.clone() }.into()),
                Meaning::FullOrDown => return Err(DaemonProblem::Refuses { path: self.path.clone() }.into()),
            }
            // Checked again, because the daemon may have gone, and another user may have put a socket there.
            if !self.is_there()? {
                return Ok(None);
            }
        };
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).map_err(Error::io("set up the connection to", &self.path))?;
        // On other systems, checking the owner of the socket file is enough: only that user, or root, can have created it.
        #[cfg(target_os = "linux")]
        self.check_peer(&stream)?;
        Ok(Some(stream))
    }

    #[cfg(target_os = "linux")]
    fn check_peer(&self, stream: &UnixStream) -> Result<()> {
        let peer =
            rustix::net::sockopt::socket_peercred(stream).map_err(Error::io("find out who listens at", &self.path))?;
        self.check_owner(peer.uid.as_raw(), Does::Listens)
    }

    fn check_owner(&self, user: u32, does: Does) -> Result<()> {
        if user == self.owner {
            return Ok(());
        }
        Err(DaemonProblem::OfAnotherUser { user, does, path: self.path.clone(), owner: self.owner }.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens a socket whose `connect` never waits, and which no command inherits.
#[cfg(target_os = "linux")]
fn open_socket() -> Result<OwnedFd, Errno> {
    use rustix::net::SocketFlags;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Opens a socket whose `connect` never waits, and which no command inherits.
///
/// macOS cannot set both while it opens the socket. A command that another thread starts in between inherits the socket, as it
/// would inherit one of the standard library.
#[cfg(not(target_os = "linux"))]
fn open_socket() -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Sets the timeouts of a stream to the time that is left.
fn limit(stream: &UnixStream, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

/// Reads to the end of the line or of the stream, whichever comes first.
fn read_line(mut stream: &UnixStream, until: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while line.len() as u64 <= LARGEST {
        limit(stream, until)?;
        let count = match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let read = buffer.get(..count).unwrap_or_default();
        let newline = read.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(newline.map_or(read, |end| &read[..end]));
        if count == 0 || newline.is_some() {
            return Ok(line);
        }
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it took too long".to_owned(),
        _ => error.to_string(),
    }
}
