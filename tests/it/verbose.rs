//! `-v` and `-vv` tell on stderr what is done, and neither a secret nor, where names are hidden, a name.

use crate::dispatch::{self, CAL};
use crate::support::{POLICY, Run, Sandbox, registry};

fn sandbox() -> Sandbox {
    let commands =
        "restart = [\"./restart\", \"--token=SECRET\"]\nrunning = [\"./running\"]\nidentity = [\"./identity\"]";
    let policy = format!("{POLICY}\n[sessions]\n{commands}\n[rollout]\nmin_healthy = \"1ms\"\n");
    let sandbox = Sandbox::new(&policy, &registry(&[("+1", "family", "opus"), ("+2", "bots", "haiku")]));
    sandbox.script("restart", "echo SECRET; echo SECRET >&2; echo x >> starts");
    sandbox.script("running", "exit 0");
    sandbox.script("identity", "wc -l < starts; echo SECRET >&2");
    sandbox.write("starts", "");
    sandbox
}

/// What is told, without the time of day and without how long it took.
fn told(run: &Run) -> Vec<String> {
    let lines = run.stderr.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    lines.map(|line| line[13..].split(" (").next().unwrap().to_owned()).collect()
}

const STEPS: [&str; 9] = [
    "read the policy policy.toml",
    "took the lock of runs",
    "made the plan: 1 to change, 1 to restart",
    "asked git for the commit of the policy",
    "committed the edits of the registry: 1",
    "the attempt on imessage/_1 ended",
    "tried sessions: 1",
    "read the registry back",
    "wrote the history",
];

#[test]
fn a_run_tells_its_steps_and_how_long_they_took() {
    let run = sandbox().run(&["-v"]).expect(0);
    assert_eq!(told(&run), STEPS, "{run:#?}");
    let timed = run.stderr.lines().filter(|line| line.ends_with("s)")).count();
    assert_eq!(timed, STEPS.len(), "each with its duration: {run:#?}");
    let plain = sandbox().run(&[]).expect(0);
    assert_eq!((run.stdout, told(&plain)), (plain.stdout.clone(), Vec::new()), "{plain:#?}");
    // A plan is a part of that; and a quiet run that is asked to tell, tells.
    let planned = sandbox().run(&["plan", "--verbose"]).expect(0);
    assert_eq!(told(&planned), [STEPS[0], STEPS[2]], "{planned:#?}");
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    assert_eq!(told(&sandbox.run(&["-q", "-v"]).expect(0))[..2], STEPS[..2]);
}

#[test]
fn each_command_is_told_without_what_it_is_given_and_what_it_prints() {
    let run = sandbox().run(&["-vv"]).expect(0);
    let commands: Vec<String> = told(&run).into_iter().filter(|line| line.contains("command")).collect();
    assert!(run.stderr.contains("imessage/_1: the restart command (./restart) begins\n"), "{run:#?}");
    assert!(run.stderr.contains("imessage/_1: the restart command (./restart) exited with code 0\n"), "{run:#?}");
    for key in ["restart", "running", "identity"] {
        assert!(commands.contains(&format!("imessage/_1: the {key} command")), "{key}: {run:#?}");
    }
    let failing = sandbox();
    failing.script("restart", "echo SECRET >&2; exit 7");
    let failed = failing.run(&["-vv"]).expect(4);
    assert!(failed.stderr.contains("imessage/_1: the restart command (./restart) exited with code 7\n"), "{failed:#?}");
    for run in [&run, &failed] {
        assert!(!run.stderr.contains("SECRET"), "{run:#?}");
    }
}

#[test]
fn no_name_is_told_where_names_are_hidden() {
    let sandbox = sandbox();
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    let run = sandbox.run(&["-vv", "--redact"]).expect(0);
    assert!(run.stderr.contains("a session: the restart command (…) exited with code 0\n"), "{run:#?}");
    assert!(told(&run).contains(&"the attempt on a session ended".to_owned()), "{run:#?}");
    for name in ["imessage/_1", "+1", "SECRET"] {
        assert!(!run.stderr.contains(name), "{name}: {run:#?}");
    }
}

#[test]
fn each_request_to_a_daemon_is_told() {
    let sandbox = dispatch::sandbox();
    let daemon = dispatch::daemon(&sandbox, &[CAL]);
    let run = sandbox.run(&["-vv", "--chat", CAL]).expect(0);
    drop(daemon);
    for line in [
        "the request status begins".to_owned(),
        "the request status has ended: answered".to_owned(),
        format!("{CAL}: the request set_model begins"),
        format!("{CAL}: the request set_model has ended: answered"),
    ] {
        assert!(told(&run).contains(&line), "{line}: {run:#?}");
    }
    let down = sandbox.run(&["plan", "-vv"]).expect(0);
    assert!(told(&down).contains(&"the request status has ended: no daemon listens".to_owned()), "{down:#?}");
}
