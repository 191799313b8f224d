//! Paths below the home directory, as people write them.

/// What a shell makes the home directory of.
const HOME: [&str; 2] = ["~/", "$HOME/"];

/// What of a path is below the home directory, where it begins there. Another user's, as in `~ada/`, is not known here.
pub(crate) fn below_home(path: &str) -> Option<&str> {
    HOME.iter().find_map(|home| path.strip_prefix(home)).map(|rest| rest.trim_start_matches('/'))
}
