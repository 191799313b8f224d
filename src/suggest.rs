//! "Did you mean": the known word that a mistyped one is closest to.

use std::collections::BTreeMap;

/// The longest word that gets a suggestion, in characters: each takes one bit of a [`u128`].
const MAX_LENGTH: usize = 128;
/// At most this many known words are listed where none is similar.
const MAX_LISTED: usize = 12;
/// At most this many characters of a listed word are shown.
const MAX_SHOWN: usize = 64;

/// Looks for the known word that is most similar to a given one. The time for each known word is bounded.
#[derive(Debug)]
pub struct Nearest {
    word: Word,
    /// The largest number of edits between the given word and a similar one.
    max_distance: usize,
    best: Option<Similar>,
}

/// A known word that is similar to the given one. The order is by distance, then by alphabet.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Similar {
    /// How many edits lead from the given word to this one.
    distance: usize,
    word: String,
}

impl Nearest {
    /// Looks for words that are similar to `word`.
    pub fn to(word: &str) -> Self {
        let word = Word::new(word);
        Self { max_distance: (word.length / 3).max(1), word, best: None }
    }

    /// Takes another known word into account. Of equally similar words the first in alphabetical order counts.
    pub(crate) fn look_at(&mut self, candidate: &str) {
        let Some(distance) = self.word.distance(candidate, self.max_distance) else { return };
        let candidate = Similar { distance, word: candidate.to_owned() };
        if self.best.as_ref().is_none_or(|best| candidate < *best) {
            self.max_distance = distance;
            self.best = Some(candidate);
        }
    }

    /// The most similar word, if there is a similar one.
    pub fn found(self) -> Option<String> {
        self.best.map(|best| best.word)
    }
}

/// The candidate that is most similar to `word`, if one is similar.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut nearest = Nearest::to(word);
    candidates.into_iter().for_each(|candidate| nearest.look_at(candidate));
    nearest.found()
}

/// A hint for a word that is not one of `candidates`: the most similar candidate, or else a list of them.
pub fn advice<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    list(candidates).map_or("none is defined".to_owned(), |known| format!("known: {known}"))
}

/// The candidates as text: the first twelve, and how many more there are. `None` where there are none.
pub fn list<'a>(candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    let shown = candidates.clone().into_iter().take(MAX_LISTED);
    let shown: Vec<String> = shown.map(|word| format!("`{}`", shortened(word))).collect();
    let more = match candidates.into_iter().skip(MAX_LISTED).count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!shown.is_empty()).then(|| shown.join(", ") + &more)
}

fn shortened(word: &str) -> String {
    match word.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

/// The given word in lower case, prepared for being compared with many others.
#[derive(Debug)]
struct Word {
    /// In characters. 0 for a word of more than [`MAX_LENGTH`], which is similar to nothing.
    length: usize,
    /// By ASCII character: the places at which it stands in the word. Bit 0 is the first place.
    ascii: [u128; 128],
    /// By any other character: the places at which it stands in the word. Bit 0 is the first place.
    others: BTreeMap<char, u128>,
}

impl Word {
    fn new(word: &str) -> Self {
        let mut new = Self { length: 0, ascii: [0; 128], others: BTreeMap::new() };
        let length = lowercase(word).take(MAX_LENGTH + 1).count();
        if length > MAX_LENGTH {
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

    /// The number of edits between this word and another; `None` where it is above `max`. An edit adds, removes or replaces a
    /// character, or swaps two neighbours. Case does not count.
    ///
    /// The usual algorithm fills a matrix of distances. In it, neighbours differ by at most 1, so this one keeps of each column
    /// only the differences between neighbours, as bits of integers: bit i is about the row of character i of this word. One
    /// step computes a column, for one character of the other word. The variables are VP, VN, D0, HP and HN of H. Hyyrö, A
    /// bit-vector algorithm for computing Levenshtein and Damerau edit distances, 2003.
    fn distance(&self, other: &str, max: usize) -> Option<usize> {
        let longest = self.length + max;
        // A character has at most four bytes.
        if self.length == 0 || other.len() > 4 * longest || other.len() + max < self.length {
            return None;
        }
        let last_row = 1 << (self.length - 1);
        let (mut distance, mut length) = (self.length, 0);
        // Rows in which the distance is one more, or one less, than in the row above.
        let (mut vertical_positive, mut vertical_negative) = (u128::MAX, 0);
        // Rows in which the distance equals the one in the row above of the column before.
        let mut diagonal_zero = 0;
        let mut places_before = 0;
        for letter in lowercase(other) {
            length += 1;
            if length > longest {
                return None;
            }
            let places = self.places(letter);
            let swapped = ((!diagonal_zero & places) << 1) & places_before;
            let carried = (places & vertical_positive).wrapping_add(vertical_positive) ^ vertical_positive;
            diagonal_zero = carried | places | vertical_negative | swapped;
            // Rows in which the distance is one more, or one less, than in the column before.
            let mut horizontal_positive = vertical_negative | !(diagonal_zero | vertical_positive);
            let mut horizontal_negative = diagonal_zero & vertical_positive;
            distance += usize::from(horizontal_positive & last_row != 0);
            distance -= usize::from(horizontal_negative & last_row != 0);
            horizontal_positive = (horizontal_positive << 1) | 1;
            horizontal_negative <<= 1;
            vertical_positive = horizontal_negative | !(diagonal_zero | horizontal_positive);
            vertical_negative = diagonal_zero & horizontal_positive;
            places_before = places;
        }
        (distance <= max).then_some(distance)
    }

    /// The places at which a character stands in this word, as bits.
    fn places(&self, letter: char) -> u128 {
        let ascii = self.ascii.get(letter as usize).copied();
        ascii.unwrap_or_else(|| self.others.get(&letter).copied().unwrap_or_default())
    }
}

fn lowercase(word: &str) -> impl Iterator<Item = char> {
    word.chars().flat_map(char::to_lowercase)
}
