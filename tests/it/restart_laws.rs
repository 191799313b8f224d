//! Laws of restarts, over worlds whose sessions are files and whose commands are run for real: what a run says of a session is
//! what becomes of it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::support::{Sandbox, registry};

const WORLDS: usize = 40;
/// So many worlds at once: most of the time they wait.
const AT_ONCE: usize = 4;
const CHATS: [&str; 3] = ["ada", "ben", "cal"];

/// What a session does that is restarted on another model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Behaviour {
    /// It comes up.
    Works,
    /// It is up when it is asked for the third time.
    Late,
    /// It does not come up.
    Fails,
    /// It is up once, and then is not.
    Dies,
    /// It is up, and is another start each time that it is asked.
    Flaps,
    /// The command succeeds, and the old session goes on.
    Stays,
    /// The command fails, and the old session goes on.
    Refuses,
    /// Whether it is up cannot be told.
    Unclear,
}

use Behaviour::{Dies, Fails, Flaps, Late, Refuses, Stays, Unclear, Works};

const BEHAVIOURS: [Behaviour; 8] = [Works, Late, Fails, Dies, Flaps, Stays, Refuses, Unclear];
const COMMANDS: [&str; 3] = ["restart", "running", "identity"];

#[derive(Clone, Debug)]
struct Story {
    behaviours: Vec<Behaviour>,
    /// A command that is not there.
    missing: Option<&'static str>,
    parallel: usize,
    max_failures: usize,
    auto_revert: bool,
}

fn stories() -> impl Strategy<Value = Story> {
    let behaviours = proptest::collection::vec(select(&BEHAVIOURS[..]), CHATS.len());
    let missing = prop_oneof![4 => Just(None), 1 => select(&COMMANDS[..]).prop_map(Some)];
    (behaviours, missing, 1..3_usize, 1..4_usize, proptest::bool::ANY).prop_map(
        |(behaviours, missing, parallel, max_failures, auto_revert)| Story {
            behaviours,
            missing,
            parallel,
            max_failures,
            auto_revert,
        },
    )
}

impl Story {
    /// Sessions that run opus and are to run sonnet. A session that runs is a file `up-CHAT` with its model and the number of its
    /// start; on opus each of them works.
    fn sandbox(&self) -> Sandbox {
        let command = |command| {
            let program = if self.missing == Some(command) { "nosuch" } else { command };
            format!("{command} = [\"./{program}\"]\n")
        };
        let commands = COMMANDS.map(command).concat();
        let Self { parallel, max_failures, auto_revert, .. } = self;
        let policy = format!(
            "[models]\nallowed = [\"opus\", \"sonnet\"]\nfallback = \"sonnet\"\n[registry]\npath = \"sessions.json\"\n\
             [sessions]\n{commands}timeout = \"3s\"\nparallel = {parallel}\n\
             [rollout]\nmin_healthy = \"300ms\"\nmax_failures = {max_failures}\nauto_revert = {auto_revert}\n"
        );
        let entries: Vec<(&str, &str, &str)> = CHATS.iter().map(|chat| (*chat, "none", "opus")).collect();
        let sandbox = Sandbox::new(&policy, &registry(&entries));
        sandbox.has_seen(&["opus", "sonnet"]);
        for (chat, behaviour) in CHATS.iter().zip(&self.behaviours) {
            sandbox.write(&format!("up-{chat}"), "opus 0");
            sandbox.write(&format!("does-{chat}-sonnet"), format!("{behaviour:?}"));
            sandbox.write(&format!("does-{chat}-opus"), "Works");
        }
        let read = "chat=$RECONCILE_CHAT_ID; model=$RECONCILE_MODEL; up=up-$chat; begun=begun-$chat\n";
        let restart = "echo $chat >> starts; number=$(wc -l < starts)\n\
            does=$(cat does-$chat-$model)\n\
            case $does in Stays) exit 0;; Refuses) exit 7;; esac\n\
            rm -f $up; : > asked-$chat; echo $does > $begun\n\
            case $does in Fails) ;; Late) echo $model $number > late-$chat;; *) echo $model $number > $up;; esac";
        let running = "does=$(cat $begun 2>/dev/null); echo >> asked-$chat; asked=$(wc -l < asked-$chat)\n\
            case $does in\n\
            Late) [ $asked -lt 3 ] || [ -e $up ] || mv late-$chat $up;;\n\
            Dies) [ $asked -lt 2 ] || rm -f $up;;\n\
            Flaps) echo sonnet 100$asked > $up;;\n\
            Unclear) exit 4;;\n\
            esac\n\
            [ -e $up ] || exit 3";
        sandbox.script("restart", &format!("{read}{restart}"));
        sandbox.script("running", &format!("{read}{running}"));
        sandbox.script("identity", &format!("{read}cat $up"));
        sandbox
    }
}

/// What a session runs, and the number of its start; `None` where it does not run.
fn session(sandbox: &Sandbox, chat: &str) -> Option<(String, u64)> {
    let text = sandbox.read(&format!("up-{chat}"));
    let (model, number) = text.trim().split_once(' ')?;
    Some((model.to_owned(), number.parse().unwrap()))
}

fn rows(report: &Value) -> BTreeMap<String, Value> {
    let rows = report["changes"].as_array().unwrap().iter();
    rows.map(|row| (row["chat_id"].as_str().unwrap().to_owned(), row.clone())).collect()
}

/// Runs a story, and says which of the laws is broken, if one is.
fn broken(story: &Story) -> Option<String> {
    let sandbox = story.sandbox();
    let before = sandbox.read("sessions.json");
    if let Some(command) = story.missing {
        let run = sandbox.run(&[]);
        let is_told =
            run.code == 1 && run.stderr.contains(&format!("the {command} command (./nosuch) cannot be executed"));
        let is_untouched = sandbox.read("sessions.json") == before && sandbox.read("starts").is_empty();
        return (!is_told || !is_untouched)
            .then(|| format!("a command that is missing is told before the first effect: {run:?}"));
    }
    let report = rows(&sandbox.json(&[]));
    let next = rows(&sandbox.json(&["--dry-run"]));
    for (chat, behaviour) in CHATS.iter().zip(&story.behaviours) {
        let (row, session) = (&report[*chat], session(&sandbox, chat));
        let outcome = row["outcome"].as_str().unwrap();
        let says_so = ["failed", "unknown"].contains(&outcome);
        let comes_up = matches!(behaviour, Works | Late);
        let is_new = session.as_ref().is_some_and(|(model, number)| model == "sonnet" && *number > 0);
        if outcome == "done" && !(comes_up && is_new) {
            return Some(format!("{chat} {behaviour:?}: what is done is up as a new start: {row}, {session:?}"));
        }
        if session.is_none() && !says_so {
            return Some(format!("{chat} {behaviour:?}: what was up and is down has failed: {row}"));
        }
        let registered = sandbox.model(chat);
        let runs = session.map(|(model, _)| model);
        let is_settled = runs == registered && registered.as_deref() == Some("sonnet");
        if !is_settled && !next.contains_key(*chat) {
            return Some(format!("{chat} {behaviour:?}: nothing that failed is in sync: {row}"));
        }
        if says_so && !next.contains_key(*chat) {
            return Some(format!("{chat} {behaviour:?}: what has failed has a row in the next plan: {row}"));
        }
    }
    None
}

#[test]
fn what_a_run_says_of_a_session_is_what_became_of_it() {
    let mut runner = TestRunner::default();
    let stories: Vec<Story> = (0..WORLDS).map(|_| stories().new_tree(&mut runner).unwrap().current()).collect();
    let next = Mutex::new(stories.iter());
    let findings = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let take = || next.lock().unwrap().next();
                while let Some(story) = take() {
                    if let Some(why) = broken(story) {
                        findings.lock().unwrap().push(format!("{why}\n{story:?}"));
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().unwrap();
    assert!(findings.is_empty(), "{}", findings.join("\n\n"));
}
