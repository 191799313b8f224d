//! What only this backend must remember, in `pending.json`: edits that the daemon may not have seen, changes that it has made
//! and not saved yet, sessions that run the model of a global override, what their conversations are resumed by, and when
//! restarts were asked for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::backend::dispatch::problem::DaemonProblem;
use crate::chat::Model;
use crate::error::{Error, Result};
use crate::json;
use crate::os::Stamp;
use crate::os::exchange::ExchangeNote;
use crate::state::dir::StateDir;
use crate::state::version_1::{self, PENDING};

/// The version of the file's form.
const VERSION: u32 = 2;

/// The content of `pending.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    version: u32,
    /// Edits that were made while the daemon seemed to be down: of the present file, and of the one that is about to
    /// replace it.
    edits: Vec<Edits>,
    /// Changes that the daemon has made and not saved yet, by chat id.
    pub unsaved: BTreeMap<String, Unsaved>,
    /// The last global override that a run has met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<GlobalOverride>,
    /// Sessions that run the model of an override, by chat id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overridden: BTreeMap<String, Unsaved>,
    /// The ids of the conversations of sessions that were restarted, by chat id, until the file has them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conversations: BTreeMap<String, String>,
    /// The times at which restarts were recently requested, by chat id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub restarts: BTreeMap<String, Vec<Timestamp>>,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            version: VERSION,
            edits: Vec::new(),
            unsaved: BTreeMap::new(),
            global: None,
            overridden: BTreeMap::new(),
            conversations: BTreeMap::new(),
            restarts: BTreeMap::new(),
        }
    }
}

/// Edits that are unconfirmed while the registry is this file, because the daemon may have read the registry right
/// before them. They can be saved before the file is put in place: if that never happens, they have no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edits {
    file: Stamp,
    chats: BTreeSet<String>,
}

/// The model that a session runs, although the file may not say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsaved {
    /// The model.
    pub model: Model,
    /// The run of the session, as in `created_at` of [`Live`](crate::backend::dispatch::Live).
    pub session: String,
}

/// A global override that a run has met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GlobalOverride {
    /// The model on which sessions were started.
    pub model: Model,
    /// When it was set, in the daemon's format.
    pub(super) set_at: String,
    /// Whether a later run has found that it has ended.
    pub(super) is_over: bool,
}

/// The form of the file in version 0.1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version1 {
    /// Read before the rest, to tell which form the rest has.
    #[serde(rename = "version")]
    _version: IgnoredAny,
    exchange: Option<ExchangeNote>,
    unconfirmed: Option<Unconfirmed>,
    unsaved: Option<BTreeMap<String, Unsaved>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unconfirmed {
    /// The file that the edits made.
    made: Option<Stamp>,
    chats: BTreeSet<String>,
    /// Those that were about to be made by the exchange under way.
    pending: BTreeSet<String>,
}

impl From<Version1> for Pending {
    fn from(Version1 { exchange, unconfirmed, unsaved, .. }: Version1) -> Self {
        let Unconfirmed { made, chats, pending } = unconfirmed.unwrap_or_default();
        let mut kept = Self { unsaved: unsaved.unwrap_or_default(), ..Self::default() };
        if let Some(file) = made {
            kept.edits.push(Edits { file, chats });
        }
        if let Some(exchange) = exchange.filter(|_| !pending.is_empty()) {
            kept.edit(&exchange, pending);
        }
        kept
    }
}

impl Pending {
    /// Reads the file. A file that does not exist is empty.
    ///
    /// # Errors
    /// Where it is damaged, or was written by a later version.
    pub(super) fn read(dir: &StateDir) -> Result<Self> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let text = match dir.read(PENDING)? {
            Some(text) => text,
            None => match version_1::backend_notes(dir)? {
                Some(notes) => json::to_bytes(&notes)?,
                // Another run may have moved the notes between the two reads.
                None => match dir.read(PENDING)? {
                    Some(text) => text,
                    None => return Ok(Self::default()),
                },
            },
        };
        let path = dir.path(PENDING);
        let damaged = |error: serde_json::Error| {
            Error::from(DaemonProblem::PendingDamaged { path: path.clone(), why: error.to_string().into() })
        };
        let Form { version } = serde_json::from_slice(&text).map_err(damaged)?;
        match version {
            1 => Ok(serde_json::from_slice::<Version1>(&text).map_err(damaged)?.into()),
            VERSION => serde_json::from_slice(&text).map_err(damaged),
            version => Err(DaemonProblem::PendingLaterVersion { path, version }.into()),
        }
    }

    /// Removes the temporary file of a run that died while it saved this.
    pub(super) fn discard_unfinished(dir: &StateDir) -> Result<()> {
        dir.discard_unfinished(PENDING)
    }

    pub(super) fn save(&self, dir: &StateDir) -> Result<()> {
        dir.save(PENDING, &json::to_bytes(self)?)
    }

    /// Adds requests for restarts of these chats, and removes requests that are not within the time `lately`.
    pub(super) fn restart(&mut self, chats: &[&str], now: Timestamp, lately: SignedDuration) {
        let is_recent = |time: &Timestamp| now.duration_since(*time).abs() < lately;
        for times in self.restarts.values_mut() {
            times.retain(is_recent);
        }
        self.restarts.retain(|_, times| !times.is_empty());
        for chat in chats {
            self.restarts.entry((*chat).to_owned()).or_default().push(now);
        }
    }

    /// The chats whose edits are unconfirmed while the registry is this file.
    pub(super) fn unconfirmed(&self, file: Stamp) -> BTreeSet<String> {
        let made = self.edits.iter().filter(|edits| edits.file == file);
        made.flat_map(|edits| edits.chats.iter().cloned()).collect()
    }

    /// Adds edits of these chats that are about to be made. The edits of the file that is replaced stay unconfirmed,
    /// because the new file has them, too.
    pub(super) fn edit(&mut self, exchange: &ExchangeNote, mut chats: BTreeSet<String>) {
        self.edits.retain(|edits| edits.file == exchange.seen);
        chats.extend(self.unconfirmed(exchange.seen));
        self.edits.push(Edits { file: exchange.new, chats });
    }
}

/// The error for a file that something else has changed since this run saved it.
pub(super) fn changed(dir: &StateDir) -> Error {
    DaemonProblem::PendingChanged { path: dir.path(PENDING) }.into()
}
