//! Laws of reading and editing, on random registries in random layouts.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::select;
use reconcile::backend::capabilities;
use reconcile::chat::Model;
use reconcile::form::Form;
use reconcile::plan::ledger::Ledger;
use reconcile::plan::observed::Observed;
use reconcile::plan::select::Selector;
use reconcile::plan::{Limits, Plan, PlanInput, Reading, Row, drift, predict};
use reconcile::policy::{self, Policy, Source};
use reconcile::registry::Position;
use reconcile::registry::json::edit::{set_member, set_model};
use reconcile::registry::json::scan::scan;
use reconcile::splice::spliced;
use serde_json::Value;

use crate::lossless::{snapshot, splices};

/// JSON with its spelling.
#[derive(Clone, Debug)]
pub enum Node {
    Raw(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Clone, Debug)]
pub struct Session {
    pub id: String,
    members: Vec<(String, Node)>,
    /// Where its model stands among the members, and how both are spelt.
    model: Option<(usize, String, String)>,
}

/// What stands between the tokens.
#[derive(Clone, Debug)]
pub enum Layout {
    /// Nothing, or one blank after commas and colons.
    Line(&'static str),
    /// A line each: the line's end, one level of indentation, and what follows a colon.
    Tree(&'static str, &'static str, &'static str),
    /// Anything, from these.
    Wild(Vec<&'static str>),
}

/// Writes JSON, and notes where models and entries stand.
pub struct Writer<'l> {
    layout: &'l Layout,
    gaps: usize,
    pub text: String,
    pub models: Vec<Range<usize>>,
    pub entries: Vec<Range<usize>>,
}

impl Writer<'_> {
    /// A place where blanks may stand: inside a bracket, after a comma, before or after something in a line.
    fn gap(&mut self, line_start: Option<usize>, tight: &str) {
        match self.layout {
            Layout::Line(_) => self.text.push_str(tight),
            Layout::Tree(end, indent, _) => match line_start {
                Some(depth) => self.text.extend([*end, &indent.repeat(depth)]),
                None => self.text.push_str(tight),
            },
            Layout::Wild(blanks) => {
                self.text.push_str(blanks[self.gaps % blanks.len()]);
                self.gaps += 1;
            }
        }
    }

    fn colon(&mut self) {
        self.gap(None, "");
        self.text.push(':');
        let after = match self.layout {
            Layout::Line(blank) | Layout::Tree(_, _, blank) => blank,
            Layout::Wild(_) => "",
        };
        self.gap(None, after);
    }

    fn between(&mut self, first: bool, depth: usize) {
        if first {
            return self.gap(Some(depth), "");
        }
        self.gap(None, "");
        self.text.push(',');
        let after = if let Layout::Line(blank) = self.layout { blank } else { "" };
        self.gap(Some(depth), after);
    }

    fn close(&mut self, empty: bool, depth: usize, bracket: char) {
        self.gap(if empty { None } else { Some(depth) }, "");
        self.text.push(bracket);
    }

    fn node(&mut self, node: &Node, depth: usize) {
        match node {
            Node::Raw(text) => self.text.push_str(text),
            Node::Array(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.between(index == 0, depth + 1);
                    self.node(item, depth + 1);
                }
                self.close(items.is_empty(), depth, ']');
            }
            Node::Object(members) => {
                self.text.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    self.between(index == 0, depth + 1);
                    self.text.push_str(key);
                    self.colon();
                    self.node(value, depth + 1);
                }
                self.close(members.is_empty(), depth, '}');
            }
        }
    }

    fn session(&mut self, session: &Session) {
        let start = self.text.len();
        let mut members: Vec<(&str, &Node)> = session.members.iter().map(|(key, node)| (key.as_str(), node)).collect();
        let model = session.model.as_ref().map(|(at, key, value)| (*at, key, Node::Raw(value.clone())));
        if let Some((at, key, value)) = &model {
            members.insert((*at).min(members.len()), (key, value));
        }
        self.text.push('{');
        for (index, (key, value)) in members.iter().enumerate() {
            self.between(index == 0, 2);
            self.text.push_str(key);
            self.colon();
            let value_start = self.text.len();
            self.node(value, 2);
            if model.as_ref().is_some_and(|(_, name, _)| name.as_str() == *key) {
                self.models.push(value_start..self.text.len());
            }
        }
        self.close(members.is_empty(), 1, '}');
        self.entries.push(start..self.text.len());
    }
}

pub fn write<'l>(sessions: &[Session], layout: &'l Layout) -> Writer<'l> {
    let mut writer = Writer { layout, gaps: 0, text: String::new(), models: Vec::new(), entries: Vec::new() };
    writer.text.push('{');
    for (index, session) in sessions.iter().enumerate() {
        writer.between(index == 0, 1);
        writer.text.push_str(&session.id);
        writer.colon();
        writer.session(session);
    }
    writer.close(sessions.is_empty(), 0, '}');
    writer
}

/// A key, its nodes, its model and its tier, not yet told from others.
type Draft =
    (&'static str, Vec<(&'static str, Node)>, Option<(usize, &'static str, &'static str)>, Option<&'static str>);

fn strings() -> impl Strategy<Value = &'static str> {
    select(vec![
        "",
        "x",
        r"\n",
        r#"\""#,
        r"\\",
        r"\u0041",
        r"\ud83d\ude00",
        "日本",
        "é",
        "\u{202e}",
        "}, {",
        ":",
        "\u{7f}",
        r#"\"model\": \"x\""#,
        "haiku",
    ])
}

fn nodes() -> impl Strategy<Value = Node> {
    let scalars = select(vec!["null", "true", "false", "0", "-1.50", "1e3", "12345678901234567890"]);
    let raw = prop_oneof![scalars.prop_map(str::to_owned), strings().prop_map(|text| format!("\"{text}\""))];
    raw.prop_map(Node::Raw).prop_recursive(3, 12, 3, |inner| {
        let objects = prop::collection::vec((strings(), inner.clone()), 0..3).prop_map(|members| {
            let key = |(index, (text, node)): (usize, (&str, Node))| match index {
                0 => ("\"model\"".to_owned(), node),
                _ => (format!("\"{text}{index}\""), node),
            };
            Node::Object(members.into_iter().enumerate().map(key).collect())
        });
        prop_oneof![prop::collection::vec(inner, 0..3).prop_map(Node::Array), objects]
    })
}

pub fn sessions() -> impl Strategy<Value = Vec<Session>> {
    let key = select(vec![r#""model""#, r#""mod\u0065l""#, r#""\u006dodel""#]);
    let value = select(vec!["null", r#""""#, r#""opus""#, r#""\u006fpus""#, r#""haiku""#, r#""son\"net""#]);
    let model = prop::option::of((0..5_usize, key, value));
    let tier = prop::option::of(select(vec![r#""admin""#, r#""family""#, r#""other""#, r#""""#, "null"]));
    let session = (strings(), prop::collection::vec((strings(), nodes()), 0..4), model, tier);
    prop::collection::vec(session, 0..6).prop_map(|sessions| {
        let session = |(number, (id, members, model, tier)): (usize, Draft)| {
            let other = |(index, (text, node)): (usize, (&str, Node))| (format!("\"{text}{index}\""), node);
            let mut members: Vec<(String, Node)> = members.into_iter().enumerate().map(other).collect();
            members.extend(tier.map(|tier| ("\"tier\"".to_owned(), Node::Raw(tier.to_owned()))));
            let model = model.map(|(at, key, value)| (at, key.to_owned(), value.to_owned()));
            Session { id: format!("\"{id}{number}\""), members, model }
        };
        sessions.into_iter().enumerate().map(session).collect()
    })
}

pub fn regular() -> impl Strategy<Value = Layout> {
    let tree = (select(vec!["\n", "\r\n"]), select(vec!["  ", "    ", "\t", " "]), select(vec![" ", ""]));
    prop_oneof![
        select(vec!["", " "]).prop_map(Layout::Line),
        tree.prop_map(|(end, indent, blank)| Layout::Tree(end, indent, blank)),
    ]
}

pub fn wild() -> impl Strategy<Value = Layout> {
    prop::collection::vec(select(vec!["", "", " ", "\n", "\t", "\r\n  ", "   "]), 1..40).prop_map(Layout::Wild)
}

fn is_opus(session: &Session) -> bool {
    session.model.as_ref().is_some_and(|(_, _, value)| value.ends_with("pus\""))
}

fn plan(policy: &Policy, text: &str) -> Plan {
    let (now, selector) = ("2026-01-01T00:00:00[UTC]".parse().unwrap(), Selector::default());
    let (capabilities, limits) = (capabilities(policy), Limits::default());
    let input = PlanInput { policy, capabilities: capabilities.as_ref(), now: &now, selector: &selector, limits };
    let (ledger, doubtful) = (Ledger::default(), BTreeSet::new());
    let reading = Reading { snapshot: Box::new(snapshot(text)), ledger, doubtful, imposed: None };
    let drift = drift(&input, &reading).unwrap();
    predict(&input, &reading, drift, Observed::default())
}

/// Everything about the rows but where their entries stand.
fn rows(plan: &Plan) -> Vec<String> {
    let row = |row: &Row| format!("{:?}", Row { at: Position::default(), ..row.clone() });
    plan.rows.iter().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_edited_registry_is_what_its_writer_would_have_written(sessions in sessions(), layout in regular()) {
        let before = write(&sessions, &layout).text;
        let mut wanted = sessions.clone();
        for session in wanted.iter_mut().filter(|session| !is_opus(session)) {
            match &mut session.model {
                Some((_, _, value)) => *value = "\"opus\"".to_owned(),
                None => session.model = Some((usize::MAX, "\"model\"".to_owned(), "\"opus\"".to_owned())),
            }
        }
        let after: String = spliced(&before, &splices(&before)).collect();
        prop_assert_eq!(after, write(&wanted, &layout).text);
    }

    #[test]
    fn whatever_the_layout_only_models_change(sessions in sessions(), layout in wild()) {
        let before = write(&sessions, &layout);
        let splices = splices(&before.text);
        prop_assert_eq!(splices.len(), sessions.iter().filter(|session| !is_opus(session)).count());
        for splice in &splices {
            let replaces = before.models.contains(&splice.range);
            let adds = splice.range.is_empty()
                && before.entries.iter().any(|entry| entry.start < splice.range.start && splice.range.end < entry.end);
            prop_assert!(replaces || adds, "{splice:?} in {}", before.text);
        }

        let after: String = spliced(&before.text, &splices).collect();
        // Without what was taken out and put in, both are the same.
        let (mut old, mut new, mut grown) = (before.text.clone(), after.clone(), 0_isize);
        for splice in splices.iter().rev() {
            old.replace_range(splice.range.clone(), "");
        }
        for splice in &splices {
            // What was put in before is taken out already; what was taken out before is not there either.
            let at = splice.range.start.checked_add_signed(grown).unwrap();
            prop_assert!(new[at..].starts_with(&splice.text));
            new.replace_range(at..at + splice.text.len(), "");
            grown -= isize::try_from(splice.range.len()).unwrap();
        }
        prop_assert_eq!(old, new);

        let mut wanted: Value = serde_json::from_str(&before.text).unwrap();
        for entry in wanted.as_object_mut().unwrap().values_mut() {
            entry["model"] = "opus".into();
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), wanted);
    }

    #[test]
    fn taking_an_added_model_away_again_restores_every_byte(
        sessions in sessions(),
        layout in prop_oneof![regular(), wild()],
    ) {
        let before = write(&sessions, &layout).text;
        let opus = Model::new("opus").unwrap();
        let json = snapshot(&before);
        let mut places = Vec::new();
        scan(&json, |entry| places.push(entry.at)).unwrap();
        prop_assert_eq!(places.len(), sessions.len());
        for (place, entry) in places.into_iter().zip(write(&sessions, &layout).entries) {
            if set_member(&before, place, "model", "").is_some() {
                continue;
            }
            let added: String = spliced(&before, &[set_model(&before, &Form::ANY, place, Some(&opus)).unwrap()]).collect();
            prop_assert!(set_member(&added, place, "model", "").is_some());
            let removed: String = spliced(&added, &[set_model(&added, &Form::ANY, place, None).unwrap()]).collect();
            // An entry `{}` and one of a single line end look the same with a model, where the registry is not indented.
            let line = if before[..place.0].ends_with("\r\n") { "\r\n" } else { "\n" };
            let wanted = if &before[entry.clone()] == "{}" && before[..place.0].ends_with('\n') {
                format!("{}{{{line}}}{}", &before[..entry.start], &before[entry.end..])
            } else {
                before.clone()
            };
            prop_assert_eq!(removed, wanted);
        }
    }

    #[test]
    fn the_order_of_entries_never_changes_a_plan(
        (sessions, shuffled) in sessions().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        layout in wild(),
    ) {
        let text = "models = { allowed = ['opus', 'haiku'], fallback = 'opus' }\ntiers = { family = 'haiku' }\n\
                    registry = { path = 'x' }\nsessions = { restart = ['true'] }";
        let (policy, _) = policy::read(&[Source::new("policy.toml", text.to_owned())]).unwrap();
        let (one, other) = (plan(&policy, &write(&sessions, &layout).text), plan(&policy, &write(&shuffled, &layout).text));
        prop_assert_eq!(rows(&one), rows(&other));
        prop_assert_eq!(&one.id, &other.id);
        prop_assert_eq!(one.summary(), other.summary());
    }
}
