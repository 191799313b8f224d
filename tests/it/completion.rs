//! What shells are offered for an argument that is being typed, and what they make of it. Python, which the checks need
//! anyway, lends the terminal.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{POLICY, Run, Sandbox, finish, needs, registry};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// A name that needs quotes in every shell, whichever quotes it is in.
const AWKWARD: &str = r#"Dee "Q" O'Hare: $HOME *!x\y"#;

fn chats() -> Value {
    json!({
        "+15550101": { "session_name": "imessage/_15550101", "contact_name": "Cal Ortiz", "tier": "family", "model": "opus" },
        "+15550102": { "session_name": "imessage/_15550102", "contact_name": AWKWARD, "tier": "bots", "model": "opus" },
        "signal:group 7": { "session_name": "signal/group-7", "contact_name": "Ünal", "tier": "guests" },
    })
}

fn sandbox() -> Sandbox {
    Sandbox::new(POLICY, &chats().to_string())
}

/// What the program says to a shell that asks about the last of some words. It has no quotes here, and a description stands
/// behind a tab.
fn asked(sandbox: &Sandbox, words: &[&str]) -> Run {
    let arguments = [&["--", "reconcile"], words].concat();
    finish(sandbox.command(&arguments).env("RECONCILE_COMPLETE", "fish"))
}

/// What is offered for the last of some words, without descriptions and options.
#[track_caller]
fn values(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let run = asked(sandbox, words).expect(0);
    assert_eq!(run.stderr, "");
    let values = run.stdout.lines().map(|line| line.split('\t').next().unwrap());
    values.filter(|value| !value.starts_with('-')).map(str::to_owned).collect()
}

#[test]
fn chats_are_offered_by_id_until_something_is_typed_and_then_by_every_name() {
    let sandbox = sandbox();
    let ids = "+15550101\tCal Ortiz\n+15550102\tDee \"Q\" O'Hare: $HOME *!x\\y\nsignal:group 7\tÜnal\n";
    for before in [
        &["plan", "--chat"][..],
        &["plan", "--exclude"],
        &["apply", "--retry"],
        &["apply", "--take-over"],
        &["--chat"],
        &["list", "--chat"],
        &["owed", "--forget"],
    ] {
        assert_eq!(asked(&sandbox, &[before, &[""]].concat()).expect(0).stdout, ids, "{before:?}");
    }
    for command in ["explain", "set-model", "unset-model", "history", "launch"] {
        let offered = asked(&sandbox, &[command, ""]).expect(0).stdout;
        assert!(offered.starts_with(ids), "{command}: {offered}");
    }
    assert_eq!(asked(&sandbox, &["explain", "Ca"]).stdout, "Cal Ortiz\t+15550101\n");
    assert_eq!(asked(&sandbox, &["explain", "imessage/_15550101"]).stdout, "imessage/_15550101\tCal Ortiz\n");
    assert_eq!(asked(&sandbox, &["list", "--chat=Ün"]).stdout, "--chat=Ünal\tsignal:group 7\n");
    // A launch would register a chat of that id.
    for command in ["launch", "record-session"] {
        assert_eq!(values(&sandbox, &[command, "Ca"]), [""; 0], "{command}");
        assert_eq!(values(&sandbox, &[command, "signal/"]), ["signal/group-7"], "{command}");
    }
    assert_eq!(values(&sandbox, &["launch", "+15550101", "--", "claude", "--chat", ""]), [""; 0]);
}

#[test]
fn models_and_tiers_are_offered() {
    let sandbox = sandbox();
    assert_eq!(values(&sandbox, &["set-model", "+15550101", ""]), ["haiku", "opus", "sonnet"]);
    assert_eq!(values(&sandbox, &["set-model", "+15550101", "so"]), ["sonnet"]);
    for before in [&["plan", "--tier"][..], &["list", "--tier"], &["launch", "+1", "--tier"]] {
        assert_eq!(
            values(&sandbox, &[before, &[""]].concat()),
            ["admin", "bots", "family", "guests"],
            "of the policy and the registry: {before:?}"
        );
    }
    let assigned = format!("{POLICY}\n[[assign]]\ntier = \"gym\"\nchat = [\"+9\"]\n");
    sandbox.write("policy.toml", assigned);
    assert_eq!(values(&sandbox, &["list", "--tier", "g"]), ["guests", "gym"]);
}

#[test]
fn runs_that_changed_something_are_offered_the_newest_first() {
    let sandbox = sandbox();
    assert_eq!(values(&sandbox, &["undo", ""]), ["last"]);
    sandbox.run(&[]).expect(0);
    sandbox.run(&["set-model", "+15550101", "haiku"]).expect(0);
    sandbox.run(&["owed"]).expect(0);
    let history = sandbox.run(&["history", "--format", "json"]).expect(0).stdout;
    let runs: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = runs.iter().map(|run| run["run"].as_str().unwrap()).collect();
    assert_eq!(values(&sandbox, &["undo", ""]), [&["last"], &names[..]].concat());
    assert_eq!(values(&sandbox, &["undo", &names[1][..names[1].len() - 1]]), [names[1]]);
    let newest = asked(&sandbox, &["undo", names[0]]).stdout;
    assert!(newest.ends_with(" set-model\n"), "{newest}");
}

#[test]
fn the_words_say_where_the_policy_and_the_registry_are() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("my dir")).unwrap();
    sandbox.write("my dir/policy.toml", POLICY.replace("opus", "large"));
    sandbox.write("my dir/sessions.json", registry(&[("+9", "strangers", "large")]));
    for words in [
        &["set-model", "--policy", "my dir/policy.toml", "+9", "l"][..],
        &["--policy=my dir/policy.toml", "set-model", "+9", "l"],
    ] {
        assert_eq!(values(&sandbox, words), ["large"], "{words:?}");
    }
    for words in [
        &["plan", "--policy", "my dir/policy.toml", "--chat", ""][..],
        &["plan", "--registry", "my dir/sessions.json", "--chat", ""],
        // Also where there is no policy.
        &["plan", "--policy", "none.toml", "--registry", "my dir/sessions.json", "--chat", ""],
    ] {
        assert_eq!(values(&sandbox, words), ["+9"], "{words:?}");
    }
    let mut command = sandbox.command(&["--", "reconcile", "plan", "--chat", ""]);
    command.env("RECONCILE_COMPLETE", "fish").env("RECONCILE_POLICY", "my dir/policy.toml");
    assert_eq!(finish(&mut command).stdout, "+9\n");
    // Zsh also hands over what stands behind the cursor, and all words in their quotes.
    let words = ["--", "reconcile", "plan", "--chat", "", "--policy", "\"my dir/policy.toml\""];
    let mut command = sandbox.command(&words);
    command.env("RECONCILE_COMPLETE", "zsh").env("_CLAP_COMPLETE_INDEX", "3");
    assert_eq!(finish(&mut command).stdout, "+9");
}

#[test]
fn chats_of_the_policy_are_offered_too_unless_the_registry_has_pseudonyms() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", format!("{POLICY}\n[chats]\n\"+15550199\" = \"opus\"\n\"+15550101\" = \"opus\"\n"));
    assert_eq!(values(&sandbox, &["unset-model", "+"]), ["+15550101", "+15550102", "+15550199"]);
    let redacted = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    sandbox.write("redacted.json", redacted);
    let offered = values(&sandbox, &["plan", "--registry", "redacted.json", "--chat", ""]);
    assert!(offered.len() == 3 && offered.iter().all(|id| id.starts_with("chat-")), "{offered:?}");
}

#[test]
fn no_chat_is_offered_where_names_are_hidden() {
    let sandbox = sandbox();
    for words in [
        &["--redact", "plan", "--chat", ""][..],
        &["plan", "--redact", "--chat", "+"],
        &["explain", "--unknown", "--redact", ""],
        &["plan", "--chat=", "--redact", "--exclude", "Ca"],
    ] {
        assert_eq!(values(&sandbox, words), [""; 0], "{words:?}");
    }
    assert_eq!(values(&sandbox, &["plan", "--redact", "--tier", "f"]), ["family"]);
}

#[test]
fn a_name_that_means_several_chats_or_harm_is_not_offered() {
    let sandbox = sandbox();
    let named = |name: &str| json!({ "session_name": "s", "contact_name": name, "tier": "family" });
    sandbox.write(
        "sessions.json",
        json!({
            "+1": named("Twin"), "+2": named("Twin"), "+3": named("+1"), "Same": named("x"), "+4": named("Same"),
            "--allow-changes=9": named("y"), "esc\u{1b}[2J": named("z"), "line\nend": named("w"), "": named("v"),
            "+5": named("bi\u{202e}di"), "+6": { "tier": "ta\tb" }, "+7": { "tier": "--x" },
        })
        .to_string(),
    );
    let offered = asked(&sandbox, &["explain", "--chat", ""]).stdout;
    assert!(!offered.contains('\u{1b}') && !offered.contains('\u{202e}'), "{offered:?}");
    assert_eq!(values(&sandbox, &["plan", "--chat", ""]), ["+1", "+2", "+3", "+4", "+5", "+6", "+7", "Same"]);
    for (typed, expected) in [("Tw", &[][..]), ("s", &[]), ("+1", &["+1"]), ("Sa", &["Same"]), ("-", &[]), ("bi", &[])]
    {
        assert_eq!(values(&sandbox, &["plan", "--chat", typed]), expected, "{typed}");
    }
    assert_eq!(asked(&sandbox, &["plan", "--chat", "Sa"]).stdout, "Same\tx\n", "an id is stronger than a name");
    assert_eq!(values(&sandbox, &["plan", "--tier", ""]), ["admin", "bots", "family"]);
}

#[test]
fn of_a_large_registry_only_some_are_offered() {
    let chats: Vec<String> = (0..20_000).map(|number| format!("+1{number:05}")).collect();
    let chats: Vec<_> = chats.iter().map(|chat| (chat.as_str(), "family", "opus")).collect();
    let sandbox = Sandbox::new(POLICY, &registry(&chats));
    let offered = values(&sandbox, &["plan", "--chat", ""]);
    assert_eq!((offered.len(), offered[0].as_str(), offered[199].as_str()), (200, "+100000", "+100199"));
    assert_eq!(values(&sandbox, &["plan", "--chat", "+11234"]).len(), 10);
}

#[test]
fn nothing_is_said_or_written_whatever_is_wrong() {
    let broken = "[models\n";
    for (policy, registry) in [("", ""), (broken, "{}"), (POLICY, "{\"+1\": {}, "), (POLICY, "[]")] {
        let sandbox = Sandbox::new(policy, registry);
        let before = files(&sandbox);
        for words in [&["plan", "--chat", ""][..], &["set-model", "", "x"], &["list", "--tier", ""], &["nonsense", ""]]
        {
            let run = asked(&sandbox, words).expect(0);
            assert_eq!(run.stderr, "", "{words:?}");
        }
        asked(&sandbox, &["undo", ""]).expect(0);
        assert_eq!(asked(&sandbox, &[]).expect(0).stderr, "");
        assert_eq!(finish(sandbox.command(&["--"]).env("RECONCILE_COMPLETE", "bash")).expect(0).stderr, "");
        assert_eq!(files(&sandbox), before);
    }
    // A pipe is not waited for.
    let sandbox = sandbox();
    sandbox.write("other.toml", POLICY);
    for name in ["policy.toml", "sessions.json"] {
        fs::remove_file(sandbox.path(name)).unwrap();
        assert!(Command::new("mkfifo").arg(sandbox.path(name)).status().unwrap().success());
    }
    assert_eq!(values(&sandbox, &["plan", "--chat", ""]), [""; 0]);
    assert_eq!(values(&sandbox, &["plan", "--policy", "other.toml", "--chat", ""]), [""; 0]);
    assert_eq!(values(&sandbox, &["plan", "--policy", "other.toml", "--tier", "f"]), ["family"]);
}

fn files(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_connected_to() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("ws://{}", server.local_addr().unwrap());
    let policy = POLICY.replace("[registry]\npath = \"sessions.json\"\n", "");
    let policy = format!(
        "{policy}\n[sessions]\nbackend = \"openclaw\"\nurl = \"{url}\"\ntoken = {{ env = \"TOKEN\" }}\n[chats]\n\"agent:main:x\" = \"opus\"\n"
    );
    let sandbox = Sandbox::new(&policy, "{}");
    sandbox.run(&["check"]).expect(0);
    for words in [&["plan", "--chat"][..], &["plan", "--connect", &url, "--chat"], &["explain"]] {
        let words = [words, &["a"]].concat();
        let arguments = [&["--", "reconcile"], &words[..]].concat();
        let run = finish(sandbox.command(&arguments).env("RECONCILE_COMPLETE", "fish").env("TOKEN", "t"));
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("agent:main:x\n", ""), "{words:?}");
    }
    assert_eq!(values(&sandbox, &["undo", ""]), ["last"]);
    assert_eq!(values(&sandbox, &["plan", "--tier", ""]), ["admin", "bots", "family"]);
    assert_eq!(server.accept().map(drop).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_variable_that_was_left_in_the_environment_changes_no_run() {
    let sandbox = sandbox();
    for (value, arguments) in [("bash", &["--version"][..]), ("tcsh", &["--version"]), ("", &["--version"])] {
        let run = finish(sandbox.command(arguments).env("RECONCILE_COMPLETE", value)).expect(0);
        assert!(run.stdout.starts_with("reconcile "), "{run:?}");
    }
    finish(sandbox.command(&["--", "reconcile", ""]).env("RECONCILE_COMPLETE", "tcsh")).expect(64);
}

#[test]
fn what_a_shell_is_given_needs_nothing_and_is_the_same_each_time() {
    for shell in SHELLS {
        let empty = Sandbox::new("", "");
        let (once, again) = (empty.run(&["completions", shell]).expect(0), empty.run(&["completions", shell]));
        assert!(once.stdout.contains(&format!("RECONCILE_COMPLETE={shell}")) || shell == "zsh", "{once:#?}");
        assert_eq!((&once.stdout, once.stderr.as_str()), (&again.stdout, ""));
        let closed = Stdio::from(std::io::pipe().unwrap().1);
        let output = empty.command(&["completions", shell]).stdout(closed).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    }
    sandbox().run(&["completions", "tcsh"]).expect(64);
    sandbox().run(&["completions"]).expect(64);
}

/// What bash offers for a line up to the cursor, where it is going to replace only this of it.
fn offered_by_bash(sandbox: &Sandbox, line: &str, replaced: &str) -> Vec<String> {
    const COMPLETE: &str = r#"
source <(reconcile completions bash)
COMP_LINE=$1 COMP_POINT=${#1}
_reconcile reconcile "$2" before
printf '%s\n' "${COMPREPLY[@]}"
"#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", COMPLETE, "bash", line, replaced]);
    let run = finish(in_shell(sandbox, &mut bash)).expect(0);
    assert_eq!(run.stderr, "");
    run.stdout.lines().map(str::to_owned).collect()
}

/// With the program in the path, and the sandbox for a home.
fn in_shell<'c>(sandbox: &Sandbox, command: &'c mut Command) -> &'c mut Command {
    let program = Path::new(env!("CARGO_BIN_EXE_reconcile")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([program].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let home = sandbox.path("");
    for name in ["RECONCILE_POLICY", "RECONCILE_REGISTRY", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "BASH_ENV", "ENV"] {
        command.env_remove(name);
    }
    command.env("PATH", path).env("HOME", &home).env("ZDOTDIR", &home).env("LC_ALL", "C.UTF-8").current_dir(home)
}

#[test]
fn bash_completes_commands_options_and_values() {
    let sandbox = sandbox();
    for (line, replaced, expected) in [
        ("reconcile ow", "ow", &["owed"][..]),
        ("reconcile --dry", "--dry", &["--dry-run"]),
        ("reconcile owed --fo", "--fo", &["--forget", "--forget-all", "--format"]),
        ("reconcile adopt --reg", "--reg", &["--registry"]),
        ("reconcile completions z", "z", &["zsh"]),
        ("reconcile --format j", "j", &["json"]),
        ("reconcile --format=j", "j", &["json"]),
        ("reconcile check --format g", "g", &["github"]),
        ("reconcile check --policy po", "po", &["policy.toml"]),
        ("reconcile explain Ca", "Ca", &["Cal\\ Ortiz"]),
        ("reconcile explain Cal\\ O", "Cal\\ O", &["Cal\\ Ortiz"]),
        ("reconcile explain \"Cal O", "Cal O", &["Cal Ortiz"]),
        ("reconcile explain signal:g", "g", &["group\\ 7"]),
        ("reconcile explain signal:g", "signal:g", &["signal:group\\ 7"]),
        ("reconcile list --chat=signal:", "", &["group\\ 7"]),
    ] {
        assert_eq!(offered_by_bash(&sandbox, line, replaced), expected, "{line}");
    }
}

/// Runs a shell on a terminal. At its prompt this is typed.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
typed, command = sys.argv[1].encode(), sys.argv[2:]
pid, ours = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
shown, waiting, end = b"", True, time.monotonic() + 120
while True:
    if not select.select([ours], [], [], max(0, end - time.monotonic()))[0]:
        os.kill(pid, signal.SIGKILL)
        break
    try:
        part = os.read(ours, 4096)
    except OSError:
        part = b""
    if not part:
        break
    shown += part
    if waiting and b"ready>" in shown:
        waiting = False
        os.write(ours, typed)
sys.stdout.write(shown.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// What a shell begins with.
const BASH: &str = "PS1='ready> '\nsource <(reconcile completions bash)\n";
const ZSH: &str = "PS1='ready> '\nautoload -Uz compinit && compinit -u -D\nsource <(reconcile completions zsh)\n";
const ZSH_IN_FPATH: &str = "PS1='ready> '\nreconcile completions zsh > $HOME/functions/_reconcile\n\
                            fpath=($HOME/functions $fpath)\nautoload -Uz compinit && compinit -u -D\n";
const FISH: &str =
    "set fish_greeting\nfunction fish_prompt; echo -n 'ready> '; end\nreconcile completions fish | source\n";

/// What a shell shows on its terminal where this is typed.
fn typed_in(sandbox: &Sandbox, shell: &str, start: &str, typed: &str) -> Run {
    for directory in [".config/fish", "functions"] {
        fs::create_dir_all(sandbox.path(directory)).unwrap();
    }
    let file = match shell {
        "bash" => ".bashrc",
        "zsh" => ".zshrc",
        _ => ".config/fish/config.fish",
    };
    sandbox.write(file, start);
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL, typed, shell, "-i"]);
    finish(in_shell(sandbox, &mut python).env("TERM", "xterm"))
}

#[test]
#[ignore = "needs zsh and fish"]
fn what_every_shell_completes_is_what_it_then_gives_to_the_program() {
    needs(&SHELLS);
    for (shell, start) in [("bash", BASH), ("zsh", ZSH), ("zsh", ZSH_IN_FPATH), ("fish", FISH)] {
        for (typed, chat) in [
            ("+15550101", "+15550101"),
            ("Ca", "+15550101"),
            ("Cal\\ O", "+15550101"),
            ("'Cal O", "+15550101"),
            ("\"Cal O", "+15550101"),
            ("imessage/_15550102", "+15550102"),
            ("De", "+15550102"),
            ("Dee\\ \\\"Q", "+15550102"),
            ("'De", "+15550102"),
            ("\"De", "+15550102"),
            ("signal:", "signal:group 7"),
            ("signal:gr", "signal:group 7"),
            ("'signal:gr", "signal:group 7"),
            ("Ü", "signal:group 7"),
        ] {
            let sandbox = sandbox();
            let line = format!("reconcile explain --format json {typed}\t> out; exit\n");
            let run = typed_in(&sandbox, shell, start, &line);
            let explained: Value = serde_json::from_str(&sandbox.read("out")).unwrap_or_default();
            let (id, is_registered) = (&explained["chat"]["chat_id"], &explained["registry"]["registered"]);
            assert!(id == chat && is_registered == true, "{shell}: {typed}: {explained} {run:#?}");
        }
    }
}

#[test]
#[ignore = "needs zsh and fish"]
fn shells_show_whose_a_chat_is() {
    needs(&SHELLS);
    let sandbox = sandbox();
    let line = "reconcile explain +1555010\t\x15exit\n";
    for (shell, start) in [("zsh", ZSH), ("fish", FISH)] {
        let shown = typed_in(&sandbox, shell, start, line).stdout;
        assert!(shown.contains("Cal Ortiz") && shown.contains("O'Hare"), "{shell}: {shown}");
    }
    let shown = typed_in(&sandbox, "bash", BASH, "reconcile explain +1555010\t\t\x15exit\n").stdout;
    assert!(shown.contains("+15550102") && !shown.contains("Cal Ortiz"), "{shown}");
}
