//! What a daemon that is up lets a run do for a row: the table of the backend's rules, without a socket.

use jiff::Timestamp;
use reconcile::backend::dispatch::{Known, Live, Unsaved, assess};
use reconcile::chat::{Chat, Model};
use reconcile::plan::ledger::Debt;
use reconcile::plan::observed::{Standing, Void};
use reconcile::plan::{Effects, Outcome, Row, Verdict};
use reconcile::policy::{At, Because};
use reconcile::registry::Position;
use serde_json::{Value, json};

fn model(name: &str) -> Option<Model> {
    Model::new(name)
}

/// A chat that says opus and should say haiku, and whose session runs opus.
fn drifted() -> Row {
    Row {
        chat: Chat { id: "cal".into(), ..Chat::default() },
        before: model("opus"),
        after: model("haiku"),
        because: Because { rule: "tiers.bots".to_owned(), at: At::elsewhere("policy.toml") },
        edit: true,
        restart: true,
        stale: true,
        runs: model("opus"),
        did_not_come_up: false,
        owed: None,
        canary: false,
        imposed: false,
        changed_back: Vec::new(),
        standing: Standing::default(),
        remark: None,
        outcome: Outcome::plain(Verdict::Planned),
        effects: Effects::default(),
        at: Position(0),
    }
}

/// A chat that says what it should, and owes a restart of this run of its session.
fn owing(run: Option<&str>) -> Row {
    let debt = Debt {
        since: Timestamp::UNIX_EPOCH,
        ran: None,
        began: true,
        attempts: 0,
        next_try: None,
        run: run.map(str::to_owned),
        identity: None,
    };
    Row { before: model("haiku"), edit: false, runs: None, did_not_come_up: false, owed: Some(debt), ..drifted() }
}

/// A session that waits for messages, with changes.
fn session(changes: &[(&str, Value)]) -> Live {
    let mut session = json!({ "chat_id": "cal", "is_alive": true, "is_healthy": true, "is_busy": false,
                              "queue_size": 0, "session_id": "0c7e6a52", "created_at": "first" });
    for (key, value) in changes {
        session[*key] = value.clone();
    }
    // From text, as it comes over the socket.
    serde_json::from_str(&session.to_string()).unwrap()
}

fn deferred(why: &str) -> Standing {
    Standing::Deferred(why.to_owned())
}

const NOT_LIVE: &str = "not live: it wakes on its old model, and a run corrects it once it is live";
const YOUNG: &str = "starting: a restart before its first turn has ended would lose the conversation";
const UNCONFIRMED: &str = "not yet confirmed by the daemon";

#[test]
fn what_the_session_is_doing_decides_when_it_is_changed() {
    let hold = "the daemon's global override is on (haiku): a restart would change nothing";
    for (changes, hold, expected) in [
        (&[][..], None, Standing::Live),
        (&[("is_busy", json!(true))], None, Standing::Busy),
        (&[("queue_size", json!(2))], None, Standing::Busy),
        (&[("session_id", json!(null))], None, deferred(YOUNG)),
        // It is waited for, and looked at again when it has answered.
        (&[("session_id", json!(null)), ("is_busy", json!(true))], None, Standing::Busy),
        (&[("is_healthy", json!(false))], None, Standing::Live),
        (&[], Some(hold), deferred(hold)),
        (&[("is_busy", json!(true))], Some(hold), deferred(hold)),
    ] {
        let session = session(changes);
        for row in [drifted(), owing(Some("first"))] {
            let finding = assess(&row, Known { session: Some(&session), hold, ..Known::default() });
            assert_eq!((finding.standing, finding.void), (expected.clone(), None), "{changes:?}");
        }
    }
    assert_eq!(assess(&drifted(), Known::default()).standing, deferred(NOT_LIVE));
}

#[test]
fn a_debt_is_void_with_another_run_of_the_session_and_without_one_only_if_no_attempt_began() {
    let live = session(&[]);
    let unbegun = |run| {
        let row = owing(run);
        let owed = row.owed.clone().map(|debt| Debt { began: false, ..debt });
        Row { owed, ..row }
    };
    let known = Known { session: Some(&live), ..Known::default() };
    for (row, known, void) in [
        (owing(Some("first")), known, None),
        // A debt that names no run is about any.
        (owing(None), known, None),
        (owing(Some("earlier")), known, Some(Void::Because("its session was started again since"))),
        (unbegun(Some("first")), Known::default(), Some(Void::Because("its session is no longer live"))),
        // That it is not live may be what the attempt came to.
        (owing(Some("first")), Known::default(), None),
        (drifted(), Known::default(), None),
    ] {
        assert_eq!(assess(&row, known).void, void, "{:?}", row.owed);
    }
    assert_eq!(assess(&owing(Some("first")), Known::default()).standing, Standing::Ready, "it is started again");
    // Without the debt nothing is left to do for it.
    assert_eq!(assess(&owing(Some("earlier")), known).standing, Standing::Ready);
}

#[test]
fn a_change_that_the_daemon_has_not_saved_is_not_made_again() {
    let live = session(&[]);
    let unsaved = |model: &str, session: &str| Unsaved { model: self::model(model).unwrap(), session: session.into() };
    for (made, expected) in [
        (unsaved("haiku", "first"), Standing::InSync),
        // Of an earlier run of the session, and of another decision, it says nothing.
        (unsaved("haiku", "earlier"), Standing::Live),
        (unsaved("sonnet", "first"), Standing::Live),
    ] {
        let known = Known { session: Some(&live), unsaved: Some(&made), ..Known::default() };
        assert_eq!(assess(&drifted(), known).standing, expected, "{made:?}");
        // What is owed stays owed if a change was not saved.
        let owes = Row { owed: owing(Some("first")).owed, ..drifted() };
        assert_eq!(assess(&owes, known).standing, Standing::Live);
    }
}

#[test]
fn a_session_without_a_model_that_runs_the_decision_anyway_is_in_sync() {
    let live = session(&[]);
    let unset = Row { before: None, after: model("opus"), ..drifted() };
    let known = Known { session: Some(&live), ..Known::default() };
    assert_eq!(assess(&unset, known).standing, Standing::InSync);
    assert_eq!(assess(&Row { runs: model("sonnet"), ..unset.clone() }, known).standing, Standing::Live);
    // Where it was edited while the daemon was down, the daemon may still write something else.
    let unconfirmed = Known { is_unconfirmed: true, ..known };
    assert_eq!(assess(&unset, unconfirmed).standing, deferred(UNCONFIRMED));
}

#[test]
fn an_edit_that_the_daemon_may_not_have_seen_is_left_until_it_has_written_the_file() {
    let live = session(&[("is_busy", json!(true))]);
    let in_sync = Row { before: model("haiku"), edit: false, restart: false, ..drifted() };
    for session in [Some(&live), None] {
        let known = Known { session, is_unconfirmed: true, hold: Some("an override"), ..Known::default() };
        for row in [&in_sync, &drifted()] {
            assert_eq!(assess(row, known).standing, deferred(UNCONFIRMED));
        }
    }
    assert_eq!(assess(&in_sync, Known::default()).standing, Standing::Ready);
}

#[test]
fn a_session_that_did_not_come_up_and_has_answered_since_is_in_sync() {
    // Nothing is owed, and the session is remembered not to have come up: so it is to be restarted.
    let row = Row { before: model("haiku"), edit: false, runs: None, ..drifted() };
    let did_not_come_up = true;
    for (changes, expected) in [
        (&[("turn_count", json!(1))][..], Standing::InSync),
        (&[("turn_count", json!(0))], Standing::Live),
        (&[("turn_count", json!(1)), ("is_healthy", json!(false))], Standing::Live),
    ] {
        let session = session(changes);
        let known = Known { session: Some(&session), did_not_come_up, ..Known::default() };
        assert_eq!(assess(&row, known).standing, expected, "{changes:?}");
    }
    assert_eq!(assess(&row, Known { did_not_come_up, ..Known::default() }).standing, deferred(NOT_LIVE));
}
