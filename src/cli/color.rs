//! When text has colours: as `--color` says, else as the environment does, else where it goes to a terminal.

use std::ffi::OsString;
use std::io::IsTerminal;

use anstream::ColorChoice;

/// The value of `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Color {
    /// As the environment says, else on a terminal.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// The choices by name.
pub(crate) const COLORS: [(&str, Color); 3] =
    [("auto", Color::Auto), ("always", Color::Always), ("never", Color::Never)];

impl Color {
    /// What the arguments say, where they cannot be read as a whole: for help and for wrong usage.
    pub(crate) fn of_arguments() -> Self {
        let words = std::env::args_os().take_while(|argument| argument != "--");
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let named = |word: &str| COLORS.iter().find(|(name, _)| *name == word).map(|(_, color)| *color);
        let apart = words.windows(2).filter(|pair| pair[0] == "--color").map(|pair| pair[1].as_str());
        let joined = words.iter().filter_map(|word| word.strip_prefix("--color="));
        joined.chain(apart).find_map(named).unwrap_or_default()
    }

    /// Whether this stream gets colours.
    pub(crate) fn on(self, stream: &impl IsTerminal) -> ColorChoice {
        let has_colours = match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if value("NO_COLOR").is_some() => false,
            Self::Auto if says_yes("FORCE_COLOR") || says_yes("CLICOLOR_FORCE") => true,
            Self::Auto if value("CLICOLOR").is_some_and(|value| value == "0") => false,
            Self::Auto => stream.is_terminal() && value("TERM").is_some_and(|term| term != "dumb"),
        };
        if has_colours { ColorChoice::Always } else { ColorChoice::Never }
    }
}

/// What a variable is set to. An empty one is not set: service managers write them so.
fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether a variable is set, and to something other than 0.
fn says_yes(name: &str) -> bool {
    value(name).is_some_and(|value| value != "0")
}
