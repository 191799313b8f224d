//! The time zone in which the dates of a policy count.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};

use crate::checkup::Check;
use crate::cli::problem::PlaceProblem;
use crate::diagnostic::Diagnostic;
use crate::foreign::{Public, sentence};
use crate::policy::{Policy, Source, zone_advice};

/// The time, in the policy's time zone.
pub(crate) fn now_for(policy: &Policy) -> Zoned {
    Timestamp::now().to_zoned(zone_of(policy))
}

/// The zone that the policy names, else the host's.
pub(crate) fn zone_of(policy: &Policy) -> TimeZone {
    let Some(name) = &policy.time_zone else { return TimeZone::system() };
    // The host's rules may be newer than those that the program was built with, and may be missing.
    let named = TimeZone::get(name).or_else(|_| TimeZoneDatabase::bundled().get(name));
    named.unwrap_or(TimeZone::UTC)
}

/// Looks at the zone in which dates and times without an offset count.
pub(crate) fn checkup(policy: Option<&Policy>) -> Check {
    let name = "time-zone";
    if let Some(zone) = policy.and_then(|policy| policy.time_zone.as_deref()) {
        return Check::good(name, sentence!("{}, as models.time_zone says", zone_name(zone)));
    }
    match (TimeZone::try_system(), std::env::var_os("TZ")) {
        (Ok(zone), _) => {
            let zone = zone_name(zone.iana_name().unwrap_or("a zone without a name"));
            Check::good(name, sentence!("{}, as this host says", zone))
        }
        (Err(_), None) => Check::good(name, "UTC: this host names no time zone"),
        (Err(_), Some(named)) => {
            let named = named.to_string_lossy();
            let advice = zone_advice(&named).into();
            let problem = PlaceProblem::TimeZone { named: named.into(), advice };
            Check::of(name, Err(problem.into()), "set TZ to a known time zone")
        }
    }
}

/// One of those that the database of time zones has, or none that names a person.
fn zone_name(name: &str) -> Public {
    Public::new(name.to_owned())
}

/// What to warn of where the end of an override depends on the host's time zone and `TZ` names none, so that UTC counts.
pub(crate) fn warning(policy: &Policy, sources: &[Source], now: &Zoned) -> Option<Diagnostic> {
    let entry = policy.first_in_host_zone(now)?;
    let name = std::env::var_os("TZ").filter(|_| TimeZone::try_system().is_err())?;
    let name = name.to_string_lossy();
    let until = entry.until.as_ref()?;
    let message = format!("TZ is `{name}`, which is not a known time zone, so UTC is used");
    let label = format!("it ends {} {until} in UTC", until.preposition());
    let advice = format!("{}; or set models.time_zone in the policy", zone_advice(&name));
    Some(Diagnostic::warning("unknown-time-zone", message, entry.because.at.place(sources), label).help(advice))
}
