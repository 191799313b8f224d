//! The history tells of every change of a model and of every restart: by whichever command, finished by whichever run.

use std::fs;

use serde_json::Value;

use crate::support::{POLICY, Run, Sandbox, registry};

const ADA: &str = "+16175550142";
const BEN: &str = "+16175550143";
const RESTART: &str = "\n[sessions]\nrestart = [\"./restart\"]\n";
const ALL_AT_ONCE: &str = "[rollout]\nmax_failures = 9\n[limits]\nmax_changes = 1000000\n";

fn sandbox(more: &str) -> Sandbox {
    let chats = registry(&[(ADA, "family", "opus"), (BEN, "family", "opus")]);
    let sandbox = Sandbox::new(&format!("{POLICY}{more}"), &chats);
    sandbox.has_seen(&["opus", "sonnet", "haiku"]);
    sandbox
}

fn told(sandbox: &Sandbox) -> Vec<Value> {
    let run = sandbox.run(&["history", "--format", "json"]).expect(0);
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Chat, model before and after, whether a restart belonged to it, and what became of it.
fn rows(run: &Value) -> Vec<(&str, &str, &str, bool, &str)> {
    let rows = run["changes"].as_array().unwrap().iter();
    rows.map(|row| {
        let text = |key: &str| row[key].as_str().unwrap_or("-");
        (text("chat_id"), text("before"), text("after"), row["restart"].as_bool().unwrap(), text("outcome"))
    })
    .collect()
}

fn commands(told: &[Value]) -> Vec<&str> {
    told.iter().map(|run| run["command"].as_str().unwrap_or("-")).collect()
}

/// A restart that kills its run the first time.
fn is_killed(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    sandbox.script("restart", "[ -e once ] || { touch once; kill -9 $PPID; }");
    sandbox.run(arguments).expect(-1)
}

#[test]
fn a_run_that_was_killed_has_its_line_and_so_has_the_run_that_finished_it() {
    let sandbox = sandbox(&format!("{RESTART}parallel = 1\n{ALL_AT_ONCE}"));
    is_killed(&sandbox, &[]);
    let killed = told(&sandbox);
    assert_eq!(commands(&killed), ["apply"], "also before the next run");
    assert_eq!(killed[0]["unfinished"], true);
    let edited = [(ADA, "opus", "sonnet", true, "unknown"), (BEN, "opus", "sonnet", true, "deferred")];
    assert_eq!(rows(&killed[0]), edited, "what was edited, and what was tried");

    sandbox.run(&[]).expect(0);
    let both = told(&sandbox);
    assert_eq!(rows(&both[1]), edited);
    assert_eq!((&both[1]["run"], &both[1]["at"]), (&killed[0]["run"], &killed[0]["at"]));
    assert_eq!(rows(&both[0]), [(ADA, "sonnet", "sonnet", true, "done"), (BEN, "sonnet", "sonnet", true, "done")]);
    assert_eq!(both.len(), 2);
    let text = sandbox.run(&["history", ADA]).expect(0).stdout;
    assert!(text.contains("did not finish") && text.contains("opus → sonnet"), "{text}");
    assert!(!sandbox.read("sessions.json.reconcile/ledger.journal").ends_with("opus"), "nothing is left to tell");
}

#[test]
fn a_killed_run_can_be_taken_back() {
    let sandbox = sandbox(&format!("{RESTART}{ALL_AT_ONCE}"));
    is_killed(&sandbox, &["--chat", BEN]);
    let run = told(&sandbox)[0]["run"].as_str().unwrap().to_owned();
    sandbox.run(&["undo", &run]).expect(0);
    assert_eq!(sandbox.model(BEN).as_deref(), Some("opus"));
    let told = told(&sandbox);
    assert_eq!(commands(&told), ["undo", "apply"]);
    assert_eq!(rows(&told[0]), [(BEN, "sonnet", "opus", true, "done")]);
}

#[test]
fn what_a_killed_command_did_is_told_whichever_command_comes_next() {
    for next in [&["set-model", ADA, "haiku"][..], &["owed", "--forget-all"], &["--chat", ADA]] {
        let sandbox = sandbox(&format!("{RESTART}[chats]\n"));
        is_killed(&sandbox, &["set-model", BEN, "haiku"]);
        sandbox.run(next).expect(0);
        let told = told(&sandbox);
        let killed = told.iter().find(|run| run["unfinished"] == true).unwrap_or_else(|| panic!("{next:?}: {told:?}"));
        assert_eq!(killed["command"], "set-model");
        assert_eq!(rows(killed), [(BEN, "opus", "haiku", true, "unknown")]);
    }
}

#[test]
fn a_launch_that_changes_a_model_or_pays_a_restart_has_a_line() {
    let sandbox = sandbox("");
    sandbox.run(&["launch", ADA, "--", "true"]).expect(0);
    let first = told(&sandbox);
    assert_eq!(commands(&first), ["launch"]);
    assert_eq!(rows(&first[0]), [(ADA, "opus", "sonnet", false, "done")]);
    assert_eq!(first[0]["changes"][0]["because"]["rule"], "tiers.family");
    assert_eq!((first[0]["unfinished"].clone(), first[0]["summary"]["changed"].clone()), (Value::Null, 1.into()));
    sandbox.run(&["launch", ADA, "--", "true"]).expect(0);
    assert_eq!(told(&sandbox).len(), 1, "nothing was changed or paid");

    let policy = sandbox.read("policy.toml");
    sandbox.write("policy.toml", format!("{policy}{RESTART}"));
    sandbox.script("restart", "exit 1");
    sandbox.run(&["--chat", BEN]).expect(4);
    sandbox.run(&["launch", BEN, "--", "true"]).expect(0);
    let told = told(&sandbox);
    assert_eq!(commands(&told), ["launch", "apply", "launch"]);
    assert_eq!(rows(&told[0]), [(BEN, "sonnet", "sonnet", true, "done")]);
}

#[test]
fn a_launch_within_a_run_has_its_own_line() {
    let sandbox = sandbox(&format!("{RESTART}{ALL_AT_ONCE}"));
    let binary = env!("CARGO_BIN_EXE_reconcile");
    sandbox.script("restart", &format!("exec {binary} launch \"$RECONCILE_CHAT_ID\" -- true"));
    sandbox.run(&["--chat", ADA]).expect(0);
    let told = told(&sandbox);
    let mut all = commands(&told);
    all.sort_unstable();
    assert_eq!(all, ["apply", "launch"]);
    let apply = told.iter().find(|run| run["command"] == "apply").unwrap();
    assert_eq!(rows(apply), [(ADA, "opus", "sonnet", true, "done")]);
}

#[test]
fn each_line_names_its_command() {
    let sandbox = sandbox("[chats]\n");
    sandbox.run(&[]).expect(0);
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    sandbox.run(&["unset-model", ADA]).expect(0);
    sandbox.run(&["set-model", ADA, "opus", "--no-policy"]).expect(0);
    let run = told(&sandbox)[0]["run"].as_str().unwrap().to_owned();
    sandbox.run(&["undo", &run]).expect(0);
    let told = told(&sandbox);
    assert_eq!(commands(&told), ["undo", "set-model", "unset-model", "set-model", "apply"]);
    let text = sandbox.run(&["history"]).expect(0).stdout;
    for command in ["undo", "set-model", "unset-model", "apply"] {
        assert!(text.contains(&format!(" · {command}")), "{text}");
    }
}

#[test]
fn a_long_run_is_told_in_files_of_the_usual_length() {
    const ROWS: usize = 14_000;
    let chats: String = (0..ROWS).map(|n| format!(r#""+1{n:05}": {{"tier": "bots", "model": "opus"}},"#)).collect();
    let sandbox = Sandbox::new(&format!("{POLICY}{ALL_AT_ONCE}"), &format!("{{{}}}", chats.trim_end_matches(',')));
    sandbox.run(&[]).expect(0);
    let file = |part: &str| sandbox.path(&format!("sessions.json.reconcile/history{part}.jsonl"));
    let length = |part: &str| fs::metadata(file(part)).map(|meta| meta.len()).unwrap_or_default();
    let most = (1 << 20) + (1 << 17);
    for part in ["", ".1", ".2"] {
        assert!((1..most).contains(&length(part)), "history{part}.jsonl has {} bytes", length(part));
    }
    let told = told(&sandbox);
    assert_eq!((told.len(), rows(&told[0]).len()), (1, ROWS), "one run with all of its rows");
    let name = told[0]["run"].as_str().unwrap();
    sandbox.run(&["undo", name, "--dry-run"]).expect(0);

    // Where the oldest part is gone, what is left is told of, and not taken for all.
    let oldest = (1..9).map(|n| format!(".{n}")).take_while(|part| file(part).exists()).last().unwrap();
    fs::remove_file(file(&oldest)).unwrap();
    let undo = sandbox.run(&["undo", name]).expect(1);
    assert!(undo.stderr.contains("the history no longer has all of the run"), "{}", undo.stderr);
    assert!(sandbox.run(&["history"]).expect(0).stdout.contains("is no longer kept"));
}
