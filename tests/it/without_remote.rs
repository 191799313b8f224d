//! Gateways on other hosts, in a build that encrypts nothing.

use crate::openclaw::{Setting, TOKEN, world};
use crate::support::finish;

#[test]
fn what_needs_tls_or_the_identity_of_a_device_is_an_error_that_names_the_build_and_a_tunnel() {
    let setting = Setting::of(world(), "");
    let mut command = setting.command(&["--dry-run", "--connect", "wss://gateway.example:18789"]);
    let run = finish(&mut command).expect(1);
    assert!(run.stderr.contains("needs TLS, which this build of reconcile does not support"), "{run:#?}");
    assert!(run.stderr.contains("hint: use a tunnel: ssh -N -L 18789:127.0.0.1:18789 HOST"), "{run:#?}");
    assert!(run.stderr.contains("cargo install --path . --features remote"), "{run:#?}");

    let policy = setting.sandbox.read("policy.toml");
    setting.sandbox.write("policy.toml", format!("{policy}device_key = \"device.pem\"\n"));
    let run = setting.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("this build of reconcile does not support the identity of a device"), "{run:#?}");
    assert_eq!(setting.gateway.requests(), [], "{TOKEN} was sent");
}
