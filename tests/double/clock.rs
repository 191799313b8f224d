//! A clock that only moves when it is told to, so that no test waits.

use jiff::civil::{DateTime, date};
use jiff::{SignedDuration, ToSpan as _};

pub const SECOND: u64 = 1_000_000;

/// Microseconds since the start.
#[derive(Default)]
pub struct Clock {
    now: u64,
}

impl Clock {
    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn advance(&mut self, by: SignedDuration) {
        self.now += u64::try_from(by.as_micros()).unwrap_or_default();
    }

    /// Python's `datetime.now().isoformat()`. No two are the same: each takes a microsecond.
    pub fn local_time(&mut self) -> String {
        self.now += 1;
        self.date_time().strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string()
    }

    /// Python's `datetime.now(timezone.utc).isoformat()`.
    pub fn universal_time(&mut self) -> String {
        format!("{}+00:00", self.local_time())
    }

    fn date_time(&self) -> DateTime {
        let start = date(2026, 11, 22).at(7, 41, 21, 0);
        start.saturating_add(i64::try_from(self.now).unwrap_or_default().microseconds())
    }
}
