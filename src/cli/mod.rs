//! The command line: arguments in, an exit code out.
//!
//! `args` says what can be typed, `flags` makes a flag of each setting, `serve` turns both and the file into
//! settings, `run` carries a command out and tells its errors.

mod args;
mod flags;
#[cfg(test)]
mod mistakes;
mod run;
mod serve;

pub use run::main;
