//! `corelane-perf`: the instrument as a program of its own.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use corelane_perf::ack::{self, AckArguments};
use corelane_perf::floor::{self, FloorArguments};

/// Measure hosts from outside any broker.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Floor(FloorArguments),
    /// How long a producer waits for its acks: a closed loop against a broker
    Ack(AckArguments),
}

fn main() -> ExitCode {
    let printed = match Arguments::parse().command {
        Command::Floor(arguments) => print_floor(arguments),
        Command::Ack(arguments) => print_ack(arguments),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelane-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_floor(arguments: FloorArguments) -> Result<(), Box<dyn std::error::Error>> {
    let json = arguments.json;
    eprintln!("measuring for about {:.0} s", arguments.estimate()?.as_secs_f64());
    let report = floor::run(arguments)?;
    let text = if json { report.to_json() } else { report.to_string() };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(())
}

fn print_ack(arguments: AckArguments) -> Result<(), Box<dyn std::error::Error>> {
    writeln!(std::io::stdout(), "{}", ack::run(arguments)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_read_as_meant() {
        Arguments::command().debug_assert();
        let line = ["corelane-perf", "floor", "--directory", "/data", "--json", "--seconds", "1.5"];
        let Command::Floor(arguments) = Arguments::try_parse_from(line).expect("the line is legal").command
        else {
            panic!("floor was asked for")
        };
        assert_eq!(
            arguments,
            FloorArguments { directory: "/data".into(), json: true, seconds: 1.5, rounds: 3 }
        );
    }
}
