//! Runs commands of a policy, and git: without a shell, a terminal or inherited descriptors, and with a time limit.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::crash::crash_point;
use crate::foreign::{Foreign, Sentence, sentence};

/// At most this much of the end of a command's stderr is shown, in bytes.
const TAIL: u64 = 4096;
/// The time between SIGTERM and SIGKILL for a command that took too long.
const GRACE: Duration = Duration::from_secs(2);
/// The time between two looks at a command, if no thread could be started to wait for it.
const PAUSE: Duration = Duration::from_millis(10);
/// Time limits are counted in pieces of at most this length. If this process or the host is suspended during a piece,
/// only that piece is counted, and not the time of the suspension.
const PIECE: Duration = Duration::from_millis(100);

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It exited, or was killed by a signal that this program did not send.
    Exited(ExitStatus),
    /// It took too long, and was killed.
    TimedOut,
    /// It took too long, and could not be killed, for example because it runs as another user.
    Survived,
    /// It could not be started.
    NotStarted(io::Error),
}

/// How a command ended, and what it wrote to stderr.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) ended: Ended,
    /// The end of its stderr, without blanks around it.
    pub(crate) complaint: String,
}

/// Replaces this process by the command, which gets its signals, its terminal and its exit code. Returns only on an error.
pub(crate) fn turn_into(arguments: &[String], environment: Vec<(&'static str, String)>) -> io::Error {
    match arguments.split_first() {
        Some((program, arguments)) => Command::new(program).args(arguments).envs(environment).exec(),
        None => io::ErrorKind::InvalidInput.into(),
    }
}

/// Runs a command and waits until it ends. It does not wait for the end of the output, which a session that the command
/// has started in the background may hold open for ever.
pub(crate) fn run(
    arguments: &[String],
    environment: Vec<(&'static str, String)>,
    directory: &Path,
    timeout: Duration,
) -> Report {
    let mut stderr = None;
    let ended = start(arguments, environment, directory, timeout, &mut stderr).unwrap_or_else(Ended::NotStarted);
    Report::new(ended, stderr)
}

fn start(
    arguments: &[String],
    environment: Vec<(&'static str, String)>,
    directory: &Path,
    timeout: Duration,
    stderr: &mut Option<File>,
) -> io::Result<Ended> {
    let (program, arguments) = arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).envs(environment).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = spawn(&mut command, stderr)?;
    crash_point!("command: started");
    let ended = wait(&mut child, timeout)?;
    crash_point!("command: ended");
    Ok(ended)
}

/// Calls `look` until it returns true or `limit` is over, with a pause after each call. It is called at least once, and
/// a last time when `limit` is over.
pub(crate) fn poll(limit: Duration, pause: Duration, mut look: impl FnMut() -> bool) {
    let since = Instant::now();
    loop {
        let left = limit.saturating_sub(since.elapsed());
        if look() || left.is_zero() {
            return;
        }
        sleep(pause.min(left));
    }
}

/// A command for [`ask`], which runs in this directory, with these variables in addition to the environment of this process.
pub(crate) fn question(arguments: &[String], environment: Vec<(&'static str, String)>, directory: &Path) -> Command {
    let mut words = arguments.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words).envs(environment).current_dir(directory).stdin(Stdio::null());
    command
}

/// Runs a command, and returns what it writes to stdout. An answer of more than `most` bytes is cut off after `most +
/// 1` bytes, by which the caller can tell.
pub(crate) fn ask(command: &mut Command, most: u64, timeout: Duration) -> (Report, Vec<u8>) {
    let mut stderr = None;
    let answered = answer(command, most, timeout, &mut stderr);
    let (ended, answer) = answered.unwrap_or_else(|error| (Ended::NotStarted(error), Vec::new()));
    (Report::new(ended, stderr), answer)
}

fn answer(
    command: &mut Command,
    most: u64,
    timeout: Duration,
    stderr: &mut Option<File>,
) -> io::Result<(Ended, Vec<u8>)> {
    let until = Instant::now() + timeout;
    let mut child = spawn(command.stdout(Stdio::piped()), stderr)?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (answered, answer) = mpsc::channel();
    let read = move || {
        let mut bytes = Vec::new();
        if stdout.take(most + 1).read_to_end(&mut bytes).is_ok() {
            // This fails only if the caller has stopped waiting.
            let _ = answered.send(bytes);
        }
    };
    // Not a scoped thread, because a process that the command left in the background may hold the pipe open.
    if let Err(error) = Builder::new().spawn(read) {
        wait(&mut child, Duration::ZERO)?;
        return Err(error);
    }
    if let Ok(bytes) = answer.recv_timeout(timeout) {
        return Ok((wait(&mut child, until.saturating_duration_since(Instant::now()))?, bytes));
    }
    let ended = match wait(&mut child, Duration::ZERO)? {
        // The command has ended, but its output has not.
        Ended::Exited(_) => Ended::TimedOut,
        ended => ended,
    };
    Ok((ended, Vec::new()))
}

/// Starts a command in a process group of its own.
fn spawn(command: &mut Command, stderr: &mut Option<File>) -> io::Result<Child> {
    // If no temporary file can be created, the command runs nevertheless, and its complaints are lost.
    let complaints =
        tempfile::tempfile().or_else(|_| File::options().read(true).write(true).open(Path::new("/dev/null")))?;
    *stderr = Some(complaints.try_clone()?);
    command.stderr(complaints).process_group(0).spawn()
}

/// Waits for the end of a command. The command stays a zombie, so that its process id and its group's are not reused.
enum End {
    /// A thread waits for the command, and sends a message when it has ended.
    Said(Receiver<()>, Pid),
    /// No thread could be started, so the system is asked at intervals.
    Asked(Pid),
}

impl End {
    fn of(pid: Pid) -> Self {
        let (ended, end) = mpsc::channel();
        let wait = move || {
            while matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT), Err(Errno::INTR)) {}
            // This fails only if the caller has stopped waiting.
            let _ = ended.send(());
        };
        // Not a scoped thread, because a command that cannot be killed must not block the run.
        match Builder::new().spawn(wait) {
            Ok(_) => Self::Said(end, pid),
            Err(_) => Self::Asked(pid),
        }
    }

    /// Waits for at most this time, and returns whether the command has ended. Time in which this process was suspended
    /// does not count, because the command may have ended in time.
    fn comes_within(&self, time: Duration) -> bool {
        let mut left = time;
        while !left.is_zero() {
            let piece = left.min(self.piece());
            if self.comes_in_one(piece) {
                return true;
            }
            left -= piece;
        }
        self.comes_in_one(Duration::ZERO)
    }

    fn piece(&self) -> Duration {
        match self {
            Self::Said(..) => PIECE,
            Self::Asked(_) => PAUSE,
        }
    }

    fn comes_in_one(&self, piece: Duration) -> bool {
        let pid = match self {
            Self::Said(end, _) if end.recv_timeout(piece).is_ok() => return true,
            Self::Said(_, pid) => *pid,
            Self::Asked(pid) => {
                sleep(piece);
                *pid
            }
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None) | Err(Errno::INTR))
    }
}

/// Waits for the end of a command, and kills it when the time is over.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Ended> {
    let pid = Pid::from_child(child);
    let end = End::of(pid);
    if end.comes_within(timeout) {
        return child.wait().map(Ended::Exited);
    }
    // Both, because the command may have left its group. Errors are ignored: what counts is whether the command ends.
    let signal = |signal| {
        let _ = kill_process_group(pid, signal);
        let _ = kill_process(pid, signal);
    };
    signal(Signal::TERM);
    let ended = end.comes_within(GRACE);
    // This also kills the other processes of the group.
    signal(Signal::KILL);
    if !ended && !end.comes_within(GRACE) {
        return Ok(Ended::Survived);
    }
    child.wait()?;
    Ok(Ended::TimedOut)
}

fn tail(mut file: File) -> io::Result<String> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Report {
    fn new(ended: Ended, stderr: Option<File>) -> Self {
        let complaint = stderr.and_then(|file| tail(file).ok()).unwrap_or_default();
        Self { ended, complaint: complaint.trim().to_owned() }
    }

    /// The exit code, where the command ended by itself.
    pub(crate) fn code(&self) -> Option<i32> {
        match &self.ended {
            Ended::Exited(status) => status.code(),
            Ended::TimedOut | Ended::Survived | Ended::NotStarted(_) => None,
        }
    }

    /// How the command ended and what it wrote to stderr, for the detail of a row. The stderr begins on a line of its
    /// own, so that a report for many readers can leave it out: it may have a secret in it.
    pub(crate) fn words(&self, program: &str, timeout: Duration) -> String {
        let what = self.end(Foreign::from(program), timeout).into_foreign();
        if self.complaint.is_empty() { what.raw().to_owned() } else { format!("{}:\n{}", what.raw(), self.complaint) }
    }

    /// How the command ended, without its stderr.
    pub(crate) fn end(&self, program: impl Into<Sentence>, timeout: Duration) -> Sentence {
        let program = program.into();
        match &self.ended {
            Ended::NotStarted(error) => sentence!("{} could not be started: {}", program, error),
            Ended::Survived => sentence!("{} took longer than {}, and could not be killed", program, timeout),
            Ended::TimedOut => sentence!("{} took longer than {} and was killed", program, timeout),
            Ended::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) => sentence!("{} exited with code {}", program, code),
                (None, Some(signal)) => sentence!("{} was killed by signal {}", program, signal),
                (None, None) => sentence!("{} ended: {}", program, Foreign::from(status.to_string())),
            },
        }
    }
}
