//! How a wait for a server learns that the user wants it to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::os::process::poll;

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Tells the waits of a backend whether the user wants them to end. The default never does.
#[derive(Clone, Debug, Default)]
pub struct GiveUp(Arc<AtomicBool>);

impl GiveUp {
    /// Waits end once `asked` is true.
    pub fn when(asked: Arc<AtomicBool>) -> Self {
        Self(asked)
    }

    /// Whether the user wants waits to end.
    pub(in crate::backend) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for this time, and no longer once the user wants waits to end.
    pub(in crate::backend) fn wait(&self, time: Duration) {
        // A signal does not end a sleep, and may be handled by another thread.
        poll(time, LOOK, || self.is_asked());
    }
}
