//! Where a gateway listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::foreign::{Foreign, Sentence};

/// The address of a gateway on this host, as in `ws://127.0.0.1:18789`.
///
/// It is always a loopback address, and no name is looked up: what is sent there does not leave the host, unless a tunnel
/// carries it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(SocketAddr);

/// Why a text is not the address of a gateway that this program connects to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is not of the form `ws://HOST:PORT`.
    #[error("{0} is not a valid gateway address")]
    Malformed(String),
    /// It asks for TLS.
    #[error("{0} needs TLS, which this program does not support")]
    Tls(String),
    /// It is on another host, or under a name that would have to be looked up.
    #[error("{0} is not on this host")]
    Remote(String),
}

impl BadAddress {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "use the form ws://127.0.0.1:18789",
            Self::Tls(_) | Self::Remote(_) => {
                "use a tunnel: ssh -N -L 18789:127.0.0.1:18789 HOST, and the address ws://127.0.0.1:18789"
            }
        }
    }
}

impl Address {
    /// Where to connect to.
    pub(super) fn socket(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let malformed = || BadAddress::Malformed(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?;
        if host.is_empty() || host.contains(['/', '@', '?', '#']) {
            return Err(malformed());
        }
        match scheme {
            "ws" => {}
            "wss" => return Err(BadAddress::Tls(text.to_owned())),
            _ => return Err(malformed()),
        }
        let ip = loopback(host).ok_or_else(|| BadAddress::Remote(text.to_owned()))?;
        Ok(Self(SocketAddr::new(ip, port)))
    }
}

/// The loopback address that a host is. The name `localhost` means what a gateway binds by default, without a look-up.
fn loopback(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    inner.parse::<IpAddr>().ok().filter(IpAddr::is_loopback)
}

impl From<&Address> for Sentence {
    fn from(address: &Address) -> Self {
        Foreign::from(address.to_string()).into()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ws://{}", self.0)
    }
}
