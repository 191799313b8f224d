//! What only a gateway on another host needs: encrypted connections, and the identity of a device. Builds without the
//! feature `remote` have neither, and say so.

#[cfg(not(feature = "remote"))]
mod absent;
#[cfg(feature = "remote")]
mod device;
#[cfg(feature = "remote")]
mod tls;

#[cfg(not(feature = "remote"))]
pub use absent::Device;
#[cfg(feature = "remote")]
pub use device::Device;

#[cfg(not(feature = "remote"))]
pub(super) use absent::{Encrypted, encrypt};
#[cfg(feature = "remote")]
pub(super) use tls::{Encrypted, encrypt};

/// Whether this build has the feature `remote`.
pub(super) const IS_BUILT_IN: bool = cfg!(feature = "remote");
