//! The rows of a plan, wave after wave: first the canaries, each model on one session; then the rest, in portions where the
//! policy wants pauses between them. What waits for a canary is not edited before that has come up.

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::backend::{Attempt, Proof};
use crate::apply::batch::{Batch, Change, Committed, Owes, PlannedOn};
use crate::apply::notes::{confirmed, is_forgotten, notes_before, notes_beside_edits, wrote};
use crate::apply::planned::{PLANS, Planned, RunContext, leave, plan_of};
use crate::apply::problem::{ApplyProblem, During};
use crate::apply::watch::Step;
use crate::apply::workers::{Ended, Purpose, Workers};
use crate::chat::Model;
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::plan::json::{JsonRow, Record};
use crate::plan::ledger::Note;
use crate::plan::observed::{Edits, Standing, Void};
use crate::plan::trial::Trial;
use crate::plan::{Outcome, Plan, PlanInput, Reading, Row, Verdict};
use crate::registry::Position;

/// How a run goes on after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// With the sessions.
    Converge,
    /// With another plan: the registry or a debt has changed since this one was made.
    PlanAgain,
    /// With the other rows: those that cannot be edited were taken out.
    WithoutSome,
}

/// A run that executes its plan.
pub(super) struct Run<'a> {
    pub(super) input: &'a PlanInput<'a>,
    pub(super) context: RunContext<'a>,
    pub(super) planned: Planned,
    pub(super) interrupted: bool,
    pub(super) error: Option<Error>,
    /// How many restarts have failed.
    pub(super) failures: usize,
    /// The run's name and head in the history; `None` where the run does nothing.
    pub(super) record: Option<Record>,
    /// The rows whose edits were read back.
    pub(super) confirmed: Vec<usize>,
    /// The rows whose edits were not found when they were read back.
    pub(super) not_confirmed: Vec<usize>,
    /// The models on which a session of this run came up.
    worked: BTreeSet<Model>,
    /// The registry as it was after the last wave, where there was one. The report is about what the plan was made from.
    latest: Option<Latest>,
}

/// What is read again for a later wave.
struct Latest {
    reading: Reading,
    /// The places of the rows' entries in that reading.
    places: BTreeMap<usize, Position>,
}

impl<'a> Run<'a> {
    pub(super) fn new(input: &'a PlanInput<'a>, context: RunContext<'a>, planned: Planned) -> Self {
        let (confirmed, not_confirmed, worked) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self {
            input,
            context,
            planned,
            interrupted: false,
            error: None,
            failures: 0,
            record: None,
            confirmed,
            not_confirmed,
            worked,
            latest: None,
        }
    }
}

impl Run<'_> {
    /// The first wave, with all that is to be noted beside the edits.
    ///
    /// # Errors
    /// Where nothing has happened.
    pub(super) fn first_wave(&mut self) -> Result<Progress> {
        let Some(wave) = self.commit_wave(&self.next_wave(), Beside::Notes)? else { return Ok(Progress::PlanAgain) };
        self.follow(&wave);
        Ok(Progress::Converge)
    }

    /// All waves after the first. What goes wrong is an error after the first effect.
    pub(super) fn other_waves(&mut self) {
        while self.may_go_on() {
            if self.next_wave().is_empty() {
                break;
            }
            self.context.watch.pause(self.input.policy.rollout.pause);
            if !self.may_go_on() {
                break;
            }
            if let Err(error) = self.another_wave() {
                self.error.get_or_insert(error);
            }
        }
    }

    fn another_wave(&mut self) -> Result<()> {
        for _ in 0..PLANS {
            let wave = self.next_wave();
            if !self.is_per_row() {
                self.plan_again(&wave)?;
            }
            if let Some(wave) = self.commit_wave(&wave, Beside::Nothing)? {
                self.follow(&wave);
                return Ok(());
            }
        }
        Err(ApplyProblem::Replaced { times: PLANS, during: During::Wave }.into())
    }

    /// What follows the commit of a wave.
    fn follow(&mut self, wave: &[usize]) {
        crash_point!("registry edited");
        let attempts = self.converge(wave);
        self.context.watch.step(Step::Converged(attempts.len()));
        crash_point!("restarts over");
        self.judge(wave, &attempts);
        self.revert(wave, &attempts);
        self.read_back(wave);
        self.context.watch.step(Step::ReadBack);
        crash_point!("read back");
    }

    pub(super) fn is_per_row(&self) -> bool {
        matches!(self.planned.plan.edits, Edits::PerRow { .. })
    }

    /// How many sessions one attempt can be about.
    fn carried(&self) -> usize {
        match self.planned.plan.edits {
            Edits::Batch => 1,
            Edits::PerRow { batch } => batch,
        }
    }

    /// Whether one more wave may begin.
    pub(super) fn may_go_on(&mut self) -> bool {
        self.interrupted |= self.context.watch.interrupted();
        !self.interrupted && self.error.is_none() && !self.has_stopped()
    }

    /// Whether so many restarts have failed that the rollout stops.
    pub(super) fn has_stopped(&self) -> bool {
        self.failures >= self.input.policy.rollout.max_failures
    }

    /// The rows of the next wave: a canary for each model that needs one, else what is left, or a portion of that where the policy
    /// wants pauses.
    fn next_wave(&self) -> Vec<usize> {
        let rows = &self.planned.plan.rows;
        let canaries: Vec<usize> =
            (0..rows.len()).filter(|index| rows[*index].is_planned() && rows[*index].canary).collect();
        if !canaries.is_empty() {
            return canaries;
        }
        let rest = (0..rows.len()).filter(|index| rows[*index].is_planned());
        if self.input.policy.rollout.pause.is_zero() {
            return rest.collect();
        }
        let (is_per_row, at_once) = (self.is_per_row(), self.input.policy.sessions.parallel * self.carried());
        let mut sessions = 0;
        let is_in_portion = |index: &usize| {
            let row = &rows[*index];
            sessions += usize::from(row.restart || (is_per_row && row.edit));
            sessions <= at_once
        };
        rest.take_while(is_in_portion).collect()
    }

    /// The debts that are void also where an edit is not made.
    fn void_beside_the_edits(&self) -> Vec<String> {
        let plan = &self.planned.plan;
        let by_edits = plan.rows.iter().filter(|row| is_back_by_edit(plan, row));
        let by_edits: BTreeSet<&str> = by_edits.map(|row| row.chat.id.as_ref()).collect();
        plan.void.keys().filter(|chat| !by_edits.contains(chat.as_str())).cloned().collect()
    }

    /// Commits the edits of a batch with what will be owed for them, and what is to be remembered beside them.
    pub(super) fn commit(&mut self, wave: &[usize], notes: Beside) -> Result<Progress> {
        let beside = if notes == Beside::Notes { self.void_beside_the_edits() } else { Vec::new() };
        let is_batch = !self.is_per_row();
        let Planned { plan, reading } = &mut self.planned;
        let latest = self.latest.as_ref();
        let reading = latest.map_or(&*reading, |latest| &latest.reading);
        let place = |index: &usize| latest.and_then(|latest| latest.places.get(index)).copied();
        let rows: Vec<&Row> = wave.iter().map(|index| &plan.rows[*index]).collect();
        let edited = wave.iter().filter(|index| is_batch && plan.rows[**index].edit);
        let mut void: BTreeSet<&str> = beside.iter().map(String::as_str).collect();
        void.extend(rows.iter().filter(|row| is_back_by_edit(plan, row)).map(|row| row.chat.id.as_ref()));
        let mut batch = Batch {
            changes: edited.map(|index| change(&plan.rows[*index], place(index))).collect(),
            notes: if notes == Beside::Notes { notes_beside_edits(plan) } else { Vec::new() },
            void: void.into_iter().collect(),
            now: self.input.now.timestamp(),
        };
        batch.notes.extend(rows.iter().flat_map(|row| notes_before(row, plan.edits)));
        if self.input.policy.existing.keeps_manual() {
            batch.notes.extend(rows.iter().filter_map(|row| wrote(row)));
        }
        let told: Vec<JsonRow> = rows.iter().filter(|row| is_batch && row.edit).map(|row| as_edited(row)).collect();
        if let Some(record) = &self.record {
            batch.notes.extend(told.iter().map(|row| Note::Edits { record, row }));
        }
        if self.context.locked.confirms_commits() {
            let edited = rows.iter().filter(|row| row.edit);
            batch.notes.extend(edited.filter_map(|row| confirmed(row)));
        }
        let error = match self.context.locked.commit(reading, &batch)? {
            Committed::Done { error } => error,
            Committed::Stale => return Ok(Progress::PlanAgain),
            Committed::NotTaken(outcomes) => {
                self.take_out(wave, |chat| outcomes.get(chat));
                return Ok(Progress::WithoutSome);
            }
            Committed::Blocked(outcome) => {
                let is_left = |row: &Row| row.edit && !row.effects.edited;
                let edits: Vec<usize> = (0..plan.rows.len()).filter(|index| is_left(&plan.rows[*index])).collect();
                self.take_out(&edits, |_| Some(&outcome));
                return Ok(Progress::WithoutSome);
            }
        };
        self.context.watch.step(Step::Committed(batch.changes.len()));
        let void: Vec<String> = batch.void.iter().map(|chat| (*chat).to_owned()).collect();
        if error.is_some() {
            // With an error it is not certain that these debts were struck, so they count as owed.
            plan.void.retain(|chat, _| !void.contains(chat));
        }
        self.error = error;
        let Plan { rows, reset, edits, .. } = plan;
        if notes == Beside::Notes {
            rows.iter_mut().filter(|row| is_forgotten(*edits, reset, row)).for_each(|row| row.effects.owes = true);
        }
        for index in wave {
            let row = &mut rows[*index];
            row.effects.edited |= is_batch && row.edit;
            if !row.restart && (is_batch || !row.edit) {
                row.outcome.verdict = Verdict::Done;
            }
        }
        Ok(Progress::Converge)
    }

    /// Takes those of these rows out of the rollout that get an outcome: they cannot be edited. Another row is the canary of a
    /// model then.
    fn take_out<'o>(&mut self, rows: &[usize], outcome: impl Fn(&str) -> Option<&'o Outcome>) {
        let Planned { plan, reading } = &mut self.planned;
        let reading = self.latest.as_ref().map_or(&*reading, |latest| &latest.reading);
        let mut taken_out = Vec::new();
        for index in rows {
            let row = &mut plan.rows[*index];
            if let Some(outcome) = outcome(&row.chat.id).filter(|_| row.is_planned()) {
                row.outcome = outcome.clone();
                keep_debt(row, &mut plan.void, reading);
                taken_out.push(*index);
            }
        }
        self.judge(&taken_out, &BTreeMap::new());
    }

    /// Makes the sessions of a wave run on their models, and records the outcome in the plan. Returns the attempts, by row.
    fn converge(&mut self, wave: &[usize]) -> BTreeMap<usize, Attempt> {
        let todo = self.rows_to_converge(wave);
        let ended = if self.error.is_some() { Ended::default() } else { self.workers().converge(&todo) };
        let Ended { mut attempts, mut left, interrupted, error, failures, worked, .. } = ended;
        self.error = self.error.take().or(error);
        self.interrupted |= interrupted;
        self.failures += failures;
        self.worked.extend(worked);
        let unbegun = self.why_not_begun();
        let is_per_row = self.is_per_row();
        for index in todo {
            let row = &mut self.planned.plan.rows[index];
            let attempt = attempts.entry(index).or_insert(Attempt::NotBegun);
            row.outcome = outcome(attempt, row.remark.as_deref(), &unbegun);
            row.effects.restarted = *attempt == Attempt::Changed && row.restart;
            let has_changed = matches!(attempt, Attempt::Changed | Attempt::Unhealthy(_));
            row.effects.edited |= has_changed && row.edit && is_per_row;
            row.effects.owes = match left.remove(&index) {
                Some(None) => false,
                Some(Some(debt)) => {
                    row.owed.iter_mut().for_each(|owed| owed.clone_from(&debt));
                    true
                }
                // Of edits that go per row, those that were not asked for owe nothing new.
                None if is_per_row => row.owed.is_some() || (row.restart && row.outcome.verdict != Verdict::Deferred),
                None => true,
            };
        }
        attempts
    }

    /// Why a row was not begun.
    fn why_not_begun(&self) -> Outcome {
        let why = if self.interrupted {
            "interrupted".to_owned()
        } else if self.error.is_none() && self.has_stopped() {
            let failures = if self.failures == 1 { "failure" } else { "failures" };
            format!("rollout stopped after {} {failures}", self.failures)
        } else {
            "the run ended before its turn".to_owned()
        };
        Outcome::because(Verdict::Deferred, why)
    }

    /// The rows whose sessions are to be changed; those that are waited for come last.
    fn rows_to_converge(&self, wave: &[usize]) -> Vec<usize> {
        let rows = &self.planned.plan.rows;
        let is_per_row = self.is_per_row();
        let is_due = |row: &Row| row.is_planned() && (row.restart || (is_per_row && row.edit));
        let mut todo: Vec<usize> = wave.iter().copied().filter(|index| is_due(&rows[*index])).collect();
        todo.sort_by_key(|index| rows[*index].standing == Standing::Busy);
        todo
    }

    pub(super) fn workers(&self) -> Workers<'_> {
        Workers {
            rows: &self.planned.plan.rows,
            locked: self.context.locked,
            watch: self.context.watch,
            start: self.input.now.timestamp(),
            parallel: self.input.policy.sessions.parallel,
            batch: self.carried(),
            failures_left: self.input.policy.rollout.max_failures.saturating_sub(self.failures),
            worked: &self.worked,
            record: self.record.as_ref(),
            purpose: Purpose::Rollout,
        }
    }

    /// Judges models by their canaries. Where one failed, no other session gets its model in this run. Where one says
    /// nothing of its model, such as a session that was found stopped, the next row is the canary. A model that has failed
    /// before is tried on no other session.
    fn judge(&mut self, wave: &[usize], attempts: &BTreeMap<usize, Attempt>) {
        let Planned { plan: Plan { rows, .. }, reading } = &mut self.planned;
        for index in wave {
            let Row { canary: true, after: Some(model), chat, .. } = &rows[*index] else { continue };
            let (model, chat) = (model.clone(), chat.id.clone());
            let has_failed = reading.ledger.trials.get(&model) == Some(&Trial::Failed);
            let mut others = rows.iter_mut().filter(|other| other.is_planned() && other.after.as_ref() == Some(&model));
            let why = match attempts.get(index).map_or(Proof::Nothing, Attempt::proof) {
                Proof::Works => continue,
                Proof::Fails => format!("canary failed: {model} did not come up on {chat}"),
                Proof::Nothing if has_failed => {
                    format!("{model} has failed before, and could not be tried again on {chat}")
                }
                Proof::Nothing => {
                    others.find(|other| other.restart).into_iter().for_each(|next| next.canary = true);
                    continue;
                }
            };
            others.for_each(|other| other.outcome = Outcome::because(Verdict::Deferred, why.clone()));
        }
    }

    /// Plans again, for the rows of a wave: this run has changed the registry since. A row that is no longer what the user was
    /// shown is left to the next run.
    fn plan_again(&mut self, wave: &[usize]) -> Result<()> {
        let rows = &self.planned.plan.rows;
        let chats: BTreeSet<&str> = wave.iter().map(|index| rows[*index].chat.id.as_ref()).collect();
        let Planned { plan: fresh, reading } = plan_of(&chats, self.input, self.context.backend)?;
        let Plan { rows, void: fresh_void, .. } = fresh;
        let mut fresh: BTreeMap<String, Row> =
            rows.into_iter().map(|row| (row.chat.id.clone().into_owned(), row)).collect();
        let mut places = BTreeMap::new();
        let Plan { rows, void, .. } = &mut self.planned.plan;
        for index in wave {
            let row = &mut rows[*index];
            // Its session may have been started since, so that the edit no longer makes its debt void.
            void.remove(row.chat.id.as_ref());
            void.extend(fresh_void.get_key_value(row.chat.id.as_ref()).map(|(chat, why)| (chat.clone(), *why)));
            let now = fresh.remove(row.chat.id.as_ref());
            let now = now.filter(|now| (&now.before, &now.after, now.edit) == (&row.before, &row.after, row.edit));
            match now {
                Some(now) if now.is_planned() => {
                    places.insert(*index, now.at);
                    *row = Row { canary: row.canary, at: row.at, ..now };
                }
                Some(now) => *row = Row { at: row.at, ..now },
                None => row.outcome = Outcome::because(Verdict::Deferred, "its entry was changed meanwhile"),
            }
        }
        self.latest = Some(Latest { reading, places });
        Ok(())
    }

    /// Gives the rows that had no turn an outcome with the reason. Debts that their edits would have made void are still owed.
    pub(super) fn leave_the_rest(&mut self) {
        let unbegun = self.why_not_begun();
        let Planned { plan, reading } = &mut self.planned;
        let reading = self.latest.as_ref().map_or(&*reading, |latest| &latest.reading);
        leave(plan, &unbegun);
        for row in plan.rows.iter_mut().filter(|row| row.outcome.verdict == Verdict::Deferred && !row.effects.edited) {
            keep_debt(row, &mut plan.void, reading);
        }
    }
}

/// Keeps a debt that the edit of its row would have made void: the edit is not made.
fn keep_debt(row: &mut Row, void: &mut BTreeMap<String, Void>, reading: &Reading) {
    let chat = row.chat.id.as_ref();
    if void.get(chat) == Some(&Void::Back) {
        void.remove(chat);
        row.owed = reading.ledger.owed.get(chat).cloned();
        row.effects.owes = row.owed.is_some();
    }
}

/// Whether what is to be remembered beside the edits is noted with a commit: it is with the first of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Notes,
    Nothing,
}

/// Whether a debt is void once the edit of this row is made: the session runs what the registry says then.
fn is_back_by_edit(plan: &Plan, row: &Row) -> bool {
    row.is_planned() && row.edit && plan.void.get(row.chat.id.as_ref()) == Some(&Void::Back)
}

/// The outcome of a row after an attempt. `remark` tells what else the attempted change does.
fn outcome(attempt: &Attempt, remark: Option<&str>, unbegun: &Outcome) -> Outcome {
    match attempt {
        Attempt::Changed => Outcome { detail: remark.map(str::to_owned), ..Outcome::plain(Verdict::Done) },
        Attempt::NotNeeded(detail) => Outcome::because(Verdict::Done, detail),
        Attempt::Failed(detail)
        | Attempt::Refused(detail)
        | Attempt::Unhealthy(detail)
        | Attempt::StillDown(detail) => Outcome::because(Verdict::Failed, detail),
        Attempt::Unknown(detail) => Outcome::because(Verdict::Unknown, detail),
        Attempt::Deferred(detail) | Attempt::Unavailable(detail) | Attempt::NotSent(detail) => {
            Outcome::because(Verdict::Deferred, detail)
        }
        Attempt::NotBegun => unbegun.clone(),
    }
}

/// The edit of a row, whose entry is at a place of its own where the registry was read again.
fn change(row: &Row, place: Option<Position>) -> Change<'_> {
    let planned_on = if row.owed.is_some() { PlannedOn::Debt } else { PlannedOn::NoDebt };
    let owes = Owes { ran: row.runs.as_ref(), identity: None, planned_on };
    let chat = row.chat.id.as_ref();
    Change { chat, at: place.unwrap_or(row.at), after: row.after.as_ref(), owes: row.restart.then_some(owes) }
}

/// A row as the history tells of it where the run ends right after the edit.
fn as_edited(row: &Row) -> JsonRow<'_> {
    let verdict = if row.restart { Verdict::Deferred } else { Verdict::Done };
    JsonRow { outcome: verdict.name().into(), owed: row.restart, ..JsonRow::recorded(row) }
}
