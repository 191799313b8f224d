//! `set-model` beside others: runs, other edits, editors, and what an edit that died left behind.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};

use rustix::process::Signal;

use crate::slow::{Running, until};
use crate::support::{POLICY, Sandbox, needs_root, registry};

const ADA: &str = "+16175550142";

fn policy() -> String {
    format!("{POLICY}\n[chats]\n# by hand\n")
}

fn sandbox() -> Sandbox {
    Sandbox::new(&policy(), &registry(&[(ADA, "family", "sonnet")]))
}

fn edited() -> String {
    policy().replace("[chats]\n", "[chats]\n\"+16175550142\" = \"haiku\"\n")
}

fn start(sandbox: &Sandbox, arguments: &[&str]) -> Running {
    Running::start(&mut sandbox.command(arguments))
}

/// The lock of a run, as another run would hold it.
fn run_lock(sandbox: &Sandbox) -> File {
    sandbox.run(&[]).expect(0);
    let lock = File::open(sandbox.path("sessions.json.reconcile/run.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

fn assert_no_debris(sandbox: &Sandbox) {
    let names = fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with('.')).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn where_another_run_goes_on_the_policy_stays_as_it_is() {
    let sandbox = sandbox();
    let lock = run_lock(&sandbox);
    let run = sandbox.run(&["--lock-timeout", "20ms", "set-model", ADA, "haiku"]).expect(75);
    assert!(run.stderr.contains("another process holds"), "{run:?}");
    assert_eq!(sandbox.read("policy.toml"), policy());
    drop(lock);
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(sandbox.read("policy.toml"), edited());
}

#[test]
fn where_another_edit_goes_on_the_policy_stays_as_it_is() {
    let sandbox = sandbox();
    let lock = File::open(sandbox.path("policy.toml")).unwrap();
    lock.lock().unwrap();
    for timeout in ["0s", "20ms"] {
        let run = sandbox.run(&["--lock-timeout", timeout, "set-model", ADA, "haiku"]).expect(75);
        assert!(run.stderr.contains("another process holds policy.toml"), "{run:?}");
    }
    assert_eq!((sandbox.read("policy.toml"), sandbox.model(ADA).as_deref()), (policy(), Some("sonnet")));
    // Neither a dry run nor an ordinary one minds.
    sandbox.run(&["--lock-timeout", "0s", "set-model", ADA, "haiku", "--dry-run"]).expect(0);
    sandbox.run(&["--lock-timeout", "0s"]).expect(0);
    let mut waiting = start(&sandbox, &["set-model", ADA, "haiku"]);
    lock.unlock().unwrap();
    waiting.finish().expect(0);
    assert_eq!(sandbox.read("policy.toml"), edited());
}

#[test]
fn a_patience_without_end_is_no_mistake() {
    let sandbox = sandbox();
    sandbox.run(&["--lock-timeout", "9000000000000000000s", "set-model", ADA, "haiku"]).expect(0);
}

#[test]
fn what_an_editor_saves_meanwhile_is_not_lost() {
    let theirs = policy().replace("# by hand", "# by HAND");
    let by_renaming = |sandbox: &Sandbox| {
        sandbox.write("policy.toml~", &theirs);
        fs::rename(sandbox.path("policy.toml~"), sandbox.path("policy.toml")).unwrap();
    };
    let in_place = |sandbox: &Sandbox| sandbox.write("policy.toml", &theirs);
    for save in [&by_renaming as &dyn Fn(&Sandbox), &in_place] {
        let sandbox = sandbox();
        let lock = run_lock(&sandbox);
        let mut waiting = start(&sandbox, &["set-model", ADA, "haiku"]);
        // By then it has read the policy. What is saved earlier is read, and edited as it is.
        until("the edit waits for the run", || waiting.has_open("run.lock"));
        save(&sandbox);
        drop(lock);
        let run = waiting.finish().expect(1);
        assert!(run.stderr.starts_with("error[policy-changed]: policy.toml was changed by another program"), "{run:?}");
        assert_eq!((sandbox.read("policy.toml"), sandbox.model(ADA).as_deref()), (theirs.clone(), Some("sonnet")));
        assert_no_debris(&sandbox);
        sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
        assert_eq!(sandbox.read("policy.toml"), edited().replace("# by hand", "# by HAND"));
    }
}

#[test]
fn an_edit_does_not_go_by_a_part_of_the_policy_that_is_another_by_then() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("policy")).unwrap();
    let main = policy().replace("\"sessions.json\"", "\"../sessions.json\"");
    sandbox.write("policy/main.toml", &main);
    sandbox.write("policy/more.toml", "");
    let lock = run_lock(&sandbox);
    let mut waiting = start(&sandbox, &["--policy", "policy", "set-model", ADA, "haiku"]);
    until("the edit waits for the run", || waiting.has_open("run.lock"));
    sandbox.write("policy/more.toml", "[limits]\nmax_changes = 0\n");
    drop(lock);
    let run = waiting.finish().expect(1);
    assert!(run.stderr.contains("policy was changed by another program meanwhile"), "{run:?}");
    assert_eq!((sandbox.read("policy/main.toml"), sandbox.model(ADA).as_deref()), (main, Some("sonnet")));
}

#[test]
fn a_policy_whose_override_moves_each_time_is_left_alone() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("policy")).unwrap();
    sandbox.write("policy/main.toml", policy().replace("\"sessions.json\"", "\"../sessions.json\""));
    let files = ["policy/one.toml", "policy/two.toml"];
    // In place, so that a lock on the file stays one.
    let put = |at: usize| {
        sandbox.write(files[at], format!("[chats]\n{ADA:?} = \"opus\"\n"));
        sandbox.write(files[1 - at], "");
    };
    let lock = |at: usize| {
        let file = File::open(sandbox.path(files[at])).unwrap();
        file.lock().unwrap();
        file
    };
    put(0);
    let mut held = lock(0);
    let mut waiting = start(&sandbox, &["--policy", "policy", "set-model", ADA, "haiku"]);
    for moves in 0..20 {
        let (here, there) = (moves % 2, (moves + 1) % 2);
        // It may still read the policy while it has that file open, but not with its directory open and the other file closed.
        let is_waiting =
            || waiting.has_open(files[here]) && waiting.has_open("policy") && !waiting.has_open(files[there]);
        until("the edit waits for the file", is_waiting);
        let next = lock(there);
        put(there);
        drop(std::mem::replace(&mut held, next));
    }
    let run = waiting.finish().expect(1);
    assert!(run.stderr.starts_with("error[policy-unsteady]: the policy kept changing"), "{run:?}");
    assert_eq!((sandbox.read(files[0]).contains("opus"), sandbox.read(files[1])), (true, String::new()));
}

#[test]
fn an_interrupt_ends_the_waiting() {
    let sandbox = sandbox();
    let lock = File::open(sandbox.path("policy.toml")).unwrap();
    lock.lock().unwrap();
    let mut waiting = start(&sandbox, &["--lock-timeout", "1h", "set-model", ADA, "haiku"]);
    // The last one that it begins to handle.
    until("it listens", || waiting.handles(Signal::TERM));
    waiting.signal(Signal::INT);
    waiting.finish().expect(75);
    assert_eq!(sandbox.read("policy.toml"), policy());
}

#[test]
fn many_edits_at_once_all_stay() {
    let ids: Vec<String> = (0..30).map(|number| format!("chat-{number:02}")).collect();
    let chats: Vec<_> = ids.iter().map(|id| (id.as_str(), "family", "sonnet")).collect();
    let sandbox = Sandbox::new(&policy(), &registry(&chats));
    let set = |id: &String| start(&sandbox, &["--lock-timeout", "5m", "set-model", id, "haiku"]);
    let running: Vec<Running> = ids.iter().map(set).collect();
    for mut run in running {
        run.finish().expect(0);
    }
    let text = sandbox.read("policy.toml");
    for id in &ids {
        assert!(text.contains(&format!("\"{id}\" = \"haiku\"\n")), "{id} is lost: {text}");
        assert_eq!(sandbox.model(id).as_deref(), Some("haiku"));
    }
    assert_eq!(text.lines().count(), policy().lines().count() + ids.len());
    assert_no_debris(&sandbox);
}

/// Nothing but the lock of the policy is between these.
#[test]
fn edits_of_one_policy_for_many_registries_all_stay() {
    let sandbox = sandbox();
    let names: Vec<String> = (0..20).map(|number| format!("host-{number:02}")).collect();
    let set = |name: &String| {
        sandbox.write(name, registry(&[(name, "family", "sonnet")]));
        start(&sandbox, &["--lock-timeout", "5m", "--registry", name, "set-model", name, "haiku"])
    };
    let running: Vec<Running> = names.iter().map(set).collect();
    for mut run in running {
        run.finish().expect(0);
    }
    let text = sandbox.read("policy.toml");
    for name in &names {
        assert!(text.contains(&format!("\"{name}\" = \"haiku\"\n")), "{name} is lost: {text}");
    }
    assert_no_debris(&sandbox);
}

#[test]
fn a_policy_in_a_directory_that_cannot_be_written_is_left_alone() {
    let sandbox = sandbox();
    // A directory of that name cannot be removed as a file, not even by root.
    fs::create_dir(sandbox.path(".policy.toml.reconcile")).unwrap();
    sandbox.run(&["set-model", ADA, "haiku"]).expect(1);
    assert_eq!((sandbox.read("policy.toml"), sandbox.model(ADA).as_deref()), (policy(), Some("sonnet")));
}

#[test]
fn what_an_edit_left_that_died_early_is_removed() {
    let sandbox = sandbox();
    sandbox.write(".policy.toml.reconcile", "[models]\nhalf of a po");
    sandbox.write(".policy.toml.reconcile-note", "{\"seen\":");
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(sandbox.read("policy.toml"), edited());
    assert_no_debris(&sandbox);
}

/// In a directory like /tmp, where everybody may create files.
#[test]
#[ignore = "needs root"]
fn a_note_by_a_stranger_puts_no_policy_in_place() {
    needs_root();
    let sandbox = sandbox();
    sandbox.write(".policy.toml.reconcile", "theirs");
    sandbox.write(".policy.toml.reconcile-note", "{}");
    fs::set_permissions(sandbox.path(".policy.toml.reconcile-note"), fs::Permissions::from_mode(0o644)).unwrap();
    chown(sandbox.path(".policy.toml.reconcile-note"), Some(12345), None).unwrap();
    let run = sandbox.run(&["set-model", ADA, "haiku"]).expect(1);
    assert!(run.stderr.contains("error[foreign-note]: ") && run.stderr.contains("user 12345 owns it"), "{run:?}");
    assert_eq!(sandbox.read("policy.toml"), policy());
}
