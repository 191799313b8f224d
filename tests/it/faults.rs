//! Every operation of a run fails in every way, singly and in pairs, with and without a change of the policy in
//! between. Whatever happens, the next undisturbed run puts everything right.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use reconcile::apply::Watch;
use reconcile::chat::Model;
use reconcile::policy::Policy;

use crate::world::{FAULTS, Fault, World, at, models, policy};

const REGISTRY: &str =
    r#"{"sync": {"model": "haiku"}, "drift": {"model": "opus"}, "none": {}, "late": {"model": "sonnet"}}"#;

/// Faults that a run can meet; one more than it has operations, so that the list is known to be long enough.
fn faults(policy: &Policy) -> Vec<(usize, Fault)> {
    let world = World::new(REGISTRY.to_owned());
    world.run(policy, 0, None).unwrap();
    let all = (0..=world.operations() + 2).flat_map(|at| FAULTS.map(|fault| (at, fault)));
    all.collect()
}

/// Checks what must hold after an undisturbed run, whatever happened before.
fn check(world: &World, wanted: &Policy, hour: i64, drifted: &[&str], faults: usize, story: &str) {
    let result = world.run(wanted, hour, None);
    assert!(result.is_ok_and(|applied| applied.error.is_none()), "{story}: the last run failed");
    assert!(world.plan(wanted, hour + 1).rows.is_empty(), "{story}: something is left to do");
    let state = world.state();
    assert!(state.ledger.owed.is_empty(), "{story}: a restart is still owed: {:?}", state.ledger);

    let registry: BTreeMap<String, String> =
        models(&state).into_iter().map(|(chat, model)| (chat, model.expect("every entry has a model"))).collect();
    assert_eq!(state.runs, registry, "{story}: a session runs something else than the registry says");
    for number in 1..=state.foreign {
        assert!(registry.contains_key(&format!("foreign-{number}")), "{story}: an update of somebody else is lost");
    }

    let restarted: BTreeSet<&str> = state.restarts.iter().map(String::as_str).collect();
    assert!(restarted.iter().all(|chat| drifted.contains(chat)), "{story}: restarted in vain: {restarted:?}");
    for chat in drifted {
        let count = state.restarts.iter().filter(|restarted| restarted == chat).count();
        assert!(count <= 1 + faults, "{story}: {chat} was restarted {count} times");
    }
}

#[test]
fn an_undisturbed_run_restarts_exactly_what_drifted_once() {
    let wanted = policy(&[]);
    let world = World::new(REGISTRY.to_owned());
    check(&world, &wanted, 0, &["drift", "none", "late"], 0, "undisturbed");
    assert_eq!(world.state().restarts, ["drift", "late", "none"]);
    assert_eq!(world.state().history, 1);
}

#[test]
fn the_next_run_finishes_after_any_single_fault() {
    let wanted = policy(&[]);
    for fault in faults(&wanted) {
        let world = World::new(REGISTRY.to_owned());
        let _ = world.run(&wanted, 0, Some(fault));
        let story = format!("{fault:?}");
        check(&world, &wanted, 24, &["drift", "none", "late"], 1, &story);
        for chat in ["drift", "none", "late"] {
            let restarted = world.state().restarts.iter().any(|restarted| restarted == chat);
            assert!(restarted || fault.1 == Fault::Launches, "{story}: {chat} was never restarted");
        }
    }
}

#[test]
fn the_next_run_finishes_after_any_pair_of_faults() {
    let wanted = policy(&[]);
    let faults = faults(&wanted);
    for first in &faults {
        for second in &faults {
            let world = World::new(REGISTRY.to_owned());
            let _ = world.run(&wanted, 0, Some(*first));
            let _ = world.run(&wanted, 24, Some(*second));
            check(&world, &wanted, 48, &["drift", "none", "late"], 2, &format!("{first:?}, {second:?}"));
        }
    }
}

#[test]
fn the_next_run_finishes_though_the_policy_changes_between_two_faults() {
    let before = policy(&[]);
    // Back to what it ran, to something third, and one that only now drifts.
    let after = policy(&[("drift", "opus"), ("late", "opus"), ("sync", "sonnet")]);
    for first in faults(&before) {
        for second in faults(&after) {
            let world = World::new(REGISTRY.to_owned());
            let _ = world.run(&before, 0, Some(first));
            let _ = world.run(&after, 24, Some(second));
            let story = format!("{first:?}, another policy, {second:?}");
            check(&world, &after, 48, &["drift", "none", "late", "sync"], 3, &story);
        }
    }
}

#[test]
fn the_next_run_knows_what_a_launch_within_a_dying_run_has_started() {
    let (third, first) = (policy(&[]), policy(&[("chat", "opus")]));
    for launch in 0..20 {
        for death in 0..20 {
            // It runs opus and owes the restart to sonnet; the policy has come to haiku meanwhile.
            let world = World::new(r#"{"chat": {"model": "sonnet"}}"#.to_owned());
            world.state().runs.insert("chat".to_owned(), "opus".to_owned());
            world.state().ledger.owe("chat", Model::new("opus"), at(0).timestamp());
            let _ = world.run(&third, 1, [(launch, Fault::Launches), (death, Fault::DeathAfter)]);
            let story = format!("a launch before operation {launch}, death after {death}, back to opus");
            check(&world, &first, 48, &["chat"], 2, &story);
        }
    }
}

#[test]
fn an_error_before_the_first_effect_leaves_no_debt() {
    let wanted = policy(&[]);
    for (at, fault) in faults(&wanted).into_iter().filter(|(_, fault)| *fault == Fault::Error) {
        let world = World::new(REGISTRY.to_owned());
        let result = world.run(&wanted, 0, Some((at, fault)));
        let state = world.state();
        if result.is_err() {
            assert_eq!(state.registry, REGISTRY, "operation {at}");
            assert_eq!(state.restarts, Vec::<String>::new(), "operation {at}");
            assert!(state.ledger.owed.is_empty(), "operation {at}");
        } else {
            assert_ne!(state.registry, REGISTRY, "operation {at}");
        }
    }
}

#[test]
fn no_restart_begins_that_could_not_be_noted() {
    let wanted = policy(&[]);
    let restarts = |at: usize, fault: Fault| {
        let world = World::new(r#"{"drift": {"model": "opus"}}"#.to_owned());
        let _ = world.run(&wanted, 0, Some((at, fault)));
        let state = world.state();
        state.restarts.len()
    };
    // Which operation is the restart.
    let restart = (0..100).find(|at| restarts(*at, Fault::DeathAfter) == 1).unwrap();
    for at in 0..restart {
        assert_eq!(restarts(at, Fault::Error), 0, "operation {at} failed");
    }
}

/// Nobody interrupts, and it is an hour later than when the run began.
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
        let world = World::new(r#"{"drift": {"model": "opus"}}"#.to_owned());
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
            let world = World::new(registry.to_owned());
            world.state().ledger.owe("back", Model::new("haiku"), self::at(0).timestamp());
            let result = world.run(&wanted, 1, [(at, Fault::Error)]);
            let cancelled = result.as_ref().is_ok_and(|applied| applied.planned.plan.cancelled.contains_key("back"));
            assert_eq!(cancelled, !world.state().ledger.owed.contains_key("back"), "operation {at} of {registry}");
            told += usize::from(cancelled && result.is_ok_and(|applied| applied.error.is_some()));
        }
    }
    assert!(told >= 2, "an error after that is told, too");
}

#[test]
fn an_error_while_nothing_but_a_void_debt_is_struck_is_one_before_the_first_effect() {
    let wanted = policy(&[]);
    let world = World::new(r#"{"chat": {"model": "haiku"}}"#.to_owned());
    world.state().ledger.owe("chat", Model::new("haiku"), at(0).timestamp());
    // Ledger, registry, observe, strike.
    assert!(world.run(&wanted, 1, Some((3, Fault::Error))).is_err());
    assert!(world.run(&wanted, 2, None).is_ok());
    assert!(world.state().ledger.owed.is_empty());
}
