//! What a run found, for people and for programs.
//!
//! A figure is the median over rounds, with the lowest and the highest round beside it. Percentiles are taken in each
//! round's own histogram and never averaged.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::host::{Host, Placement};
use super::mode::{Flush, Mode, Wait};

/// Name and version of the report's shape; the number grows when a field changes its meaning or goes.
pub const SCHEMA: &str = "corelane-perf/floor/1";

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FloorReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Where this was.
    pub host: Host,
    /// The CPUs used.
    pub placement: Placement,
    /// Rounds.
    pub rounds: u32,
    /// Seconds of each row, over all rounds.
    pub seconds_per_row: f64,
    /// Bytes of a request.
    pub request_bytes: usize,
    /// Bytes of an answer.
    pub answer_bytes: usize,
    /// Bytes made durable before an answer.
    pub block_bytes: usize,
    /// For each way to wait, the best durable ack.
    pub floors: Vec<Floor>,
    /// Echo and durable ack.
    pub exchanges: Vec<ExchangeRow>,
    /// Durable writes by size.
    pub writes: Vec<WriteRow>,
    /// Checksum and copy.
    pub computations: Vec<ComputeRow>,
    /// Rows that this host cannot have.
    pub skipped: Vec<Skipped>,
}

/// The best durable ack of one way to wait, by its median p50.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Floor {
    /// The row.
    pub mode: Mode,
    /// Its median, in microseconds.
    pub p50_us: Spread,
    /// Its 99th percentile, in microseconds.
    pub p99_us: Spread,
}

/// What an exchange does between request and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Nothing.
    Echo,
    /// It makes a block durable.
    DurableAck,
}

/// One row of exchanges.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExchangeRow {
    /// What was done.
    pub work: Work,
    /// How.
    pub mode: Mode,
    /// How the client waited.
    pub client: Wait,
    /// From before the request was sent until the answer was there.
    pub latency: Latencies,
}

/// One row of durable writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WriteRow {
    /// Bytes of each write.
    pub bytes: usize,
    /// How it was made durable, with blocking calls.
    pub flush: Flush,
    /// How the thread waited: a blocking call parks.
    pub wait: Wait,
    /// From before the write until it was durable.
    pub latency: Latencies,
}

/// One row of computing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComputeRow {
    /// What was computed.
    pub name: &'static str,
    /// Bytes taken at once.
    pub bytes: usize,
    /// Computing never waits.
    pub wait: Wait,
    /// Gigabytes (10^9) per second.
    pub gigabytes_per_second: Spread,
}

/// A row that could not be had, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The row.
    pub mode: Mode,
    /// Why.
    pub reason: String,
}

/// Latencies of a row, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latencies {
    /// Exchanges or writes, over all rounds.
    pub samples: u64,
    /// The median.
    pub p50_us: Spread,
    /// The 99th percentile.
    pub p99_us: Spread,
    /// The 99.9th percentile.
    pub p999_us: Spread,
    /// The slowest.
    pub max_us: Spread,
}

/// One figure over rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median round (of an even number, the upper of the two in the middle).
    pub median: f64,
    /// The lowest round.
    pub min: f64,
    /// The highest round.
    pub max: f64,
}

impl Spread {
    /// The spread of at least one round.
    ///
    /// # Panics
    ///
    /// Without a round.
    pub(super) fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut rounds: Vec<f64> = rounds.into_iter().collect();
        assert!(!rounds.is_empty(), "a row is reported only once it was measured");
        rounds.sort_by(f64::total_cmp);
        Self { median: rounds[rounds.len() / 2], min: rounds[0], max: rounds[rounds.len() - 1] }
    }
}

impl Latencies {
    /// The figures of a histogram of nanoseconds for each round.
    pub(super) fn of(rounds: &[Histogram<u64>]) -> Self {
        let figure = |of: &dyn Fn(&Histogram<u64>) -> u64| {
            Spread::of(rounds.iter().map(|round| of(round) as f64 / 1000.0))
        };
        Self {
            samples: rounds.iter().map(Histogram::len).sum(),
            p50_us: figure(&|round| round.value_at_quantile(0.5)),
            p99_us: figure(&|round| round.value_at_quantile(0.99)),
            p999_us: figure(&|round| round.value_at_quantile(0.999)),
            max_us: figure(&Histogram::max),
        }
    }
}

/// For each way to wait that was measured, the durable row with the lowest p50.
pub(super) fn floors(exchanges: &[ExchangeRow]) -> Vec<Floor> {
    let best = |wait: Wait| {
        let rows = exchanges.iter().filter(|row| row.work == Work::DurableAck && row.mode.wait == wait);
        rows.min_by(|a, b| a.latency.p50_us.median.total_cmp(&b.latency.p50_us.median))
    };
    let rows = Wait::ALL.into_iter().filter_map(best);
    rows.map(|row| Floor { mode: row.mode, p50_us: row.latency.p50_us, p99_us: row.latency.p99_us }).collect()
}

impl fmt::Display for FloorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_host(f)?;
        let (request, answer) = (self.request_bytes, self.answer_bytes);
        let columns = format!("{:>9}  {LATENCY_COLUMNS}", "count");
        writeln!(f, "\nEcho: {request} B request, {answer} B answer, one in flight; microseconds")?;
        writeln!(f, "  {:<34} {:<18} {columns}", "server", "client")?;
        self.write_exchanges(f, Work::Echo)?;
        writeln!(
            f,
            "\nDurable ack: the same, {} B overwritten and durable before the answer",
            self.block_bytes
        )?;
        self.write_exchanges(f, Work::DurableAck)?;
        self.write_floors(f)?;
        self.write_single(f)?;
        for skipped in &self.skipped {
            let Mode { wait, flush, calls } = skipped.mode;
            writeln!(f, "skipped: {calls}, {flush}, {wait}: {}", skipped.reason)?;
        }
        Ok(())
    }
}

/// The heads of what [`Latencies`] displays, behind the count.
const LATENCY_COLUMNS: &str = "    p50 [lowest..highest]      p99    p99.9      max";

impl FloorReport {
    /// The report as JSON, indented.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("the report has only numbers, strings and lists")
    }

    fn write_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = "unknown".to_owned();
        let host = &self.host;
        writeln!(f, "Floors of this host ({})", self.schema)?;
        writeln!(f, "  kernel     {}", host.kernel)?;
        writeln!(f, "  CPU        {}", host.cpu_model.as_ref().unwrap_or(&unknown))?;
        let Placement { server_cpu, client_cpu } = self.placement;
        let allowed = host.cpus_allowed.len();
        if self.placement.is_shared() {
            writeln!(
                f,
                "  CPUs       only {server_cpu} is allowed: server and client share it, and nothing can spin"
            )?;
        } else {
            writeln!(f, "  CPUs       server on {server_cpu}, client on {client_cpu}, of {allowed} allowed")?;
        }
        writeln!(f, "  load       {} before the run", host.load_average.as_ref().unwrap_or(&unknown))?;
        writeln!(f, "  directory  {}", host.directory)?;
        writeln!(
            f,
            "  disk       {} on device {}, write cache: {}",
            host.file_system.as_ref().unwrap_or(&unknown),
            host.device.as_ref().unwrap_or(&unknown),
            host.write_cache.as_ref().unwrap_or(&unknown)
        )?;
        writeln!(
            f,
            "  method     {} rounds of all rows in turn, {} s for each row; medians over rounds",
            self.rounds, self.seconds_per_row
        )
    }

    fn write_exchanges(&self, f: &mut fmt::Formatter<'_>, work: Work) -> fmt::Result {
        for row in self.exchanges.iter().filter(|row| row.work == work) {
            let Mode { wait, flush, calls } = row.mode;
            let flush = if flush == Flush::None { String::new() } else { flush.to_string() };
            writeln!(f, "  {calls:<8} {flush:<16} {wait:<8} {:<18} {}", row.client, row.latency)?;
        }
        Ok(())
    }

    fn write_floors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for floor in &self.floors {
            writeln!(
                f,
                "  floor, {}: {} with {} calls, p50 {:.1} us, p99 {:.1} us",
                floor.mode.wait, floor.mode.flush, floor.mode.calls, floor.p50_us.median, floor.p99_us.median
            )?;
        }
        Ok(())
    }

    fn write_single(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nDurable write, blocking calls, parked; microseconds")?;
        for row in &self.writes {
            writeln!(f, "  {:>4} KiB {:<44} {}", row.bytes >> 10, row.flush, row.latency)?;
        }
        writeln!(f, "\nComputing, spinning; GB/s")?;
        for row in &self.computations {
            let figure = row.gigabytes_per_second;
            let bytes = row.bytes >> 10;
            writeln!(
                f,
                "  {:<8} {bytes} KiB at a time {:>7.1} [{:.1}..{:.1}]",
                row.name, figure.median, figure.min, figure.max
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50_us, p99_us, p999_us, max_us } = self;
        let range = format!("[{:.1}..{:.1}]", p50_us.min, p50_us.max);
        write!(
            f,
            "{samples:>9}  {:>7.1} {range:<18} {:>8.1} {:>8.1} {:>8.1}",
            p50_us.median, p99_us.median, p999_us.median, max_us.median
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::histogram;
    use super::super::mode::Calls;
    use super::*;

    fn round(nanoseconds: &[u64]) -> Histogram<u64> {
        let mut round = histogram();
        for value in nanoseconds {
            round.record(*value).unwrap();
        }
        round
    }

    #[test]
    fn figures_are_the_median_round_with_the_extremes_beside_it() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        let latencies = Latencies::of(&[round(&[1000; 99]), round(&[3000, 3000, 9000]), round(&[2000])]);
        assert_eq!(latencies.samples, 103);
        let rounded = |spread: Spread| [spread.median.round(), spread.min.round(), spread.max.round()];
        assert_eq!(rounded(latencies.p50_us), [2.0, 1.0, 3.0]);
        assert_eq!(rounded(latencies.max_us), [2.0, 1.0, 9.0]);
    }

    fn row(work: Work, wait: Wait, calls: Calls, nanoseconds: u64) -> ExchangeRow {
        let flush = if work == Work::Echo { Flush::None } else { Flush::Dsync };
        let latency = Latencies::of(&[round(&[nanoseconds])]);
        ExchangeRow { work, mode: Mode { wait, flush, calls }, client: wait.client(), latency }
    }

    #[test]
    fn the_floor_is_the_best_durable_row_of_each_way_to_wait() {
        let rows = [
            row(Work::Echo, Wait::Parked, Calls::Blocking, 5),
            row(Work::DurableAck, Wait::Parked, Calls::Blocking, 200),
            row(Work::DurableAck, Wait::Parked, Calls::Ring, 100),
            row(Work::DurableAck, Wait::Spinning, Calls::Blocking, 50),
            row(Work::DurableAck, Wait::Spinning, Calls::Ring, 70),
        ];
        let floors = floors(&rows);
        assert_eq!(floors.len(), 2);
        assert_eq!((floors[0].mode.wait, floors[0].mode.calls), (Wait::Parked, Calls::Ring));
        assert_eq!((floors[1].mode.wait, floors[1].mode.calls), (Wait::Spinning, Calls::Blocking));
    }
}
