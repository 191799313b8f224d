//! The kits in `examples/`, as they are there: real supervisors, whose sessions are launches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::slow::{Lines, Running, fifo, until};
use crate::support::{Run, finish, ledger_in, needs};

const ADMIN: &str = "+16175550101";
const FAMILY: &str = "+16175550103";
const BOT: &str = "discord:428190331";

/// What a session was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Started {
    pid: String,
    model: String,
    resume: String,
}

/// A copy of a kit, and what its assistants say.
struct Kit {
    started: Lines,
    root: TempDir,
    name: &'static str,
}

impl Kit {
    fn new(name: &'static str) -> Self {
        let root = TempDir::new().unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        fs::create_dir(root.path().join(name)).unwrap();
        for file in fs::read_dir(examples.join(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), root.path().join(name).join(file.file_name())).unwrap();
        }
        fs::copy(examples.join("assistant"), root.path().join("assistant")).unwrap();
        Self { started: Lines::listen(root.path().join("started")), root, name }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(self.name).join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// In the kit's directory, with this program in the path, and nothing that the kit could meet outside.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let ours = Path::new(env!("CARGO_BIN_EXE_reconcile")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([ours].into_iter().chain(std::env::split_paths(&path))).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path("")).stdin(Stdio::null()).env("PATH", path);
        command.env("HOME", self.root.path()).env("TMUX_TMPDIR", self.root.path());
        command.env("ASSISTANT_LOG", self.root.path().join("started"));
        for name in ["TMUX", "RECONCILE_POLICY", "RECONCILE_REGISTRY"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Run {
        finish(&mut self.command(program, arguments))
    }

    /// The next sessions that say that they were started, by chat.
    fn started(&self, count: usize) -> BTreeMap<String, Started> {
        let next = || {
            let line = self.started.next("a session starts");
            let (chat, rest) = line.split_once(" pid=").unwrap();
            let (pid, rest) = rest.split_once(" model=").unwrap();
            let (model, resume) = rest.split_once(" resume=").unwrap();
            let [pid, model, resume] = [pid, model, resume].map(str::to_owned);
            (chat.to_owned(), Started { pid, model, resume })
        };
        (0..count).map(|_| next()).collect()
    }

    /// Every session has had a turn, and can be resumed from now on.
    fn converse(&self) {
        let mut registry: Value = serde_json::from_str(&self.read("sessions.json")).unwrap();
        for (chat, entry) in registry.as_object_mut().unwrap() {
            entry["resume_id"] = conversation(chat).into();
        }
        fs::write(self.path("sessions.json"), serde_json::to_string_pretty(&registry).unwrap()).unwrap();
    }

    fn change_policy(&self, from: &str, to: &str) {
        let policy = self.read("policy.toml");
        assert!(policy.contains(from), "{policy}");
        fs::write(self.path("policy.toml"), policy.replace(from, to)).unwrap();
    }

    /// Lets two of the three sessions drift, reconciles, and checks what became of whom.
    fn check_that_exactly_the_drifted_are_restarted(&self, pids: impl Fn() -> BTreeSet<String>) {
        let before = self.started(3);
        for (chat, model) in [(ADMIN, "opus"), (FAMILY, "sonnet"), (BOT, "haiku")] {
            assert_eq!((before[chat].model.as_str(), before[chat].resume.as_str()), (model, "none"));
        }
        assert_eq!(pids(), before.values().map(|session| session.pid.clone()).collect(), "a session is its launch");
        self.converse();
        assert!(self.run("reconcile", &[]).expect(0).summary().starts_with("No changes."));

        self.change_policy("family = \"sonnet\"", "family = \"opus\"");
        self.change_policy("bots   = \"haiku\"", "bots   = \"sonnet\"");
        let run = self.run("reconcile", &[]).expect(0);
        assert_eq!(run.summary(), "Applied: 2 changed, 2 restarted, 0 deferred, 0 failed.");
        let after = self.started(2);
        for (chat, model) in [(FAMILY, "opus"), (BOT, "sonnet")] {
            let resume = conversation(chat);
            assert_eq!((after[chat].model.as_str(), after[chat].resume.as_str()), (model, resume.as_str()));
            assert_ne!(after[chat].pid, before[chat].pid);
            until("the old session is gone", || !is_alive(&before[chat].pid));
        }
        assert_eq!(pids(), [&before[ADMIN].pid, &after[FAMILY].pid, &after[BOT].pid].map(Clone::clone).into());
        assert!(self.run("reconcile", &[]).expect(0).summary().starts_with("No changes."));
    }
}

/// The id of a chat's conversation.
fn conversation(chat: &str) -> String {
    format!("conversation-of-{}", chat.replace(['+', ':'], "_"))
}

/// One that has ended and that no process has waited for yet is not.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// It ends its sessions when it ends.
struct Supervisord(Child);

impl Supervisord {
    fn start(kit: &Kit) -> Self {
        let mut command = kit.command("supervisord", &["-n", "-c", "supervisord.conf"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Supervisord {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn supervisorctl(kit: &Kit, arguments: &[&str]) -> Run {
    kit.run("supervisorctl", &[&["-c", "supervisord.conf"], arguments].concat())
}

#[test]
#[ignore = "needs supervisord"]
fn under_supervisord_exactly_the_sessions_that_drifted_are_started_anew_and_resumed() {
    needs(&["supervisord", "supervisorctl"]);
    let kit = Kit::new("supervisord");
    let _supervisor = Supervisord::start(&kit);
    kit.check_that_exactly_the_drifted_are_restarted(|| {
        supervisorctl(&kit, &["pid", "all"]).stdout.lines().map(str::to_owned).collect()
    });

    // What the kit writes is beside it: a log of the supervisor, and two of each session.
    let files = fs::read_dir(kit.path("")).unwrap().map(|file| file.unwrap().path());
    assert_eq!(files.filter(|file| file.extension().is_some_and(|end| end == "log")).count(), 7);

    // One that is not running needs no restart: it starts on its model.
    supervisorctl(&kit, &["stop", "imessage-_16175550103"]).expect(0);
    kit.change_policy("family = \"opus\"", "family = \"haiku\"");
    let run = kit.run("reconcile", &[]).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 0 failed.");
    supervisorctl(&kit, &["start", "imessage-_16175550103"]).expect(0);
    assert_eq!(kit.started(1)[FAMILY].model, "haiku");
}

/// It ends its sessions when it ends.
struct Tmux<'k>(&'k Kit);

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.0.run("tmux", &["-L", "chats", "kill-server"]);
    }
}

#[test]
#[ignore = "needs tmux"]
fn in_tmux_exactly_the_sessions_that_drifted_are_started_anew_and_resumed() {
    needs(&["tmux"]);
    let kit = Kit::new("tmux");
    let _server = Tmux(&kit);
    for (chat, name, tier) in [
        (ADMIN, "imessage/_16175550101", "admin"),
        (FAMILY, "imessage/_16175550103", "family"),
        (BOT, "discord/428190331", "bots"),
    ] {
        kit.run("./start", &[chat, name, tier]).expect(0);
    }
    kit.check_that_exactly_the_drifted_are_restarted(|| {
        let panes = kit.run("tmux", &["-L", "chats", "list-panes", "-s", "-t", "=chats", "-F", "#{pane_pid}"]);
        panes.expect(0).stdout.lines().map(str::to_owned).collect()
    });

    let twice = kit.run("./start", &[FAMILY, "imessage/_16175550103", "family"]).expect(1);
    assert_eq!(twice.stderr, "start: imessage-_16175550103 has a window already\n");
    // One whose window is closed needs no restart: it starts on its model.
    kit.run("tmux", &["-L", "chats", "kill-window", "-t", "=chats:=imessage-_16175550103"]).expect(0);
    kit.change_policy("family = \"opus\"", "family = \"haiku\"");
    let run = kit.run("reconcile", &[]).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 0 failed.");
    kit.run("./start", &[FAMILY, "imessage/_16175550103", "family"]).expect(0);
    assert_eq!(kit.started(1)[FAMILY].model, "haiku");
}

/// Says that it was started, waits until it may come up, and says that it is up.
const SLOW_ASSISTANT: &str = r#"#!/bin/sh
echo "$RECONCILE_CHAT_ID pid=$$ model=$2 resume=${4-none}" > "$ASSISTANT_LOG"
read -r go < "go.$RECONCILE_CHAT_ID"
echo up > "up.$RECONCILE_CHAT_ID"
exec sleep 2147483647
"#;

/// Returns when the session is up, not only when its process is there.
const PATIENT_RESTART: &str = r#"#!/bin/sh
supervisorctl -c supervisord.conf restart "$1" && read -r up < "up.$1"
"#;

const SESSIONS: usize = 30;
const DRIFTED: usize = 25;
const PARALLEL: usize = 8;

#[test]
#[ignore = "needs supervisord"]
fn of_thirty_sessions_that_start_slowly_none_is_blocked_by_the_run_that_restarts_it() {
    needs(&["supervisord", "supervisorctl"]);
    let kit = Kit::new("supervisord");
    fs::write(kit.root.path().join("assistant"), SLOW_ASSISTANT).unwrap();
    let restart = kit.path("restart");
    fs::copy(kit.root.path().join("assistant"), &restart).unwrap();
    fs::write(&restart, PATIENT_RESTART).unwrap();
    let mut sessions = String::new();
    for number in 0..SESSIONS {
        let tier = if number < DRIFTED { "family" } else { "admin" };
        writeln!(
            sessions,
            "[program:c{number}]\nstartsecs = 0\ndirectory = %(here)s\ncommand = reconcile launch c{number} \
             --session-name c{number} --tier {tier} -- ../assistant --model {{model}} --resume {{resume_id}}"
        )
        .unwrap();
    }
    fs::write(kit.path("sessions.conf"), sessions).unwrap();
    let policy = "restart = [\"./restart\", \"{session_slug}\"]\nparallel = 8\ntimeout = \"10m\"\n";
    let mut kept = kit.read("policy.toml");
    kept.truncate(kept.find("restart  = ").unwrap());
    fs::write(kit.path("policy.toml"), kept + policy + "[limits]\nmax_changes = 30\n").unwrap();
    let fifos =
        |of: &str| -> Vec<File> { (0..SESSIONS).map(|number| fifo(&kit.path(&format!("{of}.c{number}")))).collect() };
    let (go, up) = (fifos("go"), fifos("up"));
    let number = |chat: &str| chat[1..].parse::<usize>().unwrap();
    let let_up = |chat: &str| (&go[number(chat)]).write_all(b"go\n").unwrap();

    let _supervisor = Supervisord::start(&kit);
    let before = kit.started(SESSIONS);
    assert!(before.values().all(|session| session.resume == "none"), "{before:?}");
    for chat in before.keys() {
        let_up(chat);
        (&up[number(chat)]).read_exact(&mut [0; 3]).unwrap();
    }
    kit.converse();

    kit.change_policy("family = \"sonnet\"", "family = \"haiku\"");
    let mut run = Running::start(&mut kit.command("reconcile", &[]));
    let mut after = BTreeMap::new();
    // The model is tried on one session first.
    for (batch, size) in [1, PARALLEL, PARALLEL, PARALLEL].into_iter().enumerate() {
        // All of them have been launched and wait, and the run waits for them.
        let started = kit.started(size);
        assert!(!run.is_over() && run.has_open("run.lock"));
        for (chat, session) in &started {
            assert_eq!((session.model.as_str(), &session.resume), ("haiku", &conversation(chat)));
        }
        // Nor is anybody else's.
        kit.run("reconcile", &["launch", &format!("new{batch}"), "--", "true"]).expect(0);
        for chat in started.keys() {
            let_up(chat);
        }
        after.extend(started);
    }
    let told = run.finish().expect(0);
    assert_eq!(told.summary(), "Applied: 25 changed, 25 restarted, 0 deferred, 0 failed.");
    assert_eq!(after.len(), DRIFTED);
    let expected = before.iter().map(|(chat, session)| after.get(chat).unwrap_or(session).pid.clone());
    let running = supervisorctl(&kit, &["pid", "all"]).stdout.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(running, expected.collect());
    assert!(after.iter().all(|(chat, session)| session.pid != before[chat].pid), "restarted: a new process");
    assert!(kit.run("reconcile", &[]).expect(0).summary().starts_with("No changes."));
    let ledger = ledger_in(&kit.path("sessions.json.reconcile"));
    assert_eq!(ledger["owed"], serde_json::json!({}));
}

/// An assistant that works on every model but opus, where it ends at once.
const WITHOUT_OPUS: &str = r#"#!/bin/sh
[ "$2" != opus ] || exit 1
echo "$RECONCILE_CHAT_ID pid=$$ model=$2 resume=${4-none}" >> "$ASSISTANT_LOG"
exec sleep 2147483647
"#;

/// A kit of supervisord whose programs have these lines as well, with this assistant; its sessions are up.
fn supervised(assistant: &str, lines: &str, rollout: &str) -> (Kit, Supervisord, BTreeMap<String, Started>) {
    let kit = Kit::new("supervisord");
    fs::write(kit.root.path().join("assistant"), assistant).unwrap();
    let sessions = kit.read("sessions.conf").replace("directory = %(here)s", &format!("directory = %(here)s\n{lines}"));
    fs::write(kit.path("sessions.conf"), sessions).unwrap();
    // None of its sessions is to be on opus from the start.
    let policy = kit.read("policy.toml").replace("admin  = \"opus\"", "admin  = \"haiku\"");
    fs::write(kit.path("policy.toml"), format!("{policy}\n[rollout]\n{rollout}\n")).unwrap();
    let supervisor = Supervisord::start(&kit);
    let before = kit.started(3);
    for slug in ["imessage-_16175550101", "imessage-_16175550103", "discord-428190331"] {
        until("supervisord says that it runs", || supervisorctl(&kit, &["status", slug]).stdout.contains("RUNNING"));
    }
    (kit, supervisor, before)
}

fn outcome(kit: &Kit, arguments: &[&str], code: i32) -> BTreeMap<String, (String, String)> {
    let run = kit.run("reconcile", &[arguments, &["--format", "json"]].concat()).expect(code);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = report["changes"].as_array().unwrap().iter();
    rows.map(|row| (text(&row["chat_id"]), (text(&row["outcome"]), text(&row["detail"])))).collect()
}

#[test]
#[ignore = "needs supervisord"]
fn under_supervisord_a_model_that_does_not_start_takes_down_no_session() {
    needs(&["supervisord", "supervisorctl"]);
    // With startsecs = 0 the restart succeeds, and only `running` and `identity` tell.
    for lines in ["startsecs = 1", "startsecs = 0"] {
        let (kit, _supervisor, _) = supervised(WITHOUT_OPUS, lines, "min_healthy = \"1s\"");
        kit.change_policy("family = \"sonnet\"", "family = \"opus\"");
        kit.change_policy("admin  = \"haiku\"", "admin  = \"opus\"");
        let rows = outcome(&kit, &[], 4);
        let (tried, waiting) = if rows[ADMIN].0 == "failed" { (ADMIN, FAMILY) } else { (FAMILY, ADMIN) };
        assert_eq!(rows[tried].0, "failed", "{lines}: {rows:?}");
        assert!(rows[tried].1.starts_with("reverted to "), "{lines}: {rows:?}");
        assert_eq!(rows[waiting].0, "deferred", "{lines}: {rows:?}");

        // Every chat is up, on its old model.
        let again = kit.started(1);
        assert_eq!(again[tried].model, if tried == ADMIN { "haiku" } else { "sonnet" });
        let registry: Value = serde_json::from_str(&kit.read("sessions.json")).unwrap();
        assert_eq!((&registry[ADMIN]["model"], &registry[FAMILY]["model"]), (&"haiku".into(), &"sonnet".into()));
        let status = supervisorctl(&kit, &["status"]).expect(0).stdout;
        assert_eq!(status.matches("RUNNING").count(), 3, "{lines}: {status}");

        // The next run leaves all others alone.
        let pid = |slug: &str| supervisorctl(&kit, &["pid", slug]).stdout;
        let slug = if waiting == ADMIN { "imessage-_16175550101" } else { "imessage-_16175550103" };
        let before = pid(slug);
        let rows = outcome(&kit, &["--retry", tried], 4);
        assert_eq!((rows[tried].0.as_str(), rows[waiting].0.as_str()), ("failed", "deferred"), "{lines}: {rows:?}");
        assert_eq!(pid(slug), before);
    }
}

#[test]
#[ignore = "needs supervisord"]
fn under_supervisord_a_session_that_needs_five_seconds_to_start_is_waited_for() {
    needs(&["supervisord", "supervisorctl"]);
    let (kit, _supervisor, before) = supervised(WITHOUT_OPUS, "startsecs = 1", "min_healthy = \"1s\"");
    let sessions = kit.read("sessions.conf").replace("startsecs = 1", "startsecs = 5");
    fs::write(kit.path("sessions.conf"), sessions).unwrap();
    supervisorctl(&kit, &["update"]).expect(0);
    let restarted = kit.started(3);
    assert!(restarted.iter().all(|(chat, session)| session.pid != before[chat].pid));
    for slug in ["imessage-_16175550101", "imessage-_16175550103", "discord-428190331"] {
        until("supervisord says that it runs", || supervisorctl(&kit, &["status", slug]).stdout.contains("RUNNING"));
    }
    kit.change_policy("family = \"sonnet\"", "family = \"haiku\"");
    assert_eq!(outcome(&kit, &[], 0)[FAMILY], ("done".to_owned(), String::new()));
    let after = kit.started(1);
    assert_eq!((after[FAMILY].model.as_str(), after[FAMILY].pid == restarted[FAMILY].pid), ("haiku", false));
}

#[test]
#[ignore = "needs supervisord"]
fn under_supervisord_a_session_in_backoff_is_not_up() {
    needs(&["supervisord", "supervisorctl"]);
    // It is tried again and again, so that it stays between STARTING and BACKOFF.
    let (kit, _supervisor, _) =
        supervised(WITHOUT_OPUS, "startsecs = 1\nstartretries = 1000", "min_healthy = \"1s\"\nauto_revert = false");
    kit.change_policy("family = \"sonnet\"", "family = \"opus\"");
    let rows = outcome(&kit, &[], 4);
    assert_eq!(rows[FAMILY].0, "failed", "{rows:?}");
    let ledger = ledger_in(&kit.path("sessions.json.reconcile"));
    assert_eq!(ledger["owed"][FAMILY]["began"], true);
}
