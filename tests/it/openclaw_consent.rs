//! To which addresses a token is sent: to one on this host, or to one that the user names, and never to one that a policy
//! alone chooses. A token is in no message.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use crate::openclaw::{POLICY, Setting, TOKEN, sessions, world};
use crate::support::{Run, Sandbox, finish, needs_root};

/// A policy that comes with a pull request, and names a gateway of its own.
fn hostile(url: &str) -> Sandbox {
    Sandbox::new(&format!("{POLICY}\n{}", sessions(url)), "{}")
}

fn run(sandbox: &Sandbox, arguments: &[&str], connect: Option<&str>) -> Run {
    let mut command = sandbox.command(arguments);
    command.env("GATEWAY_TOKEN", TOKEN);
    if let Some(url) = connect {
        command.env("RECONCILE_GATEWAY_URL", url);
    }
    let run = finish(&mut command);
    assert!(!run.stdout.contains(TOKEN) && !run.stderr.contains(TOKEN), "a message holds the token: {run:#?}");
    run
}

/// Whether anything has connected.
fn was_asked(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_ok()
}

#[test]
fn a_policy_sends_nothing_to_another_host() {
    // Names are not looked up, and what is not loopback is not connected to: nothing is sent, so nothing need listen there.
    for url in
        ["ws://gateway.example:18789", "ws://192.0.2.1:18789", "wss://192.0.2.1:18789", "ws://127.0.0.1.example:1"]
    {
        let run = run(&hostile(url), &["--dry-run"], None).expect(1);
        assert!(run.stderr.contains("no policy chooses to which other host a token is sent"), "{run:#?}");
        assert!(run.stderr.contains("hint: "), "{run:#?}");
    }
}

#[test]
fn where_the_user_names_an_address_the_policy_has_no_say() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = format!("ws://{}", listener.local_addr().unwrap());
    let setting = Setting::new();
    let ours = setting.gateway.url();
    let sandbox = hostile(&theirs);
    let by_environment = run(&sandbox, &["--dry-run"], Some(&ours)).expect(0);
    assert!(by_environment.stdout.contains(ours.as_str()), "{by_environment:#?}");
    run(&sandbox, &["--dry-run", "--connect", &ours], None).expect(0);
    // The command line is nearer than the environment.
    run(&sandbox, &["--dry-run", "--connect", &ours], Some(&theirs)).expect(0);
    run(&sandbox, &["--connect", &ours], None).expect(0);
    assert!(!was_asked(&listener), "the policy's address was connected to");
}

#[test]
fn a_plan_on_a_file_connects_to_nothing_and_is_applied_to_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sandbox = hostile(&format!("ws://{}", listener.local_addr().unwrap()));
    let entry = r#"{"agent:main:main": {"tier": "family", "source": "telegram", "model": "default"}}"#;
    sandbox.write("snapshot.json", entry);
    let planned = run(&sandbox, &["--dry-run", "--registry", "snapshot.json"], None).expect(0);
    assert!(planned.stdout.contains("default → fake/big"), "{planned:#?}");
    for command in [&["list"][..], &["explain", "agent:main:main"], &["check"], &["diff", "--from", "policy.toml"]] {
        run(&sandbox, &[command, &["--registry", "snapshot.json"]].concat(), None).expect(0);
    }
    let applied = run(&sandbox, &["--registry", "snapshot.json"], None).expect(1);
    assert!(applied.stderr.contains("it can only be planned on"), "{applied:#?}");
    assert_eq!(sandbox.read("snapshot.json"), entry);
    assert!(!was_asked(&listener), "something was connected to");
}

#[test]
fn a_token_that_stands_in_the_policy_is_a_mistake_that_does_not_show_it() {
    let setting = Setting::new();
    let policy = setting.sandbox.read("policy.toml");
    let with_token = policy.replace("{ env = \"GATEWAY_TOKEN\" }", &format!("{TOKEN:?}"));
    assert_ne!(policy, with_token);
    setting.sandbox.write("policy.toml", with_token);
    for arguments in [&["check"][..], &["--dry-run"], &["check", "--format", "json"], &["doctor"]] {
        let run = setting.run(arguments).expect(1);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("token"), "{run:#?}");
    }
}

#[test]
fn a_token_in_the_environment_must_be_there() {
    let setting = Setting::new();
    for token in [None, Some(""), Some("two\nlines")] {
        let mut command = setting.sandbox.command(&["--dry-run"]);
        command.env_remove("GATEWAY_TOKEN").envs(token.map(|token| ("GATEWAY_TOKEN", token)));
        let run = finish(&mut command).expect(1);
        assert!(run.stderr.contains("GATEWAY_TOKEN") && run.stderr.contains("hint: "), "{run:#?}");
        assert!(run.stderr.contains("it is not set, or not one line of text"), "{run:#?}");
    }
    assert_eq!(setting.gateway.requests().len(), 0);
}

/// A setting whose token is in a file.
fn with_file(text: &str, mode: u32) -> Setting {
    let setting = Setting::of(world(), "");
    let policy = setting.sandbox.read("policy.toml").replace("env = \"GATEWAY_TOKEN\"", "file = \"token\"");
    setting.sandbox.write("policy.toml", policy);
    setting.sandbox.write("token", text);
    fs::set_permissions(setting.sandbox.path("token"), fs::Permissions::from_mode(mode)).unwrap();
    setting
}

#[test]
fn a_token_in_a_file_is_used_where_no_other_user_can_read_it() {
    for (text, mode) in [(format!("{TOKEN}\n"), 0o600), (TOKEN.to_owned(), 0o400)] {
        with_file(&text, mode).run(&["--dry-run"]).expect(0);
    }
    for (text, mode, why) in [
        (format!("{TOKEN}\n"), 0o640, "its mode is 0640"),
        (format!("{TOKEN}\n"), 0o604, "its mode is 0604"),
        (String::new(), 0o600, "it is empty"),
        (format!("{TOKEN}\n{TOKEN}\n"), 0o600, "more than one line"),
        (TOKEN.repeat(400), 0o600, "it is too long"),
    ] {
        let setting = with_file(&text, mode);
        let run = setting.run(&["--dry-run"]).expect(1);
        assert!(run.stderr.contains(why) && run.stderr.contains("hint: "), "{why}: {run:#?}");
        assert_eq!(setting.gateway.requests().len(), 0);
    }
}

#[test]
fn a_token_in_what_is_no_file_of_ours_is_not_used() {
    let setting = with_file(TOKEN, 0o600);
    let token = setting.sandbox.path("token");
    fs::remove_file(&token).unwrap();
    fs::create_dir(&token).unwrap();
    setting.run(&["--dry-run"]).expect(1);
    fs::remove_dir(&token).unwrap();
    let absent = setting.run(&["--dry-run"]).expect(1);
    assert!(absent.stderr.starts_with("error[no-secret-file]: there is no token file "), "{absent:#?}");
    assert!(absent.stderr.contains("\nhint: write the token into it, then run chmod 600 "), "{absent:#?}");
    symlink("/dev/zero", &token).unwrap();
    let device = setting.run(&["--dry-run"]).expect(1);
    assert!(device.stderr.contains("not a regular file"), "{device:#?}");
}

#[test]
#[ignore = "needs root"]
fn a_token_in_a_file_of_another_user_is_not_used() {
    needs_root();
    let setting = with_file(TOKEN, 0o600);
    chown(setting.sandbox.path("token"), Some(65_534), Some(65_534)).unwrap();
    let run = setting.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("it belongs to user 65534"), "{run:#?}");
}
