//! The order of effects. A run may die at any point: what a later run needs to finish an effect is on disk before the effect.
//!
//! A run makes a plan. Then, for each wave of rows, it commits the edits together with the restarts that they will owe,
//! converges the sessions, reverts those that did not come up, and reads the registry back. At the end it saves what
//! was confirmed.

mod backend;
mod batch;
mod batches;
mod notes;
mod planned;
mod problem;
mod read_back;
mod revert;
mod watch;
mod wave;
mod workers;

use crate::apply::notes::confirmed;
use crate::apply::planned::{PLANS, leave, planned_on};
use crate::apply::problem::{ApplyProblem, During};
use crate::apply::wave::{Progress, Run};
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::plan::json::{Head, JsonRun, Record};
use crate::plan::last_applied::Reach;
use crate::plan::ledger::Note;
use crate::plan::{Outcome, PlanInput, Refusal, Row, Verdict, failed_models};

pub use backend::{Ask, Attempt, Backend, Decide, Locked, LostState, Registered, Stands, Turn};
pub use batch::{Batch, Change, Committed, Owes, PlannedOn};
pub use planned::{Planned, RunContext, check_edits, plan, preflight};
pub use watch::{Step, Watch};

/// The result of a run.
#[derive(Debug)]
pub struct Applied {
    /// The plan with the outcomes of its rows, and the reading that it was made from.
    pub planned: Planned,
    /// Whether the user interrupted it.
    pub interrupted: bool,
    /// What went wrong after the first effect.
    pub error: Option<Error>,
}

/// Makes a plan and executes it.
///
/// # Errors
/// Where something failed before the first effect: the registry and the sessions are as they were.
pub fn apply(input: &PlanInput, context: RunContext) -> Result<Applied> {
    for _ in 0..PLANS {
        let reading = context.backend.read(Ask::Apply(input))?;
        let planned = planned_on(reading, input, context.backend)?;
        context.watch.step(Step::Planned(&planned.plan));
        crash_point!("planned");
        if planned.plan.refused.is_some() {
            remember(input, context, &planned, Reach::Some)?;
            return Ok(refuse(planned));
        }
        let mut run = Run::new(input, context, planned);
        if context.watch.interrupted() {
            run.interrupt();
            return Ok(run.finish());
        }
        preflight(&run.planned.plan, context.backend)?;
        run.begin_record()?;
        if let Some(commit) = run.newer_policy()? {
            run.planned.plan.refused = Some(Refusal::OlderPolicy { newer: commit });
            return Ok(refuse(run.planned));
        }
        if run.first_wave()? == Progress::PlanAgain {
            continue;
        }
        run.other_waves();
        run.close();
        crash_point!("closed");
        return match run.error.take() {
            Some(error) if !run.planned.plan.is_eventful() => Err(error),
            error => Ok(Applied { error, ..run.finish() }),
        };
    }
    Err(ApplyProblem::Replaced { times: PLANS, during: During::Plan }.into())
}

/// Saves what each chat was last given, where the policy keeps models that were set by hand. Otherwise forgets it: it
/// would be out of date when the policy keeps them again, and a model that a run wrote meanwhile would look as if it
/// had been set by hand.
fn remember(input: &PlanInput, context: RunContext, planned: &Planned, reach: Reach) -> Result<()> {
    let ledger = &planned.reading.ledger;
    if input.policy.existing.keeps_manual() {
        return context.locked.remember(&planned.plan.found, reach);
    }
    let is_kept = !ledger.wrote.is_empty() || !ledger.last_applied.is_empty();
    if is_kept { context.locked.forget_applied() } else { Ok(()) }
}

/// The result of a run whose plan is refused: nothing is done.
pub fn refuse(mut planned: Planned) -> Applied {
    // The rows have no detail, because the reason is reported once, for the plan.
    leave(&mut planned.plan, &Outcome::plain(Verdict::Refused));
    Applied { planned, interrupted: false, error: None }
}

impl Run<'_> {
    /// Saves what was confirmed, and appends to the history.
    fn close(&mut self) {
        self.leave_the_rest();
        let now = self.input.now.timestamp();
        let backend = self.context.backend;
        // The report should have what this run has found out about models.
        let plan = &self.planned.plan;
        let has_news = self.failures > 0 || !plan.failed_models.is_empty();
        if has_news && let Ok(ledger) = backend.ledger() {
            self.planned.plan.failed_models = failed_models(&ledger, &[]);
        }
        let Planned { plan, .. } = &self.planned;
        let notes = self.notes_of_read_back();
        let saved = if notes.is_empty() { Ok(()) } else { self.context.locked.note(&notes, now).map(drop) };
        let recorded = match &self.record {
            Some(record) if plan.is_eventful() => self.context.locked.record(&JsonRun::of(plan, record)),
            _ => Ok(()),
        };
        let remembered = remember(self.input, self.context, &self.planned, self.reach());
        if let Err(error) = saved.and(recorded).and(remembered) {
            self.error.get_or_insert(error);
        }
        self.context.watch.step(Step::Recorded);
    }

    /// What reading back has found: the edits that the registry has, or, where their commits have said so, those that it has not.
    fn notes_of_read_back(&self) -> Vec<Note<'_>> {
        let row = |index: &usize| &self.planned.plan.rows[*index];
        if self.context.locked.confirms_commits() {
            let lost = self.not_confirmed.iter().map(row);
            return lost.map(|row| Note::NotConfirmed { chat: row.chat.id.as_ref() }).collect();
        }
        self.confirmed.iter().map(row).filter_map(confirmed).collect()
    }

    /// Which chats the memory covers after this run: all, if the run was about the whole registry and nothing went wrong.
    fn reach(&self) -> Reach {
        let is_whole = self.planned.plan.complete && !self.interrupted && self.error.is_none();
        if is_whole { Reach::All } else { Reach::Some }
    }

    /// Gives the run a name in the history, if it may have effects. Each effect is noted under this name.
    fn begin_record(&mut self) -> Result<()> {
        let plan = &self.planned.plan;
        if !plan.void.is_empty() || plan.rows.iter().any(Row::is_planned) {
            let at = self.input.now.timestamp();
            let head = Head { at, by: (self.context.author)(), plan_id: plan.id.clone() };
            self.record = Some(Record { name: self.context.locked.name_run(at)?, head });
        }
        Ok(())
    }

    /// The commit of a newer policy by which the registry was changed last, if there is one: this run would overrule it.
    fn newer_policy(&self) -> Result<Option<String>> {
        let by = self.record.as_ref().map(|record| &record.head.by);
        by.map_or(Ok(None), |by| self.context.locked.newer_policy(by))
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        // No debt is settled.
        self.planned.plan.void.clear();
        leave(&mut self.planned.plan, &Outcome::because(Verdict::Deferred, "interrupted"));
    }

    fn finish(self) -> Applied {
        Applied { planned: self.planned, interrupted: self.interrupted, error: self.error }
    }
}
