//! Why a gateway cannot be asked with what is on this host.

use std::path::PathBuf;

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Octal, Sentence};
use crate::sentence;

/// Why a gateway cannot be asked with what is on this host. What the gateway itself answers is a `Fault`.
#[derive(Debug)]
pub(super) enum GatewayProblem {
    /// The variable that is to hold the token is not set.
    NoToken { variable: Foreign },
    /// The token's file is not used.
    TokenFile { path: PathBuf, why: NotUsed },
    /// The saved thinking levels cannot be read.
    LevelsUnusable { path: PathBuf, why: Sentence },
}

/// Why a file is not taken for the token's.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotUsed {
    /// It belongs to another user than this one.
    Owner { owner: u32, user: u32 },
    /// Other users can read or change it.
    Mode(u32),
    /// It holds no token.
    Content(&'static str),
}

impl Explain for GatewayProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoToken { variable } => {
                let message = sentence!(
                    "the token of the gateway is not in {}: it is not set, or not one line of text",
                    variable
                );
                Explanation::new("no-token", message)
                    .hint(sentence!("set {} to gateway.auth.token of OpenClaw's configuration", variable))
            }
            Self::TokenFile { path, why } => {
                let (why, hint) = match why {
                    NotUsed::Owner { owner, user } => (
                        sentence!("it belongs to user {}, and this is user {}", *owner, *user),
                        sentence!("chown {} {}", *user, path),
                    ),
                    NotUsed::Mode(mode) => (
                        sentence!("its mode is {}, so other users can read or change it", Octal(*mode)),
                        sentence!("chmod 600 {}", path),
                    ),
                    NotUsed::Content(why) => (
                        (*why).into(),
                        "it holds the token, and nothing else, on one line of at most 4096 bytes".into(),
                    ),
                };
                Explanation::new("token-file", sentence!("the token file {} is not used: {}", path, why)).hint(hint)
            }
            Self::LevelsUnusable { path, why } => {
                Explanation::new("thinking-levels", sentence!("{} cannot be used: {}", path, why))
                    .hint("restore it, or remove it: the thinking levels in it are then not put back")
            }
        }
    }
}
