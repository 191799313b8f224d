//! The example does what it says.

use std::fs;
use std::path::Path;

use crate::database::Database;

#[test]
fn the_example_plans_and_applies_as_it_is() {
    let example = |name: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/postgres").join(name)).unwrap()
    };
    let database = Database::new(&example("sessions.sql"));
    database.sandbox.write("policy.toml", example("policy.toml"));
    let address = database.address();
    let plan = database.run(&["--dry-run", "--connect", &address]).expect(0);
    assert!(plan.summary().starts_with("Plan: 2 to change"), "{plan:?}");
    database.make_schema();
    database.run(&["--connect", &address]).expect(0);
    let settings = database.texts("SELECT settings FROM sessions ORDER BY id");
    assert_eq!(settings[1], r#"{"llm": {"model": "sonnet", "temperature": 1}}"#);
}
