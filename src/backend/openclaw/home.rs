//! A gateway as this host reaches it: its address, its token, and the state directory of its runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::backend::give_up::GiveUp;
use crate::backend::listener::Listener;
use crate::backend::openclaw::address::Address;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::gateway::{Access, Gateway};
use crate::backend::openclaw::hello::Scope;
use crate::backend::openclaw::problem::GatewayProblem;
use crate::backend::openclaw::remote::Device;
use crate::backend::openclaw::token::Token;
use crate::error::Result;
use crate::foreign::sentence;
use crate::os::private;
use crate::policy::fingerprint::Fingerprint;
use crate::redact::hex;
use crate::state::apart::StateHome;

/// The longest token, in bytes.
const LONGEST_TOKEN: u64 = 4 << 10;
/// How many hexadecimal digits of a hash are in the name of a state directory.
const DIGITS: usize = 16;

/// A gateway, as this host reaches it.
#[derive(Clone, Debug)]
pub struct GatewayHome {
    /// The address. The user has consented to a token being sent there.
    pub address: Address,
    /// The only certificate that the gateway may present, if one is given.
    pub fingerprint: Option<Fingerprint>,
    /// Where its token is.
    pub token: TokenAt,
    /// The file with the private key that identifies this program, if it has one.
    pub device_key: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether sessions of scheduled jobs and of subagents are managed as well.
    pub background: bool,
    /// Where runs remember what they did.
    pub state: StateHome,
}

/// Where a gateway's token is on this host.
#[derive(Clone, Debug)]
pub enum TokenAt {
    /// The gateway needs no token.
    Nowhere,
    /// In the environment variable of this name, which has this value.
    Env(String, Option<Token>),
    /// In the file with this path.
    File(PathBuf),
}

impl GatewayHome {
    /// The name of the directory for what runs remember of the gateway at this address.
    pub(crate) fn state_name(address: &Address) -> String {
        let digest = hex(&Sha256::digest(address.to_string()));
        format!("openclaw-{}", &digest[..DIGITS])
    }

    /// The files that are read, and the directory with the state. No report may replace one of them.
    pub fn needed(&self) -> Vec<PathBuf> {
        let token = match &self.token {
            TokenAt::File(path) => Some(path.clone()),
            TokenAt::Nowhere | TokenAt::Env(..) => None,
        };
        token.into_iter().chain(self.device_key.clone()).chain([self.state.path().to_owned()]).collect()
    }

    /// Connects. This and later waits end when `give_up` says so.
    pub(super) fn connect(&self, scope: Scope, give_up: GiveUp) -> Result<Gateway> {
        let access = Access {
            address: self.address.clone(),
            fingerprint: self.fingerprint,
            token: self.token.read()?,
            device: self.device()?,
        };
        Ok(Gateway::connect_unless(access, scope, self.timeout, give_up)?)
    }

    /// The identity of this program, if it has a key.
    pub(super) fn device(&self) -> Result<Option<Device>> {
        self.device_key.as_deref().map(Device::read).transpose()
    }
}

impl TokenAt {
    /// Reads the token; `None` where the gateway needs none. No error quotes it.
    ///
    /// # Errors
    /// Where the token does not exist, or other users can read it.
    pub(super) fn read(&self) -> Result<Option<Token>> {
        match self {
            Self::Nowhere => Ok(None),
            Self::Env(_, Some(token)) => Ok(Some(token.clone())),
            Self::Env(name, None) => Err(GatewayProblem::NoToken { variable: name.as_str().into() }.into()),
            Self::File(path) => in_file(path).map(Some),
        }
    }
}

/// Makes a request of this method through `ask`, and tells the listener of it.
pub(super) fn heard<T>(
    listener: &dyn Listener,
    method: &'static str,
    ask: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, Fault> {
    listener.hear(&sentence!("the request {} begins", method), None);
    let answer = ask();
    let what = if answer.is_ok() { "answered" } else { "the gateway did not do it" };
    listener.hear(&sentence!("the request {} has ended: {}", method, what), None);
    answer
}

/// The token in a file that no other user can read.
fn in_file(path: &Path) -> Result<Token> {
    let text = private::read(path, "token", LONGEST_TOKEN)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    token_of(line).ok_or_else(|| GatewayProblem::NotOneLine { path: path.to_owned() }.into())
}

/// The token in a text, which must be one line without control characters.
pub fn token_of(line: &str) -> Option<Token> {
    (!line.is_empty() && !line.chars().any(char::is_control)).then(|| Token::new(line))
}
