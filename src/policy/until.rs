//! The end of an override, as a policy writes it, and the instant that this is.

use std::fmt;

use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned, civil};

use crate::foreign::Sentence;

/// When an override ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// At the end of this day, in the policy's time zone.
    Date(civil::Date),
    /// At this time, in the policy's time zone.
    Local(civil::DateTime),
    /// At this instant.
    Instant(Timestamp),
}

impl Until {
    /// Whether the end has passed at `now`, whose time zone is the policy's.
    pub fn is_past(&self, now: &Zoned) -> bool {
        self.end(now.time_zone()).is_some_and(|end| now.timestamp() >= end)
    }

    /// The end as an instant, in this time zone; `None` where that is after the last instant of the calendar.
    ///
    /// An instant, because a clock that is set back shows a time twice: what has ended must not count again.
    pub fn end(&self, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Date(date) => first_instant(date.tomorrow().ok()?.into(), zone),
            Self::Local(time) => first_instant(*time, zone),
            Self::Instant(instant) => Some(*instant),
        }
    }

    /// The word between "it ended" and this end: an override ends after its last day, but at a time.
    pub fn preposition(&self) -> &'static str {
        match self {
            Self::Date(_) => "after",
            Self::Local(_) | Self::Instant(_) => "at",
        }
    }

    /// Whether the end depends on the time zone.
    pub(crate) fn needs_zone(&self) -> bool {
        !matches!(self, Self::Instant(_))
    }
}

/// The first instant at which a clock in this zone shows this time or a later one. A time that is shown twice gives the earlier
/// instant. A time that is skipped gives the instant at which the clock is set forward.
fn first_instant(time: civil::DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let AmbiguousOffset::Gap { after, .. } = zone.to_ambiguous_timestamp(time).offset() else {
        return zone.to_ambiguous_timestamp(time).earlier().ok();
    };
    // With the offset after the gap, a skipped time lies before the gap.
    let before_gap = after.to_timestamp(time).ok()?;
    zone.following(before_gap).next().map(|transition| transition.timestamp())
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => date.fmt(f),
            Self::Local(time) => time.fmt(f),
            Self::Instant(instant) => instant.fmt(f),
        }
    }
}

impl From<&Until> for Sentence {
    fn from(until: &Until) -> Self {
        match until {
            Until::Date(date) => (*date).into(),
            Until::Local(time) => (*time).into(),
            Until::Instant(instant) => (*instant).into(),
        }
    }
}
