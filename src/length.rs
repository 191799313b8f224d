//! Durations as users write them, in policies and on the command line.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// A description of the accepted form, for hints. An example follows it.
pub(crate) const FORM: &str = "a number and a unit (ms, s, m, h or d), or seconds alone, as in";

/// Parses a duration: `30s`, `1h30m`, `7d`, or seconds alone, as in `5`. A day has 24 hours. `None` where the text is not a
/// duration, or a negative one.
pub fn duration(text: &str) -> Option<Duration> {
    let spanned = || span(text)?.to_duration(SpanRelativeTo::days_are_24_hours()).ok();
    // A `Span` ends at some thousand years, a `SignedDuration` does not.
    let signed = || text.parse::<SignedDuration>().ok().filter(|_| starts_with_digit(text));
    spanned().or_else(signed).and_then(|length| Duration::try_from(length).ok())
}

/// Parses a duration whose days are calendar days: one day from now is this time of day tomorrow, even if clocks are set forward
/// or back in between. `None` where the text is not such a duration.
pub(crate) fn span(text: &str) -> Option<Span> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Span::new().try_seconds(text.parse::<i64>().ok()?).ok();
    }
    // Months and years have no fixed length.
    text.parse().ok().filter(|span: &Span| starts_with_digit(text) && span.get_months() == 0 && span.get_years() == 0)
}

/// Whether there is no sign before the first number, and no letter as in `P1D`.
fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}
