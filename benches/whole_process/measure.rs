//! Runs processes, in turns, and measures them from outside.

use std::fs;
use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// In seconds. What takes longer is run once.
const SLOW: f64 = 10.0;

/// In seconds. Who needs less is watched so often.
const SHORT: f64 = 0.1;
const CLOSER_LOOKS: usize = 10;

/// One way to do the work.
pub struct Contender {
    /// What the tables call it.
    pub name: &'static str,
    /// The program and its arguments.
    pub argv: Vec<String>,
}

/// What one contender needed.
pub struct Measured {
    /// In seconds, sorted.
    times: Vec<f64>,
    /// In seconds, of one run: user and system, all threads.
    pub cpu: f64,
    /// The most memory that was resident, mapped files included, in kilobytes.
    pub peak: u64,
    /// The same of memory that is no file's.
    pub private: u64,
}

impl Measured {
    pub fn median(&self) -> f64 {
        self.times[self.times.len() / 2]
    }

    pub fn minimum(&self) -> f64 {
        self.times[0]
    }
}

/// All contenders on one job.
pub struct Cell {
    pub job: String,
    pub sessions: usize,
    /// `None`: it is not installed.
    pub measured: Vec<(&'static str, Option<Measured>)>,
}

impl Cell {
    pub fn of(&self, name: &str) -> Option<&Measured> {
        self.measured.iter().find(|(contender, _)| *contender == name)?.1.as_ref()
    }
}

/// Runs the contenders in turns. Before each run `again` makes everything as it was.
pub fn measure(
    job: &str,
    sessions: usize,
    contenders: &[Contender],
    rounds: usize,
    again: &dyn Fn() -> Result<()>,
) -> Result<Cell> {
    eprintln!("{job}, {sessions}: {rounds} rounds");
    let mut measured = Vec::new();
    for contender in contenders {
        again()?;
        let mut first = watched(contender)?;
        // What is over at once is easily missed.
        for _ in 0..CLOSER_LOOKS {
            let Some(first) = first.as_mut().filter(|first| first.minimum() < SHORT) else { break };
            again()?;
            if let Some(next) = watched(contender)? {
                (first.peak, first.private) = (first.peak.max(next.peak), first.private.max(next.private));
            }
        }
        measured.push((contender.name, first));
    }
    for round in 0..rounds {
        for (contender, (_, measured)) in contenders.iter().zip(&mut measured) {
            let Some(measured) = measured.as_mut().filter(|measured| measured.times.iter().all(|time| *time < SLOW))
            else {
                continue;
            };
            again()?;
            let (began, cpu) = (Instant::now(), cpu_of_children()?);
            let status = command(contender).status()?;
            let time = began.elapsed().as_secs_f64();
            ensure!(status.success(), "{} ended with {status}", contender.name);
            let cpu = cpu_of_children()? - cpu;
            // The first was for warming up.
            if round == 0 {
                (measured.times, measured.cpu) = (Vec::new(), 0.0);
            }
            measured.times.push(time);
            measured.cpu += cpu;
        }
    }
    for measured in measured.iter_mut().filter_map(|(_, measured)| measured.as_mut()) {
        measured.cpu /= measured.times.len() as f64;
        measured.times.sort_by(f64::total_cmp);
    }
    Ok(Cell { job: job.to_owned(), sessions, measured })
}

/// A run of which the memory is watched.
fn watched(contender: &Contender) -> Result<Option<Measured>> {
    let (began, cpu) = (Instant::now(), cpu_of_children()?);
    let mut child = match command(contender).spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        spawned => spawned?,
    };
    let (mut peak, mut private) = (0, 0);
    let status = loop {
        if let Some((all, anonymous)) = memory(&child) {
            (peak, private) = (peak.max(all), private.max(anonymous));
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // What ends soon is watched closely.
        if began.elapsed() > Duration::from_millis(20) {
            sleep(Duration::from_millis(1));
        }
    };
    ensure!(status.success(), "{} ended with {status}", contender.name);
    Ok(Some(Measured { times: vec![began.elapsed().as_secs_f64()], cpu: cpu_of_children()? - cpu, peak, private }))
}

fn command(contender: &Contender) -> Command {
    let mut command = Command::new(&contender.argv[0]);
    command.args(&contender.argv[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The most that was resident so far, and what is anonymous now.
fn memory(child: &Child) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    Some((field("VmHWM:")?, field("RssAnon:")?))
}

/// In seconds, of all children that have ended. The kernel counts in hundredths.
fn cpu_of_children() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("a strange /proc/self/stat")?;
    let ticks = |index| fields.split_whitespace().nth(index).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (ticks(13), ticks(14));
    Ok((user.context("no time of children")? + system.context("no time of children")?) / 100.0)
}

/// What it ran on, and how busy that was.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!(
        "{} cores of {}, Linux {}; load average at the end {}.",
        cores,
        model.trim_start_matches([':', '\t', ' ']),
        kernel.trim(),
        load.join(" ")
    )
}
