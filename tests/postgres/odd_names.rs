//! Statements that `init --postgres` prints for names that SQL, or a terminal, would take for something else.

use crate::database::Database;
use crate::server::server;

/// Names of roles: quotes, backslashes, letters outside of ASCII, and what cannot be shown as it is.
const ROLES: [&str; 8] = [
    "a \"quoted\" one",
    "it's; DROP TABLE x; --",
    r"back\slash\0041",
    r"tab	and \ and \+000041",
    "two\nlines",
    "Zoë 家 🦀",
    "turned\u{202e}round 🦀 \"Zoë\"",
    "U&\"\u{7}\"",
];
const TABLE: &str = "CREATE SCHEMA \"sch\u{202e}em\"\"a\"; CREATE TABLE \"sch\u{202e}em\"\"a\".\"ta\\ble\n\"
    (id text PRIMARY KEY, \"mo\u{1b}d\\el\" text)";
const REGISTRY: &str = r#"
table   = "sch\u202eem\"a.ta\\ble\n"
columns = { chat_id = "id", model = "mo\u001bd\\el" }
"#;

#[test]
fn what_is_printed_for_a_role_and_a_table_of_any_name_gives_that_role_its_rights_on_that_table() {
    let database = Database::new(TABLE);
    let address = format!("{} dbname={}", server().address(), database.name);
    database.policy(&format!("[registry]\npostgres = \"{address}\"{REGISTRY}"));
    database.make_schema();
    let run = |role: &str| crate::support::finish(database.command(&["--allow-changes", "1"]).env("PGUSER", role));
    for (number, name) in ROLES.into_iter().enumerate() {
        // Roles are those of the server, which other tests share.
        let role = format!("{name} {}", database.name);
        let quoted = format!("\"{}\"", role.replace('"', "\"\""));
        database.execute(&format!("CREATE ROLE {quoted} LOGIN"));
        let refused = run(&role).expect(1);
        assert!(refused.stderr.contains("permission denied for schema"), "{role:?}: {refused:?}");
        let printed = database.run(&["init", "--postgres", "--grants", &role, "--grants-only"]).expect(0).stdout;
        assert!(!printed.contains(['\t', '\u{7}', '\u{1b}', '\u{202e}']), "{printed:?}");
        database.execute(&printed);
        // A model that is changed back again and again would be held.
        database.execute(&format!("INSERT INTO \"sch\u{202e}em\"\"a\".\"ta\\ble\n\" VALUES ('{number}', 'opus')"));
        let changed = run(&role).expect(0);
        assert_eq!(
            changed.summary(),
            "Applied: 1 changed, 0 restarted, 0 deferred, 0 failed.",
            "{role:?}: {changed:?}"
        );
    }
}
