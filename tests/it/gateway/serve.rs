//! One connection to the double of a gateway.

use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use crate::gateway::world::{World, invalid};
use crate::gateway::{Carrier, Shared, Trouble};

type Socket = WebSocket<Box<dyn Carrier>>;
type Ended = Box<dyn std::error::Error>;

/// A request, without what every request has.
struct Request {
    id: String,
    method: String,
    params: Value,
}

/// Serves a connection until either side ends it.
pub(super) fn serve(stream: Box<dyn Carrier>, shared: &Shared) -> Result<(), Ended> {
    match shared.trouble("upgrade") {
        Some(Trouble::Http(status)) => {
            let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return say(stream, &answer);
        }
        Some(Trouble::Say(text)) => return say(stream, &text),
        Some(Trouble::Cut) => return Ok(()),
        _ => {}
    }
    let mut socket = tungstenite::accept(stream)?;
    let ts = shared.world.lock().unwrap().now;
    send(
        &mut socket,
        &json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "NONCE", "ts": ts } }),
    )?;
    let Some(request) = next(&mut socket)? else { return close(&mut socket, 1000, "") };
    if request.method != "connect" {
        let error = invalid("invalid handshake: first request must be connect");
        return turn_away(&mut socket, &request.id, &error, 1008);
    }
    if !answer(&mut socket, shared, &[], &request)? {
        return Ok(());
    }
    let scopes = scopes(&request.params);
    while let Some(request) = next(&mut socket)? {
        if !answer(&mut socket, shared, &scopes, &request)? {
            return Ok(());
        }
    }
    close(&mut socket, 1000, "")
}

/// Says something that is no frame, and waits for the client to go: a system takes back what was said on a connection that is
/// closed before all is read that came in.
fn say(mut stream: Box<dyn Carrier>, text: &str) -> Result<(), Ended> {
    stream.write_all(text.as_bytes())?;
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

/// Answers a request, or what goes wrong with it. Returns whether the connection goes on.
fn answer(socket: &mut Socket, shared: &Shared, scopes: &[String], request: &Request) -> Result<bool, Ended> {
    let Request { id, method, params } = request;
    shared.requests.lock().unwrap().push((method.clone(), params.clone()));
    let trouble = shared.trouble(method);
    match &trouble {
        Some(Trouble::Refuse(error)) => {
            let is_over = method == "connect";
            send(socket, &json!({ "type": "res", "id": id, "ok": false, "error": error }))?;
            if is_over {
                close(socket, 1008, "")?;
            }
            return Ok(!is_over);
        }
        Some(Trouble::Say(text)) => {
            socket.send(Message::text(text.clone()))?;
            return Ok(true);
        }
        Some(Trouble::Close(code)) => {
            close(socket, *code, "service restart")?;
            return Ok(false);
        }
        Some(Trouble::Cut) => return Ok(false),
        Some(Trouble::Silence) => return Ok(true),
        _ => {}
    }
    let mut world = shared.world.lock().unwrap();
    let outcome = match method.as_str() {
        "connect" => hello(&world, params),
        method => world.answer(scopes, method, params).map_err(|error| (error, None)),
    };
    drop(world);
    match trouble {
        Some(Trouble::CutAfter) => return Ok(false),
        Some(Trouble::Overtake) => overtake(socket)?,
        _ => {}
    }
    match outcome {
        Ok(mut payload) => {
            if let Some(Trouble::Alter(change)) = trouble {
                change(&mut payload);
            }
            send(socket, &json!({ "type": "res", "id": id, "ok": true, "payload": payload }))?;
        }
        Err((error, Some(code))) => {
            turn_away(socket, id, &error, code)?;
            return Ok(false);
        }
        Err((error, None)) => send(socket, &json!({ "type": "res", "id": id, "ok": false, "error": error }))?,
    }
    if let Some(Trouble::CloseAfter(code)) = trouble {
        socket.close(Some(CloseFrame { code: code.into(), reason: "service restart".into() }))?;
        *shared.closed.lock().unwrap() += 1;
        return Ok(false);
    }
    Ok(true)
}

/// The reply to `connect`, or why there is none and the code with which the connection is closed.
fn hello(world: &World, params: &Value) -> Result<Value, (Value, Option<u16>)> {
    let known = ["minProtocol", "maxProtocol", "client", "role", "scopes", "caps", "auth", "device"];
    let away = |error: Value| Err((error, Some(1008)));
    if let Some(unknown) = params.as_object().unwrap().keys().find(|key| !known.contains(&key.as_str())) {
        return away(invalid(format!("invalid connect params: at root: unexpected property '{unknown}'")));
    }
    if !["gateway-client", "cli", "test"].contains(&params["client"]["id"].as_str().unwrap()) {
        return away(invalid("invalid connect params: at /client/id: must be equal to one of the allowed values"));
    }
    let (min, max) = (params["minProtocol"].as_u64().unwrap(), params["maxProtocol"].as_u64().unwrap());
    if !(min..=max).contains(&4) {
        let mut error = invalid("protocol mismatch");
        error["details"] = json!({
            "code": "PROTOCOL_MISMATCH", "clientMinProtocol": min, "clientMaxProtocol": max, "expectedProtocol": 4,
            "minimumProbeProtocol": 3,
        });
        return Err((error, Some(1002)));
    }
    let auth = &params["auth"];
    match auth["token"].as_str().or(auth["password"].as_str()) {
        None => {
            let details = json!({ "code": "DEVICE_IDENTITY_REQUIRED" });
            return away(json!({ "code": "NOT_PAIRED", "message": "device identity required", "details": details }));
        }
        Some(token) if token != world.token => {
            let mut error = invalid("unauthorized: gateway token mismatch (provide gateway auth token)");
            error["details"] = json!({
                "code": "AUTH_TOKEN_MISMATCH", "authReason": "token_mismatch", "canRetryWithDeviceToken": false,
                "recommendedNextStep": "update_auth_credentials",
            });
            return away(error);
        }
        Some(_) => {}
    }
    let methods: Vec<&str> = ["health", "models.list", "agents.list", "sessions.list", "sessions.patch"]
        .into_iter()
        .chain(world.methods.iter().copied())
        .collect();
    Ok(json!({
        "type": "hello-ok", "protocol": 4,
        "server": { "version": world.version, "bootId": "00000000-0000-4000-8000-000000000001", "connId": "00000000-0000-4000-8000-000000000002" },
        "features": { "methods": methods, "events": [] },
        "auth": { "role": "operator", "scopes": scopes(params) },
        "policy": { "maxPayload": 26_214_400, "maxBufferedBytes": 52_428_800, "tickIntervalMs": 30_000 },
        "snapshot": {},
    }))
}

/// The scopes of a connection: those that it asks for, where it says that it is one of two programs.
fn scopes(params: &Value) -> Vec<String> {
    let client = (params["client"]["id"].as_str().unwrap(), params["client"]["mode"].as_str().unwrap());
    if ![("gateway-client", "backend"), ("cli", "cli")].contains(&client) {
        return Vec::new();
    }
    let asked = params["scopes"].as_array().into_iter().flatten();
    asked.map(|scope| scope.as_str().unwrap().to_owned()).collect()
}

/// Sends what may come before a reply, and waits for the answer to a ping.
fn overtake(socket: &mut Socket) -> Result<(), Ended> {
    send(socket, &json!({ "type": "event", "event": "tick", "payload": { "ts": 0 }, "seq": 1 }))?;
    send(socket, &json!({ "type": "res", "id": "another", "ok": true, "payload": { "sessions": 5 } }))?;
    socket.send(Message::Ping("are you there".into()))?;
    match socket.read()? {
        Message::Pong(text) if text == "are you there" => Ok(()),
        other => Err(format!("{other} instead of a pong").into()),
    }
}

/// The next request; `None` where the client sends what is no JSON.
fn next(socket: &mut Socket) -> Result<Option<Request>, Ended> {
    loop {
        let text = match socket.read()? {
            Message::Text(text) => text,
            Message::Close(_) => return Err(Error::ConnectionClosed.into()),
            _ => continue,
        };
        let Ok(mut frame) = serde_json::from_str::<Value>(&text) else { return Ok(None) };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        return Ok(Some(Request {
            id: text(&frame["id"]),
            method: text(&frame["method"]),
            params: frame["params"].take(),
        }));
    }
}

fn send(socket: &mut Socket, frame: &Value) -> Result<(), Ended> {
    Ok(socket.send(Message::text(frame.to_string()))?)
}

fn turn_away(socket: &mut Socket, id: &str, error: &Value, code: u16) -> Result<(), Ended> {
    let reason = error["message"].as_str().unwrap_or_default().to_owned();
    send(socket, &json!({ "type": "res", "id": id, "ok": false, "error": error }))?;
    close(socket, code, &reason)
}

/// Closes the connection, and waits for the client to do the same.
fn close(socket: &mut Socket, code: u16, reason: &str) -> Result<(), Ended> {
    socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() }))?;
    while socket.read().is_ok() {}
    Ok(())
}
