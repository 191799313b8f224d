//! A row as JSON, for the report and the history, which reads it again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chat::Model;
use crate::plan::row::{Row, Verdict};
use crate::plan::{FailedModel, Plan, Summary};
use crate::policy::Because;

/// The JSON form of a row. Minor versions only add fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// What became of it: the name of a [`Verdict`].
    pub outcome: Cow<'a, str>,
    /// Why.
    pub detail: Option<Cow<'a, str>>,
}

/// The JSON form of what decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JsonBecause<'a> {
    /// As in [`Because`].
    pub rule: Cow<'a, str>,
    /// The policy's file.
    pub file: Cow<'a, str>,
    /// The line in it.
    pub line: usize,
}

/// The JSON form of a model that did not come up. It holds no times, as the whole report.
#[derive(Clone, Debug, Serialize)]
pub struct JsonFailedModel<'a> {
    /// The model.
    pub model: &'a str,
    /// The chat on whose session it was tried.
    pub chat_id: &'a str,
    /// How often.
    pub attempts: u32,
}

impl<'a> From<&'a FailedModel> for JsonFailedModel<'a> {
    fn from(failed: &'a FailedModel) -> Self {
        Self { model: failed.model.as_str(), chat_id: &failed.chat, attempts: failed.attempts }
    }
}

/// Who did a run, and by which policy. Older lines do not say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
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
}

/// The version of the history's lines. A line that does not say its version is of the first one.
pub const LINE_VERSION: u32 = 1;

fn first_version() -> u32 {
    1
}

/// The form of a run's name.
const NAME: &str = "%Y%m%dT%H%M%S%6fZ";

fn name(at: Timestamp) -> String {
    at.strftime(NAME).to_string()
}

/// What one run did, as a line of the history.
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
}

impl<'a> JsonRun<'a> {
    /// The same with a name after that of the `newest` run before it. A clock may stand still or be set back, so then the
    /// name is the next microsecond, and no longer the time.
    #[must_use]
    pub fn named_after(mut self, newest: &str) -> Self {
        if *self.run <= *newest {
            let last = DateTime::strptime(NAME, newest).and_then(|last| last.to_zoned(TimeZone::UTC));
            let next = last.and_then(|last| last.timestamp().checked_add(SignedDuration::from_micros(1)));
            // What is not such a name was not given by this program, which owes it no order.
            self.run = next.map_or(self.run, |next| name(next).into());
        }
        self
    }

    /// What a run did that executed this plan.
    pub fn of(plan: &'a Plan, at: Timestamp, by: Origin) -> Self {
        let told = plan.rows.iter().filter(|row| row.has_effects());
        Self {
            version: LINE_VERSION,
            run: name(at).into(),
            at,
            by,
            plan_id: (&plan.id).into(),
            changes: told.map(|row| JsonRow::from(row).without_detail()).collect(),
            cancelled: plan.void.keys().map(Cow::from).collect(),
            conversations: BTreeMap::new(),
            completed: Vec::new(),
            summary: plan.summary(),
        }
    }

    /// That entries got back what their conversations can be resumed by.
    pub fn completing(conversations: &'a BTreeMap<String, String>, at: Timestamp) -> Self {
        Self {
            version: LINE_VERSION,
            run: name(at).into(),
            at,
            by: Origin::default(),
            plan_id: Cow::default(),
            changes: Vec::new(),
            cancelled: Vec::new(),
            completed: conversations.keys().map(Cow::from).collect(),
            conversations: conversations.iter().map(|(chat, id)| (chat.into(), id.into())).collect(),
            summary: Summary::default(),
        }
    }
}

impl<'a> From<&'a Row> for JsonRow<'a> {
    fn from(row: &'a Row) -> Self {
        let model = |model: &'a Option<Model>| model.as_ref().map(|model| model.as_str().into());
        Self {
            chat_id: row.chat.id.as_ref().into(),
            session_name: row.chat.session_name.as_deref().map(Cow::Borrowed),
            tier: row.chat.tier.as_deref().map(Cow::Borrowed),
            before: model(&row.before),
            after: model(&row.after),
            because: (&row.because).into(),
            edit: row.edit,
            restart: row.restart,
            owed: row.owed.is_some() || row.effects.owes,
            canary: row.canary,
            outcome: row.outcome.verdict.name().into(),
            detail: row.outcome.detail.as_deref().map(Cow::Borrowed),
        }
    }
}

impl<'a> From<&'a Because> for JsonBecause<'a> {
    fn from(because: &'a Because) -> Self {
        Self { rule: (&because.rule).into(), file: because.at.file.as_ref().into(), line: because.at.line }
    }
}

impl JsonRow<'_> {
    /// Whether it was to be written into the registry.
    pub fn is_edit(&self) -> bool {
        self.edit && self.after.is_some()
    }

    /// The same without its detail, which may quote what a command said: the history keeps no message text.
    #[must_use]
    pub fn without_detail(self) -> Self {
        Self { detail: None, ..self }
    }
}

impl Verdict {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Done => "done",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Held => "held",
            Self::Unmanaged => "unmanaged",
        }
    }
}
