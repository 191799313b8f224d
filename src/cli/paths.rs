//! The paths that stand in a policy, and what they are relative to.

use std::path::{Path, PathBuf};

use crate::cli::problem::PlaceProblem;
use crate::error::Result;
use crate::file_name::Called;
use crate::policy::tilde::below_home;
use crate::report::shown::Naming;

/// The path of the policy where none is named.
pub(crate) const POLICY: &str = "policy.toml";

/// How the files of the policy at `path` are called. The path that it has by default names no person.
pub(crate) fn called(path: &Path, naming: Naming) -> Called {
    match naming {
        Naming::Plain => Called::ByPath,
        Naming::Hidden if path == Path::new(POLICY) => Called::ByPosition(POLICY),
        Naming::Hidden => Called::ByPosition("policy"),
    }
}

/// The registry that the policy at `path` names.
pub(crate) fn registry_of(named: Option<&str>, path: &Path) -> Result<PathBuf> {
    let Some(registry) = named else {
        return Err(PlaceProblem::NoRegistry { policy: path.into() }.into());
    };
    let beside = beside_policy(path, registry)?;
    if !beside.exists()
        && let Some(found) = beside_target(path, registry)
    {
        return Err(PlaceProblem::BesideLink { beside, policy: path.into(), found }.into());
    }
    Ok(beside)
}

/// The file that a path of a policy would lead to if it were relative to where the link to the policy points.
fn beside_target(policy: &Path, path: &str) -> Option<PathBuf> {
    let target = policy.is_symlink().then(|| policy.canonicalize().ok()).flatten()?;
    beside_policy(&target, path).ok().filter(|found| found.exists())
}

/// A path that stands in a policy: `~` and `$HOME` are the home directory, and others are relative to the policy's. Where that
/// is a link, they are relative to the directory of the link.
pub(crate) fn beside_policy(policy: &Path, path: &str) -> Result<PathBuf> {
    if let Some(rest) = below_home(path) {
        let home = home().ok_or(PlaceProblem::NoHome)?;
        return Ok(home.join(rest));
    }
    Ok(policy_directory(policy).join(path))
}

/// A path of the command line or the environment, where a shell has left `~/` or `$HOME` as they are: it does so within
/// quotes, and service managers always do.
pub(crate) fn expanded(path: PathBuf) -> PathBuf {
    let below = path.to_str().and_then(below_home);
    below.and_then(|rest| Some(home()?.join(rest))).unwrap_or(path)
}

/// The directory that paths in a policy are relative to.
pub(crate) fn policy_directory(policy: &Path) -> &Path {
    if policy.is_dir() { policy } else { policy.parent().unwrap_or(Path::new("")) }
}

/// The home directory, where the environment names one.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}
