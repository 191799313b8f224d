//! Where a launch finds the entry of its session: in a file, or in a table, for which a file of this host stands in.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::apply::Backend;
use crate::backend::{self, Home, file::RegistryFile};
use crate::error::Result;
use crate::foreign::{Foreign, Sentence, sentence};
use crate::launch::{SESSION_ID, Start};
use crate::policy::placeholder::Conversation;
use crate::registry::{Field, Snapshot};
use crate::sources::last_start;

/// How long a server may take until it has taken a connection. A session waits for that.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Where the entry of a session is.
pub(super) enum Entries {
    /// In this file.
    File(RegistryFile),
    /// In a table. The file has the model on which the session was last started, where such a file can be kept.
    Table(Home, Option<RegistryFile>),
    /// In a table that is not known now, because the policy cannot be used. The file has the model on which the session was last
    /// started.
    Last(RegistryFile),
}

impl Entries {
    /// The entries of a table, for the session that the user calls `word`. `path` is the path of the policy.
    pub(super) fn of_table(home: Home, path: &Path, word: &str) -> Self {
        let last = last_start::place(path, word).and_then(|place| RegistryFile::open_or_new(&place).ok());
        Self::Table(home, last)
    }

    /// The file with the model on which the session was last started that the user calls `word`; `None` where its entry was not in a
    /// table.
    pub(super) fn last(path: &Path, word: &str) -> Option<Self> {
        let file = RegistryFile::open_or_new(&last_start::place(path, word)?).ok()?;
        Some(Self::Last(file)).filter(|last| matches!(last, Self::Last(file) if !file.is_missing()))
    }

    /// The backend that registers the session.
    pub(super) fn backend(&self) -> Box<dyn Backend> {
        match self {
            Self::File(file) | Self::Last(file) => backend::of_home(Home::File(file.clone())),
            Self::Table(home, _) => backend::of_home(home.clone()),
        }
    }

    /// What is known of the session where the registry cannot be reached; `None` where nothing is known.
    pub(super) fn standby(&self) -> Result<Option<Box<dyn Snapshot>>> {
        let (Self::File(file) | Self::Table(_, Some(file)) | Self::Last(file)) = self else { return Ok(None) };
        Ok(Some(Box::new(if file.is_missing() { file.no_sessions() } else { file.snapshot()? })))
    }

    /// The message about a chat that has no entry.
    pub(super) fn is_new(&self, registry: &str) -> Sentence {
        let registry = Foreign::from(registry);
        match self {
            Self::File(_) => sentence!("is new in {}", registry),
            Self::Last(_) => "is not known on this host: nothing is recorded".into(),
            Self::Table(..) => {
                sentence!("is not in {}, which only its owner adds rows to: nothing is recorded", registry)
            }
        }
    }

    /// The words of the warning for a session that starts although nothing can be registered.
    pub(super) fn goes_by(&self) -> &'static str {
        match self {
            Self::File(_) => {
                "nothing can be written: the session starts on the model that the registry has, and the next run \
                 makes the changes"
            }
            Self::Table(..) | Self::Last(_) => {
                "the database cannot be reached: the session starts on the model that it last had on this host, and \
                 the next run makes the changes"
            }
        }
    }

    /// Saves the model on which a session is started, where its entry is in a table.
    pub(super) fn remember(&self, start: &Start) {
        let Self::Table(_, Some(file)) = self else { return };
        let mut entry = Map::new();
        for field in Field::ALL {
            entry.extend(field.of(&start.chat).map(|value| (field.name().to_owned(), Value::from(value))));
        }
        entry.extend(start.model.as_ref().map(|model| ("model".to_owned(), Value::from(model.as_str()))));
        if let Conversation::New(id) | Conversation::Resumed(id) = &start.conversation {
            entry.insert(SESSION_ID.to_owned(), Value::from(id.as_str()));
        }
        let registry: Map<String, Value> = [(start.chat.id.clone().into_owned(), entry.into())].into_iter().collect();
        last_start::remember(file.file(), &Value::Object(registry).to_string());
    }
}
