//! What a terminal shows: progress while restarts take longer than a second, colours unless they are not wanted, and rows
//! that fit. Python, which the checks need anyway, lends the terminal.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use unicode_width::UnicodeWidthStr;

use crate::support::{POLICY, Run, Sandbox, finish, registry};

/// Runs the arguments with stdout or stderr on a terminal of so many columns, and prints what that showed. When the text
/// `until` has appeared, it lets the restart in the fifo `end` go on.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, subprocess, sys, termios
stream, columns, until, command = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), sys.argv[4:]
ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
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
sys.stdout.write(shown.decode().replace("\r\n", "\n"))
sys.exit(process.wait())
"#;

/// What is set in no environment but where a test says so.
const COLOURS: [&str; 4] = ["NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"];

/// A terminal, and what is awaited there.
#[derive(Clone, Copy)]
struct Terminal<'a> {
    stream: &'a str,
    columns: u32,
    until: &'a str,
}

const STDOUT: Terminal = Terminal { stream: "stdout", columns: 80, until: "" };

fn on_terminal(sandbox: &Sandbox, terminal: Terminal, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut python = Command::new("python3");
    let Terminal { stream, columns, until } = terminal;
    python.args(["-c", TERMINAL, stream, &columns.to_string(), until, env!("CARGO_BIN_EXE_reconcile")]).args(arguments);
    python.current_dir(sandbox.path("")).env("TERM", "xterm").env("TZ", "UTC");
    for name in COLOURS {
        python.env_remove(name);
    }
    finish(python.envs(environment.iter().copied()))
}

fn through_pipe(sandbox: &Sandbox, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = sandbox.command(arguments);
    for name in COLOURS {
        command.env_remove(name);
    }
    finish(command.env("TERM", "xterm").envs(environment.iter().copied()))
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
    let stderr = Terminal { stream: "stderr", columns: 80, until: "restarting 0/1: imessage/_1" };
    let shown = on_terminal(&sandbox(), stderr, &[], &[]).expect(0).stdout;
    assert!(shown.contains("\r\x1b[Knote: "), "the line is cleared at the end: {shown:?}");
}

#[test]
fn colours_are_for_terminals_and_those_who_want_them() {
    let sandbox = sandbox();
    let is_coloured = |run: Run| {
        let shown = run.expect(0).stdout;
        assert!(shown.contains("imessage/_1") && shown.contains("opus"), "{shown:?}");
        shown.contains('\x1b')
    };
    for (colour, environment, terminal, pipe) in [
        (&[][..], &[][..], true, false),
        (&["--color", "auto"], &[], true, false),
        (&["--color", "always"], &[], true, true),
        (&["--color=never"], &[], false, false),
        (&[], &[("NO_COLOR", "1")], false, false),
        (&[], &[("NO_COLOR", "")], true, false),
        (&[], &[("CLICOLOR", "0")], false, false),
        (&[], &[("TERM", "dumb")], false, false),
        (&[], &[("CLICOLOR_FORCE", "1")], true, true),
        (&[], &[("CLICOLOR_FORCE", "0")], true, false),
        (&[], &[("FORCE_COLOR", "1")], true, true),
        (&[], &[("FORCE_COLOR", "0")], true, false),
        (&[], &[("FORCE_COLOR", "")], true, false),
        // What says no to colours wins, but for the command line.
        (&[], &[("FORCE_COLOR", "1"), ("NO_COLOR", "1")], false, false),
        (&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
        (&["--color", "always"], &[("NO_COLOR", "1"), ("TERM", "dumb")], true, true),
        (&["--color", "never"], &[("FORCE_COLOR", "1"), ("CLICOLOR_FORCE", "1")], false, false),
    ] {
        let arguments = [&["--dry-run"], colour].concat();
        let found = [
            is_coloured(on_terminal(&sandbox, STDOUT, &arguments, environment)),
            is_coloured(through_pipe(&sandbox, &arguments, environment)),
        ];
        assert_eq!(found, [terminal, pipe], "{colour:?} {environment:?}");
    }
    through_pipe(&sandbox, &["--color", "sometimes"], &[]).expect(64);
}

#[test]
fn the_old_model_is_red_and_the_new_one_green() {
    let sandbox = sandbox();
    let shown = on_terminal(&sandbox, STDOUT, &["--dry-run"], &[]).expect(0).stdout;
    assert!(shown.contains("\x1b[33m~\x1b[0m"), "{shown:?}");
    assert!(shown.contains("\x1b[31mopus\x1b[0m → \x1b[32msonnet\x1b[0m"), "{shown:?}");
    let diff = through_pipe(&sandbox, &["--dry-run", "--format", "diff", "--color", "always"], &[]).expect(0).stdout;
    assert!(diff.contains("\x1b[31m-") && diff.contains("\x1b[32m+"), "{diff:?}");
    // A model that stays is neither.
    sandbox.write("sessions.json", registry(&[("+1", "family", "gpt")]));
    sandbox.write("policy.toml", format!("{POLICY}\n[chats]\n\"+1\" = {{ managed = false, reason = \"by hand\" }}\n"));
    let shown = on_terminal(&sandbox, STDOUT, &["--dry-run"], &[]).expect(0).stdout;
    assert!(!shown.contains("\x1b[3"), "{shown:?}");
}

#[test]
fn errors_help_and_other_commands_go_by_the_same_choice() {
    let sandbox = sandbox();
    let mistaken = format!("{POLICY}\n[sesions]\n");
    sandbox.write("policy.toml", mistaken);
    for arguments in [&["--dry-run"][..], &["check"], &["--help"], &["check", "--help"], &["--nonsense"]] {
        let run = |colour: &[&str], environment| {
            let run = through_pipe(&sandbox, &[arguments, colour].concat(), environment);
            format!("{}{}", run.stdout, run.stderr)
        };
        for coloured in
            [run(&["--color", "always"], &[]), run(&["--color=always"], &[]), run(&[], &[("FORCE_COLOR", "1")])]
        {
            assert!(coloured.contains('\x1b'), "{arguments:?}: {coloured:?}");
        }
        let never = ["--color", "never"];
        assert!(!run(&never, &[("CLICOLOR_FORCE", "1")]).contains('\x1b'), "{arguments:?}");
        let terminal =
            on_terminal(&sandbox, Terminal { stream: "stderr", ..STDOUT }, &[arguments, &never].concat(), &[]);
        assert!(!terminal.stdout.contains('\x1b'), "{arguments:?}: {terminal:#?}");
    }
}

#[test]
fn a_file_has_no_colours() {
    let sandbox = sandbox();
    let arguments = ["--dry-run", "--color", "always", "--output", "text=report.txt"];
    let shown = on_terminal(&sandbox, STDOUT, &arguments, &[]).expect(0).stdout;
    assert!(shown.contains('\x1b') && !sandbox.read("report.txt").contains('\x1b'), "{shown:?}");
    assert_eq!(sandbox.read("report.txt"), sandbox.run(&["--dry-run"]).stdout);
}

/// A plan with names, reasons and places of every length.
fn long() -> Sandbox {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let policy = read("policy.toml")
        .replace("the walking group votes", "because the walking group, which has many members, votes");
    let sandbox = Sandbox::new(&policy, "");
    fs::create_dir(sandbox.path("examples")).unwrap();
    sandbox.write("examples/sessions.json", read("examples/sessions.json"));
    sandbox
}

/// What a terminal of so many columns shows, without colours.
pub fn at(sandbox: &Sandbox, columns: u32, arguments: &[&str]) -> String {
    let arguments = [arguments, &["--color", "never"]].concat();
    on_terminal(sandbox, Terminal { columns, ..STDOUT }, &arguments, &[]).stdout
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

const AT_EIGHTY: &str = "\
policy.toml · 21 sessions in examples/sessions.json · partial: 2 selected ·
  plan 87d65578d242

  ~ imessage/_16175550102                       wife    (none) → opus   edit
      | Bea Marsh · policy.toml:10 tiers.wife
  ! imessage/c41f09d2e7b84f3f9d0f6f7f8f21aa03   group   not managed
      | Sunday ☕ walk · because the walking group, which has many members,
      | votes on its model itself

Plan: 1 to change, 0 to restart, 0 deferred, 0 in sync, 1 not managed.
";

#[test]
fn rows_fit_the_terminal() {
    let sandbox = long();
    let piped = sandbox.run(&["--dry-run"]).expect(0).stdout;
    assert!(!piped.contains('…') && piped.contains("imessage/c41f09d2e7b84f3f9d0f6f7f8f21aa03"), "{piped}");
    assert_eq!(at(&sandbox, 200, &["--dry-run"]), piped, "at 200 columns nothing is cut");
    let widest = u32::try_from(piped.lines().map(UnicodeWidthStr::width).max().unwrap()).unwrap();
    assert_eq!(at(&sandbox, widest, &["--dry-run"]), piped, "there is room to the last column");
    for columns in [80, 100, 120, widest - 1] {
        let shown = at(&sandbox, columns, &["--dry-run"]);
        let longest = shown.lines().map(UnicodeWidthStr::width).max().unwrap();
        assert!(longest <= columns as usize, "{longest} of {columns}: {shown}");
        // Nothing is broken within a word, and what is cut says so.
        let cut: Vec<&str> = words(&shown).difference(&words(&piped)).copied().collect();
        assert!(cut.iter().all(|word| word.ends_with('…') || *word == "|"), "{cut:?}");
        assert!(words(&shown).is_superset(&words("policy.toml:22 chats.\"+16175550104\" sonnet → opus")), "{shown}");
        assert_eq!(shown.lines().filter(|line| line.starts_with("  ~ ")).count(), 7);
        assert!(shown.ends_with(" not managed.\n") || shown.contains("Plan: 7 to change"), "{shown}");
    }
    let two = ["--dry-run", "--tier", "wife", "--chat", "c41f09d2e7b84f3f9d0f6f7f8f21aa03"];
    assert_eq!(at(&sandbox, 80, &two), AT_EIGHTY);
    // A terminal that is too narrow for any row is no reason to fail.
    for columns in [1, 10, 30, 50] {
        assert!(at(&sandbox, columns, &["--dry-run"]).contains("opus"), "{columns}");
    }
    // One that does not tell how wide it is gets all.
    assert_eq!(at(&sandbox, 0, &["--dry-run"]), piped);
}

#[test]
fn what_a_command_said_fits_the_terminal_too() {
    let sandbox = sandbox();
    sandbox.script(
        "restart",
        "echo 'it did not work because of something that takes many words to be explained, sadly' >&2; exit 1",
    );
    let shown = at(&sandbox, 80, &[]);
    let detail: Vec<&str> = shown.lines().filter(|line| line.starts_with("      | ")).collect();
    assert!(detail.len() > 1 && detail.iter().all(|line| line.width() <= 80), "{shown}");
    assert!(words(&detail.join(" ")).is_superset(&words("it did not work because of something explained, sadly")));
}
