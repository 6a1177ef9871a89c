//! The command line: arguments in, an exit code out.
//!
//! `args` says what can be typed, `flags` makes a flag of each setting, `serve` turns both and the file into
//! settings, `perf` is the instrument's door, `dump` shows files of a data
//! directory, `log` starts the log, `run` carries a command out and tells its errors.

mod args;
mod dump;
mod flags;
mod log;
#[cfg(test)]
mod mistakes;
mod perf;
mod run;
mod serve;

pub use run::main;
