//! A gateway over TLS, as one on another host is reached: which certificates count, and that nothing is said to another one;
//! and the identity of a device.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use data_encoding::BASE64URL_NOPAD;
use reconcile::backend::openclaw::Address;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::gateway::{Double, Trouble, certificate_file, fingerprint_of};
use crate::openclaw::{CAL, POLICY, TOKEN, sessions, world};
use crate::support::{Run, Sandbox, finish};

/// A gateway with a certificate, and a policy that names it.
struct Setting {
    sandbox: Sandbox,
    gateway: Double,
}

impl Setting {
    /// `more` is added to the policy's section about the gateway.
    fn new(certificate: &str, more: &str) -> Self {
        let gateway = Double::encrypted(world(), certificate);
        Self { sandbox: policy(&gateway.url(), more), gateway }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(&self.sandbox, arguments)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        finish(&mut self.command(arguments))
    }

    /// Runs a command that must fail without a word to the gateway.
    fn refused(&self, command: &mut Command) -> Run {
        let run = finish(command).expect(1);
        assert_eq!(self.gateway.requests(), [], "something was sent: {run:#?}");
        assert!(run.stderr.contains("hint: "), "{run:#?}");
        run
    }
}

fn policy(url: &str, more: &str) -> Sandbox {
    Sandbox::new(&format!("{POLICY}\n{}{more}\n", sessions(url)), "{}")
}

fn command(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command(arguments);
    command.env("GATEWAY_TOKEN", TOKEN).env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    command
}

fn pin(certificate: &str) -> String {
    format!("fingerprint = \"{}\"", fingerprint_of(certificate))
}

/// The same gateway at an address that counts as one of another host, though it leads to this one.
fn elsewhere(gateway: &Double) -> String {
    let url = gateway.url().replace("127.0.0.1", "0.0.0.0");
    assert!(!url.parse::<Address>().unwrap().is_loopback());
    url
}

#[test]
fn a_gateway_with_the_pinned_certificate_follows_the_policy() {
    // A pin counts alone: a certificate that is not trusted, has expired, or is for another host is the gateway's if it says so.
    for certificate in ["self-signed", "trusted", "expired", "other-host"] {
        let setting = Setting::new(certificate, &pin(certificate));
        let planned = setting.run(&["--dry-run"]).expect(0);
        assert!(planned.summary().starts_with("Plan: 2 to change"), "{planned:#?}");
        assert_eq!(setting.run(&[]).expect(0).summary(), "Applied: 2 changed, 0 restarted, 0 deferred, 0 failed.");
        assert_eq!(setting.gateway.world().pinned(CAL).as_deref(), Some("fake/big"));
        assert!(setting.run(&["--dry-run"]).expect(0).summary().starts_with("No changes."));
    }
}

#[test]
fn a_gateway_with_another_certificate_than_the_pinned_one_is_told_nothing() {
    let setting = Setting::new("self-signed", &pin("trusted"));
    for arguments in [&["--dry-run"][..], &[], &["list"], &["adopt"], &["check", "--connect", &setting.gateway.url()]] {
        // That an authority vouches for it does not help.
        let mut command = setting.command(arguments);
        let run = setting.refused(command.env("SSL_CERT_FILE", certificate_file("self-signed")));
        let (presented, pinned) = (fingerprint_of("self-signed"), fingerprint_of("trusted"));
        let complaint = format!("its fingerprint is {presented}, but {pinned} is pinned");
        let code = "error[gateway-certificate]: ";
        assert!(run.stderr.contains(code) && run.stderr.contains(&complaint), "{run:#?}");
    }
}

#[test]
fn without_a_pin_the_certificate_must_be_one_for_the_host_that_the_system_trusts() {
    let setting = Setting::new("trusted", "");
    finish(setting.command(&["--dry-run"]).env("SSL_CERT_FILE", certificate_file("authority"))).expect(0);
    for (certificate, roots, complaint) in [
        ("trusted", "self-signed", "no authority that this host trusts has issued it"),
        ("self-signed", "authority", "no authority that this host trusts has issued it"),
        ("expired", "authority", "it has expired"),
        ("other-host", "authority", "it is for another host"),
    ] {
        let setting = Setting::new(certificate, "");
        let run = setting.refused(setting.command(&["--dry-run"]).env("SSL_CERT_FILE", certificate_file(roots)));
        assert!(run.stderr.contains(complaint), "{certificate}: {run:#?}");
    }
}

#[test]
fn the_user_names_the_certificate_of_another_host_and_a_policy_does_not() {
    let setting = Setting::new("self-signed", &pin("self-signed"));
    let elsewhere = elsewhere(&setting.gateway);
    let arguments = ["--dry-run", "--connect", &elsewhere];
    let run = setting.refused(&mut setting.command(&arguments));
    assert!(
        run.stderr.contains("error[certificate-elsewhere]: ")
            && run.stderr.contains("a policy cannot choose which certificate to trust for it"),
        "{run:#?}"
    );
    let with = |fingerprint: &str| {
        let mut command = setting.command(&arguments);
        command.env("RECONCILE_GATEWAY_FINGERPRINT", fingerprint);
        command
    };
    let malformed = setting.refused(&mut with("sha256:1234"));
    assert!(malformed.stderr.contains("RECONCILE_GATEWAY_FINGERPRINT is not the SHA-256"), "{malformed:#?}");
    let wrong = setting.refused(&mut with(&fingerprint_of("trusted").to_string()));
    assert!(wrong.stderr.contains("is pinned"), "{wrong:#?}");
    // As openssl writes it.
    let digits = fingerprint_of("self-signed").to_string().replace("sha256:", "").to_uppercase();
    let pairs: Vec<&str> = (0..32).map(|at| &digits[2 * at..2 * at + 2]).collect();
    let run = finish(&mut with(&pairs.join(":"))).expect(0);
    assert!(run.stdout.contains(&elsewhere), "{run:#?}");
}

#[test]
fn a_policy_alone_does_not_choose_another_host() {
    let setting = Setting::new("self-signed", "");
    let sandbox = policy(&elsewhere(&setting.gateway), &pin("self-signed"));
    let run = setting.refused(&mut command(&sandbox, &["--dry-run"]));
    assert!(run.stderr.starts_with("error[gateway-elsewhere]: "), "{run:#?}");
}

#[test]
fn what_does_not_speak_tls_is_told_nothing() {
    let plain = Double::start(world());
    plain.always("upgrade", Trouble::Http(400));
    let sandbox = policy(&plain.url().replace("ws://", "wss://"), &pin("self-signed"));
    let run = finish(&mut command(&sandbox, &["--dry-run"])).expect(1);
    assert!(run.stderr.contains("it does not speak TLS"), "{run:#?}");
    assert_eq!(plain.requests(), []);
    let encrypted = Double::encrypted(world(), "self-signed");
    let sandbox = policy(&encrypted.url().replace("wss://", "ws://"), "");
    let run = finish(&mut command(&sandbox, &["--dry-run"])).expect(1);
    assert!(run.stderr.contains("is not an OpenClaw gateway"), "{run:#?}");
    assert_eq!(encrypted.requests(), []);
}

/// The timeout of these policies is one second, and their tests would not end without it.
#[test]
fn a_handshake_that_stalls_ends_with_the_timeout() {
    // It says nothing; the beginning of a record; a record, whose message goes on in one that never comes.
    for beginning in [&[][..], &[0x16, 3, 3, 0], &[0x16, 3, 3, 0, 4, 2, 0, 0, 90]] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = policy(&format!("wss://{}", listener.local_addr().unwrap()), &pin("self-signed"));
        let stalled = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(beginning).unwrap();
            stream
        });
        let run = finish(&mut command(&sandbox, &["--dry-run"])).expect(1);
        assert!(run.stderr.contains("it took too long"), "{run:#?}");
        drop(stalled.join().unwrap());
    }
}

#[test]
fn a_name_is_looked_up_and_that_takes_no_longer_than_the_timeout() {
    // The system knows what this means without asking another one. It is a name that no certificate can be for.
    let setting = Setting::new("self-signed", "");
    let listed = |host: &str| {
        let url = setting.gateway.url().replace("127.0.0.1", host);
        finish(&mut setting.command(&["--dry-run", "--connect", &url])).expect(1)
    };
    let found = listed("127.0x1");
    assert!(found.stderr.contains("127.0x1 is not a host name"), "{found:#?}");
    let unknown = listed("gateway.invalid");
    assert!(unknown.stderr.contains("cannot connect to wss://gateway.invalid:"), "{unknown:#?}");
    assert_eq!(setting.gateway.requests(), []);
}

#[test]
fn addresses_of_other_hosts_are_read() {
    for (text, canonical) in [
        ("wss://127.0.0.1:18789", "wss://127.0.0.1:18789"),
        ("wss://LOCALHOST:18789/", "wss://127.0.0.1:18789"),
        ("wss://Gateway.Example:1", "wss://gateway.example:1"),
        ("wss://[2001:db8::7]:18789", "wss://[2001:db8::7]:18789"),
    ] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), canonical);
    }
    for text in ["wss://gate way:1", "wss://gateway", "wss://gateway:0", "wss://a@b:1", "wss://gateway:1/path"] {
        assert!(text.parse::<Address>().unwrap_err().to_string().contains("is not a valid gateway address"), "{text}");
    }
}

/// A setting with a key for a device, which is as `openssl genpkey` writes one.
fn with_device() -> (Setting, Ed25519KeyPair) {
    let setting = Setting::new("self-signed", &format!("{}\ndevice_key = \"device.pem\"", pin("self-signed")));
    let whole = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(whole.as_ref()).unwrap();
    // The private half is 32 bytes behind the same header of every key.
    let private = &whole.as_ref()[16..48];
    let header = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let text = data_encoding::BASE64.encode(&[&header, private].concat());
    keep(&setting, &format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"), 0o600);
    (setting, key)
}

fn keep(setting: &Setting, text: &str, mode: u32) {
    setting.sandbox.write("device.pem", text);
    fs::set_permissions(setting.sandbox.path("device.pem"), fs::Permissions::from_mode(mode)).unwrap();
}

fn id_of(key: &Ed25519KeyPair) -> String {
    Sha256::digest(key.public_key()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_device_signs_what_the_gateway_says_first() {
    let (setting, key) = with_device();
    setting.run(&[]).expect(0);
    let requests = setting.gateway.requests();
    let connects: Vec<&Value> = requests.iter().filter(|(method, _)| method == "connect").map(|(_, of)| of).collect();
    assert_eq!(connects.len(), 2, "one to plan, and one to apply");
    for connect in connects {
        let device = &connect["device"];
        let binary = |field: &str| BASE64URL_NOPAD.decode(device[field].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(device["id"], id_of(&key));
        assert_eq!(binary("publicKey"), key.public_key().as_ref());
        assert_eq!(device["nonce"], "NONCE");
        let scopes: Vec<&str> =
            connect["scopes"].as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()).collect();
        let (id, scopes, time, system) = (id_of(&key), scopes.join(","), &device["signedAt"], std::env::consts::OS);
        let signed = format!("v3|{id}|gateway-client|backend|operator|{scopes}|{time}|TOKEN-FOR-TESTS|NONCE|{system}|");
        UnparsedPublicKey::new(&ED25519, key.public_key()).verify(signed.as_bytes(), &binary("signature")).unwrap();
    }
}

#[test]
fn a_checkup_tells_the_name_by_which_the_gateway_knows_the_device() {
    let (setting, key) = with_device();
    let run = setting.run(&["doctor"]);
    assert!(run.stdout.contains(&id_of(&key)), "{run:#?}");
    assert!(run.stdout.contains(&format!("{} has 3 sessions", setting.gateway.url())), "{run:#?}");
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_is_not_used() {
    let (setting, _) = with_device();
    let text = setting.sandbox.read("device.pem");
    for (text, mode, complaint) in [
        (text.as_str(), 0o640, "its mode is 0640"),
        (text.as_str(), 0o604, "its mode is 0604"),
        ("SECRET", 0o600, "error[not-a-device-key]: "),
        (&fs::read_to_string(certificate_file("key")).unwrap(), 0o600, "is not an Ed25519 key"),
        (&text.repeat(60), 0o600, "it is too long"),
    ] {
        keep(&setting, text, mode);
        let run = setting.refused(&mut setting.command(&["--dry-run"]));
        assert!(run.stderr.contains(complaint) && !run.stderr.contains("SECRET"), "{complaint}: {run:#?}");
    }
    fs::remove_file(setting.sandbox.path("device.pem")).unwrap();
    let run = setting.refused(&mut setting.command(&["--dry-run"]));
    assert!(run.stderr.contains("error[no-device-key]: "), "{run:#?}");
    assert!(run.stderr.contains("openssl genpkey -algorithm ed25519 -out "), "{run:#?}");
    assert!(!setting.sandbox.path("device.pem").exists(), "a dry run has made a key");
}
