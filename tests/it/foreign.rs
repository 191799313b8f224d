//! Sentences that keep foreign text apart, and how they are shown.

use std::io;
use std::path::Path;

use reconcile::foreign::{Foreign, Sentence, placeholders};
use reconcile::report::shown::{Naming, shown};
use reconcile::sentence;

#[test]
fn a_sentence_shows_what_it_quotes_escaped_or_not_at_all() {
    let hostile = Foreign::from("+1617\u{1b}[2J\n::error ##[x]");
    let sentence = sentence!("no such run: {} (of {})", hostile, 3_usize);
    assert_eq!(shown(&sentence, Naming::Plain), "no such run: +1617\\u{1b}[2J\\n::error ##\\u{5b}x] (of 3)");
    assert_eq!(shown(&sentence, Naming::Hidden), "no such run: … (of 3)");
}

#[test]
fn sentences_can_be_parts_of_sentences_and_stay_foreign_there() {
    let inner = sentence!("cannot read {}", Path::new("policy.d/cal-ortiz.toml"));
    let both = Sentence::joined([inner.clone(), "and stops".into()], "; ");
    let outer = sentence!("{}: {}", both, Foreign::from("why"));
    assert_eq!(shown(&outer, Naming::Plain), "cannot read policy.d/cal-ortiz.toml; and stops: why");
    assert_eq!(shown(&outer, Naming::Hidden), "cannot read …; and stops: …");
    assert_eq!(outer.into_foreign().raw(), "cannot read policy.d/cal-ortiz.toml; and stops: why");
}

#[test]
fn what_the_system_says_is_told_to_everyone_and_what_a_library_says_is_not() {
    let of_system = io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
    assert_eq!(shown(&Sentence::from(&of_system), Naming::Hidden), "permission denied");
    let of_library = io::Error::other("Cal Ortiz");
    assert_eq!(shown(&Sentence::from(&of_library), Naming::Hidden), "…");
    assert_eq!(shown(&Sentence::from(&of_library), Naming::Plain), "cal Ortiz");
}

#[test]
fn holes_are_counted_as_they_are_filled() {
    for (text, count) in [("", 0), ("{}", 1), ("{} {model} {}", 2), ("{{}}", 1), ("{", 0)] {
        assert_eq!(placeholders(text), count, "{text}");
        assert_eq!(text.split("{}").count() - 1, count, "{text}");
    }
}
