//! The gateway that a policy names, as far as this host consents to it. A policy may come from a pull request: so it never
//! chooses alone to which other host a token is sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backend::openclaw::{Address, BadAddress, GatewayHome, TokenAt, token_of};
use crate::cli::args::PlaceArgs;
use crate::cli::paths::{beside_policy, home};
use crate::cli::problem::{NamedBy, PlaceProblem};
use crate::error::Result;
use crate::policy::fingerprint::{Fingerprint, NotAFingerprint};
use crate::policy::{OpenclawSettings, TokenSource};
use crate::state::apart::StateHome;

/// The variable of the environment in which the user can name the address.
pub(crate) const VARIABLE: &str = "RECONCILE_GATEWAY_URL";
/// The variable in which the user can name the only certificate that the gateway may present.
const FINGERPRINT: &str = "RECONCILE_GATEWAY_FINGERPRINT";

/// The gateway at the address that the user names, else at the policy's, which must be on this host. `policy` is the path of
/// the policy.
pub(crate) fn gateway_of(
    place: &PlaceArgs,
    settings: &OpenclawSettings,
    timeout: Duration,
    policy: &Path,
) -> Result<GatewayHome> {
    let address = address(place, settings)?;
    let token = match &settings.token {
        None => TokenAt::Nowhere,
        Some(TokenSource::Env(name)) => {
            let token = std::env::var(name).ok().and_then(|token| token_of(&token));
            TokenAt::Env(name.clone(), token)
        }
        Some(TokenSource::File(path)) => TokenAt::File(beside_policy(policy, path)?),
    };
    let state = match &settings.state {
        Some(state) => beside_policy(policy, state)?,
        None => state_home()?.join("reconcile").join(GatewayHome::state_name(&address)),
    };
    let fingerprint = fingerprint(&address, settings)?;
    let device_key = settings.device_key.as_deref().map(|path| beside_policy(policy, path)).transpose()?;
    Ok(GatewayHome {
        address,
        fingerprint,
        token,
        device_key,
        timeout,
        background: settings.background,
        state: StateHome::new(state),
    })
}

/// The address to which the user consents.
fn address(place: &PlaceArgs, settings: &OpenclawSettings) -> Result<Address> {
    let named = place.connect(VARIABLE);
    let url = named.as_deref().unwrap_or(&settings.url);
    let address: Address = url.parse().map_err(|error: BadAddress| {
        let named = match (&error, &named) {
            (BadAddress::Remote(_) | BadAddress::Tls(_), None) => NamedBy::Policy,
            _ => NamedBy::Host,
        };
        PlaceProblem::Gateway { why: error.to_string().into(), named, hint: error.hint() }
    })?;
    if named.is_none() && !address.is_loopback() {
        return Err(PlaceProblem::GatewayElsewhere { address: address.to_string().into(), variable: VARIABLE }.into());
    }
    Ok(address)
}

/// The only certificate that the gateway may present, where that is said. A policy pins that of a gateway on this host alone:
/// who chose the certificate of another host could take that host's place.
fn fingerprint(address: &Address, settings: &OpenclawSettings) -> Result<Option<Fingerprint>> {
    let named = std::env::var(FINGERPRINT).ok().filter(|text| !text.is_empty());
    match (named, settings.fingerprint) {
        (Some(named), _) => named
            .parse()
            .map(Some)
            .map_err(|NotAFingerprint| PlaceProblem::Fingerprint { variable: FINGERPRINT }.into()),
        (None, Some(_)) if !address.is_loopback() => {
            let address = address.to_string().into();
            Err(PlaceProblem::CertificateElsewhere { address, variable: FINGERPRINT }.into())
        }
        (None, of_policy) => Ok(of_policy),
    }
}

/// The directory below which programs keep what they remember for this user.
fn state_home() -> Result<PathBuf> {
    // The specification says that a relative path counts as none.
    let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(home()?.join(".local/state"))).ok_or(PlaceProblem::NoStateHome.into())
}
