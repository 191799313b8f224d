//! Why a chat has its model: what decides, what lost to it and why, and what the registry and past runs say.

use std::io;

use jiff::{Timestamp, Zoned};
use serde::Serialize;

use crate::chat::{Chat, Model};
use crate::plan::capabilities::Capabilities;
use crate::plan::json::{JsonBecause, JsonRow, JsonRun};
use crate::plan::ledger::Debt;
use crate::plan::trial::FailedStart;
use crate::plan::{Row, Verdict};
use crate::policy::{Because, Condition, Policy, Rule};
use crate::redact::{Redact, Redaction, Shown};
use crate::report::page::{Cell, Page, Width, cut};
use crate::report::text::{WIDEST, counted, time};
use crate::resolve::{Candidate, Current, Decision, candidates, resolve};

/// Of the values that a condition wants, so many are told.
const TOLD: usize = 5;

/// The parts of an explanation that have names in them.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The policy that decides.
    pub policy: Policy,
    /// The chat, with the fields that the user gave.
    pub chat: Chat<'a>,
    /// What a run would find to do for the chat, from the registry alone.
    pub row: Option<Row>,
    /// The run that last changed the chat's model.
    pub last_change: Option<JsonRun<'a>>,
}

impl Redact for Subject<'_> {
    fn redacted(self, redaction: &Redaction) -> Self {
        let Self { policy, chat, row, last_change } = self;
        Self {
            policy: policy.redacted_for(redaction, &chat.id),
            chat: chat.redacted(redaction),
            row: row.map(|row| row.redacted(redaction)),
            last_change: last_change.map(|run| run.redacted(redaction)),
        }
    }
}

/// Everything that is known of one chat.
#[derive(Clone, Copy)]
pub struct Explanation<'a> {
    /// What is explained.
    pub subject: &'a Shown<Subject<'a>>,
    /// What the backend can do.
    pub capabilities: &'a dyn Capabilities,
    /// The fields that only the user said.
    pub assumed: &'a [&'static str],
    /// What gives it its tier, where the registry tells none.
    pub assigned: Option<&'a Because>,
    /// The registry's name, as the user would write it.
    pub registry: &'a str,
    /// Whether the chat is in the registry.
    pub registered: bool,
    /// The chat's model in the registry.
    pub existing: Current<'a>,
    /// The restart that the chat's session is owed.
    pub debt: Option<&'a Debt>,
    /// The model on which its session did not come up, if any.
    pub failed: Option<&'a FailedStart>,
    /// The time, in the policy's time zone.
    pub now: &'a Zoned,
    /// The time as it is shown, in the host's time zone.
    pub shown_now: &'a Zoned,
}

#[derive(Serialize)]
struct Wire<'a> {
    format_version: &'static str,
    chat: WireChat<'a>,
    assumed: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    tier_because: Option<JsonBecause<'a>>,
    decision: WireDecision<'a>,
    unmanaged: Option<&'a str>,
    candidates: Vec<WireCandidate<'a>>,
    registry: WireRegistry<'a>,
    owed: Option<WireDebt>,
    failed_start: Option<WireFailedStart<'a>>,
    last_change: Option<WireChange<'a>>,
}

#[derive(Serialize)]
struct WireChat<'a> {
    chat_id: &'a str,
    session_name: Option<&'a str>,
    contact_name: Option<&'a str>,
    tier: Option<&'a str>,
    r#type: Option<&'a str>,
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
}

#[derive(Serialize)]
struct WireDecision<'a> {
    model: Option<&'a str>,
    because: JsonBecause<'a>,
    until: Option<String>,
    then: Option<&'a str>,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct WireCandidate<'a> {
    #[serde(flatten)]
    because: JsonBecause<'a>,
    model: Option<&'a str>,
    standing: &'static str,
    detail: Option<String>,
}

#[derive(Serialize)]
struct WireRegistry<'a> {
    file: &'a str,
    registered: bool,
    model: Option<&'a str>,
    in_sync: Option<bool>,
    outcome: Option<&'static str>,
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct WireFailedStart<'a> {
    model: &'a str,
    since: Timestamp,
    attempts: u32,
    next_try: Option<Timestamp>,
}

#[derive(Serialize)]
struct WireDebt {
    since: Timestamp,
    attempts: u32,
    next_try: Option<Timestamp>,
    needed: bool,
}

#[derive(Serialize)]
struct WireChange<'a> {
    run: &'a str,
    at: Timestamp,
    before: Option<&'a str>,
    after: Option<&'a str>,
    because: &'a JsonBecause<'a>,
    outcome: &'a str,
}

/// One candidate, as it is told.
struct Told<'a> {
    because: &'a Because,
    model: Option<&'a Model>,
    standing: &'static str,
    detail: Option<String>,
}

impl<'a> Explanation<'a> {
    /// The decision: that of a run, if it knew of the chat what is known here.
    pub fn decision(&self) -> Decision<'a> {
        resolve(&self.subject.policy, &self.subject.chat, self.existing, self.now)
    }

    /// Why the chat is not managed, if so.
    fn unmanaged(&self) -> Option<&'a str> {
        let decision = self.decision();
        let by_policy = decision.model.is_none().then(|| decision.reason.unwrap_or("the policy says managed = false"));
        by_policy.or_else(|| self.capabilities.unmanaged(&self.subject.chat))
    }

    /// Whether the registry says what is decided; `None` where that is not asked.
    fn in_sync(&self) -> Option<bool> {
        let asked = self.registered && self.unmanaged().is_none();
        let existing = self.existing.model.map(|model| self.subject.policy.canonical(model));
        asked.then(|| existing == self.decision().model.map(Model::as_str))
    }

    /// What a run would find to do. It does not know what only the user said.
    fn row(&self) -> Option<&'a Row> {
        self.subject.row.as_ref().filter(|_| self.assumed.is_empty())
    }

    /// Whether the restart is still needed. Without a row for it, the next run strikes it.
    fn is_owed(&self) -> bool {
        self.subject.row.as_ref().is_some_and(|row| row.owed.is_some())
    }

    fn change(&self) -> Option<(&'a JsonRun<'a>, &'a JsonRow<'a>)> {
        let run = self.subject.last_change.as_ref()?;
        Some((run, run.changes.iter().find(|row| row.chat_id == self.subject.chat.id && row.edit)?))
    }

    fn told(&self) -> Vec<Told<'a>> {
        let mut decided = false;
        let told = candidates(&self.subject.policy, &self.subject.chat, self.existing, self.now).map(|candidate| {
            match candidate {
                Candidate::Speaks(decision) if decided => Told::new(decision, "outranked", None),
                Candidate::Speaks(decision) => {
                    decided = true;
                    Told::new(decision, "decides", self.grounds(decision))
                }
                Candidate::Over(decision, until) => {
                    Told::new(decision, "over", Some(format!("it ended {} {until}", until.preposition())))
                }
                Candidate::NothingToKeep(because) => {
                    let why = self.existing.model.map_or("the registry has no model".to_owned(), |existing| {
                        format!("the registry has {existing}, which is not allowed")
                    });
                    Told { because, model: None, standing: "silent", detail: Some(why) }
                }
                Candidate::NotByHand(because) => {
                    let why =
                        self.existing.model.map_or("the registry has no model", |_| "the model was not set by hand");
                    Told { because, model: None, standing: "silent", detail: Some(why.to_owned()) }
                }
                Candidate::Unmet(rule, condition) => {
                    Told::new((&rule.choice).into(), "unmatched", Some(self.unmet(rule, condition)))
                }
            }
        });
        told.collect()
    }

    /// What there is to say of that which decides.
    fn grounds(&self, decision: Decision) -> Option<String> {
        let is_fallback = *decision.because == self.subject.policy.fallback.because;
        let fallback = is_fallback.then(|| match self.subject.chat.tier.as_deref() {
            None => "the chat has no tier".to_owned(),
            Some(tier) => format!("[tiers] does not list {tier}"),
        });
        let withdrawn = decision.model.map(|model| (model, self.subject.policy.in_use(model, self.now)));
        let withdrawn = withdrawn.filter(|(model, in_use)| model != in_use);
        let withdrawn = withdrawn.map(|(model, in_use)| format!("{model} is retired, and {in_use} takes its place"));
        let until = decision.until.map(|until| match decision.then {
            Some(then) => format!("until {until}, then {then}"),
            None => format!("until {until}"),
        });
        let reason = decision.reason.map(|reason| format!("{reason:?}"));
        let parts: Vec<String> = fallback.into_iter().chain(withdrawn).chain(until).chain(reason).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn unmet(&self, rule: &Rule, condition: Condition) -> String {
        let wanted = match condition {
            Condition::Chat => rule.globs().iter().map(|glob| glob.pattern().to_owned()).collect(),
            _ => rule.values.get(&condition).cloned().unwrap_or_default(),
        };
        let more = wanted.len().checked_sub(TOLD).filter(|more| *more > 0).map(|more| format!("{more} more"));
        let told = wanted.into_iter().take(TOLD).chain(more).collect::<Vec<_>>().join(" or ");
        // It stands in the line of every rule that asks for it.
        let has = cut(condition.of(&self.subject.chat).unwrap_or("none"), WIDEST);
        format!("needs {} = {told}; this chat has {has}", condition.name())
    }

    /// Writes the explanation for people.
    ///
    /// # Errors
    /// Of writing.
    pub fn text(&self, page: &mut Page) -> io::Result<()> {
        let decided = match self.unmanaged() {
            Some(why) => format!("not managed: {why}"),
            None => name(self.decision().model).to_owned(),
        };
        let mut line = |text: &str| page.line(text, Width::Any);
        line(&format!("{} ({}) → {decided}", self.subject.chat.label(), self.description()))?;

        let told = self.told();
        let cells: Vec<[Cell; 3]> = told.iter().map(Told::cells).collect();
        let widths = [0, 1, 2].map(|column| cells.iter().map(|cells| cells[column].width()).max().unwrap_or_default());
        for (told, [place, rule, model]) in told.iter().zip(&cells) {
            let [places, rules, models] = widths;
            let (place, rule, model) = (place.padded(places), rule.padded(rules), model.padded(models));
            let detail = told.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            line(&format!("  {place}   {rule}   {model}   {}{detail}", told.standing))?;
        }
        line(&format!("registry: {}", self.registry_line()))?;
        if self.registered || self.debt.is_some() {
            line(&format!("restart: {}", self.restart_line()))?;
        }
        if let Some(failed) = self.failed {
            line(&format!("start: {}", self.failed_line(failed)))?;
        }
        let change = self.change().map_or("none in the history".to_owned(), |(run, row)| {
            let models = [&row.before, &row.after].map(|model| model.as_deref().unwrap_or("(none)"));
            let outcome = if row.outcome == "done" { String::new() } else { format!(" ({})", row.outcome) };
            let [before, after] = models;
            format!("{before} → {after}{outcome}, {} by run {}", time(run.at, self.shown_now), run.run)
        });
        line(&format!("last change: {change}"))
    }

    fn description(&self) -> String {
        let chat = &self.subject.chat;
        let id = chat.session_name.as_ref().map(|_| chat.id.as_ref());
        let by = self
            .assigned
            .map(|because| format!(" by {}, {}:{}", because.rule, because.at.file.shown().raw(), because.at.line));
        let by = by.unwrap_or_default();
        let tier = match (chat.tier.as_deref(), chat.kind.as_deref()) {
            (Some(tier), _) => format!("tier {tier}{by}"),
            (None, Some(kind)) => format!("{kind}, no tier"),
            (None, None) => "no tier".to_owned(),
        };
        let parts: Vec<&str> = id.into_iter().chain(chat.contact_name.as_deref()).chain([tier.as_str()]).collect();
        parts.join(", ")
    }

    fn registry_line(&self) -> String {
        if !self.registered {
            return format!("not registered in {}", self.registry);
        }
        let model = self.existing.model.unwrap_or("no model");
        let Some(in_sync) = self.in_sync() else { return format!("{model}, left alone") };
        if in_sync {
            let means = self
                .existing
                .model
                .map(|existing| self.subject.policy.canonical(existing))
                .filter(|means| *means != model);
            let means = means.map(|means| format!(" (another spelling of {means})")).unwrap_or_default();
            return format!("{model}{means}, in sync");
        }
        let Some(row) = self.row() else {
            let assumed = self.assumed.join(", ");
            return format!("{model}, differs only with what was given here, which a run does not know: {assumed}");
        };
        let detail = row.outcome.detail.as_deref().unwrap_or_default();
        let runs_it_anyway = row.after.as_ref().filter(|_| row.before.is_none() && row.runs == row.after);
        let in_sync_anyway = runs_it_anyway.and_then(|model| self.capabilities.unset_is_in_sync(model));
        if let (Verdict::Planned, Some(why)) = (row.outcome.verdict, in_sync_anyway) {
            return format!("{model}, and {why}");
        }
        match row.outcome.verdict {
            Verdict::Planned if self.capabilities.needs_live_sessions() => {
                format!("{model}, differs: a run changes it when the session is live and may be restarted")
            }
            Verdict::Planned if row.restart => {
                format!("{model}, differs: the next run changes it and restarts the session")
            }
            Verdict::Planned => format!("{model}, differs: the next run changes it"),
            Verdict::Held => {
                let times: Vec<String> = row.changed_back.iter().map(|then| time(*then, self.shown_now)).collect();
                let times = times.join(", ");
                format!("{model}, differs, and is held: {detail}, changed back at {times}; --retry tries again")
            }
            verdict => format!("{model}, differs, and is {}: {detail}", verdict.name()),
        }
    }

    fn restart_line(&self) -> String {
        let Some(debt) = self.debt else { return "none owed".to_owned() };
        let since = time(debt.since, self.shown_now);
        let attempts = counted(debt.attempts as usize, "attempt");
        if !self.is_owed() {
            return format!("owed since {since}, {attempts}, and no longer needed: the next run drops it");
        }
        let waits = debt.next_try.filter(|_| debt.waits(self.now.timestamp()));
        let next = waits.map(|next| format!(", next try at {}", time(next, self.shown_now))).unwrap_or_default();
        format!("owed since {since}, {attempts}{next}")
    }

    fn failed_line(&self, failed: &FailedStart) -> String {
        let FailedStart { model, since, attempts, next_try } = failed;
        let (since, attempts) = (time(*since, self.shown_now), counted(*attempts as usize, "attempt"));
        let waits = next_try.filter(|_| failed.waits(self.now.timestamp()));
        let next = waits.map(|next| format!(", next try at {}", time(next, self.shown_now))).unwrap_or_default();
        format!("did not come up on {model}: {attempts} since {since}{next}")
    }

    /// Writes the explanation for programs.
    ///
    /// # Errors
    /// Of writing.
    pub fn json(&self, page: &mut Page) -> io::Result<()> {
        let Decision { model, because, until, then, reason } = self.decision();
        let chat = &self.subject.chat;
        let row = self.row();
        let wire = Wire {
            format_version: "1.0",
            chat: WireChat {
                chat_id: &chat.id,
                session_name: chat.session_name.as_deref(),
                contact_name: chat.contact_name.as_deref(),
                tier: chat.tier.as_deref(),
                r#type: chat.kind.as_deref(),
                source: chat.source.as_deref(),
                agent: chat.agent.as_deref(),
                account: chat.account.as_deref(),
            },
            assumed: self.assumed,
            tier_because: self.assigned.map(JsonBecause::shown),
            decision: WireDecision {
                model: model.map(Model::as_str),
                because: JsonBecause::shown(because),
                until: until.map(ToString::to_string),
                then: then.map(Model::as_str),
                reason,
            },
            unmanaged: self.unmanaged(),
            candidates: self.told().into_iter().map(WireCandidate::from).collect(),
            registry: WireRegistry {
                file: self.registry,
                registered: self.registered,
                model: self.existing.model,
                in_sync: self.in_sync(),
                outcome: row.map(|row| row.outcome.verdict.name()),
                detail: row.and_then(|row| row.outcome.detail.as_deref()),
            },
            owed: self.debt.map(|debt| WireDebt {
                since: debt.since,
                attempts: debt.attempts,
                next_try: debt.next_try,
                needed: self.is_owed(),
            }),
            failed_start: self.failed.map(|failed| WireFailedStart {
                model: failed.model.as_str(),
                since: failed.since,
                attempts: failed.attempts,
                next_try: failed.next_try,
            }),
            last_change: self.change().map(|(run, row)| WireChange {
                run: &run.run,
                at: run.at,
                before: row.before.as_deref(),
                after: row.after.as_deref(),
                because: &row.because,
                outcome: &row.outcome,
            }),
        };
        page.json(&wire)
    }
}

impl<'a> Told<'a> {
    fn new(decision: Decision<'a>, standing: &'static str, detail: Option<String>) -> Self {
        Self { because: decision.because, model: decision.model, standing, detail }
    }

    /// Where it stands, what it is and what it wants, no wider than the cells of a report.
    fn cells(&self) -> [Cell; 3] {
        let Because { rule, at } = self.because;
        let place = format!("{}:{}", at.file.shown().raw(), at.line);
        [place.as_str(), rule, name(self.model)].map(|text| Cell::plain(text).cut(WIDEST))
    }
}

impl<'a> From<Told<'a>> for WireCandidate<'a> {
    fn from(told: Told<'a>) -> Self {
        let Told { because, model, standing, detail } = told;
        Self { because: JsonBecause::shown(because), model: model.map(Model::as_str), standing, detail }
    }
}

fn name(model: Option<&Model>) -> &str {
    model.map_or("-", Model::as_str)
}
