//! The lines of the history. A run has one line, or several where it did much.

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
    /// The model that the registry had.
    pub before: Option<Cow<'a, str>>,
    /// The model that it should have; absent where the chat is not managed.
    pub after: Option<Cow<'a, str>>,
    /// The part of the policy that decided.
    pub because: JsonBecause<'a>,
    /// Whether the registry had to be changed.
    pub edit: bool,
    /// Whether the session had to be restarted.
    pub restart: bool,
    /// Whether a restart was owed.
    pub owed: bool,
    /// Whether its model is tried on this session first.
    #[serde(default)]
    pub canary: bool,
    /// The outcome: the name of a [`Verdict`](crate::plan::Verdict).
    pub outcome: Cow<'a, str>,
    /// Why, if there is more to say.
    pub detail: Option<Cow<'a, str>>,
}

/// The JSON form of a part of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonBecause<'a> {
    /// The name of the part, such as `rules[0]`.
    pub rule: Cow<'a, str>,
    /// The policy's file.
    pub file: Cow<'a, str>,
    /// The line in the file, counted from 1.
    pub line: usize,
}

/// Who did a run, with which command, and by which policy. Lines of early versions do not have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The command: `apply`, `set-model`, `unset-model`, `undo` or `launch`.
    pub command: Option<String>,
    /// The name of the user, according to the environment: with `sudo`, the user who called it.
    pub user: Option<String>,
    /// The effective user id.
    pub uid: Option<u32>,
    /// The host's name.
    pub host: Option<String>,
    /// The commit that the policy's work tree was at.
    pub policy_commit: Option<String>,
    /// Whether the policy differed from that commit.
    pub policy_modified: Option<bool>,
    /// When that commit was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_at: Option<Timestamp>,
    /// The overrides that the command changed before its run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<JsonEdit>,
}

/// The change of one override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonEdit {
    /// The chat.
    pub chat_id: String,
    /// The override before the change; `None` where there was none.
    pub before: Option<JsonOverride>,
    /// The override after the change; `None` where it was removed.
    pub after: Option<JsonOverride>,
}

/// The JSON form of an override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonOverride {
    /// Its model; `None` where the chat is not managed.
    pub model: Option<String>,
    /// When it ends, as the policy writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The model from that end on.
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

/// A command that changes models or restarts sessions, as the history identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name in the history.
    pub name: String,
    /// Who did it, when, and by which plan.
    pub head: Head,
}

/// Who did a command, when, and by which plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When it began.
    pub at: Timestamp,
    /// Who did it.
    #[serde(flatten)]
    pub by: Origin,
    /// The id of the plan that it executed; empty for a launch, which has no plan.
    pub plan_id: String,
}

/// The version of the form of lines. A line without a version has version 1.
pub const LINE_VERSION: u32 = 1;

fn first_version() -> u32 {
    1
}

/// The format of a run's name, for `strftime`.
const NAME: &str = "%Y%m%dT%H%M%S%6fZ";

/// The name of a run that began at this time. It may be taken: see [`name_after`].
pub fn name(at: Timestamp) -> String {
    at.strftime(NAME).to_string()
}

/// The name of a run that began at this time, later in order than the name of the `newest` run before it. Where the clock has stood
/// still or was set back, it is the microsecond after that name.
pub fn name_after(newest: Option<&str>, at: Timestamp) -> String {
    let own = name(at);
    let Some(newest) = newest.filter(|newest| own.as_str() <= *newest) else { return own };
    let last = DateTime::strptime(NAME, newest).and_then(|last| last.to_zoned(TimeZone::UTC));
    let next = last.and_then(|last| last.timestamp().checked_add(SignedDuration::from_micros(1)));
    // A name in another format was not given by this program, and need not come before this one.
    next.map_or(own, name)
}

/// A line of the history: what one run did, or a part of that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JsonRun<'a> {
    /// The version of this line's form. A line with a version above [`LINE_VERSION`] must not be read as this struct.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The name of the run: the time in UTC, to the microsecond. It is unique, and later in order than those of earlier runs.
    pub run: Cow<'a, str>,
    /// When the run began.
    pub at: Timestamp,
    /// Who did it.
    #[serde(flatten)]
    pub by: Origin,
    /// The id of the plan that it executed; empty for a launch.
    pub plan_id: Cow<'a, str>,
    /// The rows for which something was done or tried.
    pub changes: Vec<JsonRow<'a>>,
    /// Chats whose debts were void.
    pub cancelled: Vec<Cow<'a, str>>,
    /// The ids of the conversations of sessions that it restarted, or whose entries it completed, by chat id. Only where the owner
    /// of the registry may lose them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conversations: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Chats whose entries had lost the id of their conversation, and got it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub completed: Vec<Cow<'a, str>>,
    /// The numbers of the whole plan.
    pub summary: Summary,
    /// Whether the run died before its end. The next run has then written this line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// The number of this line among those of its run, counted from 1.
    #[serde(default = "first_part")]
    pub part: usize,
    /// Whether another line of the run follows.
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

    /// Whether it changed something that can be undone.
    pub(crate) fn is_change(&self) -> bool {
        !self.by.overrides.is_empty() || self.changes.iter().any(JsonRow::is_edit)
    }
}

impl<'a> JsonBecause<'a> {
    /// For a report: the file has the name under which it may be shown.
    pub fn shown(because: &'a Because) -> Self {
        Self { rule: (&because.rule).into(), file: because.at.file.shown().raw().into(), line: because.at.line }
    }

    /// For the history: the file has its path.
    pub fn recorded(because: &'a Because) -> Self {
        Self { file: because.at.file.path().to_string_lossy(), ..Self::shown(because) }
    }
}

impl JsonRow<'_> {
    /// Whether a model was to be written into the registry.
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
