//! The frames that real OpenClaw gateways exchanged: the double answers as they did, and the client reads what they sent.
//!
//! A line `{"case"}` in `tests/recordings/openclaw` begins an exchange; the others are frames with their direction. Ids,
//! tokens, times and paths are replaced by fixed ones, and long parts are cut, which is marked by an ellipsis.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reconcile::backend::openclaw::{Access, Fault, Gateway, Scope, Token};
use serde_json::{Value, json};

use crate::gateway::{Client, Double, Trouble, World};
use crate::support::below;

const TIMEOUT: Duration = Duration::from_secs(60);
/// The methods that the double knows. The client calls all of them but `sessions.create` and `sessions.patch`, with which
/// most of what was recorded was brought about.
const METHODS: [&str; 7] = [
    "connect",
    "sessions.list",
    "sessions.create",
    "sessions.patch",
    "sessions.patchMany",
    "models.list",
    "agents.list",
];
/// Parameters that the double does not know, because the client never sends them.
const UNKNOWN: &[(&str, &[&str])] = &[
    (
        "sessions.list",
        &[
            "search",
            "label",
            "agentId",
            "activeMinutes",
            "requireLastInteraction",
            "archived",
            "configuredAgentsOnly",
            "includeGlobal",
            "activeOnly",
            "sortBy",
        ],
    ),
    ("sessions.patch", &["agentId", "expectedLifecycleRevision", "verboseLevel"]),
    ("models.list", &["view", "sessionKey"]),
];
/// Recordings of releases that are not supported, and of device identities, which the client has none of.
const OTHERS: [&str; 5] = ["device", "version-2026.4.26", "version-2026.5.28", "version-2026.6.6", "version-2026.7.35"];

/// A request and its reply.
struct Exchange {
    case: String,
    method: String,
    params: Value,
    reply: Value,
}

fn recordings() -> impl Iterator<Item = (String, PathBuf)> {
    below("recordings/openclaw").into_iter().map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
}

/// The exchanges of a recording, with what was cut from later hellos put back.
fn exchanges(path: &PathBuf) -> Vec<Exchange> {
    let (mut case, mut asked, mut exchanges) = (String::new(), BTreeMap::new(), Vec::new());
    let mut features: Option<Value> = None;
    for line in fs::read_to_string(path).unwrap().lines().filter(|line| !line.is_empty()) {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if let Some(next) = line["case"].as_str() {
            next.clone_into(&mut case);
        }
        let mut frame = line["frame"].take();
        let id = frame["id"].as_str().unwrap_or_default().to_owned();
        if frame["type"] == "req" {
            asked.insert(id, (frame["method"].as_str().unwrap().to_owned(), frame["params"].take()));
        } else if let Some((method, params)) = asked.remove(&id) {
            if let Some(own) = frame["payload"].get_mut("features") {
                if own.is_object() {
                    features = Some(own.clone());
                }
                *own = features.clone().unwrap();
            }
            exchanges.push(Exchange { case: case.clone(), method, params, reply: frame });
        }
    }
    exchanges
}

/// A gateway with the sessions that a recording shows, as they are shown first.
fn world(name: &str, exchanges: &[Exchange]) -> World {
    let mut world = World::default();
    let mut keys = BTreeSet::new();
    for exchange in exchanges.iter().filter(|exchange| exchange.reply["ok"] == true) {
        let payload = &exchange.reply["payload"];
        let mut add = |key: &Value, session: &Value| {
            if let (Some(key), Some(id)) = (key.as_str(), session["sessionId"].as_str())
                && keys.insert(key.to_owned())
            {
                let level = session.get("thinkingLevel").map(|level| json!({ "thinkingLevel": level }));
                world.add(key, &level.unwrap_or_else(|| json!({})));
                world.sessions.last_mut().unwrap()["sessionId"] = id.into();
            }
        };
        for row in payload["sessions"].as_array().into_iter().flatten() {
            add(&row["key"], row);
        }
        add(&payload["key"], &payload["entry"]);
    }
    match name {
        "agents2" => {
            let allowed = ["fake/small", "fake/big"].map(str::to_owned);
            world.agents.insert("work".to_owned(), Some(allowed.to_vec()));
        }
        "thinking" => {}
        "unrestricted" => {
            world.allowed.clear();
            world.models.iter_mut().for_each(|model| model.alias = None);
        }
        "version-2026.8.2" => {
            world.allowed.clear();
            world.selection_target = None;
        }
        "version-2026.9.1" => world.allowed.clear(),
        // Where these were recorded, no model could think.
        _ => world.models.iter_mut().for_each(|model| model.reasoning = false),
    }
    world
}

/// What makes the double behave as the gateway did at that moment, where that is not seen in the requests.
fn prepare(double: &Double, recording: &str, exchange: &Exchange) {
    double.calm();
    let is_work = recording == "agents2" && exchange.reply["error"]["message"] == "model not allowed: fake/big";
    if is_work {
        double.world().agents.insert("work".to_owned(), Some(vec!["fake/small".to_owned()]));
    }
    let reason = exchange.reply["error"]["details"]["reason"].as_str().unwrap_or_default();
    if ["startup-sidecars", "gateway-restarting", "gateway-suspending"].contains(&reason) {
        let method = METHODS.into_iter().find(|method| *method == exchange.method).unwrap();
        double.once(method, Trouble::Refuse(exchange.reply["error"].clone()));
    }
}

/// Connects and makes one request, as the recording client did.
fn ask(double: &Double, connect: &Value, exchange: &Exchange) -> Value {
    let mut client = Client::open(&double.url());
    if exchange.method == "connect" {
        return client.call("connect", &exchange.params);
    }
    let hello = client.call("connect", connect);
    assert_eq!(hello["ok"], true, "{hello}");
    client.call(&exchange.method, &exchange.params)
}

/// Where a reply of the double is not of the shape of a recorded one: another outcome, or a field that the gateway does not
/// have, or has of another type.
fn differs(at: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (_, Value::String(text)) if text.starts_with('…') => None,
        (Value::Object(ours), Value::Object(theirs)) => ours.iter().find_map(|(key, value)| match theirs.get(key) {
            Some(their) => differs(&format!("{at}.{key}"), value, their),
            None => Some(format!("{at}.{key} is made up")),
        }),
        (Value::Array(ours), Value::Array(theirs)) => {
            // One of theirs must be like it: the order is not the same, and not every row has every field.
            ours.iter().find_map(|one| {
                let likest = theirs.iter().map(|their| differs(&format!("{at}[]"), one, their)).min();
                likest.flatten()
            })
        }
        (Value::Null, _)
        | (_, Value::Null)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_)) => None,
        _ => Some(format!("{at}: {ours} is not of the type of {theirs}")),
    }
}

/// What must be the same in both replies, and not only of the same shape.
fn essence(reply: &Value) -> Value {
    let error = |error: &Value| json!([error["code"], error["message"], error["details"], error["retryable"]]);
    let outcomes = reply["payload"]["outcomes"].as_array().into_iter().flatten();
    let outcomes: Vec<Value> = outcomes.map(|one| json!([one["ok"], one["key"], error(&one["error"])])).collect();
    let payload = &reply["payload"];
    let pin = ["providerOverride", "modelOverride", "thinkingLevel"].map(|field| payload["entry"][field].clone());
    let list = ["limitApplied", "offset"].map(|field| payload[field].clone());
    json!([reply["ok"], error(&reply["error"]), outcomes, pin, list, payload["auth"]["scopes"]])
}

/// Whether the double can be asked the same, and nothing was cut that tells what it should answer.
fn is_compared(exchange: &Exchange) -> bool {
    let Exchange { case, method, params, reply } = exchange;
    let mut unknown = UNKNOWN.iter().filter(|(of, _)| of == method).flat_map(|(_, names)| *names);
    let is_known = METHODS.contains(&method.as_str()) && !unknown.any(|name| params.get(name).is_some());
    let is_cut = params.to_string().contains('…') || (reply["payload"].get("sessions").is_some() && !is_whole(reply));
    // What the client never does: it sends no such header, and nothing before it connects.
    let is_ours = !["origin header", "first frame no connect"].contains(&case.as_str());
    is_known && !is_cut && is_ours
}

#[test]
fn the_double_answers_as_the_gateways_did() {
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, path) in recordings().filter(|(name, _)| !OTHERS.contains(&name.as_str())) {
        let exchanges = exchanges(&path);
        let double = Double::start(world(&name, &exchanges));
        let mut connect = Value::Null;
        for exchange in exchanges.iter().filter(|exchange| is_compared(exchange)) {
            if exchange.method == "connect" && exchange.reply["ok"] == true {
                connect = exchange.params.clone();
            }
            prepare(&double, &name, exchange);
            let ours = ask(&double, &connect, exchange);
            compared += 1;
            let (own, recorded) = (essence(&ours), essence(&exchange.reply));
            let found =
                differs("", &ours, &exchange.reply).or((own != recorded).then(|| format!("{own} is not {recorded}")));
            wrong.extend(found.map(|found| format!("{name}, {}, {}: {found}", exchange.case, exchange.method)));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 150, "{compared}");
}

fn client(double: &Double) -> Result<Gateway, Fault> {
    let access = Access::with_token(double.url().parse().unwrap(), Some(Token::new("TOKEN-FOR-TESTS")));
    Gateway::connect(access, Scope::Write, TIMEOUT)
}

/// A reply with the id of the client's request: its first is `connect`, its second any request.
fn with_id(reply: &Value, id: &str) -> Trouble {
    let mut reply = reply.clone();
    reply["id"] = id.into();
    Trouble::Say(reply.to_string())
}

#[test]
fn the_client_reads_every_hello() {
    let mut versions = BTreeSet::new();
    for (name, path) in recordings() {
        for exchange in exchanges(&path).into_iter().filter(|exchange| exchange.method == "connect") {
            let double = Double::start(World::default());
            double.once("connect", with_id(&exchange.reply, "r1"));
            double.always("connect", Trouble::Refuse(json!({ "code": "ASKED_AGAIN", "message": "" })));
            let granted = exchange.reply["payload"]["auth"]["scopes"].as_array().cloned().unwrap_or_default();
            let is_granted = ["operator.read", "operator.write"].iter().all(|scope| granted.contains(&json!(scope)));
            let found = client(&double);
            let error = &exchange.reply["error"];
            let version = exchange.reply["payload"]["server"]["version"].as_str().unwrap_or_default();
            match (&found, error["code"].as_str(), error["details"]["code"].as_str()) {
                (Ok(gateway), None, _) if is_granted => assert_eq!(gateway.version(), version),
                (Err(Fault::MissingScope(_)), None, _) if !is_granted => {}
                (Err(Fault::TooOld { version: found, .. }), None, _) => assert_eq!(found, version),
                (Err(Fault::Protocol { theirs: 4, .. }), Some(_), Some("PROTOCOL_MISMATCH")) => {}
                // It is asked again, which shows that it is waited for.
                (Err(Fault::NotLetIn { code, .. }), Some("UNAVAILABLE"), None) => assert_eq!(code, "ASKED_AGAIN"),
                (Err(Fault::NotLetIn { code, .. }), Some(plain), detail) => assert_eq!(code, detail.unwrap_or(plain)),
                _ => panic!("{name}, {}: {:?} of {}", exchange.case, found.err(), exchange.reply),
            }
            if !version.is_empty() {
                versions.insert((version.to_owned(), matches!(found, Err(Fault::TooOld { .. }))));
            }
        }
    }
    let supported =
        |is_old| versions.iter().filter(move |(_, old)| *old == is_old).map(|(version, _)| version.as_str());
    assert_eq!(supported(false).collect::<Vec<_>>(), ["2026.8.2", "2026.9.1", "2026.9.6"]);
    assert_eq!(supported(true).collect::<Vec<_>>(), ["2026.4.26", "2026.5.28", "2026.6.6", "2026.7.35"]);
}

/// Whether nothing was cut from a list.
fn is_whole(reply: &Value) -> bool {
    let rows = reply["payload"]["sessions"].as_array();
    rows.is_some_and(|rows| rows.iter().all(Value::is_object)) && reply["payload"]["defaults"].is_object()
}

#[test]
fn the_client_reads_every_list() {
    let (mut whole, mut partial, mut pinned) = (0, 0, 0);
    for (name, path) in recordings().filter(|(name, _)| !OTHERS.contains(&name.as_str())) {
        let lists = exchanges(&path).into_iter().filter(|exchange| exchange.method == "sessions.list");
        for exchange in lists.filter(|exchange| exchange.reply["ok"] == true && is_whole(&exchange.reply)) {
            let double = Double::start(World::default());
            let mut gateway = client(&double).unwrap();
            double.once("sessions.list", with_id(&exchange.reply, "r2"));
            let (payload, found) = (&exchange.reply["payload"], gateway.sessions());
            let rows = payload["sessions"].as_array().unwrap();
            if payload["defaults"]["modelSelectionTarget"] == "global" {
                assert_eq!(found, Err(Fault::SelectionTarget("global".to_owned())));
                continue;
            }
            if payload["totalCount"] != rows.len() {
                let total = usize::try_from(payload["totalCount"].as_u64().unwrap()).unwrap();
                assert_eq!(found, Err(Fault::Truncated { rows: rows.len(), total }), "{name}, {}", exchange.case);
                partial += 1;
                continue;
            }
            let listed = found.unwrap_or_else(|fault| panic!("{name}, {}: {fault:?}", exchange.case));
            assert_eq!(listed.rows.len(), rows.len());
            for (read, row) in listed.rows.iter().zip(rows) {
                assert_eq!(read.key, row["key"]);
                assert_eq!(read.session_id.as_deref(), row["sessionId"].as_str());
                assert_eq!(read.pinned.is_some(), !row["modelOverrideSource"].is_null(), "{row}");
                assert_eq!(read.category.as_deref(), row["category"].as_str());
                assert!(!format!("{read:?}").contains("#U"), "a message is no name: {read:?}");
                pinned += usize::from(read.pinned.is_some());
            }
            whole += 1;
        }
    }
    assert!(whole > 15 && partial > 10 && pinned > 5, "{whole} {partial} {pinned}");
}

#[test]
fn the_client_reads_every_error_and_every_outcome() {
    let mut seen = BTreeSet::new();
    for (name, path) in recordings().filter(|(name, _)| !OTHERS.contains(&name.as_str())) {
        let errors = exchanges(&path).into_iter().filter(|exchange| exchange.method != "connect");
        for exchange in errors.filter(|exchange| exchange.reply["ok"] == false) {
            let double = Double::start(World::default());
            let mut gateway = client(&double).unwrap();
            double.once("sessions.list", with_id(&exchange.reply, "r2"));
            let found = gateway.sessions();
            let error = &exchange.reply["error"];
            let kind = match (&found, error["code"].as_str().unwrap()) {
                // The next try succeeds.
                (Ok(_), "UNAVAILABLE") => "unavailable",
                (Err(Fault::MissingScope(scope)), "FORBIDDEN") => {
                    assert_eq!(scope, error["details"]["missingScope"].as_str().unwrap());
                    "missing scope"
                }
                (Err(Fault::Refused { message, .. }), "INVALID_REQUEST" | "FORBIDDEN") => {
                    assert_eq!(message, error["message"].as_str().unwrap());
                    "refused"
                }
                _ => panic!("{name}, {}: {found:?} of {error}", exchange.case),
            };
            seen.insert(kind);
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["missing scope", "refused", "unavailable"]);
}

#[test]
fn the_client_reads_every_catalogue() {
    let mut read = BTreeSet::new();
    for (name, path) in recordings().filter(|(name, _)| !OTHERS.contains(&name.as_str())) {
        for exchange in exchanges(&path).into_iter().filter(|exchange| exchange.reply["ok"] == true) {
            let double = Double::start(World::default());
            let mut gateway = client(&double).unwrap();
            let payload = &exchange.reply["payload"];
            let answer = |method| double.once(method, with_id(&exchange.reply, "r2"));
            match exchange.method.as_str() {
                "models.list" => {
                    answer("models.list");
                    let models = gateway.models("main").unwrap();
                    assert_eq!(models.len(), payload["models"].as_array().unwrap().len(), "{name}, {}", exchange.case);
                    assert!(models.iter().all(|model| model.name().starts_with("fake/")));
                }
                "agents.list" => {
                    answer("agents.list");
                    let agents = gateway.agents().unwrap();
                    assert_eq!(agents.len(), payload["agents"].as_array().unwrap().len());
                    assert_eq!(agents[0].model.primary.as_deref(), Some("fake/mid"));
                    assert_eq!(agents[0].model.fallbacks, ["fake/small"]);
                }
                "config.get" => {
                    answer("config.get");
                    let configuration = gateway.configuration().unwrap();
                    let by_channel = payload["config"]["channels"].get("modelByChannel").is_some();
                    assert_eq!(!configuration.channels_with_models.is_empty(), by_channel);
                    let scope = payload["config"]["session"]["dmScope"].as_str();
                    assert_eq!(configuration.dm_scope.as_deref(), scope);
                }
                _ => continue,
            }
            read.insert(exchange.method);
        }
    }
    assert_eq!(read.into_iter().collect::<Vec<_>>(), ["agents.list", "config.get", "models.list"]);
}
