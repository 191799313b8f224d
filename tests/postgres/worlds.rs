//! Laws, for all types of columns. On a table, a plan is the one of a file with the same sessions: of all of them or of some,
//! and whether the database says which rows are looked at or all of them are read. Where it is applied, only models change, and
//! nothing is left to do.

use std::fmt::Write;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use crate::database::Database;
use crate::support::Run;

/// So many worlds of each kind of schema, unless the variable `WORLDS` says how many.
const WORLDS: usize = 25;
/// The end of a policy that is not compiled, because it compares too much; no session is from any of these.
const MUCH: &str = "[[rules]]\nmodel = \"opus\"\nsource = [SOURCES]\n";

/// A kind of schema: its name, what makes the table, the ids that it can hold, and how its fields are reached.
struct Kind {
    name: &'static str,
    table: &'static str,
    ids: fn(usize) -> String,
    model: &'static str,
    insert: &'static str,
}

const PLAIN: &str = "\"model\"";
const INSERT: &str = "INSERT INTO sessions (id, model, tier, source, kind, contact, name)
                     VALUES ($id, $model, $tier, $source, $kind, $contact, $name)";

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

const FIELDS: &str = "tier text, source text, kind text, contact text, name text";
const KINDS: [Kind; 13] = [
    Kind { name: "text", table: "CREATE TABLE sessions (id text PRIMARY KEY, model text, FIELDS)", ids: nasty, model: PLAIN, insert: INSERT },
    Kind {
        name: "varchar",
        table: "CREATE TABLE sessions (id varchar(40) PRIMARY KEY, model varchar(20), FIELDS)",
        ids: nasty,
        model: PLAIN,
        insert: INSERT,
    },
    Kind { name: "char", table: "CREATE TABLE sessions (id char(40) PRIMARY KEY, model char(20), tier char(9), source char(9), kind text, contact char(9), name char(9))", ids: nasty, model: PLAIN, insert: INSERT },
    Kind {
        name: "citext",
        table: "CREATE EXTENSION citext; CREATE TABLE sessions (id citext PRIMARY KEY, model citext, tier citext, source citext, kind citext, contact citext, name citext)",
        ids: distinct,
        model: PLAIN,
        insert: INSERT,
    },
    Kind {
        name: "nondeterministic collation",
        table: "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
                CREATE TABLE sessions (id text COLLATE loose PRIMARY KEY, model text COLLATE loose,
                    tier text COLLATE loose, source text COLLATE loose, kind text COLLATE loose, contact text COLLATE loose, name text COLLATE loose)",
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
        insert: "INSERT INTO sessions (id, settings, tier, source, kind, contact, name)
                 VALUES ($id, jsonb_build_object('model', $model::text, 'other', 7), $tier, $source, $kind, $contact, $name)",
    },
    Kind {
        name: "nested jsonb",
        table: "CREATE TABLE sessions (id text PRIMARY KEY, settings jsonb, FIELDS)",
        ids: nasty,
        model: "{ column = \"settings\", path = [\"a'b\", \"\\\\\"] }",
        insert: "INSERT INTO sessions (id, settings, tier, source, kind, contact, name)
                 VALUES ($id, CASE WHEN $model IS NOT NULL THEN jsonb_build_object(E'a\\'b', jsonb_build_object(E'\\\\', $model::text)) END,
                         $tier, $source, $kind, $contact, $name)",
    },
    Kind {
        name: "view",
        table: "CREATE TABLE rows (id text PRIMARY KEY, model text, FIELDS, deleted_at date);
                CREATE VIEW sessions AS SELECT id, model, tier, source, kind, contact, name FROM rows WHERE deleted_at IS NULL;
                INSERT INTO rows VALUES ('deleted', 'opus', 'bots', 'x', 'x', 'x', 'x', '2026-01-01')",
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

/// Most sessions have a model that a policy may choose, so that a wrong decision is seen; and many an empty text, which says as
/// little as none.
const MODELS: [&str; 14] = [
    "opus",
    "sonnet",
    "haiku",
    "opus",
    "sonnet",
    "haiku",
    "opus",
    "sonnet",
    "haiku",
    "Opus",
    "claude-opus",
    "gone",
    "o_us",
    "",
];
const TIERS: [&str; 9] = ["admin", "family", "Family", "fämily", "_", "", "", "", ""];
const SOURCES: [&str; 5] = ["discord", "Discord", "signal", "%", ""];
const CONTACTS: [&str; 5] = ["Ann", "ann", "Änn", "_nn", ""];
const GLOBS: [&str; 13] =
    ["*", "?", "a*", "%", "*_*", "+1", "\\", "*\\*", "[a]", "d*%?", "00000000-*", "1?", "*000000000003"];

/// The chats to which an assignment gives a tier: often all, so that it is seen what counts as none.
const ASSIGNED: [&str; 9] = ["*", "*", "*", "*", "?", "a*", "*_*", "d*%?", "*000000000003"];
/// Some have the same slug, which has a dash for each byte that it cannot hold; and some only look like it.
const NAMES: [&str; 9] = ["a b", "a-b", "a_b", "aXb", "A-b", "ä", "--", "a%b", ""];

#[derive(Clone, Debug)]
struct Session {
    model: Option<&'static str>,
    tier: Option<&'static str>,
    source: Option<&'static str>,
    contact: Option<&'static str>,
    name: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct Rule {
    globs: Vec<&'static str>,
    source: Option<&'static str>,
    tiers: Vec<&'static str>,
    model: &'static str,
}

#[derive(Clone, Debug)]
struct World {
    sessions: Vec<Session>,
    existing: &'static str,
    fallback: &'static str,
    /// What is withdrawn, if anything is.
    retired: &'static str,
    tiers: Vec<(&'static str, &'static str)>,
    /// Whether there are more tiers and aliases than are compared one after the other.
    is_wide: bool,
    rules: Vec<Rule>,
    /// A glob, a contact and the tier that the chats of either are given.
    assignments: Vec<(&'static str, &'static str, &'static str)>,
    overrides: Vec<(usize, Option<&'static str>)>,
    /// Whether a command restarts sessions by their slugs.
    has_slugs: bool,
    selection: Vec<Selected>,
}

/// What a run may be about.
#[derive(Clone, Copy, Debug)]
enum Selected {
    Chat(usize),
    Named(&'static str),
    Tier(&'static str),
    Exclude(usize),
    Retry(&'static str),
}

impl Selected {
    fn argument(self, kind: &Kind) -> String {
        let (option, word) = match self {
            Self::Chat(number) => ("--chat", (kind.ids)(number)),
            Self::Named(name) => ("--chat", name.to_owned()),
            Self::Tier(tier) => ("--tier", tier.to_owned()),
            Self::Exclude(number) => ("--exclude", (kind.ids)(number)),
            Self::Retry(name) => ("--retry", name.to_owned()),
        };
        format!("{option}={word}")
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let allowed = || select(&["opus", "sonnet", "haiku"][..]);
    let field = |values: &'static [&'static str]| proptest::option::weighted(0.9, select(values));
    let session = (field(&MODELS), field(&TIERS), field(&SOURCES), field(&CONTACTS), field(&NAMES));
    let session =
        session.prop_map(|(model, tier, source, contact, name)| Session { model, tier, source, contact, name });
    let globs = || select(&GLOBS[..]);
    let rule = (
        proptest::collection::vec(globs(), 0..3),
        proptest::option::of(select(&SOURCES[..4])),
        proptest::collection::vec(select(&TIERS[..5]), 0..3),
        allowed(),
    );
    let rule = rule.prop_map(|(globs, source, tiers, model)| Rule {
        source: if globs.is_empty() && tiers.is_empty() { Some("discord") } else { source },
        globs,
        tiers,
        model,
    });
    let retired = [
        "",
        "gone = { on = 2020-01-01, use = \"sonnet\" }",
        "haiku = { on = 2020-01-01, use = \"opus\" }",
        "haiku = { on = SOON, use = \"opus\" }",
    ];
    let says = (
        select(&["replace", "keep", "keep-manual"][..]),
        allowed(),
        select(retired.to_vec()),
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.4),
    );
    let selected = prop_oneof![
        (0..14_usize).prop_map(Selected::Chat),
        select(&NAMES[..8]).prop_map(Selected::Named),
        select(&CONTACTS[..4]).prop_map(Selected::Named),
        select(&TIERS[..5]).prop_map(Selected::Tier),
        (0..14_usize).prop_map(Selected::Exclude),
        select(&NAMES[..8]).prop_map(Selected::Retry),
    ];
    (
        proptest::collection::vec(session, 0..14),
        says,
        proptest::collection::btree_map(select(&TIERS[..5]), allowed(), 1..6),
        proptest::collection::vec(rule, 0..4),
        proptest::collection::vec((select(&ASSIGNED[..]), select(&CONTACTS[..4]), select(&TIERS[..5])), 0..4),
        proptest::collection::btree_map(0..14_usize, proptest::option::weighted(0.8, allowed()), 0..3),
        proptest::collection::vec(selected, 1..3),
    )
        .prop_map(|(sessions, says, tiers, rules, assignments, overrides, selection)| {
            let (existing, fallback, retired, is_wide, has_slugs) = says;
            let (tiers, overrides) = (tiers.into_iter().collect(), overrides.into_iter().collect());
            World {
                sessions,
                existing,
                fallback,
                retired,
                tiers,
                is_wide,
                rules,
                assignments,
                overrides,
                has_slugs,
                selection,
            }
        })
}

impl World {
    fn policy(&self, kind: &Kind, database: &Database) -> String {
        let wide = if self.is_wide { 0..9 } else { 0..0 };
        let aliases: String = wide.clone().map(|number| format!(", alias{number} = \"haiku\"")).collect();
        let mut text = format!(
            "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = {:?}\ntime_zone = \"UTC\"\n\
             aliases = {{ claude-opus = \"opus\"{aliases} }}\n",
            self.fallback
        );
        let soon = jiff::Zoned::now().date().saturating_add(jiff::ToSpan::days(10)).to_string();
        writeln!(text, "[models.retired]\n{}", self.retired.replace("SOON", &soon)).unwrap();
        if self.has_slugs {
            // A plan on a file in place of the table does not look for canaries.
            text += "[rollout]\ncanary = false\n[sessions]\nrestart = [\"true\", \"{session_slug}\"]\n";
        }
        text += "[limits]\nmax_changes = 1000\n[tiers]\n";
        for (tier, model) in &self.tiers {
            writeln!(text, "{tier:?} = {model:?}").unwrap();
        }
        for number in wide {
            writeln!(text, "tier{number} = \"opus\"").unwrap();
        }
        text += "[chats]\n";
        for (number, model) in &self.overrides {
            let setting = model.map_or("{ managed = false }".to_owned(), |model| format!("{model:?}"));
            writeln!(text, "{} = {setting}", json!((kind.ids)(*number))).unwrap();
        }
        for Rule { globs, source, tiers, model } in &self.rules {
            writeln!(text, "[[rules]]\nmodel = {model:?}").unwrap();
            let source: Vec<_> = source.iter().collect();
            let conditions = [("chat", json!(globs)), ("source", json!(source)), ("tier", json!(tiers))];
            for (name, words) in conditions.into_iter().filter(|(_, words)| words != &json!([])) {
                writeln!(text, "{name} = {words}").unwrap();
            }
        }
        for (glob, contact, tier) in &self.assignments {
            writeln!(text, "[[assign]]\ntier = {tier:?}\nchat = {}\ncontact = {contact:?}", json!(glob)).unwrap();
        }
        let columns = format!(
            "chat_id = \"id\"\nmodel = {}\ntier = \"tier\"\nsource = \"source\"\ntype = \"kind\"\n\
             contact_name = \"contact\"\nsession_name = \"name\"\n",
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
                ("contact_name", session.contact),
                ("session_name", session.name),
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
                ("$contact", session.contact.map(str::to_owned)),
                ("$name", session.name.map(str::to_owned)),
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

/// What a dry run says of names that policy and registry do not share, and of models that are withdrawn; or why there is no
/// plan. What it suggests depends on the order of the registry.
fn told(run: &Run) -> Vec<String> {
    let lines = run.stderr.lines();
    let lines = lines.filter(|line| ["note: ", "warning: ", "error["].iter().any(|begin| line.starts_with(begin)));
    let lines = lines.filter(|line| !line.contains("schema `reconcile`") && !line.contains("this role"));
    let lines =
        lines.map(|line| line.split(": did you mean").next().unwrap().split(": that is a name").next().unwrap());
    lines.map(|line| line.replace("public.sessions", "sessions.json")).collect()
}

/// The report of a dry run; nothing where there is no plan. Which of several other sessions has a slug depends on the order of
/// the registry.
fn report(run: &Run, world: &str) -> Value {
    if run.code == 1 && run.stdout.is_empty() {
        return Value::Null;
    }
    let mut report: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}, {world}"));
    for change in report["changes"].as_array_mut().unwrap() {
        if change["detail"].as_str().is_some_and(|detail| detail.ends_with("has the same slug")) {
            change["detail"] = "same slug".into();
        }
    }
    report
}

/// The plan of a run with these arguments on the table, after it was found to be the one of the file.
fn plan_of_both(database: &Database, policy: &str, arguments: &[String], world: &str) -> Value {
    database.sandbox.write("policy.toml", policy);
    let arguments: Vec<&str> =
        ["--dry-run", "--format", "json"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let of_table = database.run(&arguments);
    let of_file = database.run(&[&arguments[..], &["--registry", "sessions.json"]].concat());
    assert_eq!(report(&of_table, world), report(&of_file, world), "{arguments:?} {of_table:?} {of_file:?} {world}");
    assert_eq!(told(&of_table), told(&of_file), "{arguments:?} {world}");
    report(&of_table, world)
}

/// Runs this for many worlds of each kind of schema, after the name of the world.
fn in_each_world(worlds_of_each: usize, mut check: impl FnMut(&Database, &Kind, &World, &str)) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for kind in &KINDS {
        let database = Database::new(&kind.table.replace("FIELDS", FIELDS));
        for number in 0..worlds_of_each {
            let world = worlds().new_tree(&mut runner).unwrap().current();
            let name = format!("{}, world {number}: {world:#?}", kind.name);
            database.execute(&world.statements(kind));
            check(&database, kind, &world, &name);
        }
    }
}

fn worlds_of_each() -> usize {
    std::env::var("WORLDS").map_or(WORLDS, |number| number.parse().unwrap())
}

#[test]
fn a_plan_on_a_table_is_the_plan_on_a_file_of_the_same_sessions() {
    let sources: Vec<String> = (0..41).map(|number| format!("\"source {number}\"")).collect();
    let much = MUCH.replace("SOURCES", &sources.join(", "));
    let (mut changed, mut chosen) = (0, 0);
    in_each_world(worlds_of_each(), |database, kind, world, name| {
        database.sandbox.write("sessions.json", world.entries(kind).to_string());
        let policy = world.policy(kind, database);
        let plan = plan_of_both(database, &policy, &[], name);
        assert_eq!(plan_of_both(database, &format!("{policy}{much}"), &[], name), plan, "{name}");
        let selection: Vec<String> = world.selection.iter().map(|selected| selected.argument(kind)).collect();
        let of_some = plan_of_both(database, &policy, &selection, name);
        changed += plan["summary"]["changed"].as_u64().unwrap();
        chosen += usize::from(!of_some["changes"].as_array().is_none_or(Vec::is_empty));
    });
    let worlds = worlds_of_each() * KINDS.len();
    assert!(changed > 2 * u64::try_from(worlds).unwrap(), "only {changed} changes in all worlds");
    assert!(chosen > worlds / 5, "only {chosen} selections with a change");
}

#[test]
fn where_a_plan_is_applied_only_models_change_and_nothing_is_left_to_do() {
    let mut changed = 0;
    in_each_world(worlds_of_each() / 5, |database, kind, world, name| {
        if database.texts("SELECT 1 FROM pg_namespace WHERE nspname = 'reconcile'").is_empty() {
            database.make_schema();
        }
        database.execute("TRUNCATE reconcile.registry, reconcile.memory, reconcile.run, reconcile.chat");
        database.sandbox.write("policy.toml", world.policy(kind, database));
        let rows = "SELECT to_jsonb(sessions) - 'model' - 'settings' FROM sessions ORDER BY id";
        let (plan, before) = (database.plan(), database.texts(rows));
        let run = database.run(&["--format", "json"]);
        assert!([0, 4].contains(&run.code), "{run:?} {name}");
        let applied = report(&run, name);
        assert_eq!(applied["summary"]["changed"], plan["summary"]["changed"], "{applied} {plan} {name}");
        assert_eq!(database.plan()["summary"]["changed"], 0, "{applied} {name}");
        assert_eq!(database.texts(rows), before, "{name}");
        changed += plan["summary"]["changed"].as_u64().unwrap();
    });
    assert!(changed > 0, "nothing was changed in any world");
}
