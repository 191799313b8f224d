//! Large files that are not intended: no panic, no hang, and no work that grows with the square of the size.
//!
//! Each is given to the real binary under a limit of CPU time, which is not the wall clock's: what is linear needs a
//! small part of it, however busy the machine is, and what is quadratic would need minutes to hours.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::{POLICY, Run, Sandbox, finish};

/// Of CPU time.
const SECONDS: u32 = if cfg!(debug_assertions) { 8 } else { 60 };
/// In bytes, where most of the file is one token or one value.
const LARGE: usize = 10 << 20;
/// In bytes, where the file is many small parts. A debug build is some twenty times slower.
const MANY: usize = if cfg!(debug_assertions) { 384 << 10 } else { 10 << 20 };

fn dry_run(sandbox: &Sandbox) -> Run {
    dry_run_of(sandbox, "policy.toml")
}

fn dry_run_of(sandbox: &Sandbox, policy: &str) -> Run {
    limited(sandbox, &["--dry-run", "--registry", "sessions.json", "--policy", policy])
}

pub fn limited(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let mut command = Command::new("sh");
    let limit = format!("ulimit -t {SECONDS} && exec \"$@\"");
    command.args(["-c", &limit, "sh", env!("CARGO_BIN_EXE_reconcile")]).args(arguments);
    finish(command.current_dir(sandbox.path("")).env_remove("RECONCILE_POLICY").stdin(Stdio::null()))
}

fn check(what: &str, run: &Run, codes: &[i32]) {
    let told: String = run.stderr.chars().take(2_000).collect();
    assert!(codes.contains(&run.code), "{what}: {} (-1: out of time, or a crash): {told}", run.code);
    assert!(run.code == 0 || run.stderr.starts_with("error"), "{what}: {told}");
}

fn registry(what: &str, codes: &[i32], text: &str) {
    check(
        what,
        &dry_run(&Sandbox::new(&format!("{POLICY}shape = \"any\"\n[limits]\nmax_changes = 1000000000\n"), text)),
        codes,
    );
}

fn policy(what: &str, codes: &[i32], text: &str) {
    check(what, &dry_run(&Sandbox::new(text, "{}")), codes);
}

/// So many bytes of one piece.
fn of(piece: &str, bytes: usize) -> String {
    piece.repeat(bytes / piece.len())
}

/// So many bytes of numbered pieces: each `#` is the number.
fn numbered(piece: &str, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 100);
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        text += &piece.replace('#', &number.to_string());
    }
    text
}

const TOKENS: [&str; 14] = ["[", "]", "{", "\"", "'", "\\", " ", "\n", "\t", "7", "-", ",", "\0", "é"];
const MODELS: &str = "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n";

#[test]
fn a_registry_of_one_thing_over_and_over_is_an_error_soon() {
    for token in TOKENS {
        registry(&format!("{token:?}"), &[1], &of(token, LARGE));
    }
    for (start, token) in [("{\"a\": ", "["), ("{\"a\": {\"b\": ", "{\"b\": "), ("{\"a\": \"", "\\\""), ("{\"", "k")] {
        registry(&format!("{start} {token}"), &[1], &(start.to_owned() + &of(token, LARGE)));
    }
}

#[test]
fn a_large_field_that_nobody_asks_for_is_passed_over() {
    let nested = of("[", LARGE / 2) + &of("]", LARGE / 2);
    let string = |piece| format!("\"{}\"", of(piece, LARGE));
    for value in [nested, of("7", LARGE), string("\\ud800"), string("\\\\"), string("x")] {
        let what: String = value.chars().take(10).collect();
        registry(&what, &[0], &format!(r#"{{"a": {{"tier": "admin", "model": "opus", "field": {value}}}}}"#));
    }
    let fields = numbered(", \"f#\": 1", MANY);
    registry("fields", &[0], &format!(r#"{{"a": {{"model": "opus"{fields}}}}}"#));
}

#[test]
fn a_registry_of_many_chats_takes_time_in_proportion() {
    registry("chats", &[0], &format!("{{\"a\": {{}}{}}}", numbered(",\n\"c#\": {}", MANY)));
    registry("one chat", &[1], &format!("{{\"a\": {{}}{}}}", of(",\n\"a\": {}", MANY)));
    let twice = numbered(",\n\"c#\": {}", MANY / 2);
    registry("each chat twice", &[1], &format!("{{\"a\": {{}}{twice}{twice}}}"));
    registry("chats that are none", &[1], &format!("{{\"a\": 1{}}}", numbered(",\n\"c#\": 1", MANY)));
}

#[test]
fn a_registry_entry_of_many_mistakes_takes_time_in_proportion() {
    for field in [", \"model\": 1", ", \"tier\": \"x\"", ",\n\"tier\": null"] {
        registry(field, &[1], &format!("{{\"a\": {{\"b\": 1{}}}}}", of(field, MANY)));
    }
}

#[test]
fn a_policy_of_one_thing_over_and_over_is_an_error_soon() {
    for token in TOKENS.into_iter().chain([".", "=", "#", "k", "a.", "a\n", "[\n", "\"\"\"", "\r"]) {
        policy(&format!("{token:?}"), &[1], &of(token, MANY));
        for start in ["a = ", "[", "[models]\nallowed = [", "a = \"", "a = \"\"\"", "a = {"] {
            // Each of these reads the rest in another way; a part of it is enough.
            policy(&format!("{start}{token:?}"), &[1], &(start.to_owned() + &of(token, MANY / 32)));
        }
    }
    policy("dotted", &[1], &format!("{} = 1", of("a.", MANY) + "a"));
    policy("a dotted header", &[1], &format!("[{}]", of("a.", MANY) + "a"));
    policy("nested", &[1], &format!("a = {}", of("{a=", MANY)));
}

#[test]
fn a_policy_of_many_keys_takes_time_in_proportion() {
    let unclosed = numbered("k# = {\n", MANY / 2) + &of(" ", MANY / 2);
    let far = |piece| numbered(piece, MANY / 4) + &numbered(piece, MANY / 4);
    for text in [
        numbered("k# = 1\n", MANY),
        numbered("a.b.c.k# = 1\n", MANY),
        numbered("[h#]\n", MANY),
        numbered("[a.b.c.h#]\n", MANY),
        of("k = 1\n", MANY),
        of("[chats]\n", MANY),
        far("k# = 1\n"),
        far("[h#]\n"),
        unclosed,
        numbered("k# = \"\n", MANY),
        format!("[chats]\n{}", numbered("\"c#\" = 1\n", MANY)),
        format!("a = {{{}}}", of("k = 1, ", MANY)),
        format!("a = [{}]", of("1, ", MANY)),
    ] {
        let what: String = text.chars().take(20).collect();
        policy(&what, &[1], &text);
    }
    for (header, line) in [
        ("[chats]\n", "\"c#\" = \"opus\"\n"),
        ("", "[chats.c#]\nmodel = \"opus\"\n"),
        ("[tiers]\n", "t# = \"opus\"\n"),
        ("[models.aliases]\n", "a# = \"opus\"\n"),
    ] {
        policy(line, &[0], &format!("{MODELS}{header}{}", numbered(line, MANY)));
    }
}

#[test]
fn a_policy_of_many_rules_takes_time_in_proportion() {
    policy("rules", &[0], &(MODELS.to_owned() + &of("[[rules]]\ntier = \"a\"\nmodel = \"opus\"\n", MANY)));
    policy("empty rules", &[1], &of("[[rules]]\n", MANY));
}

#[test]
fn a_policy_of_many_models_takes_time_in_proportion() {
    let allowed = format!("[models]\nfallback = \"m0\"\nallowed = [{}]\n", numbered("\"m#\", ", MANY));
    policy("models", &[0], &allowed);
    let special = format!("[models]\nfallback = \"m0\"\nallowed = [\"m0\", {}]\n", numbered("\"(m#)\", ", MANY));
    let commands = "restart = [\"a\", \"{model}\"]\nrunning = [\"a\", \"{model}\"]\n";
    policy("models in arguments", &[1], &format!("{special}[sessions]\n{commands}"));
    let chats = numbered("c# = \"other\"\n", MANY);
    policy("models and chats", &[1], &format!("{allowed}[chats]\n{chats}"));
    let [known, other] = ["m", "n"].map(|letter| letter.repeat(MANY / 2));
    let long = format!("[models]\nfallback = \"m\"\nallowed = [\"m\", \"{known}\"]\n[tiers]\na = \"{other}\"\n");
    policy("long models", &[1], &long);
    policy("models and aliases", &[1], &format!("{allowed}[models.aliases]\n{}", numbered("c# = \"n\"\n", MANY)));
}

#[test]
fn a_policy_of_a_long_command_takes_time_in_proportion() {
    for (code, word) in [(0, "\"a\", "), (1, "\"{x}\", "), (0, "\"{session_slug}\", "), (1, "\"{chat_id}\", ")] {
        policy(word, &[code], &format!("{MODELS}[sessions]\nrestart = [\"a\", {}]\n", of(word, MANY)));
    }
    for (code, piece) in [(0, "{"), (1, "{x}"), (0, "{session_slug}"), (1, "{chat_id}"), (1, "{model} ")] {
        policy(piece, &[code], &format!("{MODELS}[sessions]\nrestart = [\"a\", \"{}\"]\n", of(piece, MANY)));
    }
}

#[test]
fn a_policy_of_many_files_takes_time_in_proportion() {
    let sandbox = Sandbox::new("", "{}");
    fs::create_dir_all(sandbox.path("policy.d/people")).unwrap();
    sandbox.write("policy.d/main.toml", MODELS);
    let file = |number: usize| format!("policy.d/people/{number:04}.toml");
    for number in 0..2_000 {
        let chats: String = (0..10).map(|chat| format!("\"chat-{number}-{chat}\" = \"opus\"\n")).collect();
        let tier = format!("[tiers]\nt{number} = \"opus\"\n");
        let rule = format!("[[rules]]\ntier = \"t{number}\"\nmodel = \"opus\"\n");
        sandbox.write(&file(number), format!("[chats]\n{chats}{tier}{rule}"));
    }
    check("files", &dry_run_of(&sandbox, "policy.d"), &[0]);

    let conflicting = sandbox.read(&file(1_777)).replace("chat-1777-6", "chat-3-4");
    sandbox.write(&file(1_777), conflicting);
    let run = dry_run_of(&sandbox, "policy.d").expect(1);
    assert_eq!(run.stderr.matches("error").count(), 1, "{run:#?}");
    for told in ["`chats.chat-3-4` is defined twice", "people/1777.toml:8:1", "people/0003.toml:6:1"] {
        assert!(run.stderr.contains(told), "{told}: {run:#?}");
    }

    // Every file is wrong in everything.
    for number in 0..2_000 {
        sandbox.write(&file(number), format!("{MODELS}[chats]\n\"a\" = \"opus\"\n\"b\" = \"x\"\n[limits]\nmax = 1\n"));
    }
    check("files of mistakes", &dry_run_of(&sandbox, "policy.d"), &[1]);
}

#[test]
fn a_policy_of_very_many_rules_and_overrides_is_checked_soon() {
    let rules = |piece| format!("{MODELS}{}", numbered(piece, MANY));
    let apart = rules("[[rules]]\nchat = \"x#y*\"\nmodel = \"opus\"\n");
    let alike = rules("[[rules]]\nchat = \"*?*#*\"\nmodel = \"opus\"\n");
    let chats = numbered("c# = \"opus\"\n", MANY);
    let list = numbered("\"?*#\", ", MANY);
    let long = format!("[[rules]]\nchat = [{list}]\nmodel = \"opus\"\n");
    for (what, policy) in [
        ("rules", apart.clone()),
        ("rules that cover others", alike),
        ("rules and overrides", format!("{apart}[chats]\n{chats}")),
        ("overrides", format!("{MODELS}[chats]\n{chats}")),
        ("long rules", format!("{MODELS}{long}{long}{long}")),
    ] {
        for more in [&[][..], &["--registry", "sessions.json"]] {
            let run = limited(&Sandbox::new(&policy, "{}"), &[&["check"], more].concat());
            assert_eq!(run.code, 0, "{what}: {} (-1: out of time)", run.stderr);
        }
    }
}

/// As many rows as a registry-wide change has. Each would cost a reading of the whole policy.
#[test]
fn taking_back_a_run_of_many_rows_takes_time_in_proportion() {
    let rows = MANY / 160;
    let chats = |model: &str| -> String {
        let chat = |number| format!(r#""+1617{number:07}": {{"tier": "bots", "model": "{model}"}}"#);
        format!("{{{}}}", (0..rows).map(chat).collect::<Vec<_>>().join(",\n"))
    };
    let sandbox = Sandbox::new(&format!("{POLICY}[limits]\nmax_changes = 1000000000\n"), &chats("opus"));
    check("the run", &limited(&sandbox, &[]), &[0]);
    let history = limited(&sandbox, &["history", "--format", "json"]).stdout;
    let line: serde_json::Value = serde_json::from_str(&history).unwrap();
    let undo = limited(&sandbox, &["undo", line["run"].as_str().unwrap()]);
    check("undo", &undo, &[0]);
    assert!(undo.stdout.ends_with(&format!("Applied: {rows} changed, 0 restarted, 0 deferred, 0 failed.\n")));
    assert_eq!(sandbox.read("policy.toml").matches("reason = \"undo of ").count(), rows);
}

#[test]
fn many_sessions_of_one_slug_take_time_in_proportion() {
    // To a supervisor these names are one.
    let entry = r#""+1617#": {"session_name": "a/b", "tier": "bots", "model": "opus"},"#;
    let entries = numbered(entry, MANY * 4);
    let restart = "[sessions]\nrestart = [\"true\", \"{session_slug}\"]\n[limits]\nmax_changes = 1000000000\n";
    let sandbox = Sandbox::new(&format!("{POLICY}{restart}"), &format!("{{{}}}", entries.trim_end_matches(',')));
    let run = dry_run(&sandbox);
    assert_eq!(run.code, 4, "-1: out of time, or a crash");
    let sessions = entries.matches("session_name").count();
    assert!(run.stdout.ends_with(&format!("0 in sync, {sessions} refused.\n")), "{}", run.summary());
}
