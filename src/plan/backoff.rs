//! When something that failed is tried again.

use jiff::{SignedDuration, Timestamp};

/// The wait after the first failure. It doubles with each further failure.
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(1);
/// The longest wait after a failure.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(6);

/// When to try again after a failure at `now`. `None` where that is beyond the last instant of the calendar.
pub(super) fn next_try(earlier_failures: u32, now: Timestamp) -> Option<Timestamp> {
    let doubled = 2_i32.checked_pow(earlier_failures).and_then(|factor| FIRST_WAIT.checked_mul(factor));
    let wait = doubled.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    now.checked_add(wait).ok()
}

/// Whether a next try is not due at `now`. A time that is much further away than any wait does not count: it was noted by a clock that
/// was wrong. Twice the longest wait is allowed, because `now` is the begin of the run, which may have waited for the lock since.
pub(super) fn is_waiting(next_try: Option<Timestamp>, now: Timestamp) -> bool {
    next_try.is_some_and(|next| now < next && next.duration_since(now) <= LONGEST_WAIT + LONGEST_WAIT)
}
