//! A gateway that is reached as one on another host is: over TLS, at an address of this host that is not a loopback address,
//! by a device that its operator has approved.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use reconcile::policy::fingerprint::Fingerprint;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::openclaw_real::kit::{Kit, command};
use crate::support::{Run, Sandbox, finish, needs};

/// What a run tells to be run on the gateway's host.
const APPROVE: &str = "openclaw devices approve ";

#[test]
#[ignore = "needs openclaw"]
fn a_real_gateway_on_another_host_is_reached_over_tls_by_an_approved_device() {
    needs(&["openclaw"]);
    let kit = Kit::start_encrypted();
    kit.telegram.say(100_301, "I am Cal");
    assert_eq!(kit.provider.model_of("I am Cal"), "mid");
    let certificate = CertificateDer::from_pem_file(kit.path("state/gateway/tls/gateway-cert.pem")).unwrap();
    let pin = Fingerprint::of(&certificate).to_string();
    let url = format!("wss://{}:{}", address_of_this_host(), kit.port);
    let sandbox = kit.sandbox("[[rules]]\ntype = \"direct\"\nmodel = \"fake/big\"\n");
    let run = |pin: &str, arguments: &[&str]| {
        let mut command = command(&sandbox, arguments);
        finish(command.env("RECONCILE_GATEWAY_URL", &url).env("RECONCILE_GATEWAY_FINGERPRINT", pin))
    };

    let other = run(&Fingerprint::of(b"another").to_string(), &["--dry-run"]).expect(1);
    assert!(other.stderr.contains(&format!("its fingerprint is {pin}")), "{other:#?}");
    let without_device = run(&pin, &["--dry-run"]).expect(1);
    assert!(without_device.stderr.contains("sessions.device_key"), "{without_device:#?}");

    make_device(&sandbox);
    approve(&kit, &run(&pin, &["--dry-run"]));
    let planned = run(&pin, &["--dry-run"]).expect(0);
    assert!(planned.summary().starts_with("Plan: 1 to change"), "{planned:#?}");
    // Its operator has approved that it reads.
    approve(&kit, &run(&pin, &[]));
    let applied = run(&pin, &[]).expect(0);
    assert_eq!(applied.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 0 failed.", "{applied:#?}");
    kit.telegram.say(100_301, "who answers over TLS?");
    assert_eq!(kit.provider.model_of("who answers over TLS?"), "big");
    assert!(run(&pin, &["--dry-run"]).expect(0).summary().starts_with("No changes."));
}

/// The address under which other hosts would reach this one. Nothing is sent: to be connected is to have chosen an address.
fn address_of_this_host() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.99:9").unwrap();
    let address = socket.local_addr().unwrap().ip();
    assert!(!address.is_loopback(), "this host has no other address than the loopback one");
    address
}

/// Makes a key, and says in the policy where it is.
fn make_device(sandbox: &Sandbox) {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let text = data_encoding::BASE64.encode(key.as_ref());
    sandbox.write("device.pem", format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"));
    fs::set_permissions(sandbox.path("device.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    // The section about the gateway is the last one.
    sandbox.write("policy.toml", format!("{}device_key = \"device.pem\"\n", sandbox.read("policy.toml")));
}

/// Does what a refused run tells to do.
fn approve(kit: &Kit, refused: &Run) {
    assert_eq!(refused.code, 1, "{refused:#?}");
    let (_, told) = refused.stderr.split_once(APPROVE).unwrap_or_else(|| panic!("{refused:#?}"));
    let (request, _) = told.split_once(';').unwrap();
    let output = kit.openclaw(&["devices", "approve", request]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
