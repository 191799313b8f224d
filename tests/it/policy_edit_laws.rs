//! What holds for every edit of an override, in policies of all forms.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use reconcile::chat::Model;
use reconcile::policy::edit::{Wanted, set, set_all, unset};
use reconcile::policy::{Policy, Setting, Source, Until, read};

const IDS: [&str; 6] = ["+1", "a.b", "plain", "with \"quotes\"", "😀 #]", ""];

/// One override as it is written, and what is written around it.
#[derive(Clone, Debug)]
struct Entry {
    kind: u8,
    indent: &'static str,
    space: &'static str,
    comment: &'static str,
    above: &'static str,
}

/// A line, and whose override it is part of.
type Line = (String, Option<usize>);

/// A policy, as lines.
#[derive(Clone, Debug)]
struct Written {
    lines: Vec<Line>,
    chats: usize,
    bom: bool,
    crlf: bool,
    ended: bool,
}

impl Written {
    fn text(&self) -> String {
        let mut text: String = self.lines.iter().map(|(line, _)| format!("{line}\n")).collect();
        if !self.ended && !text.ends_with("\n\n") {
            text.pop();
        }
        if self.crlf {
            text = text.replace('\n', "\r\n");
        }
        if self.bom { format!("\u{feff}{text}") } else { text }
    }

    /// Every line but those of one override. A table on one line is left out: it is part of each.
    fn others(&self, chat: usize) -> Vec<&str> {
        let kept = self.lines.iter().filter(|(line, owner)| *owner != Some(chat) && !line.starts_with("chats = {"));
        kept.map(|(line, _)| line.as_str()).collect()
    }
}

fn quoted(id: &str) -> String {
    if id.contains('"') { format!("'{id}'") } else { format!("\"{id}\"") }
}

/// The values of one override, as keys of a table.
fn members(kind: u8) -> &'static [&'static str] {
    match kind % 4 {
        0 => &["model = \"haiku\""],
        1 => &["reason = \"r # } ]\"", "model = 'opus'"],
        2 => &["model = \"opus\"", "until = 2030-01-01T10:00:00Z", "reason = \"\"\"two\\n\"\"\""],
        _ => &["managed = false", "reason = 'it votes'"],
    }
}

impl Entry {
    fn value(&self) -> String {
        if self.kind.is_multiple_of(8) {
            "\"haiku\"".to_owned()
        } else {
            format!("{{ {} }}", members(self.kind).join(", "))
        }
    }

    /// In a table on one line.
    fn member(&self, key: &str) -> String {
        if self.kind < 8 {
            return format!("{key} = {}", self.value());
        }
        let members: Vec<String> = members(self.kind).iter().map(|member| format!("{key}.{member}")).collect();
        members.join(", ")
    }

    fn above(&self) -> Vec<Line> {
        self.above.lines().map(|line| (line.to_owned(), None)).collect()
    }

    /// Below `[chats]`, or with its name before each key.
    fn lines(&self, index: usize, table: &str) -> Vec<Line> {
        let Self { indent, space, comment, .. } = self;
        let key = format!("{indent}{table}{}", quoted(IDS[index]));
        let mut lines = self.above();
        if self.kind >= 8 {
            for member in members(self.kind) {
                lines.push((format!("{key}.{member}{comment}"), Some(index)));
                lines.extend(self.above());
            }
        } else {
            lines.push((format!("{key}{space}={space}{}{comment}", self.value()), Some(index)));
        }
        lines
    }

    fn section(&self, index: usize) -> Vec<Line> {
        let Self { indent, comment, .. } = self;
        let mut lines = self.above();
        lines.push((format!("{indent}[chats.{}]{comment}", quoted(IDS[index])), Some(index)));
        for member in members(self.kind) {
            lines.push((format!("{indent}{member}{comment}"), Some(index)));
            lines.extend(self.above());
        }
        lines
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let indent = prop_oneof![Just(""), Just("  "), Just("\t")];
    let space = prop_oneof![Just(" "), Just(""), Just("   ")];
    let comment = prop_oneof![Just(""), Just(" # a comment = \"[x]\"")];
    let above = prop_oneof![Just(""), Just("\n"), Just("# above\n\n  # and above"), Just("# \"+1\" = \"opus\"")];
    (0..12u8, indent, space, comment, above).prop_map(|(kind, indent, space, comment, above)| Entry {
        kind,
        indent,
        space,
        comment,
        above,
    })
}

fn layout(layout: u8, entries: &[Entry]) -> Vec<Line> {
    let plain = |lines: &[&str]| -> Vec<_> { lines.iter().map(|line| ((*line).to_owned(), None)).collect() };
    let each = |lines: fn(&Entry, usize) -> Vec<Line>| -> Vec<_> {
        entries.iter().enumerate().flat_map(|(index, entry)| lines(entry, index)).collect()
    };
    let header = plain(&["", "[chats] # exceptions"]);
    match layout {
        0 => [header, each(|entry, index| entry.lines(index, ""))].concat(),
        1 => each(Entry::section),
        2 => each(|entry, index| entry.lines(index, "chats.")),
        3 => {
            let member = |(index, entry): (usize, &Entry)| entry.member(&quoted(IDS[index]));
            let members: Vec<String> = entries.iter().enumerate().map(member).collect();
            plain(&["# all of them", &format!("chats = {{ {} }} # exceptions", members.join(", "))])
        }
        _ => {
            let of = |even: bool| entries.iter().enumerate().filter(move |(index, _)| (index % 2 == 0) == even);
            let lines = of(true).flat_map(|(index, entry)| entry.lines(index, ""));
            let sections = of(false).flat_map(|(index, entry)| entry.section(index));
            header.into_iter().chain(lines).chain(sections).collect()
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    let entries = prop::collection::vec(entry(), 0..IDS.len() - 1);
    (entries, 0..5u8, any::<[bool; 4]>()).prop_map(|(entries, kind, [bom, crlf, ended, tail])| {
        let start = ["# a policy", "models.allowed = [\"opus\", \"haiku\"]", "models.fallback = \"haiku\" # f"];
        let start = start.map(|line| (line.to_owned(), None)).to_vec();
        let end = ["", "[[rules]]", "tier = \"bots\" # b", "model = \"opus\"", "", "  [limits] # l", "max_changes = 7"];
        let end = end.map(|line| (line.to_owned(), None)).to_vec();
        let lines = [start, layout(kind, &entries), if tail { end } else { Vec::new() }].concat();
        Written { lines, chats: entries.len(), bom, crlf, ended }
    })
}

fn policy(text: &str) -> Policy {
    read(&[Source::new("policy.toml", text.to_owned())]).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}")).0
}

/// All that a policy says, but not where.
fn said(policy: &Policy, but: &str) -> String {
    let chats: BTreeMap<_, _> = policy.chats.iter().filter(|(id, _)| *id != but).collect();
    let chats: Vec<_> = chats.iter().map(|(id, entry)| (id, &entry.setting, &entry.until, &entry.reason)).collect();
    let rules: Vec<_> = policy.rules.iter().map(|rule| (&rule.values, &rule.choice.model)).collect();
    format!("{chats:?} {rules:?} {:?} {:?} {:?}", policy.allowed, policy.fallback.model, policy.max_changes)
}

fn wanted_until() -> impl Strategy<Value = Option<Until>> {
    prop_oneof![
        Just(None),
        Just(Some(Until::Date("2031-02-03".parse().unwrap()))),
        Just(Some(Until::Local("2031-02-03T04:05:06".parse().unwrap()))),
        Just(Some(Until::Instant("2031-02-03T04:05:06.7Z".parse().unwrap()))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_the_override_changes(
        written in written(),
        which in any::<Index>(),
        until in wanted_until(),
        reason in prop::option::of(".{0,12}"),
    ) {
        let at = which.index(written.chats + 1);
        let chat = IDS[at];
        let text = written.text();
        let before = policy(&text);
        let model = Model::new("opus").unwrap();
        let wanted = Wanted { model: &model, until: until.as_ref(), then: None, reason: reason.as_deref() };
        let after = set(&text, chat, &wanted).expect("it can be edited");

        // Only that override differs in what the policy says.
        let new = policy(&after);
        prop_assert_eq!(said(&before, chat), said(&new, chat));
        let entry = &new.chats[chat];
        prop_assert_eq!(&entry.setting, &Setting::Model(model.clone()));
        prop_assert_eq!((&entry.until, &entry.reason), (&until, &reason));

        // Every other line is there, in order, byte by byte; and nothing came but the override.
        let lines = |text: &str| -> Vec<String> {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned());
            lines.filter(|line| !line.starts_with("chats = {")).collect()
        };
        let mut found = lines(&after).into_iter();
        for line in written.others(at) {
            prop_assert!(found.any(|found| found == line), "{line:?} is gone or has moved: {after}");
        }
        prop_assert_eq!(after.starts_with('\u{feff}'), written.bom);
        let ends = after.matches('\n').count();
        prop_assert_eq!(after.matches("\r\n").count(), if written.crlf { ends } else { 0 });

        prop_assert_eq!(set(&after, chat, &wanted), Some(after.clone()), "twice is once");

        let removed = unset(&after, chat).expect("it can be removed");
        prop_assert!(!policy(&removed).chats.contains_key(chat));
        prop_assert_eq!(said(&before, chat), said(&policy(&removed), chat));
        let mut expected: Vec<String> = written.others(at).into_iter().map(str::to_owned).collect();
        let has_table = lines(&text).iter().any(|line| line.starts_with("[chats]")) || text.contains("chats = {");
        let dotted = text.lines().any(|line| line.trim_start().starts_with("chats."));
        if at == written.chats && !has_table && !dotted {
            expected.extend([String::new(), "[chats]".to_owned()]);
        }
        let mut kept = lines(&removed);
        for lines in [&mut kept, &mut expected] {
            while lines.last().is_some_and(String::is_empty) {
                lines.pop();
            }
        }
        prop_assert_eq!(kept, expected, "{}", removed);
    }

    #[test]
    fn setting_many_overrides_is_setting_one_after_the_other(
        written in written(),
        each in prop::collection::btree_map(0..IDS.len() + 3, (wanted_until(), prop::option::of("[a-c]{0,3}")), 0..7),
    ) {
        let model = Model::new("opus").unwrap();
        let chats: BTreeMap<&str, Wanted> = each
            .iter()
            .map(|(at, (until, reason))| {
                let chat = IDS.into_iter().chain(["#first", "new", "\u{10ffff}"]).nth(*at).unwrap();
                (chat, Wanted { model: &model, until: until.as_ref(), then: None, reason: reason.as_deref() })
            })
            .collect();
        let text = written.text();
        let one = |text: String, (chat, wanted): (&&str, &Wanted)| set(&text, chat, wanted);
        let expected = chats.iter().try_fold(text.clone(), one);
        prop_assert_eq!(set_all(&text, &chats).ok(), expected, "{}", text);
    }

    #[test]
    fn no_text_makes_an_edit_panic(text in "(\\[?chats\\]?|\\[|\\]|\\.|=|\"|'|\"\"\"|\\+1|opus|\\{|\\}|,|#|\n|\r|\r\n| |\u{feff}|é|model|2030-01-01){0,24}") {
        edit_any(&text)?;
    }

    #[test]
    fn no_damage_to_a_policy_makes_an_edit_panic(
        written in written(),
        at in any::<Index>(),
        length in 0..12usize,
        put in prop_oneof![Just(String::new()), "[\\[\\]\"'={}.,#\n\r é\u{feff}]{1,3}"],
    ) {
        let mut text: Vec<char> = written.text().chars().collect();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, put.chars());
        edit_any(&text.into_iter().collect::<String>())?;
    }
}

/// Edits a text of any kind. Where it is a policy, so is what comes out, and it says the same of others.
fn edit_any(text: &str) -> Result<(), TestCaseError> {
    let before = read(&[Source::new("policy.toml", text.to_owned())]);
    let model = Model::new("opus").unwrap();
    for chat in IDS {
        let wanted = Wanted { model: &model, until: None, then: None, reason: Some("r") };
        let edited = [set(text, chat, &wanted), unset(text, chat)];
        let Ok((before, _)) = &before else { continue };
        if !before.allowed.contains(&model) {
            continue;
        }
        for after in edited.iter().flatten() {
            prop_assert_eq!(said(before, chat), said(&policy(after), chat), "{}", after);
        }
    }
    Ok(())
}
