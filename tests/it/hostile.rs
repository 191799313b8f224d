//! Text that others have a say in reaches no terminal, log or workflow runner as anything but text.

use std::process::Stdio;

use reconcile::report::Format;
use serde_json::{Value, json};

use crate::support::{POLICY, Run, Sandbox};

/// Escape sequences, characters that reorder or end lines, markup, and commands to workflow runners.
pub const HOSTILE: [&str; 14] = [
    "\u{1b}[31mred\u{1b}[0m",
    "\u{1b}]0;title\u{7}",
    "\u{1b}]8;;http://evil.example\u{1b}\\link",
    "\u{9b}31mred",
    "\u{85}::error::next line",
    "cr\r::error::over",
    "line\n::error::below",
    "line\n##[error]below",
    "::error::first",
    "##[error]first",
    "\u{202e}desrever\u{2066}\u{61c}\u{200f}",
    "\u{2028}::error::separated\u{2029}::error::again",
    "</details><script>alert(1)</script>|`**bold**`[x](javascript:x)",
    "\u{0}nul\u{7f}",
];

/// What in an output moves a cursor, reorders a line, or speaks to a workflow runner.
pub fn harm(output: &str) -> Option<String> {
    // A carriage return before a line's end is that line's own, in a diff of such a registry.
    let raw = output.replace("\r\n", "\n").chars().find(|c| {
        (c.is_control() && *c != '\n' && *c != '\t')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    let command = output.lines().map(str::trim).find(|line| {
        // `::: file` is how a further place of a mistake is shown; a runner has no command named `:`.
        (line.starts_with("::") && !line.starts_with("::: ")) || line.starts_with("##[")
    });
    match (raw, command) {
        (Some(c), _) => Some(format!("holds {c:?} raw: {}", output.escape_debug())),
        (None, Some(line)) => Some(format!("has the line {line:?}")),
        (None, None) => None,
    }
}

#[track_caller]
fn assert_harmless(what: &str, output: &str) {
    if let Some(harm) = harm(output) {
        panic!("{what} {harm}");
    }
}

#[track_caller]
fn assert_run_is_harmless(what: &str, run: &Run) {
    assert_harmless(&format!("stdout of {what}"), &run.stdout);
    assert_harmless(&format!("stderr of {what}"), &run.stderr);
}

fn toml(text: &str) -> String {
    // JSON's escapes are TOML's too, save what JSON leaves raw.
    serde_json::to_string(text).unwrap().replace('\u{7f}', "\\u007f")
}

/// Every hostile text in every field of a registry, in chunks that stay below the limit on changes.
fn registry(text: &str) -> Value {
    let fields = ["session_name", "contact_name", "display_name", "tier", "type", "source", "model", "x", text];
    let mut registry = serde_json::Map::new();
    registry.insert(text.to_owned(), json!({ "model": "haiku", "session_name": text, "tier": "bots" }));
    for (number, field) in fields.iter().enumerate() {
        let mut entry = json!({ "session_name": format!("s{number}"), "model": "haiku" });
        entry[*field] = text.into();
        registry.insert(format!("chat{number}"), entry);
    }
    // A short way from a word that is asked for below.
    registry.insert(format!("near{text}"), json!({ "session_name": format!("near{text}") }));
    registry.into()
}

fn policy(text: &str) -> String {
    format!(
        r#"
[models]
allowed  = ["opus", "haiku"]
fallback = "opus"
aliases  = {{ {text} = "opus" }}

[tiers]
{text} = "haiku"

[[rules]]
type  = {text}
model = "haiku"

[chats]
{text} = {{ model = "opus", until = 2020-01-01, reason = {text} }}
chat2 = {{ managed = false, reason = {text} }}

[registry]
path = "sessions.json"

[sessions]
restart = ["./restart", "{{session_slug}}"]

[limits]
max_changes = 100
"#,
        text = toml(text)
    )
}

fn sandbox(text: &str) -> Sandbox {
    let sandbox = Sandbox::new(&policy(text), &serde_json::to_string_pretty(&registry(text)).unwrap());
    // The hostile text as a complaint: at the start of a line, behind blanks, and without a line's end.
    sandbox.write("complaint", format!("{text}\n  {text}\nbetween\n\t{text}"));
    sandbox.script("restart", "cat complaint >&2; exit 1");
    sandbox
}

#[test]
fn no_field_of_a_registry_reaches_an_output_raw() {
    for text in HOSTILE {
        let sandbox = sandbox(text);
        for (format, _) in Format::ALL {
            let run = sandbox.run(&["--dry-run", "--format", format]);
            assert_run_is_harmless(&format!("a dry run as {format}"), &run);
            assert!(run.stdout.lines().count() > 5, "there is nothing to see: {run:#?}");
            let file = format!("{format}=report.{format}");
            sandbox.run(&["--dry-run", "--output", &file]);
            assert_harmless(&file, &sandbox.read(&format!("report.{format}")));
        }
    }
}

#[test]
fn no_complaint_of_a_command_reaches_an_output_raw() {
    for text in HOSTILE {
        for (format, _) in Format::ALL {
            let sandbox = sandbox(text);
            let run = sandbox.run(&["--format", format]).expect(4);
            assert_run_is_harmless(&format!("an apply as {format}"), &run);
            // A comment on a pull request leaves it out.
            let is_shown = ["text", "json"].contains(&format);
            assert_eq!(run.stdout.contains("between"), is_shown, "the complaint as {format}: {run:#?}");
            assert_run_is_harmless("owed", &sandbox.run(&["owed"]).expect(0));
            // What waits for its next try, and what is tried now.
            assert_run_is_harmless("the next run", &sandbox.run(&["--format", format]));
            assert_run_is_harmless("a retry", &sandbox.run(&["--format", format, "--retry", "chat0"]));
        }
    }
}

/// The runners that know `##[…]` and `##vso[…]` look for them in the middle of lines, too.
#[test]
fn no_command_of_a_runner_is_found_anywhere_in_a_line() {
    let mut found = Vec::new();
    for command in ["##[add-mask]x", "##[error]x", "##vso[task.setvariable variable=x]y"] {
        let sandbox = sandbox(&format!("name {command}"));
        let mut look = |what: String, run: &Run| {
            let prefix = &command[..=command.find('[').unwrap()];
            let lines = run.stdout.lines().chain(run.stderr.lines());
            found.extend(lines.filter(|line| line.contains(prefix)).map(|line| format!("{what}: {line}")));
        };
        for (format, _) in Format::ALL {
            look(format!("a dry run as {format}"), &sandbox.run(&["--dry-run", "--format", format]));
        }
        look("an apply".to_owned(), &sandbox.run(&[]));
        sandbox.write("policy.toml", policy(command).replacen("\"opus\", ", "", 1));
        look("a broken policy".to_owned(), &sandbox.run(&[]).expect(1));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn json_still_says_what_the_registry_says() {
    for text in HOSTILE {
        let report = sandbox(text).json(&["--dry-run"]);
        let rows = report["changes"].as_array().unwrap();
        assert!(rows.iter().any(|row| row["chat_id"] == *text), "no row for {text:?}");
        assert!(rows.iter().any(|row| row["session_name"] == *text), "no session {text:?}");
        assert!(rows.iter().any(|row| row["detail"] == *text), "no reason {text:?}");
    }
}

#[test]
fn a_diff_still_has_the_lines_of_the_registry() {
    for text in HOSTILE {
        let run = sandbox(text).run(&["--dry-run", "--format", "diff"]);
        for line in run.stdout.lines().skip(2) {
            assert!(line.starts_with(['@', ' ', '-', '+', '\\']), "{line:?} is no line of a diff");
        }
    }
}

#[test]
fn models_that_nobody_expects_are_shown_as_text() {
    for text in HOSTILE.iter().filter(|text| !text.is_empty()) {
        let sandbox = sandbox(text);
        // In the registry it is an alias of opus; here it is none.
        let policy = sandbox.read("policy.toml");
        sandbox.write("policy.toml", policy.replace("aliases ", "# aliases "));
        let report = sandbox.json(&["--dry-run"]);
        let before = |row: &Value| row["before"] == **text;
        assert!(report["changes"].as_array().unwrap().iter().any(before), "{report:#}");
        for format in ["text", "markdown", "diff"] {
            assert_run_is_harmless(format, &sandbox.run(&["--dry-run", "--format", format]));
        }
        // And one that comes back at once.
        sandbox.script("restart", "sed -i 's/\"opus\"/\"\\\\u001b[31m::error::x\\\\u202e\"/' sessions.json");
        assert_run_is_harmless("a registry that changes back", &sandbox.run(&[]).expect(4));
    }
}

#[test]
fn mistakes_in_a_registry_are_shown_as_text() {
    for text in HOSTILE {
        let key = serde_json::to_string(text).unwrap();
        // Raw where JSON lets it stand, else escaped: the excerpt shows the line as it is.
        for key in [key.clone(), key.replace("\\u001b", "\u{1b}").replace("\\n", "\n").replace("\\r", "\r")] {
            for registry in [
                format!("{{{key}: 1}}"),
                format!("{{{key}: {{\"model\": {{{key}: {key}}}}}}}"),
                format!("{{{key}: {{}}, {key}: {{}}}}"),
                format!("{{{key}: {{\"tier\": \"a\", \"tier\": {key}}}}}"),
                format!("{{\"a\": {key}\n  {key}}}"),
                key.clone(),
                text.to_owned(),
            ] {
                let sandbox = Sandbox::new(POLICY, &registry);
                assert_run_is_harmless(&format!("the registry {registry:?}"), &sandbox.run(&[]).expect(1));
            }
        }
    }
}

#[test]
fn mistakes_in_a_policy_are_shown_as_text() {
    for text in HOSTILE {
        let key = toml(text);
        let valid = policy(text);
        for policy in [
            format!("{valid}\n[{key}]\n"),
            format!("{valid}\n{key} = {key}\n"),
            valid.replace("\"haiku\"", &key),
            valid.replace("\"./restart\"", &format!("\"{{nope}}\", {key}")),
            valid.replace("path = \"sessions.json\"", &format!("path = {key}")),
            format!("{valid}\n[tiers]\n{key} = 1\n"),
            valid.replace(&key, text),
            format!("{text}\n{valid}"),
        ] {
            let sandbox = Sandbox::new(&policy, "{}");
            let run = sandbox.run(&["--dry-run"]);
            assert_ne!(run.code, 101, "{run:#?}");
            assert_run_is_harmless(&format!("the policy {policy}"), &run);
        }
    }
}

#[test]
fn arguments_and_file_names_are_shown_as_text() {
    let mut found = Vec::new();
    for text in HOSTILE.iter().filter(|text| !text.contains('\0')) {
        let sandbox = sandbox(text);
        let mut look = |what: String, run: &Run| {
            found.extend(harm(&run.stdout).map(|harm| format!("stdout of {what} {harm}")));
            found.extend(harm(&run.stderr).map(|harm| format!("stderr of {what} {harm}")));
        };
        let output = format!("json={text}/missing/x");
        for arguments in [
            &["--dry-run", "--chat", text][..],
            &["--dry-run", "--chat", &format!("near{text}x")],
            &["--dry-run", "--tier", &format!("{text}x")],
            &["--dry-run", "--exclude", text],
            &["--retry", &format!("{text}?")],
            &["--dry-run", "--plan", text],
            &["--dry-run", "--policy", text],
            &["--dry-run", "--registry", text],
            &["--dry-run", "--output", &output],
            &["--dry-run", "--format", text],
            &["--dry-run", "--output", text],
            &["--dry-run", "--at", text],
            &["--lock-timeout", text],
            &["owed", "--forget", text],
            &["--allow-changes", text],
            &[text],
            &[&format!("--{text}")],
        ] {
            look(format!("{arguments:?}"), &sandbox.run(arguments));
        }
        // The same where they come from the environment.
        for name in ["RECONCILE_POLICY", "RECONCILE_REGISTRY"] {
            let run = crate::support::finish(sandbox.command(&["--dry-run"]).env(name, text).stdin(Stdio::null()));
            look(format!("{name}={text:?}"), &run);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_with_hostile_names_work_and_are_shown_as_text() {
    for text in HOSTILE.iter().filter(|text| !text.contains(['\0', '/'])) {
        let sandbox = sandbox(text);
        sandbox.write(text, sandbox.read("policy.toml"));
        sandbox.write(&format!("{text}.json"), sandbox.read("sessions.json"));
        let registry = format!("{text}.json");
        for (format, _) in Format::ALL {
            let arguments = ["--dry-run", "--policy", text, "--registry", &registry, "--format", format];
            let run = sandbox.run(&arguments);
            assert!(!run.stdout.is_empty(), "{run:#?}");
            assert_run_is_harmless(&format!("{arguments:?}"), &run);
        }
        let diff = ["--registry", &registry, "diff", "--from"];
        assert_run_is_harmless("a diff", &sandbox.run(&[&diff[..], &[text]].concat()).expect(0));
        let revision = format!("git:{text}");
        assert_run_is_harmless("a revision", &sandbox.run(&[&diff[..], &[&revision]].concat()).expect(1));
        sandbox.write(text, "[models]\nallowed = 1\n[models]\n");
        assert_run_is_harmless("a broken old policy", &sandbox.run(&[&diff[..], &[text]].concat()).expect(1));
        sandbox.write(&registry, "{\"a\": {}, \"a\": 1}");
        assert_run_is_harmless("a broken policy", &sandbox.run(&["--policy", text]).expect(1));
        assert_run_is_harmless("a broken registry", &sandbox.run(&["--registry", &registry]).expect(1));
    }
}

#[test]
fn what_is_checked_and_explained_is_shown_as_text() {
    for text in HOSTILE.iter().filter(|text| !text.contains('\0')) {
        let sandbox = sandbox(text);
        let mut policies = vec!["policy.toml"];
        if !text.contains('/') {
            sandbox.write(text, sandbox.read("policy.toml"));
            policies.push(text);
        }
        for policy in policies {
            for format in ["text", "json", "github"] {
                let run =
                    sandbox.run(&["check", "--policy", policy, "--registry", "sessions.json", "--format", format]);
                assert!(run.stdout.contains("expired-override"), "{run:#?}");
                // Annotations are what a runner should read: it is told by their start which are ours.
                let ours = ["::warning file=", "::error file=", "::notice file="];
                let others = |line: &&str| !ours.iter().any(|start| line.starts_with(start));
                let stdout: String = run.stdout.lines().filter(others).map(|line| format!("{line}\n")).collect();
                assert_harmless(&format!("{policy} checked as {format}"), &stdout);
                assert_harmless(&format!("{policy} checked as {format}"), &run.stderr);
                assert_eq!(
                    harm(
                        &["::warning", "::error", "::notice"]
                            .iter()
                            .fold(run.stdout.clone(), |text, ours| text.replace(ours, ""))
                    ),
                    None
                );
            }
            for chat in [*text, "chat2", &format!("near{text}x")] {
                for format in ["text", "json"] {
                    let run = sandbox.run(&["explain", "--policy", policy, "--format", format, "--", chat]);
                    assert!(run.stdout.lines().count() > 4, "{run:#?}");
                    assert_run_is_harmless(&format!("{chat:?} explained as {format}"), &run);
                }
            }
        }
        for option in ["--tier", "--session-name", "--contact-name", "--type", "--source"] {
            for chat in ["chat4", "new"] {
                let given = sandbox.run(&["explain", chat, &format!("{option}={text}")]);
                assert_run_is_harmless(&format!("{chat} with {option}"), &given);
            }
        }
    }
}
