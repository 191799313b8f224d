//! Policies and registries that cannot be used: told clearly, and nothing is touched.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use reconcile::policy::{self, Source};

use crate::support::{POLICY, Run, Sandbox, finish, registry};

/// A policy whose restarts are noted in `calls`.
pub fn policy() -> String {
    format!("{POLICY}\n[sessions]\nrestart = [\"./restart\", \"{{session_slug}}\"]\n")
}

/// A sandbox with one session to be changed and restarted.
pub fn drifted() -> Sandbox {
    let sandbox = Sandbox::new(&policy(), &registry(&[("+1", "admin", "haiku"), ("+2", "family", "sonnet")]));
    sandbox.script("restart", "echo \"$1\" >> calls");
    sandbox
}

/// The binary, ended by force where it waits for something that never comes.
pub fn unless_it_hangs(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_reconcile")]).args(arguments).current_dir(sandbox.path(""));
    command.stdin(Stdio::null()).env_remove("RECONCILE_POLICY").env_remove("RECONCILE_REGISTRY");
    finish(&mut command)
}

/// A dry run and an apply: both end with exit code 1 and a message that holds all of `told`; the registry stays as it
/// is, and nothing is restarted.
#[track_caller]
pub fn refused(sandbox: &Sandbox, told: &[&str]) {
    for arguments in [&["--dry-run"][..], &[]] {
        refused_by(sandbox, told, |arguments| unless_it_hangs(sandbox, arguments), arguments);
    }
}

#[track_caller]
pub fn refused_by(sandbox: &Sandbox, told: &[&str], run: impl Fn(&[&str]) -> Run, arguments: &[&str]) {
    let content = || fs::read(sandbox.path("sessions.json")).ok();
    let inode = || fs::symlink_metadata(sandbox.path("sessions.json")).map(|file| file.ino()).ok();
    let regular = fs::metadata(sandbox.path("sessions.json")).is_ok_and(|file| file.is_file());
    let before = (regular.then(content), inode());
    let run = run(arguments).expect(1);
    assert_eq!(run.stdout, "", "{run:#?}");
    for part in told {
        assert!(run.stderr.contains(part), "{arguments:?} does not say {part:?}: {}", cut(&run.stderr));
    }
    assert!(run.stderr.len() < 20_000, "{} bytes of stderr are no clear message", run.stderr.len());
    assert!(run.stderr.contains("error"), "{}", cut(&run.stderr));
    assert!((regular.then(content), inode()) == before, "the registry was touched");
    assert_eq!(sandbox.calls(), [""; 0], "something was restarted");
}

fn cut(text: &str) -> String {
    text.chars().take(2000).collect()
}

#[test]
fn the_scene_itself_is_one_that_would_be_changed() {
    let sandbox = drifted();
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model("+1").as_deref(), Some("opus"));
    assert_eq!(sandbox.calls(), ["imessage-_1"]);
}

#[test]
fn a_registry_that_cannot_be_trusted_is_refused_with_the_place() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "the registry is empty"),
        (b" \n\t\r\n", "the registry is empty"),
        (b"null", "sessions.json:1:"),
        (b"[]", "sessions.json:1:1"),
        (b"[{\"model\": \"haiku\"}]", "sessions.json:1:1"),
        (b"\"{}\"", "not a JSON object"),
        (b"{", "the file ends too early"),
        (b"{\"a\": {\"model\": \"haiku\"}", "the file ends too early"),
        (b"{\"a\": {\"model\": \"haiku\"},}", "sessions.json:1:26"),
        (b"{\"a\": {\"model\": \"haiku\"}} x", "sessions.json:1:27"),
        (b"{\"a\": {\"model\": \"haiku\"}}{}", "sessions.json:1:26"),
        (b"{\"a\": {\"model\": \"haiku\"}}\0", "sessions.json:1:26"),
        (b"{\"a\": {\"model\": \"haiku\", \"x\": NaN}}", "sessions.json:1:31"),
        (b"{\"a\": {\"model\": \"haiku\", \"x\": -Infinity}}", "sessions.json:1:32"),
        (b"{\"a\": {\"model\": \"haiku\", \"x\": 01}}", "sessions.json:1:32"),
        (b"{\"a\": {\"model\": \"haiku\", \"x\": 'y'}}", "sessions.json:1:31"),
        (b"{\"a\": {\"model\": \"haiku\" /* why */}}", "sessions.json:1:"),
        (b"{\"a\": {\"model\": \"ha\niku\"}}", "sessions.json:"),
        (b"{\"a\": {\"model\": \"haiku\", \"x\": \"\\q\"}}", "sessions.json:1:"),
        (b"{a: {\"model\": \"haiku\"}}", "sessions.json:1:2"),
        (b"\xef\xbb\xbf{\"a\": {\"model\": \"haiku\"}}", "byte order mark"),
        (b"{\"a\": {\"model\": \"haiku\", \"x\": \"caf\xe9\"}}", "not UTF-8"),
        (b"{\"a\": {\"model\": \"haiku\"}}\xff", "not UTF-8"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
    ];
    for (bytes, told) in cases {
        let sandbox = drifted();
        sandbox.write("sessions.json", bytes);
        refused(&sandbox, &["sessions.json", told]);
        let advice = "the file ends too early";
        assert_eq!(sandbox.run(&["--dry-run"]).stderr.contains(advice), *told == advice, "{told}");
    }
}

#[test]
fn whatever_stands_twice_in_a_registry_is_refused_with_both_places() {
    for text in [
        "{\"+1\": {\"model\": \"haiku\"},\n\"+1\": {\"model\": \"opus\"}}",
        "{\"+1\": {\"model\": \"haiku\"},\n\"\\u002b1\": {\"model\": \"opus\"}}",
        "{\"+1\": {\"model\": \"haiku\",\n\"model\": \"opus\"}}",
        "{\"+1\": {\"model\": \"haiku\",\n\"mod\\u0065l\": null}}",
        "{\"+1\": {\"tier\": \"admin\",\n\"tier\": \"bots\"}}",
        "{\"+1\": {\"model\": null,\n\"model\": null}}",
    ] {
        let sandbox = drifted();
        sandbox.write("sessions.json", text);
        refused(&sandbox, &["is defined twice", "sessions.json:2:1", "sessions.json:1:", "first here"]);
    }
}

#[test]
fn ids_that_only_differ_in_lone_surrogates_are_not_told_apart_but_refused() {
    let sandbox = drifted();
    sandbox.write("sessions.json", r#"{"\ud83d": {"model": "haiku"}, "\ud83c": {"model": "haiku"}}"#);
    refused(&sandbox, &["sessions.json", "is defined twice"]);
}

#[test]
fn entries_and_fields_of_the_wrong_type_are_refused_all_at_once() {
    let sandbox = drifted();
    let text = "{\n\"a\": 1,\n\"b\": [],\n\"c\": \"opus\",\n\"d\": null,\n\"e\": {\"model\": 5},\n\"f\": {\"model\": {}},\n\
                \"g\": {\"tier\": [\"admin\"]},\n\"h\": {\"tier\": false, \"model\": true}\n}";
    sandbox.write("sessions.json", text);
    let places = ["2:6", "3:6", "4:6", "5:6", "6:16", "7:16", "8:15", "9:15", "9:31"];
    let places = places.map(|place| format!("sessions.json:{place}"));
    let told: Vec<&str> = places.iter().map(String::as_str).chain(["is not an object", "is not a string"]).collect();
    refused(&sandbox, &told);
}

#[test]
fn a_mistake_in_a_chat_that_was_not_asked_for_counts_too() {
    let sandbox = drifted();
    sandbox.write("sessions.json", r#"{"+1": {"model": "haiku"}, "+2": {"model": 5}}"#);
    let run = |arguments: &[&str]| sandbox.run(arguments);
    refused_by(&sandbox, &["sessions.json:1:"], run, &["--chat", "+1"]);
}

#[test]
fn very_many_mistakes_are_no_flood() {
    let sandbox = drifted();
    let entries: Vec<String> = (0..10_000).map(|n| format!("\"{n}\": 1")).collect();
    sandbox.write("sessions.json", format!("{{{}}}", entries.join(",\n")));
    refused(&sandbox, &["sessions.json"]);
}

#[test]
fn a_registry_that_was_cut_off_anywhere_is_refused() {
    let sandbox = drifted();
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sessions.json")).unwrap();
    for length in (0..whole.trim_ascii_end().len()).step_by(97) {
        sandbox.write("sessions.json", &whole[..length]);
        refused(&sandbox, &["sessions.json"]);
    }
}

#[test]
fn a_policy_that_was_cut_off_anywhere_is_an_error_or_a_shorter_policy() {
    let sandbox = drifted();
    let whole = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("policy.toml")).unwrap();
    let mut errors = 0;
    for (length, _) in whole.char_indices() {
        let read = policy::read(&[Source::new("policy.toml", whole[..length].to_owned())]);
        errors += usize::from(read.is_err());
        if length % 97 != 0 {
            continue;
        }
        sandbox.write("policy.toml", &whole[..length]);
        let run = sandbox.run(&["--dry-run", "--registry", "sessions.json"]);
        assert_eq!(run.code == 1, read.is_err(), "cut at {length}: {run:#?}");
        assert!(run.code == 0 || run.stderr.contains("policy.toml:"), "cut at {length}: {run:#?}");
    }
    assert!(errors > whole.len() / 4, "only {errors} of {} beginnings are errors", whole.len());
}

#[test]
fn a_policy_that_cannot_be_read_is_refused_with_its_name() {
    let valid = policy();
    for (bytes, told) in [
        (&b"\xff"[..], "policy.toml:1:1"),
        (b"[models]\nallowed = [\"caf\xe9\"]", "policy.toml:2:16"),
        (b"", "`models.allowed` is missing"),
        (b" \n \n", "`models.fallback` is missing"),
        (b"\0", "policy.toml:1:1"),
        ([valid.as_bytes(), b"\0"].concat().as_slice(), "policy.toml:"),
    ] {
        let sandbox = drifted();
        sandbox.write("policy.toml", bytes);
        refused(&sandbox, &["policy.toml", told]);
    }
}

#[test]
fn a_file_that_is_not_there_is_never_taken_for_an_empty_one() {
    let sandbox = drifted();
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    refused(&sandbox, &["there is no registry sessions.json", "--registry"]);
    assert!(!sandbox.path("sessions.json").exists());
    assert!(!sandbox.path("sessions.json.reconcile").exists());

    symlink("nowhere.json", sandbox.path("sessions.json")).unwrap();
    refused(&sandbox, &["sessions.json"]);
    assert!(!sandbox.path("nowhere.json").exists());

    // Part of a policy, on a volume that is not mounted, say.
    let sandbox = drifted();
    fs::create_dir(sandbox.path("policy.d")).unwrap();
    fs::rename(sandbox.path("policy.toml"), sandbox.path("policy.d/policy.toml")).unwrap();
    symlink("away/chats.toml", sandbox.path("policy.d/chats.toml")).unwrap();
    let place = ["--policy", "policy.d", "--registry", "sessions.json"];
    for more in [&["--dry-run"][..], &[]] {
        refused_by(&sandbox, &["away"], |arguments| sandbox.run(arguments), &[&place[..], more].concat());
    }

    let sandbox = drifted();
    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    refused(&sandbox, &["there is no policy policy.toml", "--policy"]);
}

#[test]
fn only_regular_files_are_read_and_nothing_is_waited_for() {
    for name in ["sessions.json", "policy.toml"] {
        let sandbox = drifted();
        fs::remove_file(sandbox.path(name)).unwrap();
        assert!(Command::new("mkfifo").arg(sandbox.path(name)).status().unwrap().success());
        refused(&sandbox, &[name, "not a regular file"]);

        fs::remove_file(sandbox.path(name)).unwrap();
        symlink("/dev/zero", sandbox.path(name)).unwrap();
        refused(&sandbox, &["not a regular file"]);

        fs::remove_file(sandbox.path(name)).unwrap();
        fs::create_dir(sandbox.path(name)).unwrap();
        refused(&sandbox, &[name, if name == "policy.toml" { "no *.toml" } else { "a directory" }]);

        fs::remove_dir(sandbox.path(name)).unwrap();
        symlink(name, sandbox.path(name)).unwrap();
        refused(&sandbox, &[name]);
    }
}

#[test]
fn enormous_files_are_refused_in_reasonable_time() {
    // Sparse: holes read as NUL bytes.
    let sandbox = drifted();
    File::create(sandbox.path("policy.toml")).unwrap().set_len(1 << 30).unwrap();
    refused(&sandbox, &["policy.toml", "larger than 16 MiB"]);

    let sandbox = drifted();
    File::create(sandbox.path("sessions.json")).unwrap().set_len(1 << 26).unwrap();
    refused(&sandbox, &["sessions.json:1:1"]);
}

#[test]
fn a_line_of_64_mib_is_read_or_refused_like_any_other() {
    let sandbox = drifted();
    let text = "x".repeat(64 << 20);
    sandbox.write("sessions.json", format!(r#"{{"+1": {{"tier": "admin", "x": "{text}", "model": }}}}"#));
    refused(&sandbox, &["the line is long: this is column 67108908 of it"]);

    let whole = |model: &str| {
        format!(r#"{{"+1": {{"tier": "admin", "session_name": "s", "x": "{text}", "model": "{model}"}}}}"#)
    };
    sandbox.write("sessions.json", whole("haiku"));
    sandbox.run(&[]).expect(0);
    assert!(sandbox.read("sessions.json") == whole("opus"), "bytes other than the model's have changed");
}

#[test]
fn a_registry_behind_a_link_keeps_link_mode_and_place() {
    let sandbox = drifted();
    fs::create_dir(sandbox.path("state")).unwrap();
    fs::rename(sandbox.path("sessions.json"), sandbox.path("state/real.json")).unwrap();
    fs::set_permissions(sandbox.path("state/real.json"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("state/real.json", sandbox.path("link.json")).unwrap();
    symlink("link.json", sandbox.path("sessions.json")).unwrap();

    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model("+1").as_deref(), Some("opus"));
    for link in ["sessions.json", "link.json"] {
        assert!(fs::symlink_metadata(sandbox.path(link)).unwrap().is_symlink(), "{link} is no link any more");
    }
    let real = fs::symlink_metadata(sandbox.path("state/real.json")).unwrap();
    assert!(real.is_file());
    assert_eq!(real.mode() & 0o7777, 0o640);
    assert!(sandbox.path("state/real.json.reconcile").is_dir(), "state belongs beside the real file");
    assert!(!sandbox.path("sessions.json.reconcile").exists());
}
