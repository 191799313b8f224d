//! A list of chats, for people and for programs.

use std::io;

use anstyle::{AnsiColor, Style};
use jiff::Zoned;
use serde::Serialize;

use crate::chat::Model;
use crate::plan::json::JsonBecause;
use crate::plan::listing::{Listed, Listing, State};
use crate::redact::Shown;
use crate::report::TextOrJson;
use crate::report::page::{Cell, Page, TableRow, Width, fits};
use crate::report::text::{colour, counted, time};

/// The chats to list, and what a list of them needs besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<'a> {
    /// The policy's name, as the user would write it.
    pub(crate) policy: &'a str,
    /// The registry's name, as the user would write it.
    pub(crate) registry: &'a str,
    /// The chats.
    pub(crate) listing: &'a Shown<Listing>,
    /// The time.
    pub(crate) now: &'a Zoned,
    /// How much room a line of text has.
    pub(crate) width: Width,
}

/// By which names a row calls its chat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// By its session's name, and its contact's.
    Both,
    /// By its contact's name, else its session's.
    One,
}

#[derive(Serialize)]
struct Wire<'a> {
    format_version: &'static str,
    complete: bool,
    sessions: usize,
    chats: Vec<WireChat<'a>>,
}

#[derive(Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the report")]
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
    model: Option<&'a str>,
    wanted: Option<&'a str>,
    because: JsonBecause<'a>,
    managed: bool,
    set_by_hand: bool,
    differs: bool,
    owed: bool,
    held: bool,
    refused: bool,
    failed: bool,
}

impl List<'_> {
    /// Writes the list.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn write(&self, format: TextOrJson, page: &mut Page) -> io::Result<()> {
        match format {
            TextOrJson::Text => self.text(page),
            TextOrJson::Json => self.json(page),
        }
    }

    /// Holds no times.
    fn json(&self, page: &mut Page) -> io::Result<()> {
        let Listing { chats, sessions, complete } = &**self.listing;
        let chats = chats.iter().map(wire).collect();
        page.json(&Wire { format_version: "1.0", complete: *complete, sessions: *sessions, chats })
    }

    fn text(&self, page: &mut Page) -> io::Result<()> {
        let Listing { chats, sessions, complete } = &**self.listing;
        let selected = format!(" · {} selected", chats.len());
        let selected = if *complete { "" } else { &selected };
        let head = format!("{} · {} in {}{selected}", self.policy, counted(*sessions, "session"), self.registry);
        page.line(&head, self.width)?;
        page.own("")?;
        if !chats.is_empty() {
            let whole = self.rows(Names::Both);
            let rows = if fits(&whole, self.width) { whole } else { self.rows(Names::One) };
            page.rows(&rows, self.width)?;
            page.own("")?;
        }
        page.line(&self.summary(), self.width)
    }

    /// The titles, and a row for each chat.
    fn rows(&self, names: Names) -> Vec<TableRow> {
        let titles: &[&str] = match names {
            Names::Both => &["session", "contact"],
            Names::One => &["chat"],
        };
        let titles = titles.iter().chain(&["tier", "model", "decided by", "state"]);
        let title = TableRow::new(Cell::plain(" "), titles.map(|title| Cell::plain(*title)));
        let rows = self.listing.chats.iter().map(|chat| self.row(chat, names));
        [title].into_iter().chain(rows).collect()
    }

    fn row(&self, listed: &Listed, names: Names) -> TableRow {
        let Listed { chat, model, wanted, because, states, .. } = listed;
        let name = |model: &Option<Model>| model.as_ref().map_or("(none)", Model::as_str).to_owned();
        let models = if states.contains(&State::Differs) {
            let old = Cell::default().and(colour(AnsiColor::Red), name(model));
            old.and(Style::new(), " → ").and(colour(AnsiColor::Green), name(wanted))
        } else {
            Cell::plain(name(model))
        };
        let (mark, style) = match states.first() {
            None => (' ', Style::new()),
            Some(State::SetByHand | State::Unmanaged) => ('!', Style::new()),
            Some(State::Held | State::Refused | State::Failed) => ('!', colour(AnsiColor::Red)),
            Some(State::Owed) => ('^', colour(AnsiColor::Cyan)),
            Some(State::Differs) => ('~', colour(AnsiColor::Yellow)),
        };
        let (label, contact) = (chat.label(), chat.contact_name.as_deref().filter(|name| !name.is_empty()));
        let names = match names {
            Names::Both => vec![label, contact.unwrap_or("-")],
            Names::One => vec![contact.unwrap_or(label)],
        };
        let tier = chat.tier.as_deref().or(chat.kind.as_deref()).unwrap_or("-");
        let texts = names.into_iter().chain([tier]).map(Cell::plain);
        // Which chat an override is for, its row says.
        let rule = if because.rule.starts_with("chats.") { "override" } else { &because.rule };
        let ends = [Cell::plain(rule), Cell::plain(self.words(listed))];
        TableRow::new(Cell::default().and(style, mark), texts.chain([models]).chain(ends))
    }

    /// The states of a chat, in words.
    fn words(&self, listed: &Listed) -> String {
        let word = |state: &State| match (state, listed.owed_since) {
            (State::Owed, Some(since)) => format!("restart owed since {}", time(since, self.now)),
            (state, _) => state.name().to_owned(),
        };
        let words: Vec<String> = listed.states.iter().map(word).collect();
        if words.is_empty() { "in sync".to_owned() } else { words.join(", ") }
    }

    /// How many chats are in each state; of several, the first counts.
    fn summary(&self) -> String {
        let chats = &self.listing.chats;
        let count = |state: Option<State>| chats.iter().filter(|chat| chat.states.first() == state.as_ref()).count();
        let others = SUMMARIZED.iter().map(|state| (count(Some(*state)), *state)).filter(|(count, _)| *count > 0);
        let others: String = others.map(|(count, state)| format!(", {count} {}", plural(count, state))).collect();
        format!("{}: {} in sync{others}.", counted(chats.len(), "chat"), count(None))
    }
}

/// The states in the order of the summary.
const SUMMARIZED: [State; 7] =
    [State::Differs, State::Owed, State::Failed, State::Held, State::Refused, State::SetByHand, State::Unmanaged];

fn plural(count: usize, state: State) -> &'static str {
    if count > 1 && state == State::Differs { "differ" } else { state.name() }
}

fn wire(listed: &Listed) -> WireChat<'_> {
    let Listed { chat, model, wanted, because, states, .. } = listed;
    WireChat {
        chat_id: &chat.id,
        session_name: chat.session_name.as_deref(),
        contact_name: chat.contact_name.as_deref(),
        tier: chat.tier.as_deref(),
        r#type: chat.kind.as_deref(),
        source: chat.source.as_deref(),
        agent: chat.agent.as_deref(),
        account: chat.account.as_deref(),
        model: model.as_ref().map(Model::as_str),
        wanted: wanted.as_ref().map(Model::as_str),
        because: JsonBecause::shown(because),
        managed: !states.contains(&State::Unmanaged) && !states.contains(&State::SetByHand),
        set_by_hand: states.contains(&State::SetByHand),
        differs: states.contains(&State::Differs),
        owed: states.contains(&State::Owed),
        held: states.contains(&State::Held),
        refused: states.contains(&State::Refused),
        failed: states.contains(&State::Failed),
    }
}
