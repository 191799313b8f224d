//! The double of the daemon `dispatch` is checked itself: against recordings of a real one, and against each of the
//! traps that the recordings do not show.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::{fs, thread};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::handle::{Double, exchange};
use crate::slow::until;

const REGISTRY: &str = include_str!("../dispatch/sessions.json");
const TRANSCRIPT: &str = include_str!("../dispatch/ipc-transcript.jsonl");
const AFTER: &str = include_str!("../dispatch/sessions-after.json");

const ADA: &str = "+16175550101";
const BEA: &str = "+16175550102";
const CAL: &str = "+16175550103";
const DEE: &str = "+16175550104";
const ELI: &str = "signal:+16175550105";
const FAY: &str = "discord:428190331";
const BOT: &str = "+16175550107";
const GROUP: &str = "b3d258b9a4de447ca412eb335c82a077";

/// A directory with the recorded registry in it.
fn recorded() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("sessions.json"), REGISTRY).unwrap();
    directory
}

/// Times of the day of the recording, which is the day of the double's clock too, are not compared.
fn without_times(text: &str) -> String {
    let mut parts = text.split("2026-11-22T");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "TIME" + &part[part.find('"').unwrap_or_default()..])
}

/// The recorded reply as it was written: parsed, it would lose the order of its keys.
fn recorded_reply(line: &str) -> &str {
    let (_, rest) = line.split_once(r#""reply": "#).unwrap();
    rest.split_once(r#", "model_in_file_after""#).unwrap().0
}

// The recording was made in real time. The file states in it come about with a clock that stands still, so with nothing
// but this: a save within a second of another one is left to the next, and the stop of a session saves at once. The
// four sessions were started a moment before the recording, so their saves are the first.
#[test]
fn does_what_was_recorded() {
    let directory = recorded();
    let live = [ADA, CAL, FAY, GROUP];
    let mut double = Double::start(directory.path(), &live.map(|chat| ["--young", chat]).concat());
    // The recorded daemon's client was a fake, in which all conversations have this id.
    let end_turn = |double: &Double, chat: &str| drop(double.tell(&format!("turn-ends {chat} test-session-123")));
    for chat in live {
        end_turn(&double, chat);
    }

    assert_eq!(TRANSCRIPT.lines().count(), 23);
    for line in TRANSCRIPT.lines() {
        let exchanged: Value = serde_json::from_str(line).unwrap();
        let request = &exchanged["request"];
        let sent = request.as_str().map_or_else(|| format!("{request}\n"), str::to_owned);
        let reply = exchange(&double.socket, &sent).unwrap();
        assert_eq!(without_times(&reply).trim_end(), without_times(recorded_reply(line)), "{request}");

        if let Some(chat) = request["chat_id"].as_str() {
            let expected = &exchanged["model_in_file_after"];
            if !expected.is_null() {
                assert_eq!(double.entry(chat)["model"].as_str().unwrap_or("<absent>"), expected, "{request}");
            }
            // These three had been restarted, and had an id again at the shutdown: a turn had ended by then.
            if [CAL, FAY, GROUP].contains(&chat) {
                end_turn(&double, chat);
            }
        }
    }

    double.shut_down();
    let after = fs::read_to_string(directory.path().join("sessions.json")).unwrap();
    assert_eq!(without_times(&after), without_times(AFTER));
}

#[test]
fn the_registry_is_written_as_it_was_read() {
    let directory = recorded();
    let double = Double::start(directory.path(), &[]);
    double.tell("flush");
    assert_eq!(fs::read_to_string(directory.path().join("sessions.json")).unwrap(), REGISTRY);
}

#[test]
fn memory_is_the_truth() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA]);
    let file = directory.path().join("sessions.json");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace(r#""opus""#, r#""haiku""#)).unwrap();
    assert_eq!(double.entry(ADA)["model"], "haiku");

    double.ask(&json!({ "cmd": "restart_session", "chat_id": ADA }));
    assert_eq!(double.truth(ADA)["model"], "opus");
    assert_eq!(double.entry(ADA)["model"], "opus");
}

#[test]
fn a_registry_that_does_not_parse_is_wiped() {
    let directory = recorded();
    fs::write(directory.path().join("sessions.json"), "{").unwrap();
    let double = Double::start(directory.path(), &[]);
    double.set_model(ADA, "opus");
    assert_eq!(double.entry(ADA)["session_name"], ADA);
    assert_eq!(double.entry(BEA), Value::Null);
}

#[test]
fn a_save_waits_for_the_next_one() {
    let directory = recorded();
    let double = Double::start(directory.path(), &[]);
    double.tell(&format!("touch {ADA}"));
    double.tell(&format!("wake {BOT}"));
    assert!(double.entry(BOT).get("session_id").is_some(), "not yet saved");
    double.tell("advance 1.5");
    assert!(double.entry(BOT).get("session_id").is_some(), "time alone saves nothing");
    double.tell(&format!("touch {ADA}"));
    assert!(double.entry(BOT).get("session_id").is_none());

    double.tell("hold-saves");
    double.set_model(BOT, "haiku");
    assert_eq!(double.entry(BOT)["model"], "opus", "not even the stop saved");
    double.tell("flush");
    assert_eq!(double.entry(BOT)["model"], "haiku");
}

#[test]
fn the_breaker_comes_after_the_registry() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA]);
    for model in ["sonnet", "haiku", "sonnet"] {
        assert_eq!(double.set_model(ADA, model)["ok"], true);
    }
    let refused = double.set_model(ADA, "opus");
    assert_eq!((&refused["ok"], refused.get("error")), (&json!(false), None));
    assert_eq!(double.truth(ADA)["model"], "sonnet");
    double.tell("flush");
    assert_eq!(double.entry(ADA)["model"], "opus");

    double.tell("advance 1199");
    assert_eq!(double.set_model(ADA, "opus")["ok"], false);
    double.tell("advance 1");
    assert_eq!(double.set_model(ADA, "opus")["ok"], true);
    assert_eq!(double.truth(ADA)["model"], "opus");

    double.tell(&format!("trip-breaker {CAL}"));
    assert_eq!(double.ask(&json!({ "cmd": "restart_session", "chat_id": CAL }))["ok"], false);
}

#[test]
fn a_group_ignores_its_model_and_loses_it() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", GROUP]);
    assert_eq!(double.set_model(GROUP, "haiku")["ok"], true);
    assert_eq!(double.truth(GROUP)["model"], "opus");
    double.tell("flush");
    assert_eq!(double.entry(GROUP).get("model"), None);
}

#[test]
fn an_idle_chat_is_woken_and_can_lose_its_conversation() {
    let directory = recorded();
    let double = Double::start(directory.path(), &[]);
    assert_eq!(double.set_model(BOT, "haiku")["ok"], true);
    let truth = double.truth(BOT);
    assert_eq!((&truth["live"], &truth["conversation_lost"]), (&json!(true), &json!(false)));
    assert_eq!(truth["resumed"], "0c7e6a52-3d0f-4a57-9f42-8b1f1d2c9a06");
    double.ask(&json!({ "cmd": "kill_session", "chat_id": BOT }));
    assert_eq!(double.entry(BOT).get("session_id"), None);
    assert_eq!(double.truth(BOT)["conversation_lost"], true);
}

#[test]
fn a_restart_keeps_the_conversation_only_of_a_session_that_knows_it() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA, "--young", CAL]);
    let before = double.status(ADA);
    let id = before["session_id"].as_str().unwrap();
    assert_eq!(double.status(CAL)["session_id"], Value::Null);
    for chat in [ADA, CAL] {
        double.set_model(chat, "sonnet");
    }
    assert_eq!(double.truth(ADA)["resumed"], id);
    assert_eq!(double.truth(ADA)["conversation_lost"], false);
    assert_eq!(double.truth(CAL)["resumed"], Value::Null);
    assert_eq!(double.truth(CAL)["conversation_lost"], true);

    let young = double.status(ADA);
    assert_ne!(young["created_at"], before["created_at"]);
    assert_eq!(young["session_id"], Value::Null);
    double.tell(&format!("turn-ends {ADA}"));
    assert_eq!(double.status(ADA)["session_id"], id);
}

#[test]
fn a_restart_cuts_the_reply_of_a_busy_session() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA]);
    double.tell(&format!("busy {ADA} queue 2"));
    let row = double.status(ADA);
    assert_eq!((&row["is_busy"], &row["queue_size"]), (&json!(true), &json!(2)));
    double.set_model(ADA, "sonnet");
    assert_eq!(double.truth(ADA)["replies_cut"], 1);
    assert_eq!(double.status(ADA)["is_busy"], false);
}

#[test]
fn an_override_decides_and_stays_in_entries_without_a_model() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA]);
    double.tell("override haiku");
    assert_eq!(double.ask(&json!({ "cmd": "get_global_model" }))["override"]["model"], "haiku");
    double.set_model(ADA, "sonnet");
    double.tell(&format!("wake {BEA}"));
    double.tell("flush");
    let model = |chat| (double.truth(chat)["model"].clone(), double.entry(chat)["model"].clone());
    assert_eq!(model(ADA), (json!("haiku"), json!("sonnet")));
    assert_eq!(model(BEA), (json!("haiku"), json!("haiku")));
    double.tell("override --clear");
    assert_eq!(double.ask(&json!({ "cmd": "get_global_model" }))["state"], "normal");
}

#[test]
fn no_model_means_opus_and_on_discord_sonnet() {
    let directory = recorded();
    let file = directory.path().join("sessions.json");
    let mut registry: Value = serde_json::from_str(REGISTRY).unwrap();
    registry[FAY].as_object_mut().unwrap().remove("model");
    fs::write(&file, registry.to_string()).unwrap();
    let double = Double::start(directory.path(), &["--live", ELI, "--live", FAY]);
    double.tell("flush");
    for (chat, model) in [(ELI, "opus"), (FAY, "sonnet")] {
        assert_eq!(double.truth(chat)["model"], model);
        assert_eq!(double.entry(chat)["model"], model);
    }
}

#[test]
fn both_ends_of_its_life_lose_an_edit() {
    let directory = recorded();
    let mut double = Double::start(directory.path(), &["--pause-start-up"]);
    assert!(exchange(&double.socket, "{}\n").is_err(), "the socket is not there yet");
    let edit = || fs::write(directory.path().join("sessions.json"), REGISTRY.replace("haiku", "sonnet")).unwrap();
    edit();
    double.tell("open-socket");
    assert_eq!(double.ask(&json!({ "cmd": "status" }))["ok"], true);
    assert_eq!(fs::metadata(&double.socket).unwrap().permissions().mode() & 0o777, 0o600);
    double.tell("flush");
    assert_eq!(fs::read_to_string(directory.path().join("sessions.json")).unwrap(), REGISTRY);

    double.tell("shutdown");
    assert!(!double.socket.exists());
    edit();
    double.tell("finish-shutdown");
    assert!(double.process.wait().unwrap().success());
    assert_eq!(fs::read_to_string(directory.path().join("sessions.json")).unwrap(), REGISTRY);
}

#[test]
fn a_slow_start_answers_others_meanwhile() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA, "--live", CAL]);
    double.tell(&format!("slow-start {ADA}"));
    let mut stream = UnixStream::connect(&double.socket).unwrap();
    writeln!(stream, "{}", json!({ "cmd": "set_model", "chat_id": ADA, "model": "haiku" })).unwrap();
    until("the session is away", || double.status(ADA).is_null());
    assert_eq!(double.status(CAL)["is_alive"], true);
    double.tell(&format!("release {ADA}"));
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with(r#"{"ok": true"#), "{reply}");
    assert_eq!(double.truth(ADA)["model"], "haiku");
}

#[test]
fn a_start_can_end_badly() {
    let directory = recorded();
    let double = Double::start(directory.path(), &[]);
    for (how, ok, health) in [
        ("fails", false, [Value::Null, Value::Null]),
        ("vanishes", true, [Value::Null, Value::Null]),
        ("dies", true, [json!(false), json!(false)]),
    ] {
        double.tell(&format!("start {how} {BOT}"));
        assert_eq!(double.set_model(BOT, "opus")["ok"], ok, "{how}");
        let row = double.status(BOT);
        assert_eq!([row["is_alive"].clone(), row["is_healthy"].clone()], health, "{how}");
    }
    double.tell(&format!("start unhealthy {DEE}"));
    assert_eq!(double.set_model(DEE, "opus")["ok"], true);
    let row = double.status(DEE);
    assert_eq!((&row["is_alive"], &row["is_healthy"]), (&json!(true), &json!(false)));
}

#[test]
fn a_reply_can_be_lost_whether_it_was_done_or_not() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA]);
    let request = |model: &str| format!("{}\n", json!({ "cmd": "set_model", "chat_id": ADA, "model": model }));
    let send = |model| exchange(&double.socket, &request(model)).unwrap();

    double.tell("ignore-next set_model");
    assert_eq!(send("sonnet"), "");
    double.tell("fail-next set_model");
    assert!(send("sonnet").contains(r#""ok": false"#));
    assert_eq!(double.truth(ADA)["starts"], 1);

    double.tell("reply-cut 5 set_model");
    assert_eq!(send("sonnet"), r#"{"ok""#);
    double.tell("close-without-reply set_model");
    double.ask(&json!({ "cmd": "status" }));
    assert_eq!(send("haiku"), "");
    assert_eq!((&double.truth(ADA)["model"], &double.truth(ADA)["starts"]), (&json!("haiku"), &json!(3)));

    double.tell("reply-never set_model");
    double.tell("after 1 set_model override sonnet");
    let mut stream = UnixStream::connect(&double.socket).unwrap();
    stream.write_all(request("opus").as_bytes()).unwrap();
    until("the override is on", || double.ask(&json!({ "cmd": "get_global_model" }))["state"] == "degraded");
    assert_eq!(double.truth(ADA)["starts"], 4);
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let requests = double.requests();
    assert_eq!(requests.iter().filter(|request| request["cmd"] == "set_model").count(), 5);
}

#[test]
fn it_can_hang_stop_accepting_and_die() {
    let directory = recorded();
    let mut double = Double::start(directory.path(), &[]);
    double.tell("hang");
    let mut stream = UnixStream::connect(&double.socket).unwrap();
    writeln!(stream, "{}", json!({ "cmd": "status" })).unwrap();
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    double.tell("resume");
    assert_eq!(double.ask(&json!({ "cmd": "status" }))["ok"], true);

    double.tell("backlog");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| double.ask(&json!({ "cmd": "get_global_model" })));
        assert!(double.requests().iter().all(|request| request["cmd"] == "status"));
        double.tell("resume");
        assert_eq!(waiting.join().unwrap()["ok"], true);
    });
    assert_eq!(exchange(&double.control, "die\n").unwrap_or_default(), "");
    double.process.wait().unwrap();
    assert_eq!(UnixStream::connect(&double.socket).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_model_that_cannot_start_stops_a_session_and_keeps_its_conversation() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA, "--live", CAL]);
    let id = double.status(ADA)["session_id"].clone();
    double.tell("starts fails haiku");
    for _ in 0..2 {
        let reply = double.set_model(ADA, "haiku");
        assert_eq!(
            (&reply["ok"], reply["error"].is_string()),
            (&json!(false), true),
            "unlike a refusal of the breaker"
        );
        assert_eq!(double.status(ADA), Value::Null);
    }
    assert_eq!(double.set_model(ADA, "opus")["ok"], true);
    assert_eq!((&double.truth(ADA)["resumed"], &double.truth(ADA)["conversation_lost"]), (&id, &json!(false)));

    double.tell("starts well haiku");
    double.tell(&format!("starts dies haiku {ADA}"));
    assert_eq!(double.set_model(CAL, "haiku")["ok"], true);
    assert_eq!(double.status(CAL)["is_alive"], true);
    double.tell("advance 1200");
    assert_eq!(double.set_model(ADA, "haiku")["ok"], true);
    assert_eq!(double.status(ADA)["is_alive"], false);
}

#[test]
fn a_message_under_an_override_writes_its_model_over_the_entry() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", ADA]);
    double.tell("override haiku");
    double.tell(&format!("wake {CAL}"));
    double.set_model(ADA, "sonnet");
    double.tell("flush");
    let model = |chat| (double.truth(chat)["model"].clone(), double.entry(chat)["model"].clone());
    assert_eq!(model(CAL), (json!("haiku"), json!("haiku")), "the entry said opus");
    assert_eq!(model(ADA), (json!("haiku"), json!("sonnet")), "a restart keeps the entry's");
}

#[test]
fn a_stored_preference_counts_at_the_first_start_and_a_second_one_starts_a_session() {
    let directory = recorded();
    let double = Double::start(directory.path(), &[]);
    let (new, other) = ("+15550009999", "+15550008888");
    for chat in [new, other] {
        assert!(double.set_model(chat, "haiku")["message"].as_str().unwrap().contains("not yet active"));
        assert_eq!(double.status(chat), Value::Null);
    }
    double.tell(&format!("new {new} family"));
    assert_eq!((&double.truth(new)["model"], &double.status(new)["tier"]), (&json!("haiku"), &json!("family")));

    assert_eq!(double.set_model(other, "sonnet")["message"], format!("Set model to sonnet for {other}"));
    let row = double.status(other);
    assert_eq!(
        [&row["tier"], &row["source"], &row["contact_name"], &row["session_type"]],
        ["admin", "imessage", "Unknown", "individual"]
    );
}

#[test]
fn a_new_chat_starts_on_the_default_and_may_be_missing_from_the_file() {
    let directory = recorded();
    let double = Double::start(directory.path(), &[]);
    let new = "+15550009999";
    double.tell(&format!("new {new} family unlisted"));
    double.tell("flush");
    assert_eq!((&double.truth(new)["model"], double.entry(new)), (&json!("opus"), Value::Null));
    assert_eq!(double.status(new)["tier"], "family");
    double.tell("check-health");
    assert_eq!((&double.entry(new)["tier"], &double.entry(new)["model"]), (&json!("family"), &json!("opus")));
}

#[test]
fn what_it_learns_of_live_sessions_reaches_the_file_with_the_health_check() {
    let directory = recorded();
    let mut double = Double::start(directory.path(), &["--live", CAL]);
    double.tell(&format!("tier {CAL} partner"));
    double.set_model(CAL, "sonnet");
    double.tell(&format!("tier {CAL} partner"));
    double.tell(&format!("turn-begins {CAL} first"));
    assert_eq!((&double.status(CAL)["session_id"], &double.status(CAL)["is_busy"]), (&json!("first"), &json!(true)));
    double.tell(&format!("turn-ends {CAL}"));
    double.tell("flush");
    assert_eq!((&double.status(CAL)["tier"], &double.entry(CAL)["tier"]), (&json!("partner"), &json!("family")));
    assert_eq!(double.entry(CAL).get("session_id"), None, "a crash now loses the conversation");
    double.tell("check-health");
    assert_eq!((&double.entry(CAL)["tier"], &double.entry(CAL)["session_id"]), (&json!("partner"), &json!("first")));
    assert_eq!(exchange(&double.control, "die\n").unwrap_or_default(), "");
    double.process.wait().unwrap();
    assert_eq!(double.entry(CAL)["session_id"], "first");
}

#[test]
fn three_turns_that_failed_make_a_session_unhealthy() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", CAL]);
    for is_healthy in [true, true, false] {
        double.tell(&format!("turn-fails {CAL}"));
        let row = double.status(CAL);
        assert_eq!((&row["is_healthy"], &row["turn_count"]), (&json!(is_healthy), &json!(1)));
    }
    double.tell(&format!("turn-ends {CAL}"));
    assert_eq!(double.status(CAL)["is_healthy"], true);
}

#[test]
fn the_socket_is_there_before_the_sessions() {
    let directory = recorded();
    let double = Double::start(directory.path(), &["--live", CAL, "--pause-sessions"]);
    assert_eq!(double.status(CAL), Value::Null);
    // A run that meets it early starts the session, and so does the daemon.
    double.set_model(CAL, "sonnet");
    double.tell("recreate-sessions");
    assert_eq!(double.truth(CAL)["starts"], 2);
}
