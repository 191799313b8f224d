//! What stays wrong from run to run, and when a quiet run tells of it again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What has been told is told again after this time.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What is wrong now: a sentence for each thing, under a name that stays as long as it is about the same thing.
pub type StandingFaults = BTreeMap<String, String>;

/// The faults that quiet runs have told of, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Told(BTreeMap<String, Telling>);

/// When a fault was told of, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Telling {
    text: String,
    at: Timestamp,
}

/// What a run has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything: a fault that it does not find is over.
    Everything,
    /// Some chats alone: it says nothing of faults that it does not find.
    SomeChats,
}

/// What is new about standing faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether one has begun, has changed, or was told of long ago.
    pub is_due: bool,
    /// Those that are over, as they were told.
    pub over: Vec<String>,
}

impl News {
    /// Whether there is anything to tell.
    pub(crate) fn is_any(&self) -> bool {
        self.is_due || !self.over.is_empty()
    }
}

impl Told {
    /// What is new about the faults of a run at `now`.
    pub(crate) fn news(&self, faults: &StandingFaults, scope: Scope, now: Timestamp) -> News {
        let Self(told) = self;
        let is_known = |(name, text): (&String, &String)| {
            told.get(name).is_some_and(|told| told.text == *text && now.duration_since(told.at).abs() < AGAIN)
        };
        let over = told.iter().filter(|(name, _)| scope == Scope::Everything && !faults.contains_key(*name));
        News { is_due: !faults.iter().all(is_known), over: over.map(|(_, told)| told.text.clone()).collect() }
    }

    /// What has been told once these faults were told at `now`.
    #[must_use]
    pub fn after(&self, faults: &StandingFaults, scope: Scope, now: Timestamp) -> Self {
        let mut told = if scope == Scope::Everything { BTreeMap::new() } else { self.0.clone() };
        let telling = |text: &String| Telling { text: text.clone(), at: now };
        told.extend(faults.iter().map(|(name, text)| (name.clone(), telling(text))));
        Self(told)
    }
}
