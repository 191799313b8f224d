//! Runs over two thousand sessions that die, and gateways that die or are restarted under a run, at random moments. The seed
//! of the moments is shown; to have the same ones again, set SEED to it.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use reconcile::backend::openclaw::Scope;

use crate::openclaw_real::kit::{Kit, command, reconcile};
use crate::support::{Sandbox, needs};

const SESSIONS: usize = 2_000;
/// How often a run is killed, and how often a gateway.
const RUNS: u32 = 20;
const GATEWAYS: u32 = 5;

#[test]
#[ignore = "needs openclaw and a quarter of an hour: just openclaw"]
fn after_any_death_the_next_run_makes_all_sessions_what_the_policy_says() {
    needs(&["openclaw"]);
    let mut kit = Kit::start();
    let keys: Vec<String> = (0..SESSIONS).map(|number| format!("agent:main:telegram:direct:{number}")).collect();
    kit.sort_into("family", &keys.iter().map(String::as_str).collect::<Vec<_>>());
    let mut moments = Moments::seeded();
    // How long it takes when nothing dies.
    let sandbox = policy(&kit, "fake/small");
    let since = Instant::now();
    reconcile(&sandbox, &CONSENT).expect(0);
    let whole = since.elapsed();
    converge(&kit, &sandbox, "fake/small");
    tell(&format!("{SESSIONS} sessions take {} ms; the moments are those of SEED={}", whole.as_millis(), moments.seed));
    for death in 0..RUNS {
        let model = ["fake/big", "fake/small"][death as usize % 2];
        let sandbox = policy(&kit, model);
        let mut run = doomed(&sandbox);
        let pause = moments.within(whole);
        sleep(pause);
        // It may have ended already.
        let _ = run.kill();
        run.wait().unwrap();
        converge(&kit, &sandbox, model);
        tell(&format!("a run that was killed after {} ms was completed", pause.as_millis()));
    }
    for death in 0..=GATEWAYS {
        let model = ["fake/big", "fake/small"][death as usize % 2];
        let sandbox = policy(&kit, model);
        let mut run = doomed(&sandbox);
        let pause = moments.within(whole);
        sleep(pause);
        // The last one is restarted by its operator.
        let how = if death < GATEWAYS {
            kit.kill();
            "killed"
        } else {
            kit.stop();
            "stopped"
        };
        // All done, nothing done, or partly.
        assert!(matches!(run.wait().unwrap().code(), Some(0 | 1 | 4)));
        kit.start_again();
        converge(&kit, &sandbox, model);
        tell(&format!("a run whose gateway was {how} after {} ms was completed", pause.as_millis()));
    }
}

/// Random moments, which follow from a seed.
struct Moments {
    seed: u64,
    state: u64,
}

impl Moments {
    /// Those of the seed in the environment, else of one that differs each time.
    fn seeded() -> Self {
        let given = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one("moments"));
        Self { seed, state: seed }
    }

    /// The next one within this time.
    fn within(&mut self, whole: Duration) -> Duration {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = u32::try_from(self.state >> 40).unwrap();
        whole * bits / (1 << 24)
    }
}

/// Begins a run that will not be let end. What it has to say would drown what the test tells.
fn doomed(sandbox: &Sandbox) -> Child {
    command(sandbox, &CONSENT).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Every change of so many sessions is consented to.
const CONSENT: [&str; 2] = ["--allow-changes", "2000"];

/// A policy that gives all sessions one model.
fn policy(kit: &Kit, model: &str) -> Sandbox {
    kit.sandbox(&format!("[tiers]\nfamily = {model:?}\n"))
}

/// Runs once, after which every session has the model.
fn converge(kit: &Kit, sandbox: &Sandbox, model: &str) {
    let run = reconcile(sandbox, &CONSENT).expect(0);
    let listed = kit.connect(Scope::Read).unwrap().sessions().unwrap();
    let pins: BTreeSet<_> = listed.rows.iter().map(|row| row.pinned.as_deref()).collect();
    assert_eq!((listed.rows.len(), pins), (SESSIONS, [Some(model)].into()), "{}", run.summary());
    assert!(reconcile(sandbox, &["--dry-run"]).expect(0).summary().starts_with("No changes."));
}

/// Shows how far the test has come: not by a macro, whose output the test harness would keep to itself.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
