//! How long a dry run and an apply take over two thousand sessions, beside what the gateway itself takes: the figures of
//! `docs/performance.md`. Nothing is asserted of them.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::Client;
use crate::openclaw_real::kit::{Kit, TOKEN, command, reconcile};
use crate::support::needs;

const SESSIONS: usize = 2_000;
/// The sessions that an apply changes.
const CHANGED: u16 = 200;
const ROUNDS: usize = 9;

#[test]
#[ignore = "needs openclaw and a machine at rest: just openclaw-figures"]
fn a_dry_run_and_an_apply_beside_what_the_gateway_takes() {
    needs(&["openclaw"]);
    let kit = Kit::start();
    let keys: Vec<String> = (0..SESSIONS).map(|number| format!("agent:main:telegram:direct:{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    kit.sort_into("friends", &keys[..usize::from(CHANGED)]);
    kit.sort_into("family", &keys[usize::from(CHANGED)..]);
    let policy = |friends: &str| kit.sandbox(&format!("[tiers]\nfamily = \"fake/small\"\nfriends = {friends:?}\n"));
    let in_sync = policy("fake/small");
    reconcile(&in_sync, &["--allow-changes", "2000"]).expect(0);
    // The gateway builds the rows of patched sessions anew at the next list.
    list(&kit);

    let (mut bare, mut dry_run, mut by_its_own_program, mut applied) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut memory = 0;
    for round in 0..ROUNDS {
        bare.push(timed(|| list(&kit)));
        dry_run.push(timed(|| _ = reconcile(&in_sync, &["--dry-run"]).expect(0)));
        by_its_own_program.push(timed(|| call(&kit)));
        memory = memory.max(private_memory(command(&in_sync, &["--dry-run"])));
        let sandbox = policy(["fake/big", "fake/small"][round % 2]);
        let run = reconcile(&sandbox, &["-v", "--allow-changes", "2000"]).expect(0);
        let attempts = run.stderr.lines().find(|line| line.contains(&format!("tried sessions: {CHANGED}"))).unwrap();
        applied.push(in_parentheses(attempts));
        list(&kit);
    }
    let (bare, dry_run) = (median(bare), median(dry_run));
    tell(&format!("a bare sessions.list of {SESSIONS} sessions: {bare:.1?}"));
    tell(&format!("a dry run: {dry_run:.1?}, {:.2} times that", dry_run.as_secs_f64() / bare.as_secs_f64()));
    tell(&format!("openclaw gateway call sessions.list: {:.1?}", median(by_its_own_program)));
    let applied = median(applied);
    tell(&format!(
        "an apply of {CHANGED}: {applied:.1?} from the first request to the last reply, {:.1?} each",
        applied / u32::from(CHANGED)
    ));
    tell(&format!("private memory of a dry run: {:.1} MB", f64::from(memory) / 1024.0));
}

/// One list by a client that does nothing else.
fn list(kit: &Kit) {
    let mut client = Client::connect(&kit.url(), TOKEN, &["operator.read"]);
    let reply = client.call("sessions.list", &json!({ "limit": 100_000 }));
    assert_eq!(reply["payload"]["sessions"].as_array().unwrap().len(), SESSIONS);
}

/// One list by the program of OpenClaw.
fn call(kit: &Kit) {
    let arguments =
        ["gateway", "call", "sessions.list", "--json", "--timeout", "60000", "--params", r#"{"limit":100000}"#];
    let output = kit.openclaw(&arguments).args(["--token", TOKEN, "--url", &kit.url()]).output().unwrap();
    assert!(output.status.success() && output.stdout.len() > SESSIONS, "{output:?}");
}

fn timed(work: impl FnOnce()) -> Duration {
    let since = Instant::now();
    work();
    since.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The length of time at the end of a line of `-v`, such as `(1.5s)` or `(84.2ms)`.
fn in_parentheses(line: &str) -> Duration {
    let text = line.rsplit_once('(').unwrap().1.trim_end_matches(')');
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap(), 1.0),
    };
    Duration::from_secs_f64(number.parse::<f64>().unwrap() * unit)
}

/// The most private memory that a command was seen to have, in KiB.
fn private_memory(mut command: Command) -> u32 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id())).unwrap_or_default();
        let private = rollup.lines().filter(|line| line.starts_with("Private_"));
        let kibibytes = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
        most = most.max(kibibytes.sum());
        sleep(Duration::from_millis(1));
    }
    most
}

/// Shows a figure: not by a macro, whose output the test harness would keep to itself.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
