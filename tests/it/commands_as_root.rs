//! A user who can write a policy can run its commands. Root runs none of a policy that others can write.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};

use crate::commands::{CHAT, RECORD, drifted};
use crate::support::needs_root;

#[test]
#[ignore = "needs root"]
fn root_runs_no_commands_of_a_policy_that_others_can_write() {
    needs_root();
    for (exposed, mode) in [("policy.toml", 0o666), ("policy.toml", 0o620), ("", 0o777)] {
        let sandbox = drifted(RECORD);
        sandbox.script("restart", "echo $1 >> calls");
        std::fs::set_permissions(sandbox.path(exposed), Permissions::from_mode(mode)).unwrap();
        let run = sandbox.run(&[]).expect(1);
        assert!(run.stderr.starts_with("error[policy-exposed]: others can write "), "{run:#?}");
        assert!(run.stderr.contains("hint: "), "{run:#?}");
        assert_eq!((sandbox.model(CHAT).as_deref(), sandbox.calls().len()), (Some("opus"), 0));
        // A dry run runs nothing of it, so it may.
        sandbox.run(&["--dry-run"]).expect(0);
    }
}

#[test]
#[ignore = "needs root"]
fn root_runs_no_commands_of_a_policy_on_a_way_that_others_can_change() {
    needs_root();
    let sandbox = drifted("restart = [\"true\"]");
    for directory in ["theirs", "theirs/ours", "ours"] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
    }
    std::fs::copy(sandbox.path("policy.toml"), sandbox.path("theirs/policy.toml")).unwrap();
    std::fs::copy(sandbox.path("policy.toml"), sandbox.path("theirs/ours/policy.toml")).unwrap();
    symlink("../theirs/policy.toml", sandbox.path("ours/policy.toml")).unwrap();
    std::os::unix::fs::chown(sandbox.path("theirs"), Some(65534), None).unwrap();
    for policy in ["theirs/ours/policy.toml", "ours/policy.toml"] {
        let run = sandbox.run(&["--policy", policy, "--registry", "sessions.json"]).expect(1);
        assert!(run.stderr.contains("others can write "), "{policy}: {run:#?}");
    }
}

#[test]
#[ignore = "needs root"]
fn root_runs_no_commands_of_a_policy_behind_a_link_that_others_can_turn() {
    needs_root();
    let sandbox = drifted("restart = [\"true\"]");
    for (directory, mode) in [("real", 0o755), ("ours", 0o755), ("open", 0o777), ("sticky", 0o1777)] {
        std::fs::create_dir(sandbox.path(directory)).unwrap();
        std::fs::set_permissions(sandbox.path(directory), Permissions::from_mode(mode)).unwrap();
    }
    std::fs::copy(sandbox.path("policy.toml"), sandbox.path("real/policy.toml")).unwrap();
    for (target, link) in [
        ("../real", "open/link"),
        ("../real/policy.toml", "open/policy.toml"),
        ("../open/link", "ours/two-links"),
        ("../real", "ours/link"),
        ("../real", "sticky/ours"),
        ("../real", "sticky/theirs"),
    ] {
        symlink(target, sandbox.path(link)).unwrap();
    }
    symlink(sandbox.path("open/link"), sandbox.path("ours/absolute")).unwrap();
    lchown(sandbox.path("sticky/theirs"), Some(65534), None).unwrap();
    let run = |policy: &str| sandbox.run(&["--policy", policy, "--registry", "sessions.json"]);
    let absolute = sandbox.path("open/link/policy.toml");
    for policy in [
        "open/link/policy.toml",
        "open/link",
        "open",
        "open/policy.toml",
        "ours/two-links/policy.toml",
        "ours/absolute/policy.toml",
        "ours/../open/link/../real/policy.toml",
        "sticky/theirs/policy.toml",
        absolute.to_str().unwrap(),
    ] {
        let run = run(policy).expect(1);
        assert!(run.stderr.contains("others can write "), "{policy}: {run:#?}");
    }
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("opus"));
    for policy in ["ours/link/policy.toml", "ours/link", "sticky/ours/policy.toml", "./real/../real/policy.toml"] {
        run(policy).expect(0);
    }
}
