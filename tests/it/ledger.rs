//! The ledger's own rules, at their edges.

use jiff::{SignedDuration, Timestamp};
use reconcile::chat::Model;
use reconcile::plan::ledger::{Ledger, Note, Then};
use reconcile::plan::trial::Blame;

const NOON: Timestamp = Timestamp::constant(1_800_000_000, 0);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn opus() -> Model {
    Model::new("opus").unwrap()
}

/// A correction that was made and confirmed at noon.
fn corrected() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.note(&Note::Confirmed { chat: "ada", model: &opus() }, NOON);
    ledger
}

#[test]
fn a_correction_that_lasted_a_day_is_forgotten_unless_it_is_held() {
    let ledger = corrected();
    assert_eq!(ledger.lasting(NOON + DAY - SECOND).count(), 0);
    assert_eq!(ledger.lasting(NOON + DAY).collect::<Vec<_>>(), ["ada"]);

    let mut held = corrected();
    held.note(&Note::ChangedBack { chat: "ada", then: Then::Held }, NOON);
    assert_eq!(held.lasting(NOON + DAY * 30).count(), 0);
}

#[test]
fn a_correction_is_not_forgotten_as_long_as_that_it_was_undone_counts() {
    let mut ledger = corrected();
    let found = NOON + DAY + SECOND;
    ledger.note(&Note::ChangedBack { chat: "ada", then: Then::Corrected }, found);
    assert_eq!(ledger.lasting(found + DAY - SECOND).count(), 0);
    assert_eq!(ledger.lasting(found + DAY).collect::<Vec<_>>(), ["ada"]);
}

#[test]
fn a_change_that_was_not_found_when_it_was_read_back_does_not_count_as_undone() {
    let mut ledger = corrected();
    ledger.note(&Note::NotConfirmed { chat: "ada" }, NOON);
    ledger.note(&Note::NotConfirmed { chat: "ben" }, NOON);
    assert_eq!(ledger.corrected["ada"].changed_back_by(NOON + SECOND), []);
    assert_eq!(ledger.corrected.len(), 1);
}

#[test]
fn what_was_found_undone_counts_for_a_day_and_only_where_it_was_confirmed() {
    let mut ledger = corrected();
    ledger.note(&Note::ChangedBack { chat: "ada", then: Then::Corrected }, NOON);
    assert_eq!(ledger.corrected["ada"].changed_back_by(NOON), [NOON], "it was not made again since");
    ledger.note(&Note::Confirmed { chat: "ada", model: &opus() }, NOON);
    assert_eq!(ledger.corrected["ada"].changed_back_by(NOON + DAY - SECOND), [NOON, NOON + DAY - SECOND]);
    assert_eq!(ledger.corrected["ada"].changed_back_by(NOON + DAY), [NOON + DAY]);

    ledger.note(&Note::ChangedBack { chat: "ada", then: Then::Held }, NOON);
    let held = &ledger.corrected["ada"];
    assert_eq!(
        held.changed_back_by(NOON + DAY * 30),
        held.changed_back,
        "what is held is not counted on, and keeps its times"
    );
}

#[test]
fn a_confirmation_of_another_model_begins_anew() {
    let mut ledger = corrected();
    ledger.note(&Note::ChangedBack { chat: "ada", then: Then::Corrected }, NOON);
    ledger.note(&Note::Confirmed { chat: "ada", model: &Model::new("haiku").unwrap() }, NOON);
    assert_eq!(ledger.corrected["ada"].changed_back, []);
}

#[test]
fn a_failed_restart_waits_for_six_hours_at_most_also_by_the_clock_of_a_run_that_began_before_it() {
    let hours = SignedDuration::from_hours;
    let mut ledger = Ledger::default();
    ledger.note(&Note::Owes { chat: "ada", ran: None, identity: None }, NOON);
    for _ in 0..40 {
        ledger.note(&Note::Failed { chat: "ada" }, NOON);
    }
    let debt = &ledger.owed["ada"];
    assert_eq!(debt.next_try, Some(NOON + hours(6)));
    assert!(debt.waits(NOON + hours(6) - SECOND) && !debt.waits(NOON + hours(6)));
    // It waited for the lock while the restart failed.
    assert!(debt.waits(NOON - SECOND) && debt.waits(NOON - hours(6)));
    assert!(!debt.waits(NOON - hours(6) - SECOND), "no run waits for so long: the clock was wrong");
}

#[test]
fn a_model_that_failed_stays_so_while_it_is_tried_again() {
    let haiku = Model::new("haiku").unwrap();
    let mut ledger = Ledger::default();
    ledger.note(&Note::DidNotComeUp { chat: "ada", model: &haiku, blame: Blame::Model }, NOON);
    ledger.note(&Note::Trying { chat: "ada", model: &haiku }, NOON);
    // The run stops here, and the try never begins.
    assert_eq!(ledger.failed_on(&haiku, &|_| false).map(|(chat, _)| chat), Some("ada"));
    ledger.note(&Note::Worked { chat: "ada", model: &haiku }, NOON);
    assert_eq!((ledger.failed_on(&haiku, &|_| false), ledger.failed.len()), (None, 0));
}
