//! Who may use a file that is replaced: its access list, its extended attributes and its group stay as they were, or
//! nothing is written.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::XattrFlags;

use crate::bad_input::drifted;
use crate::bad_state::{as_nobody, give_to_nobody, refused_to_nobody};
use crate::support::{POLICY, Sandbox, needs_attributes, needs_root, registry};

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

/// Sets an extended attribute.
#[track_caller]
fn set(path: &Path, name: &str, value: &[u8]) {
    let set = rustix::fs::setxattr(path, name, value, XattrFlags::empty());
    assert_eq!(set, Ok(()), "{name} of {}", path.display());
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
    let mut command = Command::new("test");
    command.arg(what).arg(path).uid(STRANGER).gid(STRANGER).stdin(Stdio::null()).status().unwrap().success()
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

/// A scene whose files had this mode and this access list, and were replaced.
fn replaced(mode: u32, access: [u16; 4]) -> Sandbox {
    let sandbox = scene();
    for name in REPLACED {
        set_mode(&sandbox.path(name), mode);
        set(&sandbox.path(name), ACL, &acl(access));
    }
    replace_all(&sandbox);
    sandbox
}

#[test]
#[ignore = "needs extended attributes"]
fn an_access_list_stays() {
    needs_attributes();
    let sandbox = replaced(0o640, [6, 6, 4, 0]);
    for name in REPLACED {
        let path = sandbox.path(name);
        assert_eq!(attribute(&path, ACL), Some(acl([6, 6, 4, 0])), "{name}");
        assert_eq!(mode(&path), 0o660, "{name}");
    }
}

#[test]
#[ignore = "needs root and extended attributes"]
fn a_user_on_the_access_list_is_not_locked_out() {
    needs_root();
    needs_attributes();
    let sandbox = replaced(0o640, [6, 6, 4, 0]);
    for name in REPLACED {
        let path = sandbox.path(name);
        assert!(stranger_can("-r", &path) && stranger_can("-w", &path), "{name}: the stranger is locked out");
    }
}

#[test]
#[ignore = "needs extended attributes"]
fn a_user_whom_the_access_list_locks_out_gains_nothing() {
    needs_attributes();
    let sandbox = replaced(0o644, [6, 0, 0, 4]);
    for name in REPLACED {
        assert_eq!(attribute(&sandbox.path(name), ACL), Some(acl([6, 0, 0, 4])), "{name}");
    }
}

/// A scene whose files were replaced in a directory with a default access list that lets the stranger do everything.
fn replaced_in_a_shared_directory() -> Sandbox {
    let sandbox = scene();
    for name in REPLACED {
        set_mode(&sandbox.path(name), 0o640);
    }
    set(&sandbox.path(""), DEFAULT_ACL, &acl([7, 7, 5, 0]));
    replace_all(&sandbox);
    sandbox
}

fn state(sandbox: &Sandbox) -> impl Iterator<Item = PathBuf> {
    let files = walkdir::WalkDir::new(sandbox.path("sessions.json.reconcile"));
    files.into_iter().map(|file| file.unwrap().into_path())
}

#[test]
#[ignore = "needs extended attributes"]
fn the_default_access_list_of_a_directory_is_not_gained() {
    needs_attributes();
    let sandbox = replaced_in_a_shared_directory();
    for name in REPLACED {
        let path = sandbox.path(name);
        assert_eq!((attribute(&path, ACL), mode(&path)), (None, 0o640), "{name}");
    }
    // The state is private, and usable, also where the list is inherited.
    for path in state(&sandbox) {
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    sandbox.run(&["--dry-run"]).expect(0);
}

#[test]
#[ignore = "needs root and extended attributes"]
fn the_default_access_list_of_a_directory_opens_no_state() {
    needs_root();
    needs_attributes();
    for path in state(&replaced_in_a_shared_directory()) {
        assert!(!stranger_can("-r", &path), "{}", path.display());
    }
}

#[test]
#[ignore = "needs extended attributes"]
fn a_registry_that_a_launch_creates_is_private_in_a_directory_with_a_default_access_list() {
    needs_attributes();
    let sandbox = Sandbox::new(POLICY, "");
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    set(&sandbox.path(""), DEFAULT_ACL, &acl([7, 7, 5, 0]));
    sandbox.run(&["launch", "+1", "--tier", "bots", "--", "true"]).expect(0);
    let path = sandbox.path("sessions.json");
    assert_eq!((attribute(&path, ACL), mode(&path)), (None, 0o600));
}

/// Sees that the registry and the policy have these attributes also after they were replaced.
#[track_caller]
fn stay(attributes: &[(&str, &[u8])]) {
    let sandbox = scene();
    let paths = ["sessions.json", "policy.toml"].map(|name| sandbox.path(name));
    let all = || paths.iter().flat_map(|path| attributes.iter().map(move |(name, value)| (path, *name, *value)));
    for (path, name, value) in all() {
        set(path, name, value);
    }
    replace_all(&sandbox);
    for (path, name, value) in all() {
        assert_eq!(attribute(path, name).as_deref(), Some(value), "{name} of {}", path.display());
    }
}

#[test]
#[ignore = "needs extended attributes"]
fn extended_attributes_stay() {
    needs_attributes();
    stay(&[("user.origin", b"by hand"), ("user.empty", b"")]);
}

#[test]
#[ignore = "needs root and extended attributes"]
fn extended_attributes_that_only_root_can_set_stay() {
    needs_root();
    needs_attributes();
    stay(&[("security.kept", b"\x00\xff")]);
}

#[test]
#[ignore = "needs root and extended attributes"]
fn an_attribute_that_cannot_be_kept_is_told_before_the_write() {
    needs_root();
    needs_attributes();
    // Who is not root can read such an attribute, and not set it.
    for (name, arguments) in [("sessions.json", &[][..]), ("policy.toml", &["set-model", "+2", "opus"])] {
        let sandbox = drifted();
        give_to_nobody(&sandbox);
        set(&sandbox.path(name), "security.kept", b"1");
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
#[ignore = "needs root"]
fn a_group_that_cannot_be_kept_is_told_as_one() {
    needs_root();
    for (name, arguments) in [("sessions.json", &[][..]), ("policy.toml", &["set-model", "+2", "opus"])] {
        let sandbox = drifted();
        give_to_nobody(&sandbox);
        chown(sandbox.path(name), None, Some(0)).unwrap();
        let told =
            ["error[rights-not-kept]: cannot keep the group of", name, "operation not permitted", "belongs to group 0"];
        refused_to_nobody(&sandbox, &told, arguments);
    }
}

/// What belonged to another group must not become readable for the group of the user who replaces it.
#[test]
#[ignore = "needs root"]
fn a_report_whose_group_cannot_be_kept_gives_the_new_group_no_more_than_others() {
    needs_root();
    let sandbox = Sandbox::new(POLICY, &registry(&[("+1", "family", "sonnet")]));
    for (name, mode) in [("report.json", 0o660), ("metrics.prom", 0o664)] {
        sandbox.write(name, "");
        set_mode(&sandbox.path(name), mode);
    }
    give_to_nobody(&sandbox);
    for name in ["report.json", "metrics.prom"] {
        chown(sandbox.path(name), None, Some(0)).unwrap();
    }
    let run = as_nobody(&sandbox, &["--output", "json=report.json", "--metrics", "metrics.prom"]).expect(0);
    assert_eq!(run.summary(), "No changes. 1 in sync.");
    for (name, expected) in [("report.json", 0o600), ("metrics.prom", 0o644)] {
        let file = fs::metadata(sandbox.path(name)).unwrap();
        assert_eq!((file.gid(), file.mode() & 0o777), (NOBODY, expected), "{name}");
    }
}

/// Root replaces the report of another user, as a shell would write into it.
#[test]
#[ignore = "needs root"]
fn a_report_stays_with_its_owner_and_group() {
    needs_root();
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
