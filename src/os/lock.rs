//! Locks that the kernel releases when their holder dies.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::os::directory::{Directory, Place};

const POLL: Duration = Duration::from_millis(10);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    name: OsString,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: a command that is being started has a copy of every descriptor, until it is.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Takes the lock on the file at a place, which `open` opens, waiting for it at most `patience` and until `give_up`
    /// says so. Messages call the file `shown`.
    ///
    /// # Errors
    /// Those of `open`; `Locked` where another process holds it for longer, `Interrupted` where `give_up` ended the wait.
    pub(crate) fn take(
        place: Place,
        shown: &Path,
        open: &dyn Fn() -> Result<File>,
        patience: Duration,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let since = Instant::now();
        loop {
            let mut file = open()?;
            match file.try_lock() {
                Ok(()) if place.holds(&file)? => return Ok(Self { file, name: place.name.to_owned() }),
                // Another file has taken its place meanwhile, and only the lock on that one keeps others away.
                Ok(()) => {}
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", shown)(error)),
                Err(TryLockError::WouldBlock) if give_up() => {
                    return Err(Error::Interrupted { path: shown.to_owned(), holder: holder(&mut file) });
                }
                Err(TryLockError::WouldBlock) if since.elapsed() >= patience => {
                    return Err(Error::Locked { path: shown.to_owned(), holder: holder(&mut file) });
                }
                Err(TryLockError::WouldBlock) => sleep(POLL.min(patience)),
            }
        }
    }

    /// The file that the lock is on.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Names this process in the file, so that a run that has to wait can name it. Without that, the lock is still right.
    pub(crate) fn sign(&self) {
        let mut file = &self.file;
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    }

    /// That the lock still keeps others away: its file has its name in this directory.
    ///
    /// # Errors
    /// Where another file has that name, or none.
    pub(crate) fn check(&self, directory: &Directory) -> Result<()> {
        let place = directory.place(&self.name);
        if place.holds(&self.file)? {
            return Ok(());
        }
        Err(Error::other(format!("{} was removed or replaced while this run held it", place.path().display()))
            .with_hint("another run may be at work, so nothing more was done; wait for it, and run again"))
    }
}

/// The process that holds the lock, where the file names it. Without the name, an error is still right.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
