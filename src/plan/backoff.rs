//! When something that failed is tried again.

use jiff::{SignedDuration, Timestamp};

/// The first try after a failure waits so long, and each further one twice as long…
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(1);
/// …up to this.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(6);

/// When to try again after one more failure: after a wait that is longer each time.
pub(super) fn next_try(earlier_failures: u32, now: Timestamp) -> Option<Timestamp> {
    let doubled = 2_i32.checked_pow(earlier_failures).and_then(|factor| FIRST_WAIT.checked_mul(factor));
    let wait = doubled.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    now.checked_add(wait).ok()
}

/// Whether a next try is not due at `now`. A time that is much further away than any wait is of a clock that was wrong
/// then; a little further it is for a run that began before the failure, and waited for the lock since.
pub(super) fn is_waiting(next_try: Option<Timestamp>, now: Timestamp) -> bool {
    next_try.is_some_and(|next| now < next && next.duration_since(now) <= LONGEST_WAIT + LONGEST_WAIT)
}
