//! Whether one rule matches every chat that another does, as far as that is certain.

use crate::policy::Rule;
use crate::policy::glob::Glob;

impl Rule {
    /// Whether it matches every chat that `other` matches. `false` where that is not certain.
    pub fn covers(&self, other: &Self) -> bool {
        self.values.iter().all(|(condition, wider)| values_cover(wider, other.values.get(condition).map(Vec::as_slice)))
            && globs_cover(self.chat.as_deref(), other.chat.as_deref())
    }

    /// About how many steps it takes to tell whether it covers another or is covered by one: the two numbers multiply.
    pub fn weight(&self) -> usize {
        let values = self.values.values().map(Vec::len);
        let globs = self.chat.iter().flatten().map(|glob| glob.pattern().chars().count() + 1);
        1 + values.chain(globs).sum::<usize>()
    }
}

/// A chat without the field meets no condition on it, so what has no condition is never covered by what has one.
fn values_cover(wider: &[String], narrower: Option<&[String]>) -> bool {
    narrower.is_some_and(|narrower| narrower.iter().all(|value| wider.contains(value)))
}

fn globs_cover(wider: Option<&[Glob]>, narrower: Option<&[Glob]>) -> bool {
    const EVERYTHING: &str = "*";
    let Some(wider) = wider else { return true };
    let covered = |glob: &str| wider.iter().any(|wider| glob_covers(wider.pattern(), glob));
    narrower.map_or_else(|| covered(EVERYTHING), |globs| globs.iter().all(|glob| covered(glob.pattern())))
}

/// Whether every text that `narrower` matches is matched by `wider`. The second pattern is matched like a text, whose
/// `*` and `?` stand for characters that are not known: only a `*` takes a `*`, only a `*` or a `?` takes a `?`.
fn glob_covers(wider: &str, narrower: &str) -> bool {
    let (wider, narrower) = (normal(wider), normal(narrower));
    // Whether the part of `wider` so far takes the first so many of `narrower`.
    let mut takes = vec![false; narrower.len() + 1];
    takes[0] = true;
    for symbol in wider {
        let mut next = vec![false; narrower.len() + 1];
        for end in 0..=narrower.len() {
            let last = end.checked_sub(1).map(|before| (next[before], takes[before], narrower[before]));
            next[end] = match (symbol, last) {
                ('*', last) => takes[end] || last.is_some_and(|(longer, ..)| longer),
                (_, None | Some((_, _, '*'))) => false,
                ('?', Some((_, before, _))) => before,
                (literal, Some((_, before, other))) => before && literal == other,
            };
        }
        takes = next;
    }
    takes[narrower.len()]
}

/// The pattern with the question marks of each run of wildcards first, and one asterisk after them: `*?` and `?*`
/// mean the same.
fn normal(pattern: &str) -> Vec<char> {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut normal = Vec::with_capacity(pattern.len());
    let is_wild = |c: &char| matches!(c, '*' | '?');
    for run in pattern.chunk_by(|a, b| is_wild(a) && is_wild(b)) {
        normal.extend(run.iter().filter(|c| **c != '*'));
        normal.extend(run.contains(&'*').then_some('*'));
    }
    normal
}
