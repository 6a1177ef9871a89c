//! The broker with a planted bug: acks=all is answered before the flush.
//!
//! It exists so that the power-cut tests can show that they notice; see `tests/durability/power.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    corelane::cli::main(std::env::args_os())
}
