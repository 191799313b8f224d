//! The daemon's socket: who may be at the other end, and how long anything may take.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;

use reconcile::backend::dispatch::{Meaning, System, meaning};
use rustix::io::Errno;
use serde_json::json;

use crate::bad_state::{give_to_nobody, refused_to_nobody};
use crate::handle::Double;
use crate::support::{Sandbox, needs_root};

const REGISTRY: &str = r#"{"a": {"session_name": "imessage/a", "type": "individual", "contact_name": "Cal Ortiz",
  "tier": "family", "source": "imessage", "session_id": "1", "model": "opus"}}"#;

fn sandbox(socket: &str) -> Sandbox {
    let policy = format!(
        "[models]\nallowed = [\"opus\", \"haiku\"]\nfallback = \"haiku\"\n[registry]\npath = \"sessions.json\"\n\
         [sessions]\nbackend = \"dispatch\"\nsocket = {socket:?}\ntimeout = \"1s\"\n"
    );
    Sandbox::new(&policy, REGISTRY)
}

/// A run must fail, say this, and leave everything as it was.
#[track_caller]
fn refused(sandbox: &Sandbox, told: &str) {
    for arguments in [&["--dry-run"][..], &[]] {
        let run = sandbox.run(arguments).expect(1);
        assert!(run.stderr.contains(told), "{told}: {run:#?}");
        assert_eq!(sandbox.read("sessions.json"), REGISTRY);
    }
}

#[test]
fn what_is_no_socket_is_refused() {
    let sandbox = sandbox("daemon.sock");
    sandbox.write("daemon.sock", "");
    refused(&sandbox, "daemon.sock is not a socket");
}

#[test]
fn only_what_is_certain_is_called_down() {
    for (error, linux, bsd) in [
        (Errno::NOENT, Meaning::Down, Meaning::Down),
        (Errno::CONNREFUSED, Meaning::Down, Meaning::FullOrDown),
        (Errno::AGAIN, Meaning::Full, Meaning::Full),
        (Errno::ACCESS, Meaning::Failed, Meaning::Failed),
    ] {
        assert_eq!(meaning(error, System::Linux), linux, "{error}");
        assert_eq!(meaning(error, System::Bsd), bsd, "{error}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_socket_that_nobody_listens_at_is_a_daemon_that_is_down() {
    let sandbox = sandbox("daemon.sock");
    drop(UnixListener::bind(sandbox.path("daemon.sock")).unwrap());
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model("a").as_deref(), Some("haiku"));
}

#[test]
#[cfg(not(target_os = "linux"))]
fn a_socket_that_nobody_listens_at_may_be_a_daemon_whose_queue_is_full() {
    let sandbox = sandbox("daemon.sock");
    drop(UnixListener::bind(sandbox.path("daemon.sock")).unwrap());
    refused(&sandbox, "error[daemon-refuses]: ");
    fs::remove_file(sandbox.path("daemon.sock")).unwrap();
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model("a").as_deref(), Some("haiku"));
}

#[test]
#[ignore = "needs root"]
fn a_socket_of_somebody_else_is_refused() {
    needs_root();
    let sandbox = sandbox("daemon.sock");
    let _daemon = Double::start(&sandbox.path(""), &[]);
    chown(sandbox.path("daemon.sock"), Some(65534), None).unwrap();
    refused(&sandbox, "error[daemon-owner]: user 65534 owns the socket");

    // The socket is the registry's owner's, and the process that listens is another user's.
    fs::remove_dir_all(sandbox.path("sessions.json.reconcile")).unwrap();
    chown(sandbox.path("sessions.json"), Some(65534), None).unwrap();
    let run = sandbox.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("user 0 listens at the socket"), "{run:#?}");
}

#[test]
#[ignore = "needs root"]
fn a_daemon_that_may_not_be_asked_is_not_one_that_is_down() {
    needs_root();
    let sandbox = sandbox("closed/daemon.sock");
    fs::create_dir(sandbox.path("closed")).unwrap();
    let _listener = UnixListener::bind(sandbox.path("closed/daemon.sock")).unwrap();
    give_to_nobody(&sandbox);
    fs::set_permissions(sandbox.path("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    refused_to_nobody(&sandbox, &["permission denied", "daemon.sock"], &[]);
    fs::set_permissions(sandbox.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    // What may be found, and not be spoken to.
    fs::set_permissions(sandbox.path("closed/daemon.sock"), fs::Permissions::from_mode(0o000)).unwrap();
    refused_to_nobody(&sandbox, &["cannot connect to", "permission denied"], &[]);
}

#[test]
fn a_path_that_is_too_long_is_said_to_be() {
    let long: PathBuf = ["a-directory-with-a-long-name"; 5].iter().collect();
    let sandbox = sandbox(long.join("daemon.sock").to_str().unwrap());
    fs::create_dir_all(sandbox.path("").join(&long)).unwrap();
    std::os::unix::fs::symlink(&long, sandbox.path("short")).unwrap();
    let _listener = UnixListener::bind(sandbox.path("short/daemon.sock")).unwrap();
    refused(&sandbox, "error[long-socket-path]: ");
}

#[test]
fn a_daemon_that_hangs_costs_no_more_than_the_timeout() {
    let sandbox = sandbox("daemon.sock");
    let daemon = Double::start(&sandbox.path(""), &[]);
    daemon.tell("hang");
    let told = "error[daemon-no-answer]: the daemon at daemon.sock did not answer status: no reply: it took too long";
    refused(&sandbox, told);
}

#[test]
fn a_daemon_that_takes_no_connections_costs_no_more_than_the_timeout() {
    let sandbox = sandbox("daemon.sock");
    let daemon = Double::start(&sandbox.path(""), &[]);
    daemon.tell("backlog");
    refused(&sandbox, "error[daemon-hangs]: ");
}

#[test]
fn an_answer_that_is_none_is_an_error_and_not_an_empty_daemon() {
    for (trouble, told) in [
        ("reply-cut 9 status", "cut off"),
        ("close-without-reply status", "closed the connection without a reply"),
        ("fail-next status", "did not answer status"),
        ("reply-cut 9 get_global_model", "did not answer get_global_model"),
    ] {
        let sandbox = sandbox("daemon.sock");
        let daemon = Double::start(&sandbox.path(""), &["--live", "a"]);
        daemon.tell(trouble);
        let run = sandbox.run(&[]).expect(1);
        assert!(run.stderr.contains(told), "{trouble}: {run:#?}");
        assert_eq!(sandbox.model("a").as_deref(), Some("opus"));
        assert!(!daemon.requests().contains(&json!({"cmd": "set_model", "chat_id": "a", "model": "haiku"})));
    }
}

#[test]
fn an_answer_in_another_form_is_an_error() {
    let sandbox = sandbox("daemon.sock");
    let listener = UnixListener::bind(sandbox.path("daemon.sock")).unwrap();
    let daemon = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
            stream.write_all(b"{\"ok\": true, \"sessions\": 3}\n").unwrap();
        }
    });
    refused(&sandbox, "error[daemon-answer]: the daemon at daemon.sock answered status in an unexpected form");
    daemon.join().unwrap();
}

#[test]
fn what_python_writes_and_no_text_can_hold_does_not_matter() {
    let sandbox = sandbox("daemon.sock");
    let listener = UnixListener::bind(sandbox.path("daemon.sock")).unwrap();
    let session = r#"{"chat_id": "a", "contact_name": "cut off \ud83d", "is_alive": true, "is_healthy": true,
        "health_reason": "\udc00",
        "is_busy": false, "queue_size": 0, "session_id": "1", "created_at": "2026-03-01T00:00:00"}"#;
    let status = format!(r#"{{"ok": true, "sessions": [{}]}}"#, session.replace('\n', " "));
    let normal = r#"{"ok": true, "state": "normal", "override": null, "trigger": "\ud83d"}"#;
    let daemon = thread::spawn(move || {
        // Once for the tiers, and once for what the sessions are doing.
        for reply in [status.as_str(), normal, status.as_str(), normal] {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
            stream.write_all(format!("{reply}\n").as_bytes()).unwrap();
        }
    });
    let run = sandbox.run(&["--dry-run"]).expect(0);
    assert!(run.stdout.contains("restart (live)"), "{run:#?}");
    daemon.join().unwrap();
}
