//! The paths that stand in a policy, and what they are relative to.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::report::escape::leading;

/// The registry that the policy at `path` names.
pub(crate) fn registry_of(named: Option<&str>, path: &Path) -> Result<PathBuf> {
    let Some(registry) = named else {
        return Err(Error::other(format!("{} names no registry", leading(&path.display().to_string())))
            .with_hint("add registry.path to it, or give --registry PATH"));
    };
    beside_policy(path, registry)
}

/// A path that stands in a policy: `~` is the home directory, and others are relative to the policy's.
pub(crate) fn beside_policy(policy: &Path, path: &str) -> Result<PathBuf> {
    if let Some(rest) = path.strip_prefix("~/") {
        let home = home().ok_or_else(|| Error::other("HOME is not set, and the policy's path begins with ~"))?;
        return Ok(home.join(rest));
    }
    Ok(policy_directory(policy).join(path))
}

/// The directory that paths in a policy are relative to.
pub(crate) fn policy_directory(policy: &Path) -> &Path {
    if policy.is_dir() { policy } else { policy.parent().unwrap_or(Path::new("")) }
}

/// The home directory, where the environment names one.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}
