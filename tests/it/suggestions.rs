//! "Did you mean": the closest name is found wherever it stands, and what others wrote cannot make that expensive.

use std::fmt::Write as _;

use proptest::prelude::*;
use reconcile::suggest::{advice, nearest};

use crate::support::{POLICY, Sandbox};

/// The definition: the fewest edits, then the alphabet.
fn by_definition<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let close = (word.chars().count() / 3).max(1);
    let distance = |candidate: &str| strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase());
    let all = candidates.iter().map(|candidate| (distance(candidate), *candidate));
    let near = all.filter(|(distance, _)| *distance <= close).min();
    near.map(|(_, candidate)| candidate)
}

proptest! {
    #[test]
    fn the_closest_word_is_the_one_of_the_fewest_edits(
        word in "[aäb]{1,6}|[abcAB]{5,40}|[ab🦀]{60,128}",
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, "[abcä🦀]"), 0..30),
        others in prop::collection::vec("[abcä]{0,8}|[ab]{3,50}", 0..4),
    ) {
        let mut edited: Vec<char> = word.chars().collect();
        let mut words = others;
        for (at, kind, letter) in edits {
            let (at, letter) = (at.index(edited.len() + 1), letter.chars().next().unwrap());
            match kind {
                0 => edited.insert(at, letter),
                1 if at < edited.len() => drop(edited.remove(at)),
                2 if at < edited.len() => edited[at] = letter,
                3 if at + 1 < edited.len() => edited.swap(at, at + 1),
                _ => {}
            }
            words.push(edited.iter().collect());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // Each by itself, and the best of all.
        for one in words.iter().map(std::slice::from_ref).chain([words.as_slice()]) {
            let found = nearest(&word, one.iter().copied());
            prop_assert_eq!(found.as_deref(), by_definition(&word, one), "{:?} of {:?}", word, one);
        }
    }
}

#[test]
fn a_contact_is_suggested_however_many_chats_there_are() {
    let mut chats = String::new();
    for number in 0..3_000 {
        write!(chats, "\"+1617{number:07}\": {{\"model\": \"opus\"}}, ").unwrap();
    }
    let registry = format!("{{{chats}\"zoe\": {{\"contact_name\": \"Zoe Quinn\", \"model\": \"opus\"}}}}");
    let run = Sandbox::new(POLICY, &registry).run(&["--dry-run", "--chat", "Zoe Quin"]).expect(1);
    assert!(run.stderr.contains("did you mean \"Zoe Quinn\"?"), "{run:#?}");
}

#[test]
fn no_word_is_too_long_or_too_short_to_ask_for() {
    let long = "m".repeat(80_000);
    for word in ["", "m", "x", &long, &long[1..], &long[..128], &long[..129]] {
        assert!(nearest(word, [long.as_str()]).is_none(), "{} bytes", word.len());
    }
    assert_eq!(nearest(&long[..128], ["n", &long[..170]]).as_deref(), Some(&long[..170]));
}

#[test]
fn a_list_of_what_is_known_is_short() {
    let long = "é".repeat(80_000);
    assert_eq!(advice("x", [long.as_str(), "short"]), format!("known: `{}…`, `short`", "é".repeat(64)));
    let many: Vec<String> = (0..100).map(|number| format!("word{number:03}")).collect();
    let told = advice("x", many.iter().map(String::as_str));
    assert!(told.starts_with("known: `word000`, ") && told.ends_with("`word011` and 88 more"), "{told}");
    assert_eq!(advice("x", []), "none is defined");
}

#[test]
fn the_models_that_a_policy_allows_are_told_in_a_few_words() {
    let long = "m".repeat(4_000);
    let policy = POLICY.replace("\"opus\", ", &format!("\"{long}\", \"opus\", "));
    let sandbox = Sandbox::new(&policy, "{\"a\": {\"model\": \"opus\"}}");
    let hint = |stderr: &str, start: &str| {
        let hint = stderr.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_default().to_owned();
        assert!(
            hint.contains("`haiku`, ") && hint.len() < 200,
            "{} bytes: {}",
            hint.len(),
            &hint[..hint.len().min(200)]
        );
    };
    hint(&sandbox.run(&["set-model", "a", "gpt"]).expect(1).stderr, "hint: ");
    sandbox.write("policy.toml", policy.replace("bots   = \"haiku\"", "bots = \"gpt\""));
    hint(&sandbox.run(&["check"]).expect(1).stdout, "= help: ");
}
