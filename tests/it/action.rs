//! The action for workflows on GitHub: its steps as a runner executes them, in a real repository.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

use crate::kits::{command, git};
use crate::support::{POLICY, Run, Sandbox, finish, registry};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn action() -> Yaml {
    YamlLoader::load_from_str(&file("action.yml")).unwrap().remove(0)
}

/// The inputs of the action, with their defaults.
fn inputs() -> BTreeMap<String, String> {
    let inputs = action()["inputs"].as_hash().unwrap().clone();
    let text = |yaml: &Yaml| yaml.as_str().unwrap().to_owned();
    inputs.iter().map(|(name, input)| (text(name), text(&input["default"]))).collect()
}

/// The repository of a policy as it is checked out for a pull request, beside the repository that it was cloned from.
fn checkout(base: &str) -> Sandbox {
    let sandbox = Sandbox::new(POLICY, &registry(&[("+16175550101", "family", "opus"), ("+16175550102", "bots", "")]));
    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    git(&sandbox, "", &["init", "--quiet", "--initial-branch=main", "origin"]).expect(0);
    sandbox.write("origin/policy.toml", base);
    sandbox.write("origin/registry.redacted.json", snapshot);
    git(&sandbox, "origin", &["add", "--all"]).expect(0);
    git(&sandbox, "origin", &["commit", "--quiet", "-m", "policy"]).expect(0);
    git(&sandbox, "", &["clone", "--quiet", "origin", "checkout"]).expect(0);
    // What the runner keeps for the steps of a job.
    fs::create_dir(sandbox.path("runner")).unwrap();
    sandbox
}

/// A step with these inputs, and the others by default.
pub(crate) fn prepared(sandbox: &Sandbox, directory: &str, title: &str, base: &str, given: &[(&str, &str)]) -> Command {
    let steps = action()["runs"]["steps"].as_vec().unwrap().clone();
    let step = steps.into_iter().find(|step| step["name"].as_str() == Some(title)).unwrap();
    assert_eq!(step["shell"].as_str(), Some("bash"));
    sandbox.write("runner/step", step["run"].as_str().unwrap());
    let script = sandbox.path("runner/step");
    let words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", script.to_str().unwrap()];
    let mut command = command(sandbox, directory, &words);
    for (name, path) in [("GITHUB_STEP_SUMMARY", "summary"), ("GITHUB_OUTPUT", "output"), ("RUNNER_TEMP", "")] {
        command.env(name, sandbox.path("runner").join(path));
    }
    let run = [("SERVER_URL", "https://example.org"), ("REPOSITORY", "o/r"), ("RUN_ID", "1")];
    command.envs(run.map(|(name, value)| (format!("GITHUB_{name}"), value)));
    command.env("GITHUB_BASE_REF", base).env("GITHUB_ACTION_PATH", env!("CARGO_MANIFEST_DIR"));
    let inputs = inputs();
    for (name, value) in step["env"].as_hash().into_iter().flatten() {
        let input = value.as_str().unwrap().strip_prefix("${{ inputs.").unwrap().strip_suffix(" }}").unwrap();
        let given = given.iter().find(|(name, _)| *name == input).map(|(_, value)| *value);
        command.env(name.as_str().unwrap(), given.unwrap_or(&inputs[input]));
    }
    command
}

fn step(sandbox: &Sandbox, title: &str, base: &str, given: &[(&str, &str)]) -> Run {
    finish(&mut prepared(sandbox, "checkout", title, base, given))
}

/// The key of the pseudonyms, as it stands in a secret.
fn key(sandbox: &Sandbox) -> String {
    sandbox.read("sessions.json.reconcile/redact.key").trim().to_owned()
}

#[test]
fn the_program_is_built_from_the_action_where_it_is_missing() {
    let sandbox = checkout(POLICY);
    fs::create_dir(sandbox.path("bin")).unwrap();
    sandbox.script("bin/cargo", "echo \"$*\" >> cargo.calls");
    step(&sandbox, "Install", "main", &[]).expect(0);
    assert!(!sandbox.path("checkout/cargo.calls").exists(), "it is there");
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    finish(prepared(&sandbox, "checkout", "Install", "main", &[]).env("PATH", path)).expect(0);
    let call = format!("install --locked --path {}\n", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(sandbox.read("checkout/cargo.calls"), call);
}

#[test]
fn mistakes_become_annotations() {
    let sandbox = checkout(POLICY);
    step(&sandbox, "Check", "main", &[]).expect(0);
    sandbox.write("checkout/policy.toml", POLICY.replace("\"haiku\"\n", "\"hiaku\"\n"));
    let refused = step(&sandbox, "Check", "main", &[]).expect(1);
    assert!(refused.stdout.contains("::error file=policy.toml,line=9,"), "{refused:#?}");
    sandbox.write("checkout/models.toml", POLICY);
    step(&sandbox, "Check", "main", &[("policy", "models.toml")]).expect(0);
}

#[test]
fn a_pull_request_is_told_what_it_does_and_then_the_whole_plan() {
    let sandbox = checkout(POLICY);
    let evil = "\n[sessions]\nrestart = [\"touch\", \"pwned\"]\nrunning = [\"touch\", \"pwned\"]\n";
    sandbox.write("checkout/policy.toml", POLICY.replace("family = \"sonnet\"", "family = \"opus\"") + evil);
    let key = key(&sandbox);
    let said = step(&sandbox, "Plan", "main", &[("redact-key", &key)]).expect(0);
    let summary = sandbox.read("runner/summary");
    let (change, plan) = summary.split_once("\n### The whole plan\n\n").unwrap();
    assert!(change.starts_with("<!-- reconcile -->\n**Policy: 1 to change, "), "{change}");
    assert!(plan.contains("**Plan: 1 to change, ") && plan.contains("haiku</code>"), "{plan}");
    assert!(!format!("{said:?}{summary}").contains("5550101"), "{said:#?}");
    assert!(!sandbox.path("checkout/pwned").exists());

    let output = sandbox.read("runner/output");
    let report = output.strip_prefix("comment=").unwrap().trim_end();
    assert_eq!(fs::read_to_string(report).unwrap(), summary);
    assert!(!sandbox.path("runner/redact.key").exists(), "the key is left behind");
}

#[test]
fn without_a_policy_or_a_branch_to_compare_with_there_is_the_plan() {
    let sandbox = checkout("nonsense = 1");
    sandbox.write("checkout/policy.toml", POLICY);
    let key = key(&sandbox);
    for base in ["main", "gone"] {
        step(&sandbox, "Plan", base, &[("redact-key", &key)]).expect(0);
        let summary = sandbox.read("runner/summary");
        let start = "<!-- reconcile -->\n**There is nothing to compare this policy with:** https://example.org/o/r/actions/runs/1\n";
        assert!(summary.starts_with(start) && summary.contains("**Plan: 2 to change, "), "{summary}");
        fs::remove_file(sandbox.path("runner/summary")).unwrap();
    }
    step(&sandbox, "Plan", "", &[("redact-key", &key)]).expect(0);
    let summary = sandbox.read("runner/summary");
    assert!(summary.starts_with("<!-- reconcile -->\n**Plan: 2 to change, "), "{summary}");
}

#[test]
fn a_refused_plan_is_told_of_and_a_bad_policy_fails_the_step() {
    let sandbox = checkout(POLICY);
    let key = key(&sandbox);
    sandbox.write("checkout/policy.toml", format!("{POLICY}\n[limits]\nmax_changes = 0\n"));
    step(&sandbox, "Plan", "main", &[("redact-key", &key)]).expect(0);
    assert!(sandbox.read("runner/summary").contains("**Refused:**"));

    sandbox.write("checkout/policy.toml", "nonsense = 1");
    step(&sandbox, "Plan", "main", &[("redact-key", &key)]).expect(1);
    let report =
        "<!-- reconcile -->\n**No plan could be made of this policy:** https://example.org/o/r/actions/runs/1\n";
    assert_eq!(sandbox.read("runner/reconcile.md"), report);
    assert!(!sandbox.path("runner/redact.key").exists(), "the key is left behind");

    // A policy that is a link to the key does not get it into the log.
    fs::remove_file(sandbox.path("checkout/policy.toml")).unwrap();
    symlink(sandbox.path("runner/redact.key"), sandbox.path("checkout/policy.toml")).unwrap();
    let said = step(&sandbox, "Plan", "main", &[("redact-key", &key)]).expect(1);
    assert!(!format!("{said:?}").contains(&key[..16]), "{said:#?}");
}

#[test]
fn no_input_becomes_part_of_a_script() {
    let action = action();
    assert_eq!(action["runs"]["using"].as_str(), Some("composite"));
    for step in action["runs"]["steps"].as_vec().unwrap() {
        let script = step["run"].as_str().unwrap();
        assert!(!script.contains("${{"), "{script}");
    }
    let plan = action["runs"]["steps"].as_vec().unwrap().last().unwrap();
    assert_eq!(plan["if"].as_str(), Some("inputs.redact-key != ''"), "a fork has no secret, and is only checked");
    let check = action["runs"]["steps"].as_vec().unwrap().iter().find(|step| step["name"].as_str() == Some("Check"));
    assert_eq!(check.unwrap()["if"].as_str(), Some("inputs.check == 'true'"));
}

#[test]
fn the_page_tells_of_every_input_with_its_default() {
    let page = file("docs/ci.md");
    let section = page.split("\n## ").find(|section| section.starts_with("In four lines\n")).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| `")).map(cells);
    let told: BTreeMap<_, _> = rows.map(|row| (row[1].clone(), row[2].clone())).collect();
    assert_eq!(told, inputs());

    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let steps = YamlLoader::load_from_str(yaml).unwrap().remove(0);
    assert_eq!(yaml.lines().count(), 4);
    let with = steps[1]["with"].as_hash().unwrap();
    assert!(with.keys().all(|name| inputs().contains_key(name.as_str().unwrap())), "{yaml}");
}
