//! Which words of a command line a shell or an interpreter reads: the script of `sh -c`, `bash -lc`, `python3 -c` or
//! `su --command=…`, also behind `env`, `sudo` and the like, and all that `ssh` sends to its host or `watch` to a shell.
//!
//! It is no parser of anybody's options. Where it cannot know, a word counts as a script.

/// Programs, the letters of their options that take a script, and the long names of these, which may be cut short.
struct Runner {
    programs: &'static [&'static str],
    letters: &'static str,
    names: &'static [&'static str],
}

static RUNNERS: [Runner; 6] = [
    Runner {
        programs: &[
            "ash", "bash", "busybox", "csh", "dash", "expect", "flock", "ksh", "mksh", "nu", "python", "rbash",
            "script", "sg", "sh", "tcsh", "xonsh", "yash", "zsh",
        ],
        letters: "c",
        names: &["command"],
    },
    Runner { programs: &["fish", "pwsh"], letters: "cC", names: &["command", "init-command"] },
    Runner { programs: &["lua", "perl", "ruby"], letters: "eE", names: &[] },
    Runner { programs: &["node", "php"], letters: "epr", names: &["eval", "print", "run"] },
    Runner { programs: &["runuser", "su"], letters: "c", names: &["command", "session-command"] },
    Runner { programs: &["env"], letters: SPLIT, names: &["split-string"] },
];

/// The option of `env` whose text is split into further words of the command line.
const SPLIT: &str = "S";

/// Programs that give what stands behind their first word to a shell, and the letters of their options that take a word.
const SENDERS: [(&str, &str); 4] =
    [("ssh", "BbcDEeFIiJLlmOoPpQRSWw"), ("autossh", "BbcDEeFIiJLlMmOoPpQRSWw"), ("mosh", "p"), ("sg", "")];

/// Programs that give all their words to a shell.
const JOINERS: [&str; 2] = ["parallel", "watch"];

/// Programs that run some of their words, type others into a shell, and find commands in others (`#(…)`).
const MULTIPLEXERS: [&str; 3] = ["byobu", "screen", "tmux"];

/// Passes the words of a command line, one after the other.
#[derive(Default)]
pub(super) struct Scripts {
    /// Of the programs so far.
    runners: Vec<&'static Runner>,
    /// Whose option with a script is among the options since the last word that was none.
    armed: Option<&'static Runner>,
    /// Whether the last option takes a word of its own: `bash -c -o pipefail SCRIPT`.
    takes_word: bool,
    sender: Option<Sender>,
    in_multiplexer: bool,
}

impl Scripts {
    /// Passes one word, and says whether a placeholder in it, which begins at `filled`, is read by a shell.
    pub(super) fn pass(&mut self, word: &str, filled: Option<usize>) -> bool {
        let sent = self.sender.as_mut().is_some_and(|sender| sender.pass(word));
        let is_script = if word.starts_with(['-', '+']) { self.option(word, filled) } else { self.argument(word) };
        sent || is_script
    }

    /// Whether the words are a terminal multiplexer's.
    pub(super) fn in_multiplexer(&self) -> bool {
        self.in_multiplexer
    }

    fn option(&mut self, word: &str, filled: Option<usize>) -> bool {
        let was_armed = self.armed.is_some();
        let arms = |word: &str| self.runners.iter().find(|runner| runner.takes_script(word)).copied();
        // What stands before the placeholder decides whether it is in the script of this option.
        let is_attached = arms(filled.and_then(|at| word.get(..at)).unwrap_or(word)).is_some();
        let armed = arms(word);
        let is_whole = word.starts_with("--") && word.contains('=');
        if !is_whole {
            self.armed = self.armed.or(armed);
        }
        self.takes_word = word.ends_with(['o', 'O']);
        if armed.is_some_and(Runner::splits) {
            self.split(word);
        }
        was_armed || is_attached
    }

    fn argument(&mut self, word: &str) -> bool {
        if std::mem::take(&mut self.takes_word) && self.armed.is_some() {
            return true;
        }
        let program = word.rsplit('/').next().unwrap_or(word);
        // python3.12
        let program = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        self.runners.extend(RUNNERS.iter().find(|runner| runner.programs.contains(&program)));
        self.in_multiplexer |= MULTIPLEXERS.contains(&program);
        let sender = SENDERS.iter().find(|(sender, _)| *sender == program);
        let sender = sender.map(|(_, takers)| Sender { takers, taker: None, is_addressed: false });
        let joiner = JOINERS.contains(&program).then_some(Sender { takers: "", taker: None, is_addressed: true });
        self.sender = self.sender.take().or(sender).or(joiner);
        let armed = self.armed.take();
        if armed.is_some_and(Runner::splits) {
            self.split(word);
        }
        armed.is_some()
    }

    /// Passes the words of a text that `env` splits: `env -S "sh -c" SCRIPT`.
    fn split(&mut self, text: &str) {
        let parts = || text.split(|c: char| c == '=' || c.is_whitespace());
        if parts().nth(1).is_some() {
            parts().for_each(|part| _ = self.pass(part, None));
        }
    }
}

impl Runner {
    fn takes_script(&self, option: &str) -> bool {
        match option.strip_prefix("--") {
            Some(long) => {
                let name = long.split('=').next().unwrap_or(long);
                !name.is_empty() && self.names.iter().any(|whole| whole.starts_with(name))
            }
            None => option.starts_with('-') && option.contains(|letter| self.letters.contains(letter)),
        }
    }

    /// Whether its script is no shell's, but words of a command line.
    fn splits(&self) -> bool {
        self.letters == SPLIT
    }
}

/// `ssh -p 22 HOST …`, and where it has come to.
struct Sender {
    takers: &'static str,
    /// The option whose word comes next.
    taker: Option<char>,
    /// Whether the host was passed.
    is_addressed: bool,
}

impl Sender {
    fn pass(&mut self, word: &str) -> bool {
        // A ProxyCommand, say.
        let is_setting = |taker| taker == 'o';
        if self.is_addressed {
            return true;
        }
        if let Some(taker) = self.taker.take() {
            return is_setting(taker);
        }
        let Some(letters) = word.strip_prefix('-') else {
            self.is_addressed = true;
            return false;
        };
        // A placeholder among the letters would choose the option.
        let taker = letters.char_indices().find(|(_, letter)| *letter == '{' || self.takers.contains(*letter));
        match taker {
            Some((at, taker)) if at + 1 == letters.len() => {
                self.taker = Some(taker);
                false
            }
            Some((_, taker)) => taker == '{' || is_setting(taker),
            None => false,
        }
    }
}
