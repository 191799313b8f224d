//! `set-model` and `unset-model`: the policy's override, and what follows in the registry and of the session.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::handle::Double;
use crate::support::{POLICY, Run, Sandbox, finish, registry, row};

const ADA: &str = "+16175550142";
const BEN: &str = "+16175550143";

const MORE: &str = "\n# who is an exception\n[chats]\n\"+16175550143\" = \"opus\" # until he is back\n\n\
                    [sessions]\nrestart = [\"./restart\", \"{model}\"]\nparallel = 1\n";

fn policy() -> String {
    format!("{POLICY}{MORE}")
}

/// What every run says that restarts something and cannot look.
const UNVERIFIED: &str =
    "note: restarts were not verified: the policy has no `running` command to ask whether the sessions came up\n";

/// Two chats in sync, one of them by an override, and a restart command that notes its calls.
fn sandbox() -> Sandbox {
    with_policy(&policy())
}

fn with_policy(policy: &str) -> Sandbox {
    let sandbox = Sandbox::new(policy, &registry(&[(ADA, "family", "sonnet"), (BEN, "family", "opus")]));
    sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID $1\" >> calls\ntest ! -e broken");
    sandbox
}

/// Nothing but the state directory came, and nothing changed.
fn assert_untouched(sandbox: &Sandbox, policy: &str, story: &str) {
    assert_eq!(sandbox.read("policy.toml"), policy, "{story}");
    assert_eq!(sandbox.model(ADA).as_deref(), Some("sonnet"), "{story}");
    assert_eq!(sandbox.calls(), [""; 0], "{story}");
    assert_no_debris(sandbox);
}

fn assert_no_debris(sandbox: &Sandbox) {
    let names = fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let debris: Vec<String> = names.filter(|name| name.starts_with('.') && name != ".git").collect();
    assert_eq!(debris, [""; 0]);
}

/// The policy with one more line in `[chats]`.
fn with_line(line: &str) -> String {
    policy().replace("# until he is back\n", &format!("# until he is back\n{line}\n"))
}

#[test]
fn a_model_is_set_in_the_policy_and_in_the_registry_and_the_session_is_restarted_on_it() {
    let sandbox = sandbox();
    let run = sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_eq!(sandbox.read("policy.toml"), with_line("\"+16175550142\" = \"haiku\""));
    assert_eq!(sandbox.model(ADA).as_deref(), Some("haiku"));
    assert_eq!(sandbox.calls(), [format!("{ADA} haiku")]);
    assert_no_debris(&sandbox);
    // The next run agrees.
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 2 in sync.");
    // Again: nothing is left to do.
    assert_eq!(sandbox.run(&["set-model", ADA, "haiku"]).expect(0).summary(), "No changes. 1 in sync.");
}

#[test]
fn an_override_is_removed_and_the_policy_decides_again() {
    let sandbox = sandbox();
    sandbox.run(&["unset-model", BEN]).expect(0);
    assert_eq!(sandbox.read("policy.toml"), policy().replace("\"+16175550143\" = \"opus\" # until he is back\n", ""));
    assert_eq!(sandbox.model(BEN).as_deref(), Some("sonnet"));
    assert_eq!(sandbox.calls(), [format!("{BEN} sonnet")]);
    // Again: nothing is left to do.
    let again = sandbox.run(&["unset-model", BEN]).expect(0);
    assert_eq!(again.summary(), "No changes. 1 in sync.");
    assert!(again.stderr.contains("policy.toml has no override for +16175550143"), "{again:?}");
}

#[test]
fn setting_and_unsetting_leaves_the_policy_as_it_was() {
    let sandbox = sandbox();
    sandbox.run(&["set-model", ADA, "haiku", "--until", "2099-12-31", "--reason", "it's \"her\"\nthesis"]).expect(0);
    let line = r#""+16175550142" = { model = "haiku", until = 2099-12-31, reason = "it's \"her\"\nthesis" }"#;
    assert_eq!(sandbox.read("policy.toml"), with_line(line));
    sandbox.run(&["unset-model", ADA]).expect(0);
    assert_eq!(sandbox.read("policy.toml"), policy());
    assert_eq!(sandbox.model(ADA).as_deref(), Some("sonnet"));
}

#[test]
fn only_that_chat_is_reconciled() {
    let sandbox = sandbox();
    sandbox.write("sessions.json", registry(&[(ADA, "family", "sonnet"), (BEN, "family", "haiku")]));
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(sandbox.model(BEN).as_deref(), Some("haiku"));
    assert_eq!(sandbox.calls(), [format!("{ADA} haiku")]);
}

#[test]
fn a_chat_goes_by_the_name_of_its_session_or_contact() {
    let entry = |name: &str, session: &str| json!({ "session_name": session, "contact_name": name, "tier": "family" });
    let sandbox = sandbox();
    let chats = json!({ "a1": entry("Ada", "one"), "b1": entry("Ben", "two"), "b2": entry("Ben", "three") });
    sandbox.write("sessions.json", chats.to_string());
    sandbox.run(&["set-model", "Ada", "haiku"]).expect(0);
    sandbox.run(&["set-model", "three", "haiku"]).expect(0);
    assert_eq!((sandbox.model("a1").as_deref(), sandbox.model("b2").as_deref()), (Some("haiku"), Some("haiku")));
    let before = sandbox.read("policy.toml");
    let ambiguous = sandbox.run(&["set-model", "Ben", "haiku"]).expect(1);
    assert!(
        ambiguous.stderr.contains("\"Ben\" is the name of 2 chats\nhint: give the chat id: b1, b2"),
        "{ambiguous:?}"
    );
    let unknown = sandbox.run(&["set-model", "Adda", "haiku"]).expect(1);
    assert!(unknown.stderr.contains("did you mean \"Ada\"?"), "{unknown:?}");
    assert_eq!(sandbox.read("policy.toml"), before);
    sandbox.run(&["unset-model", "Ada"]).expect(0);
    assert!(!sandbox.read("policy.toml").contains("a1"));
}

#[test]
fn a_model_that_is_not_allowed_shows_those_that_are() {
    let sandbox = sandbox();
    let run = sandbox.run(&["set-model", ADA, "haikuu"]).expect(1);
    assert!(run.stderr.contains("\"haikuu\" is not an allowed model"), "{run:?}");
    assert!(run.stderr.contains("did you mean `haiku`? the policy allows: `haiku`, `opus`, `sonnet`"), "{run:?}");
    assert_untouched(&sandbox, &policy(), "invalid model");
}

#[test]
fn an_end_is_a_day_a_local_time_or_an_instant() {
    for (given, written) in [
        ("2099-12-31", "2099-12-31"),
        ("2099-12-31T18:00", "2099-12-31T18:00:00"),
        ("2099-12-31 18:00:30", "2099-12-31T18:00:30"),
        ("2099-12-31T18:00:00+02:00", "2099-12-31T16:00:00Z"),
    ] {
        let sandbox = sandbox();
        sandbox.run(&["set-model", ADA, "haiku", "--until", given]).expect(0);
        let line = format!("\"+16175550142\" = {{ model = \"haiku\", until = {written} }}");
        assert_eq!(sandbox.read("policy.toml"), with_line(&line), "{given}");
        assert_eq!(sandbox.model(ADA).as_deref(), Some("haiku"), "{given}");
    }
    let sandbox = sandbox();
    for past in ["2020-01-01", "2020-01-01T00:00", "2020-01-01T00:00:00Z"] {
        let run = sandbox.run(&["set-model", ADA, "haiku", "--until", past]).expect(1);
        assert!(run.stderr.contains("has already expired"), "{run:?}");
    }
    for bad in ["tomorrow", "2099-13-01", "", "18:00", "2099-12-31T18:00[Europe/Berlin]", "2099-12-31[Europe/Berlin]"] {
        sandbox.run(&["set-model", ADA, "haiku", "--until", bad]).expect(64);
    }
    assert_untouched(&sandbox, &policy(), "bad ends");
}

#[test]
fn over_the_limit_the_policy_stays_as_it_is_too() {
    let text = format!("{}\n[limits]\nmax_changes = 0\n", policy());
    let sandbox = with_policy(&text);
    let run = sandbox.run(&["set-model", ADA, "haiku"]).expect(3);
    assert!(
        run.stderr.contains(&format!("consent with: reconcile set-model {ADA} haiku --allow-changes 1")),
        "{run:?}"
    );
    assert_untouched(&sandbox, &text, "over the limit");
    sandbox.run(&["set-model", "--dry-run", ADA, "haiku"]).expect(3);
    assert_untouched(&sandbox, &text, "over the limit, in a dry run");
    sandbox.run(&["set-model", ADA, "haiku", "--allow-changes", "1"]).expect(0);
    assert_eq!(sandbox.model(ADA).as_deref(), Some("haiku"));
    assert!(sandbox.read("policy.toml").contains("\"+16175550142\" = \"haiku\""));
}

#[test]
fn the_command_that_consents_is_one_that_works() {
    let text = format!("{}\n[limits]\nmax_changes = 0\n", policy());
    let sandbox = with_policy(&text);
    sandbox.write("sessions.json", registry(&[("-100200", "family", "sonnet")]));
    let run = sandbox.run(&["set-model", "--reason", "", "--", "-100200", "haiku"]).expect(3);
    let consent = "consent with: reconcile set-model --reason '' --allow-changes 1 -- -100200 haiku\n";
    assert!(run.stderr.contains(consent), "{run:?}");
    sandbox.run(&["set-model", "--reason", "", "--allow-changes", "1", "--", "-100200", "haiku"]).expect(0);
    assert_eq!(sandbox.model("-100200").as_deref(), Some("haiku"));
}

#[test]
fn a_restart_that_fails_is_owed_and_tried_again_at_once_by_hand() {
    let sandbox = sandbox();
    sandbox.write("broken", "");
    sandbox.run(&["set-model", ADA, "haiku"]).expect(4);
    assert_eq!(sandbox.model(ADA).as_deref(), Some("haiku"));
    assert!(sandbox.ledger()["owed"][ADA].is_object());
    assert!(sandbox.read("policy.toml").contains("\"+16175550142\" = \"haiku\""));
    fs::remove_file(sandbox.path("broken")).unwrap();
    // An ordinary run waits.
    assert_eq!(sandbox.run(&[]).expect(4).summary(), "No changes. 1 deferred, 1 in sync.");
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    assert_eq!(sandbox.calls().len(), 2);
}

#[test]
fn what_an_override_said_besides_is_not_lost_without_a_word() {
    let entry = r#"{ model = "opus", until = 9000-06-30, reason = "thesis" }"#;
    let timed = policy().replace("\"opus\" # until", &format!("{entry} # until"));
    let unmanaged = policy().replace("\"opus\" # until", "{ managed = false, reason = \"hers\" } # until");
    let (end, reason) =
        ("ended with 9000-06-30, and is without end now", "the reason of the override that was there before is gone");
    let managed = "it was not managed, and is from now on";
    for (policy, arguments, told) in [
        (&timed, &["set-model", BEN, "opus"][..], vec![end, reason]),
        (&timed, &["set-model", BEN, "opus", "--until", "9000-01-01", "--dry-run"], vec![reason]),
        (&timed, &["set-model", BEN, "opus", "--reason", "new"], vec![end]),
        (&timed, &["unset-model", BEN], vec![]),
        (&unmanaged, &["set-model", BEN, "haiku", "--reason", "mine"], vec![managed]),
        (&unmanaged, &["unset-model", BEN], vec![managed]),
        (&policy(), &["unset-model", BEN], vec![]),
    ] {
        let run = with_policy(policy).run(arguments).expect(0);
        let notes: Vec<&str> =
            run.stderr.lines().filter(|line| line.contains(BEN) && line.starts_with("note")).collect();
        assert_eq!(notes.len(), told.len(), "{arguments:?} {run:#?}");
        assert!(notes.iter().zip(told).all(|(note, told)| note.contains(told)), "{arguments:?} {run:#?}");
    }
}

#[test]
fn an_override_goes_to_the_file_that_has_it_and_a_new_one_to_the_main_file() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("policy.d")).unwrap();
    let main = policy()
        .replace("\"+16175550143\" = \"opus\" # until he is back\n", "")
        .replace("sessions.json", "../sessions.json");
    let main = main.replace("./restart", "../restart");
    sandbox.write("policy.d/50-main.toml", &main);
    sandbox.write("policy.d/10-chats.toml", "# by hand\nchats.\"+16175550143\" = \"opus\"\n");
    let run = |arguments: &[&str]| sandbox.run(&[&["--policy", "policy.d"], arguments].concat()).expect(0);
    run(&["set-model", BEN, "haiku"]);
    assert_eq!(sandbox.read("policy.d/10-chats.toml"), "# by hand\nchats.\"+16175550143\" = \"haiku\"\n");
    assert_eq!(sandbox.read("policy.d/50-main.toml"), main);
    run(&["set-model", ADA, "haiku"]);
    assert_eq!(
        sandbox.read("policy.d/50-main.toml"),
        main.replace("[chats]\n", "[chats]\n\"+16175550142\" = \"haiku\"\n")
    );
    run(&["unset-model", BEN]);
    assert_eq!(sandbox.read("policy.d/10-chats.toml"), "# by hand\n");
    let names = fs::read_dir(sandbox.path("policy.d")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_str().unwrap().starts_with('.')), "debris");
}

#[test]
fn an_override_without_a_session_can_be_removed() {
    let sandbox = sandbox();
    sandbox.write("sessions.json", registry(&[(ADA, "family", "haiku")]));
    let run = sandbox.run(&["unset-model", BEN]).expect(0);
    assert!(!sandbox.read("policy.toml").contains(BEN));
    assert_eq!(run.summary(), "No changes. No session was selected.");
    // And nothing else was reconciled with it.
    assert_eq!(sandbox.model(ADA).as_deref(), Some("haiku"));
    assert_eq!(sandbox.calls(), [""; 0]);
}

#[test]
fn a_linked_policy_stays_a_link_and_keeps_its_mode() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("repository")).unwrap();
    fs::rename(sandbox.path("policy.toml"), sandbox.path("repository/real.toml")).unwrap();
    symlink("repository/real.toml", sandbox.path("policy.toml")).unwrap();
    fs::set_permissions(sandbox.path("repository/real.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    let owner = fs::metadata(sandbox.path("policy.toml")).unwrap().uid();
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(fs::read_link(sandbox.path("policy.toml")).unwrap().to_str(), Some("repository/real.toml"));
    assert_eq!(sandbox.read("repository/real.toml"), with_line("\"+16175550142\" = \"haiku\""));
    let facts = fs::metadata(sandbox.path("repository/real.toml")).unwrap();
    assert_eq!((facts.mode() & 0o7777, facts.uid()), (0o640, owner));
    assert_eq!(fs::read_dir(sandbox.path("repository")).unwrap().count(), 1, "debris");
    assert_no_debris(&sandbox);
}

#[test]
fn a_policy_with_mistakes_is_not_edited() {
    let text = policy().replace("bots   = \"haiku\"", "bots   = \"haikuu\"");
    let sandbox = with_policy(&text);
    sandbox.run(&["set-model", ADA, "opus"]).expect(1);
    sandbox.run(&["unset-model", BEN]).expect(1);
    assert_untouched(&sandbox, &text, "mistakes");
}

#[test]
fn wrong_usage_is_64() {
    let sandbox = sandbox();
    for wrong in [
        &["set-model", ADA][..],
        &["set-model", ADA, "haiku", "opus"],
        &["set-model", ADA, "haiku", "--no-policy", "--reason", "x"],
        &["set-model", ADA, "haiku", "--no-policy", "--until", "2099-01-01"],
        &["--dry-run", "set-model", ADA, "haiku"],
        &["unset-model"],
        &["set-model", ADA, "haiku", "--redact", "--dry-run"],
        &["unset-model", ADA, "--reason", "x"],
    ] {
        sandbox.run(wrong).expect(64);
    }
    assert_untouched(&sandbox, &policy(), "wrong usage");
}

#[test]
fn a_dry_run_shows_the_edit_and_the_plan_and_does_neither() {
    let sandbox = sandbox();
    let run = sandbox.run(&["set-model", ADA, "haiku", "--dry-run"]).expect(0);
    let diff = "--- policy.toml\n+++ policy.toml\n@@ -14,6 +14,7 @@\n";
    assert!(run.stdout.starts_with(diff), "{run:?}");
    assert!(run.stdout.contains("\n+\"+16175550142\" = \"haiku\"\n"), "{run:?}");
    assert_eq!(run.summary(), "Plan: 1 to change, 1 to restart, 0 deferred, 0 in sync.");
    assert_untouched(&sandbox, &policy(), "dry run");
    assert!(!sandbox.path("sessions.json.reconcile").exists());
    // A run plans the same.
    let planned = sandbox.json(&["set-model", ADA, "haiku", "--dry-run"]);
    assert_eq!((&planned["mode"], &row(&planned, ADA)["outcome"]), (&json!("dry-run"), &json!("planned")));
    let done = sandbox.json(&["set-model", ADA, "haiku"]);
    assert_eq!(planned["plan_id"], done["plan_id"]);
    assert_eq!(
        row(&done, ADA)["because"],
        json!({ "rule": "chats.\"+16175550142\"", "file": "policy.toml", "line": 17 })
    );
}

#[test]
fn the_diff_of_a_dry_run_is_a_patch_that_does_the_same() {
    let layouts = [policy(), policy().replace('\n', "\r\n"), policy().trim_end().to_owned()];
    for (text, tool) in layouts.iter().flat_map(|text| [(text, "git"), (text, "patch")]) {
        let arguments =
            if tool == "git" { &["apply", "-p0", "patch"][..] } else { &["-p0", "--binary", "-i", "patch"] };
        let sandbox = with_policy(text);
        let diff = sandbox.run(&["set-model", ADA, "haiku", "--dry-run", "--format", "diff"]).expect(0).stdout;
        sandbox.write("patch", diff);
        let Ok(patched) = Command::new(tool).args(arguments).current_dir(sandbox.path("")).output() else { continue };
        assert!(patched.status.success(), "{tool}: {patched:?}\n{}", sandbox.read("patch"));
        let by_patch = (sandbox.read("policy.toml"), sandbox.read("sessions.json"));
        let sandbox = with_policy(text);
        sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
        assert_eq!((sandbox.read("policy.toml"), sandbox.read("sessions.json")), by_patch, "{tool}");
    }
}

#[test]
fn a_note_that_is_a_pipe_or_a_device_is_an_error_and_is_not_waited_for() {
    for (make, argument) in [("mkfifo", None), ("ln", Some("/dev/zero"))] {
        let sandbox = Sandbox::new(&format!("{POLICY}\n[chats]\n"), &registry(&[("+1", "family", "opus")]));
        let before = sandbox.read("policy.toml");
        let note = sandbox.path(".policy.toml.reconcile-note");
        let mut made = Command::new(make);
        if let Some(target) = argument {
            made.args(["-s", target]);
        }
        assert!(made.arg(&note).status().unwrap().success());
        let run = sandbox.run(&["set-model", "+1", "haiku"]).expect(1);
        assert!(run.stderr.contains(".policy.toml.reconcile-note: it is not a regular file"), "{run:#?}");
        assert_eq!((sandbox.read("policy.toml"), sandbox.model("+1").as_deref()), (before, Some("opus")));
    }
}

#[test]
fn json_is_all_that_is_on_stdout() {
    let sandbox = sandbox();
    for more in [&["--dry-run"][..], &[], &["--no-policy"]] {
        let arguments = [&["set-model", ADA, "haiku", "--format", "json"], more].concat();
        let run = sandbox.run(&arguments).expect(0);
        serde_json::from_str::<Value>(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    }
}

#[test]
fn what_could_not_be_shown_is_4_after_an_edit_and_1_before() {
    let sandbox = sandbox();
    let full = |arguments: &[&str]| {
        let out = File::options().write(true).open("/dev/full").unwrap();
        let output = sandbox.command(arguments).stdout(Stdio::from(out)).stderr(Stdio::piped()).spawn().unwrap();
        output.wait_with_output().unwrap().status.code()
    };
    assert_eq!(full(&["set-model", ADA, "haiku", "--dry-run"]), Some(1));
    assert_untouched(&sandbox, &policy(), "dry run");
    assert_eq!(full(&["set-model", ADA, "sonnet"]), Some(4), "only the policy was changed");
    assert_eq!(full(&["set-model", ADA, "sonnet"]), Some(1), "nothing was left to change");
}

#[test]
fn in_a_git_work_tree_the_last_line_says_that_the_change_is_to_be_committed() {
    let note = "note: policy.toml is in a git work tree: commit the change";
    let last = |run: &Run| run.stderr.lines().last().unwrap_or_default().to_owned();
    let sandbox = with_policy(&policy().replace("restart = [\"./restart\", \"{model}\"]\n", ""));
    assert_eq!(
        last(&sandbox.run(&["set-model", ADA, "haiku"]).expect(0)),
        "note: policy.toml was edited",
        "outside of one"
    );
    fs::create_dir(sandbox.path(".git")).unwrap();
    assert_ne!(last(&sandbox.run(&["set-model", ADA, "opus", "--dry-run"]).expect(0)), note);
    assert_eq!(last(&sandbox.run(&["set-model", ADA, "opus"]).expect(0)), note);
    assert_eq!(sandbox.run(&["set-model", ADA, "opus"]).expect(0).stderr, "", "nothing was changed");
    assert_ne!(last(&sandbox.run(&["set-model", ADA, "haiku", "--no-policy"]).expect(0)), note);
    assert_eq!(last(&sandbox.run(&["unset-model", ADA]).expect(0)), note);
    assert_ne!(last(&sandbox.run(&["set-model", ADA, "opus", "--allow-changes", "0"]).expect(3)), note);
}

#[test]
fn what_an_override_loses_is_told_only_where_it_is_lost() {
    let over = "\"+16175550143\" = { model = \"opus\", until = 2099-01-01, reason = \"trip\" }";
    let text = policy().replace("\"+16175550143\" = \"opus\" # until he is back", over);
    let sandbox = with_policy(&text);
    let refused = sandbox.run(&["set-model", BEN, "haiku", "--allow-changes", "0"]).expect(3);
    assert!(!refused.stderr.contains("trip") && !refused.stderr.contains("gone"), "{refused:?}");
    assert_untouched(&sandbox, &text, "refused");
    for dry in [&["--dry-run"][..], &[]] {
        let run = sandbox.run(&[&["set-model", BEN, "haiku"], dry].concat()).expect(0);
        for told in [
            "the override ended with 2099-01-01, and is without end now",
            "the reason of the override that was there before is gone",
        ] {
            assert!(run.stderr.contains(told), "{run:?}");
        }
    }
}

#[test]
fn the_registry_alone_is_set_with_a_warning_that_it_will_not_last() {
    let sandbox = sandbox();
    let run = sandbox.run(&["set-model", ADA, "haiku", "--no-policy"]).expect(0);
    assert_eq!(
        run.stderr,
        format!(
            "warning: the policy says sonnet (policy.toml:8 tiers.family): the next run puts that back\n{UNVERIFIED}"
        )
    );
    assert_eq!(sandbox.read("policy.toml"), policy());
    assert_eq!(sandbox.model(ADA).as_deref(), Some("haiku"));
    assert_eq!(sandbox.calls(), [format!("{ADA} haiku")]);
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model(ADA).as_deref(), Some("sonnet"));
    // What the policy says anyway needs no warning.
    assert_eq!(sandbox.run(&["set-model", ADA, "sonnet", "--no-policy"]).expect(0).stderr, "");
}

#[test]
fn the_registry_alone_is_set_for_that_chat_within_the_limit_and_not_in_a_dry_run() {
    let sandbox = sandbox();
    let drifted = registry(&[(ADA, "family", "opus"), (BEN, "family", "haiku")]);
    sandbox.write("sessions.json", &drifted);
    let set = ["set-model", ADA, "haiku", "--no-policy"];
    let run = sandbox.run(&[&set[..], &["--dry-run"]].concat()).expect(0);
    assert!(run.summary().starts_with("Plan: 1 to change"), "{run:?}");
    sandbox.run(&[&set[..], &["--allow-changes", "0"]].concat()).expect(3);
    assert_eq!(sandbox.read("sessions.json"), drifted);
    sandbox.run(&set).expect(0);
    assert_eq!(sandbox.read("sessions.json"), registry(&[(ADA, "family", "haiku"), (BEN, "family", "haiku")]));
}

#[test]
fn with_keep_the_registry_alone_lasts_but_not_against_an_override() {
    let text = policy().replace("path = ", "existing = \"keep\"\npath = ");
    let sandbox = with_policy(&text);
    assert_eq!(sandbox.run(&["set-model", ADA, "haiku", "--no-policy"]).expect(0).stderr, UNVERIFIED);
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 2 in sync.");
    assert_eq!(sandbox.model(ADA).as_deref(), Some("haiku"));
    let run = sandbox.run(&["set-model", BEN, "haiku", "--no-policy"]).expect(0);
    assert!(run.stderr.contains("the policy says opus (policy.toml:17 chats.\"+16175550143\")"), "{run:?}");
}

#[test]
fn a_warning_about_the_policy_is_shown_once() {
    let sandbox = Sandbox::new(
        &format!("{POLICY}existing = \"keep\"\n[sessions]\nbackend = \"dispatch\"\nsocket = \"nobody.sock\"\n"),
        &registry(&[(ADA, "family", "sonnet")]),
    );
    let run = sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(run.stderr.matches("keeps what the daemon chose, too").count(), 1, "{}", run.stderr);
}

#[test]
fn a_daemon_is_asked_and_what_it_cannot_do_changes_nothing() {
    const REGISTRY: &str = include_str!("../dispatch/sessions.json");
    let group = "b3d258b9a4de447ca412eb335c82a077";
    let text = format!("{POLICY}\n[sessions]\nbackend = \"dispatch\"\nsocket = \"daemon.sock\"\ntimeout = \"2s\"\n");
    let text = text.replace("\"haiku\"]", "\"haiku\", \"fable\"]");
    let sandbox = Sandbox::new(&text, REGISTRY);
    let daemon = Double::start(&sandbox.path(""), &["--live", "+16175550103"]);
    for (chat, model) in [(group, "haiku"), ("+16175550103", "fable")] {
        for more in [&[][..], &["--no-policy"], &["--dry-run"]] {
            let run = sandbox.run(&[&["set-model", chat, model], more].concat()).expect(1);
            assert!(run.stderr.contains(&format!("{chat} cannot be set to {model}: the daemon ")), "{run:?}");
        }
    }
    assert_eq!(sandbox.read("policy.toml"), text);
    sandbox.run(&["set-model", "+16175550103", "haiku"]).expect(0);
    assert_eq!(daemon.truth("+16175550103")["model"], "haiku");
    assert_eq!(sandbox.read("policy.toml"), format!("{text}\n[chats]\n\"+16175550103\" = \"haiku\"  # Cal Ortiz\n"));
}

#[test]
fn an_override_in_sections_is_edited_where_it_stands() {
    let text = policy().replace(
        "[chats]\n\"+16175550143\" = \"opus\" # until he is back\n",
        "[chats.\"+16175550143\"] # Ben\nmodel = \"opus\" # until he is back\n",
    );
    let sandbox = with_policy(&text);
    sandbox.run(&["set-model", BEN, "haiku", "--reason", "r"]).expect(0);
    assert_eq!(
        sandbox.read("policy.toml"),
        text.replace("model = \"opus\" # until he is back\n", "model = \"haiku\" # until he is back\nreason = \"r\"\n")
    );
    let run = sandbox.run(&["set-model", ADA, "opus"]).expect(0);
    assert!(sandbox.read("policy.toml").ends_with("\n[chats]\n\"+16175550142\" = \"opus\"\n"), "{run:?}");
}

#[test]
fn names_that_are_hostile_are_shown_harmless() {
    let sandbox = sandbox();
    let id = "x\u{1b}[2J\u{202e}\n::error::\"y";
    let chats = json!({ id: { "session_name": "s", "tier": "family", "model": "sonnet" } });
    sandbox.write("sessions.json", chats.to_string());
    let show = |arguments: &[&str]| finish(&mut sandbox.command(arguments));
    for run in [
        show(&["set-model", id, "haiku", "--dry-run", "--reason", "\u{1b}[31m\u{202e}"]),
        show(&["set-model", id, "\u{1b}[31m"]),
        show(&["set-model", "\u{1b}[31m\u{202e}", "haiku"]),
        show(&["set-model", id, "haiku", "--until", "\u{1b}[31m"]),
        show(&["set-model", id, "haiku", "--until", "2020-01-01"]),
        show(&["unset-model", id]),
        show(&["set-model", id, "haiku", "--reason", "\u{1b}[31m\u{202e}"]),
    ] {
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(!all.contains(['\u{1b}', '\u{202e}']) && !all.contains("\n::error"), "{run:?}");
    }
    assert_eq!(sandbox.model(id).as_deref(), Some("haiku"), "no argument holds its id");
}
