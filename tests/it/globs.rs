//! Patterns of chat ids, against what they are meant to say.

use reconcile::policy::Glob;

/// The meaning of a pattern, word for word and as slow as can be.
fn means(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), None) => means(rest, text),
        (Some(('*', rest)), Some((_, after))) => means(rest, text) || means(pattern, after),
        (Some((symbol, rest)), Some((c, after))) => (*symbol == '?' || symbol == c) && means(rest, after),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Every text of at most so many of these characters.
fn texts(alphabet: &[char], most: usize) -> Vec<Vec<char>> {
    let mut texts = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..most {
        let to = texts.len();
        for index in from..to {
            texts.extend(alphabet.iter().map(|c| [texts[index].as_slice(), &[*c]].concat()).collect::<Vec<_>>());
        }
        from = to;
    }
    texts
}

#[test]
fn every_short_pattern_matches_what_it_means() {
    let ids = texts(&['a', 'b', 'é'], 5);
    for pattern in texts(&['a', 'b', '*', '?'], 5) {
        let glob = Glob::new(&pattern.iter().collect::<String>());
        for id in &ids {
            let text: String = id.iter().collect();
            assert_eq!(glob.matches(&text), means(&pattern, id), "{:?} and {text:?}", glob.pattern());
        }
    }
}
