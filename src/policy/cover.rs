//! Whether one rule matches every chat that another rule matches, as far as that is certain.

use crate::policy::Rule;
use crate::policy::glob::Glob;

impl Rule {
    /// Whether it matches every chat that `other` matches. `false` where that is not certain.
    pub fn covers(&self, other: &Self) -> bool {
        self.values.iter().all(|(condition, wider)| values_cover(wider, other.values.get(condition).map(Vec::as_slice)))
            && globs_cover(self.chat.as_deref(), other.chat.as_deref())
    }

    /// The size of the rule. The time of [`Rule::covers`] is about the product of the sizes of the two rules.
    pub fn weight(&self) -> usize {
        let values = self.values.values().map(Vec::len);
        let globs = self.chat.iter().flatten().map(|glob| glob.pattern().chars().count() + 1);
        1 + values.chain(globs).sum::<usize>()
    }
}

/// Whether the narrower values are among the wider ones. A chat without the field meets no condition on it, so a rule without the
/// condition (`None`) is never covered by a rule with it.
fn values_cover(wider: &[String], narrower: Option<&[String]>) -> bool {
    narrower.is_some_and(|narrower| narrower.iter().all(|value| wider.contains(value)))
}

fn globs_cover(wider: Option<&[Glob]>, narrower: Option<&[Glob]>) -> bool {
    const EVERYTHING: &str = "*";
    let Some(wider) = wider else { return true };
    let covered = |glob: &str| wider.iter().any(|wider| glob_covers(wider.pattern(), glob));
    narrower.map_or_else(|| covered(EVERYTHING), |globs| globs.iter().all(|glob| covered(glob.pattern())))
}

/// Whether every text that `narrower` matches is matched by `wider`. `narrower` is matched like a text with unknown characters in
/// it: its `*` is matched only by a `*`, and its `?` only by a `*` or a `?`.
fn glob_covers(wider: &str, narrower: &str) -> bool {
    let (wider, narrower) = (normalized(wider), normalized(narrower));
    // Whether the symbols of `wider` so far match the first `end` symbols of `narrower`, by `end`.
    let mut matches = vec![false; narrower.len() + 1];
    matches[0] = true;
    for symbol in wider {
        let mut next = vec![false; narrower.len() + 1];
        // A `*` matches nothing, or one symbol more than it did so far.
        next[0] = symbol == '*' && matches[0];
        for end in 1..=narrower.len() {
            let last = narrower[end - 1];
            next[end] = match symbol {
                '*' => matches[end] || next[end - 1],
                '?' => last != '*' && matches[end - 1],
                literal => last == literal && matches[end - 1],
            };
        }
        matches = next;
    }
    matches[narrower.len()]
}

/// An equivalent pattern in which each run of wildcards is its question marks and then at most one asterisk: `*?*` becomes `?*`.
fn normalized(pattern: &str) -> Vec<char> {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut normalized = Vec::with_capacity(pattern.len());
    let is_wild = |c: &char| matches!(c, '*' | '?');
    for run in pattern.chunk_by(|a, b| is_wild(a) && is_wild(b)) {
        normalized.extend(run.iter().filter(|c| **c != '*'));
        normalized.extend(run.contains(&'*').then_some('*'));
    }
    normalized
}
