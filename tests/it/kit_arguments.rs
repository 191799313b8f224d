//! Every command that a kit or a page shows, run by programs that write down what they are given.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::commands::with;
use crate::placeholders::HOSTILE;
use crate::support::{POLICY, Run, Sandbox, finish};

/// Files with commands to copy: the kits and the pages.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = ["examples", "docs"].map(|folder| walkdir::WalkDir::new(root.join(folder)).sort_by_file_name());
    let files = below.into_iter().flatten().map(|entry| entry.unwrap().into_path());
    let files = files.chain([root.join("README.md"), root.join("policy.toml")]).filter(|path| path.is_file());
    files.map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

/// The commands of a policy: of each key, the program and its arguments.
type Commands = Vec<(&'static str, Vec<String>)>;

/// The commands of every policy and part of a policy, with where they stand.
fn commands() -> Vec<(String, Commands)> {
    let mut found = Vec::new();
    for (file, text) in texts() {
        let blocks: Vec<&str> = match Path::new(&file).extension().and_then(|extension| extension.to_str()) {
            Some("toml") => vec![text.as_str()],
            Some("md") => text.split("```toml\n").skip(1).map(|part| part.split("```").next().unwrap()).collect(),
            _ => Vec::new(),
        };
        for block in blocks {
            let policy: Value = toml::from_str(block).unwrap_or_else(|error| panic!("{file}: {error}"));
            let words = |key| serde_json::from_value(policy["sessions"][key].clone()).ok();
            let commands = ["restart", "running", "identity"].map(|key| words(key).map(|words| (key, words)));
            let commands: Commands = commands.into_iter().flatten().collect();
            if !commands.is_empty() {
                found.push((file.clone(), commands));
            }
        }
    }
    found
}

/// The commands of every launch, with where they stand.
fn launches() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let help = Sandbox::new(POLICY, "{}").run(&["launch", "--help"]).stdout;
    for (file, text) in texts().into_iter().chain([("--help".to_owned(), help)]) {
        let words = |text: &str| -> Vec<String> {
            let words = text.split(['`', '\n']).next().unwrap().split_whitespace();
            words.map(|word| word.trim_matches('\'').to_owned()).collect()
        };
        for part in text.replace("\\\n", " ").split("reconcile launch ").skip(1) {
            let line = part.lines().next().unwrap();
            found.extend(line.split_once(" -- ").map(|(_, command)| (file.clone(), words(command))));
        }
        for part in text.split("<string>--</string>").skip(1) {
            let strings = part.split("</array>").next().unwrap().split("<string>").skip(1);
            let words = strings.map(|string| string.split("</string>").next().unwrap().to_owned());
            found.push((file.clone(), words.collect()));
        }
    }
    found.retain(|(_, words)| words.first().is_some_and(|word| word != "COMMAND"));
    found
}

const FIELDS: [&str; 8] =
    ["chat_id", "session_name", "session_slug", "contact_name", "tier", "type", "source", "model"];

/// Writes down the program's name, its arguments and what its environment says of the session. It prints something else
/// each time, as for a session that is started anew.
fn recorder() -> String {
    let variables: String = FIELDS.iter().map(|field| format!(" \"$RECONCILE_{}\"", field.to_uppercase())).collect();
    format!("printf '%s\\0' \"${{0##*/}}\" $# \"$@\"{variables} >> \"$RECORD\"; echo $$")
}

/// What a recorder wrote down of one command.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    words: Vec<String>,
    environment: Vec<String>,
}

fn records(sandbox: &Sandbox) -> Vec<Record> {
    let text = sandbox.read("record");
    let mut parts = text.split_terminator('\0').map(str::to_owned);
    let mut records = Vec::new();
    while let Some(program) = parts.next() {
        let count: usize = parts.next().unwrap().parse().unwrap();
        let words = [program].into_iter().chain(parts.by_ref().take(count)).collect();
        records.push(Record { words, environment: parts.by_ref().take(FIELDS.len()).collect() });
    }
    // A session is asked several times whether it is running.
    records.sort();
    records.dedup();
    records
}

/// Lets recorders take the place of these programs, and runs this one.
fn recorded<'p>(sandbox: &Sandbox, programs: impl Iterator<Item = &'p String>, arguments: &[&str]) -> Run {
    fs::create_dir_all(sandbox.path("bin")).unwrap();
    for program in programs {
        sandbox.script(&if program.contains('/') { program.clone() } else { format!("bin/{program}") }, &recorder());
    }
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    finish(sandbox.command(arguments).env("PATH", path).env("RECORD", sandbox.path("record")))
}

/// An entry with fields that the owner of its chat chose.
#[derive(Clone, Debug)]
struct Owned {
    chat_id: String,
    session_name: String,
    contact_name: String,
    tier: String,
    kind: String,
    source: String,
}

impl Owned {
    fn entry(&self) -> Value {
        json!({
            "session_name": self.session_name, "contact_name": self.contact_name, "tier": self.tier,
            "type": self.kind, "source": self.source, "model": "opus", "session_id": "0c7e6a52",
        })
    }

    fn slug(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        self.session_name.bytes().map(|byte| if plain(byte) { char::from(byte) } else { '-' }).collect()
    }

    /// What an owner of a chat has a say in.
    fn chosen(&self) -> [&String; 6] {
        [&self.chat_id, &self.session_name, &self.contact_name, &self.tier, &self.kind, &self.source]
    }

    fn environment(&self) -> Vec<String> {
        let [contact, tier, kind, source] =
            [&self.contact_name, &self.tier, &self.kind, &self.source].map(|text| given(text));
        let ids = [self.chat_id.clone(), self.session_name.clone(), self.slug()];
        ids.into_iter().chain([contact, tier, kind, source, "sonnet".to_owned()]).collect()
    }
}

/// A field as a command is given it.
fn given(text: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    let characters = text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 4096);
    characters.map(|(_, c)| c).collect()
}

fn hostile() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(&HOSTILE[..]).prop_map(str::to_owned);
    let long = ("[a-z]{0,3}", 4090_usize..4100).prop_map(|(start, length)| start + &"é".repeat(length / 2) + "x");
    prop_oneof![4 => known, 4 => any::<String>(), 1 => long]
}

/// Each with a mark, by which it is found in an argument; what the commands know a session by is short, and has no NUL.
fn sessions() -> impl Strategy<Value = Vec<Owned>> {
    let id = || hostile().prop_map(|id| id.replace('\0', "").chars().take(60).collect());
    let fields = (id(), id(), hostile(), hostile(), hostile(), hostile());
    let session = |(number, fields): (usize, (String, String, String, String, String, String))| {
        let (chat, name, contact, tier, kind, source) = fields;
        Owned {
            chat_id: format!("chat/{number} {chat}"),
            session_name: format!("name/{number} {name}"),
            contact_name: format!("contact/{number} {contact}"),
            tier: format!("tier/{number} {tier}"),
            kind: format!("type/{number} {kind}"),
            source: format!("source/{number} {source}"),
        }
    };
    let all = proptest::collection::vec(fields, 1..8);
    all.prop_map(move |all| all.into_iter().enumerate().map(session).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn the_commands_that_are_there_to_be_copied_hold_nothing_that_a_chats_owner_chose(sessions in sessions()) {
        let registry: Value = sessions.iter().map(|session| (session.chat_id.clone(), session.entry())).collect();
        let kits = commands();
        prop_assert!(kits.len() >= 6, "where are the kits? {kits:?}");
        for (file, kit) in kits {
            let keys: String = kit.iter().map(|(key, words)| format!("{key} = {}\n", json!(words))).collect();
            let limits = "parallel = 1\n[rollout]\nmin_healthy = \"0s\"\n[limits]\nmax_changes = 100";
            let sandbox = with(&format!("{keys}{limits}"), &registry.to_string());
            let run = recorded(&sandbox, kit.iter().map(|(_, words)| &words[0]), &[]);
            prop_assert_eq!(run.code, 0, "{}: {:#?}", &file, run);

            let mut expected = Vec::new();
            for (session, (key, words)) in sessions.iter().flat_map(|session| kit.iter().map(move |key| (session, key))) {
                let fill = |word: &String| word.replace("{session_slug}", &session.slug()).replace("{model}", "sonnet");
                let mut words: Vec<String> = words.iter().map(fill).collect();
                words[0] = Path::new(&words[0]).file_name().unwrap().to_str().unwrap().to_owned();
                let environment = session.environment();
                if *key == "identity" {
                    // It is also asked before the edit, when the entry still has the old model.
                    let before = environment.iter().map(|value| if value == "sonnet" { "opus".to_owned() } else { value.clone() });
                    expected.push(Record { words: words.clone(), environment: before.collect() });
                }
                expected.push(Record { words, environment });
            }
            expected.sort();
            let records = records(&sandbox);
            for (record, chosen) in records.iter().flat_map(|record| sessions.iter().map(move |one| (record, one.chosen()))) {
                let holds = |text: &String| chosen.iter().any(|chosen| text.contains(*chosen));
                prop_assert!(!record.words.iter().any(holds), "{file}: {record:?}");
            }
            prop_assert_eq!(records, expected, "{}", file);
        }
    }

    #[test]
    fn the_launches_that_are_there_to_be_copied_hold_nothing_that_a_chats_owner_chose(sessions in sessions()) {
        let registry: Value = sessions.iter().map(|session| (session.chat_id.clone(), session.entry())).collect();
        let kits = launches();
        prop_assert!(kits.len() >= 7, "where are the launches? {kits:?}");
        for (file, kit) in kits {
            let session = &sessions[0];
            let sandbox = Sandbox::new(POLICY, &registry.to_string());
            sandbox.write("0c7e6a52.jsonl", "a conversation");
            let mut command: Vec<&str> = kit.iter().skip(1).map(String::as_str).collect();
            let there = ["--conversation", "{session_id}.jsonl", "--", "assistant"];
            let arguments = [&["launch", &session.chat_id], &there[..], &command[..]].concat();
            let run = recorded(&sandbox, ["assistant".to_owned()].iter(), &arguments);
            prop_assert_eq!(run.code, 0, "{}: {:#?}", &file, run);

            // There is a conversation to resume, so none begins.
            if let Some(new) = command.iter().position(|word| *word == "{new_session_id}") {
                command.drain(new - 1..=new);
            }
            let fill = |word: &str| word.replace("{model}", "sonnet").replace("{resume_id}", "0c7e6a52");
            let words = ["assistant".to_owned()].into_iter().chain(command.iter().map(|word| fill(word))).collect();
            let expected = Record { words, environment: session.environment() };
            let holds = |text: &String| session.chosen().iter().any(|chosen| text.contains(*chosen));
            prop_assert!(!expected.words.iter().any(holds), "{file}: {expected:?}");
            prop_assert_eq!(records(&sandbox), [expected], "{}", file);
        }
    }
}
