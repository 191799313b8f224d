//! Restarts sessions on this host with the commands of a policy.

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
use crate::policy::placeholder::{Placeholder, Session, shortened};
use crate::policy::template::{CommandLine, Invocation};
use crate::policy::{FileSettings, Policy, Sessions};
use crate::registry::Key;

/// The key of the command that restarts a session.
const RESTART: &str = "restart";
/// What supervisors read as every session.
const EVERY_SESSION: &str = "all";
/// The longest output of `identity`, in bytes.
const LONGEST_IDENTITY: u64 = 4096;

/// Which commands of the policy may be run to make a plan. Restarts of sessions run the commands that they need in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// None: this is a dry run.
    Nothing,
    /// Those on which the order of the restarts depends.
    Needed,
    /// Also `running` for every session that would be restarted.
    Rows,
}

/// The commands that restart the sessions of this host.
#[derive(Clone, Debug)]
pub struct Commands {
    settings: FileSettings,
    timeout: Duration,
    min_healthy: Duration,
    parallel: usize,
    /// The policy's directory, in which the commands run.
    directory: PathBuf,
    probe: Probe,
    /// Told of each command.
    listener: Arc<dyn Listener>,
}

/// A command of the policy, with its key in `[sessions]`.
#[derive(Clone, Copy)]
struct KeyedCommand<'c> {
    key: &'static str,
    command: &'c CommandLine,
}

impl KeyedCommand<'_> {
    /// The command's name in messages.
    fn name(&self) -> String {
        format!("the {} command ({})", self.key, self.command.program())
    }
}

/// The result of the `running` command for a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Running,
    Stopped,
    Unknown,
}

impl Commands {
    /// The commands of a policy, run in its directory.
    pub fn new(policy: &Policy, settings: &FileSettings, directory: PathBuf, probe: Probe) -> Self {
        let Sessions { timeout, parallel, .. } = policy.sessions;
        let min_healthy = policy.rollout.min_healthy;
        let listener = Arc::new(Deaf);
        Self { settings: settings.clone(), timeout, min_healthy, parallel, directory, probe, listener }
    }

    /// Sets the listener, which is told of each command.
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

    fn run(&self, keyed: KeyedCommand, chat: &Chat, model: &Model) -> Result<Report, String> {
        let Invocation { arguments, environment } = keyed.command.fill(&Session::on(chat, model))?;
        let start = || run(&arguments, environment, &self.directory, self.timeout);
        Ok(self.heard(keyed, chat, start, |report| report))
    }

    /// Runs a command through `start`, and tells the listener of its begin and its end. The listener is not told what
    /// the command printed.
    fn heard<T>(
        &self,
        KeyedCommand { key, command }: KeyedCommand,
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

    /// Whether a session is running.
    pub(super) fn presence(&self, chat: &Chat, model: &Model) -> Presence {
        match self.is_running(chat, model) {
            Ok(true) => Presence::Running,
            Ok(false) => Presence::Stopped,
            Err(_) => Presence::Unknown,
        }
    }

    /// Whether a session is running, by the exit codes of init scripts and supervisors: 0 for yes, 1 and 3 for no.
    ///
    /// # Errors
    /// Why that is not known, such as another exit code.
    fn is_running(&self, chat: &Chat, model: &Model) -> Result<bool, String> {
        let running = self.settings.running.as_ref().ok_or("there is no `running` command")?;
        let running = KeyedCommand { key: "running", command: running };
        let report = self.run(running, chat, model)?;
        match report.code() {
            Some(0) => Ok(true),
            Some(1 | 3) => Ok(false),
            _ => Err(self.words(&report, running)),
        }
    }

    fn words(&self, report: &Report, keyed: KeyedCommand) -> String {
        report.words(&keyed.name(), self.timeout)
    }

    /// Whether the commands that a restart needs can be executed.
    ///
    /// # Errors
    /// The first that cannot.
    pub(super) fn preflight(&self) -> Result<(), Error> {
        self.commands().try_for_each(|keyed| self.check_program(keyed))
    }

    /// Looks at each command that a restart needs.
    pub(super) fn checkup(&self) -> Vec<Check> {
        if self.settings.restart.is_none() {
            return vec![Check::good(RESTART, "the policy has no restart command: nothing is restarted")];
        }
        let look = |keyed: KeyedCommand| {
            let is_executable = || sentence!("{} can be executed", Foreign::from(keyed.command.program()));
            Check::of(keyed.key, self.check_program(keyed).map(|()| is_executable()), "check the policy")
        };
        self.commands().map(look).collect()
    }

    /// The commands that a restart needs.
    fn commands(&self) -> impl Iterator<Item = KeyedCommand<'_>> {
        let FileSettings { restart, running, identity, .. } = &self.settings;
        let commands = [(RESTART, restart), ("running", running), ("identity", identity)];
        commands.into_iter().filter_map(|(key, command)| Some(KeyedCommand { key, command: command.as_ref()? }))
    }

    /// Checks that the program of a command can be executed.
    fn check_program(&self, KeyedCommand { key, command }: KeyedCommand) -> Result<(), Error> {
        let program = command.program();
        let Some(why) = refusal(&program, &self.directory) else { return Ok(()) };
        Err(BackendProblem::Program { key, program: program.into(), why: why.into() }.into())
    }

    /// Which commands may be run to make a plan.
    pub(super) fn probe(&self) -> Probe {
        self.probe
    }

    /// Whether there is a command that tells which sessions are running.
    pub(super) fn knows_running(&self) -> bool {
        self.settings.running.is_some()
    }

    /// The identity of a session's present start: the output of `identity`. `None` where there is none.
    pub(super) fn identity(&self, chat: &Chat, model: &Model) -> Option<String> {
        self.settings.identity.as_ref().and_then(|identity| self.ask_identity(identity, chat, model).ok())
    }

    /// Runs the `identity` command, and returns its output without blanks around it.
    ///
    /// # Errors
    /// Why there is no identity.
    fn ask_identity(&self, identity: &CommandLine, chat: &Chat, model: &Model) -> Result<String, String> {
        let keyed = KeyedCommand { key: "identity", command: identity };
        let Invocation { arguments, environment } = identity.fill(&Session::on(chat, model))?;
        let start = || ask(&mut question(&arguments, environment, &self.directory), LONGEST_IDENTITY, self.timeout);
        let (report, answer) = self.heard(keyed, chat, start, |(report, _)| report);
        if answer.len() as u64 > LONGEST_IDENTITY {
            return Err(format!("{} printed more than 4 KiB", keyed.name()));
        }
        if report.code() != Some(0) {
            return Err(self.words(&report, keyed));
        }
        match String::from_utf8_lossy(&answer).trim() {
            "" => Err(format!("{} printed nothing", keyed.name())),
            answer => Ok(answer.to_owned()),
        }
    }

    /// Runs `running` and `identity` for a session.
    fn look(&self, chat: &Chat, model: &Model) -> Seen {
        match self.is_running(chat, model) {
            Err(why) => return Seen::Unclear(why),
            Ok(false) => return Seen::Down,
            Ok(true) => {}
        }
        let Some(identity) = &self.settings.identity else { return Seen::Up(None) };
        match self.ask_identity(identity, chat, model) {
            Ok(identity) => Seen::Up(Some(identity)),
            // The session may have stopped between the two commands.
            Err(_) if self.presence(chat, model) == Presence::Stopped => Seen::Down,
            Err(why) => Seen::Nameless(why),
        }
    }

    /// The identities of the present starts of these sessions, by chat id. A session without one is left out.
    pub(super) fn identities(&self, sessions: &[(Chat, Model)]) -> BTreeMap<String, String> {
        let ask = |(chat, model): &(Chat, Model)| Some((chat.id.clone().into_owned(), self.identity(chat, model)?));
        self.ask_each(sessions, ask)
    }

    /// The identities of the starts on which sessions run before a batch, by chat id: of the changes for which it is
    /// known what the session runs. They must be asked for before the registry is changed, because after that a
    /// supervisor may start a session on the new model.
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

    /// Calls `question` for each session, on up to `parallel` threads. Returns the answers by chat id.
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
            // If no further thread can be started, the ones that run ask about all sessions.
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
        let keyed = KeyedCommand { key: RESTART, command: restart };
        let report = match self.run(keyed, &row.chat, model) {
            Ok(report) => report,
            Err(why) => return Attempt::Failed(why),
        };
        let why = self.words(&report, keyed);
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
        // Also where no argument has the slug: a script can read it from its environment.
        if chat.slug().as_deref() == Some(EVERY_SESSION) {
            return Some(format!("its session's slug is `{EVERY_SESSION}`, which supervisors read as every session"));
        }
        let session = Session::on(chat, model);
        self.commands().find_map(|keyed| keyed.command.fill(&session).err())
    }

    fn verifies_restarts(&self) -> bool {
        self.settings.running.is_some()
    }

    fn unset_runs(&self, _: &Chat) -> Option<&str> {
        self.settings.unset_runs.as_ref().map(Model::as_str)
    }

    fn names_slugs(&self) -> bool {
        self.commands().any(|keyed| keyed.command.holds(Placeholder::SessionSlug))
    }
}

/// The remark that commands get only the beginning of a field of the sessions to be restarted; `None` where they get
/// all fields whole.
pub(super) fn remark(rows: &[Row]) -> Option<Sentence> {
    let is_shortened = |row: &&Row| {
        let session = row.after.as_ref().map(|model| Session::on(&row.chat, model));
        session.is_some_and(|session| session.is_shortened())
    };
    let restarted = rows.iter().filter(|row| row.restart && row.is_planned());
    // The remark has a number in it, and no name.
    let told = |sessions: &str| Some(Public::new(shortened(sessions)).into());
    match restarted.filter(is_shortened).count() {
        0 => None,
        1 => told("1 session"),
        sessions => told(&format!("{sessions} sessions")),
    }
}
