//! A restart counts only when its session was seen to come up, as another start of it, and to stay up.

use serde_json::{Value, json};

use crate::commands::{CHAT, drifted};
use crate::support::{Sandbox, registry, row};

/// A session that runs opus, is moved to sonnet, and works on opus after all.
#[derive(Clone, Copy)]
struct Scene {
    /// What the restart command does when it starts sonnet.
    restart: &'static str,
    /// What `running` does once the session was restarted on sonnet; `$asked` counts how often it was asked since.
    running: &'static str,
    /// What `identity` does.
    identity: &'static str,
    min_healthy: &'static str,
}

/// All goes well.
const WELL: Scene = Scene {
    restart: "exit 0",
    running: "exit 0",
    identity: "if [ -e new ]; then echo 2; else echo 1; fi",
    min_healthy: "0s",
};

/// No test waits for so long: what it is about ends it.
const LONG: &str = "1h";

impl Scene {
    fn sandbox(self, more: &str) -> Sandbox {
        let Self { restart, running, identity, min_healthy } = self;
        let sandbox = drifted(&format!(
            "restart = [\"./restart\"]\nrunning = [\"./running\"]\nidentity = [\"./identity\"]\ntimeout = \"2s\"\n\
             [rollout]\nmin_healthy = {min_healthy:?}\n{more}"
        ));
        sandbox.script(
            "restart",
            &format!("echo $RECONCILE_MODEL >> calls; rm -f new asked; if [ $RECONCILE_MODEL = opus ]; then exit 0; fi; : > new\n{restart}"),
        );
        sandbox.script("running", &format!("[ -e new ] || exit 0; echo >> asked; asked=$(wc -l < asked)\n{running}"));
        sandbox.script("identity", identity);
        sandbox
    }
}

fn outcome(sandbox: &Sandbox, arguments: &[&str]) -> (String, Value) {
    let report = sandbox.json(arguments);
    let row = row(&report, CHAT);
    (row["outcome"].as_str().unwrap().to_owned(), row["detail"].clone())
}

#[test]
fn a_session_that_comes_up_and_stays_up_is_restarted_also_where_it_takes_its_time() {
    for scene in [
        WELL,
        Scene { min_healthy: "500ms", ..WELL },
        // It is not running at first, or is still the old one.
        Scene { running: "test $asked -gt 3 || exit 3", ..WELL },
        Scene { identity: "if [ -e asked ] && [ $(wc -l < asked) -gt 3 ]; then echo 2; else echo 1; fi", ..WELL },
        // It is running, and its supervisor has not started it yet.
        Scene { identity: "if [ -e new ]; then [ $(wc -l < asked) -gt 3 ]; fi; echo $?", ..WELL },
    ] {
        let sandbox = scene.sandbox("");
        assert_eq!(outcome(&sandbox, &[]), ("done".to_owned(), Value::Null), "{}, {}", scene.running, scene.identity);
        assert_eq!((sandbox.calls().len(), sandbox.ledger()["owed"].clone()), (1, json!({})));
    }
}

#[test]
fn a_session_that_was_up_and_does_not_come_up_or_stay_up_is_put_back() {
    let stopped = "the restart command (./restart) exited with code 7; the session is not running";
    for (scene, why) in [
        (Scene { running: "exit 3", ..WELL }, "the session did not come up within 2s"),
        (Scene { running: "exit 1", ..WELL }, "the session did not come up within 2s"),
        // It was running before, though the command that tells its start did not.
        (
            Scene { running: "exit 3", identity: "[ -e calls ] && echo 2", ..WELL },
            "the session did not come up within 2s",
        ),
        // Its supervisor counts it as running, and no start of it is.
        (Scene { identity: "[ ! -e new ] || exit 7; echo 1", ..WELL }, "the session did not come up within 2s"),
        (Scene { identity: "[ -e new ] || echo 1", ..WELL }, "the session did not come up within 2s"),
        (
            Scene { running: "test $asked -lt 3 || exit 3", min_healthy: "1s", ..WELL },
            "the session stopped within 1s of coming up",
        ),
        (Scene { restart: "exit 7", running: "exit 3", ..WELL }, stopped),
        (Scene { restart: "exit 7", identity: "[ ! -e new ] || exit 7; echo 1", ..WELL }, stopped),
        (
            Scene { restart: "exec sleep 600", running: "exit 3", ..WELL },
            "the restart command (./restart) took longer than 2s and was killed; the session is not running",
        ),
    ] {
        let sandbox = scene.sandbox("");
        let seen = outcome(&sandbox, &[]);
        assert_eq!(seen, ("failed".to_owned(), json!(format!("reverted to opus: {why}"))));
        assert_eq!(
            (sandbox.calls(), sandbox.model(CHAT).as_deref()),
            (vec!["sonnet".to_owned(), "opus".to_owned()], Some("opus"))
        );
    }
}

#[test]
fn a_session_must_stay_up_as_one_start_for_as_long_as_the_policy_says() {
    let stops = Scene { running: "test $asked -lt 3 || exit 3", min_healthy: LONG, ..WELL };
    let stopped = "the session stopped within 3600s of coming up";
    let starts = Scene { identity: "[ -e new ] || echo 1; cat asked | wc -l", ..stops };
    for (scene, why) in [
        (stops, stopped),
        (Scene { restart: "exit 7", ..stops }, stopped),
        (Scene { running: "exit 0", ..starts }, "the session was started again within 3600s of coming up"),
    ] {
        let sandbox = scene.sandbox("auto_revert = false");
        assert_eq!(outcome(&sandbox, &[]), ("failed".to_owned(), json!(why)));
        assert_eq!((sandbox.calls().len(), sandbox.ledger()["owed"][CHAT]["attempts"].clone()), (1, json!(1)));
    }
}

#[test]
fn a_session_that_is_up_after_a_failed_restart_is_left_as_it_is() {
    let same = Scene { identity: "echo 1", ..WELL };
    for (scene, why) in [
        (same, "the session was not restarted: ./restart succeeded and left it as it was"),
        (Scene { restart: "exit 7", ..WELL }, "the restart command (./restart) exited with code 7"),
        (Scene { restart: "exit 7", ..same }, "the restart command (./restart) exited with code 7"),
    ] {
        let sandbox = scene.sandbox("");
        assert_eq!(outcome(&sandbox, &[]), ("failed".to_owned(), json!(why)));
        let owed = &sandbox.ledger()["owed"][CHAT];
        assert_eq!(
            (sandbox.calls().len(), sandbox.model(CHAT).as_deref(), &owed["began"]),
            (1, Some("sonnet"), &json!(true))
        );
    }
}

#[test]
fn what_running_or_identity_cannot_tell_is_unknown_and_nothing_is_put_back() {
    let says = |what: &str| format!("the running command (./running) {what}");
    for (scene, why) in [
        (Scene { running: "exit 2", ..WELL }, says("exited with code 2")),
        (Scene { running: "echo no socket >&2; exit 4", ..WELL }, says("exited with code 4:\nno socket")),
        (Scene { running: "kill -9 $$", ..WELL }, says("was killed by signal 9")),
        (Scene { running: "test $asked -lt 3 || exit 2", min_healthy: LONG, ..WELL }, says("exited with code 2")),
        (Scene { identity: "exit 9", ..WELL }, "the identity command (./identity) exited with code 9".to_owned()),
        (Scene { identity: "echo", ..WELL }, "the identity command (./identity) printed nothing".to_owned()),
        (
            Scene { identity: "head -c 5000 /dev/zero", ..WELL },
            "the identity command (./identity) printed more than 4 KiB".to_owned(),
        ),
        (
            Scene { restart: "exit 7", running: "exit 2", ..WELL },
            format!("the restart command (./restart) exited with code 7; {}", says("exited with code 2")),
        ),
    ] {
        let sandbox = scene.sandbox("");
        assert_eq!(outcome(&sandbox, &[]), ("unknown".to_owned(), json!(why)));
        let owed = &sandbox.ledger()["owed"][CHAT];
        assert_eq!(
            (sandbox.calls().len(), sandbox.model(CHAT).as_deref(), &owed["began"]),
            (1, Some("sonnet"), &json!(true))
        );
    }
}

#[test]
fn a_session_that_stays_down_is_failed_and_owed_and_never_in_sync() {
    let sandbox = drifted(
        "restart = [\"./restart\", \"{session_slug}\"]\nrunning = [\"./running\", \"{session_slug}\"]\ntimeout = \"1s\"\n\
         [rollout]\nauto_revert = false",
    );
    sandbox.script("restart", ": > down-$1");
    sandbox.script("running", "test ! -e down-$1 || exit 3");
    let failed = ("failed".to_owned(), json!("the session did not come up within 1s"));
    assert_eq!(outcome(&sandbox, &[]), failed);
    for attempts in [1, 2, 3] {
        assert_eq!(sandbox.ledger()["owed"][CHAT]["attempts"], attempts);
        let report = sandbox.json(&[]);
        assert_eq!((&row(&report, CHAT)["outcome"], &report["summary"]["owed"]), (&json!("deferred"), &json!(1)));
        // It was down before, so that nothing is put back, and it is not taken for one that starts by itself.
        assert_eq!(outcome(&sandbox, &["--retry", CHAT]), failed);
    }
}

#[test]
fn a_session_that_was_down_before_is_not_put_back() {
    let sandbox = Scene { running: "exit 3", ..WELL }.sandbox("auto_revert = false");
    assert_eq!(outcome(&sandbox, &[]).0, "failed");
    let policy = sandbox.read("policy.toml").replace("auto_revert = false", "auto_revert = true");
    sandbox.write("policy.toml", policy);
    assert_eq!(outcome(&sandbox, &["--retry", CHAT]).1, "the session did not come up within 2s");
    assert_eq!((sandbox.calls(), sandbox.model(CHAT).as_deref()), (vec!["sonnet".to_owned(); 2], Some("sonnet")));
}

#[test]
fn that_restarts_are_not_verified_is_said_once_a_run() {
    let note =
        "note: restarts were not verified: the policy has no `running` command to ask whether the sessions came up\n";
    let sandbox = drifted("restart = [\"true\"]");
    assert!(!sandbox.run(&["--dry-run"]).expect(0).stderr.contains(note));
    assert_eq!(sandbox.run(&[]).expect(0).stderr.matches(note).count(), 1);
    assert_eq!(sandbox.run(&[]).expect(0).stderr, "", "nothing was restarted");
    assert_eq!(WELL.sandbox("").run(&[]).expect(0).stderr, "");
}

#[test]
fn a_model_that_never_comes_up_costs_one_restart_however_many_sessions_should_run_on_it() {
    let chats: Vec<String> = (10..30).map(|number| format!("+{number}")).collect();
    let entries: Vec<(&str, &str, &str)> = chats.iter().map(|chat| (chat.as_str(), "none", "opus")).collect();
    let policy = "[models]\nallowed = [\"opus\", \"opus-9\"]\nfallback = \"opus-9\"\n[registry]\npath = \"sessions.json\"\n\
                  [sessions]\nrestart = [\"./restart\"]\nrunning = [\"true\"]\n[rollout]\nmin_healthy = \"0s\"\n\
                  [limits]\nmax_changes = 20\n";
    let sandbox = Sandbox::new(policy, &registry(&entries));
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls; exit 1");
    for _ in 0..2 {
        let run = sandbox.run(&[]).expect(4);
        assert_eq!(sandbox.calls(), ["+10"], "{run:#?}");
        let moved = chats.iter().filter(|chat| sandbox.model(chat).as_deref() == Some("opus-9"));
        assert_eq!(moved.collect::<Vec<_>>(), ["+10"]);
    }
}
