//! Restarts sessions of this host with the commands of a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder};
use std::time::Duration;

use crate::apply::{Attempt, Batch, Owes, PlannedOn, Turn};
use crate::backend::listener::{Deaf, Listener};
use crate::backend::problem::BackendProblem;
use crate::backend::verify::{Seen, Verification};
use crate::chat::{Chat, Model};
use crate::checkup::Check;
use crate::error::Error;
use crate::foreign::{Foreign, Public, Sentence, sentence};
use crate::os::process::{Ended, Report, ask, question, run};
use crate::os::program::refusal;
use crate::plan::capabilities::{Capabilities, TakesEffect};
use crate::plan::ledger::Begin;
use crate::plan::{Reading, Row};
use crate::policy::placeholder::{Session, shortened};
use crate::policy::template::{CommandLine, Invocation};
use crate::policy::{FileSettings, Policy, Sessions};
use crate::registry::Key;

/// The key of the command that restarts a session.
const RESTART: &str = "restart";
/// As much of what `identity` prints is taken, in bytes.
const LONGEST: u64 = 4096;

/// What a plan may ask of sessions. A restart asks anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing: it runs no command of the policy.
    Nothing,
    /// What the order of its restarts depends on.
    Needed,
    /// That, and of every session that would be restarted whether it is running.
    Rows,
}

/// The commands that restart the sessions of this host.
#[derive(Clone, Debug)]
pub struct Commands {
    settings: FileSettings,
    timeout: Duration,
    min_healthy: Duration,
    parallel: usize,
    /// Where they run: the policy's directory.
    directory: PathBuf,
    probe: Probe,
    /// What hears of each command.
    listener: Arc<dyn Listener>,
}

/// What the `running` command says of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Running,
    Stopped,
    Unknown,
}

impl Commands {
    /// Those of a policy, run in its directory.
    pub fn new(policy: &Policy, settings: &FileSettings, directory: PathBuf, probe: Probe) -> Self {
        let Sessions { timeout, parallel, .. } = policy.sessions;
        let min_healthy = policy.rollout.min_healthy;
        let listener = Arc::new(Deaf);
        Self { settings: settings.clone(), timeout, min_healthy, parallel, directory, probe, listener }
    }

    /// With this to hear of each command.
    #[must_use]
    pub(crate) fn heard_by(self, listener: Arc<dyn Listener>) -> Self {
        Self { listener, ..self }
    }

    /// No commands: nothing is restarted.
    pub fn none() -> Self {
        Self {
            settings: FileSettings::default(),
            timeout: Duration::ZERO,
            min_healthy: Duration::ZERO,
            parallel: 1,
            directory: PathBuf::new(),
            probe: Probe::Nothing,
            listener: Arc::new(Deaf),
        }
    }

    fn run(&self, key: &'static str, command: &CommandLine, chat: &Chat, model: &Model) -> Result<Report, String> {
        let Invocation { arguments, environment } = command.fill(&Session::on(chat, model))?;
        let start = || run(&arguments, environment, &self.directory, self.timeout);
        Ok(self.heard((key, command), chat, start, |report| report))
    }

    /// Runs a command through `start`, and tells of its begin and its end: of its end, what the `report` says without what
    /// the command printed.
    fn heard<T>(
        &self,
        (key, command): (&'static str, &CommandLine),
        chat: &Chat,
        start: impl FnOnce() -> T,
        report: impl FnOnce(&T) -> &Report,
    ) -> T {
        let name = sentence!("the {} command ({})", key, Foreign::from(command.program()));
        self.listener.hear(&sentence!("{} begins", &name), Some(chat.label()));
        let ended = start();
        self.listener.hear(&report(&ended).end(name, self.timeout), Some(chat.label()));
        ended
    }

    /// Whether a session is running. One that may be counts as running.
    pub(super) fn presence(&self, chat: &Chat, model: &Model) -> Presence {
        match self.is_running(chat, model) {
            Ok(true) => Presence::Running,
            Ok(false) => Presence::Stopped,
            Err(_) => Presence::Unknown,
        }
    }

    /// Exit codes as init scripts and supervisors use them: 1 and 3 say that it is not running.
    ///
    /// # Errors
    /// Why that cannot be told: any other end of the command.
    fn is_running(&self, chat: &Chat, model: &Model) -> Result<bool, String> {
        let running = self.settings.running.as_ref().ok_or("there is no `running` command")?;
        let report = self.run("running", running, chat, model)?;
        match report.code() {
            Some(0) => Ok(true),
            Some(1 | 3) => Ok(false),
            _ => Err(self.words(&report, "running", running)),
        }
    }

    fn words(&self, report: &Report, key: &str, command: &CommandLine) -> String {
        report.words(&format!("the {key} command ({})", command.program()), self.timeout)
    }

    /// Whether the commands that a restart needs can be executed.
    ///
    /// # Errors
    /// The first that cannot.
    pub(super) fn preflight(&self) -> Result<(), Error> {
        self.programs().try_for_each(|(key, program)| self.check_program(key, &program))
    }

    /// Looks at each command that a restart needs.
    pub(super) fn checkup(&self) -> Vec<Check> {
        if self.settings.restart.is_none() {
            return vec![Check::good(RESTART, "the policy has no restart command: nothing is restarted")];
        }
        let look = |(key, program): (&'static str, String)| {
            let found = self
                .check_program(key, &program)
                .map(|()| sentence!("{} can be executed", Foreign::from(program.as_str())));
            Check::of(key, found, "check the policy")
        };
        self.programs().map(look).collect()
    }

    /// The programs of the commands that a restart needs, each with its key in the policy.
    fn programs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let FileSettings { restart, running, identity, .. } = &self.settings;
        let commands = [(RESTART, restart), ("running", running), ("identity", identity)];
        commands.into_iter().filter_map(|(key, command)| Some((key, command.as_ref()?.program())))
    }

    fn check_program(&self, key: &'static str, program: &str) -> Result<(), Error> {
        let Some(why) = refusal(program, &self.directory) else { return Ok(()) };
        Err(BackendProblem::Program { key, program: program.into(), why: why.into() }.into())
    }

    /// What a plan may ask.
    pub(super) fn probe(&self) -> Probe {
        self.probe
    }

    /// Whether it can be asked which sessions are running.
    pub(super) fn knows_running(&self) -> bool {
        self.settings.running.is_some()
    }

    /// What `identity` prints of a session: something that changes with each start of it.
    pub(super) fn identity(&self, chat: &Chat, model: &Model) -> Option<String> {
        self.settings.identity.as_ref().and_then(|identity| self.ask_identity(identity, chat, model).ok())
    }

    /// # Errors
    /// Why it cannot be told.
    fn ask_identity(&self, identity: &CommandLine, chat: &Chat, model: &Model) -> Result<String, String> {
        let Invocation { arguments, environment } = identity.fill(&Session::on(chat, model))?;
        let start = || ask(&mut question(&arguments, environment, &self.directory), LONGEST, self.timeout);
        let (report, answer) = self.heard(("identity", identity), chat, start, |(report, _)| report);
        let says = |what: &str| format!("the identity command ({}) {what}", identity.program());
        if answer.len() as u64 > LONGEST {
            return Err(says("printed more than 4 KiB"));
        }
        if report.code() != Some(0) {
            return Err(self.words(&report, "identity", identity));
        }
        match String::from_utf8_lossy(&answer).trim() {
            "" => Err(says("printed nothing")),
            answer => Ok(answer.to_owned()),
        }
    }

    /// Looks at a session.
    fn look(&self, chat: &Chat, model: &Model) -> Seen {
        match self.is_running(chat, model) {
            Err(why) => return Seen::Unclear(why),
            Ok(false) => return Seen::Down,
            Ok(true) => {}
        }
        let Some(identity) = &self.settings.identity else { return Seen::Up(None) };
        match self.ask_identity(identity, chat, model) {
            Ok(identity) => Seen::Up(Some(identity)),
            // It may have stopped between the two questions.
            Err(_) if self.presence(chat, model) == Presence::Stopped => Seen::Down,
            Err(why) => Seen::Nameless(why),
        }
    }

    /// Which start of each of these sessions is going on, by chat id, where that can be told.
    pub(super) fn identities(&self, sessions: &[(Chat, Model)]) -> BTreeMap<String, String> {
        let ask = |(chat, model): &(Chat, Model)| Some((chat.id.clone().into_owned(), self.identity(chat, model)?));
        self.ask_each(sessions, ask)
    }

    /// Which start of its session each change is made on, where what that runs is known: only then does it tell anything
    /// later. Asked before the registry is changed, because from then on anything may start a session on what it says.
    pub(super) fn identities_before(
        &self,
        reading: &Reading,
        batch: &Batch,
    ) -> Result<BTreeMap<String, String>, Error> {
        let asks = |owes: &Owes| owes.planned_on == PlannedOn::NoDebt && owes.ran.is_some();
        let asked = batch.changes.iter().filter(|change| change.owes.as_ref().is_some_and(asks));
        let sought: BTreeSet<&str> = asked.map(|change| change.chat).collect();
        if sought.is_empty() || self.settings.identity.is_none() {
            return Ok(BTreeMap::new());
        }
        let mut sessions = Vec::new();
        reading.snapshot.find(&[Key::Id], &sought, &mut |entry| {
            sessions.extend(entry.model.as_deref().and_then(Model::new).map(|model| (entry.chat.into_owned(), model)));
        })?;
        Ok(self.identities(&sessions))
    }

    /// Asks something about each session, several at a time. Returns the answers by chat id.
    pub(super) fn ask_each<S: Sync, T: Send>(
        &self,
        sessions: &[S],
        question: impl Fn(&S) -> Option<(String, T)> + Sync,
    ) -> BTreeMap<String, T> {
        let answers = Mutex::new(BTreeMap::new());
        let next = Mutex::new(sessions.iter());
        let ask = || {
            let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some(session) = take() {
                if let Some((chat, answer)) = question(session) {
                    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(chat, answer);
                }
            }
        };
        thread::scope(|scope| {
            // Where no more threads can be started, those that are there ask about all sessions.
            let others = self.parallel.min(sessions.len()).saturating_sub(1);
            for _ in 0..others {
                if Builder::new().spawn_scoped(scope, ask).is_err() {
                    break;
                }
            }
            ask();
        });
        answers.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restarts the session of a row.
    pub(super) fn restart(&self, row: &Row, turn: &dyn Turn) -> Attempt {
        let (Some(restart), Some(model)) = (&self.settings.restart, &row.after) else {
            return Attempt::Failed("there is no restart command".to_owned());
        };
        let look = || self.look(&row.chat, model);
        let before = look();
        if before == Seen::Down && !row.was_tried() {
            return Attempt::NotNeeded("not running: it will start on its model".to_owned());
        }
        if !turn.begin(row, Begin::Owed) {
            return Attempt::NotBegun;
        }
        let report = match self.run(RESTART, restart, &row.chat, model) {
            Ok(report) => report,
            Err(why) => return Attempt::Failed(why),
        };
        let why = self.words(&report, "restart", restart);
        let (timeout, min_healthy) = (self.timeout, self.min_healthy);
        let verification = Verification { look: &look, before, timeout, min_healthy };
        match report.ended {
            Ended::Survived => Attempt::Unknown(why),
            Ended::NotStarted(_) => Attempt::Failed(why),
            Ended::Exited(status) if status.success() && !self.verifies_restarts() => Attempt::Changed,
            Ended::Exited(_) | Ended::TimedOut if !self.verifies_restarts() => Attempt::Failed(why),
            Ended::Exited(status) if status.success() => verification.after_success(&restart.program()),
            Ended::Exited(_) | Ended::TimedOut => verification.after_failure(&why),
        }
    }
}

impl Capabilities for Commands {
    fn takes_effect(&self) -> TakesEffect {
        if self.settings.restart.is_some() { TakesEffect::OnRestart } else { TakesEffect::OnNextStart }
    }

    fn refuses_restart(&self, chat: &Chat, model: &Model) -> Option<String> {
        let session = Session::on(chat, model);
        let commands = [&self.settings.restart, &self.settings.running, &self.settings.identity];
        commands.into_iter().flatten().find_map(|command| command.fill(&session).err())
    }

    fn verifies_restarts(&self) -> bool {
        self.settings.running.is_some()
    }

    fn unset_runs(&self, _: &Chat) -> Option<&str> {
        self.settings.unset_runs.as_ref().map(Model::as_str)
    }

    fn uses_slugs(&self) -> bool {
        true
    }
}

/// That commands are given only the beginning of a field of the sessions to be restarted, if so.
pub(super) fn remark(rows: &[Row]) -> Option<Sentence> {
    let is_shortened = |row: &&Row| {
        let session = row.after.as_ref().map(|model| Session::on(&row.chat, model));
        session.is_some_and(|session| session.is_shortened())
    };
    let restarted = rows.iter().filter(|row| row.restart && row.is_planned());
    // It tells a number, and no name.
    let told = |sessions: &str| Some(Public::new(shortened(sessions)).into());
    match restarted.filter(is_shortened).count() {
        0 => None,
        1 => told("1 session"),
        sessions => told(&format!("{sessions} sessions")),
    }
}
