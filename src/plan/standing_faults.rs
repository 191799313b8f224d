//! Standing faults: what stays wrong from one run to the next, and when a quiet run reports it again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A fault is reported again after this time.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// The faults of one run: a sentence by a stable name, under which the next run finds the fault again.
pub type StandingFaults = BTreeMap<String, String>;

/// The faults that quiet runs have reported, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Told(BTreeMap<String, Telling>);

/// The last report of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Telling {
    text: String,
    at: Timestamp,
}

/// Which part of the registry a run has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it: a fault that the run does not find is over.
    Everything,
    /// Some chats only: a fault that the run does not find may still be there.
    SomeChats,
}

/// What a quiet run has to report about standing faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether a fault is new, has changed, or was last reported a day ago.
    pub is_due: bool,
    /// The sentences of the faults that are over, as they were last reported.
    pub over: Vec<String>,
}

impl News {
    /// Whether there is anything to report.
    pub(crate) fn is_any(&self) -> bool {
        self.is_due || !self.over.is_empty()
    }
}

impl Told {
    /// What to report, given the faults of a run at `now`.
    pub(crate) fn news(&self, faults: &StandingFaults, scope: Scope, now: Timestamp) -> News {
        let Self(told) = self;
        let is_known = |(name, text): (&String, &String)| {
            told.get(name).is_some_and(|told| told.text == *text && now.duration_since(told.at).abs() < AGAIN)
        };
        let over = told.iter().filter(|(name, _)| scope == Scope::Everything && !faults.contains_key(*name));
        News { is_due: !faults.iter().all(is_known), over: over.map(|(_, told)| told.text.clone()).collect() }
    }

    /// The memory after these faults were reported at `now`.
    #[must_use]
    pub fn after(&self, faults: &StandingFaults, scope: Scope, now: Timestamp) -> Self {
        let mut told = if scope == Scope::Everything { BTreeMap::new() } else { self.0.clone() };
        let telling = |text: &String| Telling { text: text.clone(), at: now };
        told.extend(faults.iter().map(|(name, text)| (name.clone(), telling(text))));
        Self(told)
    }
}
