//! Whole runs on every backend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reconcile::apply::{Applied, Ask, Attempt, Backend, Batch, Committed, Locked, RunContext, Stands, Turn, apply};
use reconcile::error::Result;
use reconcile::plan::capabilities::{Capabilities, TakesEffect};
use reconcile::plan::json::{JsonRun, Origin};
use reconcile::plan::last_applied::{Found, Reach};
use reconcile::plan::ledger::{Debt, Ledger, Note};
use reconcile::plan::observed::{Canary, Observed};
use reconcile::plan::select::Selector;
use reconcile::plan::{Drift, Reading, Row, Verdict};
use reconcile::registry::Snapshot;

use crate::backends::each;
use crate::backends::subjects::{DRIFTED, Subject};
use crate::support::error;
use crate::world::{Unwatched, at, input};

fn run(subject: &dyn Subject, backend: &dyn Backend) -> Result<Applied> {
    let (now, selector) = (at(0), Selector::default());
    let locked = backend.lock(Duration::ZERO, &|| false)?;
    let input = input(backend, subject.policy(), &now, &selector, usize::MAX);
    apply(&input, RunContext { backend, locked: locked.as_ref(), watch: &Unwatched, author: &Origin::default })
}

#[test]
fn a_run_converges_and_a_plan_after_it_is_empty() {
    each(|subject| {
        let applied = run(subject, subject.backend()).unwrap();
        assert!(applied.error.is_none() && !applied.interrupted);
        let done = applied.planned.plan.rows.iter().filter(|row| row.outcome.verdict == Verdict::Done);
        assert_eq!(done.map(|row| row.chat.id.as_ref()).collect::<Vec<_>>(), DRIFTED);
        assert!(subject.models().iter().all(|(_, model)| model.as_deref() == Some("haiku")));
        assert!(subject.backend().ledger().unwrap().owed.is_empty());

        let again = run(subject, subject.backend()).unwrap().planned.plan;
        assert!(again.rows.is_empty(), "{:#?}", again.rows);
        let corrected = subject.backend().ledger().unwrap().corrected;
        assert_eq!(corrected.keys().collect::<Vec<_>>(), DRIFTED, "each is remembered as confirmed");
    });
}

/// A backend with a mistake in the program, or one that fails once.
struct Faulty<'b> {
    backend: &'b dyn Backend,
    /// The chat on which an attempt panics.
    panics_on: &'static str,
    /// The chat whose attempt panics once it was made.
    panics_after: &'static str,
    /// Whether the next note that a restart has succeeded cannot be saved.
    fails_to_settle: AtomicBool,
    /// Whether no session is known to work on any model.
    is_unproven: bool,
    /// The chats on which an attempt was made.
    asked: Mutex<BTreeSet<String>>,
}

impl<'b> Faulty<'b> {
    fn of(backend: &'b dyn Backend) -> Self {
        let (fails_to_settle, asked) = (AtomicBool::default(), Mutex::default());
        Self { backend, panics_on: "", panics_after: "", fails_to_settle, is_unproven: false, asked }
    }
}

struct FaultyLocked<'b> {
    locked: Box<dyn Locked + 'b>,
    faulty: &'b Faulty<'b>,
}

impl Backend for Faulty<'_> {
    fn capabilities(&self) -> &dyn Capabilities {
        self.backend.capabilities()
    }
    fn read(&self, ask: Ask<'_>) -> Result<Reading> {
        self.backend.read(ask)
    }
    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.backend.snapshot()
    }
    fn ledger(&self) -> Result<Ledger> {
        self.backend.ledger()
    }
    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        let observed = self.backend.observe(reading, drift)?;
        let wanted = drift.rows.iter().filter_map(|row| row.after.clone()).filter(|_| self.is_unproven);
        Ok(Observed { canaries: wanted.map(|model| (model, Canary::default())).collect(), ..observed })
    }
    fn lock<'b>(&'b self, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        Ok(Box::new(FaultyLocked { locked: self.backend.lock(patience, give_up)?, faulty: self }))
    }
    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        self.backend.history()
    }
}

impl Locked for FaultyLocked<'_> {
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        self.locked.commit(reading, batch)
    }
    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        let settles = notes.iter().any(|note| matches!(note, Note::Settled { .. }));
        if settles && self.faulty.fails_to_settle.swap(false, Ordering::Relaxed) {
            return Err(error("the ledger cannot be saved"));
        }
        self.locked.note(notes, now)
    }
    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        let chats = rows.iter().map(|row| row.chat.id.clone().into_owned());
        self.faulty.asked.lock().unwrap().extend(chats);
        assert!(rows.iter().all(|row| row.chat.id != self.faulty.panics_on), "a mistake that the test made");
        let attempts = self.locked.converge(rows, turn);
        assert!(rows.iter().all(|row| row.chat.id != self.faulty.panics_after), "a mistake that the test made");
        attempts
    }
    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        self.locked.read_back(rows)
    }
    fn confirms_commits(&self) -> bool {
        self.locked.confirms_commits()
    }
    fn remember(&self, found: &Found, reach: Reach) -> Result<()> {
        self.locked.remember(found, reach)
    }
    fn forget_applied(&self) -> Result<()> {
        self.locked.forget_applied()
    }
    fn record(&self, run: &JsonRun<'_>) -> Result<()> {
        self.locked.record(run)
    }
}

#[test]
fn a_worker_that_panics_ends_the_run_and_the_next_one_finishes_it() {
    each(|subject| {
        let result = run(subject, &Faulty { panics_on: "ben", ..Faulty::of(subject.backend()) });
        match result {
            // Where nothing had happened before.
            Err(error) => assert!(error.text().contains("a bug in reconcile"), "{error}"),
            Ok(Applied { error: Some(error), planned, .. }) => {
                assert!(error.text().contains("a bug in reconcile"), "{error}");
                let row = planned.plan.rows.iter().find(|row| row.chat.id == "ben").unwrap();
                assert_eq!(row.outcome.verdict, Verdict::Deferred, "{row:#?}");
            }
            // Where no session had to be touched.
            Ok(applied) => {
                let rows = applied.planned.plan.rows;
                assert!(rows.iter().all(|row| row.outcome.verdict == Verdict::Done && !row.restart), "{rows:#?}");
            }
        }
        run(subject, subject.backend()).unwrap();
        assert!(run(subject, subject.backend()).unwrap().planned.plan.rows.is_empty());
        assert!(subject.models().iter().all(|(_, model)| model.as_deref() == Some("haiku")));
    });
}

#[test]
fn a_row_owes_what_the_ledger_says_where_its_worker_panics_after_the_attempt_began() {
    each(|subject| {
        let Ok(applied) = run(subject, &Faulty { panics_after: "ben", ..Faulty::of(subject.backend()) }) else {
            return;
        };
        let owed = subject.backend().ledger().unwrap().owed;
        for row in &applied.planned.plan.rows {
            let chat = row.chat.id.as_ref();
            assert_eq!(row.effects.owes, owed.contains_key(chat), "{row:#?}");
            if owed.get(chat).is_some_and(|debt| debt.began) {
                assert_eq!(row.outcome.verdict, Verdict::Unknown, "{row:#?}");
            }
        }
    });
}

#[test]
fn once_a_canary_has_ended_the_run_no_other_session_is_asked() {
    each(|subject| {
        if subject.backend().capabilities().takes_effect() != TakesEffect::OnRestart {
            return;
        }
        let faulty = Faulty { is_unproven: true, panics_on: DRIFTED[0], ..Faulty::of(subject.backend()) };
        let _ = run(subject, &faulty);
        let asked = faulty.asked.into_inner().unwrap();
        assert!(asked.iter().all(|chat| chat == DRIFTED[0]), "{asked:?}");
        run(subject, subject.backend()).unwrap();
        assert!(run(subject, subject.backend()).unwrap().planned.plan.rows.is_empty());
    });
}

#[test]
fn a_restart_whose_success_could_not_be_saved_at_once_is_saved_before_the_run_ends() {
    each(|subject| {
        let faulty = Faulty { fails_to_settle: true.into(), ..Faulty::of(subject.backend()) };
        let Ok(applied) = run(subject, &faulty) else { return };
        let owed = subject.backend().ledger().unwrap().owed;
        for row in applied.planned.plan.rows.iter().filter(|row| row.effects.restarted) {
            assert!(!owed.contains_key(row.chat.id.as_ref()), "{row:#?}");
            assert!(!row.effects.owes, "{row:#?}");
        }
        run(subject, subject.backend()).unwrap();
        assert!(run(subject, subject.backend()).unwrap().planned.plan.rows.is_empty());
    });
}
