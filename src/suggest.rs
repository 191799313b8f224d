//! "Did you mean": the known word that a mistyped one is closest to.

use std::collections::BTreeMap;

/// The longest word that gets a suggestion, in characters: one bit each of a [`u128`]. Longer ones are hardly typed.
const LONGEST: usize = 128;
/// As many words are listed where none is near.
const LISTED: usize = 12;
/// As many characters of each are shown.
const SHOWN: usize = 64;

/// Looks for the known word that is closest to a given one, with a bounded cost for each that it looks at.
#[derive(Debug)]
pub struct Nearest {
    word: Word,
    /// More edits than these make another word.
    close: usize,
    best: Option<(usize, String)>,
}

impl Nearest {
    /// Looks for what is close to `word`.
    pub fn to(word: &str) -> Self {
        let word = Word::new(word);
        Self { close: (word.length / 3).max(1), word, best: None }
    }

    /// Takes another known word into account. Of equally close ones the first in alphabetical order counts.
    pub(crate) fn look_at(&mut self, candidate: &str) {
        let Some(distance) = self.word.distance(candidate, self.close) else { return };
        if self.best.as_ref().is_none_or(|(least, best)| (distance, candidate) < (*least, best.as_str())) {
            self.close = distance;
            self.best = Some((distance, candidate.to_owned()));
        }
    }

    /// The closest word, where one is close at all.
    pub fn found(self) -> Option<String> {
        self.best.map(|(_, word)| word)
    }
}

/// The candidate closest to `word`, where one is close at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut nearest = Nearest::to(word);
    candidates.into_iter().for_each(|candidate| nearest.look_at(candidate));
    nearest.found()
}

/// Advice on a word that is not one of `candidates`: the nearest, else what there is.
pub fn advice<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    list(candidates).map_or("none is defined".to_owned(), |known| format!("known: {known}"))
}

/// The candidates as a list that is short, however many and long they are; `None` where there are none.
pub fn list<'a>(candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    let shown = candidates.clone().into_iter().take(LISTED);
    let shown: Vec<String> = shown.map(|word| format!("`{}`", shortened(word))).collect();
    let more = match candidates.into_iter().skip(LISTED).count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!shown.is_empty()).then(|| shown.join(", ") + &more)
}

fn shortened(word: &str) -> String {
    match word.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

/// The word that was given, prepared for being compared with many others.
#[derive(Debug)]
struct Word {
    /// In characters; 0 for a word that is too long as well, which is close to nothing.
    length: usize,
    /// Where a character stands in it, for those of ASCII: bit 0 is the first place.
    ascii: [u128; 128],
    /// Where each other character stands in it, in the same way.
    others: BTreeMap<char, u128>,
}

impl Word {
    fn new(word: &str) -> Self {
        let mut new = Self { length: 0, ascii: [0; 128], others: BTreeMap::new() };
        let length = lowercase(word).take(LONGEST + 1).count();
        if length > LONGEST {
            return new;
        }
        for (place, letter) in lowercase(word).enumerate() {
            let places = match new.ascii.get_mut(letter as usize) {
                Some(places) => places,
                None => new.others.entry(letter).or_default(),
            };
            *places |= 1 << place;
        }
        new.length = length;
        new
    }

    /// By how many edits the other word differs, if they are no more than `close`. An edit adds, removes or replaces a
    /// character, or swaps two neighbours. Case does not count.
    ///
    /// This is the matrix of the usual algorithm, whose neighbours differ by at most 1, with the differences of a whole
    /// column in the bits of two integers: one step per character of the other word, of which no more are read than may
    /// still be close. (H. Hyyrö, A bit-vector algorithm for computing Levenshtein and Damerau edit distances, 2003.)
    fn distance(&self, other: &str, close: usize) -> Option<usize> {
        let longest = self.length + close;
        // A character is at most four bytes.
        if self.length == 0 || other.len() > 4 * longest || other.len() + close < self.length {
            return None;
        }
        let last = 1 << (self.length - 1);
        let (mut distance, mut length) = (self.length, 0);
        let (mut more, mut less) = (u128::MAX, 0);
        let (mut level, mut before) = (0, 0);
        for letter in lowercase(other) {
            length += 1;
            if length > longest {
                return None;
            }
            let places = self.places(letter);
            let swapped = ((!level & places) << 1) & before;
            level = ((places & more).wrapping_add(more) ^ more) | places | less | swapped;
            let (right_more, right_less) = (less | !(level | more), level & more);
            distance += usize::from(right_more & last != 0);
            distance -= usize::from(right_less & last != 0);
            let (right_more, right_less) = ((right_more << 1) | 1, right_less << 1);
            more = right_less | !(level | right_more);
            less = level & right_more;
            before = places;
        }
        (distance <= close).then_some(distance)
    }

    fn places(&self, letter: char) -> u128 {
        let ascii = self.ascii.get(letter as usize).copied();
        ascii.unwrap_or_else(|| self.others.get(&letter).copied().unwrap_or_default())
    }
}

fn lowercase(word: &str) -> impl Iterator<Item = char> {
    word.chars().flat_map(char::to_lowercase)
}
