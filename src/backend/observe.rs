//! Observes sessions before a plan is made: which models need a canary, which sessions are not running, and which sessions still have
//! the start that they had when their debts were made.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::commands::{Commands, Presence, Probe};
use crate::chat::{Chat, Model};
use crate::error::Result;
use crate::foreign::Sentence;
use crate::plan::observed::{Canary, Observed, Standing};
use crate::plan::trial::Trial;
use crate::plan::{Reading, Row};
use crate::registry::Key;

/// For a model that no run remembers, at most this many sessions are asked if they are running. If all of them are down, the model
/// needs a canary.
const MAX_ASKED: usize = 8;

/// Observes the sessions of a drift's rows.
pub(super) struct Observer<'a> {
    pub(super) commands: &'a Commands,
    pub(super) aliases: &'a BTreeMap<String, Model>,
    pub(super) reading: &'a Reading,
    pub(super) rows: &'a [Row],
}

impl Observer<'_> {
    pub(super) fn observe(&self, remark: Option<Sentence>) -> Result<Observed> {
        let mut observed = Observed { remark, ..Observed::default() };
        self.find_canaries(&mut observed)?;
        if self.commands.probe() != Probe::Nothing {
            self.find_identities(&mut observed);
        }
        if self.commands.probe() == Probe::Needed && self.commands.knows_running() {
            let has_failed = |row: &&Row| {
                let failed = self.reading.ledger.failed.get(row.chat.id.as_ref());
                failed.is_some_and(|failed| row.after.as_ref() == Some(&failed.model)) && !row.was_tried()
            };
            self.find_stopped(&self.restarts().filter(has_failed).collect::<Vec<_>>(), &mut observed);
        }
        if self.commands.probe() == Probe::Rows && self.commands.knows_running() {
            self.find_stopped(&self.restarts().collect::<Vec<_>>(), &mut observed);
        }
        Ok(observed)
    }

    fn find_stopped(&self, rows: &[&Row], observed: &mut Observed) {
        let ask = |row: &&Row| self.is_stopped(row).then(|| (row.chat.id.clone().into_owned(), ()));
        for chat in self.commands.ask_each(rows, ask).into_keys() {
            observed.findings.entry(chat).or_default().standing = Standing::NotRunning;
        }
    }

    fn restarts(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.restart && row.is_planned())
    }

    fn is_stopped(&self, row: &Row) -> bool {
        row.after.as_ref().is_some_and(|model| self.commands.presence(&row.chat, model) == Presence::Stopped)
    }

    /// Finds the models on which no session is known to work. If the ledger does not know a model, sessions that should run on it are
    /// asked, one at a time.
    fn find_canaries(&self, observed: &mut Observed) -> Result<()> {
        let unknown: BTreeSet<&Model> = self.restarts().filter_map(|row| self.unknown_model(row)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut users = if self.commands.knows_running() { self.users(&unknown)? } else { BTreeMap::new() };
        for model in unknown {
            let users = users.remove(model).unwrap_or_default();
            // A dry run asks nothing, and assumes that they are running.
            let is_running = |chat: &&Chat| self.commands.probe() == Probe::Nothing || self.is_running(chat, model);
            if let Some(chat) = users.iter().find(is_running) {
                observed.working.insert(model.clone(), chat.id.clone().into_owned());
            } else {
                observed.canaries.insert(model.clone(), Canary::default());
                self.pass_over_stopped(model, observed);
            }
        }
        Ok(())
    }

    fn is_running(&self, chat: &Chat, model: &Model) -> bool {
        self.commands.presence(chat, model) == Presence::Running
    }

    /// The model of a row, if the ledger remembers neither a success nor a failure on it.
    fn unknown_model<'r>(&self, row: &'r Row) -> Option<&'r Model> {
        let model = row.after.as_ref()?;
        let trial = self.reading.ledger.trials.get(model);
        matches!(trial, None | Some(Trial::Trying(_))).then_some(model)
    }

    /// Some chats of each model whose sessions should run on it, and do not change or owe a restart.
    fn users<'m>(&self, models: &BTreeSet<&'m Model>) -> Result<BTreeMap<&'m Model, Vec<Chat<'static>>>> {
        let ledger = &self.reading.ledger;
        let by_name: BTreeMap<&str, &Model> = models.iter().map(|model| (model.as_str(), *model)).collect();
        let changing: BTreeSet<&str> = self.rows.iter().map(|row| row.chat.id.as_ref()).collect();
        let mut users: BTreeMap<&Model, Vec<Chat<'static>>> = BTreeMap::new();
        let aliases = self.aliases.iter().filter(|(_, model)| models.contains(model)).map(|(alias, _)| alias.as_str());
        let spellings: BTreeSet<&str> = by_name.keys().copied().chain(aliases).collect();
        self.reading.snapshot.find(&[Key::Model], &spellings, &mut |entry| {
            let Some(says) = entry.model.as_deref() else { return };
            let canonical = self.aliases.get(says).map_or(says, Model::as_str);
            let Some(model) = by_name.get(canonical) else { return };
            let chat = entry.chat.id.as_ref();
            let is_settled =
                !changing.contains(chat) && !ledger.owed.contains_key(chat) && !ledger.failed.contains_key(chat);
            let users = users.entry(model).or_default();
            if is_settled && users.len() < MAX_ASKED {
                users.push(entry.chat.into_owned());
            }
        })?;
        Ok(users)
    }

    /// Asks the sessions on which a model could be tried, one at a time, until one is running: a canary must be running to prove
    /// anything.
    fn pass_over_stopped(&self, model: &Model, observed: &mut Observed) {
        // With another probe, no session is asked, or every session is.
        if self.commands.probe() != Probe::Needed || !self.commands.knows_running() {
            return;
        }
        for row in self.restarts().filter(|row| row.after.as_ref() == Some(model)) {
            if !self.is_stopped(row) {
                break;
            }
            observed.findings.entry(row.chat.id.clone().into_owned()).or_default().standing = Standing::NotRunning;
        }
    }

    /// Asks for the identities of the sessions whose debts are void if nothing has started the sessions since: they ran the model
    /// that the registry has again.
    fn find_identities(&self, observed: &mut Observed) {
        let is_sought =
            |row: &&Row| row.runs == row.after && row.owed.as_ref().is_some_and(|debt| debt.identity.is_some());
        let mut sessions = Vec::new();
        for row in self.rows.iter().filter(is_sought) {
            sessions.extend(row.after.clone().map(|model| (row.chat.clone(), model)));
        }
        for (chat, identity) in self.commands.identities(&sessions) {
            observed.findings.entry(chat).or_default().identity = Some(identity);
        }
    }
}
