//! `reconcile explain`: what decides the model of one chat, and everything that lost.

use std::borrow::Cow;

use clap::Args;
use jiff::tz::TimeZone;

use crate::apply::Ask;
use crate::backend::Probe;
use crate::chat::Chat;
use crate::cli::args::{FieldArgs, Moment, PlaceArgs, moment};
use crate::cli::commands::problem::CommandProblem;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Opened, open, warn_of_lost_state};
use crate::error::Result;
use crate::foreign::{Foreign, sentence};
use crate::plan::json::JsonRow;
use crate::plan::last_applied::{Hint, Origin};
use crate::plan::select::{Selector, find_one, nearest};
use crate::plan::{Limits, PlanInput, drift};
use crate::redact::Shown;
use crate::registry::find_entry;
use crate::report::explain::{Explanation, Subject};
use crate::report::shown::Naming;
use crate::resolve::Current;

#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The chat: its id, session name or contact's name; for an unregistered chat, its id
    #[arg(value_name = "CHAT")]
    chat: String,

    #[command(flatten)]
    fields: FieldArgs,

    /// As of another time: 2026-12-31, 2026-12-31T18:00 (in the policy's time zone), with an offset, or a duration from
    /// now: 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Moment>,

    /// Output format: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = ["text", "json"])]
    format: String,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &ExplainArgs) -> anyhow::Result<Exit> {
    if args.chat.is_empty() {
        terminal.refused("the chat's id is empty", "see: reconcile explain --help");
        return Ok(Exit::Usage);
    }
    let opened = open(terminal, place)?;
    let backend = opened.backend(Probe::Nothing)?;
    let now = args.at.map_or_else(|| Ok(opened.now.clone()), |moment| moment.from(&opened.now))?;
    let Opened { policy, names, .. } = opened;
    let reading = backend.read(Ask::Everything)?;
    let snapshot = reading.snapshot.as_ref();
    let known = find_one(&args.chat, snapshot)?;
    let entry = known.as_deref().map(|chat| find_entry(snapshot, chat)).transpose()?.flatten();
    let existing = entry.as_ref().and_then(|entry| entry.model.clone());
    let origin = entry.as_ref().and_then(|entry| reading.ledger.origin(&policy, entry, &mut Hint::default()));
    let registered = entry.is_some();
    let new = || Chat { id: Cow::Borrowed(args.chat.as_str()), ..Chat::default() };
    let mut chat = entry.map_or_else(new, |entry| entry.chat);
    let assumed = fill(&mut chat, &args.fields)?;
    let assigned = policy.assignment(&chat).map(|assignment| assignment.because.clone());
    let chat = policy.with_tier(chat).into_owned();
    let is_known = registered || !assumed.is_empty() || policy.override_of(&chat.id).is_some();
    if !is_known && terminal.naming() == Naming::Plain {
        let (typed, registry) = (Foreign::from(format!("{:?}", args.chat)), Foreign::from(snapshot.name()));
        let near = nearest(&args.chat, snapshot)?.map(|near| Foreign::from(format!("{near:?}")));
        let near = near.map(|near| sentence!("; did you mean {}?", near)).unwrap_or_default();
        terminal.note(sentence!("no chat {} in {}: taken as the id of a new one{}", typed, registry, near));
    }

    let selector = Selector { chats: vec![chat.id.clone().into_owned()], ..Selector::default() };
    let capabilities = backend.capabilities();
    let limits = Limits::default();
    let input = PlanInput { policy: &policy, capabilities, now: &now, selector: &selector, limits };
    let drift = registered.then(|| drift(&input, &reading)).transpose()?;
    let is_change = |row: &JsonRow| row.chat_id == chat.id && row.edit;
    warn_of_lost_state(terminal, backend.as_ref())?;
    let history = if backend.lost_state()?.is_some() { None } else { Some(backend.history()?) };
    let last_change = history
        .into_iter()
        .flatten()
        .find(|run| run.as_ref().map_or(true, |run| run.changes.iter().any(is_change)))
        .transpose()?;
    let id = chat.id.clone().into_owned();
    let debt = reading.ledger.owed.get(&id);
    let row = drift.and_then(|drift| drift.rows.into_iter().next());
    // Under pseudonyms all is as it was, so the explanation is of that.
    let subject = Shown::under(names.redaction(), Subject { policy, chat, row, last_change });
    let explanation = Explanation {
        subject: &subject,
        capabilities,
        assumed: &assumed,
        assigned: assigned.as_ref(),
        registry: snapshot.name(),
        registered,
        existing: Current { model: existing.as_deref(), by_hand: origin.is_some_and(Origin::is_by_hand) },
        debt,
        failed: reading.ledger.failed.get(&id),
        now: &now,
        shown_now: &now.with_time_zone(TimeZone::system()),
    };
    terminal.to_stdout(|page| if args.format == "json" { explanation.json(page) } else { explanation.text(page) })?;
    Ok(Exit::Done)
}

/// Fills what the registry does not say, and returns the names of what was filled.
fn fill(chat: &mut Chat, args: &FieldArgs) -> Result<Vec<&'static str>> {
    let given = args.chat();
    let fields = [
        ("tier", given.tier, &mut chat.tier),
        ("session_name", given.session_name, &mut chat.session_name),
        ("contact_name", given.contact_name, &mut chat.contact_name),
        ("type", given.kind, &mut chat.kind),
        ("source", given.source, &mut chat.source),
    ];
    let mut filled = Vec::new();
    for (name, given, field) in fields {
        match (given, &field) {
            (given @ Some(_), None) => {
                *field = given;
                filled.push(name);
            }
            (Some(given), Some(said)) if given != *said => {
                let (said, given) = (format!("{said:?}").into(), format!("{given:?}").into());
                return Err(CommandProblem::OtherField { name, said, given }.into());
            }
            _ => {}
        }
    }
    Ok(filled)
}
