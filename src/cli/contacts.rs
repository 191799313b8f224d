//! The names of contacts, for what is told of chats that are known by their ids alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::Backend;
use crate::cli::workspace::Names;
use crate::registry::Key;

/// The names of the contacts of these chats, by chat id, where they may be shown. A registry that cannot be read, or only by
/// asking another program, has none: what is told is told all the same.
pub(crate) fn contacts(backend: &dyn Backend, names: &Names, chats: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let mut contacts = BTreeMap::new();
    if chats.is_empty() {
        return contacts;
    }
    let (Names::Own, Ok(Some(snapshot))) = (names, backend.snapshot_at_hand()) else { return contacts };
    let found = snapshot.find(&[Key::Id], chats, &mut |entry| {
        let name = entry.chat.contact_name.as_deref().filter(|name| !name.is_empty());
        contacts.extend(name.map(|name| (entry.chat.id.to_string(), name.to_owned())));
    });
    if found.is_ok() { contacts } else { BTreeMap::new() }
}
