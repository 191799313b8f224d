//! A supervisor: it owns a process per session, and starts one anew when it is asked to, on the model that the registry
//! holds at that moment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A session, and the models that it was started on so far.
#[derive(Debug)]
pub struct Session {
    process: Child,
    pub started_on: Vec<String>,
}

impl Session {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

pub type Sessions = BTreeMap<String, Session>;

/// The supervisor of the sessions of one directory.
pub struct Supervisor {
    directory: PathBuf,
    sessions: Arc<Mutex<Sessions>>,
    handled: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts every session of `sessions.json`, and listens for restarts. The restart command is `./restart`.
    pub fn start(directory: &Path) -> Self {
        // The answer tells the command that its session is up.
        let restart = "#!/bin/sh\nmkfifo \"answer.$$\"\necho \"$RECONCILE_CHAT_ID answer.$$\" > requests\nread -r answer < \"answer.$$\"\nrm \"answer.$$\"\n";
        fs::write(directory.join("restart"), restart).unwrap();
        fs::set_permissions(directory.join("restart"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new("mkfifo").arg(directory.join("requests")).status().unwrap().success());

        let models = models(directory);
        let started =
            models.into_iter().map(|(chat, model)| (chat, Session { process: start(), started_on: vec![model] }));
        let sessions = Arc::new(Mutex::new(started.collect::<Sessions>()));
        let (handle, handled) = mpsc::channel();
        let thread = thread::spawn({
            let (directory, sessions) = (directory.to_owned(), Arc::clone(&sessions));
            move || serve(&directory, &sessions, &handle)
        });
        Self { directory: directory.to_owned(), sessions, handled, thread: Some(thread) }
    }

    /// Waits until so many more restarts have been handled.
    pub fn wait_for(&self, restarts: usize) {
        for _ in 0..restarts {
            self.handled.recv().unwrap();
        }
    }

    pub fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let asked = File::options().write(true).open(self.directory.join("requests"));
        let asked = asked.and_then(|mut requests| requests.write_all(b"quit\n"));
        if let (Ok(()), Some(thread)) = (asked, self.thread.take()) {
            let _ = thread.join();
        }
        let mut sessions = self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for session in sessions.values_mut() {
            let _ = session.process.kill();
            let _ = session.process.wait();
        }
    }
}

fn serve(directory: &Path, sessions: &Mutex<Sessions>, handled: &mpsc::Sender<()>) {
    // Open for both, so that it does not end when a writer does.
    let requests = File::options().read(true).write(true).open(directory.join("requests")).unwrap();
    for request in BufReader::new(requests).lines() {
        let request = request.unwrap();
        let Some((chat, answer)) = request.split_once(' ') else { return };
        {
            let mut sessions = sessions.lock().unwrap();
            let session = sessions.get_mut(chat).unwrap();
            session.process.kill().unwrap();
            session.process.wait().unwrap();
            session.process = start();
            session.started_on.push(models(directory)[chat].clone());
        }
        fs::write(directory.join(answer), "up\n").unwrap();
        handled.send(()).unwrap();
    }
}

fn start() -> Child {
    // With no descriptor of ours, so that no test waits for a session that a failed test left.
    let mut session = Command::new("sleep");
    session.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What the registry says; without a model, opus.
pub fn models(directory: &Path) -> BTreeMap<String, String> {
    let registry: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(directory.join("sessions.json")).unwrap()).unwrap();
    let entries = registry.as_object().unwrap().iter();
    entries.map(|(chat, entry)| (chat.clone(), entry["model"].as_str().unwrap_or("opus").to_owned())).collect()
}
