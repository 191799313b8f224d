//! Every operation of a run fails in every way, singly and in pairs, with and without a change of the policy in
//! between. The next undisturbed run puts everything right.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use reconcile::apply::{Applied, Watch};
use reconcile::chat::Model;
use reconcile::plan::ledger::Note;
use reconcile::policy::Policy;

use crate::world::{FAULTS, Fault, MANNERS, Manner, World, at, policy};

const REGISTRY: &str =
    r#"{"sync": {"model": "haiku"}, "drift": {"model": "opus"}, "none": {}, "late": {"model": "sonnet"}}"#;

/// Faults that a run can meet; some at more operations than it has, so that the list is known to be long enough.
fn faults(manner: Manner, policy: &Policy) -> Vec<(usize, Fault)> {
    let world = World::of(manner, REGISTRY);
    world.run(policy, 0, None).unwrap();
    let all = (0..=world.operations() + 2).flat_map(|at| FAULTS.map(|fault| (at, fault)));
    all.collect()
}

/// Checks what must hold after an undisturbed run that follows any faults.
fn check(world: &World, wanted: &Policy, hour: i64, drifted: &[&str], faults: usize, story: &str) {
    let result = world.run(wanted, hour, None);
    assert!(
        matches!(&result, Ok(Applied { error: None, .. })),
        "{story}: the last run failed: {:?}",
        result.map(|applied| applied.error)
    );
    assert!(world.plan(wanted, hour + 1).rows.is_empty(), "{story}: something is left to do");
    let state = world.state();
    assert!(state.ledger.owed.is_empty(), "{story}: a restart is still owed: {:?}", state.ledger);

    let registry: BTreeMap<String, String> = state
        .entries
        .clone()
        .into_iter()
        .map(|(chat, model)| (chat, model.expect("every entry has a model")))
        .collect();
    assert_eq!(state.runs, registry, "{story}: a session runs something else than the registry says");
    for number in 1..=state.foreign {
        assert!(registry.contains_key(&format!("foreign-{number}")), "{story}: an update of another program is lost");
    }

    let changed: BTreeSet<&str> = state.changed.iter().map(String::as_str).collect();
    assert!(changed.iter().all(|chat| drifted.contains(chat)), "{story}: changed in vain: {changed:?}");
    for chat in drifted {
        let count = state.changed.iter().filter(|changed| changed == chat).count();
        assert!(count <= 1 + faults, "{story}: {chat} was changed {count} times");
    }
}

#[test]
fn an_undisturbed_run_changes_exactly_what_drifted_once() {
    let wanted = policy(&[]);
    for manner in MANNERS {
        let world = World::of(manner, REGISTRY);
        check(&world, &wanted, 0, &["drift", "none", "late"], 0, &format!("{manner:?}, undisturbed"));
        assert_eq!(world.state().changed, ["drift", "late", "none"], "{manner:?}");
        assert_eq!(world.state().history, 1, "{manner:?}");
    }
}

#[test]
fn the_next_run_finishes_after_any_single_fault() {
    let wanted = policy(&[]);
    for manner in MANNERS {
        for fault in faults(manner, &wanted) {
            let world = World::of(manner, REGISTRY);
            let _ = world.run(&wanted, 0, Some(fault));
            let story = format!("{manner:?}, {fault:?}");
            check(&world, &wanted, 24, &["drift", "none", "late"], 1, &story);
            for chat in ["drift", "none", "late"] {
                let changed = world.state().changed.iter().any(|changed| changed == chat);
                assert!(changed || fault.1 == Fault::Starts, "{story}: {chat} was never changed");
            }
        }
    }
}

#[test]
fn the_next_run_finishes_after_any_pair_of_faults() {
    let wanted = policy(&[]);
    for manner in MANNERS {
        let faults = faults(manner, &wanted);
        for first in &faults {
            for second in &faults {
                let world = World::of(manner, REGISTRY);
                let _ = world.run(&wanted, 0, Some(*first));
                let _ = world.run(&wanted, 24, Some(*second));
                let story = format!("{manner:?}, {first:?}, {second:?}");
                check(&world, &wanted, 48, &["drift", "none", "late"], 2, &story);
            }
        }
    }
}

#[test]
fn the_next_run_finishes_though_the_policy_changes_between_two_faults() {
    let before = policy(&[]);
    // Back to what it ran, to something third, and one that only now drifts.
    let after = policy(&[("drift", "opus"), ("late", "opus"), ("sync", "sonnet")]);
    for manner in MANNERS {
        for first in faults(manner, &before) {
            for second in faults(manner, &after) {
                let world = World::of(manner, REGISTRY);
                let _ = world.run(&before, 0, Some(first));
                let _ = world.run(&after, 24, Some(second));
                let story = format!("{manner:?}, {first:?}, another policy, {second:?}");
                check(&world, &after, 48, &["drift", "none", "late", "sync"], 3, &story);
            }
        }
    }
}

#[test]
fn the_next_run_knows_what_a_launch_within_a_dying_run_has_started() {
    let (third, first) = (policy(&[]), policy(&[("chat", "opus")]));
    for launch in 0..20 {
        for death in 0..20 {
            // It runs opus and owes the restart to sonnet; the policy has come to haiku meanwhile.
            let world = World::new(r#"{"chat": {"model": "sonnet"}}"#);
            world.state().runs.insert("chat".to_owned(), "opus".to_owned());
            owe(&world, "chat", "opus");
            let _ = world.run(&third, 1, [(launch, Fault::Starts), (death, Fault::DeathAfter)]);
            let story = format!("a launch before operation {launch}, death after {death}, back to opus");
            check(&world, &first, 48, &["chat"], 2, &story);
        }
    }
}

/// The session of a chat owes a restart, and ran this model in the start that is still going on.
fn owe(world: &World, chat: &str, ran: &str) {
    let ran = Model::new(ran).unwrap();
    let owes = Note::Owes { chat, ran: Some(&ran), identity: Some("run 1") };
    world.state().ledger.note(&owes, at(0).timestamp());
}

#[test]
fn an_error_before_the_first_effect_leaves_no_debt() {
    let wanted = policy(&[]);
    for manner in MANNERS {
        for (at, fault) in faults(manner, &wanted).into_iter().filter(|(_, fault)| *fault == Fault::Error) {
            let world = World::of(manner, REGISTRY);
            let before = world.state().entries.clone();
            let result = world.run(&wanted, 0, Some((at, fault)));
            let state = world.state();
            let story = format!("{manner:?}, operation {at}");
            match result {
                Err(_) => {
                    assert_eq!(state.entries, before, "{story}");
                    assert_eq!(state.changed, Vec::<String>::new(), "{story}");
                    assert!(state.ledger.owed.is_empty(), "{story}");
                }
                Ok(applied) => assert!(applied.planned.plan.has_effects(), "{story}"),
            }
        }
    }
}

#[test]
fn a_row_owes_what_the_ledger_says_whichever_operation_fails() {
    let wanted = policy(&[]);
    for manner in MANNERS {
        let mut told = 0;
        for (at, fault) in faults(manner, &wanted).into_iter().filter(|(_, fault)| *fault == Fault::Error) {
            let world = World::of(manner, REGISTRY);
            let Ok(applied) = world.run(&wanted, 0, Some((at, fault))) else { continue };
            told += usize::from(applied.error.is_some());
            for row in &applied.planned.plan.rows {
                let owed = world.state().ledger.owed.contains_key(row.chat.id.as_ref());
                assert_eq!(row.effects.owes, owed, "{manner:?}, operation {at}: {row:#?}");
            }
        }
        assert!(told >= 2, "{manner:?}: an error after the first effect is told");
    }
}

#[test]
fn no_restart_begins_that_could_not_be_noted() {
    let wanted = policy(&[]);
    for manner in MANNERS {
        let changes = |at: usize, fault: Fault| {
            let world = World::of(manner, r#"{"drift": {"model": "opus"}}"#);
            let _ = world.run(&wanted, 0, Some((at, fault)));
            let state = world.state();
            state.changed.len()
        };
        // Which operation is the change of the session.
        let change = (0..100).find(|at| changes(*at, Fault::DeathAfter) == 1).unwrap();
        for at in 0..change {
            assert_eq!(changes(at, Fault::Error), 0, "{manner:?}, operation {at} failed");
        }
    }
}

/// Nothing interrupts, and it is an hour later than when the run began.
struct Later;

impl Watch for Later {
    fn interrupted(&self) -> bool {
        false
    }
    fn now(&self, start: Timestamp) -> Timestamp {
        start + SignedDuration::from_hours(1)
    }
}

#[test]
fn a_failed_restart_waits_from_when_it_failed() {
    let wanted = policy(&[]);
    let failed = (0..20).find_map(|at| {
        let world = World::new(r#"{"drift": {"model": "opus"}}"#);
        let _ = world.watched(&wanted, 0, [(at, Fault::Error)], &Later);
        let debt = world.state().ledger.owed.get("drift").cloned();
        debt.filter(|debt| debt.attempts == 1)
    });
    let next_try = at(1).timestamp() + SignedDuration::from_mins(1);
    assert_eq!(failed.unwrap().next_try, Some(next_try));
}

#[test]
fn a_debt_is_said_to_be_void_exactly_where_it_was_struck() {
    let wanted = policy(&[]);
    let mut told = 0;
    for at in 0..20 {
        for registry in
            [r#"{"back": {"model": "haiku"}}"#, r#"{"back": {"model": "haiku"}, "drift": {"model": "opus"}}"#]
        {
            let world = World::new(registry);
            owe(&world, "back", "haiku");
            let result = world.run(&wanted, 1, [(at, Fault::Error)]);
            let void = result.as_ref().is_ok_and(|applied| applied.planned.plan.void.contains_key("back"));
            assert_eq!(void, !world.state().ledger.owed.contains_key("back"), "operation {at} of {registry}");
            told += usize::from(void && result.is_ok_and(|applied| applied.error.is_some()));
        }
    }
    assert!(told >= 2, "an error after that is told, too");
}

#[test]
fn an_error_while_nothing_but_a_void_debt_is_struck_is_one_before_the_first_effect() {
    let wanted = policy(&[]);
    let world = World::new(r#"{"chat": {"model": "haiku"}}"#);
    owe(&world, "chat", "haiku");
    // Ledger, registry, observe, commit.
    assert!(world.run(&wanted, 1, Some((3, Fault::Error))).is_err());
    assert!(world.run(&wanted, 2, None).is_ok());
    assert!(world.state().ledger.owed.is_empty());
}
