//! The second socket, on which a test tells the double what shall happen and asks what did.
//!
//! One line in, one line of JSON out. `tests/double/process.rs` lists the lines.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use jiff::SignedDuration;

use crate::json::Json;
use crate::server::{Daemon, Fault, Hook, State, remove_socket};
use crate::sessions::{Cause, Mishap, Sessions};

/// Obeys until the double has finished its shutdown.
pub fn serve(daemon: &'static Daemon, listener: &UnixListener) {
    for stream in listener.incoming().flatten() {
        // A test that has gone away needs no answer.
        drop(converse(daemon, &stream));
        if daemon.lock().finished {
            return;
        }
    }
}

fn converse(daemon: &'static Daemon, mut stream: &UnixStream) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer = match line.trim() {
        "open-socket" => daemon.open().map(|()| Json::from("done")).map_err(|error| error.to_string()),
        line => obey(daemon, line),
    };
    let answer = answer.unwrap_or_else(|reason| Json::object([("error", reason.into())]));
    stream.write_all((answer.on_one_line() + "\n").as_bytes())
}

pub fn obey(daemon: &Daemon, line: &str) -> Result<Json, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["shutdown"] => text(daemon.close())?,
        ["die"] => std::process::exit(1),
        ["backlog"] => backlog(daemon)?,
        ["after", count, command, ..] => {
            let (command, count) = (command.to_owned(), number(count)?);
            let line = words.get(3..).unwrap_or_default().join(" ");
            daemon.lock().hooks.push(Hook { command, count, line });
        }
        _ => {
            let answer = change(&mut daemon.lock(), &words)?;
            daemon.announce_change();
            return Ok(answer);
        }
    }
    Ok("done".into())
}

fn change(state: &mut State, words: &[&str]) -> Result<Json, String> {
    let sessions = &mut state.sessions;
    match *words {
        ["requests"] => return Ok(Json::List(state.requests.clone())),
        ["sessions"] => return Ok(sessions.truth()),

        ["advance", seconds] => sessions.clock.advance(text(SignedDuration::try_from_secs_f64(number(seconds)?))?),
        ["flush"] => {
            let held = std::mem::take(&mut sessions.registry.held);
            sessions.registry.save_now(&sessions.clock);
            sessions.registry.held = held;
        }
        ["hold-saves"] => sessions.registry.held = true,
        ["let-saves"] => sessions.registry.held = false,

        ["override", "--clear"] => sessions.set_override(None, ""),
        ["override", model] => sessions.set_override(Some(model), "manual"),
        ["slow-start", chat] => sessions.slow_down(chat),
        ["start", how, chat] => sessions.next_start_goes_wrong(chat, mishap(how)?),
        ["starts", "well", model] => sessions.starts_on(model, None, None),
        ["starts", "well", model, chat] => sessions.starts_on(model, Some(chat), None),
        ["starts", how, model] => sessions.starts_on(model, None, Some(mishap(how)?)),
        ["starts", how, model, chat] => sessions.starts_on(model, Some(chat), Some(mishap(how)?)),
        ["recreate-sessions"] => {
            for line in std::mem::take(&mut sessions.to_recreate) {
                change_chat(sessions, &line.split_whitespace().collect::<Vec<_>>())?;
            }
        }
        ["check-health"] => sessions.check_health(),

        ["fail-next", ref command @ ..] => fault(state, Fault::Fail, command),
        ["ignore-next", ref command @ ..] => fault(state, Fault::Ignore, command),
        ["reply-never", ref command @ ..] => fault(state, Fault::Never, command),
        ["close-without-reply", ref command @ ..] => fault(state, Fault::Cut(0), command),
        ["reply-cut", bytes, ref command @ ..] => fault(state, Fault::Cut(number(bytes)?), command),

        ["forget"] => {
            state.faults.clear();
            state.hooks.clear();
        }
        ["hang"] => state.hang = true,
        ["resume"] => {
            state.hang = false;
            state.backlog = None;
        }
        ["finish-shutdown"] => {
            sessions.shut_down();
            state.finished = true;
        }
        _ => change_chat(sessions, words)?,
    }
    Ok("done".into())
}

/// What is only possible for a chat that is registered, or live.
fn change_chat(sessions: &mut Sessions, words: &[&str]) -> Result<(), String> {
    let possible = match *words {
        ["live", chat] => sessions.start(chat, Cause::Request) && sessions.end_turn(chat, None),
        ["young", chat] => sessions.start(chat, Cause::Request),
        ["wake", chat] => sessions.start(chat, Cause::Message),
        ["new", chat, tier] => sessions.start_new(chat, tier, true),
        ["new", chat, tier, "unlisted"] => sessions.start_new(chat, tier, false),
        ["tier", chat, tier] => sessions.set_tier(chat, tier),
        ["kill", chat] => sessions.stop(chat),
        ["turn-begins", chat, id] => sessions.begin_turn(chat, id),
        ["recover", chat] => sessions.recover(chat),
        ["turn-fails", chat] => sessions.fail_turn(chat),
        ["turn-ends", chat] => sessions.end_turn(chat, None),
        ["turn-ends", chat, id] => sessions.end_turn(chat, Some(id)),
        ["busy", chat] => sessions.set_busy(chat, true, 0),
        ["busy", chat, "queue", queue] => sessions.set_busy(chat, true, number(queue)?),
        ["queue", chat, queue] => sessions.set_busy(chat, false, number(queue)?),
        ["touch", chat] => sessions.touch(chat),
        ["trip-breaker", chat] => sessions.trip_breaker(chat),
        ["release", chat] => sessions.release(chat),
        _ => return Err(format!("unknown: {}", words.join(" "))),
    };
    if possible { Ok(()) } else { Err(format!("no such chat: {}", words.join(" "))) }
}

fn fault(state: &mut State, fault: Fault, command: &[&str]) {
    state.faults.push((command.first().map(|&command| command.to_owned()), fault));
}

fn mishap(how: &str) -> Result<Mishap, String> {
    match how {
        "fails" => Ok(Mishap::Fails),
        "dies" => Ok(Mishap::Dies),
        "unhealthy" => Ok(Mishap::Unhealthy),
        "late" => Ok(Mishap::Late),
        "vanishes" => Ok(Mishap::Vanishes),
        _ => Err(format!("no way for a start to go wrong: {how}")),
    }
}

/// Accepts nothing from now on, and fills the queue of connections, so that another one blocks. No other client may be
/// connecting at this moment.
fn backlog(daemon: &Daemon) -> Result<(), String> {
    let limit: usize = number(text(fs::read_to_string("/proc/sys/net/core/somaxconn"))?.trim())?;
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    text(rustix::process::setrlimit(rustix::process::Resource::Nofile, files))?;
    if files.maximum.is_some_and(|maximum| maximum < limit as u64 + 64) {
        return Err("too few files may be open".to_owned());
    }
    daemon.lock().backlog = Some(Vec::new());
    // The first is taken by the thread that already waits for one; Linux lets one more than the limit queue.
    let queue: Result<_, _> = (0..limit + 2).map(|_| UnixStream::connect(&daemon.socket)).collect();
    daemon.lock().backlog = Some(text(queue)?);
    Ok(())
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("no number: {word}"))
}

fn text<T, E: ToString>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

pub fn listen(path: &Path) -> io::Result<UnixListener> {
    remove_socket(path)?;
    UnixListener::bind(path)
}
