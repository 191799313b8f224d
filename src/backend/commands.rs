//! Restarts sessions of this host with the commands of a policy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};
use std::time::Duration;

use crate::apply::{Attempt, Turn};
use crate::chat::{Chat, Model};
use crate::os::process::{Report, run};
use crate::plan::Row;
use crate::plan::capabilities::{Capabilities, TakesEffect};
use crate::plan::ledger::Begin;
use crate::plan::observed::{Finding, Standing};
use crate::policy::placeholder::{Session, shortened};
use crate::policy::template::{CommandLine, Invocation};
use crate::policy::{FileSettings, Sessions};

/// Whether a plan may ask which sessions are running. A restart asks anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It may.
    Running,
    /// It runs nothing that a policy names.
    Nothing,
}

/// The commands that restart the sessions of this host.
#[derive(Clone, Debug)]
pub struct Commands {
    settings: FileSettings,
    timeout: Duration,
    parallel: usize,
    /// Where they run: the policy's directory.
    directory: PathBuf,
    probe: Probe,
}

/// What the `running` command says of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Running,
    Stopped,
    Unknown,
}

impl Commands {
    /// Those of a policy, run in its directory.
    pub fn new(sessions: &Sessions, settings: &FileSettings, directory: PathBuf, probe: Probe) -> Self {
        let Sessions { timeout, parallel, .. } = *sessions;
        Self { settings: settings.clone(), timeout, parallel, directory, probe }
    }

    /// No commands: nothing is restarted.
    pub fn none() -> Self {
        let (timeout, directory) = (Duration::ZERO, PathBuf::new());
        Self { settings: FileSettings::default(), timeout, parallel: 1, directory, probe: Probe::Nothing }
    }

    fn run(&self, command: &CommandLine, chat: &Chat, model: &Model) -> Result<Report, String> {
        let Invocation { arguments, environment } = command.fill(&Session { chat, model, resume: None })?;
        Ok(run(&arguments, environment, &self.directory, self.timeout))
    }

    /// Exit codes as init scripts and supervisors use them: 1 and 3 say that it is not running. Any other end leaves it
    /// unknown, and a session that may be running counts as running.
    fn presence(&self, chat: &Chat, model: &Model) -> Presence {
        let Some(running) = &self.settings.running else { return Presence::Unknown };
        match self.run(running, chat, model).ok().and_then(|report| report.code()) {
            Some(0) => Presence::Running,
            Some(1 | 3) => Presence::Stopped,
            _ => Presence::Unknown,
        }
    }

    /// What is found of the rows to be restarted, where a plan may ask.
    pub(super) fn observe(&self, rows: &[Row]) -> BTreeMap<String, Finding> {
        if self.probe == Probe::Nothing || self.settings.running.is_none() {
            return BTreeMap::new();
        }
        let rows: Vec<&Row> = rows.iter().filter(|row| row.restart && row.is_planned()).collect();
        let findings = Mutex::new(BTreeMap::new());
        let next = Mutex::new(rows.iter());
        let ask = || {
            let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next().copied();
            while let Some(row) = take() {
                let stopped =
                    row.after.as_ref().is_some_and(|after| self.presence(&row.chat, after) == Presence::Stopped);
                if stopped {
                    let finding = Finding { standing: Standing::NotRunning, void: None };
                    let chat = row.chat.id.clone().into_owned();
                    findings.lock().unwrap_or_else(PoisonError::into_inner).insert(chat, finding);
                }
            }
        };
        thread::scope(|scope| {
            // Where no more threads can be started, those that are there ask about all rows.
            let others = self.parallel.min(rows.len()).saturating_sub(1);
            for _ in 0..others {
                if Builder::new().spawn_scoped(scope, ask).is_err() {
                    break;
                }
            }
            ask();
        });
        findings.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restarts the session of a row.
    pub(super) fn restart(&self, row: &Row, turn: &dyn Turn) -> Attempt {
        let (Some(restart), Some(model)) = (&self.settings.restart, &row.after) else {
            return Attempt::Failed("there is no restart command".to_owned());
        };
        if self.presence(&row.chat, model) == Presence::Stopped {
            return Attempt::NotNeeded("not running: it starts on its model".to_owned());
        }
        if !turn.begin(row, Begin::Owed) {
            return Attempt::NotBegun;
        }
        match self.run(restart, &row.chat, model) {
            Ok(report) if report.code() == Some(0) => Attempt::Changed,
            Ok(report) => {
                let why = report.words(&format!("the restart command ({})", restart.program()), self.timeout);
                if report.survived() { Attempt::Unknown(why) } else { Attempt::Failed(why) }
            }
            Err(why) => Attempt::Failed(why),
        }
    }
}

impl Capabilities for Commands {
    fn takes_effect(&self) -> TakesEffect {
        if self.settings.restart.is_some() { TakesEffect::OnRestart } else { TakesEffect::OnNextStart }
    }

    fn refuses_restart(&self, chat: &Chat, model: &Model) -> Option<String> {
        let session = Session { chat, model, resume: None };
        let commands = [&self.settings.restart, &self.settings.running];
        commands.into_iter().flatten().find_map(|command| command.fill(&session).err())
    }

    fn unset_runs(&self, _: &Chat) -> Option<&str> {
        self.settings.unset_runs.as_ref().map(Model::as_str)
    }

    fn uses_slugs(&self) -> bool {
        true
    }
}

/// That commands are given only the beginning of a field of the sessions to be restarted, if so.
pub(super) fn remark(rows: &[Row]) -> Option<String> {
    let is_shortened = |row: &&Row| {
        let session = row.after.as_ref().map(|model| Session { chat: &row.chat, model, resume: None });
        session.is_some_and(|session| session.is_shortened())
    };
    let restarted = rows.iter().filter(|row| row.restart && row.is_planned());
    match restarted.filter(is_shortened).count() {
        0 => None,
        1 => Some(shortened("1 session")),
        sessions => Some(shortened(&format!("{sessions} sessions"))),
    }
}
