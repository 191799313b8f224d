//! Registers a session before a launch starts it: in one hold of `data.lock`, the entry is edited, and the debt that
//! the start pays is settled.

use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::apply::{Decide, Registered};
use crate::backend::file::commit::{Files, NEW, NotesAround, Proceed, Replaced};
use crate::backend::file::problem::{FileProblem, MOVED};
use crate::backend::file::registry::RegistryFile;
use crate::backend::file::snapshot::FileSnapshot;
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::form::Form;
use crate::launch::Registration;
use crate::os::{FileMeta, Stamp};
use crate::plan::json::{Head, JsonRow, Origin, Record};
use crate::plan::ledger::Note;
use crate::registry::Snapshot;
use crate::registry::json::edit::{add_entry, add_members, set_member};
use crate::registry::redacted::marker;
use crate::splice::Splice;
use crate::state::ledger::OpenLedger;

/// How many times the registration is tried, because the registry was replaced each time.
const TRIES: usize = 100;
/// The mode of a registry that a launch creates. It says who chats are with.
const PRIVATE: u32 = 0o600;

impl RegistryFile {
    /// Registers a session that is about to be started, and settles its debt. A missing registry is created.
    ///
    /// # Errors
    /// Those of `decide`, and where the registry or its state cannot be used. Nothing has happened then.
    pub fn register(
        &self,
        patience: Duration,
        now: Timestamp,
        by: &Origin,
        decide: &mut Decide<'_>,
    ) -> Result<Registered> {
        let found = if self.is_missing() { Found::Missing } else { Found::There };
        self.edit_entry(patience, found, Purpose::Start, now, by, decide)
    }

    /// Registers what a running session has reported about itself. Its debt stays.
    ///
    /// # Errors
    /// Those of `decide`, and where the registry or its state cannot be used. Nothing has happened then.
    pub fn record_session(&self, patience: Duration, now: Timestamp, decide: &mut Decide<'_>) -> Result<Registered> {
        self.edit_entry(patience, Found::There, Purpose::Record, now, &Origin::default(), decide)
    }

    fn edit_entry(
        &self,
        patience: Duration,
        found: Found,
        purpose: Purpose,
        now: Timestamp,
        by: &Origin,
        decide: &mut Decide<'_>,
    ) -> Result<Registered> {
        let meta = if found == Found::Missing { new_file() } else { self.meta()? };
        let files = Files::new(self.clone(), meta)?;
        for _ in 0..TRIES {
            let mut ledger = files.open_within(patience, &|| false)?;
            let head = Head { at: now, by: by.clone(), plan_id: String::new() };
            let record = Record { name: ledger.name_run(now)?, head };
            if let Some(done) = files.register(&mut ledger, found, purpose, &record, decide)? {
                // If this fails, the next run appends the line.
                let _ = files.record_launch(&mut ledger, &record.name);
                return Ok(done);
            }
        }
        Err(FileProblem::Replaced { times: TRIES }.into())
    }

    /// Notes a debt for a session that was registered, but did not start: an earlier start of it may still run on its
    /// former model.
    ///
    /// # Errors
    /// Where the state cannot be used.
    pub fn owe(&self, chat: &str, now: Timestamp) -> Result<()> {
        let files = Files::new(self.clone(), self.meta()?)?;
        let mut ledger = files.open()?;
        let patch = ledger.kept().noting(&[Note::Owes { chat, ran: None, identity: None }], now);
        ledger.append(patch)
    }
}

/// Whether the registry existed when a launch began. A registry that has disappeared since is not created.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    There,
    Missing,
}

/// The purpose of an edit of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its session is about to be started, which pays its debt.
    Start,
    /// Its session runs, and has reported something about itself.
    Record,
}

/// The metadata of a registry that this user creates.
fn new_file() -> FileMeta {
    let (owner, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    FileMeta { stamp: Stamp::default(), mode: PRIVATE, owner, group }
}

impl Files {
    /// Makes one registration. `None` where the registry was replaced meanwhile.
    fn register(
        &self,
        ledger: &mut OpenLedger,
        found: Found,
        purpose: Purpose,
        record: &Record,
        decide: &mut Decide<'_>,
    ) -> Result<Option<Registered>> {
        let is_missing = found == Found::Missing && self.registry.is_missing();
        let seen = if is_missing { self.registry.no_sessions() } else { self.registry.snapshot()? };
        if marker(seen.text()?).is_some() {
            return Err(FileProblem::Redacted { registry: seen.name().into() }.into());
        }
        let registration = decide(&seen, &ledger.ledger_with_applied()?)?;
        if purpose == Purpose::Record && !registration.is_edit() {
            return Ok(Some(Registered { changed: false, paid: false, error: None }));
        }
        let chat = registration.chat.id.as_ref();
        let paid = ledger.ledger().owed.contains_key(chat);
        let splices = registration_edits(seen.text()?, seen.form(), &registration)?;
        let row = JsonRow { restart: paid, ..registration.told.clone() };
        let mut before = Vec::new();
        // An earlier start of the session may run on the old model until the new one has started.
        if registration.entry.is_some() && registration.model.is_some() {
            before.extend([Note::Owes { chat, ran: None, identity: None }, Note::Edits { record, row: &row }]);
        }
        before.extend(registration.wrote());
        // The debt is settled last, because a launch that dies before has not paid it.
        let mut after = Vec::new();
        if purpose == Purpose::Start {
            after.extend([Note::ReadBack { chat }, Note::Settled { chat }]);
        }
        if purpose == Purpose::Start && (registration.model.is_some() || paid) {
            after.push(Note::Does { record, row: &row });
        }
        let now = record.head.at;
        let around = NotesAround { before: &before, after: &after, now, ready: &|_| Ok(Proceed::Yes) };
        let replaced = match () {
            () if registration.is_edit() && is_missing => self.create(ledger, &seen, &splices, &around),
            () if registration.is_edit() => self.replace(ledger, &seen, &splices, &around),
            () if self.registry.meta()?.stamp != seen.stamp() => Ok(Replaced::Stale),
            // The launch that has created the registry may have died before the file's name was durable.
            () => {
                let noted = self.exchange().sync_names().and_then(|()| note_after(ledger, &around));
                Ok(Replaced::Made(seen.stamp(), noted.err()))
            }
        };
        let (changed, error) = match replaced {
            Ok(Replaced::Stale) => return Ok(None),
            Ok(Replaced::Made(_, error)) => (registration.is_edit(), error),
            Err(error) => (false, Some(error)),
        };
        match error {
            Some(error) if !changed && ledger.owes(chat) == Some(paid) => Err(error),
            error => Ok(Some(Registered { changed, paid, error })),
        }
    }

    /// Creates the registry, unless another program has created it meanwhile.
    fn create(
        &self,
        ledger: &mut OpenLedger,
        seen: &FileSnapshot,
        splices: &[Splice],
        around: &NotesAround,
    ) -> Result<Replaced> {
        let new = self.write_new(seen, splices, new_file())?;
        let waiting = self.dir().place(NEW);
        crash_point!("registry: first file written");
        ledger.check_held()?;
        // Unlike a rename, a link never replaces a file.
        let target = self.registry.place();
        let linked =
            rustix::fs::linkat(waiting.directory, waiting.name, target.directory, target.name, AtFlags::empty());
        crash_point!("registry: created");
        match linked {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                self.dir().remove(NEW)?;
                return Ok(Replaced::Stale);
            }
            Err(error) => return Err(Error::io("create", self.registry.file())(error)),
        }
        let mut close = || {
            self.dir().remove(NEW)?;
            self.exchange().sync_names()?;
            crash_point!("registry: names saved");
            note_after(ledger, around)
        };
        Ok(Replaced::Made(new.stamp, close().err()))
    }
}

fn note_after(ledger: &mut OpenLedger, around: &NotesAround) -> Result<()> {
    let patch = ledger.kept().noting(around.after, around.now);
    ledger.append(patch)
}

/// The edits of a registry's text that a registration needs, in the order of the text.
///
/// # Errors
/// Where its entry is not where it was read.
pub fn registration_edits(text: &str, form: &Form, registration: &Registration) -> Result<Vec<Splice>> {
    let Registration { chat, entry, fields, model, remembers: _, told: _ } = registration;
    let fields = fields.iter().map(|(key, value)| (*key, value.as_str()));
    let members = fields.chain(model.as_ref().map(|model| ("model", model.as_str())));
    let Some(at) = *entry else {
        let members: Vec<_> = members.collect();
        return Ok(vec![add_entry(text, form, &chat.id, &members).ok_or(MOVED)?]);
    };
    let mut splices = Vec::new();
    let mut new = Vec::new();
    for (key, value) in members {
        match set_member(text, at, key, value) {
            Some(splice) => splices.push(splice),
            None => new.push((key, value)),
        }
    }
    splices.sort_by_key(|splice| splice.range.start);
    if !new.is_empty() {
        splices.push(add_members(text, form, at, &new).ok_or(MOVED)?);
    }
    Ok(splices)
}
