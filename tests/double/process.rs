//! A double of the daemon `dispatch`, for tests: a process of its own, with its own memory and socket.
//!
//! ```text
//! dispatch-double --registry FILE --socket PATH --control PATH [--live CHAT]… [--young CHAT]…
//!                 [--pause-start-up | --pause-sessions] [--until-stdin-closes]
//! ```
//!
//! It says `ready` on stdout when it can be used. Time stands still until a control line moves it.
//!
//! | control line | what happens |
//! |---|---|
//! | `requests` | answers with the requests seen so far |
//! | `sessions` | answers with the truth about each chat: its model, how often it was started, what it lost |
//! | `live CHAT`, `young CHAT` | starts a session, with or without the end of a turn |
//! | `wake CHAT` | a message starts it: under an override, the entry's model becomes the override's |
//! | `new CHAT TIER [unlisted]` | a chat writes for the first time; with `unlisted` the file does not say so yet |
//! | `kill CHAT` | stops a session |
//! | `busy CHAT [queue N]`, `queue CHAT N` | it is writing a reply; it is not, but has messages to answer |
//! | `turn-begins CHAT ID` | it is writing its first reply, and knows its conversation's id |
//! | `turn-ends CHAT [ID]` | it is idle, and knows its conversation's id |
//! | `turn-fails CHAT` | a turn failed; after three of them it is not healthy |
//! | `recover CHAT` | what was wrong with a session that had come up is over |
//! | `tier CHAT TIER` | a live session has another tier, and the entry has not |
//! | `check-health` | tiers, conversations' ids and new chats reach the file, as once a minute |
//! | `touch CHAT` | a message has come: a change of the entry, saved like any other |
//! | `advance SECONDS` | moves the clock, for the debounce and the breaker; saves nothing by itself |
//! | `flush` | saves at once |
//! | `hold-saves`, `let-saves` | nothing but `flush` and the shutdown saves |
//! | `override MODEL`, `override --clear` | the global override |
//! | `trip-breaker CHAT` | its restarts are used up |
//! | `slow-start CHAT`, `release CHAT` | its restarts wait between stop and start |
//! | `start fails\|dies\|unhealthy\|vanishes\|late CHAT` | how its next start ends |
//! | `starts fails\|dies\|unhealthy\|vanishes\|late\|well MODEL [CHAT]` | how all starts on a model end, of one chat or of all |
//! | `fail-next [CMD]`, `ignore-next [CMD]` | the next such request is refused, or dropped; nothing is done |
//! | `reply-never [CMD]`, `reply-cut BYTES [CMD]`, `close-without-reply [CMD]` | it is done, but the reply is lost |
//! | `after COUNT CMD LINE` | obeys LINE when so many more such requests are done, before the reply |
//! | `forget` | what was told of later requests is forgotten |
//! | `hang`, `backlog`, `resume` | accepts and never answers; accepts nothing, and lets connections block; neither |
//! | `open-socket` | the second half of a start-up that was paused before its socket |
//! | `recreate-sessions` | the second half of a start-up that was paused before its sessions |
//! | `shutdown`, `finish-shutdown` | removes the socket; saves and ends |
//! | `die` | ends at once, and leaves socket and file as they are |

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    reason = "a program for tests, which has files, sockets and a process of its own"
)]

mod clock;
mod control;
mod json;
mod registry;
mod server;
mod sessions;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use clap::Parser;

use crate::registry::Registry;
use crate::server::Daemon;
use crate::sessions::Sessions;

#[derive(Parser)]
struct Options {
    #[arg(long)]
    registry: PathBuf,
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    control: PathBuf,
    /// Chats that are live at start, with a turn behind them
    #[arg(long, value_name = "CHAT", allow_hyphen_values = true)]
    live: Vec<String>,
    /// Chats that are live at start, with no turn behind them
    #[arg(long, value_name = "CHAT", allow_hyphen_values = true)]
    young: Vec<String>,
    /// Reads the registry and starts the sessions, but opens the socket only when told to
    #[arg(long)]
    pause_start_up: bool,
    /// Reads the registry and opens the socket, but starts the sessions only when told to
    #[arg(long)]
    pause_sessions: bool,
    /// Ends as `die` does when stdin closes, so that no double outlives its test
    #[arg(long)]
    until_stdin_closes: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let mut sessions = Sessions::new(Registry::read(options.registry));
    for chat in options.live.iter().chain(&options.young) {
        anyhow::ensure!(sessions.is_registered(chat), "{chat} is not registered");
    }
    // Those that are live have a turn behind them, which ends when all have been started.
    let lines = |verb: &str, chats: &[String]| chats.iter().map(|chat| format!("{verb} {chat}")).collect::<Vec<_>>();
    sessions.to_recreate =
        [lines("young", &options.live), lines("young", &options.young), lines("turn-ends", &options.live)].concat();

    // The process is the daemon: it lives as long.
    let daemon: &'static Daemon = Box::leak(Box::new(Daemon::new(options.socket, sessions)));
    if !options.pause_sessions {
        control::obey(daemon, "recreate-sessions").map_err(anyhow::Error::msg)?;
    }
    let control = control::listen(&options.control).context("the control socket")?;
    if !options.pause_start_up {
        daemon.open().context("the socket")?;
    }
    if options.until_stdin_closes {
        thread::spawn(|| {
            drop(io::copy(&mut io::stdin(), &mut io::sink()));
            std::process::exit(1);
        });
    }
    writeln!(io::stdout(), "ready")?;

    control::serve(daemon, &control);
    server::remove_socket(&options.control)?;
    Ok(ExitCode::SUCCESS)
}
