//! What is shown of a run that has ended: the report, what a user should know beyond it, and the metrics.

use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::apply::Planned;
use crate::backend::capabilities;
use crate::cli::exit::Exit;
use crate::cli::outputs::Outputs;
use crate::cli::run::metrics::{self, Ended, Success};
use crate::cli::run::options::RunOptions;
use crate::cli::run::quiet::Quiet;
use crate::cli::run::unshared;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::Opened;
use crate::diagnostic::may_hold_password;
use crate::error::{Error, Result};
use crate::foreign::{Foreign, Public, sentence};
use crate::plan::capabilities::{Capabilities, TakesEffect};
use crate::plan::{Plan, Refusal, Row, Verdict};
use crate::report::shown::Naming;
use crate::report::{self, Mode, Report, failed_model, has_failures, refusal, standing_faults, voided};
use crate::withdrawn::Withdrawal;

/// How a run has ended.
pub(crate) struct End<'l> {
    pub(crate) mode: Mode,
    pub(crate) planned: Planned,
    pub(crate) exit: Exit,
    /// What went wrong after its first effect.
    pub(crate) error: Option<Error>,
    /// Whether it was asked to end before it was done.
    pub(crate) interrupted: bool,
    /// What quiet runs have told before, where this is one.
    pub(crate) quiet: Option<Quiet<'l>>,
}

impl End<'_> {
    /// Shows it, and returns the exit code that it comes to.
    pub(crate) fn show(
        self,
        terminal: &Terminal,
        options: &RunOptions,
        outputs: Outputs,
        opened: &Opened,
        now: &Zoned,
    ) -> Exit {
        let Self { mode, planned: Planned { plan, reading }, exit, error, interrupted, quiet } = self;
        let (plan, snapshot) = (opened.names.shown(plan), reading.snapshot.as_ref());
        let plan = &plan;
        // The policy may be of another zone than the people who read the report.
        let shown_now = &now.with_time_zone(TimeZone::system());
        let (policy, registry) = (opened.policy_name.raw(), opened.registry_name(snapshot));
        let width = terminal.width();
        let report = Report { policy, snapshot, registry, plan, mode, now: shown_now, width };
        let has_failed = interrupted || error.is_some() || has_failures(plan);
        let faults = standing_faults(plan, &terminal.held_warnings());
        let news = quiet.as_ref().map(|quiet| quiet.news(plan, &faults, now.timestamp()));
        let has_news = match &news {
            Some(news) => has_failed || news.is_any(),
            None => exit != Exit::Done,
        };
        let is_eventful = plan.refused.is_none() && (plan.is_eventful() || plan.rows.iter().any(Row::is_planned));
        let silent = options.quiet && !has_news && !is_eventful;
        if !silent {
            terminal.release();
        }
        let shown = if silent { Ok(()) } else { print(terminal, options, &report) };
        let shown = shown.and_then(|()| outputs.write(&report));
        for over in news.iter().flat_map(|news| &news.over) {
            // A run that told names may have remembered it.
            terminal.note(sentence!("resolved: {}", Foreign::from(over.as_str())));
        }
        let remembered = match quiet {
            Some(quiet) if !silent && shown.is_ok() => quiet.remember(plan, &faults, now.timestamp()),
            _ => Ok(()),
        };
        tell(terminal, plan, capabilities(&opened.policy).as_ref(), mode, shown_now);
        unshared::tell(terminal, opened, snapshot, &plan.unshared);
        for withdrawal in &plan.withdrawals {
            tell_withdrawal(terminal, opened, withdrawal, now);
        }
        if mode == Mode::DryRun && options.can_name_the_plan() && is_applicable(plan) {
            terminal.hint(sentence!("to apply this plan or nothing, pass --plan {}", of_shown(&plan.id)));
        }
        let came_to = exit;
        let edited = options.edits.any_made();
        if edited && exit == Exit::Refused {
            options.edits.tell_alone(terminal);
        }
        // Another process changed the registry after the plan was found not to be refused.
        let exit = if edited && exit == Exit::Refused { Exit::Partly } else { exit };
        // A debt that is void was struck.
        let changed = edited || (mode == Mode::Apply && plan.refused.is_none() && plan.is_eventful());
        let mut so_far = SoFar { terminal, exit, changed };
        for error in error.into_iter().chain(shown.err()).chain(remembered.err()) {
            so_far.fail(&error);
        }
        let Some(path) = options.metrics else { return so_far.exit };
        let is_success = mode == Mode::Apply && plan.refused.is_none() && !has_failed && so_far.exit == came_to;
        let success = if is_success { Success::Yes } else { Success::No };
        let (label, ended) = (opened.metrics_label(snapshot), Ended { plan, success });
        if let Err(error) = metrics::write(path, &label, now.timestamp(), so_far.exit, Some(ended)) {
            so_far.fail(&error);
        }
        so_far.exit
    }
}

/// What a run comes to, as errors that show up after its last effect change it.
struct SoFar<'t> {
    terminal: &'t Terminal,
    exit: Exit,
    /// Whether it changed something.
    changed: bool,
}

impl SoFar<'_> {
    /// Tells an error, and lets it count for the exit code.
    fn fail(&mut self, error: &Error) {
        self.terminal.release();
        self.terminal.failure(error);
        self.exit = match self.exit {
            _ if !self.changed => Exit::Error,
            Exit::Done | Exit::Planned => Exit::Partly,
            exit => exit,
        };
    }
}

fn print(terminal: &Terminal, options: &RunOptions, report: &Report) -> Result<()> {
    terminal.to_stdout(|page| {
        for edit in options.edits.iter().filter(|_| options.dry_run && options.report.format.shows_policy()) {
            report::policy_diff(edit.name.shown().raw(), &edit.before, &edit.after, page)?;
        }
        report.write(options.report.format, page)
    })
}

/// Whether a plan has an id that is worth naming: it is made of edits, and a refused plan stays refused.
fn is_applicable(plan: &Plan) -> bool {
    plan.refused.is_none() && plan.rows.iter().any(|row| row.edit && row.is_planned())
}

fn tell_withdrawal(terminal: &Terminal, opened: &Opened, withdrawal: &Withdrawal, now: &Zoned) {
    let name = |chat: &str| opened.name(chat).raw().to_owned();
    // Which chats are the first tells something of the order of their ids.
    let effect = match opened.names.redaction() {
        None => withdrawal.effect(Some(&name)),
        Some(_) => withdrawal.effect(None),
    };
    // Of models, days and numbers, and of names where they may be told.
    terminal.warning(Public::new(format!("{}: {effect}", withdrawal.when(now))));
    if withdrawal.over_limit.is_some() && !withdrawal.has_begun {
        terminal
            .hint("change some of them earlier, or raise limits.max_changes; otherwise nothing is done on that day");
    }
}

/// What is said of a plan as it is shown: that has pseudonyms where names are hidden.
fn of_shown(text: &str) -> Public {
    Public::new(text.to_owned())
}

/// What a user should know beyond the rows.
fn tell(terminal: &Terminal, plan: &Plan, capabilities: &dyn Capabilities, mode: Mode, now: &Zoned) {
    for (chat, why) in plan.void.iter().filter(|_| plan.refused.is_none()) {
        terminal.note(of_shown(&voided(chat, *why)));
    }
    let edited = plan.rows.iter().any(|row| row.effects.edited);
    if mode == Mode::Apply && edited && capabilities.takes_effect() == TakesEffect::OnNextStart {
        terminal.note(
            "nothing was restarted: the policy has no restart command, so the new models take effect when the \
             sessions next start",
        );
    }
    let restarted = plan.rows.iter().any(|row| row.effects.restarted);
    if mode == Mode::Apply && restarted && !capabilities.verifies_restarts() {
        terminal.note(
            "restarts were not verified: the policy has no `running` command to ask whether the sessions came up",
        );
    }
    let acts =
        |row: &Row| row.effects.edited || row.effects.restarted || (row.is_planned() && (row.edit || row.restart));
    if let Some(remark) = plan.remark.as_ref().filter(|_| plan.rows.iter().any(acts)) {
        terminal.note(remark.clone());
    }
    if !plan.unlisted.is_empty() {
        let (count, chats) = (plan.unlisted.len(), of_shown(&plan.unlisted.join(", ")));
        let (sessions, are) = if count == 1 { ("session", "is") } else { ("sessions", "are") };
        terminal.note(sentence!("{} live {} {} not in the registry yet: {}", count, sessions, are, chats));
    }
    for failed in &plan.failed_models {
        terminal.note(of_shown(&failed_model(failed, now)));
    }
    if !plan.failed_models.is_empty() {
        terminal.hint("other chats wait until it comes up there; to try it at once, pass --retry CHAT");
    }
    if plan.rows.iter().any(|row| row.outcome.verdict == Verdict::Held) {
        terminal.note("held chats are left alone until the policy decides otherwise, or you pass --retry CHAT");
    }
    if plan.unseen > 0 {
        let chats = match plan.unseen {
            1 => "1 chat keeps its model".into(),
            many => sentence!("{} chats keep their models", many),
        };
        terminal.note(sentence!(
            "{} as if set by hand: no run has looked at the whole registry with existing = \"keep-manual\" before",
            chats
        ));
        terminal.hint("to put them under the policy, pass --take-over CHAT or --take-over-all");
    }
    tell_refusal(terminal, plan);
}

/// Why nothing of a plan may be done, and what the user can do about it.
fn tell_refusal(terminal: &Terminal, plan: &Plan) {
    let Some(message) = refusal(plan).as_deref().map(of_shown) else { return };
    match &plan.refused {
        Some(Refusal::OtherPlan { differences, is_of_some, .. }) => {
            let hint = match is_of_some {
                true => "that plan is for some chats only: pass the same --chat, --tier or --exclude",
                false => "review the plan as it is now: reconcile --dry-run; owed restarts are not part of a plan",
            };
            terminal.refused(message, hint);
            for difference in differences {
                terminal.note(of_shown(difference));
            }
        }
        Some(Refusal::Limit { changes, .. }) => {
            // What was typed may name a person, and --connect may hold a password.
            let hidden = || format!("--allow-changes {changes}");
            let typed = same_command(*changes);
            let is_secret = terminal.naming() == Naming::Hidden || may_hold_password(&typed);
            // It has nothing that was typed where names are hidden.
            let consent = Public::new(if is_secret { hidden() } else { typed });
            terminal.refused(message, sentence!("to allow so many changes, pass: {}", consent));
        }
        Some(Refusal::OlderPolicy { .. }) => {
            let hint = "update this checkout; to go back to an earlier policy, commit a revert, which is newer";
            terminal.refused(message, hint);
        }
        None => {}
    }
}

/// The command that the user typed, with consent to so many changes: to that and not to more.
fn same_command(changes: usize) -> String {
    let mut words = vec!["reconcile".to_owned()];
    let mut options = None;
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        if options.is_none() && argument == "--allow-changes" {
            arguments.next();
        } else if options.is_some() || !argument.starts_with("--allow-changes=") {
            // After it nothing is an option.
            if argument == "--" {
                options.get_or_insert(words.len());
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,/:@%".contains(c);
            let quoted = || format!("'{}'", argument.replace('\'', r"'\''"));
            let is_plain = argument.chars().all(plain) && !argument.is_empty();
            words.push(if is_plain { argument } else { quoted() });
        }
    }
    words.insert(options.unwrap_or(words.len()), format!("--allow-changes {changes}"));
    words.join(" ")
}
