//! `corelane perf`: the instrument, which lives in a crate of its own and knows nothing of the broker.

use corelane_perf::ack::{self, AckArguments};
use corelane_perf::floor::{self, FloorArguments};

use crate::cli::run::{Failure, print};

/// Measures the host's floors and prints the report.
pub(crate) fn floor(arguments: FloorArguments) -> Result<(), Failure> {
    let is_json = arguments.json;
    let report = floor::run(arguments).map_err(|error| Failure::Other(error.to_string()))?;
    let text = if is_json { report.to_json() } else { report.to_string() };
    print(&format!("{}\n", text.trim_end()))
}

/// Measures how long a broker's producers wait.
pub(crate) fn ack(arguments: AckArguments) -> Result<(), Failure> {
    let report = ack::run(arguments).map_err(|error| Failure::Other(error.to_string()))?;
    print(&format!("{report}\n"))
}
