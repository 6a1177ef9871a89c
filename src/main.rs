//! The `corelane` program: everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    corelane::cli::main(std::env::args_os())
}
