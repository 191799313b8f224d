//! Runs over two thousand sessions that die, and gateways that die under a run.

use std::collections::BTreeSet;
use std::io::Write;
use std::thread::sleep;
use std::time::Instant;

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
    // How long it takes when nothing dies.
    let since = Instant::now();
    converge(&kit, &policy(&kit, "fake/small"), "fake/small");
    let whole = since.elapsed();
    tell(&format!("{SESSIONS} sessions take {} ms", whole.as_millis()));
    for death in 0..RUNS {
        let model = ["fake/big", "fake/small"][death as usize % 2];
        let sandbox = policy(&kit, model);
        let mut run = command(&sandbox, &CONSENT).spawn().unwrap();
        let pause = whole * death / RUNS;
        sleep(pause);
        // It may have ended already.
        let _ = run.kill();
        run.wait().unwrap();
        converge(&kit, &sandbox, model);
        tell(&format!("a run that was killed after {} ms was completed", pause.as_millis()));
    }
    for death in 0..GATEWAYS {
        let model = ["fake/big", "fake/small"][death as usize % 2];
        let sandbox = policy(&kit, model);
        let mut run = command(&sandbox, &CONSENT).spawn().unwrap();
        let pause = whole * (death + 1) / (GATEWAYS + 1);
        sleep(pause);
        kit.kill();
        // All done, nothing done, or partly.
        assert!(matches!(run.wait().unwrap().code(), Some(0 | 1 | 4)));
        kit.start_again();
        converge(&kit, &sandbox, model);
        tell(&format!("a run whose gateway was killed after {} ms was completed", pause.as_millis()));
    }
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
