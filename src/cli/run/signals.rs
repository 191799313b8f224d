//! Signals. The first SIGINT or SIGTERM asks a run to end after what is under way; a second ends it at once, which
//! loses nothing: a restart that is owed is on disk before it is begun.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::backend::GiveUp;
use crate::cli::exit::Exit;

/// Whether the run was asked to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first only sets what the second finds set.
            flag::register_conditional_shutdown(signal, i32::from(Exit::Partly as u8), Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self(asked))
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What ends the waits of a backend once the run is asked to end.
    pub(crate) fn give_up(&self) -> GiveUp {
        GiveUp::when(Arc::clone(&self.0))
    }
}

/// A write over the limit on file sizes is then an error like any other, instead of death.
pub(crate) fn survive_file_size_limit() {
    let file_size = rustix::process::Signal::XFSZ.as_raw();
    // Where it cannot be done, the write still cannot do harm: it is to a file that is not in use yet.
    let _ = flag::register(file_size, Arc::default());
}
