//! Carries a command out, tells its error, and picks the exit code: 0, 1 for the machine's faults, 2 for wrong
//! usage or settings.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::broker;
use crate::cli::args::{self, Arguments, Command, ConfigCommand, PerfCommand, ServeArguments};
use crate::cli::dump::{self, dump};
use crate::cli::perf;
use crate::cli::serve::serve;
use crate::config;
use crate::errors::{self, Class, Explained};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The broker could not be started, or did not end well.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// A dump found something wrong.
    #[error(transparent)]
    Dump(#[from] dump::Error),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// Anything rarer, in words.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn explained(&self) -> Option<&dyn Explained> {
        match self {
            Self::Config(error) => Some(error),
            Self::Broker(error) => Some(error),
            Self::Dump(error) => Some(error),
            Self::Output(_) | Self::Other(_) => None,
        }
    }

    /// What the user reads.
    pub(crate) fn text(&self) -> String {
        self.explained().map_or_else(|| format!("error: {self}\n"), errors::explain)
    }

    /// How the process ends.
    pub(crate) fn exit_code(&self) -> u8 {
        self.explained().map_or(Class::Runtime, |error| error.page().class()).exit_code()
    }
}

/// The whole program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Wrong usage ends the process here, with clap's message and the exit code 2.
    let arguments = args::parse(arguments).unwrap_or_else(|error| error.exit());
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where not even standard error can be written, the exit code still tells.
            let _ = io::stderr().write_all(failure.text().as_bytes());
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command.unwrap_or_else(|| Command::Serve(ServeArguments::default())) {
        Command::Serve(arguments) => serve(&arguments),
        Command::Config(ConfigCommand::Reference) => print(&config::reference_page()),
        Command::Dump(arguments) => dump(&arguments),
        Command::Perf(PerfCommand::Floor(arguments)) => perf::floor(arguments),
        Command::Perf(PerfCommand::Ack(arguments)) => perf::ack(arguments),
    }
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_end_with_2_and_all_else_with_1() {
        let values = &mut config::Values::default();
        let wrong = values.set("node.id", "-1", config::Origin::Set).expect_err("it is negative");
        assert_eq!(Failure::from(wrong).exit_code(), 2);
        let other = Failure::Other("the machine said no".to_owned());
        assert_eq!((other.exit_code(), other.text().as_str()), (1, "error: the machine said no\n"));
    }
}
