//! A run on the registry of a daemon: its requests to the daemon, its edits while the daemon is down, and what it must
//! remember of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::apply::{Attempt, Batch, Committed, Locked, Stands, Turn};
use crate::backend::dispatch::arrival::{Arrival, Arrived};
use crate::backend::dispatch::capabilities::BREAKER;
use crate::backend::dispatch::daemon::{Daemon, PAUSE};
use crate::backend::dispatch::overridden::Noticed;
use crate::backend::dispatch::pending::{self, Pending, Unsaved};
use crate::backend::file::{Addition, FileSnapshot, LockedFiles, Proceed, RegistryFile};
use crate::chat::Model;
use crate::error::Result;
use crate::os::exchange::ExchangeNote;
use crate::plan::json::{Head, JsonRun, Origin, Record};
use crate::plan::last_applied::{Found, Reach};
use crate::plan::ledger::{Begin, Debt, Note};
use crate::plan::standing_faults::Told;
use crate::plan::{Reading, Row};
use crate::registry::find_entry;
use crate::state::standing_faults;

/// How long a run waits for the daemon to save a change. The daemon saves about a second after it.
const SAVED: Duration = Duration::from_secs(2);

/// What a run uses of its backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'b> {
    pub(super) daemon: &'b Daemon,
    /// The aliases of the policy, which the registry may have in it.
    pub(super) aliases: &'b BTreeMap<String, Model>,
    /// The daemon's answers when the registry was last read.
    pub(super) noticed: &'b Mutex<Option<Noticed>>,
}

/// Whether the ids of conversations were put back into entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Completed {
    /// The registry was changed, or may have been.
    Now,
    /// Nothing was changed: no entry has lost its id, or the daemon is up.
    NothingToDo,
}

#[derive(Debug)]
pub(super) struct LockedDispatch<'b> {
    parts: Parts<'b>,
    files: LockedFiles,
    /// The runs of sessions that this run has started, by chat id.
    started: Mutex<BTreeMap<String, String>>,
    /// The ids of the conversations of the sessions that this run has asked the daemon to change, by chat id.
    asked: Mutex<BTreeMap<String, String>>,
    /// The last content of `pending.json` that this run has saved.
    saved: Mutex<Option<Pending>>,
}

impl<'b> LockedDispatch<'b> {
    pub(super) fn lock(
        registry: &RegistryFile,
        parts: Parts<'b>,
        patience: Duration,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let files = LockedFiles::lock(registry, patience, give_up)?;
        Pending::discard_unfinished(files.dir())?;
        Ok(Self { parts, files, started: Mutex::default(), asked: Mutex::default(), saved: Mutex::default() })
    }

    /// Asks the daemon for the model of a row. Saves first what must be known if this run dies.
    fn change(&self, row: &Row, turn: &dyn Turn) -> Arrived {
        let Some(model) = &row.after else { return Attempt::NotBegun.into() };
        let daemon = self.parts.daemon;
        let before = match daemon.ready(row, turn) {
            Ok(before) => before,
            Err(attempt) => return attempt.into(),
        };
        let owed = row.owed.as_ref().and_then(|debt| debt.run.as_ref());
        if let (Some(live), Some(run), false) = (&before, owed, row.edit)
            && *run != live.created_at
        {
            return Attempt::NotNeeded("it was started again meanwhile".to_owned()).into();
        }
        let conversation = before.as_ref().and_then(|live| live.conversation());
        if let Err(error) = conversation.map_or(Ok(()), |id| self.keep_conversation(row, id)) {
            return Attempt::Deferred(error.text()).into();
        }
        let old = before.as_ref().map(|live| &live.created_at).or(owed).cloned().unwrap_or_default();
        if !turn.begin(row, Begin::Owing(&old)) {
            return Attempt::NotBegun.into();
        }
        let chat = row.chat.id.as_ref();
        let said = daemon.set_model(chat, model);
        Arrival { daemon, chat, before: before.as_ref(), old: &old }.wait(said)
    }

    /// Remembers the id of the conversation of a session that is about to be restarted. The daemon removes the id from the
    /// entry, and a crash before its next health check would lose it.
    fn keep_conversation(&self, row: &Row, id: &str) -> Result<()> {
        let chat = row.chat.id.as_ref();
        let mut pending = self.pending()?;
        if pending.conversations.get(chat).is_none_or(|kept| kept != id) {
            pending.conversations.insert(chat.to_owned(), id.to_owned());
            self.save(&pending)?;
        }
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(chat.to_owned(), id.to_owned());
        Ok(())
    }

    /// Puts the ids of conversations back into entries that have lost them, while the daemon is down: it reads them when
    /// it starts.
    ///
    /// # Errors
    /// Also where something went wrong after the ids were put back. Nothing else has happened then.
    fn complete(&self, reading: &Reading, now: Timestamp) -> Result<Completed> {
        let pending = self.pending()?;
        let mut lost = BTreeMap::new();
        let mut places = Vec::new();
        for (chat, id) in &pending.conversations {
            let entry = find_entry(reading.snapshot.as_ref(), chat)?.filter(|entry| entry.resume.is_none());
            if let Some(entry) = entry {
                lost.insert(chat.clone(), id.clone());
                places.push(entry.at);
            }
        }
        if lost.is_empty() || !self.parts.daemon.is_down()? {
            return Ok(Completed::NothingToDo);
        }
        let additions = places.into_iter().zip(lost.values());
        let additions: Vec<Addition> =
            additions.map(|(at, value)| Addition { at, name: "session_id", value }).collect();
        let ready = |note: &ExchangeNote| self.ready(note, lost.keys().cloned().collect());
        match self.files.complete(reading, &additions, now, &ready)? {
            Committed::Stale | Committed::NotTaken(_) | Committed::Blocked(_) => Ok(Completed::Now),
            Committed::Done { error } => {
                let head = Head { at: now, by: Origin::default(), plan_id: String::new() };
                let record = Record { name: self.files.name_run(now)?, head };
                self.files.record(&JsonRun::completing(&lost, &record))?;
                error.map_or(Ok(Completed::Now), Err)
            }
        }
    }

    /// Changes one row, and remembers the model of its session until the file has it.
    fn converge_one(&self, row: &Row, turn: &dyn Turn) -> Attempt {
        let Arrived { attempt, run } = self.change(row, turn);
        let (Some(session), Some(model)) = (run, row.after.clone()) else { return attempt };
        let chat = row.chat.id.clone().into_owned();
        self.started.lock().unwrap_or_else(PoisonError::into_inner).insert(chat.clone(), session.clone());
        let remembered = self.pending().and_then(|mut pending| {
            pending.unsaved.insert(chat, Unsaved { model, session });
            self.save(&pending)
        });
        // An error changes nothing about the session, which runs its model. The file is read back later.
        drop(remembered);
        attempt
    }

    /// Reads `pending.json`. Only runs write it, and this is the only run.
    fn pending(&self) -> Result<Pending> {
        let found = Pending::read(self.files.dir())?;
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.as_ref().is_some_and(|saved| *saved != found) {
            return Err(pending::changed(self.files.dir()));
        }
        Ok(found)
    }

    fn save(&self, pending: &Pending) -> Result<()> {
        pending.save(self.files.dir())?;
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(pending.clone());
        Ok(())
    }

    /// Remembers edits of these chats, and checks that the daemon is still down.
    fn ready(&self, note: &ExchangeNote, chats: BTreeSet<String>) -> Result<Proceed> {
        let mut pending = self.pending()?;
        pending.edit(note, chats);
        self.save(&pending)?;
        // Checked last, because the daemon may come up at any time.
        Ok(if self.parts.daemon.is_down()? { Proceed::Yes } else { Proceed::Stale })
    }

    /// Remembers the daemon's answers when the plan was made. Removes changes that the daemon has saved since, and those
    /// of sessions that no longer run.
    fn drop_saved(&self, reading: &Reading) -> Result<()> {
        let before = self.pending()?;
        let mut pending = before.clone();
        if let Some(noticed) = &*self.parts.noticed.lock().unwrap_or_else(PoisonError::into_inner) {
            pending.notice(noticed);
        }
        let unconfirmed = pending.unconfirmed(FileSnapshot::of(reading)?.stamp());
        if !before.unsaved.is_empty() {
            let sessions = self.parts.daemon.sessions()?.unwrap_or_default();
            for (chat, made) in &before.unsaved {
                let entry = find_entry(reading.snapshot.as_ref(), chat)?;
                let saved = entry.and_then(|entry| entry.model).is_some_and(|model| model == made.model.as_str());
                let runs = sessions.get(chat).is_some_and(|session| session.created_at == made.session);
                if saved || !runs {
                    pending.unsaved.remove(chat);
                }
            }
        }
        for chat in before.conversations.keys() {
            let entry = find_entry(reading.snapshot.as_ref(), chat)?;
            // The daemon may not have read an id that this program has put back.
            let is_saved = entry.as_ref().is_none_or(|entry| entry.resume.is_some()) && !unconfirmed.contains(chat);
            if is_saved {
                pending.conversations.remove(chat);
            }
        }
        if pending == before { Ok(()) } else { self.save(&pending) }
    }

    /// Waits until the registry has the models of these rows, or the time is over. Returns what it has.
    fn wait_until_saved(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        let until = Instant::now() + SAVED;
        loop {
            let found = self.files.read_back(rows)?;
            let is_saved = |row: &&Row| self.says(&found, row);
            if rows.iter().all(is_saved) || Instant::now() >= until {
                return Ok(found);
            }
            sleep(PAUSE);
        }
    }

    /// Whether the registry has the model of the row.
    fn says(&self, found: &BTreeMap<String, Stands>, row: &Row) -> bool {
        let Some(Stands::Model(Some(model))) = found.get(row.chat.id.as_ref()) else { return false };
        let canonical = self.parts.aliases.get(model.as_str()).unwrap_or(model);
        row.after.as_ref() == Some(canonical)
    }
}

impl Locked for LockedDispatch<'_> {
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        self.drop_saved(reading)?;
        if self.complete(reading, batch.now)? == Completed::Now {
            return Ok(Committed::Stale);
        }
        let chats = || batch.changes.iter().map(|change| change.chat.to_owned()).collect();
        self.files.commit(reading, batch, &|note| self.ready(note, chats()))
    }

    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        let is_request = |note: &&Note| matches!(note, Note::Begun { begin: Begin::Owing(_), .. });
        let asked: Vec<&str> = notes.iter().filter(is_request).map(Note::chat).collect();
        if !asked.is_empty() {
            let mut pending = self.pending()?;
            pending.restart(&asked, now, BREAKER.within);
            self.save(&pending)?;
        }
        self.files.note(notes, now)
    }

    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        rows.iter().map(|row| self.converge_one(row, turn)).collect()
    }

    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        let mut found = self.wait_until_saved(rows)?;
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.pending()?;
        let mut pending = before.clone();
        for row in rows {
            let chat = row.chat.id.as_ref();
            let lags = matches!(found.get(chat), Some(Stands::Model(_))) && !self.says(&found, row);
            match (started.get(chat), &row.after) {
                (Some(run), Some(model)) if lags => {
                    let made = Unsaved { model: model.clone(), session: run.clone() };
                    pending.unsaved.insert(chat.to_owned(), made);
                    found.insert(chat.to_owned(), Stands::NotSavedYet);
                }
                _ if lags => {}
                _ => _ = pending.unsaved.remove(chat),
            }
        }
        if pending != before {
            self.save(&pending)?;
        }
        Ok(found)
    }

    fn remember(&self, found: &Found, reach: Reach) -> Result<()> {
        self.files.remember(found, reach)
    }

    fn forget_applied(&self) -> Result<()> {
        self.files.forget_applied()
    }

    fn told(&self) -> Result<Told> {
        standing_faults::read(self.files.dir())
    }

    fn remember_told(&self, told: Told) -> Result<()> {
        standing_faults::save(self.files.dir(), told)
    }

    fn name_run(&self, at: Timestamp) -> Result<String> {
        self.files.name_run(at)
    }

    fn record(&self, run: &JsonRun<'_>) -> Result<()> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let conversations = asked.iter().map(|(chat, id)| (chat.into(), id.into())).collect();
        self.files.record(&JsonRun { conversations, ..run.clone() })
    }
}
