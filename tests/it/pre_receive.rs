//! The kit that refuses a push with a bad policy, with real pushes to a bare repository.

use std::fs;

use crate::kits::{command, git, install};
use crate::support::{POLICY, Run, Sandbox, finish, needs, registry};

/// A bare repository with these kits as its hooks, and a repository to push from.
fn repositories(hooks: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new("", &registry(&[("a", "family", "opus")]));
    git(&sandbox, "", &["init", "--quiet", "--bare", "--initial-branch=main", "policy.git"]).expect(0);
    git(&sandbox, "", &["init", "--quiet", "--initial-branch=main", "work"]).expect(0);
    for hook in hooks {
        install(&format!("{hook}/{hook}"), &sandbox.path(&format!("policy.git/hooks/{hook}")));
    }
    git(&sandbox, "policy.git", &["config", "receive.denyDeleteCurrent", "ignore"]).expect(0);
    sandbox
}

/// Commits this policy, and pushes it.
fn push(sandbox: &Sandbox, policy: &str, to: &[&str]) -> Run {
    sandbox.write("work/policy.toml", policy);
    git(sandbox, "work", &["add", "--all"]).expect(0);
    git(sandbox, "work", &["commit", "--quiet", "--allow-empty", "-m", "policy"]).expect(0);
    git(sandbox, "work", &[&["push", "--quiet", "../policy.git"], to].concat())
}

/// The policy that a branch has where it was pushed to.
fn pushed(sandbox: &Sandbox, branch: &str) -> Option<String> {
    let shown = git(sandbox, "policy.git", &["show", &format!("{branch}:policy.toml")]);
    (shown.code == 0).then_some(shown.stdout)
}

fn mistyped() -> String {
    POLICY.replace("\"haiku\"\n", "\"hiaku\"\n")
}

#[test]
fn a_push_with_a_bad_policy_is_refused_with_its_mistakes() {
    let sandbox = repositories(&["pre-receive"]);
    let refused = push(&sandbox, &mistyped(), &["HEAD:main"]).expect(1).stderr;
    assert!(refused.contains("policy.toml:9:") && refused.contains("did you mean `haiku`"), "{refused}");
    assert!(refused.contains("remote: main stays as it was"), "{refused}");
    assert!(refused.contains("pre-receive hook declined"), "{refused}");
    assert_eq!(pushed(&sandbox, "main"), None);

    push(&sandbox, POLICY, &["HEAD:main"]).expect(0);
    assert_eq!(pushed(&sandbox, "main").as_deref(), Some(POLICY));
    push(&sandbox, &mistyped(), &["HEAD:topic", "HEAD:main"]).expect(1);
    assert_eq!(pushed(&sandbox, "main").as_deref(), Some(POLICY));
    assert_eq!(pushed(&sandbox, "topic"), None, "a push is refused as a whole");

    // What is checked is what is pushed, and not what lies in the directory of the pusher.
    git(&sandbox, "work", &["revert", "--no-edit", "HEAD"]).expect(0);
    sandbox.write("work/policy.toml", mistyped());
    git(&sandbox, "work", &["push", "--quiet", "../policy.git", "HEAD:main"]).expect(0);
    git(&sandbox, "work", &["rm", "--quiet", "-f", "policy.toml"]).expect(0);
    git(&sandbox, "work", &["commit", "--quiet", "-m", "no policy"]).expect(0);
    let refused = git(&sandbox, "work", &["push", "--quiet", "../policy.git", "HEAD:main"]).expect(1).stderr;
    assert!(refused.contains("there is no policy"), "{refused}");
}

#[test]
fn other_branches_and_deletions_pass() {
    let sandbox = repositories(&["pre-receive"]);
    push(&sandbox, &mistyped(), &["HEAD:topic", "HEAD:refs/tags/v1"]).expect(0);
    assert_eq!(pushed(&sandbox, "topic"), Some(mistyped()));
    push(&sandbox, POLICY, &["HEAD:main"]).expect(0);
    push(&sandbox, POLICY, &[":main", ":topic"]).expect(0);
    assert_eq!(pushed(&sandbox, "refs/heads/main"), None);
}

#[test]
fn the_policy_may_have_another_path() {
    let sandbox = repositories(&["pre-receive"]);
    git(&sandbox, "policy.git", &["config", "reconcile.policy", "models"]).expect(0);
    fs::create_dir(sandbox.path("work/models")).unwrap();
    sandbox.write("work/models/a.toml", POLICY);
    push(&sandbox, &mistyped(), &["HEAD:main"]).expect(0);
    sandbox.write("work/models/a.toml", mistyped());
    let refused = push(&sandbox, POLICY, &["HEAD:main"]).expect(1).stderr;
    assert!(refused.contains("models/a.toml:9:"), "{refused}");
}

#[test]
fn nothing_is_left_of_what_was_checked() {
    let sandbox = repositories(&["pre-receive"]);
    fs::create_dir(sandbox.path("temporary")).unwrap();
    for (policy, code) in [(mistyped(), 1), (POLICY.to_owned(), 0)] {
        push(&sandbox, &policy, &["HEAD:topic"]).expect(0);
        let mut push = command(&sandbox, "work", &["git", "push", "../policy.git", "HEAD:main"]);
        finish(push.env("TMPDIR", sandbox.path("temporary"))).expect(code);
        assert_eq!(fs::read_dir(sandbox.path("temporary")).unwrap().count(), 0);
    }
}

#[test]
#[ignore = "needs flock"]
fn what_was_checked_is_what_is_put_in_force() {
    needs(&["flock"]);
    let sandbox = repositories(&["pre-receive", "post-receive"]);
    let (policies, sessions) = (sandbox.path("policies"), sandbox.path("sessions.json"));
    for (name, value) in [("directory", &policies), ("registry", &sessions)] {
        let value = value.to_str().unwrap();
        git(&sandbox, "policy.git", &["config", &format!("reconcile.{name}"), value]).expect(0);
    }
    let in_force = || fs::read_to_string(policies.join("current/policy.toml")).unwrap();

    let said = push(&sandbox, POLICY, &["HEAD:main"]).expect(0).stderr;
    assert!(said.contains("remote: Applied: 1 changed"), "{said}");
    assert_eq!((in_force().as_str(), sandbox.model("a").as_deref()), (POLICY, Some("sonnet")));
    let said = push(&sandbox, &mistyped(), &["HEAD:main"]).expect(1).stderr;
    assert!(!said.contains("Applied") && !said.contains("No changes"), "nothing is run: {said}");
    assert_eq!(in_force(), POLICY);

    let opus = POLICY.replace("family = \"sonnet\"", "family = \"opus\"");
    push(&sandbox, &opus, &["HEAD:main"]).expect(0);
    assert_eq!((in_force(), sandbox.model("a").as_deref()), (opus, Some("opus")));
}
