//! The trait of a snapshot, which is what a registry said at one instant.

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
    /// The number of all entries.
    pub sessions: usize,
    /// The number of entries that the run is about, from a backend that leaves out entries. `None` from a backend that
    /// hands over all entries, so that the caller can count.
    pub selected: Option<usize>,
}

/// The fields by which entries can be looked up.
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
    /// The slug of the session's name, see [`Chat::slug`](crate::chat::Chat::slug).
    Slug,
}

impl Key {
    /// Whether this field of the entry has one of these values.
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
    /// Takes one entry, which is borrowed: what is to be kept must be copied.
    fn take(&mut self, entry: Entry<'_>);

    /// Is called after all entries of the part were taken.
    fn finish(self: Box<Self>);
}

/// Makes a collector for one part of a registry.
pub type Make<'x> = &'x (dyn Fn() -> Box<dyn Collector + 'x> + Sync);

/// What a registry said at one instant.
pub trait Snapshot: Any + Debug + Send + Sync {
    /// The name of the registry, as the user would write it.
    fn name(&self) -> &str;

    /// Calls `take` for each entry, in the order of the registry. The entry is borrowed: what is to be kept must be copied.
    ///
    /// # Errors
    /// Where the registry is wrong, or was changed while it was read. `take` may have been called for entries before that.
    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts>;

    /// Hands the entries to collectors: one collector for each part that is read in parallel. The collectors are
    /// finished in the order of the registry. If a read fails and is started anew, its collectors are dropped without
    /// being finished.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    fn in_parts(&self, make: Make<'_>) -> Result<Counts> {
        let mut collector = make();
        let counts = self.each(&mut |entry| collector.take(entry))?;
        collector.finish();
        Ok(counts)
    }

    /// Hands the entries that a plan needs to collectors, and perhaps others. A plan does not need those that have the model that the
    /// policy decides and have no part in the plan or its warnings.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    fn in_question(&self, make: Make<'_>) -> Result<Counts> {
        self.in_parts(make)
    }

    /// Reads the entries of these chats as [`Snapshot::in_parts`] does. Others may be among them: the run is about these alone.
    ///
    /// # Errors
    /// As [`Snapshot::each`].
    fn of_chats(&self, _chats: &BTreeSet<String>, make: Make<'_>) -> Result<Counts> {
        self.in_parts(make)
    }

    /// Calls `take` for each entry that has one of these values in one of these fields.
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

    /// The diff of the registry's text with these models; `None` where the registry is not a text.
    ///
    /// # Errors
    /// Where its text cannot be read.
    fn preview(&self, _edits: &[(Position, &Model)]) -> Result<Option<Hunks<'_>>> {
        Ok(None)
    }
}

/// Reads entries with `read`, and adds each to a value with `each`. There is one value for each part, made by `make`.
/// Returns the values in the order of the registry.
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
