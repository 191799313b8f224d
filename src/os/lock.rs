//! Locks that the kernel releases when their holder dies.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::error::{Error, Holder, Result};
use crate::os::FileMeta;
use crate::os::directory::{Directory, Place};
use crate::os::problem::OsProblem;

/// The time between two tries to take a lock.
const POLL: Duration = Duration::from_millis(10);
/// How many times the system's list of locks is read to find a holder.
const READS: usize = 10;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    name: OsString,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: between fork and exec, a command that is being started has a copy of the descriptor.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Takes the lock on the file at a place, which `open` opens. Waits for at most `patience`, and no longer when
    /// `give_up` returns true. Errors name the file by `shown`.
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
                // The file was replaced meanwhile. Other programs lock the new one, so this lock has no effect.
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

    /// Writes the id of this process into the file, so that a run that waits can name it. If that fails, the lock still works.
    pub(crate) fn sign(&self) {
        let mut file = &self.file;
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    }

    /// Checks that the lock still has an effect: its file must have its name in this directory.
    ///
    /// # Errors
    /// Where another file has that name, or none.
    pub(crate) fn check(&self, directory: &Directory) -> Result<()> {
        let place = directory.place(&self.name);
        if place.holds(&self.file)? {
            return Ok(());
        }
        Err(OsProblem::LockLost { lock: place.path() }.into())
    }
}

/// The process that holds the lock, by the id in the file and the system's list of locks. The id may be that of a run
/// that has ended.
fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let named = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    match (named, holders(file)) {
        (Some(named), Some(holders)) if holders.contains(&named) => Holder::Run(named),
        (_, Some(holders)) => Holder::Another(holders.into_iter().find(|holder| is_alive(*holder))),
        (Some(named), None) if is_alive(named) => Holder::Run(named),
        (_, None) => Holder::Another(None),
    }
}

/// The processes that hold a `flock` on the file; `None` where the system has no list of locks.
fn holders(file: &File) -> Option<Vec<u32>> {
    let meta = FileMeta::of_open(file, Path::new("")).ok()?;
    let inode = meta.stamp.inode.to_string();
    // The list is read in pieces. If another lock is released between two pieces, a line may be missing.
    for _ in 0..READS {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let held: Vec<u32> = locks.lines().filter_map(|line| holder_in(line, &inode)).collect();
        if !held.is_empty() {
            return Some(held);
        }
    }
    Some(Vec::new())
}

/// The process in a line such as `1: FLOCK  ADVISORY  WRITE 4242 fd:01:1311768 0 EOF`, if the line is about this inode.
/// A line of a process that waits for the lock has `->` as its second word, and does not count.
fn holder_in(line: &str, inode: &str) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_it = words.get(1) == Some(&"FLOCK") && words.get(5)?.rsplit(':').next() == Some(inode);
    is_it.then(|| words.get(4)?.parse().ok())?
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // A process of another user may not be signalled, but it exists.
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(Errno::SRCH)))
}
