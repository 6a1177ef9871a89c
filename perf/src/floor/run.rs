//! A whole run: every row in turn, round after round, so that what changes on the host meanwhile meets all rows alike.

use std::fs::File;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::arguments::FloorArguments;
use super::error::Error;
use super::exchange::{self, ANSWER_BYTES, BLOCK_BYTES, REQUEST_BYTES};
use super::file::PreparedFile;
use super::host::{self, Placement};
use super::mode::{Flush, Mode, Wait};
use super::report::{
    ComputeRow, ExchangeRow, FloorReport, Latencies, SCHEMA, Skipped, Spread, Work, WriteRow, floors,
};
use super::single::{self, COMPUTE_BYTES, Computation, WRITE_SIZES};

const COMPUTATIONS: [(&str, Computation); 2] =
    [("CRC32C", Computation::Crc32c), ("memcpy", Computation::Memcpy)];
const WRITE_FLUSHES: [Flush; 2] = [Flush::Fdatasync, Flush::Dsync];

/// How many rows a run has, when none is skipped.
pub(super) fn rows() -> usize {
    Mode::all().len() + WRITE_SIZES.len() * WRITE_FLUSHES.len() + COMPUTATIONS.len()
}

/// Measures everything. It takes [`FloorArguments::estimate`] and a little more, and uses two CPUs whole while rows spin.
///
/// # Errors
///
/// When the arguments are out of range, the directory lies in memory or cannot be written, or a measured call fails. A
/// host without io_uring is no error: the rows that need it are reported as skipped.
pub fn run(arguments: FloorArguments) -> Result<FloorReport, Error> {
    let turn = arguments.turn()?;
    let (host, placement) = host::inspect(&arguments.directory)?;
    let prepared = PreparedFile::create(&arguments.directory)?;
    let mut rounds = Rounds::new(placement, prepared.file(), turn);
    for _ in 0..arguments.rounds {
        rounds.take_turns()?;
    }
    let exchanges = rounds.exchange_rows();
    Ok(FloorReport {
        schema: SCHEMA,
        host,
        placement,
        rounds: arguments.rounds,
        seconds_per_row: arguments.seconds,
        request_bytes: REQUEST_BYTES,
        answer_bytes: ANSWER_BYTES,
        block_bytes: BLOCK_BYTES,
        floors: floors(&exchanges),
        exchanges,
        writes: rounds.write_rows(),
        computations: rounds.compute_rows(),
        skipped: rounds.skipped,
    })
}

/// What has been measured so far: for each row, one result per round.
struct Rounds<'a> {
    placement: Placement,
    file: &'a File,
    turn: Duration,
    exchanges: Vec<(Mode, Vec<Histogram<u64>>)>,
    writes: Vec<(usize, Flush, Vec<Histogram<u64>>)>,
    computations: Vec<(&'static str, Computation, Vec<f64>)>,
    skipped: Vec<Skipped>,
}

impl<'a> Rounds<'a> {
    fn new(placement: Placement, file: &'a File, turn: Duration) -> Self {
        let spins = |mode: &Mode| mode.wait == Wait::Spinning;
        let (out, kept): (Vec<_>, Vec<_>) =
            Mode::all().into_iter().partition(|mode| placement.is_shared() && spins(mode));
        let reason = "server and client share the only CPU";
        let writes =
            WRITE_SIZES.into_iter().flat_map(|bytes| WRITE_FLUSHES.map(|flush| (bytes, flush, Vec::new())));
        Self {
            placement,
            file,
            turn,
            exchanges: kept.into_iter().map(|mode| (mode, Vec::new())).collect(),
            writes: writes.collect(),
            computations: COMPUTATIONS.map(|(name, computation)| (name, computation, Vec::new())).into(),
            skipped: out.into_iter().map(|mode| Skipped { mode, reason: reason.to_owned() }).collect(),
        }
    }

    /// One round.
    fn take_turns(&mut self) -> Result<(), Error> {
        let Self { placement, file, turn, .. } = *self;
        let mut unavailable = Vec::new();
        for (mode, rounds) in &mut self.exchanges {
            match exchange::measure(*mode, placement, file, turn) {
                Ok(latencies) => rounds.push(latencies),
                Err(error @ Error::RingUnavailable(_)) => {
                    unavailable.push(Skipped { mode: *mode, reason: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        self.exchanges.retain(|(mode, _)| unavailable.iter().all(|skipped| skipped.mode != *mode));
        self.skipped.append(&mut unavailable);
        for (bytes, flush, rounds) in &mut self.writes {
            rounds.push(single::durable_writes(placement.server_cpu, file, *bytes, *flush, turn)?);
        }
        for (_, computation, rounds) in &mut self.computations {
            rounds.push(single::compute(placement.server_cpu, *computation, turn)?);
        }
        Ok(())
    }

    fn exchange_rows(&self) -> Vec<ExchangeRow> {
        let row = |(mode, rounds): &(Mode, Vec<_>)| ExchangeRow {
            work: if mode.flush == Flush::None { Work::Echo } else { Work::DurableAck },
            mode: *mode,
            client: mode.wait.client(),
            latency: Latencies::of(rounds),
        };
        self.exchanges.iter().map(row).collect()
    }

    fn write_rows(&self) -> Vec<WriteRow> {
        let row = |(bytes, flush, rounds): &(usize, _, Vec<_>)| WriteRow {
            bytes: *bytes,
            flush: *flush,
            wait: Wait::Parked,
            latency: Latencies::of(rounds),
        };
        self.writes.iter().map(row).collect()
    }

    fn compute_rows(&self) -> Vec<ComputeRow> {
        let row = |(name, _, rounds): &(&'static str, Computation, Vec<f64>)| ComputeRow {
            name,
            bytes: COMPUTE_BYTES,
            wait: Wait::Spinning,
            gigabytes_per_second: Spread::of(rounds.iter().map(|rate| rate / 1e9)),
        };
        self.computations.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::report::Spread;
    use super::*;

    fn short(directory: &str) -> FloorArguments {
        FloorArguments { directory: directory.into(), json: true, seconds: 0.03, rounds: 3 }
    }

    fn files_left(directory: &str) -> usize {
        let entries = Path::new(directory).read_dir().unwrap();
        let ours = format!(".corelane-perf-floor-{}-", std::process::id());
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(&ours))
            .count()
    }

    fn assert_ordered(latency: &Latencies, rounds: u64) {
        assert!(latency.samples >= rounds);
        let medians =
            [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us].map(|spread| spread.median);
        assert!(medians[0] > 0.0 && medians.is_sorted(), "{medians:?}");
        let Spread { median, min, max } = latency.p50_us;
        assert!(min <= median && median <= max);
    }

    #[test]
    fn a_short_run_has_every_row_and_leaves_no_file() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let report = run(short(directory)).unwrap();
        assert_eq!(files_left(directory), 0);
        assert_eq!(report.exchanges.len() + report.skipped.len(), 18);
        assert!(report.exchanges.len() >= 6, "blocking calls need nothing special: {:?}", report.skipped);
        assert_eq!((report.writes.len(), report.computations.len()), (6, 2));
        for row in &report.exchanges {
            assert_ordered(&row.latency, 3);
        }
        for row in &report.writes {
            assert_ordered(&row.latency, 3);
        }
        assert!(report.computations.iter().all(|row| row.gigabytes_per_second.min > 0.0));
        for floor in &report.floors {
            assert_ne!(floor.mode.flush, Flush::None);
            let same_wait = report
                .exchanges
                .iter()
                .filter(|row| row.mode.wait == floor.mode.wait && row.work == Work::DurableAck);
            assert!(same_wait.map(|row| row.latency.p50_us.median).all(|p50| p50 >= floor.p50_us.median));
        }
        assert!(report.floors.iter().any(|floor| floor.mode.wait == Wait::Parked));
        assert_readable(&report);
    }

    fn assert_readable(report: &FloorReport) {
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        assert_eq!(json["exchanges"][0]["mode"]["wait"], "parked");
        assert_eq!(json["exchanges"][0]["client"], "parked");
        assert!(json["floors"][0]["p50_us"]["median"].as_f64().unwrap() > 0.0);
        let text = report.to_string();
        assert!(text.contains(&report.host.kernel) && text.contains("floor, parked: "));
    }

    #[test]
    fn a_directory_in_memory_is_refused_before_anything_is_measured() {
        assert!(matches!(run(short("/dev/shm")), Err(Error::Memory { .. })));
    }

    #[test]
    fn with_one_cpu_the_spinning_rows_are_skipped_and_say_why() {
        let file = File::open("/dev/null").unwrap();
        let shared = Placement { server_cpu: 3, client_cpu: 3 };
        let rounds = Rounds::new(shared, &file, Duration::from_millis(1));
        assert_eq!((rounds.exchanges.len(), rounds.skipped.len()), (12, 6));
        assert!(
            rounds
                .skipped
                .iter()
                .all(|row| row.mode.wait == Wait::Spinning && row.reason.contains("only CPU"))
        );
    }
}
