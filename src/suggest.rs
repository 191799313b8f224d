//! "Did you mean": the known word that a mistyped one is closest to.

/// Of more candidates than these, the rest is not looked at: a hint must cost less than the error.
const LOOKED_AT: usize = 1000;
/// So many are listed where none is near.
const LISTED: usize = 12;

/// The candidate most like `word`, where one is like it at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = (word.chars().count() / 3).max(1);
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .take(LOOKED_AT)
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= 4 * close)
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= close)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Advice on a word that is not one of `candidates`: the nearest, else what there is.
pub fn advice<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let known: Vec<String> = candidates.clone().into_iter().take(LISTED).map(|word| format!("`{word}`")).collect();
    let more = match candidates.into_iter().skip(LISTED).count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match known.as_slice() {
        [] => "there is none to choose from".to_owned(),
        known => format!("known: {}{more}", known.join(", ")),
    }
}
