//! What a run did, as one line of the history or several.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::plan::Summary;
use crate::policy::{Because, Override, Setting};

/// The JSON form of a row. Minor versions only add fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the report")]
pub struct JsonRow<'a> {
    /// The chat.
    pub chat_id: Cow<'a, str>,
    /// Its session's name.
    pub session_name: Option<Cow<'a, str>>,
    /// Its tier.
    pub tier: Option<Cow<'a, str>>,
    /// What the registry said.
    pub before: Option<Cow<'a, str>>,
    /// What it should say; absent where the chat is not managed.
    pub after: Option<Cow<'a, str>>,
    /// What decided.
    pub because: JsonBecause<'a>,
    /// Whether the registry had to change.
    pub edit: bool,
    /// Whether the session had to be restarted.
    pub restart: bool,
    /// Whether a restart was owed.
    pub owed: bool,
    /// Whether its model is tried on this session first.
    #[serde(default)]
    pub canary: bool,
    /// What became of it: the name of a [`Verdict`](crate::plan::Verdict).
    pub outcome: Cow<'a, str>,
    /// Why.
    pub detail: Option<Cow<'a, str>>,
}

/// The JSON form of what decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonBecause<'a> {
    /// As in [`Because`].
    pub rule: Cow<'a, str>,
    /// The policy's file.
    pub file: Cow<'a, str>,
    /// The line in it.
    pub line: usize,
}

/// Who did a run, with which command, and by which policy. Older lines do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The command: `apply`, `set-model`, `unset-model`, `undo` or `launch`.
    pub command: Option<String>,
    /// The name of the user, as the environment says it, behind `sudo` too.
    pub user: Option<String>,
    /// The effective user id.
    pub uid: Option<u32>,
    /// The host's name.
    pub host: Option<String>,
    /// The commit that the policy's work tree was at.
    pub policy_commit: Option<String>,
    /// Whether the policy was not what that commit has.
    pub policy_modified: Option<bool>,
    /// When that commit was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_at: Option<Timestamp>,
    /// The overrides that the command has changed before its run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<JsonEdit>,
}

/// The change of one override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonEdit {
    /// The chat.
    pub chat_id: String,
    /// What the policy said before; `None` where it said nothing.
    pub before: Option<JsonOverride>,
    /// What it says since.
    pub after: Option<JsonOverride>,
}

/// An override, as the history tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonOverride {
    /// Its model; `None` where the chat is not managed.
    pub model: Option<String>,
    /// When it ends, as the policy says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What counts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<&Override> for JsonOverride {
    fn from(entry: &Override) -> Self {
        let model = match &entry.setting {
            Setting::Model(model) => Some(model.to_string()),
            Setting::Unmanaged => None,
        };
        let (until, then) = (entry.until.as_ref(), entry.then.as_ref());
        Self {
            model,
            until: until.map(ToString::to_string),
            then: then.map(ToString::to_string),
            reason: entry.reason.clone(),
        }
    }
}

/// A command that changes models or restarts sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name in the history.
    pub name: String,
    /// Who did it, when, and by which plan.
    pub head: Head,
}

/// What all rows of a command have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When it began.
    pub at: Timestamp,
    /// Who did it.
    #[serde(flatten)]
    pub by: Origin,
    /// The plan that it executed; empty for a launch, which makes none.
    pub plan_id: String,
}

/// The version of the history's lines. A line that does not say its version is of the first one.
pub const LINE_VERSION: u32 = 1;

fn first_version() -> u32 {
    1
}

/// The form of a run's name.
const NAME: &str = "%Y%m%dT%H%M%S%6fZ";

/// The name of a run that began at this time, where no run before it has a later name.
pub fn name(at: Timestamp) -> String {
    at.strftime(NAME).to_string()
}

/// The name of a run that began at this time, after that of the `newest` run before it. A clock may stand still or be set
/// back, so then the name is the next microsecond, and no longer the time.
pub fn name_after(newest: Option<&str>, at: Timestamp) -> String {
    let own = name(at);
    let Some(newest) = newest.filter(|newest| own.as_str() <= *newest) else { return own };
    let last = DateTime::strptime(NAME, newest).and_then(|last| last.to_zoned(TimeZone::UTC));
    let next = last.and_then(|last| last.timestamp().checked_add(SignedDuration::from_micros(1)));
    // What is not such a name was not given by this program, which owes it no order.
    next.map_or(own, name)
}

/// What one run did, as one line of the history or several.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JsonRun<'a> {
    /// The version of this line's form: one that is larger than [`LINE_VERSION`] must not be read as this struct.
    #[serde(default = "first_version")]
    pub version: u32,
    /// Its name, which is unique, and later in order than those of the runs before it: the time in UTC, to the microsecond.
    pub run: Cow<'a, str>,
    /// When it was.
    pub at: Timestamp,
    /// Who did it.
    #[serde(flatten)]
    pub by: Origin,
    /// The plan that it executed.
    pub plan_id: Cow<'a, str>,
    /// The rows for which something was done or tried.
    pub changes: Vec<JsonRow<'a>>,
    /// Chats whose debts were void.
    pub cancelled: Vec<Cow<'a, str>>,
    /// What the conversations of sessions that it restarted, or whose entries it completed, can be resumed by, by chat id.
    /// Only where the owner of the registry may lose that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conversations: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Chats whose entries had lost that, and got it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub completed: Vec<Cow<'a, str>>,
    /// The numbers of the whole plan.
    pub summary: Summary,
    /// Whether it died before its end, and the next run has written down what it did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// Which of its lines this is: what a long run did is told in several.
    #[serde(default = "first_part")]
    pub part: usize,
    /// Whether another line of it follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// The number of a run's first line.
pub(super) fn first_part() -> usize {
    1
}

impl JsonRun<'_> {
    /// This line, as one of a run that got to its end.
    #[must_use]
    pub fn finished(self) -> Self {
        Self { unfinished: false, ..self }
    }

    /// Whether it changed something that can be taken back.
    pub(crate) fn is_change(&self) -> bool {
        !self.by.overrides.is_empty() || self.changes.iter().any(JsonRow::is_edit)
    }
}

impl<'a> JsonBecause<'a> {
    /// What decided, as it may be shown.
    pub fn shown(because: &'a Because) -> Self {
        Self { rule: (&because.rule).into(), file: because.at.file.shown().raw().into(), line: because.at.line }
    }

    /// What decided, as the history has it: of a file, its path.
    pub fn recorded(because: &'a Because) -> Self {
        Self { file: because.at.file.path().to_string_lossy(), ..Self::shown(because) }
    }
}

impl JsonRow<'_> {
    /// Whether it was to be written into the registry.
    pub fn is_edit(&self) -> bool {
        self.edit && self.after.is_some()
    }

    /// This row, with nothing borrowed.
    #[must_use]
    pub fn into_owned(self) -> JsonRow<'static> {
        let own = |text: Cow<str>| Cow::Owned(text.into_owned());
        let JsonBecause { rule, file, line } = self.because;
        JsonRow {
            chat_id: own(self.chat_id),
            session_name: self.session_name.map(own),
            tier: self.tier.map(own),
            before: self.before.map(own),
            after: self.after.map(own),
            because: JsonBecause { rule: own(rule), file: own(file), line },
            edit: self.edit,
            restart: self.restart,
            owed: self.owed,
            canary: self.canary,
            outcome: own(self.outcome),
            detail: self.detail.map(own),
        }
    }

    /// This row without its detail, which may quote what a command said: the history keeps no message text.
    #[must_use]
    pub fn without_detail(self) -> Self {
        Self { detail: None, ..self }
    }
}
