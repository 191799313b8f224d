//! A gateway, as it is asked: what is listed, what is changed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

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
    /// The chat.
    pub key: String,
    /// The session that was listed for it. The gateway changes no other, and creates none.
    pub session_id: String,
}

/// What became of one target of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetOutcome {
    /// It is changed, and the change is on disk.
    Done,
    /// It was deleted, or made anew, since it was listed. Nothing was changed.
    SessionChanged,
    /// The gateway asks to come back later, in its own words. Nothing was changed.
    Later(String),
    /// The gateway refuses it for good, in its own words. Nothing was changed.
    Refused(String),
}

/// How a gateway is reached, and what lets this program in.
#[derive(Debug)]
pub struct Access {
    /// Where it listens. The user has consented to the token being sent there.
    pub address: Address,
    /// The only certificate that it may present. `None`: one for its name that the system trusts.
    pub fingerprint: Option<Fingerprint>,
    /// Its shared token, where it asks for one.
    pub token: Option<Token>,
    /// What identifies this program, where the gateway asks for that.
    pub device: Option<Device>,
}

impl Access {
    /// A gateway that asks for a token alone.
    pub fn with_token(address: Address, token: Option<Token>) -> Self {
        Self { address, fingerprint: None, token, device: None }
    }
}

/// A gateway to which this program is connected.
///
/// A connection that the gateway closes between two requests is made anew.
pub struct Gateway {
    access: Access,
    scope: Scope,
    timeout: Duration,
    /// The release of OpenClaw.
    version: String,
    /// `None` after a request to which there was no reply.
    connection: Option<Connection>,
}

impl Gateway {
    /// Connects. A request is made again for as long as the gateway says that it cannot answer now, until `timeout` has
    /// passed; each try waits for its reply no longer than `timeout`.
    ///
    /// # Errors
    /// Where it cannot be reached in that time, does not let this program in, or is not supported.
    pub fn connect(access: Access, scope: Scope, timeout: Duration) -> Result<Self, Fault> {
        let mut gateway = Self { access, scope, timeout, version: String::new(), connection: None };
        gateway.connection = Some(patiently(timeout, |until| gateway.greet(until))?);
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

    /// What the configuration says that a policy about sessions depends on.
    ///
    /// # Errors
    /// Where there is no reply.
    pub fn configuration(&mut self) -> Result<Configuration, Fault> {
        let configured: Configured = self.call(CONFIGURATION, &json!({}))?;
        Ok(configured.into())
    }

    /// Pins sessions to a model, named as `provider/name`, or lets them follow OpenClaw's configuration. It counts from
    /// their next turn; a running one is not cut. Returns what became of each target, in their order.
    ///
    /// # Errors
    /// Where the request as a whole failed. See [`Fault::is_perhaps_done`].
    pub fn patch(&mut self, targets: &[Target], model: Option<&str>) -> Result<Vec<TargetOutcome>, Fault> {
        self.change(targets, &json!({ "model": model }))
    }

    /// As [`Gateway::patch`], and gives the sessions this thinking level of their own in the same step.
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

    /// Gives sessions a thinking level of their own, or takes it from them. Returns what became of each target, in their
    /// order.
    ///
    /// # Errors
    /// Where the request as a whole failed. See [`Fault::is_perhaps_done`].
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

    /// Makes a request. While the gateway says that it cannot answer now, it is asked again.
    fn call<T: DeserializeOwned>(&mut self, method: &'static str, params: &Value) -> Result<T, Fault> {
        patiently(self.timeout, |until| {
            let mut connection = match self.connection.take().and_then(Connection::still_open) {
                Some(connection) => connection,
                None => self.greet(until)?,
            };
            let reply = connection.call(method, params, until);
            // One that did not answer this is not trusted with the next request.
            let is_in_step = !matches!(&reply, Err(fault) if fault.is_perhaps_done());
            self.connection = is_in_step.then_some(connection);
            reply
        })
    }

    /// Connects, and says who we are.
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

/// Asks for as long as the gateway says that it cannot answer now, until the timeout has passed. Each try has a deadline of
/// its own: a change that is sent when hardly any time is left would have an unknown outcome.
fn patiently<T>(timeout: Duration, mut ask: impl FnMut(Instant) -> Result<T, Fault>) -> Result<T, Fault> {
    let last = Instant::now() + timeout;
    loop {
        let fault = match ask(Instant::now() + timeout) {
            Err(fault) => fault,
            done => return done,
        };
        match fault.again() {
            Some(again) if Instant::now() + again < last => sleep(again),
            _ => return Err(fault),
        }
    }
}

/// What a gateway says about one target.
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
