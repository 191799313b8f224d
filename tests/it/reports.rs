//! What a run says, in each format, and where it says it; and where policy and registry are found.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use reconcile::report::Format;
use serde_json::{Value, json};

use crate::support::{POLICY, Run, Sandbox, finish, needs, registry, row};

const CHAT: &str = "+16175550142";
const RESTART: &str = "[sessions]\nrestart = [\"./restart\"]\n";

/// A dozen chats of which four drift, far enough apart for more than one hunk.
fn sandbox(more: &str) -> Sandbox {
    let ids: Vec<String> = (0..12).map(|index| format!("+1617555{index:04}")).collect();
    let model = |index: usize| match index {
        0 | 1 => "opus",
        6 => "",
        11 => "haiku",
        _ => "sonnet",
    };
    let chats: Vec<_> = ids.iter().enumerate().map(|(index, id)| (id.as_str(), "family", model(index))).collect();
    let sandbox = Sandbox::new(&format!("{POLICY}\n{RESTART}\n{more}"), &registry(&chats));
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    sandbox
}

/// A text with a unified diff applied; panics where they do not fit.
fn patched(text: &str, diff: &str) -> String {
    let old: Vec<&str> = text.split_inclusive('\n').collect();
    let (mut new, mut at, mut last) = (String::new(), 0, " ");
    for line in diff.split_inclusive('\n').skip(2) {
        let (mark, rest) = line.split_at(1);
        match mark {
            "@" => {
                let start = line.split(['-', ',']).nth(1).unwrap().parse::<usize>().unwrap() - 1;
                new.extend(old[at..start].iter().copied());
                at = start;
            }
            "+" => new.push_str(rest),
            "\\" if last != "-" => assert_eq!(new.pop(), Some('\n')),
            "\\" => {}
            _ => {
                assert_eq!(rest.trim_end_matches('\n'), old[at].trim_end_matches('\n'), "line {}", at + 1);
                new.push_str(if mark == " " { rest } else { "" });
                at += 1;
            }
        }
        last = mark;
    }
    new.extend(old[at..].iter().copied());
    new
}

#[test]
fn a_long_name_is_whole_a_very_long_model_is_cut_and_neither_widens_another_row() {
    let (name, model) = ("1".repeat(60), "m".repeat(10_000));
    let registry = registry(&[(&name, &"tier".repeat(20), &model), ("2", "family", "opus")]);
    let run = Sandbox::new(POLICY, &registry).run(&["--dry-run"]).expect(0);
    let rows: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("  ~")).collect();
    assert!([&name, &"tier".repeat(20)].iter().all(|text| rows[0].contains(*text)), "{rows:?}");
    // A model may stand in every row.
    assert!(rows[0].contains(&format!("{}…", "m".repeat(199))) && rows[0].len() < 1000, "{rows:?}");
    assert!(rows[1].len() < 250, "{rows:?}");
}

#[test]
fn a_session_without_a_name_is_called_by_its_chat() {
    let registry = r#"{"+1": {"session_name": "", "tier": "family"}}"#;
    let run = Sandbox::new(POLICY, registry).run(&["--dry-run"]).expect(0);
    assert!(run.stdout.lines().any(|line| line.contains(" +1 ") && line.contains("(none) → sonnet")), "{run:?}");
}

/// A registry as the daemon writes it, on one line, with a last line end, and with those of Windows.
const LAYOUTS: [fn(&str) -> String; 4] = [
    |text| text.to_owned(),
    |text| text.replace(['\n', ' '], ""),
    |text| format!("{text}\n"),
    |text| text.replace('\n', "\r\n"),
];

/// For each layout of a registry: the sandbox, the registry before a run, and the diff that a dry run printed.
fn diffs() -> impl Iterator<Item = (Sandbox, String, String)> {
    LAYOUTS.into_iter().map(|layout| {
        let sandbox = sandbox("");
        let before = layout(&sandbox.read("sessions.json"));
        sandbox.write("sessions.json", &before);
        let diff = sandbox.run(&["--dry-run", "--format", "diff"]).expect(0).stdout;
        (sandbox, before, diff)
    })
}

#[test]
fn the_diff_of_a_dry_run_applies_and_gives_what_a_run_gives() {
    for (sandbox, before, diff) in diffs() {
        assert!(diff.starts_with("--- sessions.json\n+++ sessions.json\n@@ -"), "{diff}");
        assert_eq!(sandbox.run(&["--format", "diff"]).expect(0).stdout, diff, "what was done is what was planned");
        let after = sandbox.read("sessions.json");
        assert_ne!(after, before);
        assert_eq!(patched(&before, &diff), after);
        assert_eq!(sandbox.run(&["--format", "diff"]).expect(0).stdout, "", "nothing differs any more");
    }
}

#[test]
#[ignore = "needs patch"]
fn the_diff_of_a_dry_run_is_one_that_patch_applies() {
    needs(&["patch"]);
    for (sandbox, before, diff) in diffs() {
        sandbox.write("copy.json", before);
        sandbox.write("plan.diff", diff);
        let mut patch = Command::new("patch");
        patch.args(["--binary", "-s", "copy.json", "plan.diff"]).current_dir(sandbox.path(""));
        finish(&mut patch).expect(0);
        sandbox.run(&[]).expect(0);
        assert_eq!(sandbox.read("copy.json"), sandbox.read("sessions.json"));
    }
}

#[test]
fn a_carriage_return_alone_ends_no_line_of_a_diff() {
    let sandbox = sandbox("");
    sandbox.write("sessions.json", sandbox.read("sessions.json").replace(' ', "\r"));
    let diff = sandbox.run(&["--dry-run", "--format", "diff"]).expect(0).stdout;
    let [counted, old, new] =
        ['@', '-', '+'].map(|mark| diff.lines().skip(2).filter(move |line| line.starts_with(mark)));
    let same = diff.lines().filter(|line| line.starts_with(' ')).count();
    let counts = counted.flat_map(|head| head.split(',').skip(1).filter_map(|rest| rest.split(' ').next()));
    let numbers = counts.map(|count| count.parse::<usize>().unwrap());
    assert_eq!(numbers.sum::<usize>(), 2 * same + old.count() + new.count(), "{diff}");
}

#[test]
fn the_text_shows_each_row_with_what_decided_and_ends_with_the_summary() {
    let sandbox = sandbox("[chats]\n\"+16175550003\" = { managed = false, reason = \"she picks it herself\" }\n");
    let text = sandbox.run(&["--dry-run"]).expect(0).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("policy.toml · 12 sessions in sessions.json · plan "), "{text}");
    let line = |name: &str| {
        lines.iter().find(|line| line.contains(name)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("_16175550000"), "~ imessage/_16175550000 family opus → sonnet restart policy.toml:8 tiers.family");
    assert_eq!(
        line("_16175550006"),
        "~ imessage/_16175550006 family (none) → sonnet restart policy.toml:8 tiers.family"
    );
    assert_eq!(line("_16175550003"), "! imessage/_16175550003 family not managed she picks it herself");
    assert_eq!(lines.last(), Some(&"Plan: 4 to change, 4 to restart, 0 deferred, 7 in sync, 1 not managed."));
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn every_format_is_offered_by_the_help_and_has_a_report_of_its_own() {
    let sandbox = sandbox("");
    let help = sandbox.run(&["plan", "--help"]).expect(0).stdout;
    let (_, offer) = help.split_once("--format <FORMAT>").unwrap();
    let (offer, _) = offer.split_once("--output").unwrap();
    let mut reports = BTreeSet::new();
    for (name, format) in Format::ALL {
        assert!(offer.split([' ', ',', '\n']).any(|word| word == name), "{name} is not offered: {offer}");
        let run = sandbox.run(&["plan", "--format", name]).expect(0);
        assert!(!run.stdout.is_empty() && reports.insert(run.stdout), "{format:?} is empty, or another one");
    }
}

#[test]
fn an_unmanaged_chat_is_shown_and_left_alone() {
    let sandbox = Sandbox::new(
        &format!("{POLICY}\n{RESTART}\n[chats]\n{CHAT:?} = {{ managed = false, reason = \"her own\" }}\n"),
        &registry(&[(CHAT, "family", "opus")]),
    );
    let report = sandbox.json(&[]);
    let shown = row(&report, CHAT);
    assert_eq!((&shown["outcome"], &shown["detail"]), (&json!("unmanaged"), &json!("her own")));
    assert_eq!((&shown["edit"], &shown["restart"], &shown["after"]), (&json!(false), &json!(false), &Value::Null));
    assert_eq!(
        (&shown["because"]["rule"], &report["summary"]["unmanaged"]),
        (&json!("chats.\"+16175550142\""), &json!(1))
    );
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("opus"));
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 1 not managed.");
}

#[test]
fn equal_inputs_give_equal_bytes_whenever_and_wherever() {
    let first = sandbox("");
    let second = sandbox("");
    let json = |sandbox: &Sandbox, more: &[&str]| {
        sandbox.run(&[&["--dry-run", "--format", "json"], more].concat()).expect(0).stdout
    };
    assert_eq!(json(&first, &[]), json(&second, &[]));
    assert_eq!(json(&first, &[]), json(&first, &["--at", "2031-01-01"]));
    assert_eq!(first.run(&["--format", "json"]).expect(0).stdout, second.run(&["--format", "json"]).expect(0).stdout);
    assert_eq!(json(&first, &[]), json(&second, &[]));

    // With debts, too, which have times of their own.
    let failing = |sandbox: &Sandbox| {
        sandbox.write("sessions.json", registry(&[(CHAT, "family", "opus")]));
        sandbox.script("restart", "exit 1");
        sandbox.run(&["--format", "json"]).expect(4).stdout
    };
    assert_eq!(failing(&first), failing(&second));
    let json = |sandbox: &Sandbox| sandbox.run(&["--dry-run", "--format", "json"]).expect(4).stdout;
    assert_eq!(json(&first), json(&second));
    assert!(json(&first).contains("waits for its next try"));
}

#[test]
fn the_counters_of_a_report_add_up_to_the_sessions() {
    let sandbox = sandbox("[chats]\n\"+16175550003\" = { managed = false }\n");
    sandbox.script("restart", "test $RECONCILE_CHAT_ID != +16175550000");
    for (arguments, sessions) in [(&["--dry-run"][..], 12), (&[], 12), (&[], 12), (&["--chat", "+16175550000"], 1)] {
        let report = sandbox.json(arguments);
        let summary = &report["summary"];
        let counted: u64 = ["deferred", "refused", "failed", "unknown", "held", "unmanaged", "in_sync"]
            .map(|counter| summary[counter].as_u64().unwrap())
            .iter()
            .sum();
        let outcomes = report["changes"].as_array().unwrap().iter().map(|row| row["outcome"].as_str().unwrap());
        let acted = outcomes.filter(|outcome| ["planned", "done"].contains(outcome)).count() as u64;
        assert_eq!(counted + acted, sessions, "{arguments:?}: {report:#}");
        assert_eq!((&report["format_version"], &report["sessions"]), (&json!("1.0"), &json!(12)));
        assert_eq!(report["mode"], if arguments == ["--dry-run"] { "dry-run" } else { "apply" });
    }
}

#[test]
fn a_report_goes_to_as_many_files_as_wanted() {
    let sandbox = sandbox("");
    sandbox.write("old.json", "an older report");
    sandbox.write("real", "");
    symlink("real", sandbox.path("link")).unwrap();
    let outputs = ["--output", "json=old.json", "--output", "diff=plan.diff", "--output", "text=link"];
    let run = sandbox.run(&[&["--dry-run"], &outputs[..]].concat()).expect(0);
    assert_eq!(sandbox.read("real"), run.stdout);
    assert!(sandbox.path("link").is_symlink());
    assert_eq!(sandbox.read("old.json"), sandbox.run(&["--dry-run", "--format", "json"]).stdout);
    assert_eq!(sandbox.read("plan.diff"), sandbox.run(&["--dry-run", "--format", "diff"]).stdout);
}

/// A named pipe that nothing has open.
fn pipe(sandbox: &Sandbox, name: &str) {
    assert!(Command::new("mkfifo").arg(sandbox.path(name)).status().unwrap().success());
}

#[test]
fn reports_and_metrics_go_to_regular_files_alone_and_nothing_is_waited_for() {
    let sandbox = sandbox("");
    let before = sandbox.read("sessions.json");
    pipe(&sandbox, "pipe");
    for (link, to) in [("to-pipe", "pipe"), ("to-null", "/dev/null"), ("to-full", "/dev/full")] {
        symlink(to, sandbox.path(link)).unwrap();
    }
    for file in ["pipe", "to-pipe", "to-null", "to-full", "/dev/null", "/dev/stdout", "/dev/stderr", "."] {
        for option in [["--output", &format!("json={file}")], ["--metrics", file]] {
            for dry in [&["--dry-run"][..], &[]] {
                let run = sandbox.run(&[dry, &option].concat()).expect(1);
                assert!(
                    run.stderr.contains(&format!("error[not-replaceable]: cannot write {file}: it is a ")),
                    "{run:#?}"
                );
                assert!(run.stderr.contains("hint: name a regular file"), "{run:#?}");
                assert_eq!((sandbox.read("sessions.json"), sandbox.calls().len()), (before.clone(), 0));
            }
        }
    }
    let run = sandbox.run(&["diff", "--from", "policy.toml", "--output", "json=pipe"]).expect(1);
    assert!(run.stderr.contains("error[not-replaceable]: cannot write pipe: it is a pipe"), "{run:#?}");
}

#[test]
fn a_report_keeps_the_permissions_of_what_was_there() {
    let mode = |sandbox: &Sandbox, name: &str| fs::metadata(sandbox.path(name)).unwrap().permissions().mode() & 0o777;
    let outputs = ["--output", "json=plan.json", "--metrics", "out.prom"];
    let under = |sandbox: &Sandbox, umask: &str| {
        let script = format!("umask {umask} && exec \"$0\" \"$@\"");
        let program = env!("CARGO_BIN_EXE_reconcile");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, program, "--dry-run"]).args(outputs);
        finish(shell.current_dir(sandbox.path("")).env("TZ", "UTC")).expect(0);
    };
    for (old, umask) in [(0o644, "077"), (0o640, "000"), (0o600, "022"), (0o664, "022")] {
        let sandbox = sandbox("");
        for name in ["plan.json", "out.prom"] {
            sandbox.write(name, "");
            fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(old)).unwrap();
        }
        under(&sandbox, umask);
        assert_eq!([mode(&sandbox, "plan.json"), mode(&sandbox, "out.prom")], [old; 2], "umask {umask}");
    }
    // New metrics are for the node exporter, which is another user; a new report is as private as the umask says.
    for (umask, report) in [("077", 0o600), ("022", 0o644), ("002", 0o664)] {
        let sandbox = sandbox("");
        under(&sandbox, umask);
        assert_eq!([mode(&sandbox, "plan.json"), mode(&sandbox, "out.prom")], [report, 0o644], "umask {umask}");
    }
}

#[test]
#[ignore = "needs strace"]
fn a_report_is_on_disk_before_it_has_its_name() {
    needs(&["strace"]);
    let sandbox = sandbox("");
    sandbox.write("plan.json", "an older report");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-o", "trace", "-e", "trace=fsync,fdatasync,linkat,rename,renameat,renameat2"]);
    strace.args([env!("CARGO_BIN_EXE_reconcile"), "--dry-run", "--output", "json=plan.json", "--metrics", "out.prom"]);
    finish(strace.current_dir(sandbox.path("")).env("TZ", "UTC")).expect(0);
    let root = fs::canonicalize(sandbox.path("")).unwrap().display().to_string();
    let trace = sandbox.read("trace");
    for name in ["plan.json", "out.prom"] {
        let lines: Vec<&str> = trace.lines().collect();
        let renamed = lines.iter().position(|line| line.contains("rename") && line.contains(&format!("{name}\"")));
        let renamed = renamed.unwrap_or_else(|| panic!("{name} was not renamed: {trace}"));
        // Its name is given after that: until then the system calls it by its inode.
        let before = lines[..renamed].iter().rfind(|line| line.contains("linkat(")).unwrap();
        let linked = before.split("/proc/self/fd/").nth(1).unwrap().split('"').next().unwrap();
        let saved = format!("sync({linked}<{root}/#");
        let linked_at = lines.iter().position(|line| line == before).unwrap();
        assert!(lines[..linked_at].iter().any(|line| line.contains(&saved)), "{name}: {trace}");
        let directory = format!("{root}>");
        let synced = |line: &&str| line.contains("sync(") && line.contains(&directory);
        assert!(lines[renamed..].iter().any(synced), "{name}: {trace}");
    }
}

#[test]
fn a_file_that_cannot_be_written_costs_nothing() {
    let sandbox = sandbox("");
    let before = sandbox.read("sessions.json");
    symlink("nothing.json", sandbox.path("link")).unwrap();
    let entries = names(&sandbox);
    assert!(sandbox.run(&["--output", "json=-"]).expect(64).stderr.contains("for stdout, use --format"));
    for file in ["json=.", "json=nowhere/plan.json", "json=restart/plan.json", "json=link"] {
        let run = sandbox.run(&["--output", "text=fine", "--output", file]).expect(1);
        assert!(run.stderr.contains("]: cannot write "), "{run:#?}");
        assert_eq!((sandbox.read("sessions.json"), sandbox.calls().len()), (before.clone(), 0));
        assert_eq!(names(&sandbox), entries, "nothing is left lying about");
    }
}

#[test]
fn a_report_never_takes_the_place_of_the_registry_or_the_policy() {
    for file in ["json=sessions.json", "json=./sessions.json", "text=link.json", "json=policy.toml"] {
        let sandbox = sandbox("");
        symlink("sessions.json", sandbox.path("link.json")).unwrap();
        let (registry, policy) = (sandbox.read("sessions.json"), sandbox.read("policy.toml"));
        for arguments in [&["--dry-run", "--output", file][..], &["--output", file]] {
            let run = sandbox.run(arguments);
            assert_eq!(
                (sandbox.read("sessions.json"), sandbox.read("policy.toml")),
                (registry.clone(), policy.clone())
            );
            assert_eq!((run.code, sandbox.calls().len()), (1, 0), "{file}: {run:#?}");
        }
    }
}

#[test]
fn a_report_never_takes_the_place_of_another_or_of_what_else_the_command_line_names() {
    let sandbox = sandbox("");
    sandbox.run(&["--dry-run", "--output", "json=plan.json"]).expect(0);
    let plan = sandbox.read("plan.json");
    sandbox.write("key", "");
    for (arguments, told) in [
        (["--output", "text=out", "--output", "markdown=./out"], "two reports would go into that file"),
        (["--output", "json=out", "--metrics", "out"], "the run itself needs that file"),
        (["--output", "text=plan.json", "--plan", "plan.json"], "the run itself needs that file"),
    ] {
        let run = sandbox.run(&arguments).expect(1);
        assert!(run.stderr.contains(told), "{run:#?}");
        assert_eq!((sandbox.read("plan.json"), sandbox.calls().len()), (plan.clone(), 0));
        // But for the metrics of a run that failed.
        let out = sandbox.read("out");
        assert!(out.is_empty() || out.starts_with("# HELP reconcile_"), "{out}");
    }
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    let key = fs::read(sandbox.path("sessions.json.reconcile/redact.key")).unwrap();
    fs::copy(sandbox.path("sessions.json.reconcile/redact.key"), sandbox.path("key")).unwrap();
    let run = sandbox.run(&["--dry-run", "--redact", "--redact-key", "key", "--output", "json=key"]).expect(1);
    assert!(run.stderr.contains("the run itself needs that file"), "{run:#?}");
    assert_eq!(fs::read(sandbox.path("key")).unwrap(), key);
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.path("")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_dry_run_can_look_at_another_time() {
    let chats = "[chats]\n\"+16175550142\" = { model = \"opus\", until = 2031-05-31 }\n\
                 \"+16175550143\" = { model = \"opus\", until = 2031-05-31T12:00:00Z }\n";
    let sandbox = Sandbox::new(
        &format!("{POLICY}\n{chats}"),
        &registry(&[("+16175550142", "family", "opus"), ("+16175550143", "family", "opus")]),
    );
    let ended = |at: &str, zone: &str| {
        let Run { stdout, stderr, .. } =
            finish(sandbox.command(&["--dry-run", "--at", at, "--format", "json"]).env("TZ", zone)).expect(0);
        let report: Value = serde_json::from_str(&stdout).unwrap();
        let rows = report["changes"].as_array().unwrap();
        for row in rows {
            let chat = row["chat_id"].as_str().unwrap();
            let end = if chat == "+16175550142" { "after 2031-05-31 (" } else { "at 2031-05-31T12:00:00Z (" };
            assert!(stderr.contains(&format!("warning: the override for {chat} ended {end}")), "{stderr}");
        }
        assert_eq!(stderr.matches("warning: ").count(), rows.len(), "{stderr}");
        rows.iter().map(|row| row["chat_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ended("2031-05-31", "UTC"), [""; 0]);
    assert_eq!(ended("2031-05-31T12:00", "UTC"), ["+16175550143"]);
    assert_eq!(ended("2031-05-31T23:59:59Z", "UTC"), ["+16175550143"], "a date counts through its end");
    assert_eq!(ended("2031-06-01", "UTC"), ["+16175550142", "+16175550143"]);
    assert_eq!(ended("2031-05-31t12:00", "UTC"), ["+16175550143"], "the T may be small");
    // The end of a day is that of the host, wherever the user may be; a moment is the same everywhere.
    assert_eq!(ended("2031-06-01T01:00:00Z", "EST5"), ["+16175550143"]);
    assert_eq!(ended("2031-05-31T11:59:59Z", "EST5"), [""; 0]);
    assert_eq!(ended("2031-06-01T01:00:00+02:00", "UTC"), ["+16175550143"]);
    assert_eq!(sandbox.model("+16175550142").as_deref(), Some("opus"));
}

#[test]
fn policy_and_registry_are_found_by_flag_then_environment_then_default() {
    let sandbox = sandbox("");
    fs::create_dir(sandbox.path("conf")).unwrap();
    let conf = POLICY.replace("family = \"sonnet\"", "family = \"haiku\"");
    sandbox.write("conf/policy.toml", &conf);
    sandbox.write("conf/sessions.json", registry(&[(CHAT, "family", "opus")]));
    sandbox.write("other.json", registry(&[("+1", "family", "opus"), ("+2", "family", "opus")]));
    let first = |run: Run| run.expect(0).stdout.lines().next().unwrap().split(" · plan").next().unwrap().to_owned();
    let with = |environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = sandbox.command(&[&["--dry-run"], arguments].concat());
        first(finish(command.envs(environment.iter().copied())))
    };
    let (policy, registry) = ("RECONCILE_POLICY", "RECONCILE_REGISTRY");
    // A path in a policy is relative to that policy, and one on the command line to where that stands.
    assert_eq!(with(&[], &[]), "policy.toml · 12 sessions in sessions.json");
    assert_eq!(with(&[], &["--policy", "conf/policy.toml"]), "conf/policy.toml · 1 session in conf/sessions.json");
    assert_eq!(with(&[(policy, "conf/policy.toml")], &[]), "conf/policy.toml · 1 session in conf/sessions.json");
    assert_eq!(with(&[(policy, "conf")], &["--policy", "policy.toml"]), "policy.toml · 12 sessions in sessions.json");
    assert_eq!(with(&[(policy, "conf"), (registry, "other.json")], &[]), "conf · 2 sessions in other.json");
    assert_eq!(with(&[(registry, "nowhere")], &["--registry", "other.json"]), "policy.toml · 2 sessions in other.json");
}

#[test]
fn policy_and_registry_may_stand_on_either_side_of_a_subcommand() {
    let sandbox = sandbox("");
    sandbox.script("restart", "exit 1");
    fs::create_dir(sandbox.path("away")).unwrap();
    sandbox.run(&["--chat", "+16175550000"]).expect(4);
    let flags = ["--policy", "../policy.toml", "--registry", "../sessions.json"];
    for arguments in [
        [&["owed"][..], &flags[..]].concat(),
        [&flags[..], &["owed"]].concat(),
        [&flags[..2], &["owed"], &flags[2..]].concat(),
    ] {
        let run = finish(sandbox.command(&arguments).current_dir(sandbox.path("away"))).expect(0);
        assert!(run.stdout.ends_with("1 restart is owed.\n"), "{run:#?}");
    }
}

#[test]
fn a_policy_without_a_registry_needs_one_named() {
    let sandbox = sandbox("");
    sandbox.write("policy.toml", POLICY.replace("path = \"sessions.json\"", ""));
    let run = sandbox.run(&[]).expect(1);
    assert!(run.stderr.contains("policy.toml names no registry") && run.stderr.contains("--registry PATH"), "{run:#?}");
    sandbox.run(&["--registry", "sessions.json"]).expect(0);
    assert_eq!(sandbox.model("+16175550000").as_deref(), Some("sonnet"));
}

#[test]
fn a_report_is_readable_by_whoever_may_by_the_users_mask() {
    let sandbox = sandbox("");
    sandbox.run(&["--dry-run", "--output", "json=plan.json"]).expect(0);
    sandbox.write("made-here", "");
    let mode = |name: &str| fs::metadata(sandbox.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("plan.json"), mode("made-here"));
}
