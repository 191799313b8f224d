//! The policy as types that nothing reads: its schema is made from them.
//!
//! They stand apart from the reader, which reports every mistake where types stop at the first, and apart from the
//! program, which has no use for them.

#![allow(dead_code, reason = "only the descriptions of these types are used")]

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

/// The schema of a policy. Draft 7 is what editors know.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Policy>();
    RecursiveTransform(as_toml).transform(&mut schema);
    schema.to_value()
}

/// What is optional in TOML is left out, and never null; and numbers have no width.
fn as_toml(schema: &mut Schema) {
    schema.remove("format");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    let null = json!({ "type": "null" });
    if let Some(Value::Array(mut forms)) = schema.remove("anyOf") {
        let optional = forms.contains(&null);
        forms.retain(|form| *form != null);
        schema.insert(if optional { "allOf" } else { "anyOf" }.to_owned(), forms.into());
    }
}

/// Which model each chat's session runs on. What decides: override, else the first matching rule, else tier, else
/// fallback.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "A policy of reconcile")]
struct Policy {
    models: Models,
    /// The model of each tier.
    tiers: Option<BTreeMap<String, Model>>,
    #[schemars(length(min = 1))]
    assign: Option<Vec<Assignment>>,
    /// The first that matches wins over the tier.
    #[schemars(length(min = 1))]
    rules: Option<Vec<Rule>>,
    /// Overrides, by exact chat id. They win over everything.
    chats: Option<BTreeMap<String, Exception>>,
    registry: Option<Registry>,
    sessions: Option<Sessions>,
    rollout: Option<Rollout>,
    limits: Option<Limits>,
}

/// The name of a model, such as "opus": without blanks and control characters.
#[derive(JsonSchema)]
#[schemars(extend("pattern" = r"^[^\s\u0000-\u001f\u007f-\u009f]+$", "maxLength" = 4096))]
struct Model(String);

/// The models that there are.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Models {
    /// What a policy may name.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    allowed: Vec<Model>,
    /// For chats without a tier, or with one that is not listed.
    fallback: Model,
    /// The time zone of dates and times without an offset, such as "Europe/Berlin". Default: the host's.
    #[schemars(length(min = 1))]
    time_zone: Option<String>,
    /// Models that are withdrawn, and what takes their place.
    retired: Option<BTreeMap<String, Retirement>>,
    /// Other spellings that a registry may hold, and what they mean: neither drift nor restart.
    aliases: Option<BTreeMap<String, Model>>,
}

/// From which day a model is not used any more, and what is used instead wherever policy and registry say it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Retirement {
    on: Day,
    r#use: Model,
}

/// A date, in the policy's time zone; in TOML without quotes.
#[derive(JsonSchema)]
#[schemars(extend("pattern" = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
struct Day(String);

/// One value, or several of which one must match.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum OneOrMore {
    One(String),
    More(#[schemars(length(min = 1))] Vec<String>),
}

/// A model for all chats that meet every condition given. There is at least one.
#[derive(JsonSchema)]
#[schemars(
    deny_unknown_fields,
    extend("anyOf" = [
        { "required": ["source"] }, { "required": ["tier"] }, { "required": ["type"] }, { "required": ["agent"] },
        { "required": ["account"] }, { "required": ["chat"] }
    ])
)]
struct Rule {
    /// Where the chat is, such as "discord".
    source: Option<OneOrMore>,
    /// The chat's tier.
    tier: Option<OneOrMore>,
    /// "individual" or "group"; with OpenClaw its kinds of sessions, such as "channel".
    r#type: Option<OneOrMore>,
    /// Which agent answers the chat.
    agent: Option<OneOrMore>,
    /// Through which account of yours the chat comes.
    account: Option<OneOrMore>,
    /// A glob of chat ids: * stands for any text, ? for any character.
    chat: Option<OneOrMore>,
    model: Model,
}

/// A tier for chats of which the registry tells none. The first assignment that is for a chat counts.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("anyOf" = [{ "required": ["chat"] }, { "required": ["contact"] }]))]
struct Assignment {
    /// The tier that the chats get.
    #[schemars(length(min = 1))]
    tier: String,
    /// Globs of chat ids: * stands for any text, ? for any character.
    chat: Option<OneOrMoreNames>,
    /// The names of contacts.
    contact: Option<OneOrMoreNames>,
}

/// One name, or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum OneOrMoreNames {
    One(#[schemars(length(min = 1))] String),
    More(#[schemars(length(min = 1), inner(length(min = 1)))] Vec<String>),
}

/// What holds for one chat, before all rules and tiers.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Exception {
    Model(Model),
    Table(ModelOfChat),
    LeftAlone(LeftAlone),
}

/// A model for one chat.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("dependencies" = { "then": ["until"] }))]
struct ModelOfChat {
    model: Model,
    /// `true`: the chat has the model of this override, as it also has without this key. `false`, without a model: the chat is
    /// left alone.
    #[schemars(extend("const" = true))]
    managed: Option<bool>,
    until: Option<Until>,
    /// The model that counts once the override has ended.
    then: Option<Model>,
    /// Why, for the readers of reports.
    reason: Option<String>,
    was: Option<Was>,
}

/// The ids that the chat had before. The override counts for them, too.
#[derive(JsonSchema)]
struct Was(#[schemars(length(min = 1))] Vec<ChatId>);

/// The id of a chat.
#[derive(JsonSchema)]
struct ChatId(#[schemars(length(min = 1))] String);

/// A chat whose model is not ours to decide.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("dependencies" = { "then": ["until"] }))]
struct LeftAlone {
    /// The chat is left alone.
    #[schemars(extend("const" = false))]
    managed: bool,
    until: Option<Until>,
    /// The model that counts once the override has ended.
    then: Option<Model>,
    /// Why, for the readers of reports.
    reason: Option<String>,
    was: Option<Was>,
}

/// When the override ends: a date, which is included, or a date-time; in TOML without quotes.
#[derive(JsonSchema)]
#[schemars(extend("pattern" = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"))]
struct Until(String);

/// What maps chats to sessions.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Registry {
    File(FileRegistry),
    Table(Box<TableRegistry>),
}

/// A table of a PostgreSQL database.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TableRegistry {
    /// The server: a service, a URI, or keywords and values as libpq reads them. Without a password.
    #[schemars(length(min = 1))]
    postgres: String,
    /// A table, or a view that can be updated: "public.sessions".
    #[schemars(length(min = 1))]
    table: String,
    columns: Columns,
    /// As for a file.
    #[schemars(extend("default" = "replace"))]
    existing: Option<Existing>,
}

/// The columns that hold the fields of a session. Fields that are left out are not there.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Columns {
    chat_id: Column,
    model: Column,
    tier: Option<Column>,
    source: Option<Column>,
    r#type: Option<Column>,
    session_name: Option<Column>,
    contact_name: Option<Column>,
    session_id: Option<Column>,
}

/// A column, or a place in a column of type jsonb.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Column {
    Whole(ColumnName),
    Inside(JsonColumn),
}

/// A column's name as the database has it.
#[derive(JsonSchema)]
#[schemars(extend("minLength" = 1))]
struct ColumnName(String);

/// A place in a column of type jsonb.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonColumn {
    column: ColumnName,
    /// The keys that lead to it.
    #[schemars(length(min = 1))]
    path: Vec<ColumnName>,
}

/// The file that maps chats to sessions.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FileRegistry {
    /// Relative to the policy's directory; a leading ~ or $HOME is the home directory. Needed unless --registry is given.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// "keep": an allowed model in the registry wins over all but overrides. "keep-manual": so does one that was set by hand,
    /// and everything else follows the policy.
    #[schemars(extend("default" = "replace"))]
    existing: Option<Existing>,
    /// The member that holds the sessions, where they do not stand at the top.
    #[schemars(length(min = 1))]
    key: Option<String>,
    /// "any": a file without a single field of a session, such as a tier or a source, is taken for a registry as well.
    #[schemars(extend("default" = "sessions"))]
    shape: Option<Shape>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Shape {
    Sessions,
    Any,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Existing {
    Replace,
    Keep,
    KeepManual,
}

/// Who restarts sessions.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Sessions {
    File(FileSessions),
    Dispatch(DispatchSessions),
    Openclaw(OpenclawSessions),
}

/// Commands restart sessions; no other program owns the registry.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FileSessions {
    /// Who writes the registry and restarts sessions.
    #[schemars(extend("const" = "file", "default" = "file"))]
    backend: Option<String>,
    /// Lets any placeholder stand anywhere in the arguments of commands. A name that people in a chat have chosen can then
    /// become code that a command runs; `reconcile check` warns of it.
    #[schemars(extend("default" = false))]
    names_in_arguments: Option<bool>,
    /// Restarts one session. Without it nothing is restarted.
    restart: Option<CommandLine>,
    /// Asked before each restart, and after it until the session has stayed up for `rollout.min_healthy`. Its exit code:
    /// 0 = running, 1 or 3 = not running, anything else = unknown. Without it no restart is verified.
    running: Option<CommandLine>,
    /// Prints something that changes with each start of the session, such as its process id. With it, a session that the
    /// restart command left running is noticed.
    identity: Option<CommandLine>,
    /// How long one command may take, and then a session until it is up.
    #[schemars(extend("default" = "30s"))]
    timeout: Option<Duration>,
    /// How many restarts may be under way at once.
    #[schemars(range(min = 1, max = 1000), extend("default" = 4))]
    parallel: Option<u32>,
    /// What a session without a model runs on. Unknown without it, so such a session is restarted.
    unset_runs: Option<Model>,
    /// Where the program of a session keeps its conversation: a path with `{session_id}` and, optionally, `{cwd_slug}`.
    /// Relative to the policy's directory; a leading ~ or $HOME is the home directory. A launch looks there for what it is to
    /// resume.
    #[schemars(length(min = 1), extend("pattern" = r"\{session_id\}"))]
    conversation: Option<String>,
}

/// The dispatch daemon owns the registry, and is asked to change it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DispatchSessions {
    /// Who writes the registry and restarts sessions.
    #[schemars(extend("const" = "dispatch"))]
    backend: String,
    /// Where the daemon listens: relative to the policy's directory; a leading ~ or $HOME is the home directory.
    #[schemars(length(min = 1), extend("default" = "/tmp/claude-assistant.sock"))]
    socket: Option<String>,
    /// How long one run waits for busy sessions, in all.
    #[schemars(extend("default" = "60s"))]
    drain: Option<Duration>,
    /// How long one request may take.
    #[schemars(extend("default" = "30s"))]
    timeout: Option<Duration>,
    /// How many restarts may be under way at once.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    parallel: Option<u32>,
}

/// An OpenClaw gateway keeps the sessions, and is asked to pin them to models. No session is restarted.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct OpenclawSessions {
    /// Who writes the registry and restarts sessions.
    #[schemars(extend("const" = "openclaw"))]
    backend: String,
    /// Where the gateway listens: on this host, unless --connect or `RECONCILE_GATEWAY_URL` names another address.
    #[schemars(extend("pattern" = "^wss?://[^@?#]*$", "default" = "ws://127.0.0.1:18789"))]
    url: Option<String>,
    /// The SHA-256 of the only certificate that a gateway on this host may present, for a url that begins with wss://. That of
    /// another host is named by `RECONCILE_GATEWAY_FINGERPRINT`.
    #[schemars(extend("pattern" = "^(sha256:)?([0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31})$"))]
    fingerprint: Option<String>,
    /// Where its token is. Without it none is sent.
    token: Option<Token>,
    /// The file with the private key by which the gateway knows this program as a device: relative to the policy's directory; ~
    /// is the home directory.
    #[schemars(length(min = 1))]
    device_key: Option<String>,
    /// How long one request may take.
    #[schemars(extend("default" = "30s"))]
    timeout: Option<Duration>,
    /// The directory for what runs remember: relative to the policy's directory; a leading ~ or $HOME is the home directory.
    /// Without it, one below $`XDG_STATE_HOME`/reconcile that is named by the gateway's address.
    #[schemars(length(min = 1))]
    state: Option<String>,
    /// Whether sessions of scheduled jobs and of subagents are managed as well.
    #[schemars(extend("default" = false))]
    background: Option<bool>,
}

/// Where a token is, which never stands in a policy.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Token {
    Env(TokenEnv),
    File(TokenFile),
}

/// A token in a variable of the environment.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TokenEnv {
    /// The name of the variable.
    #[schemars(length(min = 1))]
    env: String,
}

/// A token in a file, which belongs to the user who runs the program and which no other user can read.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TokenFile {
    /// Relative to the policy's directory; a leading ~ or $HOME is the home directory.
    #[schemars(length(min = 1))]
    file: String,
}

/// A program and its arguments, without a shell. `{session_slug}` and `{model}` may be arguments, or stand beside
/// letters, digits and `@ . _ / : = -`. All fields are in the environment: `RECONCILE_CHAT_ID`, `_SESSION_NAME`,
/// `_SESSION_SLUG`, `_CONTACT_NAME`, `_TIER`, `_TYPE`, `_SOURCE`, `_MODEL`.
#[derive(JsonSchema)]
#[schemars(extend("minItems" = 1, "items" = [{ "type": "string", "minLength": 1 }], "additionalItems" = { "type": "string" }))]
struct CommandLine(Vec<String>);

/// A length of time above zero and up to a day: a number and a unit (ms, s, m or h), as in "30s" or
/// "1m 30s", a day ("1d"), or seconds alone.
#[derive(JsonSchema)]
#[schemars(extend("pattern" = r"^(?=.*[1-9])([0-9]+|1 ?d|[0-9]+(\.[0-9]+)? ?(ms|s|m|h)( ?[0-9]+(\.[0-9]+)? ?(ms|s|m|h))*)$"))]
struct Duration(String);

/// A length of time up to a day, "0s" included: a number and a unit (ms, s, m or h), as in "2s" or
/// "1m 30s", a day ("1d"), or seconds alone.
#[derive(JsonSchema)]
#[schemars(extend("pattern" = r"^([0-9]+|1 ?d|[0-9]+(\.[0-9]+)? ?(ms|s|m|h)( ?[0-9]+(\.[0-9]+)? ?(ms|s|m|h))*)$"))]
struct Wait(String);

/// How a run moves sessions to another model, and when it stops.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Rollout {
    /// Whether a model that no session is known to work on is tried on one session first, alone.
    #[schemars(extend("default" = true))]
    canary: Option<bool>,
    /// How long a restarted session must stay up before its restart counts. A run takes this for each restart, divided
    /// by `sessions.parallel`.
    #[schemars(extend("default" = "2s"))]
    min_healthy: Option<Wait>,
    /// Whether a session that was up before and does not come up on its new model is put back on the one that it ran.
    #[schemars(extend("default" = true))]
    auto_revert: Option<bool>,
    /// After so many failed restarts a run begins nothing more; what is under way finishes.
    #[schemars(range(min = 1, max = 1_000_000_000), extend("default" = 1))]
    max_failures: Option<u32>,
    /// How long a run waits between two portions of `sessions.parallel` restarts. With "0s" there are no portions.
    #[schemars(extend("default" = "0s"))]
    pause: Option<Wait>,
}

/// How much one run may do.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Limits {
    /// Where more models would be replaced and sessions restarted, nothing is done. Without it: 10, or 30 % of all
    /// sessions where that is more.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    max_changes: Option<u32>,
    /// At most so many models are changed by one transaction on a table, or one replacement of a file. Without it: 500 on a
    /// table, else all.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    batch: Option<u32>,
}
