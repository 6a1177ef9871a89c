//! What the command line says, for this crate's own program and for any other that offers the same measurement.

use std::path::PathBuf;
use std::time::Duration;

use super::error::Error;
use super::run::rows;

/// Rounds below which a median says little.
const ROUNDS_MIN: u32 = 3;
/// More than anyone waits for, and few enough that every histogram can be kept.
const ROUNDS_MAX: u32 = 101;
/// The longest row, in seconds.
const SECONDS_MAX: f64 = 3600.0;

/// Measure this host's floors: echo, durable ack, durable writes, checksum, copy.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct FloorArguments {
    /// Directory on the disk to measure, on a real file system; a file of 16 MiB is made there and removed again
    #[arg(long, default_value = ".")]
    pub directory: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Seconds to measure each row, over all rounds together
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Rounds, in each of which every row has its turn (3 to 101)
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
}

impl FloorArguments {
    /// About how long the whole run takes.
    pub fn estimate(&self) -> Result<Duration, Error> {
        let rows = u32::try_from(rows()).expect("a few dozen rows");
        // A tenth more goes into warming up.
        Ok(self.turn()? * self.rounds * rows * 11 / 10)
    }

    /// How long a row is measured in one round.
    pub(super) fn turn(&self) -> Result<Duration, Error> {
        if !(ROUNDS_MIN..=ROUNDS_MAX).contains(&self.rounds) {
            return Err(Error::Arguments("rounds must lie between 3 and 101"));
        }
        if !(self.seconds > 0.0 && self.seconds <= SECONDS_MAX) {
            return Err(Error::Arguments("seconds must lie above 0 and at most at 3600"));
        }
        Ok(Duration::from_secs_f64(self.seconds / f64::from(self.rounds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_and_seconds_outside_their_ranges_are_refused() {
        let good = FloorArguments { directory: ".".into(), json: false, seconds: 3.0, rounds: 3 };
        assert_eq!(good.turn().unwrap(), Duration::from_secs(1));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 3601.0] {
            assert!(FloorArguments { seconds, ..good.clone() }.turn().is_err(), "{seconds}");
        }
        for rounds in [0, 2, 102] {
            assert!(FloorArguments { rounds, ..good.clone() }.turn().is_err(), "{rounds}");
        }
    }
}
