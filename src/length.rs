//! Lengths of time as people write them, the same in policies and on the command line.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// What a length of time looks like, to be followed by an example.
pub(crate) const FORM: &str = "a number and a unit (ms, s, m, h or d), or seconds alone, as in";

/// A length of time: `30s`, `1h30m`, `7d`, or seconds alone, as in `5`. A day has 24 hours. `None` where it is none, or below
/// zero.
pub fn duration(text: &str) -> Option<Duration> {
    // A span of more than some thousand years is none; a length may be as long as that.
    let plain = || text.parse::<SignedDuration>().ok().filter(|_| starts_with_digit(text));
    let spanned = || span(text)?.to_duration(SpanRelativeTo::days_are_24_hours()).ok();
    spanned().or_else(plain).and_then(|length| Duration::try_from(length).ok())
}

/// A length of time whose days are those of the calendar: a day from now is the same time of day tomorrow, also where a clock is
/// set forward in between.
pub(crate) fn span(text: &str) -> Option<Span> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Span::new().try_seconds(text.parse::<i64>().ok()?).ok();
    }
    // Months have no one length, and what is written with them is mostly meant otherwise: `5m` is five minutes.
    text.parse().ok().filter(|span: &Span| starts_with_digit(text) && span.get_months() == 0 && span.get_years() == 0)
}

/// Neither a sign nor the letter of another form stands before it.
fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}
