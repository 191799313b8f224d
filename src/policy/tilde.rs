//! Paths that begin with the home directory, as in a shell.

/// The spellings of the home directory at the beginning of a path.
const HOME: [&str; 2] = ["~/", "$HOME/"];

/// The rest of a path that begins with the user's home directory; `None` for other paths, also for `~ada/` of another user.
pub(crate) fn below_home(path: &str) -> Option<&str> {
    HOME.iter().find_map(|home| path.strip_prefix(home)).map(|rest| rest.trim_start_matches('/'))
}
