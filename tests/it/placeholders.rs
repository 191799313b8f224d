//! What commands are told of a chat: in the environment, and with `names_in_arguments` as one argument or none.

use serde_json::{Value, json};

use crate::commands::{CHAT, RECORD, drifted, with};
use crate::support::{Run, Sandbox, finish, registry, row};

/// A registry of this one entry, with what it has beyond its id.
fn entry(chat: &str, fields: &Value) -> String {
    let mut entry = json!({ "chat_id": chat, "model": "opus" });
    entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ chat: entry }).to_string()
}

/// Lets every placeholder stand in an argument.
const NAMES: &str = "names_in_arguments = true\n";

pub const HOSTILE: [&str; 16] = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "| touch pwned & touch pwned",
    "it's \"quoted\" \\ $HOME * ~",
    "{session_slug} {model} {}",
    "two  words ",
    " ",
    "right\u{202e}to left",
    "-rf",
    "--",
    "line\ntouch pwned",
    "tab\tand\r",
    "nul\0byte",
    "\u{1b}[31mred\u{1b}]0;title\u{7}",
    "\u{9b}31m",
];

/// A registry of one entry, with `value` where the placeholder takes it from.
fn hostile(placeholder: &str, value: &str) -> String {
    match placeholder {
        "chat_id" => entry(value, &json!({ "session_name": "a/b" })),
        "session_slug" => entry(CHAT, &json!({ "session_name": value })),
        "session_name" | "contact_name" => entry(CHAT, &json!({ "session_name": "a/b", placeholder: value })),
        _ => entry(CHAT, &json!({ "session_name": "a/b", "contact_name": "Ada", placeholder: value })),
    }
}

fn holds(placeholder: &str, value: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let slug = || value.bytes().map(|byte| if plain(byte) { char::from(byte) } else { '-' }).collect();
    let filled = if placeholder == "session_slug" { slug() } else { value.to_owned() };
    let refused = filled.starts_with('-') || filled.contains(char::is_control) || value.contains('\0');

    let command = format!("{NAMES}restart = [\"./record\", \"{{{placeholder}}}\", \"a{{{placeholder}}}b\"]");
    let sandbox = with(&command, &hostile(placeholder, value));
    sandbox.script("record", "printf '%s\\0' $# \"$@\" >> arguments");
    let Run { code, stdout, stderr } = sandbox.run(&[]);
    let what = format!("{placeholder} = {value:?}: {stdout}{stderr}");
    assert_eq!(code, if refused { 4 } else { 0 }, "{what}");
    let expected = if refused { String::new() } else { format!("2\0{filled}\0a{filled}b\0") };
    assert_eq!(sandbox.read("arguments"), expected, "{what}");
    if refused {
        assert!(sandbox.read("sessions.json").contains("\"opus\""), "a refused row is left as it was: {what}");
        assert!(sandbox.ledger()["owed"].as_object().is_none_or(serde_json::Map::is_empty), "{what}");
    }
    assert!(!sandbox.path("pwned").exists(), "{what}");
    let shown = format!("{stdout}{stderr}");
    assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{what}");
    assert!(!shown.lines().any(|line| line.starts_with("touch")), "{what}");
}

#[test]
fn a_hostile_field_is_one_argument_or_refused() {
    for placeholder in ["chat_id", "session_name", "session_slug", "contact_name", "tier", "type", "source"] {
        for value in HOSTILE {
            holds(placeholder, value);
        }
    }
}

#[test]
fn a_hostile_model_is_in_the_environment_alone() {
    for (model, allowed) in [
        ("$(touch${IFS}pwned)", true),
        ("'\"\\;id>pwned", true),
        ("-rf", true),
        ("a,b", true),
        ("é", true),
        ("a b", false),
        ("a\u{1b}", false),
    ] {
        let quoted = json!(model);
        for (argument, code) in [("\"{model}\"", 1), ("\"m={model}\"", 1), ("\"x\"", i32::from(!allowed))] {
            let policy = format!(
                "[models]\nallowed = [{quoted}]\nfallback = {quoted}\n[registry]\npath = \"sessions.json\"\n\
                 [sessions]\nrestart = [\"./record\", {argument}]\n"
            );
            let sandbox = Sandbox::new(&policy, &registry(&[(CHAT, "family", "opus")]));
            sandbox.script("record", "printf '%s\\0' $# \"$@\" \"$RECONCILE_MODEL\" >> arguments");
            let run = sandbox.run(&[]).expect(code);
            assert_eq!(sandbox.read("arguments"), if code == 0 { format!("1\0x\0{model}\0") } else { String::new() });
            let is_told = run.stderr.contains("error[model-in-argument]") && run.stderr.contains("RECONCILE_MODEL");
            assert_eq!(is_told, allowed && code == 1, "{model}: {run:#?}");
            assert!(!sandbox.path("pwned").exists());
        }
    }
}

#[test]
fn every_model_of_plain_characters_is_one_argument() {
    let model = "us.anthropic/Claude-3:5@v1_0+x";
    let policy = format!(
        "[models]\nallowed = [\"{model}\"]\nfallback = \"{model}\"\n[registry]\npath = \"sessions.json\"\n\
         [sessions]\nrestart = [\"./record\", \"{{model}}\", \"--model={{model}}\"]\n"
    );
    let sandbox = Sandbox::new(&policy, &registry(&[(CHAT, "family", "opus")]));
    sandbox.script("record", "printf '%s\\n' \"$@\" >> arguments");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("arguments"), format!("{model}\n--model={model}\n"));
}

#[test]
fn a_dash_behind_text_is_harmless_and_a_nul_is_replaced_in_the_environment() {
    let sandbox = with(
        &format!("{NAMES}restart = [\"./record\", \"--who={{contact_name}}\"]"),
        &entry(CHAT, &json!({ "session_name": "a/b", "contact_name": "-rf" })),
    );
    sandbox.script("record", "printf '%s\\0' $# \"$@\" >> arguments");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("arguments"), "1\0--who=-rf\0");

    let restart = r#"restart = ["./record"]"#;
    let sandbox = with(restart, &entry(CHAT, &json!({ "session_name": "a/b", "contact_name": "Ada\0" })));
    sandbox.script("record", "printf '%s' \"$RECONCILE_CONTACT_NAME\" > name");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("name"), "Ada\u{fffd}");

    // The name of another session, perhaps.
    let sandbox = with(restart, &entry(CHAT, &json!({ "session_name": "a\0" })));
    sandbox.run(&[]).expect(4);
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("opus"));
}

#[test]
fn a_command_is_filled_with_4096_bytes_at_most() {
    for (length, code) in [(2048, 0), (2049, 4)] {
        let sandbox = with(
            &format!("{NAMES}restart = [\"./record\", \"{{contact_name}}\", \"x {{contact_name}}\"]"),
            &entry(CHAT, &json!({ "contact_name": "a".repeat(length) })),
        );
        sandbox.script("record", "echo $# >> calls");
        let run = sandbox.run(&[]).expect(code);
        assert_eq!(
            run.stdout.contains("the fields in its command would be longer than 4096 bytes in all"),
            code == 4,
            "{run:#?}"
        );
    }
}

#[test]
fn a_chat_never_chooses_the_program() {
    for command in [r#""{contact_name}""#, r#""./restart-{tier}", "x""#] {
        for names in ["", NAMES] {
            let run = drifted(&format!("{names}restart = [{command}]")).run(&["check"]).expect(1);
            assert!(run.stdout.contains("placeholder in the program's name"), "{command}: {run:#?}");
        }
    }
}

#[test]
fn control_characters_count_where_a_chat_brings_them() {
    let sandbox = with(
        &format!("{NAMES}restart = [\"./record\", \"restart\\t{{session_slug}}\"]"),
        &entry(CHAT, &json!({ "session_name": "a", "contact_name": "A\nB" })),
    );
    sandbox.script("record", "printf '%s\\0' \"$@\" \"$RECONCILE_CONTACT_NAME\" >> arguments");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("arguments"), "restart\ta\0A\nB\0");
}

#[test]
fn the_slug_and_the_model_are_accepted_where_nothing_can_run_them() {
    for command in [
        r#""sh", "-c", "echo \"$1\"", "sh", "{session_slug}""#,
        r#""sh", "./restart", "--chat={session_slug}", "--model", "{model}""#,
        r#""su", "me", "--command=exec \"$0\"", "{session_slug}""#,
        r#""su", "-s", "/bin/sh", "-c", "exec \"$0\" \"$@\"", "me", "--", "./restart", "{session_slug}""#,
        r#""env", "NAME=x", "./restart", "{session_slug}""#,
        r#""env", "NAME={session_slug}", "./restart", "--model={model}""#,
        r#""env", "-S", "sh -c true", "{session_slug}""#,
        r#""flock", "-n", "lock", "./restart", "{session_slug}""#,
        r#""flock", "--conflict-exit-code", "3", "lock", "./restart", "{session_slug}""#,
        r#""ssh", "-p", "22", "{session_slug}.example""#,
        r#""systemctl", "restart", "ssh@{session_slug}""#,
        r#""tmux", "respawn-window", "-k", "-t", "=c:={session_slug}""#,
        r#""tmux", "respawn-window", "-k", "-t", "=c:={session_slug}", "claude", "--model", "{model}""#,
    ] {
        let run = drifted(&format!("restart = [{command}]")).run(&["check"]);
        assert_eq!(run.code, 0, "{command}: {run:#?}");
    }
}

#[test]
fn every_field_is_in_the_environment_and_an_absent_one_is_empty() {
    let sandbox = with(
        r#"restart = ["./restart"]"#,
        &entry(CHAT, &json!({ "session_name": "imessage/é", "contact_name": "Ada\nQuinn", "source": "imessage" })),
    );
    sandbox.script(
        "restart",
        r#"printf '%s|' "$RECONCILE_CHAT_ID" "$RECONCILE_SESSION_NAME" "$RECONCILE_SESSION_SLUG" \
           "$RECONCILE_CONTACT_NAME" "${RECONCILE_TIER-unset}" "${RECONCILE_TYPE-unset}" "$RECONCILE_SOURCE" \
           "$RECONCILE_MODEL" "$KEPT" > environment"#,
    );
    let mut command = sandbox.command(&[]);
    // What another program left there must not be taken for the chat's.
    finish(command.env("RECONCILE_TIER", "admin").env("KEPT", "kept")).expect(0);
    assert_eq!(sandbox.read("environment"), "+16175550142|imessage/é|imessage---|Ada\nQuinn|||imessage|sonnet|kept|");
}

#[test]
fn two_sessions_with_one_slug_are_refused_and_the_others_are_not() {
    let entry = |name: &str, model: &str| json!({ "session_name": name, "tier": "family", "model": model });
    let sessions = json!({
        "+1": entry("imessage/a", "opus"), "+2": entry("imessage-a", "sonnet"), "+3": entry("all", "opus"),
        "+4": entry("imessage/b", "opus"), "+5": json!({ "tier": "family", "model": "opus" }),
        "+6": json!({ "session_name": "", "tier": "family", "model": "opus" }),
    });
    let sandbox = with(RECORD, &sessions.to_string());
    sandbox.script("restart", "echo $1 >> calls");
    sandbox.run(&["--dry-run"]).expect(4);
    let report = sandbox.json(&[]);
    assert_eq!(sandbox.calls(), ["imessage-b"]);
    for (chat, why) in [
        ("+1", "the session of +2 has the same slug"),
        ("+3", "its session's slug is `all`, which supervisors read as every session"),
        ("+5", "the command needs a session name, and the entry has none"),
        ("+6", "the command needs a session name, and the entry has none"),
    ] {
        assert_eq!((&row(&report, chat)["outcome"], &row(&report, chat)["detail"]), (&json!("refused"), &json!(why)));
        assert_eq!(sandbox.model(chat).as_deref(), Some("opus"), "{chat}");
    }
    assert_eq!((sandbox.model("+4").as_deref(), &report["summary"]["refused"]), (Some("sonnet"), &json!(4)));
}

#[test]
fn sessions_with_one_slug_are_restarted_by_a_command_that_does_not_name_it() {
    let entry = |name: &str| json!({ "session_name": name, "tier": "family", "model": "opus" });
    let sessions = json!({ "+1": entry("imessage/a"), "+2": entry("imessage-a"), "+3": entry("all") });
    let sandbox = with(r#"restart = ["./restart", "{model}"]"#, &sessions.to_string());
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    let report = sandbox.json(&[]);
    assert_eq!(sandbox.calls(), ["+1", "+2"]);
    // A script that reads it from its environment would restart every session.
    let why = "its session's slug is `all`, which supervisors read as every session";
    assert_eq!((&row(&report, "+3")["outcome"], &row(&report, "+3")["detail"]), (&json!("refused"), &json!(why)));
}

#[test]
fn the_slug_counts_where_any_of_the_commands_names_it() {
    for key in ["running", "identity"] {
        let others = ["running", "identity"].map(|other| {
            let argument = if other == key { "{session_slug}" } else { "{model}" };
            format!("{other} = [\"./{other}\", \"{argument}\"]\n")
        });
        let entry = |name: &str| json!({ "session_name": name, "tier": "family", "model": "opus" });
        let sessions = json!({ "+1": entry("imessage/a"), "+2": entry("imessage-a") });
        let commands = format!("restart = [\"./restart\"]\n{}", others.concat());
        let sandbox = with(&commands, &sessions.to_string());
        sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
        sandbox.script("running", "exit 0");
        sandbox.script("identity", "echo started");
        let report = sandbox.json(&[]);
        assert_eq!(row(&report, "+1")["detail"], json!("the session of +2 has the same slug"), "{key}");
        assert_eq!(row(&report, "+2")["detail"], json!("the session of +1 has the same slug"), "{key}");
    }
}

#[test]
fn a_command_that_names_no_session_needs_no_session_name() {
    let restart = format!("{NAMES}restart = [\"./restart\", \"{{contact_name}}\"]");
    let sandbox = with(&restart, &entry(CHAT, &json!({ "tier": "family" })));
    sandbox.script("restart", "echo \"$# [$1]\" >> calls");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls(), ["1 []"]);
}
