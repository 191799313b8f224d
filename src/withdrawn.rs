//! The chats that the withdrawal of a model affects. A run reports them from 30 days before the withdrawal on.

use std::collections::BTreeMap;

use jiff::{ToSpan, Zoned, civil};

use crate::chat::{Chat, Model};
use crate::policy::{At, Policy, Retirement};

/// A withdrawal is reported from this many days before it.
const NOTICE_DAYS: i64 = 30;
/// At most this many chats are named.
const MAX_NAMED: usize = 100;

/// A number of chats, and the ids of at most 100 of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chats {
    /// How many there are.
    pub count: usize,
    /// The ids of some of them, in no order.
    pub ids: Vec<String>,
}

impl Chats {
    fn add(&mut self, chat: &Chat) {
        self.count += 1;
        if self.ids.len() < MAX_NAMED {
            self.ids.push(chat.id.clone().into_owned());
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.count += other.count;
        self.ids.extend(other.ids);
        self.ids.truncate(MAX_NAMED);
        self
    }
}

/// The withdrawal of one model, and the chats that it affects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The model that is withdrawn.
    pub model: Model,
    /// The model that replaces it.
    pub replacement: Model,
    /// The first day on which the model is not used, in the policy's time zone.
    pub on: civil::Date,
    /// Whether that day has come.
    pub has_begun: bool,
    /// Where the policy says so.
    pub at: At,
    /// The chats that change to the replacement.
    pub changing: Chats,
    /// The chats that have the model and keep it, because they are not managed.
    pub unmanaged: Chats,
    /// The limit on the changes of one run, where `changing` exceeds it.
    pub over_limit: Option<usize>,
}

/// The models that are withdrawn in the next 30 days, or have been.
pub(crate) fn soon<'p>(policy: &'p Policy, now: &Zoned) -> impl Iterator<Item = (&'p Model, &'p Retirement)> {
    let horizon = now.date().saturating_add(NOTICE_DAYS.days());
    policy.retired.iter().filter(move |(_, retirement)| retirement.on <= horizon)
}

/// Gathers the chats that withdrawals affect, in one pass over the registry.
#[derive(Debug)]
pub struct Withdrawals<'p> {
    policy: &'p Policy,
    /// The models of [`soon`], by name.
    soon: BTreeMap<&'p str, Affected<'p>>,
}

/// The chats that one withdrawal affects, as far as the registry was read.
#[derive(Debug)]
struct Affected<'p> {
    model: &'p Model,
    retirement: &'p Retirement,
    /// The model that is used today where the policy says `model`: `model` itself before its withdrawal.
    in_use: &'p Model,
    has_begun: bool,
    changing: Chats,
    unmanaged: Chats,
}

impl<'p> Withdrawals<'p> {
    /// The withdrawals of a policy, before an entry of the registry was taken.
    pub fn of(policy: &'p Policy, now: &Zoned) -> Self {
        let soon = soon(policy, now).map(|(model, retirement)| {
            let (changing, unmanaged) = (Chats::default(), Chats::default());
            let (in_use, has_begun) = (policy.in_use(model, now), retirement.has_begun(now));
            (model.as_str(), Affected { model, retirement, in_use, has_begun, changing, unmanaged })
        });
        Self { policy, soon: soon.collect() }
    }

    /// Takes a chat of the registry into account. `existing` is the model that it has there; `decided` is the model that the
    /// policy decides, and `None` for a chat that is not managed.
    pub fn take(&mut self, chat: &Chat, existing: Option<&str>, decided: Option<&Model>) {
        if self.soon.is_empty() {
            return;
        }
        let existing = existing.map(|existing| self.policy.canonical(existing));
        let Some(decided) = decided else {
            if let Some(affected) = existing.and_then(|existing| self.soon.get_mut(existing)) {
                affected.unmanaged.add(chat);
            }
            return;
        };
        // The chat is affected by the withdrawal of the model that it has, or of the one that is decided. Once a model is
        // withdrawn, no decision names it, so the chats that still have it are found by what they have.
        let is_affected = |model: &&str| self.soon.get(model).is_some_and(|affected| decided == affected.in_use);
        let model = existing.into_iter().chain([decided.as_str()]).find(is_affected);
        if let Some(affected) = model.and_then(|model| self.soon.get_mut(model)) {
            affected.changing.add(chat);
        }
    }

    /// The affected chats of this part of the registry and of `other`.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        for (model, affected) in &mut self.soon {
            if let Some(more) = other.soon.remove(model) {
                affected.changing = std::mem::take(&mut affected.changing).and(more.changing);
                affected.unmanaged = std::mem::take(&mut affected.unmanaged).and(more.unmanaged);
            }
        }
        self
    }

    /// The withdrawals that affect a chat. `sessions` is how many the registry has.
    pub fn all(self, sessions: usize) -> Vec<Withdrawal> {
        let limit = self.policy.limit(sessions);
        let concerned = self.soon.into_values().filter(|found| found.changing.count + found.unmanaged.count > 0);
        let withdrawal = |Affected { model, retirement, has_begun, changing, unmanaged, .. }: Affected| Withdrawal {
            model: model.clone(),
            replacement: retirement.replacement.clone(),
            on: retirement.on,
            has_begun,
            at: retirement.because.at.clone(),
            over_limit: (changing.count > limit).then_some(limit),
            changing,
            unmanaged,
        };
        concerned.map(withdrawal).collect()
    }
}

impl Withdrawal {
    /// A clause that says when the model is withdrawn, seen from `now`.
    pub fn when(&self, now: &Zoned) -> String {
        let (model, on) = (&self.model, self.on);
        match (on - now.date()).get_days() {
            _ if self.has_begun => format!("{model} was retired on {on}"),
            ..=1 => format!("{model} retires tomorrow, on {on}"),
            days => format!("{model} retires on {on}, in {days} days"),
        }
    }

    /// A clause that says which chats change. `name` makes the text that stands for a chat id; without it no chat is named.
    pub fn effect(&self, name: Option<&dyn Fn(&str) -> String>) -> String {
        let replacement = &self.replacement;
        let counted = |count: usize, one: &str, many: &str| match count {
            1 => format!("1 chat {one}"),
            count => format!("{count} chats {many}"),
        };
        let named = |chats: &Chats| {
            let Some(name) = name else { return String::new() };
            let mut names: Vec<String> = chats.ids.iter().map(|id| name(id)).collect();
            names.sort();
            let more = match chats.count - names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!(" ({}{more})", names.join(", "))
        };
        let to = format!("to {replacement}");
        let changing = (self.changing.count > 0).then(|| {
            let count = counted(self.changing.count, &format!("changes {to}"), &format!("change {to}"));
            let limit = self.over_limit.map_or_else(String::new, |limit| format!(", over the limit of {limit}"));
            format!("{count}{}{limit}", named(&self.changing))
        });
        let unmanaged = (self.unmanaged.count > 0).then(|| {
            let count = counted(self.unmanaged.count, "that is not managed keeps it", "that are not managed keep it");
            format!("{count}{}", named(&self.unmanaged))
        });
        let parts: Vec<String> = changing.into_iter().chain(unmanaged).collect();
        parts.join("; ")
    }
}
