//! Who may use a file that is replaced: its access list, its extended attributes and its group stay as they were, or
//! nothing is written.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::bad_input::drifted;
use crate::bad_state::{give_to_nobody, refused_to_nobody};
use crate::support::{POLICY, Sandbox, finish, is_installed, is_root, registry};

const ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";
/// A user who is neither the owner of a file nor in its group.
const STRANGER: u32 = 1234;
const NOBODY: u32 = 65534;

/// An access list that lets the owner, the stranger, the group and others do this.
fn acl([owner, stranger, group, others]: [u16; 4]) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let entries = [
        (1, owner, NO_ID),
        (2, stranger, STRANGER),
        (4, group, NO_ID),
        // What the stranger and the group can have at most.
        (16, stranger | group, NO_ID),
        (32, others, NO_ID),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(u16::to_le_bytes(tag).iter().chain(&u16::to_le_bytes(permissions)).chain(&u32::to_le_bytes(id)));
    }
    bytes
}

/// Sets an extended attribute. `false` where the file system keeps none: where `RECONCILE_REQUIRE_ALL` is set, a failure.
fn set(path: &Path, name: &str, value: &[u8]) -> bool {
    match rustix::fs::setxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(Errno::OPNOTSUPP) => {
            assert!(std::env::var_os("RECONCILE_REQUIRE_ALL").is_none(), "{name} cannot be set on {}", path.display());
            let _ = writeln!(std::io::stderr(), "skipped: {name} cannot be set on {}", path.display());
            false
        }
        Err(error) => panic!("{name} of {}: {error}", path.display()),
    }
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Whether the stranger can do that with a file, as the system sees it.
fn stranger_can(what: &str, path: &Path) -> bool {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={STRANGER}"), &format!("--regid={STRANGER}"), "--clear-groups", "test", what]);
    command.arg(path).stdin(Stdio::null()).status().unwrap().success()
}

/// Runs that replace the registry, the policy, a report and metrics, each of which is there before.
const REPLACED: [&str; 4] = ["sessions.json", "policy.toml", "report.json", "metrics.prom"];

/// A policy without commands: root runs none of a policy that the stranger could write.
fn scene() -> Sandbox {
    let sandbox = Sandbox::new(POLICY, &registry(&[("+1", "admin", "haiku"), ("+2", "family", "sonnet")]));
    set_mode(&sandbox.path(""), 0o755);
    sandbox.write("report.json", "{}");
    sandbox.write("metrics.prom", "");
    sandbox
}

fn replace_all(sandbox: &Sandbox) {
    let texts = || REPLACED.map(|name| sandbox.read(name));
    let before = texts();
    sandbox.run(&["set-model", "+2", "opus"]).expect(0);
    sandbox.run(&["--output", "json=report.json", "--metrics", "metrics.prom"]).expect(0);
    assert!(before.iter().zip(texts()).all(|(before, now)| *before != now), "a file was not replaced");
}

#[test]
fn a_user_on_the_access_list_is_not_locked_out() {
    let sandbox = scene();
    for name in REPLACED {
        set_mode(&sandbox.path(name), 0o640);
        if !set(&sandbox.path(name), ACL, &acl([6, 6, 4, 0])) {
            return;
        }
    }
    replace_all(&sandbox);
    for name in REPLACED {
        let path = sandbox.path(name);
        assert_eq!(attribute(&path, ACL), Some(acl([6, 6, 4, 0])), "{name}");
        assert_eq!(mode(&path), 0o660, "{name}");
        if is_root() && is_installed("setpriv") {
            assert!(stranger_can("-r", &path) && stranger_can("-w", &path), "{name}: the stranger is locked out");
        }
    }
}

#[test]
fn a_user_whom_the_access_list_locks_out_gains_nothing() {
    let sandbox = scene();
    for name in REPLACED {
        set_mode(&sandbox.path(name), 0o644);
        if !set(&sandbox.path(name), ACL, &acl([6, 0, 0, 4])) {
            return;
        }
    }
    replace_all(&sandbox);
    for name in REPLACED {
        assert_eq!(attribute(&sandbox.path(name), ACL), Some(acl([6, 0, 0, 4])), "{name}");
    }
}

#[test]
fn the_default_access_list_of_a_directory_is_not_gained() {
    let sandbox = scene();
    for name in REPLACED {
        set_mode(&sandbox.path(name), 0o640);
    }
    if !set(&sandbox.path(""), DEFAULT_ACL, &acl([7, 7, 5, 0])) {
        return;
    }
    replace_all(&sandbox);
    for name in REPLACED {
        let path = sandbox.path(name);
        assert_eq!((attribute(&path, ACL), mode(&path)), (None, 0o640), "{name}");
    }
    // The state is private, and usable, also where the list is inherited.
    for file in walkdir::WalkDir::new(sandbox.path("sessions.json.reconcile")) {
        let path = file.unwrap().into_path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        if is_root() && is_installed("setpriv") {
            assert!(!stranger_can("-r", &path), "{}", path.display());
        }
    }
    sandbox.run(&["--dry-run"]).expect(0);
}

#[test]
fn a_registry_that_a_launch_creates_is_private_in_a_directory_with_a_default_access_list() {
    let sandbox = Sandbox::new(POLICY, "");
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    if !set(&sandbox.path(""), DEFAULT_ACL, &acl([7, 7, 5, 0])) {
        return;
    }
    sandbox.run(&["launch", "+1", "--tier", "bots", "--", "true"]).expect(0);
    let path = sandbox.path("sessions.json");
    assert_eq!((attribute(&path, ACL), mode(&path)), (None, 0o600));
}

#[test]
fn extended_attributes_stay() {
    let sandbox = scene();
    let names = ["sessions.json", "policy.toml"];
    for name in names {
        if !set(&sandbox.path(name), "user.origin", b"by hand") || !set(&sandbox.path(name), "user.empty", b"") {
            return;
        }
        if is_root() {
            assert!(set(&sandbox.path(name), "security.kept", b"\x00\xff"));
        }
    }
    replace_all(&sandbox);
    for name in names {
        let path = sandbox.path(name);
        assert_eq!(attribute(&path, "user.origin").as_deref(), Some(&b"by hand"[..]), "{name}");
        assert_eq!(attribute(&path, "user.empty").as_deref(), Some(&b""[..]), "{name}");
        if is_root() {
            assert_eq!(attribute(&path, "security.kept").as_deref(), Some(&b"\x00\xff"[..]), "{name}");
        }
    }
}

#[test]
fn an_attribute_that_cannot_be_kept_is_told_before_the_write() {
    if !is_root() {
        return;
    }
    // Who is not root can read such an attribute, and not set it.
    for (name, arguments) in [("sessions.json", &[][..]), ("policy.toml", &["set-model", "+2", "opus"])] {
        let sandbox = drifted();
        give_to_nobody(&sandbox);
        if !set(&sandbox.path(name), "security.kept", b"1") {
            return;
        }
        let before = sandbox.read("policy.toml");
        refused_to_nobody(
            &sandbox,
            &["cannot keep the extended attribute security.kept of", name, "hint: "],
            arguments,
        );
        assert_eq!(sandbox.read("policy.toml"), before);
        let left =
            |directory: &str| fs::read_dir(sandbox.path(directory)).unwrap().map(|file| file.unwrap().file_name());
        let left: Vec<_> = left("").chain(left("sessions.json.reconcile")).collect();
        let is_debris = |name: &str| name.starts_with('.') || name == "registry.new";
        assert!(!left.iter().any(|name| is_debris(&name.to_string_lossy())), "{left:?}");
    }
}

#[test]
fn a_group_that_cannot_be_kept_is_told_as_one() {
    if !is_root() {
        return;
    }
    for (name, arguments) in [("sessions.json", &[][..]), ("policy.toml", &["set-model", "+2", "opus"])] {
        let sandbox = drifted();
        give_to_nobody(&sandbox);
        chown(sandbox.path(name), None, Some(0)).unwrap();
        let told = ["cannot keep the group of", name, "operation not permitted", "belongs to group 0"];
        refused_to_nobody(&sandbox, &told, arguments);
    }
}

/// What belonged to another group must not become readable for the group of the user who replaces it.
#[test]
fn a_report_whose_group_cannot_be_kept_gives_the_new_group_no_more_than_others() {
    if !is_root() || !is_installed("setpriv") {
        return;
    }
    let sandbox = Sandbox::new(POLICY, &registry(&[("+1", "family", "sonnet")]));
    for (name, mode) in [("report.json", 0o660), ("metrics.prom", 0o664)] {
        sandbox.write(name, "");
        set_mode(&sandbox.path(name), mode);
    }
    give_to_nobody(&sandbox);
    for name in ["report.json", "metrics.prom"] {
        chown(sandbox.path(name), None, Some(0)).unwrap();
    }
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    let mut command = Command::new("setpriv");
    command.args(ids).arg(env!("CARGO_BIN_EXE_reconcile"));
    command.args(["--output", "json=report.json", "--metrics", "metrics.prom"]).current_dir(sandbox.path(""));
    let run = finish(command.stdin(Stdio::null())).expect(0);
    assert_eq!(run.summary(), "No changes. 1 in sync.");
    for (name, expected) in [("report.json", 0o600), ("metrics.prom", 0o644)] {
        let file = fs::metadata(sandbox.path(name)).unwrap();
        assert_eq!((file.gid(), file.mode() & 0o777), (NOBODY, expected), "{name}");
    }
}

/// Root replaces the report of another user, as a shell would write into it.
#[test]
fn a_report_stays_with_its_owner_and_group() {
    if !is_root() {
        return;
    }
    let sandbox = scene();
    for name in ["report.json", "metrics.prom"] {
        set_mode(&sandbox.path(name), 0o640);
        chown(sandbox.path(name), Some(NOBODY), Some(STRANGER)).unwrap();
    }
    replace_all(&sandbox);
    for name in ["report.json", "metrics.prom"] {
        let file = fs::metadata(sandbox.path(name)).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (NOBODY, STRANGER, 0o640), "{name}");
    }
}
