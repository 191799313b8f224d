//! A snapshot of a gateway's sessions.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::openclaw::capabilities::DEFAULT;
use crate::backend::openclaw::listing::SessionRow;
use crate::chat::Chat;
use crate::error::{Bug, Result};
use crate::plan::Reading;
use crate::registry::{Blank, Counts, Entry, Position, Snapshot};

/// The sessions of a gateway, by chat id.
pub(super) type Sessions = BTreeMap<String, SessionRow>;

/// A snapshot of a gateway's sessions.
#[derive(Debug)]
pub struct GatewaySnapshot {
    /// The gateway's address.
    name: String,
    sessions: Arc<Sessions>,
}

impl GatewaySnapshot {
    pub(super) fn new(name: String, sessions: Sessions) -> Self {
        Self { name, sessions: Arc::new(sessions) }
    }

    /// The snapshot in a reading of this backend.
    pub(super) fn of(reading: &Reading) -> Result<&Self> {
        let snapshot: &dyn Any = reading.snapshot.as_ref();
        snapshot.downcast_ref().ok_or(Bug("a plan was made on the registry of another backend").into())
    }

    /// The sessions.
    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }
}

impl Snapshot for GatewaySnapshot {
    fn name(&self) -> &str {
        &self.name
    }

    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts> {
        for (index, row) in self.sessions.values().enumerate() {
            take(entry(row, Position(index)));
        }
        Ok(Counts { sessions: self.sessions.len(), selected: None })
    }
}

/// The entry of a session. A session that is not pinned has the model `default`, which does not count as set by hand.
fn entry(row: &SessionRow, at: Position) -> Entry<'_> {
    let chat = Chat {
        id: Cow::Borrowed(&row.key),
        session_name: None,
        contact_name: filled(row.label.as_deref()).or_else(|| filled(row.own_name.as_deref())),
        tier: filled(row.category.as_deref()),
        kind: filled(Some(&row.classification)),
        source: filled(row.channel.as_deref()),
        agent: filled(Some(&row.agent)),
        account: filled(row.account.as_deref()),
    };
    Entry {
        chat,
        model: Some(Cow::Borrowed(row.pinned.as_deref().unwrap_or(DEFAULT))),
        resume: None,
        by_hand: row.pinned.is_none().then_some(false),
        mark: None,
        is_session: true,
        blank: Blank::default(),
        at,
        differs: None,
    }
}

/// The value of a field; `None` where it is empty.
fn filled(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.filter(|text| !text.is_empty()).map(Cow::Borrowed)
}
