//! What can be typed after `corelane`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use corelane_perf::ack::AckArguments;
use corelane_perf::floor::FloorArguments;

use crate::cli::dump::DumpArguments;
use crate::cli::flags::Flags;

/// A Kafka-compatible log broker: every ack flushed at the price of one flush per core.
///
/// Without a command it serves on 127.0.0.1:9092 with its data in ./corelane-data.
#[derive(Debug, Parser)]
#[command(name = "corelane", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker (what happens without a command)
    Serve(ServeArguments),
    /// About the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show what the files of a data directory say, without changing anything
    Dump(DumpArguments),
    /// Measure this host and brokers on it
    #[command(subcommand)]
    Perf(PerfCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every key with its values and its default, as Markdown
    Reference,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PerfCommand {
    /// The host's floors: what an echo and a durable ack cost with no broker around them
    Floor(FloorArguments),
    /// How long a producer waits for its acks: a closed loop against a broker
    Ack(AckArguments),
}

/// The command line's part of the settings.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArguments {
    /// A TOML file of settings; flags override it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting by its full name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    pub(crate) assignments: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// Reads a command line; the error is what clap says, with a tip of ours where it has none.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(arguments).map_err(with_place_of_flag)
}

/// The broker starts without a command, so that a flag of `serve` without it is an easy mistake.
fn with_place_of_flag(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    let flag = flag.split('=').next().unwrap_or_default().to_owned();
    let command = Arguments::command();
    let mut flags = command.find_subcommand("serve").into_iter().flat_map(clap::Command::get_arguments);
    let is_of_serve = flags.any(|known| known.get_long().is_some_and(|long| flag == format!("--{long}")));
    if error.kind() == ErrorKind::UnknownArgument && is_of_serve {
        let tip = format!("it stands behind a command: 'corelane serve {flag}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as num.partitions=3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn assignments_split_at_the_first_sign() {
        assert_eq!(assignment("a.b = c=d"), Ok(("a.b".to_owned(), " c=d".to_owned())));
        assert!(assignment("a.b").is_err());
        assert!(assignment("=c").is_err());
    }
}
