//! How the registry and the policy are mounted: what would keep a run from replacing them is found when planning.

use std::process::{Command, Stdio};

use crate::support::{Run, Sandbox, finish, is_installed};

/// The binary in mounts of its own, which this script makes in the sandbox. `None` where that cannot be had.
pub fn in_mounts(sandbox: &Sandbox, script: &str, arguments: &[&str]) -> Option<Run> {
    let unshared = |script: &str, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-e", "-c", script, env!("CARGO_BIN_EXE_reconcile")]).args(arguments);
        command.current_dir(sandbox.path("")).env("TZ", "UTC").stdin(Stdio::null());
        command
    };
    let is_allowed = is_installed("unshare") && unshared("true", &[]).output().is_ok_and(|it| it.status.success());
    if !is_allowed {
        assert!(std::env::var_os("RECONCILE_REQUIRE_ALL").is_none(), "only root can have mounts of its own");
        return None;
    }
    Some(finish(&mut unshared(&format!("{script}\nexec \"$0\" \"$@\""), arguments)))
}
