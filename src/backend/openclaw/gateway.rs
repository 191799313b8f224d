//! A client for a gateway: lists its sessions and changes them.

use std::mem;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::backend::give_up::GiveUp;
use crate::backend::openclaw::address::Address;
use crate::backend::openclaw::catalog::{
    AGENTS, AgentRow, Agents, CONFIGURATION, Configuration, Configured, MODELS, ModelRow, Models,
};
use crate::backend::openclaw::connection::Connection;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::frame::{CONNECT, Refusal};
use crate::backend::openclaw::hello::{self, Hello, PATCH, Scope};
use crate::backend::openclaw::listing::{self, Listed};
use crate::backend::openclaw::remote::Device;
use crate::backend::openclaw::token::Token;
use crate::policy::fingerprint::Fingerprint;

/// A session that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The chat id.
    pub key: String,
    /// The id of the session that was listed for the chat. The gateway changes no other session, and creates none.
    pub session_id: String,
}

/// The outcome of a change for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetOutcome {
    /// The session was changed, and the change is on disk.
    Done,
    /// Nothing was changed, because the session was deleted or recreated since it was listed.
    SessionChanged,
    /// Nothing was changed, because the gateway asks to come back later, with this message.
    Later(String),
    /// Nothing was changed, because the gateway refuses the change, with this message.
    Refused(String),
}

/// The address of a gateway, and what this program needs to be let in.
#[derive(Debug)]
pub struct Access {
    /// The address. The user has consented to the token being sent there.
    pub address: Address,
    /// The only certificate that the gateway may present. Without it, any certificate for its name that the system trusts.
    pub fingerprint: Option<Fingerprint>,
    /// The shared token, if the gateway needs one.
    pub token: Option<Token>,
    /// The identity of this program, if the gateway needs one.
    pub device: Option<Device>,
}

impl Access {
    /// The access to a gateway that needs no more than a token.
    pub fn with_token(address: Address, token: Option<Token>) -> Self {
        Self { address, fingerprint: None, token, device: None }
    }
}

/// A gateway to which this program is connected.
///
/// It reconnects if the gateway closes the connection between two requests.
pub struct Gateway {
    access: Access,
    scope: Scope,
    timeout: Duration,
    /// Ends the waits between two tries.
    give_up: GiveUp,
    /// The release of OpenClaw, such as `2026.9.6`.
    version: String,
    /// The connection; `None` after a request without a reply.
    connection: Option<Connection>,
}

impl Gateway {
    /// Connects. This and later requests are repeated while the gateway says that it is unavailable, until `timeout`
    /// has passed. Each try waits for its reply for at most `timeout`.
    ///
    /// # Errors
    /// Where the gateway cannot be reached in that time, does not let this program in, or is not supported.
    pub fn connect(access: Access, scope: Scope, timeout: Duration) -> Result<Self, Fault> {
        Self::connect_unless(access, scope, timeout, GiveUp::default())
    }

    /// Connects with these rights. Where the gateway is not ready, it is asked again until the timeout, unless `give_up` ends that wait.
    ///
    /// # Errors
    /// Those of [`Gateway::connect`], and [`Fault::Interrupted`].
    pub fn connect_unless(access: Access, scope: Scope, timeout: Duration, give_up: GiveUp) -> Result<Self, Fault> {
        let waits = give_up.clone();
        let mut gateway = Self { access, scope, timeout, give_up, version: String::new(), connection: None };
        gateway.connection = Some(patiently(timeout, &waits, |until| gateway.greet(until))?);
        Ok(gateway)
    }

    /// The release of OpenClaw, such as `2026.9.6`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// All sessions that are not archived.
    ///
    /// # Errors
    /// Where the list is not complete, or a change of one session would change others.
    pub fn sessions(&mut self) -> Result<Listed, Fault> {
        let list: listing::Wire = self.call(listing::METHOD, &listing::params())?;
        list.checked(&self.version)
    }

    /// Lists the sessions, as long as the gateway takes to be ready: also where the user wants waits to end.
    ///
    /// # Errors
    /// Those of [`Gateway::sessions`].
    pub(super) fn sessions_at_any_rate(&mut self) -> Result<Listed, Fault> {
        let give_up = mem::take(&mut self.give_up);
        let listed = self.sessions();
        self.give_up = give_up;
        listed
    }

    /// The models to which sessions of an agent may be pinned.
    ///
    /// # Errors
    /// Where there is no reply, or the agent is not configured.
    pub fn models(&mut self, agent: &str) -> Result<Vec<ModelRow>, Fault> {
        let models: Models = self.call(MODELS, &json!({ "agentId": agent }))?;
        Ok(models.models)
    }

    /// The configured agents.
    ///
    /// # Errors
    /// Where there is no reply.
    pub fn agents(&mut self) -> Result<Vec<AgentRow>, Fault> {
        let agents: Agents = self.call(AGENTS, &json!({}))?;
        Ok(agents.agents)
    }

    /// The part of the configuration that a policy about sessions depends on.
    ///
    /// # Errors
    /// Where there is no reply.
    pub fn configuration(&mut self) -> Result<Configuration, Fault> {
        let configured: Configured = self.call(CONFIGURATION, &json!({}))?;
        Ok(configured.into())
    }

    /// Pins sessions to a model, named as `provider/name`, or lets them follow OpenClaw's configuration. The change
    /// takes effect at their next turn. Returns the outcome of each target, in their order.
    ///
    /// # Errors
    /// Where the request as a whole failed. [`Fault::is_perhaps_done`] says whether sessions may have been changed.
    pub fn patch(&mut self, targets: &[Target], model: Option<&str>) -> Result<Vec<TargetOutcome>, Fault> {
        self.change(targets, &json!({ "model": model }))
    }

    /// Sets the model and the thinking level of sessions in one request.
    ///
    /// # Errors
    /// As [`Gateway::patch`].
    pub(crate) fn patch_with_thinking(
        &mut self,
        targets: &[Target],
        model: Option<&str>,
        level: &str,
    ) -> Result<Vec<TargetOutcome>, Fault> {
        self.change(targets, &json!({ "model": model, "thinkingLevel": level }))
    }

    /// Sets or removes the sessions' own thinking level. Returns the outcome of each target, in their order.
    ///
    /// # Errors
    /// Where the request as a whole failed. [`Fault::is_perhaps_done`] says whether sessions may have been changed.
    pub fn set_thinking(&mut self, targets: &[Target], level: Option<&str>) -> Result<Vec<TargetOutcome>, Fault> {
        self.change(targets, &json!({ "thinkingLevel": level }))
    }

    fn change(&mut self, targets: &[Target], patch: &Value) -> Result<Vec<TargetOutcome>, Fault> {
        #[derive(Deserialize)]
        struct Outcomes {
            outcomes: Vec<Outcome>,
        }
        let guarded = targets.iter().map(|target| json!({ "key": target.key, "expectedSessionId": target.session_id }));
        let params = json!({ "targets": guarded.collect::<Vec<_>>(), "patch": patch });
        let Outcomes { outcomes } = self.call(PATCH, &params)?;
        if outcomes.len() != targets.len()
            || outcomes.iter().zip(targets).any(|(outcome, target)| outcome.key != target.key)
        {
            return Err(Fault::Malformed { method: PATCH, reason: "its outcomes do not match the targets".to_owned() });
        }
        Ok(outcomes.into_iter().map(Outcome::meaning).collect())
    }

    /// Makes a request, and repeats it while the gateway says that it is unavailable.
    fn call<T: DeserializeOwned>(&mut self, method: &'static str, params: &Value) -> Result<T, Fault> {
        let give_up = self.give_up.clone();
        patiently(self.timeout, &give_up, |until| {
            let mut connection = match self.connection.take().and_then(Connection::still_open) {
                Some(connection) => connection,
                None => self.greet(until)?,
            };
            let reply = connection.call(method, params, until);
            // After a lost or malformed reply, the next message could be about this request. So a new connection is made.
            let is_in_step = !matches!(&reply, Err(fault) if fault.is_perhaps_done());
            self.connection = is_in_step.then_some(connection);
            reply
        })
    }

    /// Opens a connection and identifies this program.
    fn greet(&mut self, until: Instant) -> Result<Connection, Fault> {
        let Access { address, fingerprint, token, device } = &self.access;
        let (mut connection, challenge) = Connection::open(address, *fingerprint, until)?;
        let params = hello::params(self.scope, token.as_ref(), device.as_ref(), &challenge);
        let hello: Hello = connection.call(CONNECT, &params, until)?;
        connection.set_limit(hello.policy.max_payload);
        self.version = hello.checked(self.scope)?;
        Ok(connection)
    }
}

/// Repeats a request while the gateway says that it is unavailable, until the timeout has passed or the user wants the wait
/// to end. Each try has a deadline of its own, because a change with hardly any time left would have an unknown outcome.
fn patiently<T>(
    timeout: Duration,
    give_up: &GiveUp,
    mut ask: impl FnMut(Instant) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let last = Instant::now() + timeout;
    loop {
        let (why, again) = match ask(Instant::now() + timeout) {
            Err(Fault::Unavailable { why, again }) if Instant::now() + again < last => (why, again),
            done => return done,
        };
        give_up.wait(again);
        if give_up.is_asked() {
            return Err(Fault::Interrupted(why));
        }
    }
}

/// The part of a gateway's reply that is about one target.
#[derive(Debug, Deserialize)]
struct Outcome {
    key: String,
    ok: bool,
    #[serde(default)]
    error: Option<Refusal>,
}

impl Outcome {
    fn meaning(self) -> TargetOutcome {
        match self.error.unwrap_or_default() {
            _ if self.ok => TargetOutcome::Done,
            refusal if refusal.is_session_changed() => TargetOutcome::SessionChanged,
            refusal if refusal.is_unavailable() => TargetOutcome::Later(refusal.into_message()),
            refusal => TargetOutcome::Refused(refusal.into_message()),
        }
    }
}
