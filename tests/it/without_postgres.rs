//! A policy whose registry is a table, in a build that reads files only.

use crate::support::{Sandbox, registry};

const POLICY: &str = r#"
[models]
allowed  = ["opus"]
fallback = "opus"

[registry]
postgres = "service=assistant"
table    = "public.sessions"
columns  = { chat_id = "id", model = "model" }
"#;

#[test]
fn a_registry_that_is_a_table_is_an_error_that_names_the_build_which_reads_it() {
    let sandbox = Sandbox::new(POLICY, &registry(&[("+1", "family", "haiku")]));
    let run = sandbox.run(&["--dry-run"]).expect(1);
    assert!(
        run.stderr.contains(
            "error[no-postgres]: the registry is the table sessions, and this build of reconcile reads only files"
        ),
        "{run:?}"
    );
    assert!(run.stderr.contains("hint: install a build with PostgreSQL: cargo install --path ."), "{run:?}");
    sandbox.run(&["check"]).expect(0);
    // On a file that is named, it is a policy like any other.
    sandbox.run(&["--dry-run", "--registry", "sessions.json"]).expect(0);
}
