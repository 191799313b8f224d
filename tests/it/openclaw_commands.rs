//! The commands on the sessions of a gateway. They do what they do with a registry that is a file.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::gateway::{Double, Trouble};
use crate::mounts::{in_mounts, needs_mounts};
use crate::openclaw::{CAL, DEE, ROOM, Setting, TOKEN, pinned, world};
use crate::slow::until;
use crate::support::{Sandbox, finish, row};

#[test]
fn a_plan_is_applied_as_it_was_shown_or_not_at_all() {
    let setting = Setting::new();
    setting.run(&["--dry-run", "--output", "json=plan.json"]).expect(0);
    let plan: Value = serde_json::from_str(&setting.sandbox.read("plan.json")).unwrap();
    setting.run(&["--plan", &"0".repeat(32)]).expect(3);
    assert_eq!(setting.gateway.count("sessions.patchMany"), 0);
    let run = setting.run(&["--plan", plan["plan_id"].as_str().unwrap()]).expect(0);
    assert!(run.summary().starts_with("Applied: 2 changed"), "{run:#?}");
}

#[test]
fn over_the_limit_nothing_is_changed() {
    let setting = Setting::of(world(), "[limits]\nmax_changes = 1\n");
    setting.run(&["--dry-run"]).expect(3);
    let run = setting.run(&[]).expect(3);
    assert!(run.stderr.contains("--allow-changes 2"), "{run:#?}");
    assert_eq!(setting.gateway.count("sessions.patchMany"), 0);
    setting.run(&["--allow-changes", "2"]).expect(0);
}

#[test]
fn chats_are_selected_by_tier_and_by_the_name_of_a_contact() {
    let setting = Setting::new();
    setting.run(&["--tier", "family"]).expect(0);
    assert_eq!(
        (setting.gateway.world().pinned(CAL).as_deref(), setting.gateway.count("sessions.patchMany")),
        (Some("fake/big"), 1)
    );
    let run = setting.run(&["--chat", "Cal Ortiz"]).expect(0);
    assert!(run.summary().starts_with("No changes."), "{run:#?}");
    let run = setting.run(&["--exclude", ROOM]).expect(0);
    assert!(run.summary().starts_with("No changes."), "{run:#?}");
    assert_eq!(setting.gateway.world().pinned(ROOM).as_deref(), Some("fake/mid"));
}

#[test]
fn the_label_of_an_operator_goes_before_what_people_call_themselves_and_a_message_is_no_name() {
    let mut world = world();
    let names = json!({
        "label": "Dana", "subject": "what a room calls itself", "origin": { "label": "what she calls herself" },
        "displayName": "the text of a message",
    });
    world.add("agent:main:telegram:direct:100303", &names);
    let room =
        json!({ "subject": "Chess club", "origin": { "label": "a member" }, "displayName": "the text of a message" });
    world.add("agent:main:telegram:group:-100501", &room);
    let setting = Setting::of(world, "");
    for (name, chat) in [("Dana", "direct:100303"), ("Chess club", "group:-100501"), ("Cal Ortiz", "direct:100301")] {
        let explained = setting.run(&["explain", name]).expect(0);
        assert!(explained.stdout.contains(chat), "{name}: {explained:#?}");
    }
    for name in ["what she calls herself", "what a room calls itself", "a member", "the text of a message"] {
        let explained = setting.run(&["explain", name]).expect(0);
        assert!(explained.stdout.contains("not registered"), "{name}: {explained:#?}");
    }
    for arguments in
        [&["list"][..], &["list", "--format", "json"], &["snapshot", "--redact"], &["--dry-run"], &["adopt"]]
    {
        assert!(!setting.run(arguments).expect(0).stdout.contains("the text of a message"), "{arguments:?}");
    }
}

#[test]
fn two_runs_do_not_work_on_one_gateway_at_once() {
    let setting = Setting::new();
    let policy = setting.sandbox.read("policy.toml").replace("timeout = \"1s\"", "timeout = \"60s\"");
    setting.sandbox.write("policy.toml", policy);
    setting.gateway.always("sessions.patchMany", Trouble::Silence);
    let mut first = setting.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the first run asks for a change", || setting.gateway.count("sessions.patchMany") == 1);
    let second = setting.run(&["--lock-timeout", "0s"]).expect(75);
    assert!(second.stderr.contains(&first.id().to_string()), "{second:#?}");
    setting.run(&["--dry-run"]).expect(0);
    first.kill().unwrap();
    first.wait().unwrap();
    setting.gateway.calm();
    setting.run(&[]).expect(0);
}

#[test]
fn a_run_is_told_in_the_history_and_can_be_undone() {
    let setting = Setting::new();
    setting.run(&[]).expect(0);
    let history = setting.run(&["history", "--format", "json"]).expect(0);
    let run: Value = serde_json::from_str(history.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(run["summary"]["changed"], 2, "{run:#}");
    setting.run(&["undo", run["run"].as_str().unwrap()]).expect(0);
    assert_eq!(setting.gateway.world().pinned(CAL), None, "it was not pinned before");
    assert_eq!(setting.gateway.world().pinned(ROOM).as_deref(), Some("fake/mid"));
    assert!(setting.sandbox.read("policy.toml").contains("= { model = \"default\", reason = \"undo of "));
}

#[test]
fn each_command_asks_the_gateway_no_more_than_it_must() {
    let setting = Setting::new();
    setting.run(&[]).expect(0);
    let lists = |arguments: &[&str]| {
        let count = || (setting.gateway.count("connect"), setting.gateway.count("sessions.list"));
        let before = count();
        setting.run(arguments).expect(0);
        (count().0 - before.0, count().1 - before.1)
    };
    for arguments in [&["owed"][..], &["check"], &["history"], &["completions", "bash"]] {
        assert_eq!(lists(arguments), (0, 0), "{arguments:?}");
    }
    for arguments in [
        &["list"][..],
        &["explain", CAL],
        &["--dry-run"],
        &["diff", "--from", "policy.toml"],
        &["snapshot", "--redact"],
    ] {
        assert_eq!(lists(arguments), (1, 1), "{arguments:?}");
    }
    // One that may change something connects once more, with the scope for that.
    assert_eq!(lists(&[]), (2, 1));
}

#[test]
fn a_history_is_read_without_the_gateway() {
    let setting = Setting::new();
    setting.run(&["snapshot", "--redact"]).expect(0);
    setting.run(&[]).expect(0);
    let asked = setting.gateway.requests().len();
    let told = [&["history"][..], &["history", CAL], &["history", "--format", "json"], &["history", "--redact"]];
    let alive: Vec<String> = told.map(|arguments| setting.run(arguments).expect(0).stdout).into();
    assert!(alive[1].contains("default → fake/big") && !alive[1].contains(ROOM), "{alive:#?}");
    assert_eq!(setting.gateway.requests().len(), asked, "nothing was asked for that");
    // The name of a contact is known to the gateway alone.
    assert_eq!(setting.run(&["history", "Cal Ortiz"]).expect(0).stdout, alive[1]);
    let Setting { sandbox, gateway } = setting;
    drop(gateway);
    let run = |arguments: &[&str]| finish(sandbox.command(arguments).env("GATEWAY_TOKEN", TOKEN));
    assert_eq!(told.map(|arguments| run(arguments).expect(0).stdout).to_vec(), alive);
    let unknown = run(&["history", "Cal Ortiz"]).expect(1);
    assert!(unknown.stderr.contains("no gateway listens at"), "{unknown:#?}");
}

#[test]
fn a_model_is_set_and_unset() {
    let setting = Setting::new();
    setting.run(&["set-model", DEE, "fake/mid", "--reason", "a test"]).expect(0);
    assert_eq!(setting.gateway.world().pinned(DEE).as_deref(), Some("fake/mid"));
    setting.run(&["unset-model", DEE]).expect(0);
    assert_eq!(setting.gateway.world().pinned(DEE).as_deref(), Some("fake/small"));
    setting.run(&["set-model", DEE, "default"]).expect(0);
    assert_eq!(setting.gateway.world().pinned(DEE), None);
    setting.run(&["set-model", "Cal Ortiz", "fake/small"]).expect(0);
    assert!(setting.sandbox.read("policy.toml").contains("# Cal Ortiz"));
}

#[test]
fn what_decides_is_explained_and_listed() {
    let setting = Setting::new();
    let explained = setting.run(&["explain", CAL]).expect(0);
    assert!(explained.stdout.contains("tiers.family"), "{explained:#?}");
    let list: Value = serde_json::from_str(&setting.run(&["list", "--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!(list["chats"].as_array().map(Vec::len), Some(3), "{list:#}");
    let diff = setting.run(&["diff", "--from", "policy.toml"]).expect(0);
    assert!(diff.stdout.contains("0 to change"), "{diff:#?}");
    setting.sandbox.write("former.toml", setting.sandbox.read("policy.toml").replace("fake/small\"\n", "fake/mid\"\n"));
    let diff = setting.run(&["diff", "--from", "former.toml"]).expect(0);
    assert!(diff.stdout.contains("fake/mid → fake/small") && diff.stdout.contains(DEE), "{diff:#?}");
    assert_eq!(setting.gateway.count("sessions.patchMany"), 0);
}

#[test]
fn rules_ask_for_the_agent_and_the_account() {
    let mut world = world();
    world.agents.insert("work".to_owned(), None);
    world.add("agent:work:main", &json!({}));
    world.add("agent:main:telegram:second:direct:7", &json!({ "lastAccountId": "second" }));
    let rules =
        "[[rules]]\nagent = \"work\"\nmodel = \"fake/mid\"\n[[rules]]\naccount = \"second\"\nmodel = \"fake/small\"\n";
    let setting = Setting::of(world, rules);
    setting.run(&[]).expect(0);
    assert_eq!(setting.gateway.world().pinned("agent:work:main").as_deref(), Some("fake/mid"));
    assert_eq!(setting.gateway.world().pinned("agent:main:telegram:second:direct:7").as_deref(), Some("fake/small"));
}

#[test]
fn a_pin_that_was_set_by_hand_is_kept_and_a_session_that_is_not_pinned_never_counts_as_that() {
    let setting = Setting::of(world(), "[registry]\nexisting = \"keep-manual\"\n");
    let run = setting.run(&[]).expect(0);
    assert_eq!(setting.gateway.world().pinned(CAL).as_deref(), Some("fake/big"), "it was not pinned: {run:#?}");
    assert_eq!(setting.gateway.world().pinned(ROOM).as_deref(), Some("fake/mid"), "a pin that no run has set");
    // A chat that is new since, and that its user has pinned.
    setting.gateway.world().add("agent:main:new", &pinned("fake/small", &json!({})));
    let report: Value =
        serde_json::from_str(&setting.run(&["--dry-run", "--format", "json"]).expect(0).stdout).unwrap();
    for chat in [ROOM, "agent:main:new"] {
        assert_eq!(row(&report, chat)["outcome"], "unmanaged", "{report:#}");
    }
    setting.run(&["--take-over", ROOM]).expect(0);
    assert_eq!(setting.gateway.world().pinned(ROOM), None);
}

#[test]
fn there_is_nothing_to_launch_and_nothing_to_pay() {
    let setting = Setting::new();
    let launch = setting.run(&["launch", CAL, "--", "true"]).expect(1);
    assert!(launch.stderr.contains("started by their gateway, not by reconcile launch"), "{launch:#?}");
    let requests = setting.gateway.requests().len();
    for arguments in [&["owed"][..], &["owed", "--forget", CAL], &["owed", "--forget-all"]] {
        let owed = setting.run(arguments).expect(0);
        assert!(owed.stderr.contains("so no restart is ever owed"), "{owed:#?}");
    }
    assert_eq!(setting.gateway.requests().len(), requests, "nothing was asked for that");
}

#[test]
fn a_redacted_snapshot_can_be_planned_on_elsewhere() {
    let setting = Setting::new();
    let snapshot = setting.run(&["snapshot", "--redact"]).expect(0);
    assert!(!snapshot.stdout.contains("Cal Ortiz") && !snapshot.stdout.contains("100301"), "{snapshot:#?}");
    setting.sandbox.write("snapshot.json", &snapshot.stdout);
    let key = setting.sandbox.path("state/gateway/redact.key");
    let elsewhere = ["--registry", "snapshot.json", "--redact-key", key.to_str().unwrap()];
    let connected = setting.gateway.requests().len();
    let planned = setting.run(&[&["--dry-run", "--output", "json=plan.json"][..], &elsewhere].concat()).expect(0);
    assert!(planned.summary().starts_with("Plan: 2 to change"), "{planned:#?}");
    assert_eq!(setting.gateway.requests().len(), connected, "a plan on a file connects to nothing");
    setting.run(&["--plan", "plan.json", "--redact"]).expect(0);
    assert_eq!(setting.gateway.world().pinned(CAL).as_deref(), Some("fake/big"));
}

#[test]
fn metrics_are_of_the_gateway() {
    let setting = Setting::new();
    setting.run(&["--metrics", "reconcile.prom"]).expect(0);
    let metrics = setting.sandbox.read("reconcile.prom");
    assert!(metrics.contains(&setting.gateway.url()), "{metrics}");
    let refused = setting.run(&["--metrics", "state/gateway/ledger.journal"]).expect(1);
    assert!(refused.stderr.contains("the run itself needs that file"), "{refused:#?}");
}

#[test]
fn what_runs_remember_is_below_the_state_home_of_the_user_and_goes_by_the_address() {
    let setting = Setting::new();
    let policy = setting.sandbox.read("policy.toml").replace("state = \"state/gateway\"\n", "");
    setting.sandbox.write("policy.toml", policy);
    let home = setting.sandbox.path("state-home");
    let run = |arguments: &[&str]| finish(setting.command(arguments).env("XDG_STATE_HOME", &home)).expect(0);
    run(&[]);
    let named: Vec<String> = fs::read_dir(home.join("reconcile"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].starts_with("openclaw-"), "{named:?}");
    assert!(!run(&["history"]).stdout.contains("No run has changed anything"));
    // Without that variable, it is below the home of the user.
    let home = setting.sandbox.path("home");
    let mut command = setting.command(&[]);
    finish(command.env_remove("XDG_STATE_HOME").env("HOME", &home)).expect(0);
    assert!(home.join(".local/state/reconcile").join(&named[0]).is_dir());
}

#[test]
fn a_policy_is_adopted_and_reconciling_with_it_changes_nothing() {
    let gateway = Double::start(world());
    let sandbox = Sandbox::new("", "{}");
    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    let run = |arguments: &[&str]| finish(sandbox.command(arguments).env("OPENCLAW_GATEWAY_TOKEN", TOKEN));
    run(&["adopt", "--connect", &gateway.url(), "--write", "policy.toml"]).expect(0);
    let policy = sandbox.read("policy.toml");
    assert!(policy.contains("backend = \"openclaw\"") && !policy.contains(TOKEN), "{policy}");
    let planned = run(&["--dry-run"]).expect(0);
    assert!(planned.summary().starts_with("No changes."), "{policy}\n{planned:#?}");
    // From the policy that is there, the same comes again.
    assert_eq!(run(&["adopt"]).expect(0).stdout, policy);
}

#[test]
fn a_diff_is_refused_where_no_text_could_be_compared() {
    let setting = Setting::new();
    let policy = setting.sandbox.read("policy.toml");
    for arguments in [
        &["plan", "--format", "diff"][..],
        &["--format", "diff"],
        &["--output", "diff=changes.diff"],
        &["set-model", CAL, "fake/mid", "--format", "diff"],
    ] {
        let run = setting.run(arguments).expect(64);
        assert!(run.stderr.contains("this registry is not a file"), "{arguments:?}: {run:#?}");
        assert!(run.stderr.contains("hint: leave it out, or choose text or markdown"), "{arguments:?}: {run:#?}");
    }
    assert_eq!(setting.gateway.count("sessions.patchMany"), 0);
    assert!(!setting.sandbox.path("changes.diff").exists());
    assert_eq!(setting.sandbox.read("policy.toml"), policy);
    // On a file, the plan of such a policy has one.
    setting.sandbox.write("sessions.json", json!({ CAL: { "tier": "family", "model": "fake/small" } }).to_string());
    let run = setting.run(&["plan", "--registry", "sessions.json", "--format", "diff"]).expect(0);
    assert!(run.stdout.starts_with("--- sessions.json"), "{run:#?}");
}

/// A gateway whose configuration stands against the policy in every way, and the policy.
fn at_odds() -> Setting {
    let mut world = world();
    world.config = json!({ "session": {}, "channels": { "modelByChannel": { "telegram": { "*": "fake/small" } } } });
    let rules = format!("[[rules]]\ntype = \"direct\"\nmodel = \"fake/mid\"\n[chats]\n{CAL:?} = \"fake/nope\"\n");
    let setting = Setting::of(world, &rules);
    let policy = setting.sandbox.read("policy.toml").replace("fallback = \"default\"", "fallback = \"fake/small\"");
    setting.sandbox.write("policy.toml", policy);
    setting
}

/// What is told of a gateway at odds with its policy.
const TOLD: [&str; 5] = ["model-not-listed", "pins-the-default", "model-by-channel", "shared-session", "new-chats"];

#[test]
fn init_describes_the_gateway_to_which_it_is_to_connect_as_adopt_does() {
    let Setting { sandbox, gateway } = Setting::new();
    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    let token = ("OPENCLAW_GATEWAY_TOKEN", TOKEN);
    let run = |arguments: &[&str]| finish(sandbox.command(arguments).env(token.0, token.1)).expect(0);
    let url = gateway.url();
    let adopted = run(&["adopt", "--connect", &url]).stdout;
    assert!(adopted.contains("backend = \"openclaw\""), "{adopted}");
    let written = run(&["init", "--connect", &url]);
    assert!(written.stdout.starts_with("Wrote policy.toml. It describes the registry as it is"), "{written:#?}");
    assert_eq!(sandbox.read("policy.toml"), adopted);
}

#[test]
fn check_asks_the_gateway_only_where_it_is_told_to_and_warns_with_a_fix() {
    let setting = at_odds();
    let alone = setting.run(&["check"]).expect(0);
    assert!(TOLD.iter().all(|code| !alone.stdout.contains(code)), "{alone:#?}");
    assert_eq!(setting.gateway.requests().len(), 0);
    let url = setting.gateway.url();
    let asked = setting.run(&["check", "--connect", &url]).expect(0);
    for code in TOLD {
        assert!(asked.stdout.contains(&format!("[{code}]")), "{code}: {asked:#?}");
    }
    let json: Value =
        serde_json::from_str(&setting.run(&["check", "--connect", &url, "--format", "json"]).expect(0).stdout).unwrap();
    let text = json.to_string();
    assert!(text.contains("session.dmScope") && text.contains("modelByChannel"), "{text}");

    let at_peace = Setting::new();
    let url = at_peace.gateway.url();
    let policy = at_peace.sandbox.read("policy.toml").replace(", \"fake/mid\"", "").replace(", \"fake/nope\"", "");
    at_peace.sandbox.write("policy.toml", policy);
    let asked = at_peace.run(&["check", "--connect", &url]).expect(0);
    assert!(TOLD.iter().all(|code| !asked.stdout.contains(code)), "{asked:#?}");
}

#[test]
fn a_run_that_warns_of_a_name_tells_how_to_ask_the_gateway_for_more() {
    let setting = Setting::of(world(), "[chats]\n\"agent:main:gone\" = \"default\"\n");
    let hint = format!("for details, run: reconcile check --connect {}", setting.gateway.url());
    let run = setting.run(&["--dry-run"]).expect(0);
    assert!(run.stderr.contains(&hint), "{run:#?}");
    let (_, arguments) = hint.split_once("run: reconcile ").unwrap();
    let check = setting.run(&arguments.split(' ').collect::<Vec<_>>()).expect(0);
    assert!(check.stdout.contains("agent:main:gone"), "{check:#?}");
}

#[test]
fn a_checkup_looks_at_the_gateway_and_changes_nothing() {
    let setting = Setting::new();
    let well = setting.run(&["doctor"]).expect(0);
    assert!(well.stdout.contains("has 3 sessions"), "{well:#?}");
    assert!(!setting.sandbox.path("state").exists());
    assert_eq!(setting.gateway.count("sessions.patchMany"), 0);
    let odd = at_odds();
    let told = odd.run(&["doctor"]).expect(0);
    assert!(told.stdout.contains("session.dmScope") && told.stdout.contains("  warning  "), "{told:#?}");
    assert!(told.summary().starts_with(&format!("Doctor: no problems, {} warnings, ", TOLD.len())), "{told:#?}");
    let report: Value = serde_json::from_str(&odd.run(&["doctor", "--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!((&report["problems"], &report["warnings"]), (&json!(0), &json!(TOLD.len())));
    let warned = report["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "warning");
    assert!(warned.clone().all(|check| check["fix"].is_string()), "{report:#}");
    assert_eq!(warned.count(), TOLD.len());

    let hidden = Setting::new();
    let error = json!({ "code": "FORBIDDEN", "message": "not for you" });
    hidden.gateway.always("config.get", Trouble::Refuse(error));
    let unknown = hidden.run(&["doctor"]).expect(1);
    assert!(unknown.stdout.contains("the gateway refused config.get: not for you"), "{unknown:#?}");

    let Setting { sandbox, gateway } = setting;
    drop(gateway);
    let down = finish(sandbox.command(&["doctor"]).env("GATEWAY_TOKEN", TOKEN)).expect(1);
    assert!(down.stdout.contains("no gateway listens at"), "{down:#?}");
}

#[test]
#[ignore = "needs root and unshare"]
fn a_checkup_finds_that_the_state_cannot_be_written() {
    needs_mounts();
    let setting = Setting::new();
    let token = format!("export GATEWAY_TOKEN={TOKEN}");
    let read_only = format!("{token}; mount --bind . .; mount -o remount,ro,bind .; cd \"$PWD\"");
    let refused = |made: &str| {
        let run = in_mounts(&setting.sandbox, &read_only, &["doctor"]).expect(1);
        assert!(run.stdout.contains("read-only file system"), "{made}: {run:#?}");
        assert!(run.stdout.contains("fix: set sessions.state in the policy to a directory"), "{made}: {run:#?}");
        assert!(run.summary().starts_with("Doctor: 1 problem, "), "{made}: {run:#?}");
    };
    refused("nothing");
    assert!(!setting.sandbox.path("state").exists());
    setting.run(&[]).expect(0);
    refused("the state");
    in_mounts(&setting.sandbox, &token, &["doctor"]).expect(0);
}

#[test]
fn each_request_is_told_to_a_user_who_asks_for_it_and_names_no_session() {
    let setting = Setting::new();
    let told = setting.run(&["-vv"]).expect(0).stderr;
    for request in ["sessions.list", "agents.list", "models.list", "sessions.patchMany"] {
        assert!(told.contains(&format!("the request {request} begins")), "{request}: {told}");
    }
    assert!(told.lines().filter(|line| line.contains("the request")).all(|line| !line.contains(CAL)), "{told}");
    assert!(!setting.run(&[]).expect(0).stderr.contains("request"));
}
