//! `reconcile list`: every chat with its model, what decided on it, and how it stands.

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::support::{POLICY, Sandbox, finish, row, write_ledger};
use crate::terminal::at;

const REGISTRY: &str = r#"{
  "+1": {"session_name": "imessage/_1", "contact_name": "Ada Lovelace", "tier": "family", "model": "sonnet"},
  "+2": {"session_name": "imessage/_2", "contact_name": "Bo", "tier": "family", "model": "opus", "type": "individual", "source": "imessage"},
  "+3": {"session_name": "imessage/_3", "tier": "admin", "model": "opus"},
  "+4": {"session_name": "imessage/_4", "tier": "bots", "model": "sonnet"},
  "+5": {"session_name": "imessage/_5", "tier": "bots", "model": "haiku"},
  "+6": {"tier": "bots"},
  "group": {"session_name": "imessage/group", "type": "group", "model": "opus"}
}"#;

const OVERRIDE: &str = "\n[chats]\ngroup = { managed = false, reason = \"it votes\" }\n\"+3\" = \"opus\"\n";

/// Chats in every state: `+3` owes a restart, `+4` is held, and `+5` did not come up.
fn scene() -> Sandbox {
    let sandbox = Sandbox::new(&format!("{POLICY}{OVERRIDE}\n[sessions]\nrestart = [\"./restart\"]\n"), REGISTRY);
    sandbox.script("restart", "echo >> calls");
    let changed_back = ["2126-01-01T00:00:00Z", "2126-01-01T01:00:00Z", "2126-01-01T02:00:00Z"];
    let ledger = json!({
        "owed": { "+3": { "since": "2026-01-02T03:04:05Z", "ran": "haiku", "began": true, "attempts": 2 } },
        "corrected": {
            "+4": { "model": "haiku", "at": "2026-01-01T00:00:00Z", "confirmed": true, "changed_back": changed_back, "held": true }
        },
        "failed": { "+5": { "model": "haiku", "since": "2026-01-01T00:00:00Z", "attempts": 3 } },
        "trials": { "opus": { "worked": "2026-01-01T00:00:00Z" }, "sonnet": { "worked": "2026-01-01T00:00:00Z" } },
    });
    write_ledger(&sandbox.path("sessions.json.reconcile"), ledger);
    sandbox
}

const TABLE: &str = "\
policy.toml · 7 sessions in sessions.json

    session          contact        tier     model            decided by     state
    imessage/_1      Ada Lovelace   family   sonnet           tiers.family   in sync
  ~ imessage/_2      Bo             family   opus → sonnet    tiers.family   differs
  ^ imessage/_3      -              admin    opus             override       restart owed since 2026-01-02 03:04
  ! imessage/_4      -              bots     sonnet → haiku   tiers.bots     held, differs
  ! imessage/_5      -              bots     haiku            tiers.bots     failed
  ~ +6               -              bots     (none) → haiku   tiers.bots     differs
  ! imessage/group   -              group    opus             override       not managed

7 chats: 1 in sync, 2 differ, 1 owed, 1 failed, 1 held, 1 not managed.
";

/// Where there is no room for two names of a chat, that of its contact stays.
const AT_EIGHTY: &str = "\
policy.toml · 7 sessions in sessions.json

    chat             tier     model            decided by     state
    Ada Lovelace     family   sonnet           tiers.family   in sync
  ~ Bo               family   opus → sonnet    tiers.family   differs
  ^ imessage/_3      admin    opus             override       restart owed sinc…
  ! imessage/_4      bots     sonnet → haiku   tiers.bots     held, differs
  ! imessage/_5      bots     haiku            tiers.bots     failed
  ~ +6               bots     (none) → haiku   tiers.bots     differs
  ! imessage/group   group    opus             override       not managed

7 chats: 1 in sync, 2 differ, 1 owed, 1 failed, 1 held, 1 not managed.
";

#[test]
fn every_chat_is_listed_with_what_decided_and_how_it_stands() {
    let sandbox = scene();
    let run = sandbox.run(&["list"]).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), (TABLE, ""));
    assert_eq!(sandbox.run(&["status"]).expect(0).stdout, TABLE);
    assert_eq!((sandbox.calls(), sandbox.read("sessions.json").as_str()), (Vec::new(), REGISTRY));
    let none = Sandbox::new(POLICY, "{}").run(&["list"]).expect(0).stdout;
    assert_eq!(none, "policy.toml · 0 sessions in sessions.json\n\n0 chats: 0 in sync.\n");
}

#[test]
fn some_chats_can_be_selected() {
    let sandbox = scene();
    let listed = |arguments: &[&str]| {
        let report = sandbox.json(&[&["list"], arguments].concat());
        let chats = report["chats"].as_array().unwrap().iter();
        let chats: Vec<String> = chats.map(|chat| chat["chat_id"].as_str().unwrap().to_owned()).collect();
        (chats.join(" "), report["complete"].clone(), report["sessions"].clone())
    };
    let some = |chats: &str| (chats.to_owned(), json!(false), json!(7));
    assert_eq!(listed(&["--tier", "bots"]), some("+4 +5 +6"));
    assert_eq!(listed(&["--chat", "Ada Lovelace", "--chat", "imessage/_3"]), some("+1 +3"));
    assert_eq!(listed(&["--tier", "bots", "--exclude", "+5"]), some("+4 +6"));
    let text = sandbox.run(&["list", "--chat", "+1"]).expect(0).stdout;
    assert!(text.starts_with("policy.toml · 7 sessions in sessions.json · 1 selected\n"), "{text}");
    sandbox.run(&["list", "--chat", "nosuch"]).expect(1);
    sandbox.run(&["list", "--tier", "nosuch"]).expect(1);
    sandbox.write("sessions.json", "{");
    sandbox.run(&["list"]).expect(1);
}

#[test]
fn its_json_is_stable() {
    let report = scene().json(&["list"]);
    assert_eq!(
        (&report["format_version"], &report["complete"], &report["sessions"]),
        (&json!("1.0"), &json!(true), &json!(7))
    );
    let chats = json!({ "changes": report["chats"] });
    let expected = json!({
        "chat_id": "+2", "session_name": "imessage/_2", "contact_name": "Bo", "tier": "family",
        "type": "individual", "source": "imessage", "model": "opus", "wanted": "sonnet",
        "because": { "rule": "tiers.family", "file": "policy.toml", "line": 8 },
        "managed": true, "set_by_hand": false, "differs": true, "owed": false, "held": false, "refused": false, "failed": false,
    });
    assert_eq!(*row(&chats, "+2"), expected);
    let group = row(&chats, "group");
    assert_eq!((&group["managed"], &group["wanted"], &group["tier"]), (&json!(false), &Value::Null, &Value::Null));
    for (chat, key) in [("+3", "owed"), ("+4", "held"), ("+5", "failed"), ("+6", "differs")] {
        assert_eq!(row(&chats, chat)[key], json!(true), "{chat}");
    }
}

#[test]
fn a_row_that_would_be_refused_says_so() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\", \"{{session_slug}}\"]\n");
    let sandbox = Sandbox::new(&policy, r#"{"+6": {"tier": "bots", "model": "opus"}}"#);
    let list = sandbox.run(&["list"]).expect(0).stdout;
    assert!(list.contains("refused, differs"), "{list}");
}

#[test]
fn under_pseudonyms_no_name_is_shown() {
    let sandbox = scene();
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    for format in ["text", "json"] {
        let list = sandbox.run(&["list", "--redact", "--format", format]).expect(0).stdout;
        for name in ["Ada", "Bo\"", "imessage/_", "\"+", "+3", "group\""] {
            assert!(!list.replace("\"type\": \"group\"", "").contains(name), "{name}: {list}");
        }
        assert!(list.contains("tiers.family") && list.contains("sonnet"), "{list}");
    }
}

#[test]
fn names_cannot_move_a_cursor() {
    let registry =
        r#"{"+1": {"contact_name": "\u001b[2J\u202e", "session_name": "a\nb", "tier": "family", "model": "x\u0007"}}"#;
    let list = Sandbox::new(POLICY, registry).run(&["list"]).expect(0).stdout;
    assert!(!list.contains(['\x1b', '\x07', '\u{202e}']) && list.lines().count() == 6, "{list}");
}

#[test]
fn it_fits_the_terminal() {
    let sandbox = scene();
    assert_eq!(at(&sandbox, 80, &["list"]), AT_EIGHTY);
    let long = "a very long contact name that fills a line by itself, and then some more of it to be sure";
    sandbox.write("sessions.json", REGISTRY.replace("Bo", long));
    let piped = finish(&mut sandbox.command(&["list"])).expect(0).stdout;
    assert!(piped.contains(long) && !piped.contains('…'), "{piped}");
    for columns in [80, 120] {
        let shown = at(&sandbox, columns, &["list"]);
        assert!(shown.lines().all(|line| line.width() <= columns as usize), "{shown}");
        assert_eq!(shown.lines().count(), piped.lines().count(), "a line for each chat: {shown}");
    }
    assert!(!at(&sandbox, 250, &["list"]).contains('…'));
}
