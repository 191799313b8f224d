//! Locks that the kernel releases when their holder dies.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const POLL: Duration = Duration::from_millis(10);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: a command that is being started has a copy of every descriptor, until it is.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Takes the lock on a file, waiting for it at most `patience` and until `give_up` says so.
    pub(crate) fn take(mut file: File, path: PathBuf, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Self> {
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
                Err(TryLockError::WouldBlock) if since.elapsed() >= patience || give_up() => {
                    let mut text = String::new();
                    // The name of the holder is a courtesy: without it, the error is still right.
                    let _ = file.read_to_string(&mut text);
                    return Err(Error::Locked { path, holder: text.trim().parse().ok() });
                }
                Err(TryLockError::WouldBlock) => sleep(POLL.min(patience)),
            }
        }
        // Also a courtesy, to whoever has to wait.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}
