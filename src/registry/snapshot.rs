//! What a registry said at one instant, wherever it lives.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use crate::chat::Model;
use crate::error::Result;
use crate::registry::{Entry, Position};
use crate::splice::Hunks;

/// How many entries a registry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub sessions: usize,
    /// Those that the run is about, from a backend that hands over only entries that can have a row; `None` where it
    /// hands over all, and they can be counted.
    pub selected: Option<usize>,
}

/// What entries can be looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The chat id.
    Id,
    /// The session's name.
    SessionName,
    /// The contact's name.
    ContactName,
    /// The model, as the registry spells it.
    Model,
    /// The session's name as supervisors accept it.
    Slug,
}

impl Key {
    /// Whether the entry's value is one of these.
    pub(crate) fn is_among(self, values: &BTreeSet<&str>, entry: &Entry) -> bool {
        let among = |value: &Option<_>| Option::as_deref(value).is_some_and(|value| values.contains(value));
        match self {
            Self::Id => values.contains(entry.chat.id.as_ref()),
            Self::SessionName => among(&entry.chat.session_name),
            Self::ContactName => among(&entry.chat.contact_name),
            Self::Model => among(&entry.model),
            Self::Slug => entry.chat.slug().is_some_and(|slug| values.contains(slug.as_str())),
        }
    }
}

/// Takes the entries of one part of a registry.
pub trait Collector: Send {
    /// Takes one entry. Its text is gone when this returns.
    fn take(&mut self, entry: Entry<'_>);
    /// All entries of its part were taken.
    fn finish(self: Box<Self>);
}

/// Makes a collector for one more part.
pub type Make<'x> = &'x (dyn Fn() -> Box<dyn Collector + 'x> + Sync);

/// What a registry said at one instant.
pub trait Snapshot: Any + Debug + Send + Sync {
    /// Its name, as the user would write it.
    fn name(&self) -> &str;

    /// Hands over the entries, in the order of the registry. What is to be kept of one must be copied.
    ///
    /// # Errors
    /// What is wrong with the registry, also that it changed while it was read. Entries may have been handed over before
    /// that.
    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts>;

    /// Hands the entries to collectors, one for each part that is read at the same time, and finishes these in the order
    /// of the registry. The collectors of a read that came to nothing are dropped unfinished.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    fn in_parts(&self, make: Make<'_>) -> Result<Counts> {
        let mut collector = make();
        let counts = self.each(&mut |entry| collector.take(entry))?;
        collector.finish();
        Ok(counts)
    }

    /// As [`Snapshot::in_parts`], of the entries that the plan for which the registry was read must look at. An entry that is
    /// left out has the model that the policy decides, and nothing else of it is in a plan.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    fn in_question(&self, make: Make<'_>) -> Result<Counts> {
        self.in_parts(make)
    }

    /// As [`Snapshot::in_parts`], of these chats at least: a run is about no others.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    fn of_chats(&self, _chats: &BTreeSet<String>, make: Make<'_>) -> Result<Counts> {
        self.in_parts(make)
    }

    /// Hands over the entries that have one of these values by one of these keys.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    fn find(&self, keys: &[Key], values: &BTreeSet<&str>, take: &mut dyn FnMut(Entry<'_>)) -> Result<()> {
        let take = &mut |entry: Entry<'_>| {
            if keys.iter().any(|key| key.is_among(values, &entry)) {
                take(entry);
            }
        };
        self.each(take).map(drop)
    }

    /// What these models would change in its text; `None` where it has no text.
    ///
    /// # Errors
    /// Where its text cannot be read.
    fn preview(&self, _edits: &[(Position, &Model)]) -> Result<Option<Hunks<'_>>> {
        Ok(None)
    }
}

/// What `each` gathers from the entries that are `read`, in one value for each part, in the order of the registry.
///
/// # Errors
/// As [`Snapshot::each`].
pub fn collect<T: Send>(
    read: impl FnOnce(Make<'_>) -> Result<Counts>,
    make: impl Fn() -> T + Sync,
    each: impl Fn(&mut T, Entry<'_>) + Sync,
) -> Result<(Counts, Vec<T>)> {
    struct Part<'x, T, F> {
        gathered: T,
        each: &'x F,
        parts: &'x Mutex<Vec<T>>,
    }
    impl<T: Send, F: Fn(&mut T, Entry<'_>) + Sync> Collector for Part<'_, T, F> {
        fn take(&mut self, entry: Entry<'_>) {
            (self.each)(&mut self.gathered, entry);
        }
        fn finish(self: Box<Self>) {
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(self.gathered);
        }
    }
    let parts = Mutex::new(Vec::new());
    let counts = read(&|| Box::new(Part { gathered: make(), each: &each, parts: &parts }))?;
    Ok((counts, parts.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// The entry of a chat, if it has one.
///
/// # Errors
/// As [`Snapshot::each`].
pub fn find_entry(snapshot: &dyn Snapshot, chat: &str) -> Result<Option<Entry<'static>>> {
    let mut found = None;
    snapshot.find(&[Key::Id], &BTreeSet::from([chat]), &mut |entry| found = Some(entry.into_owned()))?;
    Ok(found)
}
