//! The kits in `examples/` for git and for runs that no person watches, run as they are.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use yaml_rust2::{Yaml, YamlLoader};

use crate::action;
use crate::mounts::needs_mounts;
use crate::slow::until;
use crate::support::{POLICY, Run, Sandbox, finish, needs, registry};

const RESTARTS: &str = "\n[sessions]\nrestart = [\"./restart\"]\n";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap()
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reconcile"))
}

/// A command that finds this program, and before it what the sandbox has in `bin`.
pub(crate) fn command(sandbox: &Sandbox, directory: &str, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(sandbox.path(directory)).stdin(Stdio::null());
    let path = format!("{}:{}:", sandbox.path("bin").display(), program().parent().unwrap().display());
    command.env("PATH", path + &std::env::var("PATH").unwrap()).env("TZ", "UTC").env("HOME", sandbox.path(""));
    for name in ["RECONCILE_POLICY", "RECONCILE_REGISTRY", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        command.env_remove(name);
    }
    for (name, value) in [("NAME", "A"), ("EMAIL", "a@example.org")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command
}

fn run(sandbox: &Sandbox, directory: &str, words: &[&str]) -> Run {
    finish(&mut command(sandbox, directory, words))
}

pub(crate) fn git(sandbox: &Sandbox, directory: &str, words: &[&str]) -> Run {
    run(sandbox, directory, &[&["git"], words].concat())
}

/// Puts a kit's file where it is to be, and lets it be run.
pub(crate) fn install(kit: &str, to: &Path) {
    fs::copy(example(kit), to).unwrap();
    assert!(to.metadata().unwrap().permissions().mode() & 0o111 != 0, "{kit} cannot be run");
}

#[test]
fn the_pre_commit_hook_judges_what_is_staged() {
    let sandbox = Sandbox::new(POLICY, "{}");
    git(&sandbox, "", &["init", "--quiet", "--initial-branch=main"]).expect(0);
    install("pre-commit/pre-commit", &sandbox.path(".git/hooks/pre-commit"));
    let commit = |arguments: &[&str]| git(&sandbox, "", &[&["commit", "--quiet", "-m", "policy"], arguments].concat());
    git(&sandbox, "", &["add", "policy.toml"]).expect(0);
    commit(&[]).expect(0);

    let bad = POLICY.replace("\"haiku\"\n", "\"hiaku\"\n");
    sandbox.write("policy.toml", &bad);
    git(&sandbox, "", &["add", "policy.toml"]).expect(0);
    let refused = commit(&[]).expect(1);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("policy.toml:9:") && said.contains("did you mean `haiku`"), "{said}");
    // A fix that is not staged is no fix, and a mistake that is not staged is none yet.
    sandbox.write("policy.toml", POLICY);
    commit(&[]).expect(1);
    commit(&["policy.toml", "--allow-empty"]).expect(0);
    sandbox.write("policy.toml", &bad);
    sandbox.write("notes", "");
    git(&sandbox, "", &["add", "notes"]).expect(0);
    commit(&[]).expect(0);
    commit(&["-a"]).expect(1);
    git(&sandbox, "", &["rm", "--quiet", "--cached", "policy.toml"]).expect(0);
    assert!(commit(&[]).expect(1).stderr.contains("there is no policy"));
    git(&sandbox, "", &["add", "policy.toml"]).expect(0);

    // It may stand elsewhere, and be a directory.
    git(&sandbox, "", &["config", "reconcile.policy", "models"]).expect(0);
    commit(&[]).expect(0);
    fs::create_dir(sandbox.path("models")).unwrap();
    sandbox.write("models/a.toml", &bad);
    git(&sandbox, "", &["add", "models"]).expect(0);
    commit(&[]).expect(1);
    sandbox.write("models/a.toml", POLICY);
    git(&sandbox, "", &["add", "models"]).expect(0);
    commit(&[]).expect(0);
}

#[test]
#[ignore = "needs flock"]
fn the_post_receive_hook_puts_a_pushed_policy_in_force() {
    needs(&["flock"]);
    let sandbox = Sandbox::new("", &registry(&[("a", "family", "opus"), ("b", "bots", "haiku")]));
    git(&sandbox, "", &["init", "--quiet", "--bare", "--initial-branch=main", "policy.git"]).expect(0);
    git(&sandbox, "", &["init", "--quiet", "--initial-branch=main", "work"]).expect(0);
    install("post-receive/post-receive", &sandbox.path("policy.git/hooks/post-receive"));
    let policies = sandbox.path("policies");
    let settings = [("directory", policies.as_path()), ("registry", &sandbox.path("sessions.json"))];
    for (name, value) in settings {
        git(&sandbox, "policy.git", &["config", &format!("reconcile.{name}"), value.to_str().unwrap()]).expect(0);
    }
    // What it restarts with may use git, and must not be led to the bare repository.
    let restart = format!(
        "#!/bin/sh\necho $RECONCILE_CHAT_ID >> {}\ntest -z \"$GIT_DIR\" || echo GIT_DIR >> {0}\n",
        sandbox.path("calls").display()
    );
    sandbox.write("work/restart", restart);
    fs::set_permissions(sandbox.path("work/restart"), fs::Permissions::from_mode(0o755)).unwrap();
    let push = |policy: &str, branch: &str| {
        sandbox.write("work/policy.toml", policy);
        git(&sandbox, "work", &["add", "--all"]).expect(0);
        git(&sandbox, "work", &["commit", "--quiet", "-m", "policy", "--allow-empty"]).expect(0);
        git(&sandbox, "work", &["push", "--quiet", "../policy.git", branch]).expect(0).stderr
    };
    let policy = format!("{POLICY}{RESTARTS}");
    let in_force = || fs::read_to_string(policies.join("current/policy.toml")).unwrap();

    let said = push(&policy, "HEAD:refs/heads/main");
    assert!(said.contains("remote: Applied: 1 changed, 1 restarted, 0 deferred, 0 failed."), "{said}");
    assert_eq!((sandbox.calls(), in_force()), (vec!["a".to_owned()], policy.clone()));

    let said = push(&policy.replace("\"haiku\"\n", "\"hiaku\"\n"), "HEAD:refs/heads/main");
    assert!(said.contains("did you mean `haiku`") && said.contains("is not put in force"), "{said}");
    assert_eq!(in_force(), policy, "the old one stays");

    let sonnet = policy.replace("bots   = \"haiku\"", "bots   = \"sonnet\"");
    let said = push(&sonnet, "HEAD:refs/heads/topic");
    assert_eq!((said.contains("Applied"), in_force()), (false, policy));
    git(&sandbox, "policy.git", &["config", "reconcile.policy", "policy.toml"]).expect(0);
    let failing = sonnet.replace("./restart", "false");
    let said = push(&failing, "HEAD:refs/heads/main");
    assert!(said.contains("1 failed") && said.contains("1 restart still owed"), "{said}");
    assert_eq!(in_force(), failing, "the next run tries again");
    let left = fs::read_dir(&policies).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let head = git(&sandbox, "work", &["rev-parse", "HEAD"]).stdout.trim().to_owned();
    assert_eq!(left.collect::<BTreeSet<_>>(), [head.as_str(), "current", "lock"].map(str::to_owned).into());

    git(&sandbox, "policy.git", &["config", "receive.denyDeleteCurrent", "ignore"]).expect(0);
    let said = git(&sandbox, "work", &["push", "../policy.git", ":main"]).expect(0).stderr;
    assert!(said.contains("main is gone"), "{said}");
    assert_eq!(in_force(), failing);
    assert_eq!(sandbox.calls(), ["a"]);
}

/// Cron in a world of its own: its spool, its lock and its mails lie in the sandbox. It is ended with its test.
struct Cron(Child);

impl Cron {
    fn start(sandbox: &Sandbox) -> Self {
        let _ = fs::remove_file(sandbox.path("mail"));
        let _ = fs::remove_file(sandbox.path("reconcile.prom"));
        let script = "set -e
            mount -t tmpfs tmpfs /var/spool/cron
            mkdir -m 1730 /var/spool/cron/crontabs
            install -m 600 crontab /var/spool/cron/crontabs/root
            mount -t tmpfs tmpfs /etc/cron.d
            mount --bind nothing /etc/crontab
            mount -t tmpfs tmpfs /run
            mount --bind sbin /usr/sbin
            exec /usr/sbin/cron -f";
        let mut command = command(sandbox, "", &["unshare", "--mount", "sh", "-c", script]);
        Self(command.spawn().unwrap())
    }

    fn is_idle(&self) -> bool {
        let id = self.0.id();
        fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap().trim().is_empty()
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root, unshare and cron"]
fn cron_mails_what_a_run_says_and_nothing_where_it_says_nothing() {
    needs_mounts();
    needs(&["cron"]);
    let sandbox = Sandbox::new(&format!("{POLICY}{RESTARTS}"), &registry(&[("a", "family", "opus")]));
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    // The line as it is, but at once, in this directory, and with the program that is tested.
    let crontab = text("cron/crontab");
    let root = sandbox.path("").display().to_string();
    let here = root.trim_end_matches('/');
    let line = crontab.replace("*/5 * * * *", "@reboot").replace("/srv/assistant", here);
    let line = line.replace("/usr/local/bin", &program().parent().unwrap().display().to_string());
    sandbox.write("crontab", line);
    sandbox.write("nothing", "");
    fs::create_dir(sandbox.path("sbin")).unwrap();
    fs::copy("/usr/sbin/cron", sandbox.path("sbin/cron")).unwrap();
    sandbox.script("sbin/sendmail", &format!("cat > {here}/mail.part && mv {here}/mail.part {here}/mail"));

    let cron = Cron::start(&sandbox);
    until("cron mails", || sandbox.path("mail").exists());
    let mail = sandbox.read("mail");
    assert!(mail.contains("To: you@example.org") && mail.contains("Applied: 1 changed, 1 restarted"), "{mail}");
    assert!(sandbox.read("reconcile.prom").contains("reconcile_changes"));
    assert_eq!(sandbox.calls(), ["a"]);
    drop(cron);

    let cron = Cron::start(&sandbox);
    until("the run is over", || sandbox.path("reconcile.prom").exists() && cron.is_idle());
    assert!(!sandbox.path("mail").exists(), "{}", sandbox.read("mail"));
    drop(cron);

    sandbox.write("policy.toml", "nonsense = 1");
    let _cron = Cron::start(&sandbox);
    until("cron mails", || sandbox.path("mail").exists());
    assert!(sandbox.read("mail").contains("unknown-key"));
}

#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_finds_nothing_wrong_with_the_units() {
    needs(&["systemd-analyze"]);
    let sandbox = Sandbox::new("", "");
    let service = text("systemd/reconcile.service");
    sandbox.write("reconcile.service", service.replace("/usr/local/bin/reconcile", program().to_str().unwrap()));
    sandbox.write("reconcile.timer", text("systemd/reconcile.timer"));
    let run = run(&sandbox, "", &["systemd-analyze", "verify", "./reconcile.service", "./reconcile.timer"]).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

#[test]
fn the_launch_agent_is_a_property_list() {
    let read =
        "import plistlib, sys; agent = plistlib.load(sys.stdin.buffer); print(*agent['ProgramArguments'], sep='\\n')";
    let agent = fs::File::open(example("launchd/org.example.reconcile.plist")).unwrap();
    let run = finish(Command::new("python3").args(["-c", read]).stdin(agent)).expect(0);
    assert!(run.stdout.starts_with("/usr/local/bin/reconcile\n--quiet\n"), "{run:#?}");
}

#[test]
fn every_kit_calls_the_program_with_options_that_it_has() {
    let sandbox = Sandbox::new(POLICY, "{}");
    let timed = |name: &str, start: &str| {
        let text = text(name).replace("</string>\n        <string>", " ");
        let line = text.lines().find_map(|line| Some(line.split_once(start)?.1.to_owned())).unwrap();
        let words = line.split("</string>").next().unwrap().split_whitespace().map(str::to_owned);
        words.map(|word| if word.contains('/') { word.rsplit('/').next().unwrap().to_owned() } else { word }).collect()
    };
    let lines: [Vec<String>; 3] = [
        timed("cron/crontab", "* * * * reconcile "),
        timed("systemd/reconcile.service", "ExecStart=/usr/local/bin/reconcile "),
        timed("launchd/org.example.reconcile.plist", "<string>/usr/local/bin/reconcile "),
    ];
    for line in lines {
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        assert!(words.contains(&"policy.toml"), "{words:?}");
        let run = sandbox.run(&words).expect(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    }
}

fn workflow(name: &str) -> Yaml {
    YamlLoader::load_from_str(&text(&format!("github-actions/{name}.yml"))).unwrap().remove(0)
}

const WORKFLOWS: [(&str, &str); 3] =
    [("reconcile-check", "check"), ("reconcile-plan", "plan"), ("reconcile-apply", "apply")];

fn steps(name: &str, job: &str) -> Vec<Yaml> {
    workflow(name)["jobs"][job]["steps"].as_vec().unwrap().clone()
}

/// Runs a step's script as a runner does.
fn step(sandbox: &Sandbox, (name, job): (&str, &str), title: &str, environment: &[(&str, &str)]) -> Run {
    let step = steps(name, job).into_iter().find(|step| step["name"].as_str() == Some(title)).unwrap();
    let given: BTreeSet<&str> = step["env"].as_hash().unwrap().keys().map(|name| name.as_str().unwrap()).collect();
    sandbox.write("step", step["run"].as_str().unwrap());
    let mut command = command(sandbox, "", &["bash", "-e", "step"]);
    for (name, value) in environment {
        let by_runner = ["RUNNER_TEMP", "GITHUB_STEP_SUMMARY"].contains(name);
        assert!(by_runner || given.contains(name), "{title} is not given {name}");
        command.env(name, value);
    }
    finish(&mut command)
}

/// What a step gives to the action of this repository.
fn inputs((name, job): (&str, &str), title: &str) -> Vec<(String, String)> {
    let step = steps(name, job).into_iter().find(|step| step["name"].as_str() == Some(title)).unwrap();
    assert_eq!(step["uses"].as_str(), Some("OWNER/reconcile@v1"));
    let text = |yaml: &Yaml| yaml.as_str().unwrap().to_owned();
    step["with"].as_hash().into_iter().flatten().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn workflows_give_a_pull_request_nothing_that_it_could_abuse() {
    for (name, job) in WORKFLOWS {
        let workflow = workflow(name);
        assert_eq!(workflow["name"].as_str(), Some(name));
        for step in steps(name, job) {
            let script = step["run"].as_str().unwrap_or_default();
            assert!(
                !script.contains("${{"),
                "{name}: what another person wrote would become part of a script: {script}"
            );
            if step["uses"].as_str().is_some_and(|action| action.starts_with("actions/checkout")) {
                assert_eq!(step["with"]["persist-credentials"].as_bool(), Some(false), "{name}");
            }
        }
        let permissions = workflow["permissions"].as_hash().unwrap();
        let writes = permissions.iter().filter(|(_, right)| right.as_str() != Some("read"));
        let writes: Vec<&str> = writes.map(|(name, _)| name.as_str().unwrap()).collect();
        assert_eq!(writes, if job == "plan" { vec!["pull-requests"] } else { vec![] }, "{name}");
    }
    assert!(!workflow("reconcile-check")["on"]["pull_request"].is_badvalue());
    assert!(!text("github-actions/reconcile-check.yml").contains("secrets."));
    let quotes_nothing = ("check".to_owned(), "false".to_owned());
    assert!(
        inputs(WORKFLOWS[1], "Plan").contains(&quotes_nothing),
        "where there is a secret, no line of a policy is shown"
    );
    let listens = &workflow("reconcile-plan")["on"]["workflow_run"]["workflows"][0];
    assert_eq!(listens.as_str(), Some("reconcile-check"));
}

#[test]
fn the_check_of_a_pull_request_annotates_mistakes() {
    let sandbox = Sandbox::new(&POLICY.replace("\"haiku\"\n", "\"hiaku\"\n"), "{}");
    fs::create_dir(sandbox.path("runner")).unwrap();
    assert_eq!(inputs(WORKFLOWS[0], "Check"), [], "without a key it is only checked");
    let check = || finish(&mut action::prepared(&sandbox, "", "Check", "main", &[]));
    let refused = check().expect(1);
    assert!(refused.stdout.contains("::error file=policy.toml,line=9,"), "{refused:#?}");
    sandbox.write("policy.toml", POLICY);
    check().expect(0);
}

/// GitHub, as far as the workflow asks for it: one pull request, and comments that are kept in a file.
const GH: &str = r#"
echo "$*" >> gh.calls
test "$1" = api; shift
method=GET; filter=.; body=; path=
while [ $# -gt 0 ]; do
    case $1 in
        --method) method=$2; shift ;;
        --jq) filter=$2; shift ;;
        -F) body=${2#body=@}; shift ;;
        -f) shift ;;
        --paginate | --silent) ;;
        *) path=$1 ;;
    esac
    shift
done
case "$method $path" in
    "GET repos/o/r/pulls") echo '[{"number": 7, "head": {"sha": "5ad"}}]' | jq -r "$filter" ;;
    "GET repos/o/r/issues/7/comments") jq -r "$filter" comments.json ;;
    "POST repos/o/r/issues/7/comments")
        jq --rawfile body "$body" '. + [{id: 42, user: {login: "github-actions[bot]"}, body: $body}]' comments.json > new.json
        mv new.json comments.json ;;
    "PATCH repos/o/r/issues/comments/42")
        jq --rawfile body "$body" 'map(if .id == 42 then .body = $body else . end)' comments.json > new.json
        mv new.json comments.json ;;
    *) echo "gh: not found: $method $path" >&2; exit 1 ;;
esac
"#;

#[test]
#[ignore = "needs jq"]
fn the_plan_of_a_pull_request_becomes_one_comment() {
    needs(&["jq"]);
    let sandbox = Sandbox::new(POLICY, &registry(&[("+16175550101", "family", "opus"), ("+16175550102", "bots", "")]));
    for directory in ["trusted", "proposed", "bin", "runner"] {
        fs::create_dir(sandbox.path(directory)).unwrap();
    }
    sandbox.script("bin/gh", GH);
    let strangers = json!([{ "id": 1, "user": { "login": "mallory" }, "body": "<!-- reconcile --> mine" }]);
    sandbox.write("comments.json", strangers.to_string());
    sandbox.write("trusted/registry.redacted.json", sandbox.run(&["snapshot", "--redact"]).expect(0).stdout);
    let key = sandbox.read("sessions.json.reconcile/redact.key");
    let report = sandbox.path("runner/reconcile.md").display().to_string();
    let plan = || {
        let _ = fs::remove_file(&report);
        let inputs = inputs(WORKFLOWS[1], "Plan");
        let given = inputs.iter().map(|(name, value)| {
            (name.as_str(), if value == "${{ secrets.RECONCILE_REDACT_KEY }}" { key.trim() } else { value })
        });
        let run = finish(&mut action::prepared(&sandbox, "", "Plan", "", &given.collect::<Vec<_>>()));
        assert!(!sandbox.path("runner/redact.key").exists());
        run
    };
    let comment = |sha: &str| {
        let environment =
            [("COMMENT", &*report), ("GH_TOKEN", "t"), ("REPOSITORY", "o/r"), ("HEAD", "o:topic"), ("SHA", sha)];
        step(&sandbox, WORKFLOWS[1], "Comment", &environment).expect(0);
        let comments: serde_json::Value = serde_json::from_str(&sandbox.read("comments.json")).unwrap();
        let bodies = comments.as_array().unwrap().iter().map(|comment| comment["body"].as_str().unwrap().to_owned());
        bodies.collect::<Vec<_>>()
    };

    // A policy from a fork, which would like to run something, and to have another file read.
    let evil = format!("{POLICY}\n[sessions]\nrestart = [\"touch\", \"pwned\"]\nrunning = [\"touch\", \"pwned\"]\n");
    sandbox.write("proposed/policy.toml", evil.replace("sessions.json", "../step"));
    let said = plan().expect(0);
    assert!(!said.stdout.contains("5550101") && said.stdout.contains("session-"), "{said:#?}");
    assert!(!sandbox.path("pwned").exists() && !sandbox.path("proposed/pwned").exists());
    let bodies = comment("5ad");
    assert_eq!(bodies.len(), 2);
    let start = "<!-- reconcile -->\n**There is nothing to compare this policy with:** https://example.org/o/r/actions/runs/1\n";
    assert!(bodies[1].starts_with(start) && bodies[1].contains("**Plan: 2 to change"), "{}", bodies[1]);
    assert!(!bodies[1].contains("5550101"));

    // What the change does comes first, and then the whole plan, of what differs anyway, too.
    sandbox.write("trusted/policy.toml", POLICY);
    sandbox.write("proposed/policy.toml", POLICY.replace("family = \"sonnet\"", "family = \"opus\""));
    plan().expect(0);
    let bodies = comment("5ad");
    assert_eq!(bodies.len(), 2, "it is updated");
    assert_eq!(bodies[0], "<!-- reconcile --> mine");
    let (change, plan_of_all) = bodies[1].split_once("\n### The whole plan\n\n").unwrap();
    assert!(change.starts_with("<!-- reconcile -->\n**Policy: 1 to change, "), "{change}");
    assert!(change.contains("<code>sonnet &#8594; opus</code>"), "{change}");
    assert!(plan_of_all.contains("**Plan: 1 to change, ") && plan_of_all.contains("haiku</code>"), "{plan_of_all}");
    assert_eq!(comment("01d"), bodies, "of an older commit nothing is told");

    // A plan that is refused is told of; a policy that is a link to a file that no reader should see is not quoted.
    sandbox.write("proposed/policy.toml", format!("{POLICY}\n[limits]\nmax_changes = 0\n"));
    plan().expect(0);
    assert!(comment("5ad")[1].contains("Refused"));
    fs::remove_file(sandbox.path("proposed/policy.toml")).unwrap();
    std::os::unix::fs::symlink("../runner/redact.key", sandbox.path("proposed/policy.toml")).unwrap();
    let said = plan().expect(1);
    assert!(!format!("{said:?}").contains(&key[..16]), "{said:#?}");
    assert!(comment("5ad")[1].contains("No plan could be made"));

    let methods = sandbox.read("gh.calls");
    let count = |method: &str| methods.lines().filter(|call| call.contains(&format!("--method {method}"))).count();
    assert_eq!((count("POST"), count("PATCH")), (1, 3));
}

#[test]
fn the_merged_policy_is_applied_and_told_of_without_numbers() {
    let sandbox = Sandbox::new(POLICY, &registry(&[("+16175550101", "family", "opus")]));
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    let temp = sandbox.path("").display().to_string();
    let (registry, summary) = (format!("{temp}/sessions.json"), format!("{temp}/summary.md"));
    let apply = |plan: &str| {
        let environment =
            [("PLAN", plan), ("REGISTRY", &registry), ("RUNNER_TEMP", &temp), ("GITHUB_STEP_SUMMARY", &summary)];
        step(&sandbox, WORKFLOWS[2], "Apply", &environment)
    };
    apply("0123456789abcdef0123456789abcdef").expect(3);
    assert_eq!(sandbox.model("+16175550101").as_deref(), Some("opus"));
    let plan = sandbox.json(&["--dry-run", "--redact"]);
    let run = apply(plan["plan_id"].as_str().unwrap()).expect(0);
    assert!(!run.stdout.contains("5550101"), "{run:#?}");
    assert_eq!(sandbox.model("+16175550101").as_deref(), Some("sonnet"));
    apply("").expect(0);
    let summary = sandbox.read("summary.md");
    assert!(summary.matches("<!-- reconcile -->").count() == 3 && !summary.contains("5550101"), "{summary}");
}

#[test]
fn a_message_for_a_session_that_the_claude_kit_does_not_have_is_refused() {
    let sandbox = Sandbox::new("", "");
    for name in ["say", "supervisord.conf"] {
        fs::copy(example("claude-code").join(name), sandbox.path(name)).unwrap();
    }
    let said = run(&sandbox, "", &["./say", "imessage-_16175550109", "Hi"]).expect(1);
    assert!(said.stderr.starts_with("say: there is no session imessage-_16175550109: "), "{said:#?}");
    assert!(!sandbox.path("inbox").exists(), "a file in the place of an inbox would keep the session from starting");
    // A session that has not started yet finds what was said to it.
    let mut early = command(&sandbox, "", &["./say", "imessage-_16175550103", "Hi"]).spawn().unwrap();
    let inbox = sandbox.path("inbox/imessage-_16175550103");
    until("there is an inbox", || inbox.exists());
    assert!(run(&sandbox, "", &["cat", inbox.to_str().unwrap()]).expect(0).stdout.contains("\"Hi\""));
    assert!(early.wait().unwrap().success());
}
