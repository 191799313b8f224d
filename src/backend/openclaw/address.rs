//! The address of a gateway.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::backend::openclaw::remote;
use crate::foreign::{Foreign, Sentence};

/// The address of a gateway, as in `ws://127.0.0.1:18789` or `wss://gateway.example:18789`.
///
/// A connection to another host is always encrypted: `ws://` is allowed for loopback addresses only, which lead to another host
/// only through a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    host: Host,
    port: u16,
}

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Not encrypted.
    Ws,
    /// Encrypted with TLS.
    Wss,
}

/// A host, as an address names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A name that is looked up.
    Name(String),
}

/// Why a text is not the address of a gateway that this program connects to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is not of the form `ws://HOST:PORT` or `wss://HOST:PORT`.
    #[error("{0} is not a valid gateway address")]
    Malformed(String),
    /// It does not say at which port the gateway listens.
    #[error("{0} is not a valid gateway address: it has no port")]
    NoPort(String),
    /// It asks for TLS.
    #[error("{0} needs TLS, which this build of reconcile does not support")]
    Tls(String),
    /// It is on another host, or under a name that would have to be looked up, and asks for no TLS.
    #[error("{0} is not on this host")]
    Remote(String),
}

impl BadAddress {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "use the form ws://127.0.0.1:18789",
            Self::NoPort(_) => "add the port, as in ws://127.0.0.1:18789 or wss://HOST:18789",
            Self::Remote(_) if remote::IS_BUILT_IN => {
                "use wss://, if the gateway has TLS, or a tunnel: ssh -N -L 18789:127.0.0.1:18789 HOST, and the address \
                 ws://127.0.0.1:18789"
            }
            Self::Tls(_) | Self::Remote(_) => {
                "use a tunnel: ssh -N -L 18789:127.0.0.1:18789 HOST, and the address ws://127.0.0.1:18789; or install \
                 a build with TLS: cargo install --path . --features remote"
            }
        }
    }
}

impl Address {
    /// Whether it is on this host.
    pub fn is_loopback(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_loopback())
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let malformed = || BadAddress::Malformed(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An address of version 6 has colons of its own, in brackets.
        let has_port = rest.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        if ["ws", "wss"].contains(&scheme) && !has_port {
            return Err(BadAddress::NoPort(text.to_owned()));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?;
        if host.is_empty() || host.contains(['/', '@', '?', '#']) {
            return Err(malformed());
        }
        let scheme = match scheme {
            "ws" => Scheme::Ws,
            "wss" if remote::IS_BUILT_IN => Scheme::Wss,
            "wss" => return Err(BadAddress::Tls(text.to_owned())),
            _ => return Err(malformed()),
        };
        let address = Self { scheme, host: Host::of(host).ok_or_else(malformed)?, port };
        if scheme == Scheme::Ws && !address.is_loopback() {
            return Err(BadAddress::Remote(text.to_owned()));
        }
        Ok(address)
    }
}

impl Host {
    /// Parses a host. The name `localhost` stands for 127.0.0.1, which a gateway listens on by default, and is not looked up.
    fn of(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("localhost") {
            return Some(Self::Ip(Ipv4Addr::LOCALHOST.into()));
        }
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = inner.parse() {
            return Some(Self::Ip(ip));
        }
        let is_name = text.chars().all(|letter| letter.is_ascii_alphanumeric() || ['-', '.', '_'].contains(&letter));
        is_name.then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl From<&Address> for Sentence {
    fn from(address: &Address) -> Self {
        Foreign::from(address.to_string()).into()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        };
        match &self.host {
            Host::Ip(ip) => write!(f, "{scheme}://{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "{scheme}://{name}:{}", self.port),
        }
    }
}
