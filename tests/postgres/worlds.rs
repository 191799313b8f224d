//! A law: on a table, a plan is the one of a file with the same sessions, for all types of columns.

use std::fmt::Write;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use crate::database::Database;

/// So many worlds of each kind of schema.
const WORLDS: usize = 25;

/// A kind of schema: its name, what makes the table, the ids that it can hold, and how its fields are reached.
struct Kind {
    name: &'static str,
    table: &'static str,
    ids: fn(usize) -> String,
    model: &'static str,
    insert: &'static str,
}

const PLAIN: &str = "\"model\"";
const INSERT: &str = "INSERT INTO sessions (id, model, tier, source, kind) VALUES ($id, $model, $tier, $source, $kind)";

/// Names that a database may compare otherwise than bytes: case, accents, blanks, wildcards and quotes.
const NASTY: [&str; 12] = ["a", "A", "ä", "a\u{308}", "%", "_", "\\", "'", "a'b\"c", "🦀", "a b", "ß"];

fn nasty(number: usize) -> String {
    NASTY.get(number).map_or_else(|| format!("chat {number}"), ToString::to_string)
}

fn plain(number: usize) -> String {
    format!("+{number}")
}

/// All of one case and without accents, for what takes other names for the same.
fn distinct(number: usize) -> String {
    format!("d{number}%_")
}

fn uuid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn number(number: usize) -> String {
    number.to_string()
}

const FIELDS: &str = "tier text, source text, kind text";
const KINDS: [Kind; 13] = [
    Kind { name: "text", table: "CREATE TABLE sessions (id text PRIMARY KEY, model text, FIELDS)", ids: nasty, model: PLAIN, insert: INSERT },
    Kind {
        name: "varchar",
        table: "CREATE TABLE sessions (id varchar(40) PRIMARY KEY, model varchar(20), FIELDS)",
        ids: nasty,
        model: PLAIN,
        insert: INSERT,
    },
    Kind { name: "char", table: "CREATE TABLE sessions (id char(40) PRIMARY KEY, model char(20), FIELDS)", ids: nasty, model: PLAIN, insert: INSERT },
    Kind {
        name: "citext",
        table: "CREATE EXTENSION citext; CREATE TABLE sessions (id citext PRIMARY KEY, model citext, tier citext, source citext, kind citext)",
        ids: distinct,
        model: PLAIN,
        insert: INSERT,
    },
    Kind {
        name: "nondeterministic collation",
        table: "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
                CREATE TABLE sessions (id text COLLATE loose PRIMARY KEY, model text COLLATE loose,
                    tier text COLLATE loose, source text COLLATE loose, kind text COLLATE loose)",
        ids: distinct,
        model: PLAIN,
        insert: INSERT,
    },
    Kind { name: "uuid", table: "CREATE TABLE sessions (id uuid PRIMARY KEY, model text, FIELDS)", ids: uuid, model: PLAIN, insert: INSERT },
    Kind { name: "bigint", table: "CREATE TABLE sessions (id bigint PRIMARY KEY, model text, FIELDS)", ids: number, model: PLAIN, insert: INSERT },
    Kind {
        name: "enum",
        table: "CREATE TYPE model AS ENUM ('opus', 'Opus', 'sonnet', 'haiku', 'claude-opus', 'gone', 'o_us', '%', '');
                CREATE TABLE sessions (id text PRIMARY KEY, model model, FIELDS)",
        ids: nasty,
        model: PLAIN,
        insert: INSERT,
    },
    Kind {
        name: "domain",
        table: "CREATE DOMAIN name_of_model AS varchar(30); CREATE TABLE sessions (id text PRIMARY KEY, model name_of_model, FIELDS)",
        ids: nasty,
        model: PLAIN,
        insert: INSERT,
    },
    Kind {
        name: "jsonb",
        table: "CREATE TABLE sessions (id text PRIMARY KEY, settings jsonb, FIELDS)",
        ids: plain,
        model: "{ column = \"settings\", path = [\"model\"] }",
        insert: "INSERT INTO sessions (id, settings, tier, source, kind)
                 VALUES ($id, jsonb_build_object('model', $model::text, 'other', 7), $tier, $source, $kind)",
    },
    Kind {
        name: "nested jsonb",
        table: "CREATE TABLE sessions (id text PRIMARY KEY, settings jsonb, FIELDS)",
        ids: nasty,
        model: "{ column = \"settings\", path = [\"a'b\", \"\\\\\"] }",
        insert: "INSERT INTO sessions (id, settings, tier, source, kind)
                 VALUES ($id, CASE WHEN $model IS NOT NULL THEN jsonb_build_object(E'a\\'b', jsonb_build_object(E'\\\\', $model::text)) END,
                         $tier, $source, $kind)",
    },
    Kind {
        name: "view",
        table: "CREATE TABLE rows (id text PRIMARY KEY, model text, FIELDS, deleted_at date);
                CREATE VIEW sessions AS SELECT id, model, tier, source, kind FROM rows WHERE deleted_at IS NULL;
                INSERT INTO rows VALUES ('deleted', 'opus', 'bots', 'x', 'x', '2026-01-01')",
        ids: nasty,
        model: PLAIN,
        insert: INSERT,
    },
    Kind {
        name: "partitions",
        table: "CREATE TABLE sessions (id text PRIMARY KEY, model text, FIELDS) PARTITION BY HASH (id);
                CREATE TABLE half PARTITION OF sessions FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                CREATE TABLE other PARTITION OF sessions FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        ids: nasty,
        model: PLAIN,
        insert: INSERT,
    },
];

const MODELS: [&str; 9] = ["opus", "sonnet", "haiku", "Opus", "claude-opus", "gone", "o_us", "%", ""];
const TIERS: [&str; 6] = ["admin", "family", "Family", "fämily", "_", ""];
const SOURCES: [&str; 5] = ["discord", "Discord", "signal", "%", ""];

#[derive(Clone, Debug)]
struct Session {
    model: Option<&'static str>,
    tier: Option<&'static str>,
    source: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct World {
    sessions: Vec<Session>,
    existing: &'static str,
    fallback: &'static str,
    tiers: Vec<(&'static str, &'static str)>,
    rules: Vec<(&'static str, &'static str, &'static str)>,
    overrides: Vec<(usize, Option<&'static str>)>,
}

fn worlds() -> impl Strategy<Value = World> {
    let allowed = || select(&["opus", "sonnet", "haiku"][..]);
    let field = |values: &'static [&'static str]| proptest::option::weighted(0.9, select(values));
    let session = (field(&MODELS), field(&TIERS), field(&SOURCES));
    let session = session.prop_map(|(model, tier, source)| Session { model, tier, source });
    let globs = select(&["*", "?", "a*", "%", "*_*", "+1", "\\", "*\\*", "[a]", "d*%?", "00000000-*", "1?"][..]);
    let rule = (globs, select(&SOURCES[..4]), allowed());
    (
        proptest::collection::vec(session, 0..14),
        select(&["replace", "keep"][..]),
        allowed(),
        proptest::collection::btree_map(select(&TIERS[..5]), allowed(), 0..4),
        proptest::collection::vec(rule, 0..4),
        proptest::collection::btree_map(0..14_usize, proptest::option::weighted(0.8, allowed()), 0..4),
    )
        .prop_map(|(sessions, existing, fallback, tiers, rules, overrides)| World {
            sessions,
            existing,
            fallback,
            tiers: tiers.into_iter().collect(),
            rules,
            overrides: overrides.into_iter().collect(),
        })
}

impl World {
    fn policy(&self, kind: &Kind, database: &Database) -> String {
        let mut text = format!(
            "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = {:?}\naliases = {{ claude-opus = \"opus\" }}\n",
            self.fallback
        );
        text += "[limits]\nmax_changes = 1000\n[tiers]\n";
        for (tier, model) in &self.tiers {
            writeln!(text, "{tier:?} = {model:?}").unwrap();
        }
        text += "[chats]\n";
        for (number, model) in &self.overrides {
            let setting = model.map_or("{ managed = false }".to_owned(), |model| format!("{model:?}"));
            writeln!(text, "{} = {setting}", json!((kind.ids)(*number))).unwrap();
        }
        for (chat, source, model) in &self.rules {
            writeln!(text, "[[rules]]\nchat = {chat:?}\nsource = {source:?}\nmodel = {model:?}").unwrap();
        }
        let columns = format!(
            "chat_id = \"id\"\nmodel = {}\ntier = \"tier\"\nsource = \"source\"\ntype = \"kind\"\n",
            kind.model
        );
        let registry = database
            .registry(&columns)
            .replace("[registry.columns]", &format!("existing = {:?}\n[registry.columns]", self.existing));
        text + &registry
    }

    fn entries(&self, kind: &Kind) -> Value {
        let entry = |session: &Session| {
            let fields = [
                ("model", session.model),
                ("tier", session.tier),
                ("source", session.source),
                ("type", Some("individual")),
            ];
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
            Value::Object(fields.collect::<Map<_, _>>())
        };
        let entries = self.sessions.iter().enumerate().map(|(number, session)| ((kind.ids)(number), entry(session)));
        Value::Object(entries.collect())
    }

    fn statements(&self, kind: &Kind) -> String {
        let literal = |value: Option<&str>| {
            value.map_or("NULL".to_owned(), |value| format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
        };
        let row = |(number, session): (usize, &Session)| {
            let fields = [
                ("$id", Some((kind.ids)(number))),
                ("$model", session.model.map(str::to_owned)),
                ("$tier", session.tier.map(str::to_owned)),
                ("$source", session.source.map(str::to_owned)),
                ("$kind", Some("individual".to_owned())),
            ];
            fields
                .into_iter()
                .fold(format!("{};", kind.insert), |text, (name, value)| text.replace(name, &literal(value.as_deref())))
        };
        let rows: String = self.sessions.iter().enumerate().map(row).collect();
        format!("DELETE FROM sessions; {rows}")
    }
}

#[test]
fn a_plan_on_a_table_is_the_plan_on_a_file_of_the_same_sessions() {
    let mut changed = 0;
    for kind in &KINDS {
        let database = Database::new(&kind.table.replace("FIELDS", FIELDS));
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        for number in 0..WORLDS {
            let world = worlds().new_tree(&mut runner).unwrap().current();
            database.sandbox.write("policy.toml", world.policy(kind, &database));
            database.sandbox.write("sessions.json", world.entries(kind).to_string());
            database.execute(&world.statements(kind));
            let of_table = database.plan();
            let run = database.run(&["--dry-run", "--registry", "sessions.json", "--format", "json"]);
            let of_file: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
            assert_eq!(of_table, of_file, "{}, world {number}: {world:#?}", kind.name);
            changed += of_table["summary"]["changed"].as_u64().unwrap();
        }
    }
    assert!(changed > 1000, "only {changed} changes in all worlds");
}
