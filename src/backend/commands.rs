//! Restarts sessions with the commands of a policy.

use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use crate::apply::{Attempt, Backend, Turn};
use crate::chat::{Chat, Model};
use crate::error::Result;
use crate::os::process as command;
use crate::plan::{Observed, Presence, Row, Session};
use crate::policy::Commands;
use crate::policy::template::{CommandLine, environment};

/// Restarts sessions with commands.
#[derive(Debug)]
pub struct FileBackend<'a> {
    commands: &'a Commands,
    /// Where they run: the policy's directory.
    directory: PathBuf,
    /// Whether `observe` may run the `running` command.
    probe: bool,
}

impl<'a> FileBackend<'a> {
    /// `probe`: whether a plan may ask which sessions are running. A restart asks anyway.
    pub fn new(commands: &'a Commands, directory: PathBuf, probe: bool) -> Self {
        Self { commands, directory, probe }
    }

    fn run(&self, command: &CommandLine, chat: &Chat, model: &Model) -> Result<command::Report, String> {
        let arguments = command.fill(chat, model)?;
        Ok(command::run(&arguments, environment(chat, model), &self.directory, self.commands.timeout))
    }

    /// Exit codes as init scripts and supervisors use them: 1 and 3 say that it is not running. Whatever else happens,
    /// a session that may be running counts as running.
    fn presence(&self, chat: &Chat, model: &Model) -> Presence {
        let Some(running) = &self.commands.running else { return Presence::Unknown };
        match self.run(running, chat, model).ok().and_then(|report| report.code()) {
            Some(0) => Presence::Running,
            Some(1 | 3) => Presence::Stopped,
            _ => Presence::Unknown,
        }
    }
}

impl Backend for FileBackend<'_> {
    fn observe(&self, rows: &[&Row]) -> Result<Observed> {
        let observed = Mutex::new(Observed::default());
        if !self.probe || self.commands.running.is_none() {
            return Ok(Observed::default());
        }
        let next = Mutex::new(rows.iter());
        thread::scope(|scope| {
            for _ in 0..self.commands.parallel.min(rows.len()) {
                scope.spawn(|| {
                    let take = || next.lock().ok()?.next().copied();
                    while let Some(row) = take() {
                        let Some(model) = &row.after else { continue };
                        let presence = self.presence(&row.chat, model);
                        let session = Session { presence, healthy: true, run: None };
                        if let Ok(mut observed) = observed.lock() {
                            observed.sessions.insert(row.chat.id.clone().into_owned(), session);
                        }
                    }
                });
            }
        });
        Ok(observed.into_inner().unwrap_or_default())
    }

    fn restart(&self, row: &Row, turn: &dyn Turn) -> Attempt {
        let (Some(restart), Some(model)) = (&self.commands.restart, &row.after) else {
            return Attempt::Failed("there is no restart command".to_owned());
        };
        if self.presence(&row.chat, model) == Presence::Stopped {
            return Attempt::NotNeeded("not running: it starts on its model".to_owned());
        }
        if !turn.begin(None) {
            return Attempt::NotBegun;
        }
        match self.run(restart, &row.chat, model) {
            Ok(report) if report.code() == Some(0) => Attempt::Restarted(None),
            Ok(report) => {
                let why = report.words(&format!("the restart command ({})", restart.program()), self.commands.timeout);
                if report.survived() { Attempt::Unknown(why) } else { Attempt::Failed(why) }
            }
            Err(why) => Attempt::Failed(why),
        }
    }
}
