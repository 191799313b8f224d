//! Why a gateway cannot be asked with what is on this host.

#[cfg(feature = "remote")]
use std::path::Path;
use std::path::PathBuf;

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Sentence, sentence};

/// Why a gateway cannot be asked with what is on this host. What the gateway itself answers is a `Fault`.
#[derive(Debug)]
pub(super) enum GatewayProblem {
    /// The variable that is to hold the token is not set.
    NoToken { variable: Foreign },
    /// The token's file is not one line of text.
    NotOneLine { path: PathBuf },
    /// There is no file with the key of this device.
    #[cfg(feature = "remote")]
    NoDeviceKey { path: PathBuf },
    /// The file does not hold the key of a device.
    #[cfg(feature = "remote")]
    NotADeviceKey { path: PathBuf },
    /// This build has no identity of a device.
    #[cfg(not(feature = "remote"))]
    NoDevices,
    /// The saved thinking levels cannot be read.
    LevelsUnusable { path: PathBuf, why: Sentence },
}

impl Explain for GatewayProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoToken { variable } => {
                let message =
                    sentence!("{} does not hold the gateway's token: it is not set, or not one line of text", variable);
                Explanation::new("no-token", message)
                    .hint(sentence!("set {} to gateway.auth.token of OpenClaw's configuration", variable))
            }
            Self::NotOneLine { path } => {
                let message = sentence!("the token file {} is not used: it is empty, or has more than one line", path);
                Explanation::new("token-file", message).hint("it must hold only the token, on one line")
            }
            #[cfg(feature = "remote")]
            Self::NoDeviceKey { path } => {
                Explanation::new("no-device-key", sentence!("there is no device key {}", path)).hint(make(path))
            }
            #[cfg(feature = "remote")]
            Self::NotADeviceKey { path } => {
                let message = sentence!("the device key {} is not an Ed25519 key in PEM form", path);
                Explanation::new("not-a-device-key", message).hint(make(path))
            }
            #[cfg(not(feature = "remote"))]
            Self::NoDevices => {
                let message =
                    "sessions.device_key is set, but this build of reconcile does not support the identity of a device";
                Explanation::new("no-devices", message)
                    .hint("install a build that does: cargo install --path . --features remote")
            }
            Self::LevelsUnusable { path, why } => {
                Explanation::new("thinking-levels", sentence!("{} cannot be used: {}", path, why))
                    .hint("restore it, or remove it: the thinking levels in it are then not put back")
            }
        }
    }
}

#[cfg(feature = "remote")]
fn make(path: &Path) -> Sentence {
    sentence!("make one with: openssl genpkey -algorithm ed25519 -out {}", path)
}
