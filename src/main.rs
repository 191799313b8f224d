//! The `reconcile` program. Everything is in the library; this is its edge.

use std::process::ExitCode;

fn main() -> ExitCode {
    reconcile::cli::main()
}
