//! Lists chats by what the registry and the ledger say. What the sessions are doing is not asked.

use jiff::Timestamp;

use crate::chat::{Chat, Model};
use crate::error::Result;
use crate::plan::drift::{Comparison, Drift, Reading};
use crate::plan::input::PlanInput;
use crate::plan::last_applied::Hint;
use crate::plan::row::Row;
use crate::plan::verdict::Verdict;
use crate::policy::Because;
use crate::registry::{Entry, Make, collect};

/// The selected chats of a registry.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The chats, sorted by chat id.
    pub chats: Vec<Listed>,
    /// How many sessions the registry has.
    pub sessions: usize,
    /// Whether the listing has all chats of the registry.
    pub complete: bool,
}

/// One chat of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The chat.
    pub chat: Chat<'static>,
    /// The model that the registry has for it.
    pub model: Option<Model>,
    /// The model that the policy decides; `None` where the chat is left alone.
    pub wanted: Option<Model>,
    /// The part of the policy that decides.
    pub because: Because,
    /// The states that it is in; none where it is in sync.
    pub states: Vec<State>,
    /// Since when it owes a restart, if it does.
    pub owed_since: Option<Timestamp>,
}

/// A state of a chat that is not in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The policy or the backend leaves it alone.
    Unmanaged,
    /// Its model was set by hand, and the policy keeps that.
    SetByHand,
    /// Something changes its model back again and again, so it is left alone.
    Held,
    /// Its model or its restart must not be done.
    Refused,
    /// Its session did not come up on its model.
    Failed,
    /// A restart is owed.
    Owed,
    /// The registry has another model than the policy.
    Differs,
}

impl State {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unmanaged => "not managed",
            Self::SetByHand => "set by hand",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Owed => "owed",
            Self::Differs => "differs",
        }
    }
}

/// Lists the selected chats.
///
/// # Errors
/// What is wrong with the registry, or with the selector.
pub(crate) fn listing(input: &PlanInput, reading: &Reading) -> Result<Listing> {
    let snapshot = reading.snapshot.as_ref();
    let selection = input.selector.resolve(input.policy, snapshot)?;
    let comparison = Comparison {
        input,
        ledger: &reading.ledger,
        doubtful: &reading.doubtful,
        imposed: reading.imposed.as_ref(),
        selection: &selection,
    };
    let take = |chats: &mut Vec<Listed>, entry: Entry| {
        let entry = Entry { chat: input.policy.with_tier(entry.chat), ..entry };
        if selection.contains(&entry.chat) {
            chats.push(listed(&comparison, entry));
        }
    };
    let read = |make: Make<'_>| match selection.only_chats() {
        Some(chats) => snapshot.of_chats(chats, make),
        None => snapshot.in_parts(make),
    };
    let (counts, parts) = collect(read, Vec::new, take)?;
    let mut chats: Vec<Listed> = parts.into_iter().flatten().collect();
    chats.sort_by(|a, b| a.chat.id.cmp(&b.chat.id));
    Ok(Listing { chats, sessions: counts.sessions, complete: selection.is_complete() })
}

fn listed(comparison: &Comparison, entry: Entry) -> Listed {
    let ledger = comparison.ledger;
    let (decision, _) = comparison.decide(&entry, &mut Hint::default());
    let (chat, model) = (entry.chat.clone().into_owned(), entry.model.as_deref().and_then(Model::new));
    let row = comparison.row(&mut Drift::default(), entry, decision);
    let failed = ledger.failed.get(chat.id.as_ref());
    let has_failed = failed.is_some_and(|failed| decision.model == Some(&failed.model));
    let mut states: Vec<State> = row.iter().flat_map(states_of).collect();
    if has_failed {
        states.insert(0, State::Failed);
    }
    let is_managed = !states.contains(&State::Unmanaged);
    if comparison.keeps(&decision) {
        states = vec![State::SetByHand];
    }
    let wanted = decision.model.filter(|_| is_managed).cloned();
    let owed_since = row.and_then(|row| row.owed).map(|debt| debt.since);
    Listed { chat, model, wanted, because: decision.because.clone(), states, owed_since }
}

fn states_of(row: &Row) -> Vec<State> {
    let stopped = match row.outcome.verdict {
        Verdict::Unmanaged => Some(State::Unmanaged),
        Verdict::Held => Some(State::Held),
        Verdict::Refused => Some(State::Refused),
        Verdict::Planned | Verdict::Done | Verdict::Deferred | Verdict::Failed | Verdict::Unknown => None,
    };
    let owed = row.owed.as_ref().map(|_| State::Owed);
    let differs = row.edit.then_some(State::Differs);
    [stopped, owed, differs].into_iter().flatten().collect()
}
