//! A run every minute for days, as cron makes them: what fails is tried at growing distances, and against a program that
//! undoes every change a row is given up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned};
use reconcile::apply::{Ask, Attempt, Backend, Batch, Committed, Locked, Stands, Turn};
use reconcile::error::Result;
use reconcile::plan::capabilities::Capabilities;
use reconcile::plan::json::JsonRun;
use reconcile::plan::last_applied::{Found, Reach};
use reconcile::plan::ledger::{Begin, Debt, Ledger, Note};
use reconcile::plan::observed::Observed;
use reconcile::plan::select::Selector;
use reconcile::plan::{Drift, Reading, Row, Verdict};
use reconcile::policy::Policy;
use reconcile::registry::Snapshot;

use crate::support::{POLICY, Sandbox, error, registry};
use crate::world::{Unwatched, World, at, policy, run};

const CHAT: &str = "chat";
/// By the policy of the tests it is to be haiku.
const OPUS: &str = r#"{"chat": {"model": "opus"}}"#;
const TWO_DAYS: i64 = 2 * 24 * 60;

/// A world whose restarts end as they are told to, and whose registry another program may undo.
struct Cron {
    world: World,
    ends: Mutex<Attempt>,
    /// Restarts that were tried.
    tried: Mutex<Vec<i64>>,
    /// Another program sets the model back between two runs.
    undone_later: AtomicBool,
    /// Another program sets the model back before it is read back.
    undone_at_once: AtomicBool,
    /// The registry cannot be read once it has been changed.
    unreadable: AtomicBool,
    changed: AtomicBool,
    minute: AtomicI64,
}

impl Cron {
    fn new() -> Self {
        Self {
            world: World::new(OPUS),
            ends: Mutex::new(Attempt::Changed),
            tried: Mutex::default(),
            undone_later: AtomicBool::default(),
            undone_at_once: AtomicBool::default(),
            unreadable: AtomicBool::default(),
            changed: AtomicBool::default(),
            minute: AtomicI64::default(),
        }
    }

    fn restarts_end(&self, attempt: Attempt) {
        *self.ends.lock().unwrap() = attempt;
    }

    fn undo(&self) {
        let mut state = self.world.state();
        state.entries.clear();
        state.set(CHAT, Some("opus"));
    }

    /// One run at a minute, and what became of the chat; `None` where it is in sync.
    fn run_as(&self, policy: &Policy, minute: i64, selector: &Selector, limit: usize) -> Option<Verdict> {
        self.minute.store(minute, Relaxed);
        self.changed.store(false, Relaxed);
        let now = after(minute);
        let plan = run(self, policy, &now, selector, limit, &Unwatched).unwrap().planned.plan;
        if self.undone_later.load(Relaxed) {
            self.undo();
        }
        plan.rows.first().map(|row| row.outcome.verdict)
    }

    fn run(&self, minute: i64) -> Option<Verdict> {
        self.run_as(&policy(&[]), minute, &Selector::default(), usize::MAX)
    }

    /// A run every minute for two days, from a minute on: how often each outcome was.
    fn two_days(&self, from: i64) -> BTreeMap<Option<&'static str>, usize> {
        let mut outcomes = BTreeMap::new();
        for minute in from..from + TWO_DAYS {
            *outcomes.entry(self.run(minute).map(Verdict::name)).or_default() += 1;
        }
        outcomes
    }

    fn tried(&self) -> Vec<i64> {
        self.tried.lock().unwrap().clone()
    }
}

fn after(minute: i64) -> Zoned {
    at(0).checked_add(SignedDuration::from_mins(minute)).unwrap()
}

fn retry() -> Selector {
    Selector { retry: vec![CHAT.to_owned()], ..Selector::default() }
}

impl Cron {
    /// What else happens to the registry before it is read.
    fn before_reading(&self) -> Result<()> {
        if self.changed.load(Relaxed) && self.unreadable.load(Relaxed) {
            return Err(error("the test made it unreadable"));
        }
        if self.changed.load(Relaxed) && self.undone_at_once.load(Relaxed) {
            self.undo();
        }
        Ok(())
    }
}

impl Backend for Cron {
    fn capabilities(&self) -> &dyn Capabilities {
        self.world.capabilities()
    }
    fn read(&self, ask: Ask<'_>) -> Result<Reading> {
        self.before_reading()?;
        self.world.read(ask)
    }
    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.world.snapshot()
    }
    fn ledger(&self) -> Result<Ledger> {
        self.world.ledger()
    }
    fn observe(&self, reading: &Reading, drift: &Drift) -> Result<Observed> {
        self.world.observe(reading, drift)
    }
    fn lock<'b>(&'b self, _: Duration, _: &dyn Fn() -> bool) -> Result<Box<dyn Locked + 'b>> {
        Ok(Box::new(self))
    }
    fn history(&self) -> Result<Box<dyn Iterator<Item = Result<JsonRun<'static>>> + '_>> {
        self.world.history()
    }
}

impl Locked for &Cron {
    fn commit(&self, reading: &Reading, batch: &Batch<'_>) -> Result<Committed> {
        let changes = !batch.changes.is_empty();
        let committed = (&self.world).commit(reading, batch);
        self.changed.fetch_or(changes, Relaxed);
        committed
    }
    fn note(&self, notes: &[Note<'_>], now: Timestamp) -> Result<BTreeMap<String, Debt>> {
        (&self.world).note(notes, now)
    }
    fn converge(&self, rows: &[&Row], turn: &dyn Turn) -> Vec<Attempt> {
        let restart = |row: &&Row| {
            if !turn.begin(row, Begin::Owed) {
                return Attempt::NotBegun;
            }
            self.tried.lock().unwrap().push(self.minute.load(Relaxed));
            self.ends.lock().unwrap().clone()
        };
        rows.iter().map(restart).collect()
    }
    fn read_back(&self, rows: &[&Row]) -> Result<BTreeMap<String, Stands>> {
        self.before_reading()?;
        (&self.world).read_back(rows)
    }
    fn remember(&self, found: &Found, reach: Reach) -> Result<()> {
        (&self.world).remember(found, reach)
    }
    fn forget_applied(&self) -> Result<()> {
        (&self.world).forget_applied()
    }
    fn record(&self, run: &JsonRun<'_>) -> Result<()> {
        (&self.world).record(run)
    }
}

/// The minutes at which a restart is tried that fails from minute 0 on: the distance doubles up to six hours.
const TRIES: [i64; 16] = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 871, 1231, 1591, 1951, 2311, 2671];

#[test]
fn a_restart_that_always_fails_is_tried_sixteen_times_in_two_days() {
    let cron = Cron::new();
    cron.restarts_end(Attempt::Failed("broken".to_owned()));
    assert_eq!(cron.two_days(0), [(Some("failed"), 16), (Some("deferred"), 2_864)].into());
    assert_eq!(cron.tried(), TRIES);
    // It never counts towards giving up.
    assert!(cron.world.state().ledger.corrected.values().all(|made| !made.held && made.changed_back.is_empty()));
}

#[test]
fn a_debt_that_is_paid_is_no_longer_tried() {
    let cron = Cron::new();
    cron.restarts_end(Attempt::Failed("broken".to_owned()));
    for minute in 0..100 {
        cron.run(minute);
    }
    cron.restarts_end(Attempt::Changed);
    assert_eq!(cron.two_days(100), [(Some("done"), 1), (Some("deferred"), 27), (None, 2_852)].into());
    assert_eq!(cron.tried(), TRIES[..=7], "the next try is the one that was due anyway");
    assert!(cron.world.state().ledger.owed.is_empty());
}

#[test]
fn a_next_try_of_a_clock_that_was_wrong_does_not_wait() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"true\"]\n");
    for (next_try, summary) in [("2999-01-01T00:00:00Z", "1 restarted"), ("2000-01-01T00:00:00Z", "1 restarted")] {
        let sandbox = Sandbox::new(&policy, &registry(&[("+1", "family", "sonnet")]));
        let debt = serde_json::json!({
            "since": "2000-01-01T00:00:00Z", "ran": null, "began": true, "attempts": 3, "next_try": next_try
        });
        let ledger = serde_json::json!({ "version": 1, "owed": { "+1": debt }, "corrected": {}, "exchange": null });
        sandbox.leave_version_1(&ledger);
        let run = sandbox.run(&[]).expect(0);
        assert!(run.summary().contains(summary), "{next_try}: {run:?}");
    }
}

#[test]
fn a_report_counts_the_attempt_that_has_just_failed() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"false\"]\n");
    let sandbox = Sandbox::new(&policy, &registry(&[("+1", "family", "opus")]));
    sandbox.run(&[]).expect(4);
    let run = sandbox.run(&["--retry", "+1"]).expect(4);
    assert!(run.stdout.contains("failed, restart owed since") && run.stdout.contains("2 attempts"), "{run:?}");
    assert!(sandbox.run(&["owed"]).expect(0).stdout.contains("2 attempts"));
}

#[test]
fn a_retry_does_not_wait_and_does_not_forget_the_failures() {
    let cron = Cron::new();
    cron.restarts_end(Attempt::Failed("broken".to_owned()));
    for minute in 0..16 {
        cron.run(minute);
    }
    assert_eq!(cron.run_as(&policy(&[]), 16, &retry(), usize::MAX), Some(Verdict::Failed));
    assert_eq!(cron.world.state().ledger.owed[CHAT].attempts, 6);
    let waiting = (17..48).filter(|minute| cron.run(*minute) == Some(Verdict::Deferred)).count();
    assert_eq!((waiting, cron.run(48)), (31, Some(Verdict::Failed)), "32 minutes after the sixth");
}

#[test]
fn what_somebody_always_undoes_is_corrected_three_times_and_then_held_for_ever() {
    let cron = Cron::new();
    cron.undone_later.store(true, Relaxed);
    assert_eq!(cron.two_days(0), [(Some("done"), 3), (Some("held"), 2_877)].into());
    assert_eq!(cron.tried(), [0, 1, 2]);
    assert_eq!(cron.world.state().entries[CHAT].as_deref(), Some("opus"));
    assert!(cron.world.state().ledger.owed.is_empty());
    // Also long after the day in which corrections count.
    assert_eq!(cron.two_days(30 * 24 * 60), [(Some("held"), 2_880)].into());

    // Nor does it pass when what is old is forgotten, for which a correction of another chat is the occasion.
    let month = 40 * 24 * 60;
    cron.undone_later.store(false, Relaxed);
    cron.world.state().set("other", Some("opus"));
    assert_eq!(cron.run(month), Some(Verdict::Held));
    assert_eq!(cron.tried().len(), 4, "the other's");
    assert_eq!(cron.run(month + 1), Some(Verdict::Held));
    cron.undo();
    cron.undone_later.store(true, Relaxed);

    // A retry is consent to three more.
    let later = 60 * 24 * 60;
    assert_eq!(cron.run_as(&policy(&[]), later, &retry(), usize::MAX), Some(Verdict::Done));
    assert_eq!(cron.two_days(later + 1), [(Some("done"), 2), (Some("held"), 2_878)].into());
    assert_eq!(cron.tried().len(), 7);
}

#[test]
fn what_somebody_undoes_while_its_restart_fails_is_bounded_too() {
    let cron = Cron::new();
    cron.restarts_end(Attempt::Failed("broken".to_owned()));
    cron.undone_later.store(true, Relaxed);
    assert_eq!(cron.two_days(0), [(Some("failed"), 3), (Some("deferred"), 1), (Some("held"), 2_876)].into());
    assert_eq!(cron.tried(), [0, 1, 3]);
    assert_eq!(cron.world.state().ledger.owed.len(), 1, "what the session runs is not known");
}

#[test]
fn refusals_failures_and_unknowns_never_count_towards_being_held() {
    let corrected = |cron: &Cron| cron.world.state().ledger.corrected.clone();
    let refused = Cron::new();
    refused.undone_later.store(true, Relaxed);
    for minute in 0..100 {
        assert_eq!(refused.run_as(&policy(&[]), minute, &Selector::default(), 0), Some(Verdict::Refused));
    }
    assert!(corrected(&refused).is_empty() && refused.tried().is_empty());
    assert_eq!(refused.run(100), Some(Verdict::Done));

    // Undone before it could be read back: it was never confirmed.
    let failed = Cron::new();
    failed.undone_at_once.store(true, Relaxed);
    let unread = Cron::new();
    unread.unreadable.store(true, Relaxed);
    unread.undone_later.store(true, Relaxed);
    for minute in 0..100 {
        assert_eq!(failed.run(minute), Some(Verdict::Failed));
        assert_eq!(unread.run(minute), Some(Verdict::Unknown));
    }
    assert!(corrected(&failed).is_empty() && corrected(&unread).is_empty());
    failed.undone_at_once.store(false, Relaxed);
    assert_eq!(failed.run(100), Some(Verdict::Done));

    // It cannot be told whether it was restarted: owed, and tried again at growing distances.
    let unknown = Cron::new();
    unknown.restarts_end(Attempt::Unknown("no answer".to_owned()));
    let tried: Vec<i64> = (0..100).filter(|minute| unknown.run(*minute) == Some(Verdict::Unknown)).collect();
    assert_eq!(tried, [0, 1, 3, 7, 15, 31, 63]);
    let ledger = unknown.world.state().ledger.clone();
    assert_eq!((ledger.owed[CHAT].attempts, ledger.owed[CHAT].next_try), (0, None));
    assert!(!ledger.corrected[CHAT].held && ledger.corrected[CHAT].changed_back.is_empty());
}

#[test]
fn a_held_row_is_4_every_time_and_a_retry_is_not() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n");
    let sandbox = Sandbox::new(&policy, "");
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    let run = |arguments: &[&str]| {
        sandbox.write("sessions.json", registry(&[("a", "family", "opus"), ("b", "family", "sonnet")]));
        sandbox.run(arguments)
    };
    let codes: Vec<i32> = (0..6).map(|_| run(&[]).code).collect();
    assert_eq!((codes, sandbox.calls().len()), (vec![0, 0, 0, 4, 4, 4], 3));
    let held = run(&[]).expect(4);
    assert_eq!(held.summary(), "No changes. 1 held, 1 in sync.");
    assert!(held.stdout.contains("something keeps changing it back: changed back at "), "{held:#?}");
    run(&["--retry", "a"]).expect(0);
    let codes: Vec<i32> = (0..4).map(|_| run(&[]).code).collect();
    assert_eq!((codes, sandbox.calls().len()), (vec![0, 0, 4, 4], 6));
}
