//! `reconcile init`: a first policy, in a file that was not there.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{POLICY, Sandbox};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new("", "");
    for name in ["policy.toml", "sessions.json"] {
        fs::remove_file(sandbox.path(name)).unwrap();
    }
    sandbox
}

#[test]
fn it_writes_a_policy_without_mistakes_and_says_what_to_do_next() {
    let sandbox = sandbox();
    let run = sandbox.run(&["init"]).expect(0);
    assert!(run.stdout.starts_with("Wrote policy.toml. ") && run.stderr.is_empty(), "{run:#?}");
    let next = run.stdout.lines().skip(1).map(|line| line.split("    ").next().unwrap().trim());
    assert_eq!(next.collect::<Vec<_>>(), ["reconcile check", "reconcile --dry-run"]);
    let check = sandbox.run(&["check", "--deny", "warnings"]).expect(0);
    assert_eq!(check.stdout, "policy.toml: no mistakes\n");
    // The first launch creates the registry that it names.
    sandbox.run(&["launch", "+1", "--tier", "bots", "--", "true"]).expect(0);
    assert_eq!(sandbox.model("+1").as_deref(), Some("haiku"));
    assert!(sandbox.run(&["--dry-run"]).expect(0).summary().starts_with("No changes."));
}

#[test]
fn what_stands_in_its_comments_is_valid_as_well() {
    let sandbox = sandbox();
    sandbox.run(&["init"]).expect(0);
    let lines = sandbox.read("policy.toml");
    let uncommented = lines.lines().skip(2).map(|line| line.strip_prefix("# ").unwrap_or(line));
    let policy: Vec<&str> = uncommented.collect();
    assert!(policy.contains(&"source = \"discord\""), "{policy:?}");
    sandbox.write("policy.toml", policy.join("\n"));
    let check = sandbox.run(&["check"]).expect(0);
    assert!(check.stdout.contains("no mistakes, 0 warnings") || !check.stdout.contains("warning["), "{check:#?}");
}

#[test]
fn a_file_that_is_there_is_never_touched() {
    for make in [
        |sandbox: &Sandbox| sandbox.write("policy.toml", POLICY),
        |sandbox: &Sandbox| sandbox.write("policy.toml", ""),
        |sandbox: &Sandbox| symlink("nowhere", sandbox.path("policy.toml")).unwrap(),
        |sandbox: &Sandbox| fs::create_dir(sandbox.path("policy.toml")).unwrap(),
    ] {
        let sandbox = sandbox();
        make(&sandbox);
        let before = sandbox.read("policy.toml");
        let run = sandbox.run(&["init"]).expect(1);
        assert!(
            run.stderr.contains("policy.toml already exists, and is not overwritten") && run.stdout.is_empty(),
            "{run:#?}"
        );
        assert_eq!(sandbox.read("policy.toml"), before);
        assert!(!sandbox.path("nowhere").exists());
    }
    let run = sandbox().run(&["init", "--policy", "no/policy.toml"]).expect(1);
    assert!(run.stderr.contains("cannot create no/policy.toml: no such file or directory"), "{run:#?}");
}

#[test]
fn with_a_registry_it_describes_that() {
    let registry = json!({
        "+1": { "tier": "family", "model": "sonnet" }, "+2": { "tier": "family", "model": "sonnet" },
        "+3": { "tier": "family", "model": "opus", "contact_name": "Dee" },
    });
    for policy in ["policy.toml", "policies/chats.toml"] {
        let sandbox = sandbox();
        fs::create_dir(sandbox.path("policies")).unwrap();
        sandbox.write("sessions.json", registry.to_string());
        let run = sandbox.run(&["init", "--registry", "sessions.json", "--policy", policy]).expect(0);
        assert!(run.stdout.starts_with(&format!("Wrote {policy}. It describes the registry as it is")), "{run:#?}");
        let written = sandbox.read(policy);
        assert!(written.contains("family = \"sonnet\"") && written.contains("\"+3\" = \"opus\""), "{written}");
        let run = sandbox.run(&["--dry-run", "--policy", policy]).expect(0);
        assert_eq!(run.summary(), "No changes. 3 in sync.");
    }
    let sandbox = sandbox();
    let run = sandbox.run(&["init", "--registry", "nowhere.json"]).expect(1);
    assert!(run.stderr.contains("there is no registry nowhere.json") && !sandbox.path("policy.toml").exists());
}

#[test]
fn the_rights_on_a_table_begin_with_its_schema() {
    let table = |name: &str| {
        format!(
            "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n[registry]\npostgres = \"dbname=assistant\"\ntable = {name:?}\n\
             [registry.columns]\nchat_id = \"id\"\nmodel = \"model\"\n"
        )
    };
    let grants = |name: &str| {
        let sandbox = Sandbox::new(&table(name), "");
        let printed = sandbox.run(&["init", "--postgres", "--grants", "runner"]).expect(0).stdout;
        printed.lines().filter(|line| line.starts_with("GRANT")).map(str::to_owned).collect::<Vec<_>>()
    };
    let in_schema = grants("app.sessions");
    assert!(in_schema.contains(&"GRANT USAGE ON SCHEMA \"app\" TO \"runner\";".to_owned()), "{in_schema:?}");
    // One without a schema is found by the role's own search path.
    assert_eq!(grants("sessions").iter().filter(|line| line.contains("USAGE")).count(), 1);
}
