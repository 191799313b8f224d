//! Laws that hold for every policy and every registry.

use std::collections::BTreeSet;

use proptest::prelude::*;
use reconcile::chat::Model;
use reconcile::plan::Row;
use reconcile::plan::ledger::{Note, Then};

use crate::world::{Behaviour, MANNERS, Manner, World, at, policy};

const MODELS: [&str; 3] = ["opus", "sonnet", "haiku"];

/// A registry of a few chats, some without a model.
fn registries() -> impl Strategy<Value = Vec<(String, Option<&'static str>)>> {
    let model = proptest::option::weighted(0.8, proptest::sample::select(&MODELS[..]));
    proptest::collection::btree_map("[a-z]{1,3}", model, 0..12).prop_map(|chats| chats.into_iter().collect())
}

/// Overrides for some of the chats that a registry may have.
fn overrides() -> impl Strategy<Value = Vec<(String, &'static str)>> {
    let chats = proptest::collection::btree_map("[a-z]{1,3}", proptest::sample::select(&MODELS[..]), 0..12);
    chats.prop_map(|chats| chats.into_iter().collect())
}

fn json(chats: &[(String, Option<&str>)]) -> String {
    let entries: Vec<String> = chats
        .iter()
        .map(|(chat, model)| match model {
            Some(model) => format!(r#""{chat}": {{"model": "{model}"}}"#),
            None => format!(r#""{chat}": {{}}"#),
        })
        .collect();
    format!("{{{}}}", entries.join(", "))
}

/// How a backend edits.
fn manners() -> impl Strategy<Value = Manner> {
    proptest::sample::select(&MANNERS[..])
}

fn as_refs<'a>(chats: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
    chats.iter().map(|(chat, model)| (chat.as_str(), *model)).collect()
}

proptest! {
    #[test]
    fn a_plan_made_after_an_apply_is_empty(manner in manners(), chats in registries(), wanted in overrides()) {
        let world = World::of(manner, &json(&chats));
        let policy = policy(&as_refs(&wanted));
        world.run(&policy, 0, None).unwrap();
        prop_assert!(world.plan(&policy, 1).rows.is_empty());
    }

    #[test]
    fn every_drifted_session_is_restarted_once_and_no_other(manner in manners(), chats in registries(), wanted in overrides()) {
        let world = World::of(manner, &json(&chats));
        let policy = policy(&as_refs(&wanted));
        let before = world.state().entries.clone();
        world.run(&policy, 0, None).unwrap();
        let state = world.state();
        let after = state.entries.clone();
        let drifted: Vec<&String> = before.keys().filter(|chat| before[*chat] != after[*chat]).collect();
        let mut changed: Vec<&String> = state.changed.iter().collect();
        changed.sort();
        prop_assert_eq!(changed, drifted);
        for (chat, model) in &after {
            prop_assert_eq!(Some(&state.runs[chat]), model.as_ref());
        }
    }

    #[test]
    fn the_plan_of_a_dry_run_is_the_plan_that_apply_executes(manner in manners(), chats in registries(), wanted in overrides()) {
        let world = World::of(manner, &json(&chats));
        let policy = policy(&as_refs(&wanted));
        let shown = world.plan(&policy, 0);
        let applied = world.run(&policy, 0, None).unwrap().planned.plan;
        let key = |row: &Row| (row.chat.id.clone(), row.before.clone(), row.after.clone(), row.edit, row.restart);
        prop_assert_eq!(shown.id, applied.id);
        prop_assert_eq!(shown.rows.iter().map(key).collect::<Vec<_>>(), applied.rows.iter().map(key).collect::<Vec<_>>());
    }

    #[test]
    fn the_numbers_add_up_to_the_sessions(manner in manners(), chats in registries(), wanted in overrides(), fault in 0..20_usize) {
        let world = World::of(manner, &json(&chats));
        let policy = policy(&as_refs(&wanted));
        if let Ok(applied) = world.run(&policy, 0, Some((fault, crate::world::Fault::Error))) {
            let plan = applied.planned.plan;
            let numbers = plan.summary();
            let done = plan.rows.iter().filter(|row| row.outcome.verdict == reconcile::plan::Verdict::Done).count();
            let others = numbers.deferred + numbers.refused + numbers.failed + numbers.unknown + numbers.held;
            prop_assert_eq!(done + others + numbers.unmanaged + numbers.in_sync, plan.sessions);
        }
    }
}

#[test]
fn what_is_undone_again_and_again_is_held_until_the_decision_changes() {
    let wanted = policy(&[]);
    let world = World::new(r#"{"chat": {"model": "opus"}}"#);
    let undo = || world.state().set("chat", Some("opus"));
    let verdicts = |hour| {
        let plan = world.run(&wanted, hour, None).unwrap().planned.plan;
        plan.rows.iter().map(|row| row.outcome.verdict.name()).collect::<BTreeSet<_>>()
    };
    for hour in 0..3 {
        assert_eq!(verdicts(hour), ["done"].into(), "correction {hour}");
        undo();
    }
    // The third was undone, too: held, also after the day in which the corrections count.
    for hour in [3, 4, 100] {
        assert_eq!(verdicts(hour), ["held"].into());
    }
    let other = policy(&[("chat", "opus")]);
    assert!(world.run(&other, 101, None).unwrap().planned.plan.rows.is_empty());
    assert_eq!(verdicts(102), ["done"].into());
}

#[test]
fn what_is_undone_once_a_day_is_corrected_for_ever() {
    let wanted = policy(&[]);
    let world = World::new(r#"{"chat": {"model": "opus"}}"#);
    for day in 0..10 {
        let plan = world.run(&wanted, day * 23, None).unwrap().planned.plan;
        assert_eq!(plan.rows.first().map(|row| row.outcome.verdict.name()), Some("done"), "day {day}");
        world.state().set("chat", Some("opus"));
    }
}

#[test]
fn a_restart_that_fails_is_tried_at_growing_distances() {
    let wanted = policy(&[]);
    let world = World::new(r#"{"chat": {"model": "opus"}}"#);
    // Whether it came up cannot be told, so it is not put back on opus.
    let haiku = ("chat".to_owned(), "haiku".to_owned());
    world.state().behaviours.insert(haiku.clone(), Behaviour::Hangs);
    let mut waits = Vec::new();
    for attempt in 1..=12 {
        let hour = i64::from(attempt) * 24;
        world.run(&wanted, hour, None).unwrap();
        let failed = world.state().ledger.failed["chat"].clone();
        assert_eq!(failed.attempts, attempt);
        waits.push(failed.next_try.unwrap().duration_since(at(hour).timestamp()).as_mins());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
    world.state().behaviours.remove(&haiku);
    world.run(&wanted, 1000, None).unwrap();
    let state = world.state();
    assert!(state.ledger.owed.is_empty() && state.ledger.failed.is_empty() && state.down.is_empty());
}

#[test]
fn a_held_row_says_what_it_still_owes() {
    let wanted = policy(&[]);
    let world = World::new(r#"{"chat": {"model": "opus"}}"#);
    {
        let haiku = Model::new("haiku").unwrap();
        let mut state = world.state();
        let now = at(0).timestamp();
        state.ledger.note(&Note::Owes { chat: "chat", ran: Some(&haiku), identity: None }, now);
        state.ledger.note(&Note::Confirmed { chat: "chat", model: &haiku }, now);
        state.ledger.note(&Note::ChangedBack { chat: "chat", then: Then::Held }, now);
    }
    let plan = world.run(&wanted, 1, None).unwrap().planned.plan;
    assert_eq!((plan.summary().held, plan.summary().owed), (1, 1));
    assert!(world.state().ledger.owed.contains_key("chat"));
}

#[test]
fn a_restart_that_fails_is_told_in_the_history() {
    let wanted = policy(&[]);
    let world = World::new(r#"{"chat": {"model": "haiku"}}"#);
    world.state().ledger.note(&Note::Owes { chat: "chat", ran: None, identity: None }, at(0).timestamp());
    world.state().behaviours.insert(("chat".to_owned(), "haiku".to_owned()), Behaviour::Fails);
    world.run(&wanted, 1, None).unwrap();
    let state = world.state();
    assert_eq!((state.history, state.ledger.owed["chat"].attempts), (1, 1));
}
