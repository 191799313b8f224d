//! The ledger's own rules, at their edges.

use jiff::{SignedDuration, Timestamp};
use reconcile::chat::Model;
use reconcile::plan::ledger::Ledger;
use reconcile::registry::Exchange;
use reconcile::registry::Stamp;

const NOON: Timestamp = Timestamp::constant(1_800_000_000, 0);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn opus() -> Model {
    Model::new("opus").unwrap()
}

/// A correction that was made and confirmed at noon.
fn corrected() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.confirm("ada", &opus(), NOON);
    ledger
}

fn stamp(inode: u64) -> Stamp {
    Stamp { inode, ..Stamp::default() }
}

#[test]
fn a_correction_that_lasted_a_day_is_forgotten_unless_it_is_held() {
    let mut ledger = corrected();
    ledger.forget_old(NOON + DAY - SECOND);
    assert_eq!(ledger.corrected.len(), 1);
    ledger.forget_old(NOON + DAY);
    assert_eq!(ledger.corrected.len(), 0);

    let mut held = corrected();
    held.found_undone("ada", NOON, true);
    held.forget_old(NOON + DAY * 30);
    assert_eq!(held.corrected.len(), 1);
}

#[test]
fn what_was_found_undone_counts_for_a_day_and_only_where_it_was_confirmed() {
    let mut ledger = corrected();
    ledger.found_undone("ada", NOON, false);
    assert_eq!(ledger.corrected["ada"].undone_by(NOON), [NOON], "it was not made again since");
    ledger.confirm("ada", &opus(), NOON);
    assert_eq!(ledger.corrected["ada"].undone_by(NOON + DAY - SECOND), [NOON, NOON + DAY - SECOND]);
    assert_eq!(ledger.corrected["ada"].undone_by(NOON + DAY), [NOON + DAY]);

    ledger.found_undone("ada", NOON, true);
    let held = &ledger.corrected["ada"];
    assert_eq!(held.undone_by(NOON + DAY * 30), held.undone, "what is held is not counted on, and keeps its times");
}

#[test]
fn a_confirmation_of_another_model_begins_anew() {
    let mut ledger = corrected();
    ledger.found_undone("ada", NOON, false);
    ledger.confirm("ada", &Model::new("haiku").unwrap(), NOON);
    assert_eq!(ledger.corrected["ada"].undone, []);
}

#[test]
fn edits_that_nobody_has_confirmed_add_up_as_long_as_nobody_else_writes() {
    let mut ledger = Ledger::default();
    let replace = |ledger: &mut Ledger, chat: &str, seen: u64, new: u64| {
        ledger.unconfirmed.pending.insert(chat.to_owned());
        ledger.replaced(&Exchange { seen: stamp(seen), new: stamp(new) });
    };
    replace(&mut ledger, "ada", 1, 2);
    replace(&mut ledger, "ben", 2, 3);
    assert!(ledger.is_unconfirmed("ada", stamp(3)) && ledger.is_unconfirmed("ben", stamp(3)));
    assert!(!ledger.is_unconfirmed("ada", stamp(2)), "another file");
    assert!(!ledger.is_unconfirmed("cal", stamp(3)), "another chat");
    // The daemon has written file 4 since.
    replace(&mut ledger, "cal", 4, 5);
    assert!(!ledger.is_unconfirmed("ada", stamp(5)) && ledger.is_unconfirmed("cal", stamp(5)));
}

#[test]
fn a_failed_restart_waits_for_six_hours_at_most_also_by_the_clock_of_a_run_that_began_before_it() {
    let hours = SignedDuration::from_hours;
    let mut ledger = Ledger::default();
    ledger.owe("ada", None, NOON);
    for _ in 0..40 {
        ledger.fail("ada", NOON);
    }
    let debt = &ledger.owed["ada"];
    assert_eq!(debt.next_try, Some(NOON + hours(6)));
    assert!(debt.waits(NOON + hours(6) - SECOND) && !debt.waits(NOON + hours(6)));
    // It waited for the lock while the restart failed.
    assert!(debt.waits(NOON - SECOND) && debt.waits(NOON - hours(6)));
    assert!(!debt.waits(NOON - hours(6) - SECOND), "no run waits for so long: the clock was wrong");
}

#[test]
fn what_is_empty_is_not_written() {
    let json = serde_json::to_value(Ledger::default()).unwrap();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["corrected", "exchange", "owed", "version"]);
    let mut ledger = Ledger::default();
    ledger.unconfirmed.pending.insert("ada".to_owned());
    let json = serde_json::to_string(&ledger).unwrap();
    assert_eq!(serde_json::from_str::<Ledger>(&json).unwrap(), ledger);
}
