//! What a terminal shows: progress while restarts take longer than a second, and colours unless they are not wanted.
//! Python, which the checks need anyway, lends the terminal.

use std::process::Command;

use crate::support::{POLICY, Sandbox, finish, registry};

/// Runs the arguments with stdout or stderr on a terminal, and prints what that showed. When the text `until` has
/// appeared, it lets the restart in the fifo `end` go on.
const TERMINAL: &str = r#"
import os, pty, subprocess, sys
stream, until, command = sys.argv[1], sys.argv[2].encode(), sys.argv[3:]
ours, theirs = pty.openpty()
streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: theirs}
process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **streams)
os.close(theirs)
shown, waiting = b"", bool(until)
while True:
    try:
        part = os.read(ours, 4096)
    except OSError:
        part = b""
    shown += part
    if waiting and until in shown:
        waiting = False
        with open("end", "w") as end:
            end.write("now\n")
    if not part:
        break
sys.stdout.write(shown.decode())
sys.exit(process.wait())
"#;

fn on_terminal(sandbox: &Sandbox, stream: &str, until: &str, arguments: &[&str], no_color: bool) -> String {
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL, stream, until, env!("CARGO_BIN_EXE_reconcile")]).args(arguments);
    python.current_dir(sandbox.path("")).env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    if no_color {
        python.env("NO_COLOR", "1");
    }
    finish(&mut python).expect(0).stdout
}

fn sandbox() -> Sandbox {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n");
    let sandbox = Sandbox::new(&policy, &registry(&[("+1", "family", "opus")]));
    sandbox.script("restart", "read -r answer < end");
    assert!(Command::new("mkfifo").arg(sandbox.path("end")).status().unwrap().success());
    sandbox
}

#[test]
fn progress_is_shown_once_restarts_take_longer_than_a_second() {
    let shown = on_terminal(&sandbox(), "stderr", "restarting 0/1: imessage/_1", &[], false);
    assert!(shown.contains("\r\x1b[Knote: "), "the line is cleared at the end: {shown:?}");
}

#[test]
fn colours_are_for_terminals_and_those_who_want_them() {
    let sandbox = sandbox();
    let shown = on_terminal(&sandbox, "stdout", "", &["--dry-run"], false);
    assert!(shown.contains("\x1b[33m~\x1b[0m"), "{shown:?}");
    for plain in [on_terminal(&sandbox, "stdout", "", &["--dry-run"], true), sandbox.run(&["--dry-run"]).stdout] {
        assert!(!plain.contains('\x1b'), "{plain:?}");
        assert!(plain.contains("  ~ imessage/_1"), "{plain:?}");
    }
}
