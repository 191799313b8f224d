//! The stream of a connection, encrypted or not, with a deadline.

use std::io::{self, Read, Write};
use std::time::Instant;

use crate::backend::openclaw::remote::Encrypted;
use crate::backend::openclaw::timed::Timed;

/// The stream on which frames are read and written.
pub(super) enum Stream {
    Plain(Timed),
    Encrypted(Box<Encrypted>),
}

impl Stream {
    /// Sets the deadline of the following reads and writes.
    pub(super) fn set_deadline(&mut self, until: Instant) {
        match self {
            Self::Plain(stream) => stream.set_deadline(until),
            Self::Encrypted(stream) => stream.carrier().set_deadline(until),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}
