//! Plans as JSON, for the report and for the history.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::chat::Model;
use crate::plan::history_lines::first_part;
use crate::plan::row::Row;
use crate::plan::{FailedModel, Plan, Summary};

pub use crate::plan::history_lines::{
    Head, JsonBecause, JsonRow, JsonRun, LINE_VERSION, Origin, Record, name, name_after,
};

/// The JSON form of a model that failed. Like the whole report, it has no times in it.
#[derive(Clone, Debug, Serialize)]
pub struct JsonFailedModel<'a> {
    /// The model.
    pub model: &'a str,
    /// The chat on whose session it was tried.
    pub chat_id: &'a str,
    /// How often it was tried there.
    pub attempts: u32,
}

impl<'a> From<&'a FailedModel> for JsonFailedModel<'a> {
    fn from(failed: &'a FailedModel) -> Self {
        Self { model: failed.model.as_str(), chat_id: &failed.chat, attempts: failed.attempts }
    }
}

impl<'a> JsonRun<'a> {
    /// The history's line of a run that executed this plan.
    pub fn of(plan: &'a Plan, record: &'a Record) -> Self {
        let told = plan.rows.iter().filter(|row| row.has_effects());
        let Record { name, head: Head { at, by, plan_id } } = record;
        Self {
            version: LINE_VERSION,
            run: name.into(),
            at: *at,
            by: by.clone(),
            plan_id: plan_id.into(),
            changes: told.map(|row| JsonRow::recorded(row).without_detail()).collect(),
            cancelled: plan.void.keys().map(Cow::from).collect(),
            conversations: BTreeMap::new(),
            completed: Vec::new(),
            summary: plan.summary(),
            unfinished: false,
            part: first_part(),
            more: false,
        }
    }

    /// The history's line of a command that gave entries back the ids of their conversations, by chat id.
    pub(crate) fn completing(conversations: &'a BTreeMap<String, String>, record: &'a Record) -> Self {
        let Record { name, head: Head { at, by, plan_id } } = record;
        Self {
            version: LINE_VERSION,
            run: name.into(),
            at: *at,
            by: by.clone(),
            plan_id: plan_id.into(),
            changes: Vec::new(),
            cancelled: Vec::new(),
            completed: conversations.keys().map(Cow::from).collect(),
            conversations: conversations.iter().map(|(chat, id)| (chat.into(), id.into())).collect(),
            summary: Summary::default(),
            unfinished: false,
            part: first_part(),
            more: false,
        }
    }
}

impl<'a> JsonRow<'a> {
    /// A row of a report: its policy file has the name under which it may be shown.
    pub fn shown(row: &'a Row) -> Self {
        Self { because: JsonBecause::shown(&row.because), ..Self::recorded(row) }
    }

    /// A row of the history: its policy file has its path.
    pub fn recorded(row: &'a Row) -> Self {
        let model = |model: &'a Option<Model>| model.as_ref().map(|model| model.as_str().into());
        Self {
            chat_id: row.chat.id.as_ref().into(),
            session_name: row.chat.session_name.as_deref().map(Cow::Borrowed),
            tier: row.chat.tier.as_deref().map(Cow::Borrowed),
            before: model(&row.before),
            after: model(&row.after),
            because: JsonBecause::recorded(&row.because),
            edit: row.edit,
            restart: row.restart,
            owed: row.owed.is_some() || row.effects.owes,
            canary: row.canary,
            outcome: row.outcome.verdict.name().into(),
            detail: row.outcome.detail.as_deref().map(Cow::Borrowed),
        }
    }
}
