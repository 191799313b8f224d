//! Reading, committing and noting: what is promised of each by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reconcile::apply::{Ask, Attempt, Batch, Change, Committed, Owes, PlannedOn, Stands, Turn};
use reconcile::chat::Model;
use reconcile::error::{Error, Holder};
use reconcile::plan::Reading;
use reconcile::plan::ledger::{Begin, Ledger, Note};
use reconcile::plan::select::Selector;
use reconcile::registry::find_entry;

use crate::backends::subjects::{DRIFTED, Subject};
use crate::backends::{each, each_that_commits};
use crate::world::{at, input};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn haiku() -> Model {
    Model::new("haiku").unwrap()
}

fn reading(subject: &dyn Subject) -> Reading {
    subject.backend().read(Ask::Everything).unwrap()
}

/// A change of a chat to this model, which will owe a restart.
fn change<'a>(reading: &Reading, chat: &'a str, after: Option<&'a Model>) -> Change<'a> {
    let at = find_entry(reading.snapshot.as_ref(), chat).unwrap().unwrap().at;
    Change { chat, at, after, owes: Some(Owes { ran: None, identity: None, planned_on: PlannedOn::NoDebt }) }
}

fn batch<'a>(changes: Vec<Change<'a>>, void: Vec<&'a str>) -> Batch<'a> {
    Batch { changes, notes: Vec::new(), void, now: NOW }
}

fn owe(subject: &dyn Subject, chat: &str) {
    subject.lock().note(&[Note::Owes { chat, ran: None, identity: None }], NOW).unwrap();
}

fn model_of(subject: &dyn Subject, chat: &str) -> Option<String> {
    let models: BTreeMap<String, Option<String>> = subject.models().into_iter().collect();
    models[chat].clone()
}

#[test]
fn every_entry_is_read_once_with_its_model() {
    each(|subject| {
        let mut found = Vec::new();
        let models = subject.models();
        let reading = reading(subject);
        let counts = reading
            .snapshot
            .each(&mut |entry| found.push((entry.chat.id.into_owned(), entry.model.map(|model| subject.plain(&model)))))
            .unwrap();
        found.sort();
        assert_eq!(found, models);
        assert_eq!(counts.sessions, found.len());
        assert_eq!(reading.ledger, Ledger::default());
    });
}

#[test]
fn a_registry_that_is_not_there_is_never_one_of_no_sessions() {
    each(|subject| {
        if subject.remove() {
            assert!(subject.backend().read(Ask::Everything).is_err());
            assert!(subject.backend().snapshot().is_err());
        }
    });
}

#[test]
fn a_commit_makes_all_edits_and_owes_their_restarts() {
    each_that_commits(|subject| {
        let (reading, haiku) = (reading(subject), haiku());
        let changes = DRIFTED.iter().map(|chat| change(&reading, chat, Some(&haiku))).collect();
        let committed = subject.lock().commit(&reading, &batch(changes, Vec::new())).unwrap();
        assert!(matches!(committed, Committed::Done { error: None }), "{committed:?}");
        assert!(subject.models().iter().all(|(_, model)| model.as_deref() == Some("haiku")));
        let ledger = subject.backend().ledger().unwrap();
        assert_eq!(ledger.owed.keys().collect::<Vec<_>>(), DRIFTED);
    });
}

#[test]
fn a_commit_on_a_registry_that_was_replaced_leaves_no_trace() {
    each_that_commits(|subject| {
        let (reading, haiku) = (reading(subject), haiku());
        let changes = vec![change(&reading, "ada", Some(&haiku))];
        subject.replace();
        let before = subject.models();
        let committed = subject.lock().commit(&reading, &batch(changes, Vec::new())).unwrap();
        assert!(matches!(committed, Committed::Stale), "{committed:?}");
        assert_eq!(subject.models(), before);
        assert_eq!(subject.backend().ledger().unwrap(), Ledger::default());
    });
}

#[test]
fn a_commit_on_a_debt_that_a_launch_has_paid_leaves_no_trace() {
    each_that_commits(|subject| {
        owe(subject, "ada");
        let (reading, haiku, before) = (reading(subject), haiku(), subject.models());
        subject.pay("ada");
        let planned_on = Some(Owes { ran: None, identity: None, planned_on: PlannedOn::Debt });
        let changes = vec![Change { owes: planned_on, ..change(&reading, "ada", Some(&haiku)) }];
        for batch in [batch(changes, Vec::new()), batch(Vec::new(), vec!["ada"])] {
            let committed = subject.lock().commit(&reading, &batch).unwrap();
            assert!(matches!(committed, Committed::Stale), "{committed:?}");
        }
        assert_eq!(subject.models(), before);
        assert!(subject.backend().ledger().unwrap().owed.is_empty());
    });
}

#[test]
fn a_debt_is_void_only_together_with_the_edits_that_make_it_so() {
    each_that_commits(|subject| {
        owe(subject, "ben");
        let (reading, haiku) = (reading(subject), haiku());
        let both = batch(vec![change(&reading, "ada", Some(&haiku))], vec!["ben"]);
        subject.replace();
        assert!(matches!(subject.lock().commit(&reading, &both).unwrap(), Committed::Stale));
        assert_eq!(subject.backend().ledger().unwrap().owed.keys().collect::<Vec<_>>(), ["ben"]);

        let reading = self::reading(subject);
        let both = batch(vec![change(&reading, "ada", Some(&haiku))], vec!["ben"]);
        assert!(matches!(subject.lock().commit(&reading, &both).unwrap(), Committed::Done { error: None }));
        assert_eq!(subject.backend().ledger().unwrap().owed.keys().collect::<Vec<_>>(), ["ada"]);
    });
}

#[test]
fn a_first_model_can_be_taken_away_again() {
    each_that_commits(|subject| {
        let (before, haiku) = (subject.models(), haiku());
        for after in [Some(&haiku), None] {
            let reading = reading(subject);
            let changes = vec![change(&reading, "dan", after)];
            let committed = subject.lock().commit(&reading, &batch(changes, Vec::new())).unwrap();
            assert!(matches!(committed, Committed::Done { error: None }), "{committed:?}");
            assert_eq!(model_of(subject, "dan"), after.map(ToString::to_string));
        }
        assert_eq!(subject.models(), before);
    });
}

#[test]
fn what_begins_on_a_debt_that_is_gone_is_told_so() {
    each(|subject| {
        owe(subject, "ada");
        let begun = Note::Begun { chat: "ada", begin: Begin::Owed };
        let debts = subject.lock().note(&[begun], NOW).unwrap();
        assert!(debts["ada"].began);
        subject.pay("ada");
        assert!(!subject.lock().note(&[begun], NOW).unwrap().contains_key("ada"));
        assert!(subject.backend().ledger().unwrap().owed.is_empty(), "it does not owe again");
    });
}

/// A run that lets nothing begin.
struct Never;

impl Turn for Never {
    fn begin(&self, _: &reconcile::plan::Row, _: Begin<'_>) -> bool {
        false
    }
    fn is_over(&self) -> bool {
        false
    }
}

#[test]
fn nothing_happens_to_a_session_whose_attempt_may_not_begin() {
    each(|subject| {
        let (now, selector) = (at(0), Selector::default());
        let input = input(subject.backend(), subject.policy(), &now, &selector, usize::MAX);
        let plan = reconcile::apply::plan(&input, subject.backend()).unwrap().plan;
        let row = plan.rows.iter().find(|row| row.chat.id == "ada").unwrap();
        let before = subject.models();
        let attempts = subject.lock().converge(&[row], &Never);
        assert!(matches!(attempts[..], [Attempt::NotBegun | Attempt::Deferred(_)]), "{attempts:?}");
        assert_eq!((subject.models(), subject.changes()), (before, 0));
    });
}

#[test]
fn what_is_read_back_is_what_the_registry_says() {
    each(|subject| {
        let (now, selector) = (at(0), Selector::default());
        let input = input(subject.backend(), subject.policy(), &now, &selector, usize::MAX);
        let plan = reconcile::apply::plan(&input, subject.backend()).unwrap().plan;
        let row = plan.rows.iter().find(|row| row.chat.id == "ada").unwrap();
        let mut gone = row.clone();
        gone.chat.id = "gone".into();
        let found = subject.lock().read_back(&[row, &gone]).unwrap();
        let Stands::Model(Some(model)) = &found["ada"] else { panic!("{found:#?}") };
        assert_eq!(subject.plain(model.as_str()), "opus");
        assert_eq!(found["gone"], Stands::Gone);
    });
}

#[test]
fn a_second_run_is_told_who_holds_the_lock() {
    each(|subject| {
        if !subject.locks() {
            return;
        }
        let held = subject.lock();
        match subject.backend().lock(Duration::ZERO, &|| false) {
            Err(Error::Locked { holder, .. }) => assert_eq!(holder, Holder::Run(std::process::id())),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("two runs hold the lock"),
        }
        drop(held);
        drop(subject.lock());
    });
}
