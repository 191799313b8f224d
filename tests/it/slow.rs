//! Runs that a test holds up in the middle: each restart says that it has begun and ends when it is told to, so that no
//! test waits for a time to pass.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{POLICY, Run, Sandbox, registry};

/// After this time something hangs, however slow the machine is.
pub const HANGS: Duration = Duration::from_secs(60);

/// A fifo that is made and listened to.
pub struct Lines {
    path: PathBuf,
    told: Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    pub fn listen(path: PathBuf) -> Self {
        let listen = fifo(&path);
        let (tell, told) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(listen).lines() {
                let line = line.unwrap();
                if line.is_empty() || tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { path, told, reader: Some(reader) }
    }

    /// Waits for the next line.
    pub fn next(&self, what: &str) -> String {
        self.told.recv_timeout(HANGS).expect(what)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let told = File::options().write(true).open(&self.path).and_then(|mut fifo| fifo.write_all(b"\n"));
        if let (Ok(()), Some(reader)) = (told, self.reader.take()) {
            let _ = reader.join();
        }
    }
}

/// Chats that are to go from opus to sonnet, and a restart command that waits.
pub struct Slow {
    begun: Lines,
    pub sandbox: Sandbox,
    /// Kept open, so that neither telling nor listening waits for the other side to open.
    fifos: Vec<(String, File)>,
}

impl Slow {
    /// Further lines of `[sessions]` may follow the restart command.
    pub fn new(chats: &[&str], sessions: &str) -> Self {
        let entries: Vec<_> = chats.iter().map(|chat| (*chat, "family", "opus")).collect();
        let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n{sessions}");
        let sandbox = Sandbox::new(&policy, &registry(&entries));
        sandbox.script(
            "restart",
            "chat=$RECONCILE_CHAT_ID\necho $chat >> calls\necho $chat > begun\nread -r word < end.$chat\necho $chat >> ended",
        );
        sandbox.has_seen(&["sonnet"]);
        let begun = Lines::listen(sandbox.path("begun"));
        let end = |chat: &&str| ((*chat).to_owned(), fifo(&sandbox.path(&format!("end.{chat}"))));
        let fifos = chats.iter().map(end).collect();
        Self { begun, sandbox, fifos }
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.sandbox.command(arguments))
    }

    /// Waits for the next restart to begin, and returns whose it is.
    pub fn begun(&self) -> String {
        self.begun.next("a restart begins")
    }

    /// Lets the restart of a chat end: the one under way, or else the next.
    pub fn end(&self, chat: &str) {
        let fifo = self.fifos.iter().find_map(|(name, fifo)| (name == chat).then_some(fifo));
        let mut fifo: &File = fifo.unwrap();
        fifo.write_all(b"\n").unwrap();
    }

    /// The restarts that came to their end.
    pub fn ended(&self) -> Vec<String> {
        self.sandbox.read("ended").lines().map(str::to_owned).collect()
    }

    /// The chats that are owed a restart.
    pub fn owed(&self) -> Vec<String> {
        self.sandbox.ledger()["owed"].as_object().unwrap().keys().cloned().collect()
    }
}

/// A fifo, open on both sides, so that neither telling nor listening waits for the other.
pub fn fifo(path: &Path) -> File {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    File::options().read(true).write(true).open(path).unwrap()
}

/// A run that has been started, and is killed if its test fails.
pub struct Running {
    child: Child,
    over: bool,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, over: false }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends a signal, and waits until the run has taken note of it.
    pub fn interrupt(&self, signal: Signal) {
        self.signal(signal);
        self.wait_until_noted();
    }

    /// Waits until a run that waits for a restart has handled every signal, and waits again.
    pub fn wait_until_noted(&self) {
        until("the signal is handled", || !self.has_pending_signals() && self.is_at_rest());
    }

    /// Whether it has a file of that name open.
    pub fn has_open(&self, name: &str) -> bool {
        let open = fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).any(|file| file.ends_with(name))
    }

    /// Whether it handles that signal by now. Before, it may be one that it was told to ignore, as a shell tells what it
    /// starts in the background.
    pub fn handles(&self, signal: Signal) -> bool {
        self.signals("SigCgt:") & (1 << (signal.as_raw() - 1)) != 0
    }

    fn has_pending_signals(&self) -> bool {
        self.signals("SigPnd:") | self.signals("ShdPnd:") != 0
    }

    /// A set of signals, a bit each, as the kernel tells it.
    fn signals(&self, set: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }

    /// Whether all of its threads wait for something.
    fn is_at_rest(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        threads.into_iter().all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
        })
    }

    pub fn is_over(&mut self) -> bool {
        self.over = self.over || self.child.try_wait().unwrap().is_some();
        self.over
    }

    /// Kills it where it is, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.finish();
    }

    /// Waits for its end, and returns what it did.
    pub fn finish(&mut self) -> Run {
        let mut told = [String::new(), String::new()];
        self.child.stdout.take().unwrap().read_to_string(&mut told[0]).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut told[1]).unwrap();
        let status = self.child.wait().unwrap();
        self.over = true;
        let [stdout, stderr] = told;
        Run { code: status.code().unwrap_or(-1), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until something holds that a process brings about by itself.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = std::time::Instant::now();
    while !holds() {
        assert!(since.elapsed() < HANGS, "this never happened: {what}");
        thread::yield_now();
    }
}

/// Says that a thread is over, also where it panicked.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
