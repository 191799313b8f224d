//! What each chat was last given: a table that finds every chat, and what is kept of it.

use reconcile::plan::last_applied::{Found, Hint, KEY_LENGTH, LastApplied, Reach, Table};
use reconcile::registry::Mark;

fn known(chats: &[(&str, Option<&str>)]) -> LastApplied {
    let mut found = Found::default();
    for (chat, model) in chats {
        match model {
            Some(model) => found.applied(chat, model),
            None => found.by_hand(chat),
        }
    }
    LastApplied::nothing([7; KEY_LENGTH]).with(&found, Reach::All)
}

#[test]
fn every_chat_is_found_among_any_number() {
    for count in [0, 1, 2, 3, 4, 7, 8, 9, 1000, 4097] {
        let ids: Vec<String> = (0..count).map(|number| format!("+1617555{number:04}")).collect();
        let model = |at: usize| ["opus", "sonnet", "haiku"].get(at % 4).copied();
        let chats: Vec<(&str, Option<&str>)> =
            ids.iter().enumerate().map(|(at, id)| (id.as_str(), model(at))).collect();
        let known = known(&chats);
        let mut hint = Hint::default();
        // In their order, and then in another one.
        for (chat, model) in chats.iter().chain(chats.iter().rev()).copied() {
            let mark = model.map_or(Mark::ByHand, |model| Mark::Applied(model.into()));
            assert_eq!(known.mark(chat, &mut hint), Some(mark), "{chat} of {count}");
        }
        assert_eq!(known.mark("+1617555", &mut hint), None);
    }
}

#[test]
fn what_is_found_later_counts() {
    let before = known(&[("+1", Some("opus")), ("+2", None), ("+3", Some("haiku"))]);
    let mut found = Found::default();
    found.applied("+2", "sonnet");
    found.applied("+1", "haiku");
    found.by_hand("+3");
    found.applied("+3", "haiku");
    let after = before.with(&found, Reach::Some);
    let mark = |chat| after.mark(chat, &mut Hint::default());
    assert_eq!(mark("+1"), Some(Mark::Applied("haiku".into())));
    assert_eq!(mark("+2"), Some(Mark::Applied("sonnet".into())));
    assert_eq!(mark("+3"), Some(Mark::Applied("haiku".into())), "the later of two");
    assert_eq!(after.reach(), Reach::All, "what was whole stays so");
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let of = |chats: Vec<u64>, marks, sorted| {
        LastApplied::of([0; KEY_LENGTH], Reach::All, Vec::new(), Table { chats, marks, sorted }).is_some()
    };
    let by_hand = u16::MAX;
    assert!(of(vec![2, 1], vec![by_hand, by_hand], vec![1, 0]));
    assert!(!of(vec![1], vec![0], vec![0]), "a model that is not named");
    assert!(!of(vec![1], Vec::new(), vec![0]), "a chat without a mark");
    assert!(!of(vec![1], vec![by_hand], Vec::new()), "a chat that is not found");
}
