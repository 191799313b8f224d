//! A policy in a directory whose name is not UTF-8: all that names a path works there, too.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{POLICY, Run, Sandbox, finish, registry};

const ODD: &[u8] = b"odd\xff";

/// A policy in such a directory, and one that is such a directory.
fn policies(sandbox: &Sandbox) -> [PathBuf; 2] {
    let odd = sandbox.path("").join(OsStr::from_bytes(ODD));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("policy.toml"), POLICY).unwrap();
    [odd.join("policy.toml"), odd]
}

fn sandbox() -> Sandbox {
    Sandbox::new(POLICY, &registry(&[("a", "family", "haiku"), ("b", "admin", "opus")]))
}

fn run(sandbox: &Sandbox, policy: &OsStr, arguments: &[&OsStr]) -> Run {
    let mut command = sandbox.command(&["--registry", "sessions.json", "--policy"]);
    finish(command.arg(policy).args(arguments))
}

fn words(line: &str) -> Vec<&OsStr> {
    line.split(' ').map(OsStr::new).collect()
}

#[test]
fn every_command_finds_a_policy_in_a_directory_of_another_encoding() {
    let sandbox = sandbox();
    let policies = policies(&sandbox);
    for policy in &policies {
        let run = |line: &str, code: i32| run(&sandbox, policy.as_os_str(), &words(line)).expect(code);
        run("check", 0);
        run("doctor", 0);
        run("list", 0);
        run("explain a", 0);
        run("plan --output json=plan.json --output diff=plan.diff", 0);
        run("set-model a haiku --reason odd", 0);
        let is_overridden = || fs::read_to_string(&policies[0]).unwrap().contains("reason = \"odd\"");
        assert!(is_overridden());
        assert_eq!(sandbox.model("a").as_deref(), Some("haiku"));
        run("unset-model a", 0);
        assert!(!is_overridden());
        run("undo last --dry-run", 0);
        run("undo last", 0);
        assert_eq!(sandbox.model("a").as_deref(), Some("haiku"));
        run("unset-model a", 0);
        assert!(!is_overridden());
    }
    let left: Vec<_> = fs::read_dir(&policies[1]).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["policy.toml"], "no edit leaves anything behind");
}

#[test]
fn a_policy_is_compared_with_one_in_a_directory_of_another_encoding() {
    let sandbox = sandbox();
    let policies = policies(&sandbox);
    for from in &policies {
        run(&sandbox, "policy.toml".as_ref(), &["diff".as_ref(), "--from".as_ref(), from.as_os_str()]).expect(0);
    }

    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments).current_dir(sandbox.path(""));
        assert!(git.output().unwrap().status.success());
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "first"]);
    sandbox.write("policy.toml", POLICY.replace("\"sonnet\"\n", "\"opus\"\n"));
    let below = |name: &[u8]| OsString::from(OsStr::from_bytes(&[b"git:HEAD:", ODD, name].concat()));
    for (policy, from) in [
        (policies[0].as_os_str(), "git:HEAD".into()),
        (policies[1].as_os_str(), "git:HEAD".into()),
        ("policy.toml".as_ref(), below(b"/policy.toml")),
        ("policy.toml".as_ref(), below(b"")),
    ] {
        run(&sandbox, policy, &["diff".as_ref(), "--from".as_ref(), &from]).expect(0);
    }
}
