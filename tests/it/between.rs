//! `diff --from`: what a change of the policy does to a registry.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reconcile::file_name::Called;
use reconcile::policy::Commit;
use reconcile::sources::git::{head as head_within, policy_at};
use serde_json::{Value, json};

use crate::slow::{HANGS, fifo};
use crate::support::{POLICY, Run, Sandbox, finish, registry};

/// With time to spare.
fn head(policy: &Path) -> Option<Commit> {
    head_within(policy, HANGS)
}

const RESTART: &str = "[sessions]\nrestart = [\"./restart\", \"{session_slug}\"]\n";

/// A family that drifts, bots that do not, and a policy that is the old one, too.
fn sandbox(more: &str) -> Sandbox {
    let chats = [("+1", "family", "opus"), ("+2", "family", "sonnet"), ("+3", "bots", "haiku"), ("+4", "admin", "")];
    let policy = format!("{POLICY}\n{RESTART}\n{more}");
    let sandbox = Sandbox::new(&policy, &registry(&chats));
    sandbox.write("old.toml", policy);
    sandbox
}

/// Chat, before, after, edit, restart and outcome of each row.
fn rows(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let report = sandbox.json(&[&["diff"], arguments].concat());
    assert_eq!(report["mode"], "policy-diff");
    let row =
        |row: &Value| json!([row["chat_id"], row["before"], row["after"], row["edit"], row["restart"], row["outcome"]]);
    report["changes"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn only_what_the_policies_decide_differently_is_shown() {
    let sandbox = sandbox("");
    let before = sandbox.read("sessions.json");
    let same = sandbox.run(&["diff", "--from", "old.toml"]).expect(0);
    assert_eq!(same.summary(), "Policy: 0 to change, 0 to restart, 0 no longer managed, 4 as before.");

    sandbox.write("policy.toml", sandbox.read("old.toml").replace("bots   = \"haiku\"", "bots = \"opus\""));
    let run = sandbox.run(&["diff", "--from", "old.toml"]).expect(0);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "old.toml → policy.toml · 4 sessions in sessions.json",
            "",
            "  ~ imessage/_3   bots   haiku → opus   restart   policy.toml:9 tiers.bots",
            "",
            "Policy: 1 to change, 1 to restart, 0 no longer managed, 3 as before.",
        ]
    );
    assert_eq!(rows(&sandbox, &["--from", "old.toml"]), [json!(["+3", "haiku", "opus", true, true, "planned"])]);
    let page = sandbox.run(&["diff", "--from", "old.toml", "--format", "markdown"]).expect(0).stdout;
    assert!(page.contains("<code>old&#46;toml &#8594; policy&#46;toml</code>") && !page.contains("plan"), "{page}");
    assert!(page.contains("<code>haiku &#8594; opus</code>"), "{page}");
    assert_eq!((sandbox.read("sessions.json"), sandbox.path("sessions.json.reconcile").exists()), (before, false));
}

#[test]
fn it_is_what_a_run_does_once_the_old_policy_was_applied() {
    let sandbox = sandbox("");
    sandbox.script("restart", "true");
    sandbox.write("policy.toml", sandbox.read("old.toml").replace("admin  = \"opus\"", "admin = \"haiku\""));
    let shown = sandbox.json(&["diff", "--from", "old.toml"]);
    sandbox.run(&["--policy", "old.toml"]).expect(0);
    let mut planned = sandbox.json(&["--dry-run"]);
    // On which session a run would try the model first is no part of what the policies differ in.
    assert_eq!(planned["changes"][0]["canary"].take(), true);
    planned["changes"][0]["canary"] = false.into();
    assert_eq!((&shown["changes"], &shown["plan_id"]), (&planned["changes"], &planned["plan_id"]));
    assert_eq!((&shown["summary"], shown["changes"].as_array().unwrap().len()), (&planned["summary"], 1));
}

#[test]
fn what_is_no_longer_managed_and_what_is_again_are_shown() {
    let unmanaged = |chat: &str| format!("[chats]\n{chat:?} = {{ managed = false, reason = \"her own\" }}\n");
    let sandbox = sandbox(&unmanaged("+1"));
    sandbox.write("policy.toml", sandbox.read("old.toml").replace("\"+1\" =", "\"+2\" ="));
    let expected = [
        json!(["+1", null, "sonnet", true, true, "planned"]),
        json!(["+2", "sonnet", null, false, false, "unmanaged"]),
    ];
    assert_eq!(rows(&sandbox, &["--from", "old.toml"]), expected);
    let text = sandbox.run(&["diff", "--from", "old.toml"]).expect(0).stdout;
    assert!(text.contains("(not managed) → sonnet   restart"), "{text}");
    assert!(text.contains("sonnet → (not managed)   her own"), "{text}");
    // The registry has that model already.
    sandbox.write("sessions.json", registry(&[("+1", "family", "sonnet")]));
    assert_eq!(rows(&sandbox, &["--from", "old.toml"]), [json!(["+1", null, "sonnet", false, false, "planned"])]);
    let text = sandbox.run(&["diff", "--from", "old.toml"]).expect(0).stdout;
    assert!(text.contains("  = imessage/_1   family   (not managed) → sonnet   in sync already   "), "{text}");
}

#[test]
fn existing_models_take_part_in_both_decisions_where_they_are_kept() {
    let sandbox = sandbox("");
    let keep = |policy: String| policy.replace("[registry]", "[registry]\nexisting = \"keep\"");
    sandbox.write("policy.toml", keep(sandbox.read("old.toml")));
    // The one that drifts keeps its model from now on.
    assert_eq!(rows(&sandbox, &["--from", "old.toml"]), [json!(["+1", "sonnet", "opus", true, true, "planned"])]);
    let changed = sandbox
        .read("policy.toml")
        .replace("\"sonnet\"\nbots", "\"haiku\"\nbots")
        .replace("admin  = \"opus\"", "admin = \"haiku\"");
    sandbox.write("old.toml", sandbox.read("policy.toml"));
    sandbox.write("policy.toml", changed);
    assert_eq!(rows(&sandbox, &["--from", "old.toml"]), [json!(["+4", "opus", "haiku", true, true, "planned"])]);
}

#[test]
fn another_spelling_of_the_same_model_is_no_difference() {
    let sandbox = sandbox("");
    sandbox.write("old.toml", POLICY.replace("haiku", "claude-haiku"));
    let aliases = "aliases = { \"claude-haiku\" = \"haiku\" }\n\n[tiers]";
    sandbox.write("policy.toml", sandbox.read("policy.toml").replace("[tiers]", aliases));
    assert_eq!(rows(&sandbox, &["--from", "old.toml"]), Vec::<Value>::new());
}

#[test]
fn a_change_that_would_be_refused_says_so() {
    let sandbox = sandbox("");
    sandbox.write("sessions.json", r#"{"+1": {"tier": "bots", "model": "haiku"}}"#);
    sandbox.write("policy.toml", sandbox.read("old.toml").replace("bots   = \"haiku\"", "bots = \"opus\""));
    assert_eq!(rows(&sandbox, &["--from", "old.toml"]), [json!(["+1", "haiku", "opus", true, true, "refused"])]);
}

#[test]
fn chats_can_be_shown_under_pseudonyms() {
    let sandbox = sandbox("[chats]\n\"+3\" = \"opus\"\n");
    sandbox.write("policy.toml", sandbox.read("old.toml").replace("\"+3\" = \"opus\"", "\"+3\" = \"sonnet\""));
    // It makes the key.
    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    let names = |text: &str| text.contains("+3") || text.contains("&#43;3") || text.contains("imessage/");
    for format in ["text", "json", "markdown"] {
        let shown = |more: &[&str]| sandbox.run(&[&["diff", "--from", "old.toml", "--format", format], more].concat());
        assert!(names(&shown(&[]).expect(0).stdout));
        let run = shown(&["--redact"]).expect(0);
        assert!(!names(&run.stdout) && run.stdout.contains("sonnet"), "{run:#?}");
    }
    // On a snapshot in pseudonyms, both policies are read in them.
    let row = json!(["+3", "opus", "sonnet", true, true, "planned"]);
    assert_eq!(rows(&sandbox, &["--from", "old.toml"]), [row]);
    sandbox.write("redacted.json", snapshot);
    let key = ["--registry", "redacted.json", "--redact-key", "sessions.json.reconcile/redact.key"];
    let run = sandbox.run(&[&["diff", "--from", "old.toml"], &key[..]].concat()).expect(0);
    assert!(run.stdout.contains("opus → sonnet") && !names(&run.stdout), "{run:#?}");
}

#[test]
fn it_is_shown_in_every_format_but_as_a_diff_of_the_registry() {
    let sandbox = sandbox("");
    for arguments in [["--format", "diff"], ["--format", "foo"], ["--output", "diff=x"], ["--output", "foo=x"]] {
        let run = sandbox.run(&[&["diff", "--from", "old.toml"], &arguments[..]].concat()).expect(64);
        let known = run.stderr.contains("text, json, markdown") && !run.stderr.contains("markdown, diff");
        assert!(run.stdout.is_empty() && known, "{run:#?}");
        assert!(!sandbox.path("x").exists());
    }
    sandbox.run(&["diff"]).expect(64);
    let run = sandbox.run(&["diff", "--from", "old.toml", "--output", "json=old.toml"]).expect(1);
    assert!(run.stderr.contains("the run itself needs that file"), "{run:#?}");
    let run = sandbox.run(&["diff", "--from", "missing.toml"]).expect(1);
    assert!(run.stderr.contains("there is no such file") && run.stderr.contains("--from git:missing.toml"), "{run:#?}");
}

/// Runs git without a configuration of its user.
fn git(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]);
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        command.env_remove(name);
    }
    let command = command.args(arguments).current_dir(sandbox.path("")).env("GIT_CONFIG_GLOBAL", "/dev/null");
    finish(command).expect(0).stdout.trim().to_owned()
}

fn commit(sandbox: &Sandbox) -> String {
    git(sandbox, &["add", "-A"]);
    git(sandbox, &["commit", "-q", "--allow-empty", "-m", "x"]);
    git(sandbox, &["rev-parse", "HEAD"])
}

/// The policy in a repository, committed with haiku for bots, and opus for them since.
fn repository() -> Sandbox {
    let sandbox = sandbox("");
    fs::create_dir(sandbox.path("conf")).unwrap();
    sandbox.write("conf/policy.toml", sandbox.read("old.toml").replace("sessions.json", "../sessions.json"));
    git(&sandbox, &["init", "-q"]);
    commit(&sandbox);
    sandbox
        .write("conf/policy.toml", sandbox.read("conf/policy.toml").replace("bots   = \"haiku\"", "bots = \"opus\""));
    sandbox
}

fn from(sandbox: &Sandbox, policy: &str, revision: &str) -> Run {
    sandbox.run(&["--policy", policy, "diff", "--from", &format!("git:{revision}")])
}

#[test]
fn the_old_policy_may_be_that_of_a_revision() {
    let sandbox = repository();
    for revision in ["HEAD", "main", "main@{0}"] {
        let run = from(&sandbox, "conf/policy.toml", revision).expect(0);
        assert!(run.stdout.starts_with(&format!("{revision}:conf/policy.toml → conf/policy.toml · ")), "{run:#?}");
        assert!(run.summary().starts_with("Policy: 1 to change, 1 to restart,"), "{run:#?}");
    }
    // As a hook does, which means another repository, and from another directory.
    let mut hook = sandbox.command(&["--policy", "policy.toml", "diff", "--from", "git:HEAD"]);
    hook.current_dir(sandbox.path("conf")).env("GIT_DIR", "/nowhere").env("GIT_INDEX_FILE", "/nowhere");
    assert!(finish(hook.env("GIT_WORK_TREE", "/")).expect(0).summary().starts_with("Policy: 1 to change"));
    // Through a link from elsewhere.
    let elsewhere = Sandbox::new("", "");
    fs::remove_file(elsewhere.path("policy.toml")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("conf/policy.toml"), elsewhere.path("policy.toml")).unwrap();
    elsewhere.write("sessions.json", sandbox.read("sessions.json"));
    let run = elsewhere.run(&["diff", "--from", "git:HEAD", "--registry", "sessions.json"]).expect(0);
    assert!(run.summary().starts_with("Policy: 1 to change"), "{run:#?}");
}

#[test]
fn a_directory_is_read_from_a_revision_as_it_is_from_disk() {
    let sandbox = sandbox("");
    fs::create_dir_all(sandbox.path("conf/a")).unwrap();
    sandbox.write("conf/main.toml", POLICY.replace("sessions.json", "../sessions.json"));
    // On disk `a/` comes before `a.toml`, in git after it; the first rule wins.
    let rule = |model: &str| format!("[[rules]]\ntier = \"family\"\nmodel = {model:?}\n");
    sandbox.write("conf/a/first.toml", rule("haiku"));
    sandbox.write("conf/a.toml", rule("opus"));
    sandbox.write("conf/.draft.toml", "broken");
    sandbox.write("conf/notes.txt", "broken");
    git(&sandbox, &["init", "-q"]);
    commit(&sandbox);
    let run = from(&sandbox, "conf", "HEAD").expect(0);
    assert_eq!(run.summary(), "Policy: 0 to change, 0 to restart, 0 no longer managed, 4 as before.");
    assert!(!head(&sandbox.path("conf")).unwrap().modified);
    fs::remove_file(sandbox.path("conf/a/first.toml")).unwrap();
    assert!(from(&sandbox, "conf", "HEAD").expect(0).stdout.contains("haiku → opus"));
    assert!(head(&sandbox.path("conf")).unwrap().modified);
}

#[test]
fn an_old_policy_that_is_invalid_is_shown_with_its_revision() {
    let sandbox = repository();
    let good = sandbox.read("conf/policy.toml");
    sandbox.write("conf/policy.toml", good.replace("\"opus\"\n", "\"opsu\"\n"));
    commit(&sandbox);
    sandbox.write("conf/policy.toml", good.as_bytes());
    let run = from(&sandbox, "conf/policy.toml", "HEAD").expect(1);
    assert!(run.stderr.contains("--> HEAD:conf/policy.toml:7:") && run.stderr.contains("opsu"), "{run:#?}");
    sandbox.write("conf/policy.toml", b"a = \"\xff\"");
    commit(&sandbox);
    sandbox.write("conf/policy.toml", good);
    let run = from(&sandbox, "conf/policy.toml", "HEAD").expect(1);
    assert!(run.stderr.contains("not UTF-8") && run.stderr.contains("HEAD:conf/policy.toml:1:"), "{run:#?}");
}

#[test]
fn a_revision_that_does_not_have_the_policy_is_an_error_that_says_so() {
    let sandbox = repository();
    let fails = |policy: &str, revision: &str, told: &str| {
        let run = from(&sandbox, policy, revision).expect(1);
        assert!(run.stdout.is_empty() && run.stderr.contains(told) && run.stderr.contains("hint: "), "{run:#?}");
    };
    fails("conf/policy.toml", "nowhere", "no such git revision: nowhere (in ");
    fails("conf/policy.toml", "^HEAD", "no such git revision: ^HEAD (in ");
    fails("conf/policy.toml", "", "does not name a revision");
    for option in ["--help", "-h", "--output=x", "--git-dir=/"] {
        fails("conf/policy.toml", option, "does not name a revision");
    }
    sandbox.write("conf/new.toml", sandbox.read("conf/policy.toml"));
    fails("conf/new.toml", "HEAD", "there is no policy conf/new.toml in the revision HEAD");
    std::os::unix::fs::symlink("conf/policy.toml", sandbox.path("link.toml")).unwrap();
    commit(&sandbox);
    fs::remove_file(sandbox.path("link.toml")).unwrap();
    sandbox.write("link.toml", sandbox.read("policy.toml"));
    fails("link.toml", "HEAD", "link.toml is a symbolic link in the commit ");

    // In a repository's own directory there is no work tree.
    for file in ["policy.toml", "sessions.json"] {
        fs::copy(sandbox.path(file), sandbox.path(".git").join(file)).unwrap();
    }
    fails(".git/policy.toml", "HEAD", "is not in a git work tree");

    let outside = Sandbox::new(POLICY, "{}");
    let run = outside.run(&["diff", "--from", "git:HEAD"]).expect(1);
    assert!(run.stderr.contains("is not in a git work tree") && run.stderr.contains("hint: "), "{run:#?}");
    let mut no_git = sandbox.command(&["diff", "--from", "git:HEAD"]);
    let run = finish(no_git.env("PATH", sandbox.path("conf"))).expect(1);
    assert!(run.stderr.contains("this needs git, which is not installed"), "{run:#?}");
}

/// The repository, whose policy has had other names since its first commit.
fn renamed() -> Sandbox {
    let sandbox = repository();
    sandbox.write("conf/old policy.toml", sandbox.read("conf/policy.toml").replace("\"opus\"\n", "\"haiku\"\n"));
    fs::remove_file(sandbox.path("conf/policy.toml")).unwrap();
    commit(&sandbox);
    git(&sandbox, &["tag", "before"]);
    fs::create_dir(sandbox.path("new")).unwrap();
    git(&sandbox, &["mv", "conf/old policy.toml", "new/policy.toml"]);
    sandbox.write("new/policy.toml", sandbox.read("new/policy.toml").replace("bots = \"haiku\"", "bots = \"sonnet\""));
    sandbox
}

#[test]
fn a_policy_that_was_renamed_is_found_at_its_old_path() {
    let sandbox = renamed();
    let shows = |revision: &str, old: &str| {
        let run = from(&sandbox, "new/policy.toml", revision).expect(0);
        assert!(run.stdout.starts_with(&format!("{old} → new/policy.toml · ")), "{revision}: {run:#?}");
        assert!(run.stdout.contains("haiku → sonnet"), "{revision}: {run:#?}");
    };
    // Staged, committed, and renamed once more.
    shows("before", "before:conf/old policy.toml");
    commit(&sandbox);
    shows("before", "before:conf/old policy.toml");
    // By its path: from the top of the work tree, or from where the policy is today.
    shows("before:conf/old policy.toml", "before:conf/old policy.toml");
    shows("before:../conf/old policy.toml", "before:../conf/old policy.toml");
    shows("before^{/x}:conf/old policy.toml", "before^{/x}:conf/old policy.toml");
    shows("HEAD~2:old.toml", "HEAD~2:old.toml");
    let run = from(&sandbox, "new/policy.toml", "HEAD:./policy.toml").expect(0);
    assert!(run.summary().starts_with("Policy: 0 to change, 0 to restart,"), "{run:#?}");
    for wanted in ["before:nowhere.toml", "before:conf/nowhere"] {
        let run = from(&sandbox, "new/policy.toml", wanted).expect(1);
        assert!(run.stderr.contains("hint: ") && run.stdout.is_empty(), "{wanted}: {run:#?}");
    }
    for outside in ["before:../../x.toml", "before:/etc/passwd"] {
        assert!(
            from(&sandbox, "new/policy.toml", outside).expect(1).stderr.contains("is outside repository"),
            "{outside}"
        );
    }
    // A directory of them is named.
    sandbox.write("sessions.json", registry(&[("+3", "bots", "haiku")]));
    let run = from(&sandbox, "new", "before:conf").expect(0);
    assert!(run.stdout.starts_with("before:conf → new · ") && run.stdout.contains("haiku → sonnet"), "{run:#?}");
}

#[test]
fn an_exit_code_tells_whether_policies_differ() {
    let sandbox = sandbox("");
    let diff = ["diff", "--from", "old.toml", "--detailed-exitcode"];
    sandbox.run(&diff).expect(0);
    sandbox.write("policy.toml", sandbox.read("old.toml").replace("bots   = \"haiku\"", "bots = \"opus\""));
    sandbox.run(&diff).expect(2);
    sandbox.run(&diff[..3]).expect(0);
    let unmanaged = "[chats]\n\"+1\" = { managed = false, reason = \"her own\" }\n";
    sandbox.write("policy.toml", sandbox.read("old.toml") + unmanaged);
    sandbox.run(&diff).expect(2);
}

#[test]
fn nothing_that_a_repository_brings_along_is_run() {
    let sandbox = repository();
    sandbox.script("trap.sh", "touch \"$0.sprung\"; cat");
    let trap = sandbox.path("trap.sh");
    let trap = trap.to_str().unwrap();
    for (name, value) in [
        ("core.fsmonitor", trap),
        ("core.pager", trap),
        ("filter.f.smudge", trap),
        ("filter.f.clean", trap),
        ("diff.d.textconv", trap),
        ("diff.external", trap),
        ("alias.cat-file", &format!("!{trap}")),
    ] {
        git(&sandbox, &["config", name, value]);
    }
    sandbox.write(".gitattributes", "*.toml filter=f diff=d\n");
    from(&sandbox, "conf/policy.toml", "HEAD").expect(0);
    assert!(head(&sandbox.path("conf/policy.toml")).unwrap().modified);
    // A rename is looked for in what git remembers, too.
    finish(Command::new("git").args(["mv", "conf/policy.toml", "conf/moved.toml"]).current_dir(sandbox.path("")))
        .expect(0);
    fs::remove_file(sandbox.path("trap.sh.sprung")).unwrap_or_default();
    let run = from(&sandbox, "conf/moved.toml", "HEAD");
    assert!(run.stdout.contains("HEAD:conf/policy.toml → conf/moved.toml"), "{run:#?}");
    assert!(!sandbox.path("trap.sh.sprung").exists());
}

#[test]
fn the_commit_of_a_policy_is_known_and_whether_it_is_modified() {
    let sandbox = repository();
    let known = |path: &Path| head(path).map(|commit| (commit.id, commit.modified));
    let policy = sandbox.path("conf/policy.toml");
    let id = git(&sandbox, &["rev-parse", "HEAD"]);
    assert_eq!(known(&policy), Some((id, true)));
    let id = commit(&sandbox);
    assert_eq!(known(&policy), Some((id.clone(), false)));
    // Another file is none of its business; the name that it is asked by is not, either.
    sandbox.write("sessions.json", "{}");
    assert_eq!(known(&sandbox.path("conf/../conf/policy.toml")), Some((id.clone(), false)));
    sandbox.write("conf/new.toml", "");
    assert_eq!(known(&sandbox.path("conf/new.toml")), Some((id, true)));

    assert_eq!(head(&sandbox.path("nowhere.toml")), None);
    assert_eq!(head(Path::new("/dev/null")), None);
    let empty = Sandbox::new(POLICY, "{}");
    git(&empty, &["init", "-q"]);
    assert_eq!(head(&empty.path("policy.toml")), None);
}

/// A repository can be made so that git waits for ever.
#[test]
fn a_git_that_waits_for_ever_is_ended() {
    let brief = Duration::from_millis(100);
    for file in ["HEAD", "config"] {
        let sandbox = repository();
        let policy = sandbox.path("conf/policy.toml");
        let path = sandbox.path(".git").join(file);
        fs::remove_file(&path).unwrap();
        let _open = fifo(&path);
        assert_eq!(head_within(&policy, brief), None, "{file}");
        let error = policy_at(OsStr::new("HEAD"), &policy, brief, Called::ByPath).unwrap_err().text();
        assert!(error.contains("git took longer than 100ms and was killed"), "{file}: {error}");
    }
}

#[test]
fn a_git_that_answers_without_end_is_an_error() {
    let sandbox = repository();
    sandbox.script("git", "exec yes true");
    let path = format!("{}:{}", sandbox.path("").display(), std::env::var("PATH").unwrap());
    let mut diff = sandbox.command(&["--policy", "conf/policy.toml", "diff", "--from", "git:HEAD"]);
    let run = finish(diff.env("PATH", path)).expect(1);
    assert!(run.stderr.contains("git answered with more than 4 KiB"), "{run:#?}");
}
