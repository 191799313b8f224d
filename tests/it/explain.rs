//! `reconcile explain`: what decides, and why the rest does not.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use jiff::Zoned;
use proptest::prelude::*;
use reconcile::backend::capabilities;
use reconcile::chat::{Chat, Model};
use reconcile::policy::{Policy, Source, read};
use reconcile::redact::Shown;
use reconcile::report::Page;
use reconcile::report::explain::{Explanation, Subject};
use reconcile::resolve::{Candidate, candidates, resolve};
use serde_json::{Value, json};

use crate::support::{POLICY, Sandbox, registry, write_state};
use crate::world::at;

const CHAT: &str = "+16175550142";

const RULES: &str = r#"
[[rules]]
source = ["discord", "signal"]
model  = "haiku"

[[rules]]
chat   = "+1617*"
tier   = "bots"
model  = "opus"

[[rules]]
tier   = "family"
type   = "individual"
model  = "haiku"

[chats]
"+16175550142" = { model = "opus", until = 2020-06-30, reason = "thesis season" }
"+16175550143" = { model = "opus", until = 9000-12-31, reason = "thesis season" }
"+16175550144" = { managed = false, reason = "not ours" }
"#;

fn sandbox() -> Sandbox {
    let chats =
        [(CHAT, "family", "opus"), ("+16175550143", "admin", "opus"), ("+16175550144", "", ""), ("+2", "club", "")];
    let sandbox = Sandbox::new(&format!("{POLICY}{RULES}\n[sessions]\nrestart = [\"./restart\"]\n"), &registry(&chats));
    sandbox.script("restart", "test ! -e broken");
    sandbox
}

fn explained(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    sandbox.json(&[&["explain"], arguments].concat())
}

/// What became of everything that could have spoken.
fn standings(explained: &Value) -> Vec<(&str, &str)> {
    let candidates = explained["candidates"].as_array().unwrap();
    candidates.iter().map(|found| (found["rule"].as_str().unwrap(), found["standing"].as_str().unwrap())).collect()
}

#[test]
fn everything_that_lost_is_told_with_why() {
    let run = sandbox().run(&["explain", CHAT]).expect(0);
    assert_eq!(
        run.stdout,
        r#"imessage/_16175550142 (+16175550142, tier family) → haiku
  policy.toml:29   chats."+16175550142"   opus     over: it ended after 2020-06-30
  policy.toml:16   rules[0]               haiku    unmatched: needs source = discord or signal; this chat has imessage
  policy.toml:21   rules[1]               opus     unmatched: needs tier = bots; this chat has family
  policy.toml:26   rules[2]               haiku    decides
  policy.toml:8    tiers.family           sonnet   outranked
  policy.toml:4    models.fallback        sonnet   outranked
registry: opus, differs: the next run changes it and restarts the session
restart: none owed
last change: none in the history
"#
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn an_override_is_told_with_its_reason_and_its_end() {
    let sandbox = sandbox();
    let run = sandbox.run(&["explain", "imessage/_16175550143"]).expect(0);
    assert!(run.stdout.contains("opus     decides: until 9000-12-31, \"thesis season\"\n"), "{run:?}");
    assert!(run.stdout.contains("registry: opus, in sync\n"), "{run:?}");
    let decision = &explained(&sandbox, &["+16175550143"])["decision"];
    assert_eq!((&decision["until"], &decision["reason"]), (&json!("9000-12-31"), &json!("thesis season")));
}

#[test]
fn a_chat_that_is_left_alone_is_told_so() {
    let run = sandbox().run(&["explain", "+16175550144"]).expect(0);
    assert!(run.stdout.contains("→ not managed: not ours\n"), "{run:?}");
    assert!(run.stdout.contains("registry: no model, left alone\n"), "{run:?}");

    let sandbox = Sandbox::new(
        &format!("{POLICY}\n[sessions]\nbackend = \"dispatch\"\nsocket = \"/nowhere\"\n"),
        r#"{"g": {"type": "group", "model": "haiku"}, "d": {"source": "discord"}, "e": {"source": "discord", "tier": "bots"}}"#,
    );
    let run = sandbox.run(&["explain", "g"]).expect(0);
    assert!(run.stdout.contains("→ not managed: the daemon drops a group's model at every start\n"), "{run:?}");
    assert_eq!(explained(&sandbox, &["g"])["registry"]["in_sync"], Value::Null);
    let run = sandbox.run(&["explain", "d"]).expect(0);
    assert!(
        run.stdout.contains("no model, and the daemon runs sonnet without one: in sync while it is up\n"),
        "{run:?}"
    );
    let run = sandbox.run(&["explain", "e"]).expect(0);
    assert!(run.stdout.contains("a run changes it when the session is live"), "{run:?}");
}

#[test]
fn the_fallback_says_why_no_tier_spoke() {
    let sandbox = sandbox();
    let run = sandbox.run(&["explain", "+2"]).expect(0);
    assert!(run.stdout.contains("models.fallback   sonnet   decides: [tiers] does not list club\n"), "{run:?}");
    let run = sandbox.run(&["explain", "nobody"]).expect(0);
    assert!(run.stdout.contains("models.fallback   sonnet   decides: the chat has no tier\n"), "{run:?}");
}

#[test]
fn what_the_registry_holds_is_kept_or_said_not_to_be() {
    let policy = POLICY.replace("[registry]", "[registry]\nexisting = \"keep\"");
    let chats = [("+1", "family", "haiku"), ("+2", "family", ""), ("+3", "family", "gpt")];
    let sandbox = Sandbox::new(&policy, &registry(&chats));
    let told = |chat: &str| {
        let explained = explained(&sandbox, &[chat]);
        let kept = explained["candidates"][0].clone();
        (kept["rule"].clone(), kept["standing"].clone(), kept["detail"].clone(), explained["decision"]["model"].clone())
    };
    let rule = json!("registry.existing");
    assert_eq!(told("+1"), (rule.clone(), json!("decides"), Value::Null, json!("haiku")));
    assert_eq!(told("+2"), (rule.clone(), json!("silent"), json!("the registry has no model"), json!("sonnet")));
    let why = json!("the registry has gpt, which is not allowed");
    assert_eq!(told("+3"), (rule, json!("silent"), why, json!("sonnet")));
}

#[test]
fn a_chat_that_is_not_registered_is_explained_by_what_is_said_of_it() {
    let sandbox = sandbox();
    let new = explained(&sandbox, &["+16179", "--tier", "bots"]);
    assert_eq!((&new["decision"]["model"], &new["assumed"]), (&json!("opus"), &json!(["tier"])));
    assert_eq!(new["registry"]["registered"], json!(false));
    assert_eq!(explained(&sandbox, &["x", "--source", "signal"])["decision"]["model"], json!("haiku"));
    let number = sandbox.run(&["explain", "+16179", "--tier", "bots"]).expect(0);
    assert!(number.stdout.starts_with("+16179 (tier bots) → opus\n"), "{number:?}");
    let all = ["--tier", "family", "--type", "individual", "--session-name", "s/x", "--contact-name", "Cal"];
    let new = sandbox.run(&[&["explain", "x"], &all[..]].concat()).expect(0);
    assert!(new.stdout.starts_with("s/x (x, Cal, tier family) → haiku\n"), "{new:?}");
    assert_eq!(new.stderr, "");
}

#[test]
fn a_word_that_nobody_has_is_an_id_and_the_nearest_is_named() {
    let run = sandbox().run(&["explain", "+16175550141"]).expect(0);
    assert!(run.stdout.contains("registry: not registered in "), "{run:?}");
    assert!(run.stderr.contains("taken as the id of a new one; did you mean \"+16175550142\"?"), "{run:?}");
    let far = sandbox().run(&["explain", "nothing-like-it"]).expect(0);
    assert!(far.stderr.contains("taken as the id of a new one\n"), "{far:?}");
}

#[test]
fn what_is_said_fills_what_the_registry_does_not_say_and_contradicts_nothing() {
    let sandbox = Sandbox::new(POLICY, r#"{"a": {"tier": "family", "model": "sonnet"}, "b": {"model": "opus"}}"#);
    sandbox.run(&["explain", "a", "--tier", "family"]).expect(0);
    let nothing = sandbox.run(&["explain", "b"]).expect(0);
    assert_eq!(sandbox.run(&["explain", "b", "--tier", ""]).expect(0).stdout, nothing.stdout, "nothing was said");
    let run = sandbox.run(&["explain", "a", "--tier", "bots"]).expect(1);
    assert!(run.stdout.is_empty() && run.stderr.contains("has tier \"family\""), "{run:?}");
    // A run does not know the tier, and would change the model to another.
    let run = sandbox.run(&["explain", "b", "--tier", "bots"]).expect(0);
    let told = "registry: opus, differs only with what was given here, which a run does not know: tier\n";
    assert!(run.stdout.contains(told), "{run:?}");
    let json = explained(&sandbox, &["b", "--tier", "bots"]);
    assert_eq!((&json["registry"]["in_sync"], &json["registry"]["outcome"]), (&json!(false), &Value::Null));
}

const TWO_OF_A_NAME: &str = r#"{"a": {"contact_name": "+16175550142"}, "b": {"contact_name": "+16175550142"}}"#;

#[test]
fn what_cannot_be_read_is_an_error() {
    let broken: [fn(&Sandbox); 6] = [
        |sandbox| fs::remove_file(sandbox.path("sessions.json")).unwrap(),
        |sandbox| sandbox.write("sessions.json", "{"),
        |sandbox| sandbox.write("policy.toml", "[models"),
        |sandbox| sandbox.write("sessions.json", TWO_OF_A_NAME),
        |sandbox| state(sandbox, "owed.json", "no ledger"),
        |sandbox| state(sandbox, "ledger.journal", "no ledger\n"),
    ];
    for break_it in broken {
        let sandbox = sandbox();
        break_it(&sandbox);
        for format in ["text", "json"] {
            let run = sandbox.run(&["explain", CHAT, "--format", format]).expect(1);
            assert!(run.stdout.is_empty() && run.stderr.contains("error"), "{run:?}");
        }
    }
    sandbox().run(&["explain"]).expect(64);
    sandbox().run(&["explain", CHAT, "--format", "diff"]).expect(64);
}

/// Writes a file of the state directory.
fn state(sandbox: &Sandbox, name: &str, text: &str) {
    write_state(&sandbox.path("sessions.json.reconcile"), name, text);
}

#[test]
fn a_restart_that_is_owed_is_told_with_its_next_try() {
    let sandbox = sandbox();
    sandbox.write("broken", "");
    sandbox.run(&["--chat", CHAT]).expect(4);
    let run = sandbox.run(&["explain", CHAT]).expect(0);
    let restart = run.stdout.lines().find(|line| line.starts_with("restart: ")).unwrap();
    assert!(restart.starts_with("restart: owed since ") && restart.contains(", 1 attempt, next try at "), "{restart}");
    assert!(run.stdout.contains("registry: haiku, in sync\n"), "{run:?}");
    assert!(run.stdout.contains("last change: opus → haiku (failed), "), "{run:?}");
    let owed = &explained(&sandbox, &[CHAT])["owed"];
    assert_eq!((&owed["attempts"], &owed["needed"]), (&json!(1), &json!(true)));

    // Its entry goes, and with it the need for a restart.
    sandbox.write("sessions.json", "{}");
    let run = sandbox.run(&["explain", CHAT]).expect(0);
    assert!(run.stdout.contains("no longer needed: the next run drops it\n"), "{run:?}");
}

#[test]
fn a_row_that_is_held_is_told_so() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/held-row-is-left-alone");
    let file = |name: &str| fs::read_to_string(case.join(name)).unwrap();
    let sandbox = Sandbox::new(&file("policy.toml"), &file("sessions.json"));
    state(&sandbox, "owed.json", &file("owed.json"));
    let run = sandbox.run(&["explain", "+16175550101"]).expect(0);
    let held = "registry: haiku, differs, and is held: something keeps changing it back, changed back at ";
    assert!(run.stdout.contains(held) && run.stdout.contains("; --retry tries again\n"), "{run:?}");
    assert_eq!(explained(&sandbox, &["+16175550101"])["registry"]["outcome"], json!("held"));
}

#[test]
fn the_last_change_is_found_in_the_newest_part_that_has_it() {
    let sandbox = sandbox();
    let history = || sandbox.read("sessions.json.reconcile/history.jsonl");
    let last = |chat: &str| explained(&sandbox, &[chat])["last_change"].clone();
    assert_eq!(last(CHAT), Value::Null);
    sandbox.run(&["--chat", CHAT]).expect(0);
    let run = |text: &str| serde_json::from_str::<Value>(text.trim()).unwrap()["run"].clone();
    let first = run(&history());
    assert_eq!((&last(CHAT)["run"], &last(CHAT)["after"]), (&first, &json!("haiku")));

    // A change back, and a run that died while it wrote its line.
    let older = history();
    sandbox.write("policy.toml", sandbox.read("policy.toml").replace("2020-06-30", "9000-06-30"));
    sandbox.run(&[]).expect(0);
    let newer = run(history().lines().last().unwrap());
    state(&sandbox, "history.jsonl", &format!("{}{{\"run\": \"torn", history()));
    assert_eq!((&last(CHAT)["run"], &last(CHAT)["after"]), (&newer, &json!("opus")));
    assert_ne!(newer, first);
    assert_eq!(last("+16175550144"), Value::Null, "nothing was changed there");

    // Of the parts that were put aside, those with the lower numbers are newer. What they do not know yet is no harm.
    let renamed = |run: &str| older.replacen(first.as_str().unwrap(), run, 1).replacen('{', "{\"new\": [1], ", 1);
    state(&sandbox, "history.jsonl", "");
    state(&sandbox, "history.1.jsonl", &format!("{}\n{}", renamed("one"), renamed("two")));
    state(&sandbox, "history.2.jsonl", &renamed("three"));
    assert_eq!(last(CHAT)["run"], json!("two"));
    fs::remove_file(sandbox.path("sessions.json.reconcile/history.1.jsonl")).unwrap();
    assert_eq!(last(CHAT)["run"], json!("three"));
}

#[test]
fn a_history_that_is_damaged_is_an_error_that_names_the_line() {
    let sandbox = sandbox();
    state(&sandbox, "history.jsonl", "\n{\"run\": 1}\n");
    let run = sandbox.run(&["explain", CHAT]).expect(1);
    assert!(run.stderr.contains("history.jsonl is damaged in line 2"), "{run:?}");
}

const MODELS: [&str; 3] = ["opus", "sonnet", "haiku"];

/// Policies over few names, with overrides that are over and such that are not.
fn policies() -> impl Strategy<Value = Policy> {
    let model = || proptest::sample::select(&MODELS[..]);
    let rule = ("[ab]", "[ab*?]{1,2}", 0..3_u8, model());
    let rules = proptest::collection::vec(rule, 0..5);
    let tiers = proptest::collection::btree_map("[abc]", model(), 0..3);
    let chats = proptest::collection::btree_map("[ab]{1,2}", (model(), 0..4_u8), 0..4);
    (rules, tiers, chats, any::<bool>()).prop_map(|(rules, tiers, chats, keep)| {
        let mut text = "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"haiku\"\n".to_owned();
        text += if keep { "[registry]\nexisting = \"keep\"\n[tiers]\n" } else { "[tiers]\n" };
        text.extend(tiers.iter().map(|(tier, model)| format!("{tier} = {model:?}\n")));
        for (value, glob, condition, model) in rules {
            let key = ["tier", "source", "chat"][usize::from(condition)];
            let value = if key == "chat" { glob } else { value };
            writeln!(text, "[[rules]]\n{key} = {value:?}\nmodel = {model:?}").unwrap();
        }
        text += "[chats]\n";
        for (chat, (model, kind)) in chats {
            let entry = match kind {
                0 => format!("{model:?}"),
                1 => format!("{{ model = {model:?}, until = 2026-02-01 }}"),
                2 => format!("{{ model = {model:?}, until = 2026-04-01, reason = \"why\" }}"),
                _ => "{ managed = false }".to_owned(),
            };
            writeln!(text, "{chat} = {entry}").unwrap();
        }
        read(&[Source::new("policy.toml", text)]).unwrap().0
    })
}

fn chats() -> impl Strategy<Value = Chat<'static>> {
    let name = || proptest::option::of("[abc]");
    ("[ab]{1,2}", name(), name()).prop_map(|(id, tier, source)| Chat {
        id: id.into(),
        tier: tier.map(Into::into),
        source: source.map(Into::into),
        ..Chat::default()
    })
}

fn subject(policy: Policy, chat: Chat<'static>) -> Shown<Subject<'static>> {
    Shown::under(None, Subject { policy, chat, row: None, last_change: None })
}

fn json_of(subject: &Shown<Subject>, existing: Option<&str>, now: &Zoned) -> Value {
    let capabilities = capabilities(&subject.policy);
    let explanation = Explanation {
        subject,
        capabilities: capabilities.as_ref(),
        assigned: None,
        assumed: &[],
        registry: "sessions.json",
        registered: true,
        existing: existing.into(),
        debt: None,
        failed: None,
        now,
        shown_now: now,
    };
    let mut json = Vec::new();
    explanation.json(&mut Page::onto(&mut json)).unwrap();
    serde_json::from_slice(&json).unwrap()
}

proptest! {
    #[test]
    fn what_is_explained_is_what_is_decided(
        policy in policies(),
        chat in chats(),
        existing in proptest::option::of(proptest::sample::select(&["opus", "haiku", "gpt"][..])),
    ) {
        let subject = subject(policy, chat);
        let decision = resolve(&subject.policy, &subject.chat, existing.into(), &at(0));
        let explained = json_of(&subject, existing, &at(0));
        prop_assert_eq!(&explained["decision"]["model"], &json!(decision.model.map(Model::as_str)));
        prop_assert_eq!(&explained["decision"]["because"]["rule"], &json!(decision.because.rule));
        let deciding: Vec<_> = standings(&explained).into_iter().filter(|(_, standing)| *standing == "decides").collect();
        prop_assert_eq!(deciding, [(decision.because.rule.as_str(), "decides")]);

        // Nothing before it speaks, and everything after it that would have is outranked.
        let speaks = |candidate: Candidate| candidate.spoken().is_some();
        let speaking: Vec<bool> =
            candidates(&subject.policy, &subject.chat, existing.into(), &at(0)).map(speaks).collect();
        let told: Vec<bool> =
            standings(&explained).iter().map(|(_, standing)| ["decides", "outranked"].contains(standing)).collect();
        prop_assert_eq!(speaking, told);
    }

    #[test]
    fn every_rule_is_told_once(policy in policies(), chat in chats()) {
        let subject = subject(policy, chat);
        let explained = json_of(&subject, None, &at(0));
        let (policy, chat) = (&subject.policy, &subject.chat);
        let told: Vec<&str> = standings(&explained).iter().map(|(rule, _)| *rule).collect();
        let rules: Vec<String> = (0..policy.rules.len()).map(|index| format!("rules[{index}]")).collect();
        let named = |name: &&&str| name.starts_with("rules[");
        prop_assert_eq!(told.iter().filter(named).copied().collect::<Vec<_>>(), rules);
        let overriding = usize::from(policy.chats.contains_key(chat.id.as_ref()));
        let kept = usize::from(policy.existing.because().is_some());
        let tier = usize::from(chat.tier.as_deref().is_some_and(|tier| policy.tiers.contains_key(tier)));
        prop_assert_eq!(told.len(), overriding + kept + policy.rules.len() + tier + 1);
    }
}

#[test]
fn under_pseudonyms_the_same_decides_and_nobody_is_named() {
    let sandbox = sandbox();
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    // A rule asks for chats by their ids, and means this one or not.
    for globs in ["+1617*", "+1999*"] {
        sandbox.write("policy.toml", sandbox.read("policy.toml").replace("+1617*", globs));
        let plain = sandbox.run(&["explain", "+16175550143"]).expect(0).stdout;
        let run = sandbox.run(&["explain", "+16175550143", "--redact"]).expect(0);
        let standings = |text: &str| {
            let words = ["decides", "outranked", "unmatched", "over"];
            let told = |line: &str| words.into_iter().find(|word| line.contains(word));
            text.lines().filter_map(told).collect::<Vec<_>>()
        };
        assert_eq!(standings(&run.stdout), standings(&plain));
        assert!(run.stdout.starts_with("session-") && run.stdout.contains("chats.\"chat-"), "{run:?}");
        for named in ["1617", "1999", "imessage/", "thesis"] {
            assert!(!run.stdout.contains(named) && !run.stderr.contains(named), "{named}: {run:?}");
        }
    }
}

#[test]
fn a_snapshot_is_explained_in_pseudonyms_and_without_reasons() {
    let sandbox = sandbox();
    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    sandbox.write("snapshot.json", &snapshot);
    sandbox.write("policy.toml", sandbox.read("policy.toml").replace("chat   = \"+1617*\"\n", ""));
    let chats: Value = serde_json::from_str(&snapshot).unwrap();
    let place = ["--registry", "snapshot.json", "--redact-key", "sessions.json.reconcile/redact.key"];
    for more in [&[][..], &["--redact"]] {
        for chat in chats.as_object().unwrap().keys() {
            for format in ["text", "json"] {
                let words = [&["explain", chat, "--format", format], &place[..], more].concat();
                let run = sandbox.run(&words).expect(0);
                assert!(!run.stdout.contains("thesis") && !run.stdout.contains("not ours"), "{run:?}");
            }
        }
    }
    let run = sandbox.run(&[&["explain", "Bob", "--redact"], &place[..]].concat()).expect(0);
    assert_eq!(run.stderr, "");
}

#[test]
fn mistakes_are_told_by_kind_and_place_where_nobody_may_be_named() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", sandbox.read("policy.toml").replace("9000-12-31", "soon"));
    for (format, told) in [("text", "--> policy.toml:30"), ("github", "line=30"), ("json", "\"line\": 30")] {
        let run = sandbox.run(&["check", "--redact", "--format", format]).expect(1);
        assert!(run.stdout.contains(told), "{run:?}");
        assert!(!run.stdout.contains("1617") && !run.stdout.contains("soon"), "{run:?}");
    }
}
