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
    ///
    /// # Errors
    /// `Locked` where another process holds it for longer, `Interrupted` where `give_up` ended the wait.
    pub(crate) fn take(mut file: File, path: PathBuf, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Self> {
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
                Err(TryLockError::WouldBlock) if give_up() => {
                    return Err(Error::Interrupted { path, holder: holder(&mut file) });
                }
                Err(TryLockError::WouldBlock) if since.elapsed() >= patience => {
                    return Err(Error::Locked { path, holder: holder(&mut file) });
                }
                Err(TryLockError::WouldBlock) => sleep(POLL.min(patience)),
            }
        }
        // A run that has to wait can then name this one. Without the name, the lock is still right.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

/// The process that holds the lock, where the file names it. Without the name, an error is still right.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
