//! Which server is meant and how to log in there: what is said of it, then its service, then the environment, as libpq has it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use postgres::Config;
use postgres::config::{SslMode, TargetSessionAttrs};

use crate::backend::postgres::files::{self, Login};
use crate::backend::postgres::problem::ConnectionProblem;
use crate::backend::postgres::tls::Roots;
use crate::error::{Bug, Error, Result};
use crate::policy::conninfo::{Conninfo, Unreadable};

/// The variables of the environment that say what a keyword would.
const VARIABLES: [(&str, &str); 12] = [
    ("service", "PGSERVICE"),
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("application_name", "PGAPPNAME"),
];
/// What leads to a server and keeps secrets on the way there. A policy alone does not decide on it, except on this host.
const GUARDED: [&str; 7] = ["host", "hostaddr", "port", "passfile", "sslmode", "sslrootcert", "target_session_attrs"];
/// Where the socket of a host's own server is. Not /tmp as well, where any user could put one and be sent a password.
const SOCKETS: &str = "/var/run/postgresql";
const PORT: &str = "5432";
const CONNECT_TIMEOUT: u64 = 10;
/// Without these, a server that is gone could keep a run waiting for good.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// What the host's environment says.
#[derive(Clone, Default)]
pub struct Environment {
    /// The variables, by name. Those that are empty say nothing.
    pub variables: BTreeMap<String, String>,
}

impl Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn at_home(&self, file: &str) -> Option<PathBuf> {
        self.get("HOME").map(|home| PathBuf::from(home).join(file))
    }
}

/// Who names the server.
#[derive(Clone, Copy)]
pub enum Said<'s> {
    /// The policy, which may come from a pull request.
    ByPolicy(&'s Conninfo),
    /// The operator of this host, with `--connect` or in the environment.
    ByHost(&'s Conninfo),
}

/// One server that may be the one that is meant.
#[derive(Clone)]
pub(super) struct Address {
    /// Its name in messages.
    pub(super) name: String,
    /// Whether it is an address of this host, or a socket.
    pub(super) is_local: bool,
    pub(super) config: Config,
    /// What its certificate must descend from; `None` where the connection is not encrypted.
    pub(super) roots: Option<Roots>,
}

/// Where one host is.
struct Host<'h> {
    name: &'h str,
    address: Option<IpAddr>,
    port: &'h str,
}

impl Host<'_> {
    fn is_socket(&self) -> bool {
        self.address.is_none() && self.name.starts_with('/')
    }

    /// Whether it is this host. An address of this host is not enough beside another's name, for which the password is: it
    /// would go to any program that listens here.
    fn is_local(&self) -> bool {
        let named = self.name.parse::<IpAddr>();
        let is_named = named.map_or(self.name == "localhost", |address| address.is_loopback());
        self.is_socket() || (is_named && self.address.is_none_or(|address| address.is_loopback()))
    }
}

/// The servers that are meant, in the order in which they are tried.
///
/// # Errors
/// Where something that is said makes no sense, a service is nowhere defined, or the policy alone names a server that is
/// not on this host.
pub(super) fn addresses(said: Said, environment: &Environment) -> Result<Vec<Address>> {
    let (Said::ByPolicy(named) | Said::ByHost(named)) = said;
    let mut settings = named.clone();
    complete(&mut settings, environment)?;
    let hosts = hosts(&settings)?;
    if let Said::ByPolicy(named) = said {
        check_consent(named, &hosts)?;
    }
    hosts.iter().map(|host| address(host, &settings, environment)).collect()
}

/// Adds what the service and the environment say where nothing was said yet.
fn complete(settings: &mut Conninfo, environment: &Environment) -> Result<()> {
    let service = settings.get("service").or_else(|| environment.get("PGSERVICE")).map(str::to_owned);
    if let Some(name) = service {
        for (keyword, value) in service_of(&name, environment)? {
            // Of a line of a service, what stands before the `=` is no part of a password.
            let message = format!("its keyword `{keyword}` is not supported").into();
            let of_service = |why: Unreadable| ConnectionProblem::Service {
                name: name.as_str().into(),
                message,
                advice: why.advice.into(),
            };
            add(settings, &keyword, value).map_err(of_service)?;
        }
    }
    for (keyword, variable) in VARIABLES {
        if let Some(value) = environment.get(variable) {
            add(settings, keyword, value.to_owned()).map_err(|_| Bug("a variable stands for no keyword"))?;
        }
    }
    Ok(())
}

fn add(settings: &mut Conninfo, keyword: &str, value: String) -> Result<(), Unreadable> {
    if settings.get(keyword).is_some() {
        return Ok(());
    }
    settings.set(keyword, value)
}

/// The settings of a service, from the user's file or the host's.
fn service_of(name: &str, environment: &Environment) -> Result<Vec<(String, String)>> {
    let of_user =
        environment.get("PGSERVICEFILE").map(PathBuf::from).or_else(|| environment.at_home(".pg_service.conf"));
    let directory = environment.get("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
    let of_host = PathBuf::from(directory).join("pg_service.conf");
    for file in of_user.iter().chain([&of_host]) {
        if let Some(settings) = files::service(file, name)? {
            return Ok(settings);
        }
    }
    let files = of_user.into_iter().chain([of_host]).collect();
    Err(ConnectionProblem::NoService { name: name.into(), files }.into())
}

fn hosts(settings: &Conninfo) -> Result<Vec<Host<'_>>> {
    let names = settings.get("host").or(settings.get("hostaddr")).unwrap_or(SOCKETS);
    let names: Vec<&str> = names.split(',').collect();
    let addresses = settings.get("hostaddr").map(|addresses| addresses.split(',').collect::<Vec<_>>());
    let ports: Vec<&str> = settings.get("port").unwrap_or(PORT).split(',').collect();
    let counts = |count, what| Error::from(ConnectionProblem::Counts { hosts: names.len(), count, what });
    if ports.len() != 1 && ports.len() != names.len() {
        return Err(counts(ports.len(), "ports"));
    }
    if let Some(addresses) = addresses.as_ref().filter(|addresses| addresses.len() != names.len()) {
        return Err(counts(addresses.len(), "addresses"));
    }
    let mut hosts = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let port = ports.get(at).or(ports.first()).copied().filter(|port| !port.is_empty()).unwrap_or(PORT);
        let address = addresses.as_ref().and_then(|addresses| addresses.get(at)).map(|address| address.parse());
        let address = address.transpose().map_err(|_| ConnectionProblem::NotAnAddress)?;
        hosts.push(Host { name, address, port });
    }
    Ok(hosts)
}

/// A policy from a pull request must send no secret to an address that it chose itself.
fn check_consent(named: &Conninfo, hosts: &[Host]) -> Result<()> {
    let Some(keyword) = named.keywords().find(|keyword| GUARDED.contains(keyword)) else { return Ok(()) };
    if hosts.iter().all(Host::is_local) {
        return Ok(());
    }
    Err(ConnectionProblem::Unconsented { keyword: keyword.into() }.into())
}

fn address(host: &Host, settings: &Conninfo, environment: &Environment) -> Result<Address> {
    let Some(user) = settings.get("user").or_else(|| environment.get("LOGNAME")).or_else(|| environment.get("USER"))
    else {
        return Err(ConnectionProblem::NoUser.into());
    };
    let database = settings.get("dbname").unwrap_or(user);
    let mut config = Config::new();
    config.user(user).dbname(database);
    config.application_name(settings.get("application_name").unwrap_or("reconcile"));
    config.port(number(host.port, "port")?);
    config.connect_timeout(Duration::from_secs(match settings.get("connect_timeout") {
        Some(seconds) => number::<u64>(seconds, "connect_timeout")?.max(1),
        None => CONNECT_TIMEOUT,
    }));
    config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
    config.keepalives_retries(KEEPALIVE_RETRIES).tcp_user_timeout(UNACKNOWLEDGED);
    config.target_session_attrs(session_attributes(settings)?);
    if host.is_socket() {
        config.host_path(host.name);
    } else {
        config.host(host.name);
    }
    if let Some(address) = host.address {
        config.hostaddr(address);
    }
    if let Some(password) =
        password(host, settings, environment, Login { host: host.name, port: host.port, database, user })?
    {
        config.password(password);
    }
    let roots = if is_encrypted(host, settings)? {
        Some(Roots::of(settings, environment.at_home(".postgresql")))
    } else {
        None
    };
    config.ssl_mode(if roots.is_some() { SslMode::Require } else { SslMode::Disable });
    Ok(Address { name: format!("{}:{}", host.name, host.port), is_local: host.is_local(), config, roots })
}

/// A connection over a network is encrypted, and the server proves its name, unless that is ruled out in words.
fn is_encrypted(host: &Host, settings: &Conninfo) -> Result<bool> {
    match settings.get("sslmode") {
        None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full") => Ok(!host.is_socket()),
        Some("disable") => Ok(false),
        Some(_) => {
            let write = "sslmode=verify-full, or sslmode=disable";
            Err(ConnectionProblem::Value { keyword: "sslmode", write }.into())
        }
    }
}

fn session_attributes(settings: &Conninfo) -> Result<TargetSessionAttrs> {
    match settings.get("target_session_attrs") {
        None | Some("any") => Ok(TargetSessionAttrs::Any),
        Some("read-write" | "primary") => Ok(TargetSessionAttrs::ReadWrite),
        Some("read-only" | "standby") => Ok(TargetSessionAttrs::ReadOnly),
        Some(_) => {
            let write = "any, read-write or read-only";
            Err(ConnectionProblem::Value { keyword: "target_session_attrs", write }.into())
        }
    }
}

fn password(host: &Host, settings: &Conninfo, environment: &Environment, login: Login) -> Result<Option<String>> {
    if let Some(password) = settings.get("password") {
        return Ok(Some(password.to_owned()));
    }
    let file = settings.get("passfile").map(PathBuf::from).or_else(|| environment.at_home(".pgpass"));
    let Some(file) = file else { return Ok(None) };
    // As in libpq: the usual socket of a host has its name.
    files::password(&file, if host.name == SOCKETS { Login { host: "localhost", ..login } } else { login })
}

fn number<N: std::str::FromStr>(text: &str, keyword: &'static str) -> Result<N> {
    text.parse().map_err(|_| ConnectionProblem::NotANumber { keyword }.into())
}
