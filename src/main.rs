//! The `reconcile` program, which only calls the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    reconcile::cli::main()
}
